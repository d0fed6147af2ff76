"""`rerank report`: a stored run as a page."""

from pathlib import Path
from typing import Annotated

import typer

import rerank
from rerank.cli import choices
from rerank.cli.console import progress_bar, start_logging, tell
from rerank.cli.options import RunName


def report(
    run: RunName,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="File for the page; report.html in RUN by default.", metavar="FILE"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace FILE even where it is no report of a run.")
    ] = False,
) -> None:
    """Write a stored run to one HTML page that can be heard, printed and sent.

    It holds pictures and small copies of the best takes, and fetches nothing
    from anywhere. An earlier report is replaced.
    """
    from rerank.report import NAME, write_report

    start_logging(verbose=False)
    ranking = rerank.load(run)
    place = Path(output) if output is not None else Path(choices.folder_of(run), NAME)
    with progress_bar() as on_progress:
        write_report(ranking, place, overwrite=overwrite, on_progress=on_progress)
    tell(f"written to {place.resolve().as_uri()}")
