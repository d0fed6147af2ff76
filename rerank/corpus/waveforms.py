"""What damages are made of: the level of mono waveforms, filters, curves and frames.

**Conventions**: mono float32 waveforms in [-1, 1] of at least one sample.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

Mono = NDArray[np.float32]

Damage = Callable[[Mono, int, float, np.random.Generator], Mono]
"""`(waveform, sample_rate, severity, rng)` -> waveform of the same length, see `rerank.corpus.damage`."""

QUIETEST = 1e-4
"""Level that silent music counts as, where a disturbance is set relative to the music."""


def level(waveform: Mono) -> float:
    """Return the root mean square, at least `QUIETEST`."""
    return max(float(np.sqrt(np.mean(np.square(waveform, dtype=np.float32)))), QUIETEST) if waveform.size else QUIETEST


def fitted(waveform: NDArray[np.floating]) -> Mono:
    """Return `waveform` as float32, turned down where it would exceed full scale."""
    peak = float(np.abs(waveform).max())
    return (waveform / max(peak, 1.0)).astype(np.float32)


def at_level(waveform: NDArray[np.floating], like: Mono) -> Mono:
    """Return `waveform` as loud as `like`."""
    damaged = waveform.astype(np.float32)
    return fitted(damaged * (level(like) / level(damaged)))


def mixed(waveform: Mono, disturbance: NDArray[np.floating], decibels: float) -> Mono:
    """Return the sum, with the disturbance that many decibels below the music."""
    disturbance = disturbance.astype(np.float32)
    gain = level(waveform) / level(disturbance) * 10 ** (-decibels / 20)
    return fitted(waveform + np.float32(gain) * disturbance)


def read_at(waveform: Mono, position: NDArray[np.float64]) -> Mono:
    """Return the samples at fractional positions, linearly interpolated."""
    read: Mono = np.interp(position, np.arange(len(waveform)), waveform).astype(np.float32)
    return read


def slow_curve(curve: Callable[[NDArray[np.float64]], NDArray[np.float64]], length: int, step: int = 64) -> Mono:
    """Return `curve` of the sample index, computed at every `step`-th sample and interpolated."""
    coarse = np.arange(0, length + step, step, dtype=np.float64)
    fine: Mono = np.interp(np.arange(length), coarse, curve(coarse)).astype(np.float32)
    return fine


def boundaries(length: int, parts: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the starts of `parts` random pieces, and the end."""
    inner = rng.integers(1, max(length, 2), size=max(parts - 1, 0))
    return np.unique(np.concatenate([[0], inner, [length]])).clip(max=length)


def count_of(per_ten_seconds: float, waveform: Mono, sample_rate: int) -> int:
    """Return how many events a piece of this length gets, at least one."""
    return max(1, round(per_ten_seconds * len(waveform) / sample_rate / 10))


def filtered(waveform: Mono, sample_rate: int, cutoff: float, kind: str) -> Mono:
    """Return `waveform` through a Butterworth filter of order 6."""
    sections = signal.butter(6, min(cutoff, 0.45 * sample_rate), kind, fs=sample_rate, output="sos")
    kept: Mono = signal.sosfilt(sections.astype(np.float32), waveform).astype(np.float32)
    return kept


_FRAME = 1024


def frames(waveform: Mono) -> NDArray[np.complex64]:
    """Return the spectra of half-overlapping frames; `join` undoes it.

    Shape:
        `[time]` -> `[frames, bins]`
    """
    half = _FRAME // 2
    padded = np.pad(waveform, (half, half + -len(waveform) % half)).reshape(-1, half)
    window = np.sin((np.arange(_FRAME) + 0.5) * np.pi / _FRAME).astype(np.float32)
    spectra: NDArray[np.complex64] = fft.rfft(np.concatenate([padded[:-1], padded[1:]], 1) * window, axis=1)
    return spectra


def join(spectra: NDArray[np.complex64], length: int) -> Mono:
    """Return the waveform of half-overlapping frames.

    Shape:
        `[frames, bins]` -> `[time]`
    """
    half = _FRAME // 2
    window = np.sin((np.arange(_FRAME) + 0.5) * np.pi / _FRAME).astype(np.float32)
    pieces = fft.irfft(spectra, _FRAME, axis=1) * window
    joined: Mono = (pieces[1:, :half] + pieces[:-1, half:]).reshape(-1)[:length]
    return joined
