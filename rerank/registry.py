"""Names of generators and reward models, and how to load them.

The built-in ones stand in `rerank.catalogue`; others come from installed packages (`rerank.names.installed`).
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from rerank.catalogue import BUILT_IN
from rerank.device import check_device
from rerank.errors import InvalidInput, RerankError, UnknownName
from rerank.names.entry import Entry, Kind, problem_of
from rerank.names.installed import installed
from rerank.names.option import Option, options_of, takes_any
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
    """Return every name of a kind, in alphabetical order; imports none of them.

    A name that several packages use stands there once, with its `rivals`.
    """
    found: dict[str, Entry] = {}
    for entry in _with_rivals([*_built_in(kind), *installed(kind)]):
        found.setdefault(entry.name, entry)
    return dict(sorted(found.items()))


def plugins(kind: Kind) -> list[Entry]:
    """Return what installed packages add, as far as `RERANK_PLUGINS` lets them; imports none of them."""
    built_in = _built_in(kind)
    return _with_rivals([*built_in, *installed(kind)])[len(built_in) :]


def _built_in(kind: Kind) -> list[Entry]:
    return [entry for entry in BUILT_IN if entry.kind == kind]


def _with_rivals(found: list[Entry]) -> list[Entry]:
    def rivals(entry: Entry) -> tuple[str, ...]:
        return tuple(other.package for other in found if other is not entry and other.name == entry.name)

    return [replace(entry, rivals=rivals(entry)) for entry in found]


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
    """A name with options, to be loaded later: a `generator` or `reward` of `rerank.generate` and the like.

    Attributes:
        name: that `rerank models` lists, a folder, or "auto".
        options: for it.
        entry: what the name stands for; None until `resolve` has found out.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    entry: Entry | None = None


def resolve(kind: Kind, choice: object) -> Choice | Generator | Reward:
    """Find out what a choice stands for, and load nothing; "auto" is decided here, and says so in the log.

    Args:
        kind: "generator" or "reward".
        choice: a name, a folder, "auto", a `Choice`, resolved or not, or a loaded object.

    Returns:
        A `Choice` with its entry, to be given to `known_info` and `load`; a loaded object as it is.

    Raises:
        UnknownName: no such name.
        RerankError: several packages use the name.
        InvalidInput: there is no such folder, it holds no `kind`, or the object is none.
    """
    if isinstance(choice, Choice):
        if choice.entry is not None:
            return choice
        found = cast(Choice, resolve(kind, choice.name))
        return replace(found, options={**found.options, **choice.options})
    if isinstance(choice, str | Path):
        return _find(kind, str(choice))
    problem = problem_of(choice, kind)
    if problem:
        raise InvalidInput(f"expected a {kind} by name or as a loaded object, got {problem}")
    return cast(Generator | Reward, choice)


def known_info(kind: Kind, choice: object) -> GeneratorInfo | RewardInfo | None:
    """Return what is known of a choice (see `resolve`) before it is loaded; None where only loading tells.

    Raises:
        RerankError: as `resolve`.
    """
    chosen = resolve(kind, choice)
    if not isinstance(chosen, Choice):
        return chosen.info
    only_loading_tells = {"path", "repository"} & set(chosen.options)
    return None if only_loading_tells or chosen.entry is None else chosen.entry.info


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
        UnknownName: no such name, or no such option.
        InvalidInput: an option cannot be used, or the object is no `kind`.
        RerankError: it cannot be loaded.
    """
    if "device" in (offered or {}):
        check_device((offered or {})["device"])  # also beside a loaded object, which takes none
    chosen = resolve(kind, choice)
    if not isinstance(chosen, Choice):
        if options:
            raise InvalidInput(f"options {sorted(options)} need a {kind} given by name, got {type(choice).__name__}")
        return chosen
    entry, options = chosen.entry, {**chosen.options, **options}
    assert entry is not None  # it is resolved
    factory = entry.factory()
    known = {option.name for option in options_of(factory)} - set(entry.fixed)
    free = takes_any(factory)
    for name in options:
        if name not in known and (name in entry.fixed or not free):
            raise UnknownName.among(f"option of {kind} {entry.name!r}:", name, known)
    taken = {name: value for name, value in (offered or {}).items() if free or name in known}
    return entry.make(factory, {**taken, **options})


def options(kind: Kind, name: str | Choice) -> list[Option]:
    """Return the options that a name takes, with their defaults and meanings; it is imported, and not loaded.

    Raises:
        RerankError: there is no such name, or it cannot be imported.
    """
    entry = cast(Choice, resolve(kind, name)).entry
    assert entry is not None  # it is resolved
    return [option for option in options_of(entry.factory()) if option.name not in entry.fixed]


def _find(kind: Kind, name: str) -> Choice:
    known = entries(kind)
    if name == "auto":
        # one that is built in, whatever else goes by its name
        return Choice(name, entry=replace(known[_automatic(kind, known)], rivals=()))
    entry = known.get(name)
    if entry is not None:
        if entry.rivals:
            raise RerankError(entry.problem())
        return Choice(name, entry=entry)
    if os.path.isdir(name):
        for entry in known.values():
            if entry.is_in(name):
                return Choice(name, {"path": Path(name)}, entry)
        markers = {entry.name: entry.marker for entry in known.values() if entry.marker}
        told = ", ".join(f"{marker} for {entry}" for entry, marker in markers.items()) or f"no {kind} is in a folder"
        raise InvalidInput(f"folder {name!r} holds no {kind} that is known by its files ({told})")
    if os.sep in name:
        raise InvalidInput(
            f"there is no folder {name!r}; give the folder of a {kind}, or a name that `rerank models` lists"
        )
    raise UnknownName.among(kind, name, [*known, "auto"])


def _automatic(kind: Kind, known: Mapping[str, Entry]) -> str:
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
    raise RerankError(f"this machine can run no {kind} on its own; name one: {', '.join(known)}")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
