"""The verbs: make N candidates and rank them, rank audio made elsewhere, score audio.

**Conventions**: candidate i of a run has seed `seed + i` and depends on nothing but the prompt, its seed, the duration
and the generator's options, so a run of 3 is the beginning of a run of 10. Durations in seconds.

**Source**: best-of-n as rejection sampling: Nakano et al. 2021, arXiv:2112.09332.
"""

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast, overload

from rerank import __version__, making
from rerank.audio import Audio, AudioLike, as_audio, inspect
from rerank.data import Candidate, Prompt, check_whole, is_number
from rerank.errors import InvalidInput, RerankError, RewardFailed, UnreadableAudio
from rerank.events import Ended, Event, EventCallback
from rerank.filters import Filters
from rerank.panel import Panel
from rerank.protocols import Generator, GeneratorInfo, Reward, RewardInfo
from rerank.ranking import Ranking, Settings
from rerank.registry import Choice, known_info, load, resolve
from rerank.reporting import ProgressCallback, Reporter
from rerank.request import MAX_CANDIDATES, Request
from rerank.resuming import check_same, intact
from rerank.rules import Rule, normalise_weights
from rerank.run import Run
from rerank.run_folder import RunFolder, remove_takes
from rerank.scoring import Rewards, not_finite
from rerank.stopping import Stop
from rerank.stored import from_document
from rerank.stored import load as load_run

_MAX_SEED = 2**63 - 1 - MAX_CANDIDATES  # the largest seeds that 64-bit random number generators take

_LIBRARIES = ("torch", "transformers", "numpy")

logger = logging.getLogger("rerank")

RewardChoice = str | Path | Reward | Sequence[str | Path | Reward]


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
    stop: Callable[[], bool] | None = None,
    on_progress: ProgressCallback | None = None,
    on_event: EventCallback | None = None,
) -> Ranking:
    """Make `n` candidates for a prompt and rank them.

    Ctrl-C stops generating, and so do `stop` and a callback that raises KeyboardInterrupt, once or again and again: what
    is finished is scored, for at most a second, ranked and returned with the status "interrupted"; those that have no
    reward by then are set aside. Without one finished candidate KeyboardInterrupt is raised.

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
        stop: asked often, also while a batch is made; a true answer stops the run.
        on_progress: called often, from the calling thread.
        on_event: called with each event of the run (see `rerank.run`), from the calling thread.

    Raises:
        InvalidInput: an option or the prompt cannot be used, or the run in `output` is another one; nothing was made.
        GenerationFailed: the generator failed on every candidate.
        RewardFailed: the reward model failed on every candidate.
        OutputError: `output` cannot be written; what was written before stays.
    """
    request = Request.checked(n, top_k, weights, rule, filters, device)
    check_whole("seed", seed, 0, _MAX_SEED)
    _check_folder_options(output, overwrite, resume, keep, n)
    whole = Prompt.of(prompt, lyrics, reference)
    with _opened(output, overwrite, resume, [whole.reference]) as folder:
        # all that can be known before anything is loaded, which may take long
        chosen = resolve("generator", generator)
        known = known_info("generator", chosen)
        if isinstance(known, GeneratorInfo):
            _check_duration(duration, known)
        rewards = _resolved(reward)
        _check_axes(request, rewards)
        stored = from_document(folder.earlier, folder.path) if folder and folder.earlier is not None else None
        source = cast(Generator, load("generator", chosen, {}, offered=request.offered))
        _check_duration(duration, source.info)
        followed = _followed(whole, source.info)
        panel = Panel(_loaded(rewards, request))
        settings = _settings(request, panel, whole, stored, source.info, float(duration), int(seed))
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
        made = making.candidates(source, followed, int(seed), missing, float(duration), run.report)
        ranking = _drained(run.stream(made, float(duration)), on_event)
        return _thinned(ranking, keep, folder)


def rank(
    audio: Sequence[AudioLike] | Ranking | str | Path,
    prompt: str | Prompt | None = None,
    *,
    top_k: int | None = None,
    lyrics: str | None = None,
    reference: AudioLike | None = None,
    reward: RewardChoice | None = None,
    weights: Mapping[str, float] | None = None,
    rule: Rule | None = None,
    filters: Filters | None = None,
    device: str = "auto",
    output: str | Path | None = None,
    overwrite: bool = False,
    stop: Callable[[], bool] | None = None,
    on_progress: ProgressCallback | None = None,
    on_event: EventCallback | None = None,
) -> Ranking:
    """Rank audio made elsewhere for a prompt, or rank a run again.

    The options are those of `generate`. Candidate i is `audio[i]`; it has no seed. A file that cannot be read is set
    aside; so is what a filter minds.

    A run, as a `Ranking` or its folder, is ranked again for its own prompt: under other weights, filters or another rule
    nothing is scored again, and another reward model adds its axes to those that are known. With its own folder as
    `output` its document is replaced, when all is done; until then it stays as it is, but for rewards that are new.

    Args:
        audio: 1 to 1,024 pieces, each a path, an `Audio` or `(waveform, sample_rate)`; or a `Ranking`; or the folder of
            a run.
        prompt: text, or a `Prompt` with all its parts; none for a run.

    Raises:
        InvalidInput: an option or the prompt cannot be used, or a piece is no audio at all.
        UnreadableAudio: not one piece can be read.
        RewardFailed: the reward model failed on every candidate.
        OutputError: `output` cannot be written; what was written before stays.
    """
    stored = _as_run(audio)
    if stored is not None:
        return _rank_again(
            stored,
            Request.checked(stored.settings.n, top_k, weights, rule, filters, device),
            {"prompt": prompt, "lyrics": lyrics, "reference": reference},
            reward,
            output,
            overwrite,
            Stop(stop),
            on_progress,
            on_event,
        )
    pieces = _several(audio)
    check_whole("the number of audio files", len(pieces), 1, MAX_CANDIDATES)
    request = Request.checked(len(pieces), top_k, weights, rule, filters, device)
    whole = Prompt.of("" if prompt is None else prompt, lyrics, reference)
    with _opened(output, overwrite, False, [*pieces, whole.reference]) as folder:
        rewards = _resolved("auto" if reward is None else reward)
        _check_axes(request, rewards)
        heard = [_piece(index, piece, stored=folder is not None) for index, piece in enumerate(pieces)]
        if all(candidate.audio is None for candidate in heard):
            raise UnreadableAudio((heard[0].set_aside or "").removeprefix("cannot be read: "))
        panel = Panel(_loaded(rewards, request))
        settings = _settings(request, panel, whole, None)
        run = Run(
            whole,
            settings,
            panel,
            Filters.of(settings.filters),
            folder=folder,
            stop=Stop(stop),
            on_progress=on_progress,
        )
        return _drained(run.stream(heard), on_event)


@overload
def score(
    audio: AudioLike,
    prompt: str | Prompt,
    *,
    lyrics: str | None = None,
    reference: AudioLike | None = None,
    reward: RewardChoice = "auto",
    device: str = "auto",
    on_progress: ProgressCallback | None = None,
) -> dict[str, float | None]: ...
@overload
def score(
    audio: list[AudioLike] | list[str] | list[Path] | list[Audio],
    prompt: str | Prompt,
    *,
    lyrics: str | None = None,
    reference: AudioLike | None = None,
    reward: RewardChoice = "auto",
    device: str = "auto",
    on_progress: ProgressCallback | None = None,
) -> list[dict[str, float | None]]: ...
def score(
    audio: Any,
    prompt: str | Prompt,
    *,
    lyrics: str | None = None,
    reference: AudioLike | None = None,
    reward: RewardChoice = "auto",
    device: str = "auto",
    on_progress: ProgressCallback | None = None,
) -> dict[str, float | None] | list[dict[str, float | None]]:
    """Return the rewards of a piece of audio by axis; for a list of pieces, a list of them in the same order.

    The options are those of `generate`. No filter looks at the audio. Of a list, a piece that cannot be read or scored
    has None on every axis, and a warning says why; `score_each` gives the reasons.

    Raises:
        InvalidInput: an option, the prompt or a piece of audio cannot be used.
        UnreadableAudio: not one piece can be read.
        RewardFailed: not one piece can be scored: a reward is not finite, or is no reward.
    """
    pieces = audio if isinstance(audio, list) else [audio]
    results = list(
        score_each(
            pieces, prompt, lyrics=lyrics, reference=reference, reward=reward, device=device, on_progress=on_progress
        )
    )
    faults = [result for result in results if isinstance(result, RerankError)]
    if len(faults) == len(results):
        raise faults[0]
    axes = next(list(result) for result in results if not isinstance(result, RerankError))
    scores: list[dict[str, float | None]] = []
    for result in results:
        if isinstance(result, RerankError):
            logger.warning("not scored: %s", result)
            result = dict.fromkeys(axes)
        scores.append(result)
    return scores if isinstance(audio, list) else scores[0]


def score_each(
    audio: Sequence[AudioLike],
    prompt: str | Prompt,
    *,
    lyrics: str | None = None,
    reference: AudioLike | None = None,
    reward: RewardChoice = "auto",
    device: str = "auto",
    on_progress: ProgressCallback | None = None,
) -> Iterator[Rewards | RerankError]:
    """Yield for each piece, in order, its rewards by axis, or the error that says why it has none.

    The options are those of `score`; as there is one piece in memory at a time, or a batch, there may be many.

    Raises:
        InvalidInput: an option or the prompt cannot be used.
        RewardFailed: a reward model cannot read the prompt, or breaks its protocol.
    """
    check_whole("the number of audio files", len(audio), 1, MAX_CANDIDATES)
    request = Request.checked(len(audio), None, None, None, None, device)
    whole = Prompt.of(prompt, lyrics, reference)
    if len(audio) == 1:
        as_audio(audio[0])  # before anything is loaded
    panel = Panel(_loaded(_resolved(reward), request))
    asked = panel.asked_with(whole)
    report = Reporter(on_progress, Stop(), len(audio))
    report.begin("rewarding")
    for start in range(0, len(audio), panel.batch_size):
        heard = [_readable(piece) for piece in audio[start : start + panel.batch_size]]
        pieces = [piece for piece in heard if isinstance(piece, Audio)]
        answers = asked(pieces, [{} for _ in pieces]) if pieces else iter(())
        for place, piece in enumerate(heard, start=start + 1):
            result: Rewards | RerankError
            if isinstance(piece, Audio):
                rewards, faults = next(answers)
                fault = next(iter(faults.values())) if faults else not_finite(rewards)
                told = f"reward model {panel.name!r} on {piece}: {fault}; report it to its authors"
                result = RewardFailed(told) if fault else rewards
            else:
                result = piece
            report.finished("rewarding", place)
            yield result


def _readable(piece: AudioLike) -> Audio | RerankError:
    try:
        return as_audio(piece).loaded()
    except RerankError as error:
        return error


def _drained(events: Iterator[Event], on_event: EventCallback | None) -> Ranking:
    """Take all events of a run and return its ranking."""
    with contextlib.closing(cast(Any, events)):
        for event in events:
            if on_event is not None:
                on_event(event)
            if isinstance(event, Ended):
                return event.ranking
    raise AssertionError("a run ends with an Ended event")


def _rank_again(
    stored: Ranking,
    request: Request,
    parts: Mapping[str, object],
    reward: RewardChoice | None,
    output: str | Path | None,
    overwrite: bool,
    stop: Stop,
    on_progress: ProgressCallback | None,
    on_event: EventCallback | None,
) -> Ranking:
    given = [name for name, part in parts.items() if part is not None]
    if given:
        raise InvalidInput(f"a run is ranked again for its own prompt; leave out {', '.join(given)}, or rank its files")
    own = output is not None and any(
        one.path is not None and os.path.realpath(one.path.parent.parent) == os.path.realpath(output)
        for one in stored.candidates
    )
    sources = [one.audio for one in stored.candidates if one.audio] + [stored.prompt.reference]
    with _opened(output, overwrite and not own, own, sources) as folder:
        same_filters = request.filters is None or request.filters.to_dict() == dict(stored.settings.filters)
        chosen = _resolved(reward) if reward is not None else [] if same_filters else _recorded(stored)
        panel = Panel(_loaded(chosen, request), stored.settings)
        settings = _settings(request, panel, stored.prompt, stored)
        before = {axis: weight or 0.0 for axis, weight in panel.named(stored.settings.weights).items()}
        until_done = replace(settings, weights={**dict.fromkeys(panel.axes, 0.0), **before}, rule=stored.settings.rule)
        run = Run(
            stored.prompt,
            settings,
            panel,
            Filters.of(settings.filters),
            folder=folder,
            known={candidate.index: candidate for candidate in stored.candidates},
            heard_before=same_filters,
            # nobody works on a run that this one has claimed
            until_done=(until_done, "interrupted" if stored.status == "running" else stored.status),
            stop=stop,
            on_progress=on_progress,
        )
        return _drained(run.stream((), stored.settings.duration), on_event)


def _recorded(stored: Ranking) -> list[object]:
    """Return the reward models of a run, for candidates that other filters let in; those that have no name are left."""
    if all(one.rewards or one.audio is None for one in stored.candidates):
        return []
    found: list[object] = []
    for record in stored.settings.rewards:
        try:
            found.append(resolve("reward", Choice(record["name"], dict(record.get("options", {})))))
        except RerankError as error:
            logger.warning("%s cannot be asked about candidates that are let in now: %s", record["name"], error)
    return found


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


def _piece(index: int, piece: AudioLike, *, stored: bool) -> Candidate:
    """Return a piece of audio as a candidate, not read yet; one that cannot be read says so."""
    source = piece.path if isinstance(piece, Audio) else Path(piece) if isinstance(piece, str | Path) else None
    try:
        # a piece with NaN is a candidate with a fault, not a mistake of the caller
        audio = inspect(piece) if isinstance(piece, str | Path) else as_audio(piece, finite=False)
    except UnreadableAudio as error:
        return Candidate(index=index, seed=None, audio=None, source=source, set_aside=f"cannot be read: {error}")
    return Candidate(index=index, seed=None, audio=audio, source=source, path=None if stored else source)


def _settings(
    request: Request,
    panel: Panel,
    prompt: Prompt,
    stored: Ranking | None,
    generator: GeneratorInfo | None = None,
    duration: float | None = None,
    seed: int | None = None,
) -> Settings:
    """Return the settings of a run; what the user did not give is as in the stored run, if there is one."""
    was = stored.settings if stored else None
    request.check_axes(panel.axes)
    if request.weights is not None:
        weights = normalise_weights(request.weights, panel.axes)
    elif was is not None and set(panel.named(was.weights)) == set(panel.axes):
        weights = cast(dict[str, float], panel.named(was.weights))
    else:
        weights = panel.default_weights()
    rule = request.rule or (was.rule if was and len(was.rewards) == len(panel.records) else panel.default_rule())
    filters = request.filters_on(panel.axes).to_dict() if request.filters is not None or was is None else was.filters
    facts: dict[str, Any] = {}
    if generator is not None:
        facts = {
            "duration": duration,
            "seed": seed,
            "generator": generator.name,
            "generator_version": generator.version,
            "generator_options": _plain(generator.options, generator.name),
            "generator_device": generator.device,
            "generator_licence": generator.licence,
            "not_followed": tuple(part for part in prompt.conditions() if part not in generator.conditions),
        }
        for part in facts["not_followed"]:
            logger.warning("generator %s does not follow %s: only the reward model gets it", generator.name, part)
    new = Settings(
        n=int(request.n),
        top_k=request.top_k,
        reward=panel.name,
        reward_version=str(panel.records[0].get("version", "")) if len(panel.records) == 1 else "",
        rewards=panel.records,
        reward_licence=panel.licence or (was.reward_licence if was else None),
        weights=weights,
        rule=rule,
        filters=filters,
        not_read=panel.not_read(prompt),
        rerank_version=__version__,
        versions=_versions(),
        **facts,
    )
    for part in new.not_read:
        logger.warning("reward model %s does not read %s", panel.name, part)
    if was is None or generator is not None:
        return new
    kept = ["duration", "seed", "not_followed", "rerank_version", "versions"]
    kept += [name for name in vars(was) if name.startswith("generator")]
    return replace(new, **{name: getattr(was, name) for name in kept})


def _versions() -> dict[str, str]:
    found = {"rerank": __version__}
    for name in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _plain(options: Mapping[str, Any], name: str) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], json.loads(json.dumps(dict(options), allow_nan=False)))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"the options of {name!r} cannot be stored ({error}); its info must hold plain values"
        ) from error


def _check_folder_options(output: object, overwrite: bool, resume: bool, keep: int | None, n: int) -> None:
    if keep is not None:
        check_whole("keep", keep, 1, n)
    for name, given in (("resume", resume), ("keep", keep is not None)):
        if given and output is None:
            raise InvalidInput(f"{name} needs an output: the folder of the run")
    if resume and overwrite:
        raise InvalidInput("resume goes on with a run and overwrite replaces it; give one of them")


def _as_run(audio: object) -> Ranking | None:
    """Return the run that `rank` got, or None for pieces of audio."""
    if isinstance(audio, Ranking):
        return audio
    if isinstance(audio, str | Path) and os.path.isfile(os.path.join(audio, "ranking.json")):
        return load_run(audio)
    return None


def _several(audio: object) -> list[Any]:
    """Return the pieces of audio that `rank` got; refuse what is one piece, or is none."""
    kind = type(audio).__name__
    if isinstance(audio, tuple) and audio and all(isinstance(piece, str | Path | Audio) for piece in audio):
        raise InvalidInput(f"rank takes a list of audio, got a tuple of {len(audio)}; pass a list: list(audio)")
    if isinstance(audio, str | Path | Audio | tuple):
        raise InvalidInput(f"rank takes a list of audio, got one {kind}; pass [audio], or use score")
    if not isinstance(audio, Iterable):
        raise InvalidInput(f"rank takes a list of audio, got {kind}; pass a list of paths or waveforms")
    return list(audio)


@contextlib.contextmanager
def _opened(
    output: str | Path | None, overwrite: bool, resume: bool, audio: Iterable[object]
) -> Iterator[RunFolder | None]:
    """Claim the folder for a run that is made from these pieces of audio, whose files it must not replace."""
    if output is None:
        yield None
        return
    files = (piece.path if isinstance(piece, Audio) else piece for piece in audio)
    sources = [Path(file) for file in files if isinstance(file, str | Path) and os.path.exists(file)]
    with RunFolder.opened(output, overwrite=overwrite, resume=resume, sources=sources) as folder:
        yield folder


def _resolved(reward: RewardChoice) -> list[object]:
    """Return what is chosen as reward models, each found by its name and not loaded."""
    choices = list(reward) if isinstance(reward, list | tuple) else [reward]
    if not choices:
        raise InvalidInput("the list of reward models is empty; name at least one")
    return [resolve("reward", choice) for choice in choices]


def _check_axes(request: Request, rewards: Sequence[object]) -> None:
    """Refuse wrong weights and floors as far as the axes are known before anything is loaded."""
    infos = [known_info("reward", reward) for reward in rewards]
    if all(isinstance(info, RewardInfo) for info in infos):
        request.check_axes(Panel.axes_of(cast(list[RewardInfo], infos)))


def _loaded(rewards: Sequence[object], request: Request) -> list[Reward]:
    return [cast(Reward, load("reward", reward, {}, offered=request.offered)) for reward in rewards]


def _followed(prompt: Prompt, info: GeneratorInfo) -> Prompt:
    """Return the parts of the prompt that the generator follows."""
    left = [part for part in prompt.conditions() if part in info.conditions]
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


def _check_duration(duration: object, info: GeneratorInfo) -> None:
    if not is_number(duration) or not info.min_duration <= duration <= info.max_duration:
        raise InvalidInput(
            f"duration must be {info.min_duration:g} to {info.max_duration:g} s for generator {info.name!r}, "
            f"got {duration!r:.40}"
        )
