"""The options that several commands share, as they stand in the help."""

from pathlib import Path
from typing import Annotated

import typer

from rerank.cli import complete

_PROMPT, _GENERATOR, _REWARD = "The prompt", "The generator", "The reward model"
_RANKING, _RUN, _OUTPUT = "The ranking", "The run", "What is printed"

PromptText = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        help="What the music should be, in English; may be left out.",
        metavar="TEXT",
        rich_help_panel=_PROMPT,
    ),
]
Lyrics = Annotated[str | None, typer.Option(help="Lyrics to be sung.", metavar="TEXT", rich_help_panel=_PROMPT)]
LyricsFile = Annotated[
    Path | None,
    typer.Option(help="Text file (UTF-8) with the lyrics.", metavar="FILE", rich_help_panel=_PROMPT),
]
Reference = Annotated[
    Path | None,
    typer.Option(
        help="Audio to follow: WAV, FLAC, MP3 or OGG, at most 600 s.", metavar="FILE", rich_help_panel=_PROMPT
    ),
]
Prompts = Annotated[
    Path | None,
    typer.Option(
        help="Many prompts, each with a run of its own in a folder of DIR: a line each (.txt), or a .csv or .jsonl "
        "file with prompt, lyrics, reference, id.",
        metavar="FILE",
        rich_help_panel=_PROMPT,
    ),
]

Count = Annotated[
    int, typer.Option("-n", "--n", help="How many candidates to make.", metavar="N", rich_help_panel=_GENERATOR)
]
Duration = Annotated[
    float, typer.Option(help="Of each candidate, in seconds.", metavar="S", rich_help_panel=_GENERATOR)
]
Seed = Annotated[int, typer.Option(help="Candidate i has seed SEED + i.", metavar="SEED", rich_help_panel=_GENERATOR)]
GeneratorName = Annotated[
    str,
    typer.Option(
        "--generator",
        help="One that `rerank models` lists, or a folder of weights.",
        metavar="NAME",
        autocompletion=complete.generators,
        rich_help_panel=_GENERATOR,
    ),
]
GeneratorOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--generator-option",
        help="An option of it, which `rerank models NAME` explains; repeatable.",
        metavar="K=V",
        rich_help_panel=_GENERATOR,
    ),
]

RewardName = Annotated[
    str,
    typer.Option(
        "--reward",
        help="One that `rerank models` lists, or a folder of weights.",
        metavar="NAME",
        autocompletion=complete.rewards,
        rich_help_panel=_REWARD,
    ),
]
RewardNames = Annotated[
    list[str] | None,
    typer.Option(
        "--reward",
        help="One that `rerank models` lists, or a folder of weights; repeatable; auto by default.",
        metavar="NAME",
        autocompletion=complete.rewards,
        rich_help_panel=_REWARD,
    ),
]
RewardPath = Annotated[
    Path | None,
    typer.Option(
        "--reward-path", help="Folder of its weights, where it takes one.", metavar="DIR", rich_help_panel=_REWARD
    ),
]
RewardCache = Annotated[
    Path | None,
    typer.Option(
        "--reward-cache",
        help="Folder that keeps encoded audio for later runs, of all reward models (not cmi-mini).",
        metavar="DIR",
        rich_help_panel=_REWARD,
    ),
]
RewardOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--reward-option",
        help="An option of it, which `rerank models NAME` explains; of one of several as NAME.K=V; repeatable.",
        metavar="K=V",
        rich_help_panel=_REWARD,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda, cuda:1 or mps.", metavar="NAME", autocompletion=complete.devices, rich_help_panel=_REWARD
    ),
]

Weights = Annotated[
    list[str] | None,
    typer.Option(
        "--weight",
        help="Weight of an axis in the combined reward; repeatable.",
        metavar="AXIS=W",
        rich_help_panel=_RANKING,
    ),
]
RuleName = Annotated[
    str | None,
    typer.Option(
        "--rule",
        help="How the axes become one combined reward: mean, zscore (each axis standardised first) or rank (of ranks); "
        "mean by default, zscore for several reward models.",
        metavar="RULE",
        autocompletion=complete.rules,
        rich_help_panel=_RANKING,
    ),
]
Thresholds = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        help="Tune a filter (silent=-50) or switch it off (clipped=off); repeatable. Filters: not_finite, silent, "
        "clipped, dc_offset, short, duplicate.",
        metavar="NAME=X",
        rich_help_panel=_RANKING,
    ),
]
Floors = Annotated[
    list[str] | None,
    typer.Option(
        "--floor",
        help="Set candidates below this reward aside; repeatable.",
        metavar="AXIS=X",
        rich_help_panel=_RANKING,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        help="Show and give back no more than the K best; nothing is removed. All by default.",
        metavar="K",
        rich_help_panel=_RANKING,
    ),
]

Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace the run that DIR holds, when the new one is complete.", rich_help_panel=_RUN
    ),
]
OverwriteCsv = Annotated[bool, typer.Option("--overwrite", help="Replace the file of --csv.", rich_help_panel=_OUTPUT)]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with the run in DIR, or extend it by a larger N; what is there is checked and not made again.",
        rich_help_panel=_RUN,
    ),
]
CandidateTimeout = Annotated[
    float | None,
    typer.Option(
        "--candidate-timeout",
        help="Set a candidate aside that takes longer to make; no limit by default.",
        metavar="SECONDS",
        rich_help_panel=_RUN,
    ),
]

Keep = Annotated[
    int | None,
    typer.Option(
        "--keep",
        help="When the run is done, remove the files of all but its K best; ranking.json still lists them.",
        metavar="K",
        rich_help_panel=_RUN,
    ),
]

Csv = Annotated[
    Path | None,
    typer.Option(
        "--csv", help="File for the same as a table: a line for each file.", metavar="FILE", rich_help_panel=_OUTPUT
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print exactly the JSON document to standard output.", rich_help_panel=_OUTPUT),
]
Report = Annotated[
    bool,
    typer.Option("--report", help="Write a page to read and hear, too: DIR/report.html.", rich_help_panel=_OUTPUT),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say what is done, one line per phase.", rich_help_panel=_OUTPUT)
]
Files = Annotated[
    list[str],
    typer.Argument(
        help="Audio files (WAV, FLAC, MP3, OGG), folders of them, or manifests: .csv or .jsonl files with path, and "
        "prompt, lyrics, reference where each file has its own.",
        metavar="FILE",
    ),
]
MaxDuration = Annotated[
    float,
    typer.Option(
        "--max-duration",
        help="What is longer is not read; in seconds.",
        metavar="S",
    ),
]
RunName = Annotated[str, typer.Argument(help="Folder of a run.", metavar="RUN")]


def output(help: str) -> typer.models.OptionInfo:
    """Return the option for the folder of a run, which each command explains in its own way."""
    info: typer.models.OptionInfo = typer.Option("--output", "-o", help=help, metavar="DIR", rich_help_panel=_RUN)
    return info
