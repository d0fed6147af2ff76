"""`rerank rank` and `rerank score`: audio made elsewhere."""

from typing import Annotated

import typer

import rerank
from rerank.cli import options
from rerank.cli.console import print_document, progress_bar, start_logging
from rerank.cli.finish import finish
from rerank.cli.options import (
    Device,
    Files,
    Floors,
    Json,
    Lyrics,
    LyricsFile,
    Overwrite,
    PromptText,
    Reference,
    RewardCache,
    RewardName,
    RewardPath,
    Thresholds,
    TopK,
    Verbose,
    Weights,
)
from rerank.cli.tables import print_scores


def rank(
    files: Files,
    prompt: PromptText = "",
    top_k: TopK = None,
    lyrics: Lyrics = None,
    lyrics_file: LyricsFile = None,
    reference: Reference = None,
    reward: RewardName = "auto",
    reward_path: RewardPath = None,
    reward_cache: RewardCache = None,
    weight: Weights = None,
    filter_: Thresholds = None,
    floor: Floors = None,
    device: Device = "auto",
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Folder to write the run to; none by default.", metavar="DIR"),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Rank audio files made elsewhere for a prompt."""
    start_logging(verbose)
    if overwrite and output is None:
        raise typer.BadParameter("--overwrite needs -o DIR: a run without it is not written")
    weights, filters = options.weights(weight), options.filters(filter_, floor)
    with progress_bar() as on_progress:
        ranking = rerank.rank(
            files,
            prompt,
            top_k=top_k,
            lyrics=options.lyrics(lyrics, lyrics_file),
            reference=reference,
            reward=options.reward(reward, reward_path, reward_cache),
            weights=weights,
            filters=filters,
            device=device,
            output=output,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    finish(ranking, output, as_json)


def score(
    files: Files,
    prompt: PromptText = "",
    lyrics: Lyrics = None,
    lyrics_file: LyricsFile = None,
    reference: Reference = None,
    reward: RewardName = "auto",
    reward_path: RewardPath = None,
    reward_cache: RewardCache = None,
    device: Device = "auto",
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Print the rewards of audio files for a prompt, without ranking or filtering them."""
    from rerank.run_folder import to_json

    start_logging(verbose)
    with progress_bar() as on_progress:
        scores = rerank.score(
            files,
            prompt,
            lyrics=options.lyrics(lyrics, lyrics_file),
            reference=reference,
            reward=options.reward(reward, reward_path, reward_cache),
            device=device,
            on_progress=on_progress,
        )
    if as_json:
        entries = [{"path": path, "rewards": rewards} for path, rewards in zip(files, scores, strict=True)]
        print_document(to_json({"scores": entries}))
    else:
        print_scores(files, scores)
