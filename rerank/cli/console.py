"""The two streams of the command line: messages and progress on standard error, results on standard output."""

import contextlib
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rerank.protocols import Progress


INTERRUPTED = 130
"""Exit status after a Ctrl-C: 128 and the number of its signal."""


class _Messages(logging.Handler):
    """Writes log messages to standard error, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        say(f"{prefix}{self.format(record)}")


def shown(text: str) -> str:
    """Return text without what a terminal would take for a command or the end of a line, or cannot show.

    Marks that turn the direction of writing round would show a name as another one.
    """
    return re.sub("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", "?", text)


def say(line: str) -> None:
    """Write a line to standard error; where that cannot be written, there is nobody to tell."""
    with contextlib.suppress(OSError):
        typer.echo(shown(line), err=True)


def tell(line: str = "") -> None:
    """Write a line to standard output."""
    typer.echo(shown(line))


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
