"""What the command line prints for people: columns with short names, on a terminal no wider than it is."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank.cli.console import shown, tell

if TYPE_CHECKING:
    from rerank.ranking import Ranking
    from rerank.runs.many import Outcomes

_GAP = 2  # between columns
_NAME = 24  # a column of names is not made narrower than this, in order to fit another column of numbers
_NARROW = 40  # no table is made for less
_ENDLESS = 100_000


@dataclass(frozen=True)
class Column:
    """A column of a table: its title, its cells, and whether they are numbers (at the right, never broken)."""

    title: str
    cells: Sequence[str]
    number: bool = False

    @property
    def width(self) -> int:
        """How many places it needs on a terminal."""
        from rich.cells import cell_len

        return max(cell_len(line) for text in (*self.title.split("\n"), *self.cells) for line in [shown(text)])


def print_columns(columns: Sequence[Column], like: Sequence[Column] = (), *, titles: bool = True) -> None:
    """Print a table; nothing for one without rows. A name too long for the terminal goes on in the next line.

    Args:
        columns: each with as many cells.
        like: columns that these are to stand under.
        titles: whether to print them.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not columns[0].cells:
        return
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_header=titles)
    for place, column in enumerate(columns):
        justify: Any = "right" if column.number else "left"
        least = like[place].width if like else None
        title = Text("\n".join(map(shown, column.title.split("\n"))))
        table.add_column(title, justify=justify, no_wrap=column.number, overflow="fold", min_width=least)
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(shown(cell)) for cell in row))  # as text: a name may hold what rich takes for markup
    console = Console(width=_width())
    if sys.stdout.isatty():
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().removesuffix("\n").split("\n"):
        tell(line.rstrip())


def print_ranking(ranking: "Ranking") -> None:
    """Print a ranking: the best first, then what was set aside and why, then where the files are."""
    made = ranking.settings.seed is not None
    sources = _names([None if made else one.source for one in ranking])
    files = _names([one.path if one.path != one.source else None for one in ranking], missing="removed")
    left = [
        Column("rank", [str(one.rank) for one in ranking], number=True),
        Column("combined", [number(one.combined) for one in ranking], number=True),
    ]
    axes = [
        Column(_title(axis), [number(one.rewards.get(axis)) for one in ranking], number=True)
        for axis in ranking.settings.weights
    ]
    right = [Column("seed", [str(one.seed) for one in ranking], number=True)] if made else []
    named = {"source" if any(files.texts) else "file": sources} | ({"file": files} if any(files.texts) else {})
    ends = [Column(title, names.texts) for title, names in named.items() if any(names.texts)]
    parts = list(_parts(left, axes, [*right, *ends]))
    if len(parts) > 1 and len(ends) > 1:  # a copy is called after its source
        parts = list(_parts(left, axes, [*right, *ends[:1]]))
    for part in parts:
        print_columns(part)
    for candidate in ranking.set_aside:
        tell(f"set aside: {candidate.source or candidate.name}: {candidate.set_aside}")
    for title, names in named.items():
        if names.folder:
            tell(f"{title}s in {names.folder}")


def print_why(ranking: "Ranking") -> None:
    """Print why the first is first and how sure that is, what of the prompt was heeded, and what the numbers mean."""
    from rerank.reasons import scales_of

    if len(ranking):
        _print_list(f"why {ranking.best.name} is first", ranking.best.reasons)
    _print_list("notes", ranking.settings.notes)
    if len(ranking):
        print_meanings(scales_of(ranking.settings, [one.rewards for one in ranking]))
    if ranking.verdict is not None:
        tell(f"verdict: {ranking.verdict}")
    elif len(ranking) > 1:
        tell("verdict: none")


def print_meanings(sentences: Sequence[str]) -> None:
    """Print what numbers mean."""
    _print_list("the numbers", sentences)


def _print_list(title: str, sentences: Sequence[str]) -> None:
    if sentences:
        tell(f"{title}:")
        print_columns([Column("", ["-"] * len(sentences)), Column("", sentences)], titles=False)


def print_outcomes(outcomes: "Outcomes", folder: str | None) -> None:
    """Print what became of many prompts: those that were only ranked in full, those in a folder in a line each."""
    if folder is None:
        for outcome in outcomes.each:
            tell(f"{outcome.entry.id}: {outcome.entry.prompt.text}")
            if outcome.ranking is not None:
                print_ranking(outcome.ranking)
            tell()
        return
    print_index(outcomes.to_dict(Path(folder)))
    tell(f"written to {folder}")


def print_index(document: Mapping[str, Any]) -> None:
    """Print what became of many prompts, as the document of `index.json` says it."""
    each = document["prompts"]
    best = [entry["best"] or {"combined": None, "path": None} for entry in each]
    print_columns(
        [
            Column("prompt", [entry["id"] for entry in each]),
            Column("status", [entry["status"] for entry in each]),
            Column("ranked", [str(entry["ranked"]) for entry in each], number=True),
            Column("set aside", [str(entry["set_aside"]) for entry in each], number=True),
            Column("best", [number(one["combined"]) for one in best], number=True),
            Column("its file", [one["path"] or "-" for one in best]),
        ]
    )


def print_scores(paths: Sequence[str], scores: Sequence[Mapping[str, float | None]]) -> None:
    """Print the rewards of each file."""
    axes = [Column(_title(axis), [number(one[axis]) for one in scores], number=True) for axis in scores[0]]
    names = _names([Path(path) for path in paths])
    for part in _parts([], axes, [Column("file", names.texts)]):
        print_columns(part)
    if names.folder:
        tell(f"files in {names.folder}")


def print_metrics(metrics: Mapping[str, Any]) -> None:
    """Print the metrics of a report, one per line."""
    values = [
        f"{value:.3f}" if isinstance(value, float) else "-" if value is None else str(value)
        for value in metrics.values()
    ]
    print_columns([Column("metric", list(metrics)), Column("value", values)])


def number(value: float | None) -> str:
    """Return a reward as it is shown."""
    return "-" if value is None else f"{value:.3f}"


def has_width() -> bool:
    """Return whether lines have an end: on a terminal, and where COLUMNS says so."""
    return sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()


def _width() -> int:
    if not has_width():
        return _ENDLESS
    from rich.console import Console

    return max(Console().width, _NARROW)


def _title(axis: str) -> str:
    """Return the name of an axis as a title: on a terminal, the reward model and its axis one above the other."""
    return re.sub(r"\.(?=[^.]*$)", ".\n", axis) if has_width() else axis


def _parts(left: Sequence[Column], axes: Sequence[Column], right: Sequence[Column]) -> Iterator[list[Column]]:
    """Yield tables that fit the terminal: where there are too many axes, more than one."""
    needed = [min(column.width, _NAME) if not column.number else column.width for column in (*left, *right)]
    room = _width() - sum(needed) - _GAP * len(needed)
    part: list[Column] = []
    for axis in axes:
        if part and sum(column.width + _GAP for column in (*part, axis)) > room:
            yield [*left, *part, *right]
            part = []
        part.append(axis)
    yield [*left, *part, *right]


@dataclass(frozen=True)
class _Names:
    """Paths as they are shown, and the folder that they are in where it is not shown with each."""

    texts: Sequence[str]
    folder: str = ""


def _names(paths: Sequence[Path | None], missing: str = "") -> _Names:
    """Return the names of paths, without the folder that they share.

    `missing` stands for a path that is None, where there are others; without others there is nothing to name.
    """
    full = [str(path) for path in paths if path is not None]
    folder = ""
    if full:
        parents = {os.path.dirname(path) for path in full}
        if all(parents) and len({os.path.isabs(parent) for parent in parents}) == 1:
            folder = os.path.commonpath(parents)
    texts = [
        (os.path.relpath(path, folder) if folder else str(path)) if path is not None else missing if full else ""
        for path in paths
    ]
    return _Names(texts, folder)
