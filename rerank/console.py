"""What the command line shows: progress and messages on standard error, tables on standard output."""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from rerank.data import Candidate
    from rerank.entry import Entry
    from rerank.protocols import Progress
    from rerank.ranking import Ranking

_WIDTH = 160  # of a table that goes to a file or another program


class _Messages(logging.Handler):
    """Writes log messages to standard error, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        say(f"{prefix}{self.format(record)}")


def say(line: str) -> None:
    """Write a line to standard error; where that cannot be written, there is nobody to tell."""
    with contextlib.suppress(OSError):
        typer.echo(line, err=True)


@contextlib.contextmanager
def streams_checked() -> Iterator[None]:
    """Turn output that cannot be printed into one line and exit status 1; print `?` for what a terminal cannot show."""
    if sys.stderr is None:  # closed by the caller
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if sys.stdout is None:
        say("error: cannot print: standard output is closed; send it to a file or a terminal")
        raise SystemExit(1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        yield
    except OSError as error:
        if error.filename is not None:  # a file, which is nothing that was printed
            raise
        say(f"error: cannot print: {(error.strerror or str(error)).lower()}; send it elsewhere")
        raise SystemExit(1) from error
    finally:
        for stream in (sys.stdout, sys.stderr):
            _drop_unwritable(stream)


def _drop_unwritable(stream: Any) -> None:
    """Drop what a stream could not write, about which the interpreter would complain when it ends."""
    try:
        stream.flush()
    except OSError:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


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
    _print_problems([entry for entry in (*generators, *rewards) if entry.info is None or entry.rivals])


def _weights(entry: "Entry") -> str:
    """Return how large the weights are and whether they are here."""
    if entry.needs_folder:
        return "a folder of yours"
    if entry.info is None:
        return "?"
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
    _print_problems(plugins)


def _print_problems(entries: Sequence["Entry"]) -> None:
    """Print which of them cannot be loaded, and why; they are imported to find out."""
    for entry in entries:
        problem = entry.problem()
        if problem is not None:
            typer.echo(f"broken: {problem}")


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
