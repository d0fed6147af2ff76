"""`rerank models` and `rerank plugins`: what can be named."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rerank.cli import complete
from rerank.cli.console import tell
from rerank.cli.tables import Column, has_width, print_columns
from rerank.errors import RerankError, UnknownName

if TYPE_CHECKING:
    from rerank.names.entry import Entry
    from rerank.protocols import Axis, GeneratorInfo, RewardInfo

_PARTS = ("text", "lyrics", "reference")

_UNKNOWN = "unknown until it is loaded"


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Say more of this one: licence, size, axes, options.", metavar="NAME", autocompletion=complete.models
        ),
    ] = None,
) -> None:
    """List the generators and reward models that can be named."""
    from rerank.registry import entries

    generators, rewards = entries("generator"), entries("reward")
    if name is None:
        print_models(list(generators.values()), list(rewards.values()))
        return
    named = [known[name] for known in (generators, rewards) if name in known]
    if not named:
        raise UnknownName.among("generator or reward model", name, [*generators, *rewards])
    for entry in named:
        _print_details(entry)


def plugins() -> None:
    """List what installed packages add; the variable RERANK_PLUGINS limits which may ('' for none)."""
    from rerank.registry import plugins as installed

    print_plugins([*installed("generator"), *installed("reward")])


def print_models(generators: "Sequence[Entry]", rewards: "Sequence[Entry]") -> None:
    """Print what can be named: generators, then reward models, then what is broken."""
    for title, entries in (("generator", generators), ("reward model", rewards)):
        if has_width():
            _print_grouped(title, entries)
        else:
            print_columns(_columns(title, entries, full=True))
    _print_problems([*generators, *rewards])
    if has_width():
        tell("Weights that are not here are downloaded when they are first used.")
        tell("`rerank models NAME` says more of one: its axes, its options and what they mean.")


def print_plugins(plugins: "Sequence[Entry]") -> None:
    """Print what packages add, and what of it is broken."""
    if not plugins:
        tell("no plugins: no installed package adds a generator or a reward model")
    titles = ("name", "kind", "package", "version")
    print_columns([Column(title, [str(getattr(entry, title)) for entry in plugins]) for title in titles])
    _print_problems(plugins)


def _print_problems(entries: "Sequence[Entry]") -> None:
    """Print which of those that packages add cannot be loaded, and why; they are imported to find out."""
    for entry in entries:
        problem = entry.problem() if entry.info is None or entry.rivals else None
        if problem is not None:
            tell(f"broken: {problem}")


def _print_grouped(title: str, entries: "Sequence[Entry]") -> None:
    """Print a line or two for each name, by licence, which is what decides for many."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_licence(entry), []).append(entry)
    everything = _columns(title, entries)
    heads = [Column("", [column.title], column.number) for column in everything]
    print_columns(heads, like=everything, titles=False)
    for licence, group in sorted(groups.items(), key=lambda item: (item[0] == _UNKNOWN, item[0])):
        print_columns([Column("", [licence])], titles=False)
        print_columns(_columns(title, group), like=everything, titles=False)
    tell()


def _columns(title: str, entries: "Sequence[Entry]", *, full: bool = False) -> list[Column]:
    """Return the columns of a list of generators, or of reward models; `full` with what else is known."""
    from rerank.protocols import GeneratorInfo, RewardInfo

    infos = [entry.info for entry in entries]
    names = Column(title, [entry.name if full else f"  {entry.name}" for entry in entries])
    weights = Column("weights", [_weights(entry) for entry in entries])
    parts = [_parts(info) for info in infos]
    if title == "generator":
        longest = [f"{info.max_duration:g} s" if isinstance(info, GeneratorInfo) else "?" for info in infos]
        shown = [names, Column("follows", parts), Column("longest", longest, number=True), weights]
    else:
        axes = [", ".join(info.axes) if isinstance(info, RewardInfo) else "?" for info in infos]
        shown = [names, weights, *([Column("reads", parts)] if full else []), Column("axes", axes)]
    if full:
        shown.append(Column("licence", [_licence(entry) for entry in entries]))
        shown.append(Column("from", [f"{entry.package} {entry.version}" for entry in entries]))
    return shown


def _print_details(entry: "Entry") -> None:
    """Print all that is known of a name without loading it."""
    from rerank.language import NAMES
    from rerank.protocols import GeneratorInfo, RewardInfo

    info = entry.info
    facts = {
        "weights": _weights(entry, told=True),
        "licence": _licence(entry),
        "from": f"{entry.package} {entry.version}",
    }
    if isinstance(info, GeneratorInfo):
        facts |= {"follows": _parts(info), "audio": _audio(info)}
    elif isinstance(info, RewardInfo):
        facts |= {"reads": _parts(info), "listens at": f"{info.sample_rate} Hz"}
    if info is not None and info.languages:
        facts["text in"] = ", ".join(NAMES.get(code, code) for code in info.languages)
    tell(f"{entry.name}, a {'generator' if entry.kind == 'generator' else 'reward model'}")
    print_columns([Column("", [f"  {name}" for name in facts]), Column("", list(facts.values()))], titles=False)
    if isinstance(info, RewardInfo):
        tell()
        tell("axes, higher is better")
        axes = info.axes
        meanings = [_axis(axis) for axis in axes.values()]
        print_columns([Column("", [f"  {name}" for name in axes]), Column("", meanings)], titles=False)
    _print_options(entry)


def _print_options(entry: "Entry") -> None:
    """Print the options of a name with their defaults and meanings; it is imported for that, and not loaded."""
    from rerank.registry import Choice, options

    flag = f"--{entry.kind}-option"
    try:
        found = options(entry.kind, Choice(entry.name, entry=entry))
    except RerankError as error:
        tell()
        tell(f"options: {error}")
        return
    if not found:
        tell()
        tell("no options")
        return
    tell()
    tell(f"options, such as {flag} {found[0].name}=...")
    print_columns(
        [
            Column("  name", [f"  {option.name}" for option in found]),
            Column("default", ["needed" if option.required else _default(option.default) for option in found]),
            Column("meaning", [option.meaning for option in found]),
        ]
    )


def _default(value: object) -> str:
    """Return a default as it is written on the command line."""
    if isinstance(value, bool | None):
        return str(value).lower()
    return str(value)


def _axis(axis: "Axis") -> str:
    parts = " and ".join(sorted(axis.needs)) or " or ".join(sorted(axis.needs_any, key=_PARTS.index))
    return f"{axis.meaning}; needs {parts}" if parts else axis.meaning


def _audio(info: "GeneratorInfo") -> str:
    channels = f"{info.channels} channel{'s' if info.channels > 1 else ''}"
    return f"{info.min_duration:g} to {info.max_duration:g} s, {channels} at {info.sample_rate} Hz"


def _licence(entry: "Entry") -> str:
    return entry.info.licence if entry.info else _UNKNOWN


def _parts(info: "GeneratorInfo | RewardInfo | None") -> str:
    conditions: frozenset[Any] = frozenset() if info is None else info.conditions
    return ", ".join(part for part in _PARTS if part in conditions) or "?"


def _weights(entry: "Entry", *, told: bool = False) -> str:
    """Return how large the weights are and whether they are here; `told` in more words."""
    if entry.needs_folder:
        return "your folder"
    if entry.download is None:
        return "built in" if entry.info else "?"
    elsewhere = ", downloaded when it is first used" if told else ""
    return f"{entry.download.size / 1e9:.1f} GB{', here' if entry.download.is_cached() else elsewhere}"
