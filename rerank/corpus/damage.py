"""Ways to damage music: a reward model must prefer the undamaged piece, whatever made it.

`DAMAGES` are used in training. Those of `rerank.corpus.held_out_damage` never are: the benchmark uses them to see
whether the reward model learnt what damage is, or only the damages it was shown.

**Conventions**: mono float32 waveforms in [-1, 1] of at least one sample; a damage returns as many samples as it got
and draws all its chances from the generator it is given. Severity runs from 0 (mild) over 0.5 (everyone hears it) to 1
(ruined).
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from rerank.corpus.waveforms import (
    Damage,
    Mono,
    at_level,
    boundaries,
    count_of,
    filtered,
    frames,
    join,
    level,
    mixed,
    read_at,
    slow_curve,
)


def _noise(slope: float) -> Damage:
    """Return a damage that adds noise whose amplitude falls with frequency to the power `slope`."""

    def add_noise(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
        noise = rng.standard_normal(len(waveform), dtype=np.float32)
        if slope and len(noise) > 1:
            spectrum = fft.rfft(noise)
            hertz = np.linspace(0, sample_rate / 2, len(spectrum), dtype=np.float32)
            spectrum *= np.where(hertz < 40, 0, np.maximum(hertz, 40) ** np.float32(-slope))
            noise = fft.irfft(spectrum, len(noise))
        return mixed(waveform, noise, 30 - 36 * severity)

    return add_noise


def hum(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Add mains hum with its harmonics."""
    harmonics = np.arange(1, 25)
    phases, strengths = rng.uniform(0, 2 * np.pi, 24), rng.uniform(0.3, 1, 24) / harmonics**0.7
    turn = np.arange(2048) / 2048 * 2 * np.pi
    period = (strengths[:, None] * np.sin(turn * harmonics[:, None] + phases[:, None])).sum(0).astype(np.float32)
    index = np.arange(len(waveform)) * (rng.choice([50, 60, 100, 120]) / sample_rate * 2048)
    return mixed(waveform, period[index.astype(np.int64) % 2048], 24 - 36 * severity)


def clipping(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Cut off the peaks."""
    limit = level(waveform) * 2 ** (1.8 - 4 * severity)
    return at_level(np.clip(waveform, -limit, limit), waveform)


def low_pass(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Take away the treble: all above 8 kHz (severity 0) to 280 Hz (severity 1)."""
    return at_level(filtered(waveform, sample_rate, 8000 * (280 / 8000) ** severity, "lowpass"), waveform)


def high_pass(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Take away the bass: all below 80 Hz (severity 0) to 4 kHz (severity 1)."""
    return at_level(filtered(waveform, sample_rate, 80 * (4000 / 80) ** severity, "highpass"), waveform)


def dropouts(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Leave many short gaps."""
    damaged = waveform.copy()
    for _ in range(count_of(4 + 40 * severity, waveform, sample_rate)):
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

    return read_at(waveform, np.arange(len(waveform), dtype=np.float64) + slow_curve(position, len(waveform)))


def speed_up(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Play too fast, and so too high, and start again when the piece is over."""
    factor = 2 ** (0.1 + 1.1 * severity)
    return read_at(waveform, np.arange(len(waveform), dtype=np.float64) * factor % len(waveform))


def smear(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Drown the piece in a long reverberation without its direct sound."""
    seconds = 0.4 + 5 * severity
    taps = min(int(seconds * sample_rate), 3 * sample_rate)
    decay = slow_curve(lambda sample: 10 ** (-3 * sample / (seconds * sample_rate)), taps)
    response = rng.standard_normal(taps, dtype=np.float32) * decay
    size = fft.next_fast_len(len(waveform) + taps, real=True)
    wet = fft.irfft(fft.rfft(waveform, size) * fft.rfft(response, size), size)[: len(waveform)]
    dry = max(0.0, 1 - 1.6 * severity)
    return at_level(dry * waveform / level(waveform) + (0.2 + severity) * wet / level(wet), waveform)


def codec(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Keep only the strongest, coarsely rounded parts of the spectrum, like a codec with too few bits."""
    spectra = frames(waveform)
    magnitude = np.abs(spectra)
    loudest = magnitude.max(1, keepdims=True) + 1e-9
    step = loudest * 10 ** ((-50 + 42 * severity) / 20)
    spectra *= np.round(magnitude / step) * step / np.maximum(magnitude, 1e-9)
    bands = rng.random((len(spectra), 32)) > 0.5 * severity
    spectra *= np.repeat(bands, 17, axis=1)[:, : spectra.shape[1]]
    spectra[:, int(spectra.shape[1] * (1 - 0.75 * severity)) :] = 0
    return at_level(join(spectra, len(waveform)), waveform)


def cuts(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Cut the piece up and join the segments in another order."""
    edges = boundaries(len(waveform), 1 + count_of(3 + 25 * severity, waveform, sample_rate), rng)
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
    pitch = slow_curve(_random_curve(rng.uniform(0.85, 1.2, syllables) * rng.uniform(90, 220), length), length)
    buzz = np.mod(np.cumsum(pitch / sample_rate, dtype=np.float64), 1).astype(np.float32) - 0.5
    spectra = frames(buzz + 0.15 * rng.standard_normal(length, dtype=np.float32))
    frame_at = np.linspace(0, syllables - 1, len(spectra))
    hertz = np.linspace(0, sample_rate / 2, spectra.shape[1], dtype=np.float32)
    shape = np.zeros(spectra.shape, np.float32)
    for low, high, width in ((250, 850, 90), (800, 2400, 140), (2300, 3300, 220)):
        centre = np.interp(frame_at, np.arange(syllables), rng.uniform(low, high, syllables))
        shape += 1 / (1 + ((hertz - centre[:, None].astype(np.float32)) / width) ** 2)
    loudness = np.interp(frame_at, np.arange(syllables), rng.choice([0.0, 0.5, 1.0, 1.5], syllables))
    beat = 0.15 + np.abs(np.sin(np.pi * frame_at))
    speech = join(spectra * shape * (loudness * beat)[:, None].astype(np.float32), length)
    return mixed(waveform, speech, 18 - 30 * severity)


def _random_curve(values: NDArray[np.float64], length: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return a curve of the sample index through `values`, spread evenly over `length` samples."""
    return lambda sample: np.interp(sample, np.linspace(0, length, len(values)), values)


def stutter(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Let the player hang: short pieces repeat over what should follow."""
    damaged = waveform.copy()
    for _ in range(count_of(2 + 12 * severity, waveform, sample_rate)):
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
        return mixed(waveform, np.resize(np.roll(other, -start), len(waveform)), 16 - 16 * severity)

    return mix


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
