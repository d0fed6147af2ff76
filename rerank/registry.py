"""Names of generators and reward models, and how to load them.

The built-in ones stand in `rerank.catalogue`; others come from installed packages (`rerank.names.installed`).
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from rerank import automatic
from rerank.catalogue import BUILT_IN
from rerank.device import check_device
from rerank.errors import InvalidInput, RerankError, UnknownName, WeightsError
from rerank.files import check_working_folder
from rerank.names.entry import Entry, Kind, problem_of
from rerank.names.installed import installed
from rerank.names.option import Option, options_of, takes_any
from rerank.protocols import Generator, GeneratorInfo, Reward, RewardInfo

logger = logging.getLogger("rerank")


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
        reward: a name that `rerank models` lists, a folder of weights, a reward model, or "auto", which is here for
            audio of which nothing is known: `cmi-rm`, which is downloaded, and `cmi-mini` where that cannot be.
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
        instead: what is loaded, with a warning, where that cannot be had; only for "auto".
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    entry: Entry | None = None
    instead: Entry | None = None


def resolve(kind: Kind, choice: object, *, made_by: str | None = None) -> Choice | Generator | Reward:
    """Find out what a choice stands for, and load nothing; "auto" is decided here, and says so in the log.

    Args:
        kind: "generator" or "reward".
        choice: a name, a folder, "auto", a `Choice`, resolved or not, or a loaded object.
        made_by: the generator whose audio a reward model is for; None where it is not known, or not by one.

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
        found = cast(Choice, resolve(kind, choice.name, made_by=made_by))
        return replace(found, options={**found.options, **choice.options})
    if isinstance(choice, str | Path):
        return _find(kind, str(choice), made_by)
    problem = problem_of(choice, kind)
    if problem:
        raise InvalidInput(f"expected a {kind} by name or as a loaded object, got {problem}")
    return cast(Generator | Reward, choice)


def name_of(choice: Choice | Generator | Reward) -> str:
    """Return the name of what a choice stands for (see `resolve`)."""
    if not isinstance(choice, Choice):
        return choice.info.name
    assert choice.entry is not None  # it is resolved
    return choice.entry.name


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
    check_working_folder()  # the libraries that are imported now may end the process
    entry, options = chosen.entry, {**chosen.options, **options}
    assert entry is not None  # it is resolved
    factory = entry.factory()
    known = {option.name for option in options_of(factory)} - set(entry.fixed)
    free = takes_any(factory)
    for name in options:
        if name not in known and (name in entry.fixed or not free):
            raise UnknownName.among(f"option of {kind} {entry.name!r}:", name, known)
    taken = {name: value for name, value in (offered or {}).items() if free or name in known}
    try:
        return entry.make(factory, {**taken, **options})
    except WeightsError as error:
        if chosen.instead is None:
            raise
        return _load_instead(kind, chosen, options, offered, error)


def _load_instead(
    kind: Kind, chosen: Choice, options: Mapping[str, Any], offered: Mapping[str, Any] | None, error: WeightsError
) -> Generator | Reward:
    """Load what "auto" takes where its first choice cannot be had, and say so."""
    other = Choice(chosen.name, options, chosen.instead)
    loaded = load(kind, other, {}, offered=offered)
    assert isinstance(loaded.info, RewardInfo)  # only of these there is another
    limits = automatic.limits_of(loaded.info, None) or f"reward {loaded.info.name} is taken"
    logger.warning("%s", automatic.without_published(limits, str(error)))
    return loaded


def options(kind: Kind, name: str | Choice) -> list[Option]:
    """Return the options that a name takes, with their defaults and meanings; it is imported, and not loaded.

    Raises:
        RerankError: there is no such name, or it cannot be imported.
    """
    entry = cast(Choice, resolve(kind, name)).entry
    assert entry is not None  # it is resolved
    return [option for option in options_of(entry.factory()) if option.name not in entry.fixed]


def _find(kind: Kind, name: str, made_by: str | None) -> Choice:
    known = entries(kind)
    if name == "auto":
        return _automatic(kind, known, made_by)
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


def _automatic(kind: Kind, known: Mapping[str, Entry], made_by: str | None) -> Choice:
    def built_in(name: str) -> Entry:
        return replace(known[name], rivals=())  # whatever else goes by its name

    if kind == "generator":
        return Choice("auto", entry=built_in(automatic.generator(known)))
    name, instead = automatic.reward(known, made_by)
    return Choice("auto", entry=built_in(name), instead=built_in(instead) if instead else None)
