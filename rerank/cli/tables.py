"""What the command line prints for people: tables, on a terminal as wide as it is, else plain columns."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from rerank.catalogue import Entry
    from rerank.data import Candidate
    from rerank.ranking import Ranking

_WIDTH = 160  # of a table that goes to a file or another program


def print_ranking(ranking: "Ranking", place: str | None) -> None:
    """Print a ranking for people: the best first, then what was set aside and why, then where the files are."""
    axes = list(ranking.settings.weights)
    made = ranking.settings.seed is not None
    rows = [
        [
            str(candidate.rank),
            _number(candidate.combined),
            *(_number(candidate.rewards.get(axis)) for axis in axes),
            str(candidate.seed) if made else _source(candidate),
            str(candidate.path or "-"),
        ]
        for candidate in ranking
    ]
    columns = ["rank", "combined", *axes, "seed" if made else "source", "file"]
    if not made and place is None:  # nothing was written: the source is the only file
        columns, rows = [*columns[:-2], "file"], [[*row[:-2], row[-2]] for row in rows]
    if rows:
        _print_table(columns, rows)
    for candidate in ranking.set_aside:
        typer.echo(f"set aside: {_name(candidate)}: {candidate.set_aside}")
    if place is not None:
        typer.echo(f"written to {place}")


def print_scores(paths: Sequence[str], scores: Sequence[Mapping[str, float | None]]) -> None:
    """Print the rewards of each file."""
    axes = list(scores[0])
    rows = [[*(_number(one[axis]) for axis in axes), path] for path, one in zip(paths, scores, strict=True)]
    _print_table([*axes, "file"], rows)


def print_metrics(metrics: Mapping[str, Any]) -> None:
    """Print the metrics of a report, one per line."""
    rows = [
        [name, f"{value:.3f}" if isinstance(value, float) else "-" if value is None else str(value)]
        for name, value in metrics.items()
    ]
    _print_table(["metric", "value"], rows)


def print_models(generators: Sequence["Entry"], rewards: Sequence["Entry"]) -> None:
    """Print what can be loaded: generators, then reward models."""
    from rerank.protocols import GeneratorInfo, RewardInfo

    rows = []
    for entry in generators:
        info, what = entry.info, ["?", "?", "?"]
        if isinstance(info, GeneratorInfo):
            what = [_parts(info.conditions), f"{info.max_duration:g} s", info.licence]
        rows.append([entry.name, *what, _weights(entry), f"{entry.package} {entry.version}"])
    _print_table(["generator", "follows", "longest", "licence", "weights", "from"], rows)
    rows = []
    for entry in rewards:
        info, what = entry.info, ["?", "?", "?"]
        if isinstance(info, RewardInfo):
            what = [", ".join(info.axes), _parts(info.conditions), info.licence]
        rows.append([entry.name, *what, _weights(entry), f"{entry.package} {entry.version}"])
    _print_table(["reward model", "axes", "reads", "licence", "weights", "from"], rows)


def _weights(entry: "Entry") -> str:
    """Return how large the weights are and whether they are here."""
    if entry.download is None and entry.info is None:
        return "a folder of yours" if entry.marker else "?"
    if entry.download is None:
        return "nothing to download"
    return f"{entry.download.size / 1e9:.1f} GB, {'on this machine' if entry.download.is_cached() else 'not here yet'}"


def print_plugins(plugins: Sequence["Entry"]) -> None:
    """Print what installed packages add."""
    if not plugins:
        typer.echo("no plugins: no installed package adds a generator or a reward model")
        return
    rows = [[entry.name, entry.kind, entry.package, entry.version] for entry in plugins]
    _print_table(["name", "kind", "package", "version"], rows)


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # as text: a path may hold what rich takes for markup
    _console().print(table)


def _console() -> "Console":
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDTH)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _parts(conditions: frozenset[Any]) -> str:
    return ", ".join(part for part in ("text", "lyrics", "reference") if part in conditions)


def _name(candidate: "Candidate") -> str:
    if candidate.seed is not None:
        return f"seed {candidate.seed}"
    return _source(candidate)


def _source(candidate: "Candidate") -> str:
    """Return the file that audio made elsewhere came from."""
    source = candidate.audio.path if candidate.audio else None
    return str(source or f"candidate {candidate.index}")
