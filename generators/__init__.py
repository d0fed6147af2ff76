"""Text-to-music generators: one module or folder each, loaded by name through `rerank.registry`.

Two take a model that the user has loaded, and stand here by name: `Audiocraft` and `StableAudioTools`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rerank.generators.audiocraft import Audiocraft
    from rerank.generators.stable_audio_tools import StableAudioTools

__all__ = ["Audiocraft", "StableAudioTools"]

# Each name and its home, imported when it is first used: `import rerank.generators` itself loads nothing heavy.
_HOMES = {
    "Audiocraft": "rerank.generators.audiocraft",
    "StableAudioTools": "rerank.generators.stable_audio_tools",
}


if not TYPE_CHECKING:  # to type checkers it would stand for any name at all

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'rerank.generators' has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
