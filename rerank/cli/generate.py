"""`rerank generate`."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import rerank
from rerank.cli import choices, options
from rerank.cli.console import progress_bar, say, start_logging
from rerank.cli.finish import finish, finish_many
from rerank.cli.options import (
    CandidateTimeout,
    Count,
    Device,
    Duration,
    Floors,
    GeneratorName,
    GeneratorOptions,
    Json,
    Keep,
    Lyrics,
    LyricsFile,
    Overwrite,
    Prompts,
    Reference,
    Report,
    Resume,
    RewardCache,
    RewardNames,
    RewardOptions,
    RewardPath,
    RuleName,
    Seed,
    Thresholds,
    TopK,
    Verbose,
    Weights,
)
from rerank.errors import RerankError

if TYPE_CHECKING:
    from rerank.data import Prompt
    from rerank.manifest import PromptEntry
    from rerank.ranking import Ranking
    from rerank.runs.many import Outcomes

_RUNS = Path("rerank-runs")  # where a run goes that was given no folder


def generate(
    prompt: Annotated[
        str,
        typer.Argument(
            help="What the music should be, in English. One that begins with a dash comes last, after two: -- '-5 dB'.",
            metavar="PROMPT",
        ),
    ] = "",
    lyrics: Lyrics = None,
    lyrics_file: LyricsFile = None,
    reference: Reference = None,
    prompts: Prompts = None,
    n: Count = 10,
    duration: Duration = 10.0,
    seed: Seed = 0,
    generator: GeneratorName = "auto",
    generator_option: GeneratorOptions = None,
    reward: RewardNames = None,
    reward_path: RewardPath = None,
    reward_cache: RewardCache = None,
    reward_option: RewardOptions = None,
    device: Device = "auto",
    weight: Weights = None,
    rule: RuleName = None,
    filter_: Thresholds = None,
    floor: Floors = None,
    top_k: TopK = None,
    output: Annotated[str | None, options.output("Folder for the run; a new one in rerank-runs by default.")] = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    keep: Keep = None,
    candidate_timeout: CandidateTimeout = None,
    report: Report = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Make N candidates for PROMPT and rank them.

    Writes DIR/ranking.json and DIR/candidates/ from the first candidate on.
    Ctrl-C stops early and ranks what is finished; --resume goes on.
    """
    start_logging(verbose)
    for option, given in (("--overwrite", overwrite), ("--resume", resume), ("--prompts", prompts is not None)):
        if given and output is None:
            raise typer.BadParameter(f"{option} needs -o DIR: a run without it always gets a new folder")
    if prompts is not None and any((prompt, lyrics, lyrics_file, reference)):
        raise typer.BadParameter("give a prompt and its parts, or --prompts FILE, not both")
    chosen: dict[str, Any] = {
        "generator": choices.generator(generator, generator_option),
        "reward": choices.rewards(reward, reward_path, reward_cache, reward_option),
        "weights": choices.weights(weight),
        "rule": rule,
        "filters": choices.filters(filter_, floor),
        "device": device,
        "n": n,
        "duration": duration,
        "seed": seed,
        "top_k": top_k,
        "overwrite": overwrite,
        "resume": resume,
        "keep": keep,
        "candidate_timeout": candidate_timeout,
    }
    if prompts is not None:
        finish_many(_generate_each(prompts, chosen, str(output)), output, as_json, report=report)
        return
    words = choices.lyrics(lyrics, lyrics_file)
    with _folder(output, prompt, seed) as folder, progress_bar() as on_progress:
        ranking = rerank.generate(
            prompt, lyrics=words, reference=reference, output=folder, on_progress=on_progress, **chosen
        )
    if as_json and output is None:
        say(f"written to {folder}")
    finish(ranking, folder, as_json, report=report)


def _generate_each(prompts: Path, chosen: dict[str, Any], output: str) -> "Outcomes":
    """Make and rank the candidates for each prompt of a file; what is loaded is loaded once."""
    from rerank import manifest
    from rerank.protocols import Progress
    from rerank.runs.many import for_each, loaded_once

    entries = manifest.prompts(prompts)
    with progress_bar() as on_progress:

        def generate_one(prompt: "Prompt", entry: "PromptEntry", folder: Path | None) -> "Ranking":
            chosen["generator"] = loaded_once("generator", chosen["generator"], chosen["device"])
            chosen["reward"] = loaded_once("reward", chosen["reward"], chosen["device"], chosen["generator"].info.name)
            return rerank.generate(prompt, output=folder, on_progress=on_progress, **chosen)

        def show(done: int) -> None:
            if on_progress is not None:
                on_progress(Progress("prompts", done, len(entries)))

        show(0)
        again = chosen["overwrite"] or chosen["resume"]
        return for_each(entries, generate_one, output, again=again, on_progress=show)


@contextlib.contextmanager
def _folder(output: str | None, prompt: str, seed: int) -> Iterator[str]:
    """Give the folder of the run; where the user named none, a new one, named after the prompt and the seed.

    A run that fails, and got as far as that folder, says where it is.
    """
    from rerank.run_folder import new_folder

    if output is not None:
        yield output
        return
    slug = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-")[:40].rstrip("-") or "run"
    with new_folder(_RUNS, f"{slug}-seed{seed}") as folder:
        try:
            yield str(folder)
        except (RerankError, KeyboardInterrupt):
            if os.path.exists(folder / "ranking.json"):
                say(f"written to {folder}")
            raise
