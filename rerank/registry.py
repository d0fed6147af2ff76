"""Names of generators and reward models, and how to load them.

The built-in ones stand in `rerank.catalogue`; others come from installed packages by the entry points
`rerank.generators` and `rerank.rewards`, whose text names a factory as there.

The environment variable `RERANK_PLUGINS` limits which packages may add names: a list of distribution names with
commas, and the empty text for none.
"""

import importlib.metadata
import inspect
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rerank.catalogue import BUILT_IN, Entry, Kind, problem_of
from rerank.errors import InvalidInput, RerankError, UnknownName
from rerank.protocols import Generator, GeneratorInfo, Reward, RewardInfo

logger = logging.getLogger("rerank")


@dataclass(frozen=True)
class _Preference:
    """A choice of "auto"."""

    name: str
    needs_gpu: bool
    why: str


_PREFERENCES: Mapping[Kind, tuple[_Preference, ...]] = {
    "generator": (
        _Preference("musicgen-small", needs_gpu=True, why="trained on real music; this machine has a GPU for it"),
        _Preference("synth", needs_gpu=False, why="built in, needs no download and no GPU"),
    ),
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
    found = {entry.name: entry for entry in BUILT_IN if entry.kind == kind}
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


def known_info(kind: Kind, choice: Any) -> GeneratorInfo | RewardInfo | None:
    """Return what is known of a choice (see `load`) before it is loaded; None where only loading tells.

    Raises:
        UnknownName: no such name.
    """
    if isinstance(choice, Choice):
        return None if {"path", "repository"} & set(choice.options) else known_info(kind, choice.name)
    if not isinstance(choice, str | Path):
        return cast("GeneratorInfo | RewardInfo | None", getattr(choice, "info", None))
    entry = _find(kind, str(choice))
    return entry.info if choice in (entry.name, "auto") else None


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
        problem = problem_of(choice, kind)
        if problem:
            raise InvalidInput(f"expected a {kind} by name or as a loaded object, got {problem}")
        return cast(Generator | Reward, choice)
    entry = _find(kind, str(choice))
    if choice not in (entry.name, "auto") and os.path.isdir(choice):
        options = {"path": Path(choice), **options}
    factory = entry.factory()
    known = _option_names(factory)
    for option in options:
        if known is not None and (option not in known or option in entry.fixed):
            raise UnknownName.among(f"option of {kind} {entry.name!r}:", option, set(known) - set(entry.fixed))
    taken = {name: value for name, value in (offered or {}).items() if known is None or name in known}
    return entry.make(factory, {**taken, **options})


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
            if entry.is_in(name):
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
