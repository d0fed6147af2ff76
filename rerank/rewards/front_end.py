"""From audio to what an audio tower takes: one channel at its sample rate, in windows.

**Conventions**: waveforms are float32 `[time]` in [-1, 1]; durations in seconds. No window is padded to the length of
another, so what a tower makes of an audio does not depend on the others. A tower that wants windows of one length with a
mask pads them itself: all windows that it gets together have one length, from which the mask follows.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from rerank.audio import Audio, resample, to_mono
from rerank.errors import InvalidInput
from rerank.models.resample import sinc_resample

log = logging.getLogger("rerank")

Mono = NDArray[np.float32]

Resampler = Literal["soxr", "sinc"]

Rest = Literal["shorter", "completed"]

_MARGIN = 0.1
"""Seconds beyond the longest duration that are resampled too, so that the cut does not change what is kept."""


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """Cuts an audio into the windows that a tower takes.

    Attributes:
        sample_rate: of the tower, in Hz.
        duration: of a window, in seconds; None takes all as one.
        rest: what becomes of the end after full windows, and of audio that is shorter than one: "shorter" leaves it as a
            window of its own, or drops it where that would be under `shortest`; "completed" fills it up with the start of
            the audio, as far as that goes.
        shortest: samples that the tower needs; audio that has less in all is padded with zeros.
        resampler: "soxr", or "sinc" for weights whose published numbers come from torchaudio's resampling.
        max_duration: longer audio is cut there, in seconds, with a warning; None hears all.
        first: how many windows are heard at most; None hears all.

    Raises:
        InvalidInput: max_duration is not positive, or there is no such resampler.
    """

    sample_rate: int = 24_000
    duration: float | None = None
    rest: Rest = "shorter"
    shortest: int = 1
    resampler: Resampler = "soxr"
    max_duration: float | None = None
    first: int | None = None

    def __post_init__(self) -> None:
        check_duration(self.max_duration)
        check_resampler(self.resampler)

    def __call__(self, audio: Audio) -> list[Mono]:
        """Return the windows of an audio of any rate and number of channels, one at least.

        Shape:
            `[time]` each
        """
        if self.max_duration is not None and self.max_duration < min(audio.duration, self._first):
            log.warning("audio of %.1f s is cut: its first %g s are heard", audio.duration, self.max_duration)
        waveform = self.mono(audio)
        whole = max(len(waveform), self.shortest)
        length = whole if self.duration is None else round(self.duration * self.sample_rate)
        return _RESTS[self.rest](waveform, length, self.shortest)

    def mono(self, audio: Audio) -> Mono:
        """Return what is heard of an audio, as one channel at the sample rate of the tower.

        Shape:
            `[time]`
        """
        heard = min(self._first, math.inf if self.max_duration is None else self.max_duration)
        if heard < math.inf:
            audio = Audio(audio.waveform[:, : round((heard + _MARGIN) * audio.sample_rate)], audio.sample_rate)
        mixed = to_mono(audio)
        if self.resampler == "sinc":
            samples = torch.from_numpy(np.array(mixed.waveform[0]))
            waveform = sinc_resample(samples, audio.sample_rate, self.sample_rate).numpy()
        else:
            waveform = resample(mixed, self.sample_rate).waveform[0]
        longest = int(heard * self.sample_rate) if heard < math.inf else len(waveform)
        return waveform[:longest].astype(np.float32, copy=False)

    @property
    def _first(self) -> float:
        """Seconds of all windows that are heard."""
        return math.inf if self.first is None or self.duration is None else self.first * self.duration


def _shorter(waveform: Mono, length: int, shortest: int) -> list[Mono]:
    """Return consecutive windows, the last one shorter, without what is left under `shortest`."""
    waveform = _padded(waveform, shortest)
    windows = [waveform[start : start + length] for start in range(0, len(waveform), length)]
    return [window for window in windows if len(window) >= shortest]


def _completed(waveform: Mono, length: int, shortest: int) -> list[Mono]:
    """Return consecutive windows, the last one completed from the start of the waveform."""
    windows = [waveform[start : start + length] for start in range(0, max(len(waveform), 1), length)]
    windows[-1] = np.concatenate([windows[-1], waveform[: length - len(windows[-1])]])
    return [_padded(window, shortest) for window in windows]


_RESTS: dict[Rest, Callable[[Mono, int, int], list[Mono]]] = {"shorter": _shorter, "completed": _completed}


def _padded(waveform: Mono, shortest: int) -> Mono:
    return np.pad(waveform, (0, shortest - len(waveform))) if len(waveform) < shortest else waveform


def check_duration(max_duration: float | None) -> None:
    """Raise InvalidInput unless `max_duration` is None or a positive number of seconds."""
    if max_duration is None:
        return
    if isinstance(max_duration, bool) or not isinstance(max_duration, int | float) or not 0 < max_duration < math.inf:
        raise InvalidInput(f"max_duration must be a positive number of seconds, got {max_duration!r}")


def check_resampler(resampler: str) -> None:
    """Raise InvalidInput unless `resampler` is one."""
    if resampler not in get_args(Resampler):
        raise InvalidInput(f"unknown resampler {resampler!r}; use one of: {', '.join(get_args(Resampler))}")
