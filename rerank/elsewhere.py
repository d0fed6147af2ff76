"""Audio made elsewhere, and runs: ranked, ranked again, and scored."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from rerank.audio import MAX_DURATION, Audio, AudioLike, as_audio, held_together, inspect, short_fault
from rerank.data import Candidate, Prompt, check_whole, is_number
from rerank.errors import InvalidInput, RerankError, RewardFailed, UnreadableAudio
from rerank.filters import Filters
from rerank.ranking import Ranking
from rerank.request import MAX_CANDIDATES, Request
from rerank.rules import Rule
from rerank.run_folder import opened
from rerank.runs.again import rank_again
from rerank.runs.events import EventCallback, drained
from rerank.runs.notes import on_languages, said
from rerank.runs.panel import Panel, RewardChoice, check_known_axes, load_rewards, resolve_rewards
from rerank.runs.provenance import settings_of
from rerank.runs.reporting import ProgressCallback, Reporter
from rerank.runs.stopping import Stop
from rerank.runs.stored import load
from rerank.runs.stream import Run
from rerank.scoring import Rewards, not_finite
from rerank.takes import maker_of

logger = logging.getLogger("rerank")


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
    max_duration: float = MAX_DURATION,
    output: str | Path | None = None,
    overwrite: bool = False,
    stop: Callable[[], bool] | None = None,
    on_progress: ProgressCallback | None = None,
    on_event: EventCallback | None = None,
) -> Ranking:
    """Rank audio made elsewhere for a prompt, or rank a run again.

    The options are those of `generate`. Candidate i is `audio[i]`; it has no seed. A file that cannot be read is set
    aside; so is what is shorter than 0.1 s or longer than `max_duration`, and what a filter minds.

    A run, as a `Ranking` or its folder, is ranked again for its own prompt: under other weights, filters or another rule
    nothing is scored again, and another reward model adds its axes to those that are known. With its own folder as
    `output` its document is replaced when all is done. Where that is stopped (KeyboardInterrupt) or fails, it stays as it
    was, but for rewards that are new, which are not asked for again.

    Args:
        audio: 1 to 1,024 pieces, each a path, an `Audio` or `(waveform, sample_rate)`; or a `Ranking`; or the folder of
            a run.
        prompt: text, or a `Prompt` with all its parts; none for a run, which has its own. Without any, an axis that
            needs one is None.
        max_duration: in seconds; what is longer is set aside, from its header alone. A limit on memory, 2 GiB for the
            samples of a file, holds as well.

    Raises:
        InvalidInput: an option or the prompt cannot be used, or a piece is no audio at all.
        UnreadableAudio: not one piece can be read.
        RewardFailed: the reward model failed on every candidate.
        OutputError: `output` cannot be written; what was written before stays.
    """
    stored = _as_run(audio)
    if stored is not None:
        for name, part in (("prompt", prompt), ("lyrics", lyrics), ("reference", reference)):
            if part is not None:
                raise InvalidInput(f"a run is ranked again for its own prompt; leave out {name}, or rank its files")
        request = Request.checked(stored.settings.n, top_k, weights, rule, filters, device)
        return rank_again(stored, request, reward, output, overwrite, Stop(stop), on_progress, on_event)
    pieces = _several(audio)
    _check_limit(max_duration)
    check_whole("the number of audio files", len(pieces), 1, MAX_CANDIDATES)
    request = Request.checked(len(pieces), top_k, weights, rule, filters, device)
    whole = Prompt.of(prompt, lyrics, reference)
    with opened(output, overwrite=overwrite, made_from=[*pieces, whole.reference]) as folder:
        made_by = _maker_of(pieces)
        rewards = resolve_rewards("auto" if reward is None else reward, made_by)
        check_known_axes(request, rewards, whole)
        heard = [_piece(index, piece, max_duration, stored=folder is not None) for index, piece in enumerate(pieces)]
        if all(candidate.audio is None for candidate in heard):
            raise UnreadableAudio((heard[0].set_aside or "").removeprefix("cannot be read: "))
        panel = Panel(load_rewards(rewards, request), made_by=made_by)
        settings = settings_of(request, panel, whole, None, made_by=made_by)
        run = Run(
            whole,
            settings,
            panel,
            Filters.of(settings.filters),
            folder=folder,
            stop=Stop(stop),
            on_progress=on_progress,
        )
        return drained(run.stream(heard), on_event, run.stop)


@overload
def score(
    audio: AudioLike,
    prompt: str | Prompt | None = None,
    *,
    lyrics: str | None = None,
    reference: AudioLike | None = None,
    reward: RewardChoice = "auto",
    device: str = "auto",
    max_duration: float = MAX_DURATION,
    on_progress: ProgressCallback | None = None,
) -> dict[str, float | None]: ...
@overload
def score(
    audio: list[AudioLike] | list[str] | list[Path] | list[Audio],
    prompt: str | Prompt | None = None,
    *,
    lyrics: str | None = None,
    reference: AudioLike | None = None,
    reward: RewardChoice = "auto",
    device: str = "auto",
    max_duration: float = MAX_DURATION,
    on_progress: ProgressCallback | None = None,
) -> list[dict[str, float | None]]: ...
def score(
    audio: Any,
    prompt: str | Prompt | None = None,
    *,
    lyrics: str | None = None,
    reference: AudioLike | None = None,
    reward: RewardChoice = "auto",
    device: str = "auto",
    max_duration: float = MAX_DURATION,
    on_progress: ProgressCallback | None = None,
) -> dict[str, float | None] | list[dict[str, float | None]]:
    """Return the rewards of a piece of audio by axis; for a list of pieces, a list of them in the same order.

    The options are those of `generate`; an axis that needs a part of the prompt which is not given is None. No filter
    looks at the audio. Of a list, a piece that cannot be read or scored, is shorter than 0.1 s or longer than
    `max_duration` in seconds, has None on every axis, and a warning says why; `score_each` gives the reasons.

    Raises:
        InvalidInput: an option, the prompt or a piece of audio cannot be used.
        UnreadableAudio: not one piece can be read.
        RewardFailed: not one piece can be scored: a reward is not finite, or is no reward.
    """
    pieces = audio if isinstance(audio, list) else [audio]
    results = list(
        score_each(
            pieces,
            prompt,
            lyrics=lyrics,
            reference=reference,
            reward=reward,
            device=device,
            max_duration=max_duration,
            on_progress=on_progress,
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
    prompt: str | Prompt | None = None,
    *,
    lyrics: str | None = None,
    reference: AudioLike | None = None,
    reward: RewardChoice = "auto",
    device: str = "auto",
    max_duration: float = MAX_DURATION,
    on_progress: ProgressCallback | None = None,
    on_loaded: Callable[[Panel], None] | None = None,
) -> Iterator[Rewards | RerankError]:
    """Yield for each piece, in order, its rewards by axis, or the error that says why it has none.

    The options are those of `score`; as there is one piece in memory at a time, or a batch, there may be many. A reward
    model that fails on a piece costs its own axes, which are then None, with a warning. `on_loaded` is given the reward
    models when they are loaded.

    Raises:
        InvalidInput: an option or the prompt cannot be used.
        RewardFailed: a reward model cannot read the prompt.
    """
    check_whole("the number of audio files", len(audio), 1, MAX_CANDIDATES)
    _check_limit(max_duration)
    request = Request.checked(len(audio), None, None, None, None, device)
    whole = Prompt.of(prompt, lyrics, reference)
    if len(audio) == 1 and isinstance(found := _readable(audio[0], max_duration), RerankError):
        raise found  # before anything is loaded
    made_by = _maker_of(audio)
    panel = Panel(load_rewards(resolve_rewards(reward, made_by), request), made_by=made_by)
    if on_loaded is not None:
        on_loaded(panel)
    said(on_languages(whole, panel.infos))
    asked = panel.asked_with(whole)
    report = Reporter(on_progress, Stop(), len(audio))
    report.begin("rewarding")
    for start, heard in _heard_together(audio, panel.batch_size, max_duration):
        pieces = [piece for piece in heard if isinstance(piece, Audio)]
        answers = asked(pieces, [{} for _ in pieces]) if pieces else iter(())
        for place, piece in enumerate(heard, start=start + 1):
            result: Rewards | RerankError
            if isinstance(piece, Audio):
                result = _rewarded(panel, piece, *next(answers))
            else:
                result = piece
            report.finished("rewarding", place)
            yield result


def _heard_together(
    audio: Sequence[AudioLike], size: int, max_duration: float
) -> Iterator[tuple[int, list[Audio | RerankError]]]:
    """Yield batches of pieces, or why they cannot be judged, and where each begins; long pieces make small ones."""
    start, heard = 0, list[Audio | RerankError]()
    for end, piece in enumerate(audio, start=1):
        heard.append(_readable(piece, max_duration))
        if held_together((one for one in heard if isinstance(one, Audio)), size) <= len(heard) or end == len(audio):
            yield start, heard
            start, heard = end, []


def _rewarded(panel: Panel, piece: Audio, rewards: Rewards, faults: Mapping[str, str]) -> Rewards | RewardFailed:
    """Return the rewards of a piece on all axes, or the error that says why it has none."""
    for name, fault in faults.items():
        told = f"reward model {name!r} on {piece}: {fault}; report it to its authors"
        if not rewards:
            return RewardFailed(told)
        logger.warning("%s", told)
    unusable = not_finite(rewards)
    if unusable is not None:
        return RewardFailed(f"reward model {panel.name!r} on {piece}: {unusable}; report it to its authors")
    return {axis: rewards.get(axis) for axis in panel.axes}


def _check_limit(max_duration: object) -> None:
    if not is_number(max_duration) or max_duration <= 0:
        raise InvalidInput(f"max_duration must be a number of seconds above 0, got {max_duration!r:.40}")


def _readable(piece: AudioLike, max_duration: float) -> Audio | RerankError:
    """Return a piece of audio in memory, or the error that says why it cannot be judged."""
    try:
        _limited(piece, max_duration)
        audio = as_audio(piece).loaded()
    except RerankError as error:
        return error
    fault = short_fault(audio)
    return UnreadableAudio(f"{audio.path or 'the audio'} is too short: {fault}") if fault else audio


def _piece(index: int, piece: AudioLike, max_duration: float, *, stored: bool) -> Candidate:
    """Return a piece of audio as a candidate, not read yet; one that cannot be read says so."""
    source = piece.path if isinstance(piece, Audio) else Path(piece) if isinstance(piece, str | Path) else None
    try:
        audio = _limited(piece, max_duration)
    except UnreadableAudio as error:
        return Candidate(index=index, seed=None, audio=None, source=source, set_aside=f"cannot be read: {error}")
    return Candidate(index=index, seed=None, audio=audio, source=source, path=None if stored else source)


def _limited(piece: AudioLike, max_duration: float) -> Audio:
    """Return a piece of audio, of a file nothing but its header read.

    Raises:
        UnreadableAudio: it cannot be read, or is too long.
        InvalidInput: it is no audio at all.
    """
    # a piece with NaN is a candidate with a fault, not a mistake of the caller
    audio = inspect(piece) if isinstance(piece, str | Path) else as_audio(piece, finite=False)
    if audio.duration > max_duration:
        raise UnreadableAudio(
            f"{audio.path or 'the audio'} is {audio.duration:.1f} s long, the limit is {max_duration:g} s; cut out the "
            "part that matters, or raise the limit: --max-duration S (in Python: max_duration=S)"
        )
    return audio


def _maker_of(pieces: Sequence[AudioLike]) -> str | None:
    """Return the generator that made all of the pieces, where they are files of runs, which know it."""
    paths = [piece.path if isinstance(piece, Audio) else piece for piece in pieces]
    known = [Path(path) for path in paths if isinstance(path, str | Path)]
    return maker_of(known) if len(known) == len(pieces) else None


def _as_run(audio: object) -> Ranking | None:
    """Return the run that `rank` got, or None for pieces of audio."""
    if isinstance(audio, Ranking):
        return audio
    if isinstance(audio, str | Path) and audio != "":
        path = Path(audio)
        if os.path.isfile(path / "ranking.json") or (path.name == "ranking.json" and os.path.isfile(path)):
            return load(path)
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
