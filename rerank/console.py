"""What the command line shows: progress and messages on standard error, tables on standard output."""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from rerank.data import Candidate, Ranking
    from rerank.protocols import Progress
    from rerank.registry import Entry

_WIDTH = 160  # of a table that goes to a file or another program


class _Messages(logging.Handler):
    """Writes log messages to standard error, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        typer.echo(f"{prefix}{self.format(record)}", err=True)


def start_logging(verbose: bool) -> None:
    """Show warnings of `rerank`, and with `verbose` one line per phase."""
    logger = logging.getLogger("rerank")
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    if not any(isinstance(handler, _Messages) for handler in logger.handlers):
        logger.addHandler(_Messages())


@contextlib.contextmanager
def progress_bar() -> Iterator["Callable[[Progress], None] | None"]:
    """Show a bar for each phase while the block runs; nothing, and no callback, where standard error is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(progress: "Progress") -> None:
            if progress.phase not in tasks:
                tasks[progress.phase] = bars.add_task(progress.phase, total=progress.total)
            bars.update(tasks[progress.phase], completed=progress.done, total=progress.total)

        yield show


def print_document(text: str) -> None:
    """Print a JSON document to standard output, in UTF-8 whatever the terminal says."""
    typer.echo(text.encode(), nl=False)


def print_ranking(ranking: "Ranking", place: str | None) -> None:
    """Print a ranking for people: the best first, then what was set aside and why, then where the files are."""
    axes = list(ranking.settings.weights)
    rows = [
        [
            str(candidate.rank),
            _number(candidate.combined),
            *(_number(candidate.rewards.get(axis)) for axis in axes),
            "-" if candidate.seed is None else str(candidate.seed),
            str(candidate.path or "-"),
        ]
        for candidate in ranking
    ]
    if rows:
        _print_table(["rank", "combined", *axes, "seed", "file"], rows)
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
        rows.append([entry.name, *what, f"{entry.package} {entry.version}"])
    _print_table(["generator", "follows", "longest", "licence", "from"], rows)
    rows = []
    for entry in rewards:
        info, what = entry.info, ["?", "?", "?"]
        if isinstance(info, RewardInfo):
            what = [", ".join(info.axes), _parts(info.conditions), info.licence]
        rows.append([entry.name, *what, f"{entry.package} {entry.version}"])
    _print_table(["reward model", "axes", "reads", "licence", "from"], rows)


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
    return str(candidate.path or f"candidate {candidate.index}")
