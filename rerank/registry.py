"""Names of generators and reward models, and how to load them.

A name stands for `"module:attribute"` text, imported only when the name is loaded: the built-in ones are listed here,
others come from installed packages by the entry points `rerank.generators` and `rerank.rewards`. What the text names
is a factory (a class or a function) that takes keyword options and returns a `Generator` or a `Reward`.

The environment variable `RERANK_PLUGINS` limits which packages may add names: a list of distribution names with
commas, and the empty text for none.
"""

import importlib
import importlib.metadata
import inspect
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from rerank.errors import InvalidInput, MissingDependency, RerankError, UnknownName, one_line
from rerank.protocols import Generator, GeneratorInfo, Reward, RewardInfo

Kind = Literal["generator", "reward"]

logger = logging.getLogger("rerank")


@dataclass(frozen=True)
class Download:
    """Weights that are downloaded from the Hugging Face hub when they are first used.

    Attributes:
        size: of the weights, in bytes.
        files: that are needed, by repository.
    """

    size: int
    files: Mapping[str, tuple[str, ...]]

    def is_cached(self) -> bool:
        """Return whether all files are on this machine."""
        from huggingface_hub import try_to_load_from_cache

        needed = [(repository, name) for repository, names in self.files.items() for name in names]
        return all(isinstance(try_to_load_from_cache(*one), str) for one in needed)


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
        marker: a file by which a folder is known to hold weights for it; None where it takes no folder.
    """

    kind: Kind
    name: str
    target: str
    package: str = "rerank-music"
    version: str = "built in"
    info: GeneratorInfo | RewardInfo | None = None
    download: Download | None = None
    marker: str | None = None

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
            made = factory(**options)
            problem = _problem(made, self.kind)
        except RerankError:
            raise
        except Exception as error:
            raise self._broken(one_line(error)) from error
        if problem:
            raise self._broken(f"it makes a {problem}")
        return cast(Generator | Reward, made)

    def _broken(self, reason: str) -> RerankError:
        return RerankError(f"{self.kind} {self.name!r} of {self.package} cannot be loaded: {reason}")


@dataclass(frozen=True)
class _Preference:
    """A choice of "auto"."""

    name: str
    needs_gpu: bool
    why: str


_AXES = {
    "musicality": "how good the audio is as music: composition, performance and sound, whatever was asked for",
    "alignment": "how well the audio fits all parts of its prompt: text, lyrics and reference audio",
}

_ENCODER_FILES = {"OpenMuQ/MuQ-large-msd-iter": ("config.json",), "xlm-roberta-base": ("config.json", "tokenizer.json")}
"""Small files of the encoders that MuQ-MuLan is made of."""

_BUILT_IN = (
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
            licence="CC BY-NC 4.0 (not for commercial use)",
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
            axes={"alignment": "how similar text and audio are to MuQ-MuLan: the cosine of their vectors, -1 to 1"},
            sample_rate=24_000,
            conditions=frozenset({"text"}),
            licence="CC BY-NC 4.0 (not for commercial use)",
        ),
    ),
)

_PREFERENCES: Mapping[Kind, tuple[_Preference, ...]] = {
    "generator": (_Preference("synth", needs_gpu=False, why="built in, needs no download and no GPU"),),
    "reward": (
        _Preference("cmi-rm", needs_gpu=True, why="the published reward model; this machine has a GPU for it"),
        _Preference("cmi-mini", needs_gpu=False, why="built in, needs no download and no GPU"),
    ),
}
"""What "auto" means: the first that this machine can run, best first."""


def entries(kind: Kind) -> dict[str, Entry]:
    """Return every name of a kind that can be loaded, in alphabetical order; imports none of them.

    Raises:
        RerankError: two packages use the same name.
    """
    found = {entry.name: entry for entry in _BUILT_IN if entry.kind == kind}
    for entry in plugins(kind):
        other = found.get(entry.name)
        if other is not None:
            raise RerankError(
                f"both {other.package} and {entry.package} have a {kind} called {entry.name!r}; "
                f"uninstall one, or choose the packages that may add names: RERANK_PLUGINS={other.package}"
            )
        found[entry.name] = entry
    return dict(sorted(found.items()))


def plugins(kind: Kind) -> list[Entry]:
    """Return what installed packages add, as far as `RERANK_PLUGINS` lets them; imports none of them."""
    allowed = os.environ.get("RERANK_PLUGINS")
    names = None if allowed is None else {_normalised(name) for name in allowed.split(",")}
    found = []
    for point in importlib.metadata.entry_points(group=f"rerank.{kind}s"):
        package = point.dist.name if point.dist else "an unknown package"
        version = point.dist.version if point.dist else "unknown"
        if names is None or _normalised(package) in names:
            found.append(Entry(kind=kind, name=point.name, target=point.value, package=package, version=version))
    return found


def load_generator(generator: str | Path | Generator = "auto", **options: Any) -> Generator:
    """Return the generator of that name; a generator that is loaded already is returned as it is.

    Args:
        generator: a name that `rerank models` lists, a folder of weights, "auto" for the best this machine can run, or
            a generator.
        options: of that generator, such as `device`, or `path` for a local folder of weights.

    Raises:
        UnknownName: no generator has that name.
        InvalidInput: it does not take one of the options.
    """
    return cast(Generator, load("generator", generator, options))


def load_reward(reward: str | Path | Reward = "auto", **options: Any) -> Reward:
    """Return the reward model of that name; one that is loaded already is returned as it is.

    Args:
        reward: a name that `rerank models` lists, a folder of weights, "auto" for the best this machine can run, or a
            reward model.
        options: of that reward model, such as `device`, or `path` for a local folder of weights.

    Raises:
        UnknownName: no reward model has that name.
        InvalidInput: it does not take one of the options.
    """
    return cast(Reward, load("reward", reward, options))


@dataclass(frozen=True)
class Choice:
    """A name with options, to be loaded later: a `generator` or `reward` of `rerank.generate` and the like."""

    name: str
    options: Mapping[str, Any]


def load(
    kind: Kind, choice: object, options: Mapping[str, Any], *, offered: Mapping[str, Any] | None = None
) -> Generator | Reward:
    """Load by name, or check what is loaded already.

    Args:
        kind: "generator" or "reward".
        choice: a name, a folder, "auto", a `Choice` or a loaded object.
        options: each must be one that the factory takes.
        offered: options that are given to factories that take them, and to no others.

    Raises:
        UnknownName: no such name.
        InvalidInput: an option is unknown, or the object is no `kind`.
    """
    if isinstance(choice, Choice):
        return load(kind, choice.name, {**choice.options, **options}, offered=offered)
    if not isinstance(choice, str | Path):
        if options:
            raise InvalidInput(f"options {sorted(options)} need a {kind} given by name, got {type(choice).__name__}")
        problem = _problem(choice, kind)
        if problem:
            raise InvalidInput(f"expected a {kind} by name or as a loaded object, got {problem}")
        return cast(Generator | Reward, choice)
    entry = _find(kind, str(choice))
    if entry.name != choice and os.path.isdir(choice):
        options = {"path": Path(choice), **options}
    factory = entry.factory()
    known = _option_names(factory)
    for option in options:
        if known is not None and option not in known:
            raise UnknownName.among(f"option of {kind} {entry.name!r}:", option, known)
    taken = {name: value for name, value in (offered or {}).items() if known is None or name in known}
    return entry.make(factory, {**taken, **options})


def _problem(found: object, kind: Kind) -> str | None:
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


def _normalised(package: str) -> str:
    """Return the name of a distribution as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", package.strip()).lower()


def _find(kind: Kind, name: str) -> Entry:
    known = entries(kind)
    if name == "auto":
        chosen = _automatic(kind)
        return known[chosen]
    if name in known:
        return known[name]
    if os.path.isdir(name):
        for entry in known.values():
            if entry.marker and os.path.isfile(os.path.join(name, entry.marker)):
                return entry
        markers = {entry.name: entry.marker for entry in known.values() if entry.marker}
        told = ", ".join(f"{marker} for {entry}" for entry, marker in markers.items()) or f"no {kind} is in a folder"
        raise InvalidInput(f"folder {name!r} holds no {kind} that is known by its files ({told})")
    if os.sep in name:
        raise InvalidInput(
            f"there is no folder {name!r}; give the folder of a {kind}, or a name that `rerank models` lists"
        )
    raise UnknownName.among(kind, name, [*known, "auto"])


def _automatic(kind: Kind) -> str:
    known = entries(kind)
    for preference in _PREFERENCES[kind]:
        if preference.needs_gpu and not _has_gpu():
            continue
        download = known[preference.name].download
        if download and not download.is_cached():
            from huggingface_hub import constants

            if constants.HF_HUB_OFFLINE:
                logger.info(
                    "%s %s: passed over, it is not on this machine and the hub is offline", kind, preference.name
                )
                continue
            size = f"{download.size / 1e9:.1f} GB"
            logger.warning("%s %s is downloaded, %s; name another one to do without", kind, preference.name, size)
        logger.info("%s %s: %s", kind, preference.name, preference.why)
        return preference.name
    raise RerankError(f"this machine can run no {kind} on its own; name one: {', '.join(entries(kind))}")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _option_names(factory: Callable[..., Any]) -> list[str] | None:
    """Return the keyword options of a factory; None where it takes any."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # some classes that are written in C do not tell
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
