"""`rerank show` and `rerank export`: runs that were stored."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import rerank
from rerank.cli import choices, complete
from rerank.cli.console import print_document, say, start_logging, tell
from rerank.cli.finish import say_stale
from rerank.cli.options import Json, RunName
from rerank.cli.tables import Column, print_columns, print_index, print_ranking, print_why
from rerank.errors import UnknownName

if TYPE_CHECKING:
    from rerank.ranking import Ranking


def show(
    run: Annotated[str, typer.Argument(help="Folder of a run, or of the runs of many prompts.", metavar="RUN")],
    verify: Annotated[bool, typer.Option("--verify", help="Check that each file is still what was stored.")] = False,
    as_json: Json = False,
) -> None:
    """Print a stored run, also one that is unfinished.

    With --verify the exit status is 1 where a file is missing or another.
    """
    from rerank.run_folder import to_json
    from rerank.runs.many import read_index

    start_logging(verbose=False)
    run = choices.folder_of(run)
    index = None if _is_run(run) else read_index(run)
    if index is not None:
        document, runs = index, [os.path.join(run, entry["id"]) for entry in index["prompts"]]
        if not as_json:
            print_index(index)
    else:
        ranking = rerank.load(run)
        document, runs = ranking.to_dict(run), [run]
        say_stale(ranking, run)
        if not as_json:
            _print_settings(ranking)
            print_ranking(ranking)
            print_why(ranking)
    if as_json:
        print_document(to_json(document))
    if verify:
        _verify([one for one in runs if _is_run(one)])


def _is_run(folder: str) -> bool:
    return os.path.exists(os.path.join(folder, "ranking.json"))


def _verify(runs: Sequence[str]) -> None:
    """Say which files of these runs are not what was stored, and leave with exit status 1 if there are any."""
    from rerank.runs.stored import verify

    faults = [fault for run in runs for fault in verify(run)]
    for fault in faults:
        say(f"error: {fault}")
    if faults:
        raise typer.Exit(1)
    say("every file is what was stored")


def _print_settings(ranking: "Ranking") -> None:
    """Print what a run was made for, and with."""
    settings, prompt = ranking.settings, ranking.prompt
    weights = ", ".join(f"{axis} {weight:.2f}" for axis, weight in settings.weights.items() if weight)
    asked = f"{settings.n} asked for" if settings.seed is not None else f"{settings.n} files"
    facts = {
        "prompt": prompt.text,
        "lyrics": prompt.lyrics or "",
        "reference": str(prompt.reference.path or "in memory") if prompt.reference else "",
        "status": f"{ranking.status}; {asked}, {len(ranking.set_aside)} set aside",
        "generator": settings.generator or "",
        "reward": f"{settings.reward}; {settings.rule} of {weights}",
    }
    given = {name: " ".join(text.split()) for name, text in facts.items() if text}
    print_columns([Column("", list(given)), Column("", list(given.values()))], titles=False)


def _beside(run: str) -> Path:
    """Return the folder for copies beside that of a run."""
    folder = Path(run)
    if folder.name in ("", ".."):  # the folder where we are, or one above
        folder = Path(os.path.abspath(run))
    return folder.with_name(f"{folder.name}-export")


def export(
    run: RunName,
    top: Annotated[
        int | None, typer.Option("--top", help="How many of the best; all that are ranked by default.", metavar="K")
    ] = None,
    format: Annotated[
        str,
        typer.Option("--format", help="wav, flac, mp3 or ogg.", metavar="NAME", autocompletion=complete.formats),
    ] = "wav",
    loudness: Annotated[
        float | None,
        typer.Option(
            help="Of each copy, in LUFS, such as -14; as they are by default. No sample is clipped for it.",
            metavar="LUFS",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Folder for the copies; RUN-export by default.", metavar="DIR"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of the same names.")] = False,
) -> None:
    """Copy the best takes of a run, named by rank, such as 01-seed4.wav.

    The takes themselves stay untouched.
    """
    from rerank.export import FORMATS
    from rerank.export import export as export_copies

    start_logging(verbose=False)
    if format not in FORMATS:
        raise UnknownName.among("format", format, FORMATS)
    ranking = rerank.load(run)
    folder = Path(output) if output is not None else _beside(choices.folder_of(run))
    copies = export_copies(ranking, folder, top=top, format=format, loudness=loudness, overwrite=overwrite)
    limited = {True: "; its peak leaves room for no more", False: ""}
    print_columns(
        [
            Column("rank", [str(copy.rank) for copy in copies], number=True),
            Column("file", [copy.path.name for copy in copies]),
            Column("gain", [f"{copy.gain:+.1f} dB{limited[copy.limited]}" if copy.gain else "none" for copy in copies]),
        ]
    )
    tell(f"written to {folder}")
