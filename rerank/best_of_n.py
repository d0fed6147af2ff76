"""The verb: make N candidates for a prompt, and rank them.

**Conventions**: candidate i of a run has seed `seed + i` and depends on nothing but the prompt, its seed, the duration
and the generator's options, so a run of 3 is the beginning of a run of 10. Durations in seconds.

**Source**: best-of-n as rejection sampling: Nakano et al. 2021, arXiv:2112.09332.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from rerank.audio import AudioLike
from rerank.data import Prompt, check_whole, is_number
from rerank.errors import GenerationFailed, InvalidInput, RerankError, one_line
from rerank.filters import Filters
from rerank.protocols import Generator, GeneratorInfo, Reading, ReadsPrompts
from rerank.ranking import Ranking
from rerank.registry import known_info, load, name_of, resolve
from rerank.request import MAX_CANDIDATES, Request
from rerank.rules import Rule
from rerank.run_folder import RunFolder, opened, remove_takes
from rerank.runs import making
from rerank.runs.events import EventCallback, drained
from rerank.runs.panel import Panel, RewardChoice, check_known_axes, load_rewards, resolve_rewards
from rerank.runs.provenance import settings_of
from rerank.runs.reporting import ProgressCallback
from rerank.runs.resuming import check_same, intact
from rerank.runs.stopping import Stop
from rerank.runs.stored import from_document
from rerank.runs.stream import Run

_MAX_SEED = 2**63 - 1 - MAX_CANDIDATES  # the largest seeds that 64-bit random number generators take


def generate(
    prompt: str | Prompt,
    n: int = 10,
    *,
    top_k: int | None = None,
    lyrics: str | None = None,
    reference: AudioLike | None = None,
    duration: float = 10.0,
    seed: int = 0,
    generator: str | Path | Generator = "auto",
    reward: RewardChoice = "auto",
    weights: Mapping[str, float] | None = None,
    rule: Rule | None = None,
    filters: Filters | None = None,
    device: str = "auto",
    output: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    keep: int | None = None,
    candidate_timeout: float | None = None,
    stop: Callable[[], bool] | None = None,
    on_progress: ProgressCallback | None = None,
    on_event: EventCallback | None = None,
) -> Ranking:
    """Make `n` candidates for a prompt and rank them.

    Ctrl-C stops generating, and so do `stop` and a callback that raises KeyboardInterrupt, once or again and again: what
    is finished is scored, for at most a second, ranked and returned with the status "interrupted"; those that have no
    reward by then are set aside. Without one finished candidate KeyboardInterrupt is raised; a `stop` gives an empty ranking.

    With an `output` the run is stored from its first moment, and nothing of it stays in memory. A run that was stopped,
    that failed, or whose process was killed is gone on with by `resume`. Where `output` holds an earlier run and
    `overwrite` is given, a new one is in the subfolder `unfinished` until it is complete; only then does it take the
    place of the earlier one.

    Args:
        prompt: text, or a `Prompt` with all its parts.
        n: how many candidates to make, 1 to 1,024.
        top_k: how many of the best the ranking gives back, 1 to `n`; all by default.
        lyrics: to be sung.
        reference: audio to follow, at most 600 s.
        duration: of each candidate, in seconds; the generator says what it can make.
        seed: of candidate 0; candidate i has `seed + i`.
        generator: a name that `rerank models` lists, a folder of weights, "auto", or a loaded generator.
        reward: a name that `rerank models` lists, a folder of weights, "auto", a loaded reward model, or a list of these.
        weights: axis -> weight in the combined reward; those of the reward model by default, 0 for an axis not named.
        rule: "mean", "zscore" or "rank" (see `rerank.rules`); by default "mean" for one reward model, "zscore" for more.
        filters: what sets a candidate aside; `Filters()` by default.
        device: for generator and reward given by name, where they take one: "auto", "cpu", "cuda".
        output: a folder for the run: `ranking.json` and `candidates/`.
        overwrite: whether `output` may replace a run.
        resume: whether the run in `output` goes on, where there is one: what is there is checked and not made again, and
            a larger `n` makes it longer. All else must be as it was.
        keep: how many of the best keep their files when the run is done; all by default.
        candidate_timeout: seconds that the generator has for each candidate; no limit by default. One that takes longer
            is stopped at its next report of progress and set aside; one that never reports cannot be stopped.
        stop: asked often, also while a batch is made; a true answer stops the run.
        on_progress: called often, from the calling thread.
        on_event: called with each event of the run (see `rerank.runs.stream`), from the calling thread.

    Raises:
        InvalidInput: an option or the prompt cannot be used, or the run in `output` is another one; nothing was made.
        GenerationFailed: the generator failed on every candidate.
        RewardFailed: the reward model failed on every candidate.
        OutputError: `output` cannot be written; what was written before stays.
    """
    request = Request.checked(n, top_k, weights, rule, filters, device)
    check_whole("seed", seed, 0, _MAX_SEED)
    _check_folder_options(output, overwrite, resume, keep, n)
    if candidate_timeout is not None and not (is_number(candidate_timeout) and candidate_timeout > 0):
        raise InvalidInput(
            f"candidate_timeout must be seconds above 0, or None for no limit, got {candidate_timeout!r:.40}"
        )
    whole = Prompt.of("" if prompt is None else prompt, lyrics, reference)
    with opened(output, overwrite=overwrite, resume=resume, made_from=[whole.reference]) as folder:
        # all that can be known before anything is loaded, which may take long
        chosen = resolve("generator", generator)
        known = known_info("generator", chosen)
        if isinstance(known, GeneratorInfo):
            _check_duration(duration, known)
        rewards = resolve_rewards(reward, name_of(chosen))
        check_known_axes(request, rewards, whole)
        stored = from_document(folder.earlier, folder.path) if folder and folder.earlier is not None else None
        source = cast(Generator, load("generator", chosen, {}, offered=request.offered))
        _check_duration(duration, source.info)
        followed = _followed(whole, source.info)
        reading = _reading(source, followed)
        panel = Panel(load_rewards(rewards, request), made_by=source.info.name)
        settings = settings_of(
            request,
            panel,
            whole,
            stored,
            source.info,
            float(duration),
            int(seed),
            made_by=source.info.name,
            reading=reading,
        )
        if stored is not None:
            check_same(stored, whole, settings)
        earlier = intact(stored) if stored is not None else {}
        missing = [index for index in range(settings.n) if index not in earlier]
        run = Run(
            whole,
            settings,
            panel,
            Filters.of(settings.filters),
            folder=folder,
            known=earlier,
            heard_before=not missing,
            stop=Stop(stop),
            on_progress=on_progress,
        )
        made = making.candidates(source, followed, int(seed), missing, float(duration), run.report, candidate_timeout)
        ranking = drained(run.stream(made, float(duration)), on_event, run.stop)
        return _thinned(ranking, keep, folder)


def _check_folder_options(output: object, overwrite: bool, resume: bool, keep: int | None, n: int) -> None:
    if keep is not None:
        check_whole("keep", keep, 1, n)
    for name, given in (("resume", resume), ("keep", keep is not None)):
        if given and output is None:
            raise InvalidInput(f"{name} needs an output: the folder of the run")
    if resume and overwrite:
        raise InvalidInput("resume goes on with a run and overwrite replaces it; give one of them")


def _followed(prompt: Prompt, info: GeneratorInfo) -> Prompt:
    """Return the parts of the prompt that the generator follows."""
    left = [part for part in prompt.conditions() if part in info.conditions]
    if not prompt.conditions():
        raise InvalidInput("the prompt is empty; give it a text, lyrics or a reference")
    if not left:
        raise InvalidInput(
            f"generator {info.name!r} follows only {', '.join(sorted(info.conditions))}, and the prompt has only "
            f"{', '.join(prompt.conditions())}; add one of the former"
        )
    return Prompt(
        prompt.text if "text" in left else "",
        prompt.lyrics if "lyrics" in left else None,
        prompt.reference if "reference" in left else None,
    )


def _reading(source: Generator, prompt: Prompt) -> Reading | None:
    """Return what the generator understands of a prompt, if it tells.

    Raises:
        GenerationFailed: it fails on that.
    """
    if not isinstance(source, ReadsPrompts):
        return None
    try:
        return source.reading(prompt)
    except RerankError:
        raise
    # a generator is anybody's code
    except (Exception, SystemExit) as error:
        raise GenerationFailed(f"generator {source.info.name!r} cannot read the prompt: {one_line(error)}") from error


def _check_duration(duration: object, info: GeneratorInfo) -> None:
    if not is_number(duration) or not info.min_duration <= duration <= info.max_duration:
        raise InvalidInput(
            f"duration must be {info.min_duration:g} to {info.max_duration:g} s for generator {info.name!r}, "
            f"got {duration!r:.40}"
        )


def _thinned(ranking: Ranking, keep: int | None, folder: RunFolder | None) -> Ranking:
    """Remove the files of all but the best `keep` of a run that is done; the document still lists them."""
    if keep is None or folder is None or ranking.status != "done":
        return ranking
    candidates = remove_takes(
        folder,
        ranking.candidates,
        [one for one in ranking.candidates if one.rank is None or one.rank > keep],
        lambda left: replace(ranking, candidates=tuple(left)).to_dict(folder.place),
    )
    return replace(ranking, candidates=tuple(candidates))
