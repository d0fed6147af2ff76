"""Ways to damage music that training never uses; the conventions are those of `rerank.corpus.damage`."""

from collections.abc import Mapping

import numpy as np

from rerank.corpus.waveforms import (
    QUIETEST,
    Damage,
    Mono,
    at_level,
    boundaries,
    count_of,
    filtered,
    fitted,
    read_at,
    slow_curve,
)


def bit_crush(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Keep few bits and few samples."""
    held = waveform[np.arange(len(waveform)) // (step := 1 + round(8 * severity)) * step]
    steps = 2 ** (7 - 5 * severity)
    peak = max(float(np.abs(waveform).max()), QUIETEST)
    return fitted(np.round(held / peak * steps) / steps * peak)


def ring_modulation(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Multiply by a tone."""
    angle = np.arange(len(waveform), dtype=np.float32) * np.float32(2 * np.pi * rng.uniform(70, 600) / sample_rate)
    depth = severity**0.5
    return at_level(waveform * (1 - depth + depth * np.sin(angle)), waveform)


def tremolo(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Chop the piece on and off several times a second."""
    rate, phase = rng.uniform(5, 14) / sample_rate, rng.uniform(0, 2 * np.pi)
    wave = slow_curve(lambda sample: np.tanh(6 * np.sin(2 * np.pi * rate * sample + phase)), len(waveform))
    return fitted(waveform * (1 - (0.2 + 0.8 * severity) * (0.5 + 0.5 * wave)))


def telephone(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Keep the band of a telephone, with logarithmic samples of few bits."""
    band = filtered(waveform, sample_rate, 6000 * (2200 / 6000) ** severity, "lowpass")
    band = filtered(band, sample_rate, 150 * (700 / 150) ** severity, "highpass")
    peak, steps = max(float(np.abs(band).max()), QUIETEST), 2 ** (7 - 4.5 * severity)
    coded = np.round(np.sign(band) * np.log1p(255 * np.abs(band) / peak) / np.log(256) * steps) / steps
    return at_level(np.sign(coded) * np.expm1(np.abs(coded) * np.log(256)) / 255 * peak, waveform)


def reversed_segments(waveform: Mono, sample_rate: int, severity: float, rng: np.random.Generator) -> Mono:
    """Play some segments backwards."""
    damaged = waveform.copy()
    edges = boundaries(len(waveform), 1 + count_of(20, waveform, sample_rate), rng)
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
        copy += read_at(waveform, time - delay * grain) * (1 - np.abs(2 * delay - 1)).astype(np.float32)
    return at_level(waveform + (0.3 + 0.7 * severity) * copy, waveform)


HELD_OUT_DAMAGES: Mapping[str, Damage] = {
    "bit crush": bit_crush,
    "ring modulation": ring_modulation,
    "tremolo": tremolo,
    "telephone": telephone,
    "reversed segments": reversed_segments,
    "detuned double": detuned_double,
}
"""Never used in training."""
