"""The command `rerank`: each subcommand reads its options, calls one function of the Python API and prints.

Exit status: 0 done; 1 refused or failed, with one line on standard error; 2 wrong usage; 130 interrupted, with what was
finished kept and ranked.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import rerank
from rerank import cli_options
from rerank.cli_options import (
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
from rerank.cli_research import eval_app, train_app
from rerank.console import (
    print_document,
    print_models,
    print_plugins,
    print_ranking,
    print_scores,
    progress_bar,
    say,
    start_logging,
    streams_checked,
)
from rerank.errors import RerankError

if TYPE_CHECKING:
    from rerank.ranking import Ranking

_RUNS = Path("rerank-runs")  # where a run goes that was given no folder


class _OneLineErrors(TyperGroup):
    """Turns the errors of `rerank`, and those only, into one line and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RerankError as error:
            say(f"error: {' '.join(str(error).splitlines())}")
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            say("error: interrupted; nothing more was ranked, and what was written stays")
            raise typer.Exit(130) from error


app = typer.Typer(
    cls=_OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make N pieces of music for a prompt, score them with a reward model, keep the best with reasons.",
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Print the version, if that is all that is asked."""
    if version:
        typer.echo(f"rerank {rerank.__version__}")
        raise typer.Exit


@app.command()
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
    weights, filters = cli_options.weights(weight), cli_options.filters(filter_, floor)
    folder = str(_new_folder(prompt, seed)) if output is None else output
    with _named_on_failure(None if output else folder), progress_bar() as on_progress:
        ranking = rerank.generate(
            prompt,
            n,
            top_k=top_k,
            lyrics=cli_options.lyrics(lyrics, lyrics_file),
            reference=reference,
            duration=duration,
            seed=seed,
            generator=generator,
            reward=cli_options.reward(reward, reward_path, reward_cache),
            weights=weights,
            filters=filters,
            device=device,
            output=folder,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    if as_json and output is None:
        say(f"written to {folder}")
    _finish(ranking, folder, as_json)


@app.command()
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
    weights, filters = cli_options.weights(weight), cli_options.filters(filter_, floor)
    with progress_bar() as on_progress:
        ranking = rerank.rank(
            files,
            prompt,
            top_k=top_k,
            lyrics=cli_options.lyrics(lyrics, lyrics_file),
            reference=reference,
            reward=cli_options.reward(reward, reward_path, reward_cache),
            weights=weights,
            filters=filters,
            device=device,
            output=output,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    _finish(ranking, output, as_json)


@app.command()
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
            lyrics=cli_options.lyrics(lyrics, lyrics_file),
            reference=reference,
            reward=cli_options.reward(reward, reward_path, reward_cache),
            device=device,
            on_progress=on_progress,
        )
    if as_json:
        entries = [{"path": path, "rewards": rewards} for path, rewards in zip(files, scores, strict=True)]
        print_document(to_json({"scores": entries}))
    else:
        print_scores(files, scores)


@app.command()
def models() -> None:
    """List the generators and reward models that can be named."""
    from rerank.registry import entries

    print_models(list(entries("generator").values()), list(entries("reward").values()))


@app.command()
def plugins() -> None:
    """List what installed packages add; the variable RERANK_PLUGINS limits which may ('' for none)."""
    from rerank.registry import plugins as installed

    print_plugins([*installed("generator"), *installed("reward")])


app.add_typer(train_app, name="train")
app.add_typer(eval_app, name="eval")


def main() -> None:
    """Run the command line."""
    with streams_checked():
        app(prog_name="rerank")


@contextlib.contextmanager
def _named_on_failure(folder: str | None) -> Iterator[None]:
    """Say where a run that fails is, if it got that far, where the user did not name the folder."""
    try:
        yield
    except (RerankError, KeyboardInterrupt):
        if folder is not None and os.path.isdir(folder):
            say(f"written to {folder}")
        raise


def _finish(ranking: "Ranking", folder: str | None, as_json: bool) -> None:
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


def _new_folder(prompt: str, seed: int) -> Path:
    """Return a folder that does not exist yet, named after the prompt and the seed."""
    slug = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-")[:40].rstrip("-") or "run"
    name = f"{slug}-seed{seed}"
    folder, number = _RUNS / name, 2
    while os.path.lexists(folder):  # not Path.exists, which raises where a folder is closed
        folder, number = _RUNS / f"{name}-{number}", number + 1
    return folder
