"""The command `rerank`: each subcommand reads its options, calls one function of the Python API and prints.

Exit status: 0 done; 1 refused or failed, with one line on standard error; 2 wrong usage; 130 interrupted, with what was
finished kept and ranked.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import rerank
from rerank.cli_research import eval_app, train_app
from rerank.console import (
    print_document,
    print_models,
    print_plugins,
    print_ranking,
    print_scores,
    progress_bar,
    start_logging,
)
from rerank.errors import InvalidInput, RerankError

if TYPE_CHECKING:
    from rerank.data import Ranking
    from rerank.filters import Filters

_RUNS = Path("rerank-runs")  # where a run goes that was given no folder


class _OneLineErrors(TyperGroup):
    """Turns the errors of `rerank`, and those only, into one line and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RerankError as error:
            typer.echo(f"error: {' '.join(str(error).splitlines())}", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            typer.echo("error: interrupted; nothing more was ranked, and what was written stays", err=True)
            raise typer.Exit(130) from error


app = typer.Typer(
    cls=_OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make N pieces of music for a prompt, score them with a reward model, keep the best with reasons.",
)

Lyrics = Annotated[str | None, typer.Option(help="Lyrics to be sung.", metavar="TEXT")]
LyricsFile = Annotated[Path | None, typer.Option(help="Text file (UTF-8) with the lyrics.", metavar="FILE")]
Reference = Annotated[
    Path | None, typer.Option(help="Audio to follow: WAV, FLAC, MP3 or OGG, at most 600 s.", metavar="FILE")
]
TopK = Annotated[int | None, typer.Option(help="How many of the best to show; all by default.", metavar="K")]
RewardName = Annotated[str, typer.Option("--reward", help="Reward model; see `rerank models`.", metavar="NAME")]
Weights = Annotated[
    list[str] | None,
    typer.Option("--weight", help="Weight of an axis in the combined reward; repeatable.", metavar="AXIS=W"),
]
Thresholds = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        help="Tune a filter (silent=-50) or switch it off (clipped=off); repeatable. Filters: not_finite, silent, "
        "clipped, dc_offset, short, duplicate.",
        metavar="NAME=X",
    ),
]
Floors = Annotated[
    list[str] | None,
    typer.Option("--floor", help="Set candidates below this reward aside; repeatable.", metavar="AXIS=X"),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.", metavar="NAME")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run that the folder holds.")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly the JSON document to standard output.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say what is done, one line per phase.")]
Files = Annotated[list[str], typer.Argument(help="Audio files: WAV, FLAC, MP3 or OGG.", metavar="FILE...")]
PromptText = Annotated[str, typer.Option("--prompt", help="What the music should be, in English.", metavar="P")]


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
    generator: Annotated[str, typer.Option(help="Generator; see `rerank models`.", metavar="NAME")] = "auto",
    reward: RewardName = "auto",
    weight: Weights = None,
    filter_: Thresholds = None,
    floor: Floors = None,
    device: Device = "auto",
    output: Annotated[
        Path | None,
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
    weights, filters = _weights(weight), _filters(filter_, floor)
    folder = output or _new_folder(prompt, seed)
    with progress_bar() as on_progress:
        ranking = rerank.generate(
            prompt,
            n,
            top_k=top_k,
            lyrics=_lyrics(lyrics, lyrics_file),
            reference=reference,
            duration=duration,
            seed=seed,
            generator=generator,
            reward=reward,
            weights=weights,
            filters=filters,
            device=device,
            output=folder,
            overwrite=overwrite,
            on_progress=on_progress,
        )
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
    weight: Weights = None,
    filter_: Thresholds = None,
    floor: Floors = None,
    device: Device = "auto",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write the run to; none by default.", metavar="DIR"),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Rank audio files made elsewhere for a prompt."""
    start_logging(verbose)
    weights, filters = _weights(weight), _filters(filter_, floor)
    with progress_bar() as on_progress:
        ranking = rerank.rank(
            files,
            prompt,
            top_k=top_k,
            lyrics=_lyrics(lyrics, lyrics_file),
            reference=reference,
            reward=reward,
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
    device: Device = "auto",
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Print the rewards of audio files for a prompt, without ranking or filtering them."""
    from rerank.run_folder import to_json

    start_logging(verbose)
    scores = rerank.score(
        files, prompt, lyrics=_lyrics(lyrics, lyrics_file), reference=reference, reward=reward, device=device
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
    app(prog_name="rerank")


def _finish(ranking: "Ranking", folder: Path | None, as_json: bool) -> None:
    """Print the ranking and leave with the exit status it deserves."""
    from rerank.run_folder import to_json

    if as_json:
        print_document(to_json(ranking.to_dict(folder)))
    else:
        print_ranking(ranking, None if folder is None else str(folder))
    if ranking.status == "interrupted":
        raise typer.Exit(130)
    _ = ranking.best  # raises, with the reasons, where every candidate was set aside


def _weights(values: Sequence[str] | None) -> dict[str, float] | None:
    return {axis: _number(value, f"--weight {axis}") for axis, value in _pairs("--weight", values)} or None


def _filters(thresholds: Sequence[str] | None, floors: Sequence[str] | None) -> "Filters":
    from rerank.filters import Filters

    return Filters.named(
        {
            name: None if value == "off" else _number(value, f"--filter {name}")
            for name, value in _pairs("--filter", thresholds)
        },
        {axis: _number(value, f"--floor {axis}") for axis, value in _pairs("--floor", floors)},
    )


def _pairs(option: str, values: Sequence[str] | None) -> list[tuple[str, str]]:
    pairs = []
    for value in values or ():
        name, equals, number = value.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{option} {value!r} must be NAME=NUMBER, such as musicality=1")
        pairs.append((name, number))
    return pairs


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option}={text!r} must be a number") from error


def _lyrics(text: str | None, file: Path | None) -> str | None:
    if text is not None and file is not None:
        raise typer.BadParameter("give --lyrics or --lyrics-file, not both")
    if file is None:
        return text
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"cannot read lyrics from {file}: it is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise InvalidInput(f"cannot read lyrics from {file}: {(error.strerror or str(error)).lower()}") from error


def _new_folder(prompt: str, seed: int) -> Path:
    """Return a folder that does not exist yet, named after the prompt and the seed."""
    slug = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-")[:40].rstrip("-") or "run"
    name = f"{slug}-seed{seed}"
    folder, number = _RUNS / name, 2
    while folder.exists():
        folder, number = _RUNS / f"{name}-{number}", number + 1
    return folder
