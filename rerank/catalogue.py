"""What can be loaded by name: how an entry is written, and those that are built in.

An entry stands for `"module:attribute"` text, imported only when it is loaded. What the text names is a factory (a class
or a function) that takes keyword options and returns a `Generator` or a `Reward`.
"""

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from rerank.errors import MissingDependency, RerankError, one_line
from rerank.protocols import Axis, Generator, GeneratorInfo, Reward, RewardInfo

Kind = Literal["generator", "reward"]

_MARKED = 100_000
"""Characters of a file in which a marker is looked for."""


@dataclass(frozen=True)
class Download:
    """Weights that are downloaded from the Hugging Face hub when they are first used.

    Attributes:
        size: of the weights, in bytes.
        files: that are needed, by repository; "a|b" for one of two.
    """

    size: int
    files: Mapping[str, tuple[str, ...]]

    def is_cached(self) -> bool:
        """Return whether all files are on this machine."""
        from huggingface_hub import try_to_load_from_cache

        def here(repository: str, names: str) -> bool:
            return any(isinstance(try_to_load_from_cache(repository, name), str) for name in names.split("|"))

        return all(here(repository, names) for repository, files in self.files.items() for names in files)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A name that can be loaded.

    Attributes:
        kind: "generator" or "reward".
        name: it is loaded by.
        target: `"module:attribute"` of its factory.
        package: the distribution it comes from.
        version: of that distribution.
        info: what the built-in ones are, known without importing them; None for plugins.
        download: weights that it needs; None where they are in the package, and for plugins.
        marker: a file by which a folder is known to hold weights for it, and after a colon what stands in the file; None
            where it takes no folder by itself.
        fixed: options that are given to the factory and are not for users.
    """

    kind: Kind
    name: str
    target: str
    package: str = "rerank-music"
    version: str = "built in"
    info: GeneratorInfo | RewardInfo | None = None
    download: Download | None = None
    marker: str | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def factory(self) -> Callable[..., Any]:
        """Import and return the factory.

        Raises:
            MissingDependency: it needs a package that is not installed.
            RerankError: the module cannot be imported, or what is named is not there or no factory.
        """
        module, _, attribute = self.target.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for name in attribute.split("."):
                found = getattr(found, name)
        except RerankError:
            raise
        # a plugin is anybody's code: importing it may raise anything
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and not f"{module}.".startswith(f"{error.name}."):
                raise MissingDependency(
                    f"{self.kind} {self.name!r} of {self.package} needs {error.name!r}, which is not installed; "
                    f"run: pip install {error.name}"
                ) from error
            raise self._broken(one_line(error)) from error
        if not callable(found):
            raise self._broken(f"{self.target} is a {type(found).__name__}; expected a class or a function")
        return cast(Callable[..., Any], found)

    def make(self, factory: Callable[..., Any], options: Mapping[str, Any]) -> Generator | Reward:
        """Return what the factory makes with these options.

        Raises:
            RerankError: the factory raises, or what it makes is no generator or reward model.
        """
        try:
            made = factory(**{**self.fixed, **options})
            problem = problem_of(made, self.kind)
        except RerankError:
            raise
        except Exception as error:
            raise self._broken(one_line(error)) from error
        if problem:
            raise self._broken(f"it makes a {problem}")
        return cast(Generator | Reward, made)

    def is_in(self, folder: str) -> bool:
        """Return whether a folder is marked as holding weights for it."""
        name, _, text = (self.marker or "").partition(":")
        path = os.path.join(folder, name)
        if not name or not os.path.isfile(path):
            return False
        with open(path, encoding="utf-8", errors="replace") as file:
            return text in file.read(_MARKED)

    def _broken(self, reason: str) -> RerankError:
        return RerankError(f"{self.kind} {self.name!r} of {self.package} cannot be loaded: {reason}")


def problem_of(found: object, kind: Kind) -> str | None:
    """Return what it is and why it is no generator or reward model, in words; None where it is one."""
    if isinstance(found, type):
        return f"{found.__name__}, which is a class; pass {found.__name__}()"
    name = type(found).__name__
    needed = ("info", "generate") if kind == "generator" else ("info", "prepare", "score")
    missing = [part for part in needed if not hasattr(found, part)]
    if missing:
        return f"{name}, which lacks {', '.join(missing)}"
    expected = GeneratorInfo if kind == "generator" else RewardInfo
    info = getattr(found, "info", None)
    if not isinstance(info, expected):
        return f"{name}, whose info is a {type(info).__name__}; expected a rerank.protocols.{expected.__name__}"
    return None


_AXES = {
    "musicality": Axis(
        meaning="how good the audio is as music: composition, performance and sound, whatever was asked for"
    ),
    "alignment": Axis(meaning="how well the audio fits all parts of its prompt: text, lyrics and reference audio"),
}

_ENCODER_FILES = {"OpenMuQ/MuQ-large-msd-iter": ("config.json",), "xlm-roberta-base": ("config.json", "tokenizer.json")}
"""Small files of the encoders that MuQ-MuLan is made of."""

_NOT_COMMERCIAL = "CC BY-NC 4.0 (not for commercial use)"
_STABILITY = "Stability AI Community License (free below 1 million US$ of revenue a year)"


def _musicgen(name: str, gigabytes: float, *, channels: int = 1, melody: bool = False) -> Entry:
    """Return the entry of a published MusicGen model."""
    repository = f"facebook/{name}"
    return Entry(
        kind="generator",
        name=name,
        target="rerank.generators.musicgen:MusicGen",
        fixed={"name": name, "repository": repository},
        download=Download(
            round(gigabytes * 1e9),
            {repository: ("config.json", "model.safetensors|model.safetensors.index.json", "tokenizer.json")},
        ),
        info=GeneratorInfo(
            name=name,
            sample_rate=32_000,
            channels=channels,
            max_duration=30.0,
            conditions=frozenset({"text", "reference"} if melody else {"text"}),
            licence=_NOT_COMMERCIAL,
        ),
    )


BUILT_IN = (
    Entry(
        kind="generator",
        name="synth",
        target="rerank.generators.synth:Synth",
        info=GeneratorInfo(
            name="synth",
            sample_rate=32_000,
            channels=2,
            max_duration=300.0,
            conditions=frozenset({"text", "lyrics", "reference"}),
            licence="Apache-2.0; the audio is yours",
        ),
    ),
    Entry(
        kind="generator",
        name="musicgen",
        target="rerank.generators.musicgen:MusicGen",
        fixed={"name": "musicgen", "repository": None},
        marker='config.json:"model_type": "musicgen',
    ),
    # sizes: of the parameters in float32
    _musicgen("musicgen-small", 2.4),
    _musicgen("musicgen-medium", 8.0),
    _musicgen("musicgen-large", 13.7),
    _musicgen("musicgen-melody", 6.2, melody=True),
    _musicgen("musicgen-melody-large", 10.3, melody=True),
    _musicgen("musicgen-stereo-small", 2.4, channels=2),
    _musicgen("musicgen-stereo-medium", 8.1, channels=2),
    _musicgen("musicgen-stereo-large", 13.8, channels=2),
    _musicgen("musicgen-stereo-melody", 6.3, channels=2, melody=True),
    _musicgen("musicgen-stereo-melody-large", 10.4, channels=2, melody=True),
    Entry(
        kind="generator",
        name="stable-audio-open-1.0",
        target="rerank.generators.stable_audio:StableAudioOpen",
        download=Download(
            5_300_000_000,
            {
                "stabilityai/stable-audio-open-1.0": (
                    "model_index.json",
                    "transformer/diffusion_pytorch_model.safetensors",
                    "vae/diffusion_pytorch_model.safetensors",
                    "text_encoder/model.safetensors",
                )
            },
        ),
        marker="projection_model/config.json",
        info=GeneratorInfo(
            name="stable-audio-open-1.0", sample_rate=44_100, channels=2, max_duration=47.55, licence=_STABILITY
        ),
    ),
    Entry(
        kind="generator",
        name="stable-audio-open-small",
        target="rerank.generators.stable_audio_small:StableAudioSmall",
        download=Download(
            2_880_000_000,
            {
                "stabilityai/stable-audio-open-small": ("model_config.json", "model.safetensors"),
                "t5-base": ("config.json", "model.safetensors", "tokenizer.json"),
            },
        ),
        marker="model_config.json",
        info=GeneratorInfo(
            name="stable-audio-open-small", sample_rate=44_100, channels=2, max_duration=11.88, licence=_STABILITY
        ),
    ),
    Entry(
        kind="generator",
        name="stable-audio-3",
        target="rerank.generators.stable_audio:StableAudio3",
        marker="duration_embedder/config.json",
    ),
    Entry(
        kind="generator",
        name="ace-step",
        target="rerank.generators.ace_step:AceStep",
        download=Download(
            11_000_000_000,
            {
                "ACE-Step/acestep-v15-xl-turbo-diffusers": (
                    "model_index.json",
                    "vae/diffusion_pytorch_model.safetensors",
                    "text_encoder/model.safetensors",
                )
            },
        ),
        marker="condition_encoder/config.json",
        info=GeneratorInfo(
            name="ace-step",
            sample_rate=48_000,
            channels=2,
            max_duration=600.0,
            min_duration=10.0,
            conditions=frozenset({"text", "lyrics", "reference"}),
            licence="MIT",
        ),
    ),
    Entry(
        kind="generator",
        name="audioldm2",
        target="rerank.generators.audioldm2:AudioLdm2",
        download=Download(
            4_400_000_000,
            {"cvssp/audioldm2-music": ("model_index.json", "unet/diffusion_pytorch_model.safetensors")},
        ),
        marker="language_model/config.json",
        info=GeneratorInfo(
            name="audioldm2",
            sample_rate=16_000,
            channels=1,
            max_duration=10.24,
            licence="CC BY-NC-SA 4.0 (not for commercial use)",
        ),
    ),
    Entry(
        kind="reward",
        name="cmi-mini",
        target="rerank.rewards.mini:load_mini",
        marker="vocabulary.json",
        info=RewardInfo(
            name="cmi-mini",
            axes=_AXES,
            sample_rate=24_000,
            conditions=frozenset({"text", "lyrics", "reference"}),
            licence="Apache-2.0",
        ),
    ),
    Entry(
        kind="reward",
        name="cmi-rm",
        target="rerank.rewards.cmi_rm:load_cmi_rm",
        download=Download(
            2_782_870_600,
            {
                "HaiwenXia/CMI-RM": ("config.yaml", "model.safetensors"),
                "OpenMuQ/MuQ-MuLan-large": ("config.json",),
                **_ENCODER_FILES,
            },
        ),
        marker="config.yaml",
        info=RewardInfo(
            name="cmi-rm",
            axes=_AXES,
            sample_rate=24_000,
            conditions=frozenset({"text", "lyrics", "reference"}),
            licence=_NOT_COMMERCIAL,
        ),
    ),
    Entry(
        kind="reward",
        name="mulan",
        target="rerank.rewards.mulan:load_mulan",
        download=Download(
            2_654_000_000, {"OpenMuQ/MuQ-MuLan-large": ("config.json", "pytorch_model.bin"), **_ENCODER_FILES}
        ),
        marker="pytorch_model.bin",
        info=RewardInfo(
            name="mulan",
            axes={
                "alignment": Axis(
                    meaning="how similar text and audio are to MuQ-MuLan: the cosine of their vectors",
                    needs=frozenset({"text"}),
                    low=-1.0,
                    high=1.0,
                )
            },
            sample_rate=24_000,
            conditions=frozenset({"text"}),
            licence=_NOT_COMMERCIAL,
        ),
    ),
)
