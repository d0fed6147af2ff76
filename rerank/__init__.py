"""Best-of-N text-to-music: make N candidates for a prompt, score them with a reward model, keep the best with reasons.

>>> import rerank
>>> rerank.Prompt("warm lo-fi piano, slow, vinyl crackle").text
'warm lo-fi piano, slow, vinyl crackle'
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rerank.audio import Audio
    from rerank.best_of_n import generate
    from rerank.data import Candidate, Prompt
    from rerank.elsewhere import rank, score
    from rerank.errors import RerankError
    from rerank.filters import Filters
    from rerank.generators.wrapped import wrap
    from rerank.protocols import Generator, Progress, Reward
    from rerank.ranking import Ranking
    from rerank.registry import load_generator, load_reward
    from rerank.rewards.wrapped import wrap_reward
    from rerank.runs.stored import load

__version__ = "0.1.0"

__all__ = [
    "Audio",
    "Candidate",
    "Filters",
    "Generator",
    "Progress",
    "Prompt",
    "Ranking",
    "RerankError",
    "Reward",
    "generate",
    "load",
    "load_generator",
    "load_reward",
    "rank",
    "score",
    "wrap",
    "wrap_reward",
]

# Each public name and its home, imported when it is first used: `import rerank` itself loads nothing heavy.
_HOMES = {
    "Audio": "rerank.audio",
    "Candidate": "rerank.data",
    "Filters": "rerank.filters",
    "Generator": "rerank.protocols",
    "Progress": "rerank.protocols",
    "Prompt": "rerank.data",
    "Ranking": "rerank.ranking",
    "RerankError": "rerank.errors",
    "Reward": "rerank.protocols",
    "generate": "rerank.best_of_n",
    "load": "rerank.runs.stored",
    "load_generator": "rerank.registry",
    "load_reward": "rerank.registry",
    "rank": "rerank.elsewhere",
    "score": "rerank.elsewhere",
    "wrap": "rerank.generators.wrapped",
    "wrap_reward": "rerank.rewards.wrapped",
}


if not TYPE_CHECKING:  # to type checkers it would stand for any name at all

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'rerank' has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
