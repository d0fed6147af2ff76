"""Conformance checks for plugin authors: does a generator or a reward model keep the promises of its protocol?

    def test_my_generator() -> None:
        rerank.testing.check_generator(MyGenerator())

**Conventions**: a check returns nothing if all is well and raises `ConformanceError`, which is an AssertionError too,
on the first promise that is broken. Waveforms and rewards that should be equal may differ by a tolerance, since some
hardware adds in another order for another batch size.
"""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from rerank.audio import Audio
from rerank.data import Candidate, Prompt
from rerank.errors import ConformanceError, RewardFailed
from rerank.protocols import Condition, Generator, GeneratorInfo, Progress, Reading, ReadsPrompts, Reward, RewardInfo
from rerank.scoring import Rewards, not_finite, score_each

_PARTS: frozenset[Condition] = frozenset({"text", "lyrics", "reference"})
_TEXT = "slow sad piano in a minor key"
_OTHER_TEXT = "fast happy drums and bass, 150 bpm"
_LYRICS = "la la la, the moon is rising"
_OTHER_LYRICS = "go home, go home, we see the sea"
_SEEDS = (3, 4, 7)


def check_generator(generator: Generator, *, duration: float | None = None, tolerance: float = 1e-4) -> None:
    """Check a generator: it makes about fifteen candidates.

    Checked are: what `info` declares; one candidate per seed, in order, with its index, seed, sample rate, channels,
    duration and finite samples; that a candidate is the same made again, made alone and made among fewer, and another
    for another seed; that each part of a prompt changes the audio if it is declared, and nothing if it is not; that
    progress only goes up; that a `reading`, if there is one, is of the prompt's own parts; and that what `on_progress`
    raises, as on Ctrl-C, gets through and leaves the generator intact.

    Args:
        generator: to check.
        duration: of the candidates, in seconds; 2 s, or the shortest it makes, by default.
        tolerance: by which samples that should be equal may differ.

    Raises:
        ConformanceError: a promise is broken; the message says which.
    """
    _require(isinstance(generator, Generator), f"{type(generator).__name__} lacks info or generate")
    _check_generator_info(generator.info)
    if duration is None:
        duration = min(max(2.0, generator.info.min_duration), generator.info.max_duration)
    prompt = _prompt(generator.info.conditions)
    reports: list[Progress] = []
    taken = list(generator.generate(prompt, _SEEDS, duration, on_progress=reports.append))
    _check_candidates(taken, generator.info, duration)
    _check_progress(reports)
    _check_seeds(generator, prompt, duration, taken, tolerance)
    if reports:
        _check_stop(generator, prompt, duration, taken[0], tolerance)
    if isinstance(generator, ReadsPrompts):
        _check_reading(generator.reading(prompt), prompt, generator.info)
    for part in ("text", "lyrics", "reference"):
        declared = part in generator.info.conditions
        other = _prompt(generator.info.conditions | {part}, changed=part if declared else None)
        same = _same(taken[0], next(iter(generator.generate(other, _SEEDS[:1], duration))), tolerance)
        _require(declared or same, f"info does not declare {part!r}, yet {part} changes the audio")
        _require(not (declared and same), f"info declares {part!r}, yet the audio does not depend on it")


def check_reward(reward: Reward, *, audio: Sequence[Audio] = (), tolerance: float = 1e-4) -> None:
    """Check a reward model: it scores about two dozen short pieces of audio.

    Checked are: what `info` declares; one dict per audio with exactly the declared axes, each a finite float or None;
    that rewards do not depend on the batch, the order or earlier calls, nor on parts of a prompt that are not declared;
    that an axis is None where a part of the prompt is missing that it needs, or all parts of which it needs one, and else
    within its range; that a prepared prompt can be used again, also after another was prepared; that every combination of
    declared conditions is taken, and a prompt with no part at all; that audio of other sample rates and channels is taken and not changed.

    Args:
        reward: to check.
        audio: to score; a tone, noise and a pulse at several sample rates by default.
        tolerance: by which rewards that should be equal may differ.

    Raises:
        ConformanceError: a promise is broken; the message says which.
    """
    _require(isinstance(reward, Reward), f"{type(reward).__name__} lacks info, prepare or score")
    _check_reward_info(reward.info)
    pieces = list(audio) or _pieces(reward.info.sample_rate)
    before = [piece.waveform.copy() for piece in pieces]
    conditions: frozenset[Condition] = reward.info.conditions or frozenset({"text"})  # a prompt has a part at least
    prompt = _prompt(conditions)
    together = _rewards(reward, prompt, pieces)
    for piece, kept in zip(pieces, before, strict=True):
        _require(np.array_equal(piece.waveform, kept), "score changes the waveforms it is given")
    prepared = reward.prepare(prompt)
    alone = [reward.score(prepared, [piece])[0] for piece in pieces]
    _require_close(together, alone, tolerance, "the reward of a piece depends on its batch")
    backwards = reward.score(prepared, pieces[::-1])[::-1]
    _require_close(together, backwards, tolerance, "the reward of a piece depends on the order")
    reward.score(reward.prepare(_prompt(conditions, changed="text")), pieces)
    again = reward.score(prepared, pieces)
    _require_close(together, again, tolerance, "a prepared prompt gives other rewards after another one was used")
    _require(list(reward.score(prepared, [])) == [], "score([]) must return an empty list")
    for parts in _combinations(conditions):
        _rewards(reward, _prompt(parts), pieces[:1])
        _check_without_axes(reward, parts, pieces[:1])
    for part in sorted(_PARTS - reward.info.conditions):
        other = _rewards(reward, _prompt(conditions | {part}, changed=part), pieces)
        _require_close(together, other, tolerance, f"info does not declare {part!r}, yet {part} changes a reward")


def _check_generator_info(info: GeneratorInfo) -> None:
    _require(bool(info.name), "info.name is empty")
    _require(
        8_000 <= info.sample_rate <= 192_000, f"info.sample_rate is {info.sample_rate}; expected 8000 to 192000 Hz"
    )
    _require(info.channels >= 1, f"info.channels is {info.channels}; expected at least 1")
    _require(
        0 < info.min_duration <= info.max_duration,
        f"info.min_duration {info.min_duration} and info.max_duration {info.max_duration} are no range",
    )
    _require(bool(info.conditions), "info.conditions is empty; name at least one of text, lyrics, reference")
    _check_conditions(info.conditions)


def _check_reward_info(info: RewardInfo) -> None:
    _require(bool(info.name), "info.name is empty")
    _require(len(info.axes) > 0, "info.axes is empty")
    _require(info.batch_size >= 1, f"info.batch_size is {info.batch_size}; expected at least 1")
    _check_conditions(info.conditions)
    for name, axis in info.axes.items():
        for field, parts in (("needs", axis.needs), ("needs_any", axis.needs_any)):
            lacking = sorted(parts - info.conditions)
            _require(not lacking, f"info.axes[{name!r}].{field} holds {lacking}, which info.conditions lacks")
        low, high = axis.low, axis.high
        _require(low is None or high is None or low < high, f"info.axes[{name!r}]: low {low}, high {high} is no range")


def _check_conditions(conditions: Iterable[str]) -> None:
    unknown = sorted(set(conditions) - _PARTS)
    _require(not unknown, f"info.conditions holds {unknown}; known are text, lyrics, reference")


def _check_candidates(candidates: Sequence[Candidate], info: GeneratorInfo, duration: float) -> None:
    _require(len(candidates) == len(_SEEDS), f"generate yielded {len(candidates)} candidates for {len(_SEEDS)} seeds")
    for index, (candidate, seed) in enumerate(zip(candidates, _SEEDS, strict=True)):
        name = f"candidate {index}"
        _require(candidate.index == index, f"{name} has index {candidate.index}; expected its position in seeds")
        _require(candidate.seed == seed, f"{name} has seed {candidate.seed}; expected {seed}")
        audio = candidate.audio
        if audio is None:
            raise ConformanceError(f"{name} has no audio: {candidate.set_aside}")
        _require(
            audio.sample_rate == info.sample_rate,
            f"{name} has {audio.sample_rate} Hz; info.sample_rate is {info.sample_rate}",
        )
        _require(audio.channels == info.channels, f"{name} has {audio.channels} channels; info says {info.channels}")
        _require(audio.is_finite(), f"{name} holds samples that are not finite")
        _require(
            0.95 * duration <= audio.duration <= 1.05 * duration + 0.1,
            f"{name} is {audio.duration:.2f} s long; asked were {duration:.2f} s",
        )


def _check_progress(reports: Sequence[Progress]) -> None:
    for earlier, later in itertools.pairwise(reports):
        if earlier.phase == later.phase:
            _require(later.done >= earlier.done, f"progress goes back, from {earlier.done} to {later.done}")
    for report in reports:
        _require(0 <= report.done <= report.total, f"progress reports {report.done} of {report.total}")


def _check_seeds(
    generator: Generator, prompt: Prompt, duration: float, taken: Sequence[Candidate], tolerance: float
) -> None:
    fewer = list(generator.generate(prompt, _SEEDS[:2], duration))
    for one, other in zip(taken, fewer, strict=False):
        _require(_same(one, other, tolerance), f"candidate {one.index} differs when fewer are made with it")
    alone = list(generator.generate(prompt, _SEEDS[2:], duration))
    _require(_same(taken[2], alone[0], tolerance), f"the candidate of seed {_SEEDS[2]} differs when it is made alone")
    _require(alone[0].index == 0, f"a candidate made alone has index {alone[0].index}; expected its position in seeds")
    _require(not _same(taken[0], taken[1], tolerance), "two seeds give the same audio")


def _check_reading(reading: Reading, prompt: Prompt, info: GeneratorInfo) -> None:
    _require(isinstance(reading, Reading), f"reading returns a {type(reading).__name__}; expected a Reading")
    for name in ("understood", "ignored", "not_followed"):
        words = getattr(reading, name)
        is_listed = isinstance(words, tuple) and all(isinstance(word, str) for word in words)
        _require(is_listed, f"reading gives {name} as {words!r:.60}; expected a tuple of texts")
    odd = sorted(set(reading.not_followed) - info.conditions.intersection(prompt.conditions()))
    _require(not odd, f"reading says that it does not follow {odd}, which info.conditions or the prompt lacks")


class _Stopped(Exception):
    """What a caller raises to stop."""


def _check_stop(generator: Generator, prompt: Prompt, duration: float, first: Candidate, tolerance: float) -> None:
    def stop(progress: Progress) -> None:
        raise _Stopped

    try:
        list(generator.generate(prompt, _SEEDS, duration, on_progress=stop))
    except _Stopped:
        again = next(iter(generator.generate(prompt, _SEEDS[:1], duration)))
        _require(_same(first, again, tolerance), "a candidate differs after another run was stopped")
        return
    raise ConformanceError("what on_progress raises does not stop the generator; let it through")


def _same(one: Candidate, other: Candidate, tolerance: float) -> bool:
    if one.audio is None or other.audio is None:
        return one.audio is other.audio
    first, second = one.audio.waveform, other.audio.waveform
    return first.shape == second.shape and bool(np.allclose(first, second, rtol=0, atol=tolerance))


def _rewards(reward: Reward, prompt: Prompt, audio: Sequence[Audio]) -> list[Rewards]:
    try:
        results = list(score_each(reward, prompt, audio))
    except RewardFailed as error:
        raise ConformanceError(str(error)) from error
    parts = prompt.conditions()
    found: list[Rewards] = []
    for result in results:
        fault = result if isinstance(result, str) else not_finite(result)
        _require(fault is None, f"with a prompt of {', '.join(parts) or 'nothing'}: {fault}")
        if not isinstance(result, str):
            _check_axes(result, reward.info, parts)
            found.append(result)
    return found


def _check_without_axes(reward: Reward, parts: Sequence[str], audio: Sequence[Audio]) -> None:
    """Ask as nothing of ours does, where no axis applies: whoever uses a reward model directly may."""
    if any(axis.applies(parts) for axis in reward.info.axes.values()):
        return
    for rewards in reward.score(reward.prepare(_prompt(parts)), audio):
        _check_axes(rewards, reward.info, parts)


def _check_axes(rewards: Rewards, info: RewardInfo, parts: Sequence[str]) -> None:
    for name, value in rewards.items():
        axis = info.axes[name]
        lacking = sorted(axis.needs.difference(parts)) or sorted(axis.needs_any)
        told = f"{name} is {value} without {', '.join(lacking)}, which it needs"
        _require(value is None or axis.applies(parts), told)
        if value is not None:
            low, high = axis.low, axis.high
            inside = (low is None or value >= low) and (high is None or value <= high)
            _require(inside, f"{name} is {value}; its range is {low} to {high}")


def _require_close(expected: Sequence[Rewards], found: Sequence[Rewards], tolerance: float, broken: str) -> None:
    _require(len(expected) == len(found), f"score returned {len(found)} results for {len(expected)} pieces of audio")
    for one, other in zip(expected, found, strict=True):
        for axis, value in one.items():
            second = other.get(axis)
            equal = value is second if value is None or second is None else abs(value - second) <= tolerance
            _require(equal, f"{broken}: {axis} is {value}, then {second}")


def _require(kept: bool, broken: str) -> None:
    if not kept:
        raise ConformanceError(broken)


def _prompt(conditions: Iterable[str], changed: str | None = None) -> Prompt:
    """Return a prompt with these parts, `changed` another one than usual."""
    text = _OTHER_TEXT if changed == "text" else _TEXT
    lyrics = _OTHER_LYRICS if changed == "lyrics" else _LYRICS
    reference = _tone(311.0 if changed == "reference" else 220.0, 22_050, 1)
    # one with no part at all is a prompt too, but not one that a user can write by mistake
    return Prompt.recalled(
        text if "text" in conditions else "",
        lyrics if "lyrics" in conditions else None,
        reference if "reference" in conditions else None,
    )


def _combinations(conditions: frozenset[Condition]) -> list[list[Condition]]:
    """Return each choice of these parts, also that of none."""
    parts = sorted(conditions)
    masks = range(2 ** len(parts))
    return [[part for place, part in enumerate(parts) if mask >> place & 1] for mask in masks]


def _pieces(sample_rate: int) -> list[Audio]:
    noise = np.random.default_rng(0).standard_normal((2, 2 * 44_100)).astype(np.float32) * 0.1
    pulse = np.zeros((1, 3 * 16_000), np.float32)
    pulse[0, ::8_000] = 0.5
    return [_tone(440.0, sample_rate, 2), Audio(noise, 44_100), Audio(pulse, 16_000)]


def _tone(frequency: float, sample_rate: int, channels: int) -> Audio:
    time = np.arange(2 * sample_rate) / sample_rate
    wave = (0.3 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)
    return Audio(np.tile(wave, (channels, 1)), sample_rate)
