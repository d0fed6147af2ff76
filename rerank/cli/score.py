"""`rerank score`: rewards, and nothing else."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rerank.cli import choices
from rerank.cli.console import INTERRUPTED, print_document, progress_bar, say, start_logging
from rerank.cli.csv_file import check_csv, write_csv
from rerank.cli.options import (
    Csv,
    Device,
    Files,
    Json,
    Lyrics,
    LyricsFile,
    MaxDuration,
    OverwriteCsv,
    PromptText,
    Reference,
    RewardCache,
    RewardNames,
    RewardOptions,
    RewardPath,
    Verbose,
)
from rerank.cli.tables import print_meanings, print_scores
from rerank.errors import RerankError

if TYPE_CHECKING:
    from rerank.manifest import PromptParts, Take
    from rerank.protocols import Progress
    from rerank.runs.panel import Panel
    from rerank.scoring import Rewards


def score(
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
    csv: Csv = None,
    overwrite: OverwriteCsv = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Print the rewards of audio, without ranking or filtering.

    An axis that needs a prompt is empty where none is given.

    Files that have no rewards, or are missing, are named at the end; the exit
    status is then 1.
    """
    from rerank.manifest import by_prompt, takes

    start_logging(verbose)
    check_csv(csv, overwrite)
    found = takes(files)
    chosen = choices.rewards(reward, reward_path, reward_cache, reward_option)
    groups = by_prompt(found, choices.prompt(prompt, choices.lyrics(lyrics, lyrics_file), reference))
    results: dict[Take, Rewards | RerankError] = {}
    panels: list[Panel] = []
    interrupted = False
    try:
        with progress_bar() as on_progress:
            for take, result in _scored(groups, chosen, device, max_duration, on_progress, panels.append):
                results[take] = result
    except KeyboardInterrupt:
        if not results:
            raise
        interrupted = True
    _print([(str(take.path), results[take]) for take in found if take in results], csv, as_json)
    if panels and not as_json:
        print_meanings(panels[0].scales([one for one in results.values() if isinstance(one, dict)]))
    missing = [take for take in found if not isinstance(results.get(take), dict)]
    if missing:
        reason = "interrupted: " if interrupted else ""
        say(f"error: {reason}{len(missing)} of {len(found)} files have no rewards")
        raise typer.Exit(INTERRUPTED if interrupted else 1)


def _scored(
    groups: "Mapping[PromptParts, Sequence[Take]]",
    reward: Any,
    device: str,
    max_duration: float,
    on_progress: "Callable[[Progress], None] | None",
    on_loaded: "Callable[[Panel], None]",
) -> "Iterator[tuple[Take, Rewards | RerankError]]":
    """Yield the rewards of each take, or why it has none, prompt by prompt; what is loaded is loaded once."""
    from rerank.elsewhere import score_each
    from rerank.protocols import Progress
    from rerank.request import MAX_CANDIDATES
    from rerank.runs.many import loaded_once
    from rerank.takes import maker_of

    parts = [
        (prompt, takes[start : start + MAX_CANDIDATES])
        for prompt, takes in groups.items()
        for start in range(0, len(takes), MAX_CANDIDATES)
    ]
    several = len(parts) > 1
    if several:
        reward = loaded_once("reward", reward, device, maker_of(take.path for _, takes in parts for take in takes))
    total, done = sum(len(takes) for _, takes in parts), 0
    for prompt, takes in parts:
        left = list(takes)
        try:
            asked = choices.read(prompt)
            told = None if several else on_progress
            for result in score_each(
                [take.path for take in takes],
                asked,
                reward=reward,
                device=device,
                max_duration=max_duration,
                on_progress=told,
                on_loaded=on_loaded,
            ):
                yield left.pop(0), result
        except RerankError as error:
            if not several:
                raise
            yield from ((take, error) for take in left)
        done += len(takes)
        if several and on_progress is not None:
            on_progress(Progress("rewarding", done, total))


def _print(results: "Sequence[tuple[str, Rewards | RerankError]]", csv: Path | None, as_json: bool) -> None:
    """Print the rewards, then the files that have none and why.

    Raises:
        RerankError: none has any.
    """
    from rerank.run_folder import to_json

    scored = [(path, result) for path, result in results if not isinstance(result, RerankError)]
    faults = [(path, result) for path, result in results if isinstance(result, RerankError)]
    if not scored:
        raise faults[0][1]
    axes = list(scored[0][1])
    entries: list[dict[str, Any]] = [
        {"path": path, "rewards": dict.fromkeys(axes), "error": str(result)}
        if isinstance(result, RerankError)
        else {"path": path, "rewards": result}
        for path, result in results
    ]
    write_csv(csv, [{"path": one["path"], **one["rewards"], "error": one.get("error")} for one in entries])
    if as_json:
        print_document(to_json({"scores": entries}))
    else:
        print_scores([path for path, _ in scored], [rewards for _, rewards in scored])
    for _, error in faults:
        say(f"not scored: {error}")
