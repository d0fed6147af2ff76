"""How a command that ranks ends: what it prints, and its exit status."""

from typing import TYPE_CHECKING

import typer

from rerank.cli.console import print_document
from rerank.cli.tables import print_ranking

if TYPE_CHECKING:
    from rerank.ranking import Ranking


def finish(ranking: "Ranking", folder: str | None, as_json: bool) -> None:
    """Print the ranking and leave with the exit status it deserves."""
    from rerank.run_folder import to_json

    stored = [candidate.path for candidate in ranking.candidates if candidate.path]
    if folder is not None and stored:
        # in the subfolder `unfinished`, where an interrupted run left an earlier one
        folder = str(stored[0].parent.parent)
    if as_json:
        print_document(to_json(ranking.to_dict(folder)))
    else:
        print_ranking(ranking, folder)
    if ranking.status == "interrupted":
        raise typer.Exit(130)
    _ = ranking.best  # raises, with the reasons, where every candidate was set aside
