"""The options that several commands share, and what their text stands for."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from rerank.errors import InvalidInput

if TYPE_CHECKING:
    from rerank.filters import Filters
    from rerank.protocols import Reward

_MAX_LYRICS_BYTES = 64 * 1024  # more than the longest lyrics take

Lyrics = Annotated[str | None, typer.Option(help="Lyrics to be sung.", metavar="TEXT")]
LyricsFile = Annotated[Path | None, typer.Option(help="Text file (UTF-8) with the lyrics.", metavar="FILE")]
Reference = Annotated[
    Path | None, typer.Option(help="Audio to follow: WAV, FLAC, MP3 or OGG, at most 600 s.", metavar="FILE")
]
TopK = Annotated[int | None, typer.Option(help="How many of the best to show; all by default.", metavar="K")]
RewardName = Annotated[
    str, typer.Option("--reward", help="Of `rerank models`, or a folder of weights.", metavar="NAME")
]
RewardPath = Annotated[
    Path | None, typer.Option("--reward-path", help="Folder of its weights, where it takes one.", metavar="DIR")
]
RewardCache = Annotated[
    Path | None,
    typer.Option(
        "--reward-cache", help="Folder that keeps encoded audio for later runs (not cmi-mini).", metavar="DIR"
    ),
]
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


def weights(values: Sequence[str] | None) -> dict[str, float] | None:
    """Return what `--weight` says; None where it is not given."""
    return {axis: _number(value, f"--weight {axis}") for axis, value in _pairs("--weight", values)} or None


def filters(thresholds: Sequence[str] | None, floors: Sequence[str] | None) -> "Filters":
    """Return what `--filter` and `--floor` say."""
    from rerank.filters import Filters

    return Filters.named(
        {
            name: None if value.lower() == "off" else _number(value, f"--filter {name}")
            for name, value in _pairs("--filter", thresholds)
        },
        {axis: _number(value, f"--floor {axis}") for axis, value in _pairs("--floor", floors)},
    )


_PAIRS = {
    "--weight": "AXIS=NUMBER, such as musicality=1",
    "--floor": "AXIS=NUMBER, such as musicality=1",
    "--filter": "NAME=NUMBER or NAME=off, such as silent=-50",
}


def _pairs(option: str, values: Sequence[str] | None) -> list[tuple[str, str]]:
    pairs: dict[str, str] = {}
    for value in values or ():
        name, equals, number = value.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{option} {value!r} must be {_PAIRS[option]}")
        if name in pairs:
            raise typer.BadParameter(f"{option} {name} is given twice, as {pairs[name]} and {number}; give it once")
        pairs[name] = number
    return list(pairs.items())


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option}={text!r} must be a number") from error


def lyrics(text: str | None, file: Path | None) -> str | None:
    """Return the lyrics that `--lyrics` or `--lyrics-file` gives; None where neither is given."""
    if text is not None and file is not None:
        raise typer.BadParameter("give --lyrics or --lyrics-file, not both")
    if file is None:
        return text
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_LYRICS_BYTES + 1)
        if len(content) > _MAX_LYRICS_BYTES:
            raise InvalidInput(f"lyrics file {file} is larger than {_MAX_LYRICS_BYTES // 1024} KiB; shorten it")
        found = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"cannot read lyrics from {file}: it is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise InvalidInput(f"cannot read lyrics from {file}: {(error.strerror or str(error)).lower()}") from error
    if not found.strip():
        raise InvalidInput(f"lyrics file {file} is empty; write the lyrics into it, or leave --lyrics-file out")
    return found


def reward(name: str, path: Path | None, cache: Path | None) -> "str | Reward":
    """Return what `--reward` names, with the weights of `--reward-path` and a cache; it is loaded when it is needed."""
    from rerank.registry import Choice

    given = {"path": path, "cache": cache}
    options = {option: value for option, value in given.items() if value is not None}
    return cast("Reward", Choice(name, options)) if options else name
