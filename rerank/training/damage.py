"""Ways to damage music: a reward model must prefer the undamaged piece, whatever made it.

`DAMAGES` are used in training. `HELD_OUT_DAMAGES` never are: the benchmark uses them to see whether the reward model
learnt what damage is, or only the damages it was shown.

**Conventions**: mono float32 waveforms in [-1, 1] of at least one sample; a damage returns as many samples as it got
and draws all its chances from the generator it is given. Severity runs from 0 (mild) over 0.5 (everyone hears it) to 1
(ruined).
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

Mono = NDArray[np.float32]

Damage = Callable[[Mono, int, float, np.random.Generator], Mono]
"""`(waveform, sample_rate, severity, rng)` -> waveform of the same length."""

_QUIETEST = 1e-4
"""Level that silent music counts as, where a disturbance is set relative to the music."""


def _level(waveform: Mono) -> float:
    """Return the root mean square, at least `_QUIETEST`."""
    return (
        max(float(np.sqrt(np.mean(np.square(waveform, dtype=np.float32)))), _QUIETEST) if waveform.size else _QUIETEST
    )


def _fit(waveform: NDArray[np.floating]) -> Mono:
    """Return `waveform` as float32, turned down where it would exceed full scale."""
    peak = float(np.abs(waveform).max())
    return (waveform / max(peak, 1.0)).astype(np.float32)


def _at_level(waveform: NDArray[np.floating], like: Mono) -> Mono:
    """Return `waveform` as loud as `like`."""
    damaged = waveform.astype(np.float32)
    return _fit(damaged * (_level(like) / _level(damaged)))


def _add(waveform: Mono, disturbance: NDArray[np.floating], decibels: float) -> Mono:
    """Return the sum, with the disturbance that many decibels below the music."""
    disturbance = disturbance.astype(np.float32)
    gain = _level(waveform) / _level(disturbance) * 10 ** (-decibels / 20)
    return _fit(waveform + np.float32(gain) * disturbance)


def _read(waveform: Mono, position: NDArray[np.float64]) -> Mono:
    """Return the samples at fractional positions, linearly interpolated."""
    read: Mono = np.interp(position, np.arange(len(waveform)), waveform).astype(np.float32)
    return read


def _slow_curve(curve: Callable[[NDArray[np.float64]], NDArray[np.float64]], length: int, step: int = 64) -> Mono:
    """Return `curve` of the sample index, computed at every `step`-th sample and interpolated."""
    coarse = np.arange(0, length + step, step, dtype=np.float64)
    fine: Mono = np.interp(np.arange(length), coarse, curve(coarse)).astype(np.float32)
    return fine


def _boundaries(length: int, parts: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the starts of `parts` random pieces, and the end."""
    inner = rng.integers(1, max(length, 2), size=max(parts - 1, 0))
    return np.unique(np.concatenate([[0], inner, [length]])).clip(max=length)


def _count(per_ten_seconds: float, waveform: Mono, sample_rate: int) -> int:
    """Return how many events a piece of this length gets, at least one."""
    return max(1, round(per_ten_seconds * len(waveform) / sample_rate / 10))


def _noise(slope: float) -> Damage:
    """Return a damage that adds noise whose amplitude falls with frequency to the power `slope`."""

    def add_noise(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
        noise = rng.standard_normal(len(waveform), dtype=np.float32)
        if slope and len(noise) > 1:
            spectrum = fft.rfft(noise)
            hertz = np.linspace(0, sample_rate / 2, len(spectrum), dtype=np.float32)
            spectrum *= np.where(hertz < 40, 0, np.maximum(hertz, 40) ** np.float32(-slope))
            noise = fft.irfft(spectrum, len(noise))
        return _add(waveform, noise, 30 - 36 * severity)

    return add_noise


def hum(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Add mains hum with its harmonics."""
    harmonics = np.arange(1, 25)
    phases, strengths = rng.uniform(0, 2 * np.pi, 24), rng.uniform(0.3, 1, 24) / harmonics**0.7
    turn = np.arange(2048) / 2048 * 2 * np.pi
    period = (strengths[:, None] * np.sin(turn * harmonics[:, None] + phases[:, None])).sum(0).astype(np.float32)
    index = np.arange(len(waveform)) * (rng.choice([50, 60, 100, 120]) / sample_rate * 2048)
    return _add(waveform, period[index.astype(np.int64) % 2048], 24 - 36 * severity)


def clipping(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Cut off the peaks."""
    limit = _level(waveform) * 2 ** (1.8 - 4 * severity)
    return _at_level(np.clip(waveform, -limit, limit), waveform)


def _filter(waveform: Mono, sample_rate: int, cutoff: float, kind: str) -> Mono:
    """Return `waveform` through a Butterworth filter of order 6."""
    sections = signal.butter(6, min(cutoff, 0.45 * sample_rate), kind, fs=sample_rate, output="sos")
    filtered: Mono = signal.sosfilt(sections.astype(np.float32), waveform).astype(np.float32)
    return filtered


def low_pass(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Take away the treble: all above 8 kHz (severity 0) to 280 Hz (severity 1)."""
    return _at_level(_filter(waveform, sample_rate, 8000 * (280 / 8000) ** severity, "lowpass"), waveform)


def high_pass(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Take away the bass: all below 80 Hz (severity 0) to 4 kHz (severity 1)."""
    return _at_level(_filter(waveform, sample_rate, 80 * (4000 / 80) ** severity, "highpass"), waveform)


def dropouts(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Leave many short gaps."""
    damaged = waveform.copy()
    for _ in range(_count(4 + 40 * severity, waveform, sample_rate)):
        start = rng.integers(0, len(waveform))
        damaged[start : start + int(rng.uniform(0.01, 0.04 + 0.16 * severity) * sample_rate)] = 0
    return damaged


def wow(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Let the speed waver slowly (wow) and quickly (flutter)."""
    rates, phases = rng.uniform([0.4, 5], [2, 11]) / sample_rate, rng.uniform(0, 2 * np.pi, 2)
    swings = np.array([0.10, 0.03]) * severity * rng.uniform(0.8, 1.2, 2) / (2 * np.pi * rates)

    def position(sample: NDArray[np.float64]) -> NDArray[np.float64]:
        waver = swings[:, None] * np.sin(2 * np.pi * rates[:, None] * sample + phases[:, None])
        result: NDArray[np.float64] = waver.sum(0)
        return result

    return _read(waveform, np.arange(len(waveform), dtype=np.float64) + _slow_curve(position, len(waveform)))


def speed_up(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Play too fast, and so too high, and start again when the piece is over."""
    factor = 2 ** (0.1 + 1.1 * severity)
    return _read(waveform, np.arange(len(waveform), dtype=np.float64) * factor % len(waveform))


def smear(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Drown the piece in a long reverberation without its direct sound."""
    seconds = 0.4 + 5 * severity
    taps = min(int(seconds * sample_rate), 3 * sample_rate)
    decay = _slow_curve(lambda sample: 10 ** (-3 * sample / (seconds * sample_rate)), taps)
    response = rng.standard_normal(taps, dtype=np.float32) * decay
    size = fft.next_fast_len(len(waveform) + taps, real=True)
    wet = fft.irfft(fft.rfft(waveform, size) * fft.rfft(response, size), size)[: len(waveform)]
    dry = max(0.0, 1 - 1.6 * severity)
    return _at_level(dry * waveform / _level(waveform) + (0.2 + severity) * wet / _level(wet), waveform)


_FRAME = 1024


def _frames(waveform: Mono) -> NDArray[np.complex64]:
    """Return the spectra of half-overlapping frames; `_join` undoes it.

    Shape:
        `[time]` -> `[frames, bins]`
    """
    half = _FRAME // 2
    padded = np.pad(waveform, (half, half + -len(waveform) % half)).reshape(-1, half)
    window = np.sin((np.arange(_FRAME) + 0.5) * np.pi / _FRAME).astype(np.float32)
    spectra: NDArray[np.complex64] = fft.rfft(np.concatenate([padded[:-1], padded[1:]], 1) * window, axis=1)
    return spectra


def _join(spectra: NDArray[np.complex64], length: int) -> Mono:
    """Return the waveform of half-overlapping frames.

    Shape:
        `[frames, bins]` -> `[time]`
    """
    half = _FRAME // 2
    window = np.sin((np.arange(_FRAME) + 0.5) * np.pi / _FRAME).astype(np.float32)
    pieces = fft.irfft(spectra, _FRAME, axis=1) * window
    joined: Mono = (pieces[1:, :half] + pieces[:-1, half:]).reshape(-1)[:length]
    return joined


def codec(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Keep only the strongest, coarsely rounded parts of the spectrum, like a codec with too few bits."""
    spectra = _frames(waveform)
    magnitude = np.abs(spectra)
    loudest = magnitude.max(1, keepdims=True) + 1e-9
    step = loudest * 10 ** ((-50 + 42 * severity) / 20)
    spectra *= np.round(magnitude / step) * step / np.maximum(magnitude, 1e-9)
    bands = rng.random((len(spectra), 32)) > 0.5 * severity
    spectra *= np.repeat(bands, 17, axis=1)[:, : spectra.shape[1]]
    spectra[:, int(spectra.shape[1] * (1 - 0.75 * severity)) :] = 0
    return _at_level(_join(spectra, len(waveform)), waveform)


def cuts(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Cut the piece up and join the segments in another order."""
    edges = _boundaries(len(waveform), 1 + _count(3 + 25 * severity, waveform, sample_rate), rng)
    pieces = [waveform[start:end] for start, end in pairwise(edges)]
    order = rng.permutation(len(pieces))
    if np.array_equal(order, np.arange(len(pieces))):
        order = order[::-1]
    return np.concatenate([pieces[index] for index in order])


def silence(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Mute one long part."""
    muted = round((0.1 + 0.8 * severity) * len(waveform))
    start = rng.integers(0, len(waveform) - muted + 1)
    damaged = waveform.copy()
    damaged[start : start + muted] = 0
    return damaged


def babble(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Let somebody talk over the music: buzz and hiss through moving formants, in syllables."""
    length = len(waveform)
    syllables = max(2, int(length / sample_rate * rng.uniform(3.5, 6)) + 1)
    pitch = _slow_curve(_random_curve(rng.uniform(0.85, 1.2, syllables) * rng.uniform(90, 220), length), length)
    buzz = np.mod(np.cumsum(pitch / sample_rate, dtype=np.float64), 1).astype(np.float32) - 0.5
    spectra = _frames(buzz + 0.15 * rng.standard_normal(length, dtype=np.float32))
    frame_at = np.linspace(0, syllables - 1, len(spectra))
    hertz = np.linspace(0, sample_rate / 2, spectra.shape[1], dtype=np.float32)
    shape = np.zeros(spectra.shape, np.float32)
    for low, high, width in ((250, 850, 90), (800, 2400, 140), (2300, 3300, 220)):
        centre = np.interp(frame_at, np.arange(syllables), rng.uniform(low, high, syllables))
        shape += 1 / (1 + ((hertz - centre[:, None].astype(np.float32)) / width) ** 2)
    loudness = np.interp(frame_at, np.arange(syllables), rng.choice([0.0, 0.5, 1.0, 1.5], syllables))
    beat = 0.15 + np.abs(np.sin(np.pi * frame_at))
    speech = _join(spectra * shape * (loudness * beat)[:, None].astype(np.float32), length)
    return _add(waveform, speech, 18 - 30 * severity)


def _random_curve(values: NDArray[np.float64], length: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return a curve of the sample index through `values`, spread evenly over `length` samples."""
    return lambda sample: np.interp(sample, np.linspace(0, length, len(values)), values)


def stutter(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Let the player hang: short pieces repeat over what should follow."""
    damaged = waveform.copy()
    for _ in range(_count(2 + 12 * severity, waveform, sample_rate)):
        grain = max(1, int(rng.uniform(0.04, 0.16) * sample_rate))
        start = rng.integers(0, max(len(waveform) - grain, 1))
        target = damaged[start : start + grain * int(rng.integers(4, 9))]
        target[:] = np.resize(waveform[start : start + grain], len(target))
    return damaged


def mix_with(other: Mono) -> Damage:
    """Return a damage that plays another piece at the same time.

    It is not in `DAMAGES`, since it needs that second piece.

    Args:
        other: any length but 0, at the sample rate of the piece to damage; it is repeated or cut to fit.
    """

    def mix(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
        start = int(rng.integers(0, len(other)))
        return _add(waveform, np.resize(np.roll(other, -start), len(waveform)), 16 - 16 * severity)

    return mix


def bit_crush(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Keep few bits and few samples."""
    held = waveform[np.arange(len(waveform)) // (step := 1 + round(8 * severity)) * step]
    steps = 2 ** (7 - 5 * severity)
    peak = max(float(np.abs(waveform).max()), _QUIETEST)
    return _fit(np.round(held / peak * steps) / steps * peak)


def ring_modulation(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Multiply by a tone."""
    angle = np.arange(len(waveform), dtype=np.float32) * np.float32(2 * np.pi * rng.uniform(70, 600) / sample_rate)
    depth = severity**0.5
    return _at_level(waveform * (1 - depth + depth * np.sin(angle)), waveform)


def tremolo(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Chop the piece on and off several times a second."""
    rate, phase = rng.uniform(5, 14) / sample_rate, rng.uniform(0, 2 * np.pi)
    wave = _slow_curve(lambda sample: np.tanh(6 * np.sin(2 * np.pi * rate * sample + phase)), len(waveform))
    return _fit(waveform * (1 - (0.2 + 0.8 * severity) * (0.5 + 0.5 * wave)))


def telephone(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Keep the band of a telephone, with logarithmic samples of few bits."""
    band = _filter(waveform, sample_rate, 6000 * (2200 / 6000) ** severity, "lowpass")
    band = _filter(band, sample_rate, 150 * (700 / 150) ** severity, "highpass")
    peak, steps = max(float(np.abs(band).max()), _QUIETEST), 2 ** (7 - 4.5 * severity)
    coded = np.round(np.sign(band) * np.log1p(255 * np.abs(band) / peak) / np.log(256) * steps) / steps
    return _at_level(np.sign(coded) * np.expm1(np.abs(coded) * np.log(256)) / 255 * peak, waveform)


def reversed_segments(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Play some segments backwards."""
    damaged = waveform.copy()
    edges = _boundaries(len(waveform), 1 + _count(20, waveform, sample_rate), rng)
    chosen = rng.permutation(len(edges) - 1)[: max(1, round(severity * (len(edges) - 1)))]
    for index in chosen:
        damaged[edges[index] : edges[index + 1]] = waveform[edges[index] : edges[index + 1]][::-1]
    return damaged


def detuned_double(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Add a copy that is out of tune by up to a good half semitone, at the same tempo."""
    cents = rng.choice([-1.0, 1.0]) * (15 + 50 * severity) * rng.uniform(0.8, 1.2)
    grain, time = 0.09 * sample_rate, np.arange(len(waveform), dtype=np.float64)
    turn = np.mod(time * (1 - 2 ** (cents / 1200)) / grain, 1)
    copy = np.zeros(len(waveform), np.float32)
    for shift in (0.0, 0.5):
        delay = np.mod(turn + shift, 1)
        copy += _read(waveform, time - delay * grain) * (1 - np.abs(2 * delay - 1)).astype(np.float32)
    return _at_level(waveform + (0.3 + 0.7 * severity) * copy, waveform)


DAMAGES: Mapping[str, Damage] = {
    "white noise": _noise(0.0),
    "pink noise": _noise(0.5),
    "brown noise": _noise(1.0),
    "hum": hum,
    "clipping": clipping,
    "low pass": low_pass,
    "high pass": high_pass,
    "dropouts": dropouts,
    "wow": wow,
    "speed up": speed_up,
    "smear": smear,
    "codec": codec,
    "cuts": cuts,
    "silence": silence,
    "babble": babble,
    "stutter": stutter,
}
"""Used in training, with `mix_with`."""

HELD_OUT_DAMAGES: Mapping[str, Damage] = {
    "bit crush": bit_crush,
    "ring modulation": ring_modulation,
    "tremolo": tremolo,
    "telephone": telephone,
    "reversed segments": reversed_segments,
    "detuned double": detuned_double,
}
"""Never used in training."""
