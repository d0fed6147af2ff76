"""`rerank rank`: audio made elsewhere, and runs that are ranked again."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import rerank
from rerank.cli import choices, options
from rerank.cli.console import INTERRUPTED, progress_bar, say, start_logging
from rerank.cli.csv_file import check_csv
from rerank.cli.finish import finish, finish_many
from rerank.cli.options import (
    Csv,
    Device,
    Files,
    Floors,
    Json,
    Lyrics,
    LyricsFile,
    MaxDuration,
    Overwrite,
    PromptText,
    Reference,
    Report,
    RewardCache,
    RewardNames,
    RewardOptions,
    RewardPath,
    RuleName,
    Thresholds,
    TopK,
    Verbose,
    Weights,
)

if TYPE_CHECKING:
    from rerank.data import Prompt
    from rerank.manifest import PromptParts, Take
    from rerank.ranking import Ranking
    from rerank.runs.many import Outcomes


def rank(
    files: Files,
    prompt: PromptText = None,
    lyrics: Lyrics = None,
    lyrics_file: LyricsFile = None,
    reference: Reference = None,
    reward: RewardNames = None,
    reward_path: RewardPath = None,
    reward_cache: RewardCache = None,
    reward_option: RewardOptions = None,
    device: Device = "auto",
    max_duration: MaxDuration = 1_200.0,
    weight: Weights = None,
    rule: RuleName = None,
    filter_: Thresholds = None,
    floor: Floors = None,
    top_k: TopK = None,
    output: Annotated[str | None, options.output("Folder to write the run to; none by default.")] = None,
    overwrite: Overwrite = False,
    csv: Csv = None,
    report: Report = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Rank audio made elsewhere, for a prompt or as it is, or a run again.

    FILE may be the folder of a run: it is ranked again for its own prompt, and
    its ranking.json replaced when all is done, or DIR gets a copy. Under other
    weights or another rule nothing is scored again; --reward adds axes to it.

    Where a manifest gives several prompts, each has a ranking of its own.
    Files that are missing or cannot be read are named at the end; the exit
    status is then 1.
    """
    from rerank.manifest import by_prompt, takes

    start_logging(verbose)
    if overwrite and output is None and csv is None:
        raise typer.BadParameter("--overwrite needs -o DIR or --csv FILE: nothing else is written")
    check_csv(csv, overwrite)
    run = choices.folder_of(files[0])
    is_run = len(files) == 1 and os.path.isfile(os.path.join(run, "ranking.json"))
    default = None if is_run else "auto"
    place = run if is_run and output is None else output
    if report and place is None:
        raise typer.BadParameter("--report needs -o DIR: the page belongs to a run")
    chosen: dict[str, Any] = {
        "reward": choices.rewards(reward, reward_path, reward_cache, reward_option, default=default),
        "weights": choices.weights(weight),
        "rule": rule,
        "filters": choices.filters(filter_, floor),
        "device": device,
        "max_duration": max_duration,
        "top_k": top_k,
        "overwrite": overwrite,
    }
    parts = choices.prompt(prompt, choices.lyrics(lyrics, lyrics_file), reference)
    groups = {} if is_run else by_prompt(takes(files), parts)
    if len(groups) > 1:
        finish_many(_rank_each(groups, chosen, output), output, as_json, csv, report=report)
        return
    asked, audio = (
        (parts, run) if is_run else next((one, [take.path for take in found]) for one, found in groups.items())
    )
    try:
        with progress_bar() as on_progress:
            ranking = rerank.rank(audio, choices.read(asked), output=place, on_progress=on_progress, **chosen)
    except KeyboardInterrupt as error:
        if not is_run:
            raise
        gained = ", and rewards that are new" if output is None else ""
        say(f"error: interrupted; {run} keeps the ranking that it had{gained}")
        raise typer.Exit(INTERRUPTED) from error
    finish(ranking, place, as_json, csv, report=report, again=is_run)


def _rank_each(groups: "dict[PromptParts, list[Take]]", chosen: dict[str, Any], output: str | None) -> "Outcomes":
    """Rank the takes of each prompt by themselves."""
    from rerank.manifest import PromptEntry
    from rerank.runs.many import for_each, loaded_once
    from rerank.takes import maker_of

    entries = {PromptEntry(f"{number:03}", parts): found for number, (parts, found) in enumerate(groups.items(), 1)}
    made_by = maker_of(take.path for found in groups.values() for take in found)
    with progress_bar() as on_progress:

        def rank_one(prompt: "Prompt", entry: PromptEntry, folder: Path | None) -> "Ranking":
            chosen["reward"] = loaded_once("reward", chosen["reward"], chosen["device"], made_by)
            audio = [take.path for take in entries[entry]]
            top_k = chosen["top_k"] and min(chosen["top_k"], len(audio))
            return rerank.rank(audio, prompt, output=folder, on_progress=on_progress, **{**chosen, "top_k": top_k})

        return for_each(list(entries), rank_one, output, again=chosen["overwrite"])
