"""How a command that ranks ends: what it prints and writes, and its exit status."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rerank.cli.console import INTERRUPTED, print_document, progress_bar, say, tell
from rerank.cli.csv_file import write_csv
from rerank.cli.tables import print_outcomes, print_ranking, print_why

if TYPE_CHECKING:
    from rerank.ranking import Ranking
    from rerank.runs.many import Outcomes


def finish(
    ranking: "Ranking",
    folder: str | None,
    as_json: bool,
    csv: Path | None = None,
    *,
    report: bool = False,
    again: bool = False,
) -> None:
    """Print a ranking, which is in `folder` if it was written, and leave with the exit status it deserves.

    Args:
        ranking: what was made.
        folder: of its run.
        as_json: whether the document is printed.
        csv: the file for a table.
        report: whether to write a page too.
        again: whether it is of a run that was there: that this was stopped once is then nothing to complain about.
    """
    from rerank.run_folder import to_json

    stored = [candidate.path for candidate in ranking.candidates if candidate.path]
    if folder is not None and stored:
        # in the subfolder `unfinished`, where an interrupted run left an earlier one
        folder = str(stored[0].parent.parent)
    write_csv(csv, ranking.to_records())
    if as_json:
        print_document(to_json(ranking.to_dict(folder)))
    else:
        print_ranking(ranking)
        print_why(ranking)
        if folder is not None:
            tell(f"written to {folder}")
    if report and folder is not None:
        if ranking.status == "interrupted" and not again:
            say("writing the page; Ctrl-C again leaves it out")
        _write_page(ranking, folder, say if as_json else tell)
    elif folder is not None:
        say_stale(ranking, folder)
    if ranking.status == "interrupted" and not again:
        raise typer.Exit(INTERRUPTED)
    _ = ranking.best  # raises, with the reasons, where every candidate was set aside
    if _say_unread({"": ranking}):
        raise typer.Exit(1)


def _write_page(ranking: "Ranking", folder: str | Path, print_line: Callable[[str], None]) -> None:
    """Write the page about a run to its folder, and tell its address."""
    from rerank.report import NAME, write_report

    with progress_bar() as on_progress:
        page = write_report(ranking, Path(folder) / NAME, on_progress=on_progress)
    print_line(f"page: {page.resolve().as_uri()}")


def say_stale(ranking: "Ranking", folder: str) -> None:
    """Say that the page in the folder of a run shows something else than the run, if it does."""
    from rerank.report import NAME, is_stale

    page = Path(folder, NAME)
    if is_stale(ranking, page):
        say(f"{page} shows an earlier state of this run; to make it again: rerank report {shlex.quote(folder)}")


def finish_many(
    outcomes: "Outcomes", folder: str | None, as_json: bool, csv: Path | None = None, *, report: bool = False
) -> None:
    """Print what became of many prompts, and leave with the exit status it deserves."""
    from rerank.run_folder import to_json

    rankings = {outcome.entry.id: outcome.ranking for outcome in outcomes.each if outcome.ranking is not None}
    write_csv(csv, [{"prompt": name, **record} for name, one in rankings.items() for record in one.to_records()])
    if as_json and folder is not None:
        print_document(to_json(outcomes.to_dict(Path(folder))))
    elif as_json:
        print_document(to_json({"rankings": [one.to_dict() for one in rankings.values()]}))
    else:
        print_outcomes(outcomes, folder)
    if report and folder is not None:
        for name, ranking in rankings.items():
            _write_page(ranking, Path(folder) / name, say if as_json else tell)
    for outcome in outcomes.each:
        if outcome.error is not None:
            say(f"error: {outcome.entry.id}: {outcome.error}")
    if outcomes.status == "interrupted":
        raise typer.Exit(INTERRUPTED)
    empty = [name for name, ranking in rankings.items() if not len(ranking)]
    for name in empty:
        say(f"error: {name}: all candidates were set aside")
    if _say_unread(rankings) or empty or outcomes.status == "failed":
        raise typer.Exit(1)


def _say_unread(rankings: "Mapping[str, Ranking]") -> bool:
    """Name the files that cannot be read, and return whether there are any."""
    candidates = [one for ranking in rankings.values() for one in ranking.candidates if one.seed is None]
    unread = [str(one.source) for one in candidates if one.set_aside_kind == "unreadable"]
    if unread:
        say(f"error: {len(unread)} of {len(candidates)} files cannot be read: {', '.join(unread)}")
    return bool(unread)
