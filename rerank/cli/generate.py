"""`rerank generate`."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

import rerank
from rerank.cli import options
from rerank.cli.console import progress_bar, say, start_logging
from rerank.cli.finish import finish
from rerank.cli.options import (
    Device,
    Floors,
    Json,
    Lyrics,
    LyricsFile,
    Overwrite,
    Reference,
    RewardCache,
    RewardName,
    RewardPath,
    Thresholds,
    TopK,
    Verbose,
    Weights,
)
from rerank.errors import RerankError

_RUNS = Path("rerank-runs")  # where a run goes that was given no folder


def generate(
    prompt: Annotated[str, typer.Argument(help="What the music should be, in English.", metavar="PROMPT")] = "",
    n: Annotated[int, typer.Option("-n", "--n", help="How many candidates to make.", metavar="N")] = 10,
    top_k: TopK = None,
    lyrics: Lyrics = None,
    lyrics_file: LyricsFile = None,
    reference: Reference = None,
    duration: Annotated[float, typer.Option(help="Of each candidate, in seconds.", metavar="S")] = 10.0,
    seed: Annotated[int, typer.Option(help="Candidate i has seed SEED + i.", metavar="SEED")] = 0,
    generator: Annotated[
        str, typer.Option(help="Of `rerank models`, or a folder of weights.", metavar="NAME")
    ] = "auto",
    reward: RewardName = "auto",
    reward_path: RewardPath = None,
    reward_cache: RewardCache = None,
    weight: Weights = None,
    filter_: Thresholds = None,
    floor: Floors = None,
    device: Device = "auto",
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Folder for the run; a new one in rerank-runs by default.", metavar="DIR"),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Make N candidates for PROMPT and rank them.

    Writes DIR/ranking.json and DIR/candidates/. Ctrl-C stops early and ranks what is finished.
    """
    start_logging(verbose)
    if overwrite and output is None:
        raise typer.BadParameter("--overwrite needs -o DIR: a run without it always gets a new folder")
    weights, filters = options.weights(weight), options.filters(filter_, floor)
    folder = str(_new_folder(prompt, seed)) if output is None else output
    with _named_on_failure(None if output else folder), progress_bar() as on_progress:
        ranking = rerank.generate(
            prompt,
            n,
            top_k=top_k,
            lyrics=options.lyrics(lyrics, lyrics_file),
            reference=reference,
            duration=duration,
            seed=seed,
            generator=generator,
            reward=options.reward(reward, reward_path, reward_cache),
            weights=weights,
            filters=filters,
            device=device,
            output=folder,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    if as_json and output is None:
        say(f"written to {folder}")
    finish(ranking, folder, as_json)


@contextlib.contextmanager
def _named_on_failure(folder: str | None) -> Iterator[None]:
    """Say where a run that fails is, if it got that far, where the user did not name the folder."""
    try:
        yield
    except (RerankError, KeyboardInterrupt):
        if folder is not None and os.path.isdir(folder):
            say(f"written to {folder}")
        raise


def _new_folder(prompt: str, seed: int) -> Path:
    """Return a folder that does not exist yet, named after the prompt and the seed."""
    slug = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-")[:40].rstrip("-") or "run"
    name = f"{slug}-seed{seed}"
    folder, number = _RUNS / name, 2
    while os.path.lexists(folder):  # not Path.exists, which raises where a folder is closed
        folder, number = _RUNS / f"{name}-{number}", number + 1
    return folder
