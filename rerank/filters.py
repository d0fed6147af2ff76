"""Filters: what sets a candidate aside before anyone listens to it, and why, in plain words.

**Conventions**: a filter looks at one candidate and nothing else, except `duplicate`, which compares it with the
earlier ones (the lower index stays). A candidate that is set aside is kept and shown with its reason, never deleted.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rerank.audio import Audio, to_mono
from rerank.data import is_number
from rerank.errors import InvalidInput, UnknownName
from rerank.rules import by_full_axis

_FULL_SCALE = 0.999
_FRAME = 0.1  # s, over which a level is measured
_WINDOW = 0.032  # s, of a spectrum
_SEGMENTS = 128  # of a fingerprint
_BANDS = 32
_FRAMES_AT_ONCE = 2048  # so that an hour of audio does not take gigabytes
_DYNAMIC_RANGE = 60.0  # dB below the loudest cell that a fingerprint looks at


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Thresholds; None switches a filter off.

    Attributes:
        not_finite: the share of samples that may be NaN or infinite.
        silent: the level that the loudest tenth of a candidate must reach, in dBFS: RMS of 100 ms frames, without DC.
        clipped: the share of samples that may be at or beyond full scale, in the worst channel.
        dc_offset: the largest absolute mean of a channel, where full scale is 1.
        short: the share of the duration asked for that a candidate must have.
        duplicate: the similarity to an earlier candidate that is too much; 1 is the same sound at any level.
        floors: axis -> the lowest reward that is ranked.

    Raises:
        InvalidInput: a threshold is not finite or outside its range.

    >>> Filters(silent=None, floors={"musicality": 0.0}).clipped
    0.02
    """

    not_finite: float | None = 0.0
    silent: float | None = -60.0
    clipped: float | None = 0.02
    dc_offset: float | None = 0.05
    short: float | None = 0.95
    duplicate: float | None = 0.97
    floors: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for name, (low, high, unit) in _RANGES.items():
            value = getattr(self, name)
            if value is None:
                continue
            if not (is_number(value) and low <= value <= high):
                raise InvalidInput(
                    f"filter {name!r} must be {low:g} to {high:g} ({unit}), or off (in Python: None); got {value!r:.40}"
                )
            object.__setattr__(self, name, float(value))  # a numpy float is no JSON
        if self.floors is not None:
            object.__setattr__(self, "floors", _checked_floors(self.floors))

    @classmethod
    def off(cls) -> Self:
        """Return filters of which none is on."""
        return cls(**dict.fromkeys(_RANGES))

    @classmethod
    def named(cls, thresholds: Mapping[str, float | None], floors: Mapping[str, float] | None = None) -> Self:
        """Return the default filters with some thresholds changed by name.

        Raises:
            UnknownName: there is no filter of that name.
            InvalidInput: as the class does.
        """
        for name in thresholds:
            if name not in _RANGES:
                raise UnknownName.among("filter", name, _RANGES)
        return cls(**thresholds, floors=floors or None)

    def check_axes(self, axes: Mapping[str, Any]) -> None:
        """Refuse floors on axes that no reward model has.

        Raises:
            UnknownName: naming the axis.
            InvalidInput: several reward models have it.
        """
        self.on_axes(axes)

    def on_axes(self, axes: Iterable[str], models: Sequence[str] = ()) -> Self:
        """Return the filters with floors on these axes, which `full_axis` tells from how they were named.

        Args:
            axes: all that there are.
            models: names of the reward models that they are of.

        Raises:
            UnknownName: a floor is on an axis that no reward model has.
            InvalidInput: several reward models have it, or it is named twice.
        """
        return replace(self, floors=by_full_axis(self.floors or {}, axes, models) or None)

    @classmethod
    def of(cls, thresholds: Mapping[str, Any]) -> Self:
        """Return the filters that `to_dict` gave, or a document holds; what it does not name is off."""
        return cls(**{**dict.fromkeys(_RANGES), **thresholds})

    def to_dict(self) -> dict[str, Any]:
        """Return the thresholds by name."""
        return asdict(self)


_RANGES: Mapping[str, tuple[float, float, str]] = {
    "not_finite": (0, 1, "share of samples"),
    "silent": (-200, 0, "dBFS"),
    "clipped": (0, 1, "share of samples"),
    "dc_offset": (0, 1, "share of full scale"),
    "short": (0, 1, "share of the duration"),
    "duplicate": (0, 1, "similarity"),
}
assert {*_RANGES, "floors"} == {field.name for field in fields(Filters)}


def sound_fault(audio: Audio, filters: Filters, duration: float | None) -> str | None:
    """Return why one candidate should be set aside, as far as its own sound tells; None if nothing is wrong.

    Args:
        audio: of the candidate.
        filters: the thresholds.
        duration: that was asked for, in seconds; None where none was.
    """
    audio = audio.loaded()
    size = audio.waveform.size
    broken = size - int(np.isfinite(audio.waveform).sum())
    if filters.not_finite is not None and broken > filters.not_finite * size:
        return f"not finite: {broken} of {size} samples {'is' if broken == 1 else 'are'} NaN or infinite"
    least = (filters.short or 0) * (duration or 0)
    # half a sample of tolerance: a duration is seldom a whole number of samples
    if filters.short is not None and duration is not None and audio.duration + 0.5 / audio.sample_rate < least:
        return f"short: {audio.duration:.2f} s of the {duration:.2f} s asked for, at least {least:.2f} s are needed"
    if broken or not size:
        return None
    return _level_fault(audio, filters)


def _level_fault(audio: Audio, filters: Filters) -> str | None:
    if filters.silent is not None:
        level = loudest_tenth(audio)
        if level < filters.silent:
            told = "no sound at all" if level == -math.inf else f"{level:.1f} dBFS in its loudest tenth"
            return f"silent: {told}, at least {filters.silent:g} dBFS is needed"
    if filters.clipped is not None:
        clipped = float((np.abs(audio.waveform) >= _FULL_SCALE).mean(axis=1).max())
        if clipped > filters.clipped:
            return f"clipped: {clipped:.1%} of the samples are at full scale, at most {filters.clipped:.1%} may be"
    if filters.dc_offset is not None:
        offset = float(np.abs(audio.waveform.mean(axis=1, dtype=np.float64)).max())
        if offset > filters.dc_offset:
            return f"DC offset: the mean of a channel is {offset:.3f}, at most {filters.dc_offset:g} is allowed"
    return None


def reward_fault(rewards: Mapping[str, float | None], filters: Filters) -> str | None:
    """Return which floor a candidate misses; None if none. An axis that does not apply misses no floor."""
    for axis, floor in (filters.floors or {}).items():
        reward = rewards.get(axis)
        if reward is not None and reward < floor:
            return f"below the floor: {axis} {reward:.3f}, at least {floor:g} is needed"
    return None


def loudest_tenth(audio: Audio) -> float:
    """Return the RMS level that a tenth of the 100 ms frames reach, in dBFS, without DC; -inf for digital silence.

    A single click in silence therefore counts as silence.
    """
    waveform = audio.waveform - audio.waveform.mean(axis=1, keepdims=True)
    size = min(max(1, round(_FRAME * audio.sample_rate)), waveform.shape[1])
    count = waveform.shape[1] // size
    frames = waveform[:, : count * size].reshape(audio.channels, count, size)
    power = np.square(frames, dtype=np.float64).mean(axis=2).max(axis=0)
    level = float(np.quantile(power, 0.9, method="higher"))
    return 10 * math.log10(level) if level > 0 else -math.inf


class Duplicates:
    """Finds candidates that sound the same as an earlier one.

    Args:
        threshold: similarity from which on two are the same; None finds none.
    """

    def __init__(self, threshold: float | None) -> None:
        self._threshold = threshold
        self._seen: list[tuple[int, float, NDArray[np.float32]]] = []

    def fault(self, index: int, audio: Audio) -> str | None:
        """Return which earlier candidate this one repeats; if none, remember it for later ones."""
        if self._threshold is None:
            return None
        own = fingerprint(audio)
        if own is None:
            return None
        for earlier, duration, other in self._seen:
            if abs(duration - audio.duration) > 0.01 * duration:
                continue
            similarity = float(own @ other)
            if similarity >= self._threshold:
                return f"near-duplicate: of candidate {earlier}, similarity {similarity:.3f}"
        self._seen.append((index, audio.duration, own))
        return None


def fingerprint(audio: Audio) -> NDArray[np.float32] | None:
    """Return how the spectrum of a piece moves, as a unit vector; None where nothing moves or samples are not finite.

    It holds the level of 32 bands from 50 Hz to 8 kHz in 128 segments of equal length, in dB, each band without its
    mean. The dot product of two is their similarity: 1 for the same sound at any level, near 0 for two takes that
    move at different times.

    Shape:
        `[channels, time]` -> `[bands * segments]`
    """
    waveform = to_mono(audio).waveform[0]
    size = round(audio.sample_rate * _WINDOW)
    if len(waveform) < size or not np.isfinite(waveform).all():
        return None
    power = _band_power(waveform, audio.sample_rate, size)
    loudest = float(power.max())
    if loudest == 0:
        return None
    decibels = 10 * np.log10(np.maximum(power / loudest, 10 ** (-_DYNAMIC_RANGE / 10)))
    moving = decibels - decibels.mean(axis=1, keepdims=True)
    norm = float(np.linalg.norm(moving))
    return (moving / norm).astype(np.float32).ravel() if norm > 1e-3 else None


def _band_power(waveform: NDArray[np.float32], sample_rate: int, size: int) -> NDArray[np.float64]:
    """Return the power of each band in each segment.

    Shape:
        `[time]` -> `[bands, segments]`
    """
    hop = size // 2
    count = 1 + (len(waveform) - size) // hop
    frames = np.lib.stride_tricks.sliding_window_view(waveform, size)[::hop]
    window = np.hanning(size).astype(np.float32)
    edges = np.round(np.geomspace(50, 8_000, _BANDS + 1) * size / sample_rate).astype(int)
    bands = np.empty((count, _BANDS))
    for start in range(0, count, _FRAMES_AT_ONCE):
        block = np.fft.rfft(frames[start : start + _FRAMES_AT_ONCE] * window, axis=1)[:, : edges[-1]]
        power = np.square(np.abs(block))
        bands[start : start + len(block)] = np.add.reduceat(power, np.minimum(edges[:-1], power.shape[1] - 1), axis=1)
    segments = np.linspace(0, count, min(_SEGMENTS, count) + 1).astype(int)[:-1]
    return np.asarray(np.add.reduceat(bands, segments, axis=0).T, dtype=np.float64)


def _checked_floors(floors: object) -> dict[str, float]:
    if not isinstance(floors, Mapping):
        raise InvalidInput(f'floors must be a mapping such as {{"musicality": 0.5}}, got {floors!r:.40}')
    for axis, floor in floors.items():
        if not is_number(floor):
            raise InvalidInput(f"floor of {axis!r} must be a finite number, got {floor!r:.40}")
    return {axis: float(floor) for axis, floor in floors.items()}
