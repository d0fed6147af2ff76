"""Bars, bells and tines: a few modes each, most of them out of the harmonic row.

Conventions:
    As in `tones`.

Source:
    Mode ratios of bars and bells: Fletcher and Rossing, The Physics of Musical Instruments, chapters 19 and 21.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rerank.generators.synth.tones import (
    HIGHEST,
    LEVEL,
    Sound,
    damped_sines,
    frequency_of,
    loudness,
    noise,
    samples_of,
    seed_of,
    shape,
)


@dataclass(frozen=True, kw_only=True)
class Modes:
    """A thing that rings when struck.

    Attributes:
        modes: (frequency ratio, amplitude, part of the decay of the first mode, hardness); a mode grows with
            velocity to the power of its hardness.
        decay: time constant of the first mode at 440 Hz, in seconds.
        decay_slope: the decay shortens with the pitch to this power.
        detune: beating of two copies of each mode, in cents.
        knock, knock_band, knock_time: noise of the mallet: level, edges in Hz, seconds.
        attack, ring: seconds.
    """

    modes: tuple[tuple[float, float, float, float], ...]
    decay: float
    decay_slope: float = 0.5
    detune: float = 0.0
    knock: float = 0.0
    knock_band: tuple[float, float] = (300.0, 3000.0)
    knock_time: float = 0.01
    attack: float = 0.001
    ring: float = 0.3


STRUCK: Mapping[str, Modes] = {
    "bells": Modes(
        modes=(
            (1.0, 1.0, 1.0, 0.0), (2.0, 0.35, 0.7, 0.2), (2.76, 0.55, 0.6, 0.5), (4.07, 0.2, 0.4, 0.6),
            (5.404, 0.45, 0.35, 0.8), (8.933, 0.25, 0.15, 1.0), (13.34, 0.1, 0.08, 1.2),
        ),
        decay=1.5, detune=0.8, knock=0.05, knock_band=(3000.0, 9000.0), knock_time=0.004, ring=1.2,
    ),
    "marimba": Modes(
        modes=((1.0, 1.0, 1.0, 0.0), (3.93, 0.35, 0.28, 0.5), (9.2, 0.14, 0.1, 1.0), (16.0, 0.05, 0.05, 1.5)),
        decay=0.3, decay_slope=0.8, knock=0.2, knock_band=(200.0, 1800.0), knock_time=0.008, attack=0.0015, ring=0.25,
    ),
    "electric piano": Modes(
        modes=(
            (1.0, 1.0, 1.0, 0.0), (2.0, 0.4, 0.6, 0.8), (3.0, 0.22, 0.42, 1.2), (4.0, 0.1, 0.32, 1.6),
            (5.0, 0.05, 0.25, 1.8), (6.0, 0.03, 0.2, 2.0), (7.13, 0.3, 0.16, 0.8), (11.4, 0.12, 0.08, 1.2),
        ),
        decay=1.3, decay_slope=0.4, detune=0.5, knock=0.04, knock_band=(150.0, 900.0), attack=0.003, ring=0.14,
    ),
}  # fmt: skip


def play_struck(name: str, pitch: float, duration: float, velocity: float) -> Sound:
    """Play one note on a thing of `STRUCK`."""
    thing = STRUCK[name]
    ratios, heights, parts, hardness = np.array(thing.modes).T
    frequencies = ratios * frequency_of(pitch)
    amplitudes = heights * (max(velocity, 0.05) / 0.8) ** hardness / (1.0 + (frequencies / 9000.0) ** 4)
    decays = thing.decay * (frequency_of(pitch) / 440.0) ** -thing.decay_slope * parts
    audible = frequencies < HIGHEST
    frequencies, amplitudes, decays = frequencies[audible], amplitudes[audible], decays[audible]
    level = LEVEL * (velocity / 0.8) ** 1.5 / loudness(frequencies, amplitudes, decays)
    if thing.detune:
        cents = 2.0 ** (thing.detune / 1200.0)
        frequencies = np.concatenate([frequencies * cents**-0.8, frequencies * cents**1.2])
        amplitudes = np.concatenate([0.6 * amplitudes, 0.4 * amplitudes])
        decays = np.concatenate([decays, decays])
    sound = damped_sines(frequencies, level * amplitudes, decays, samples_of(duration + thing.ring))
    if thing.knock:
        length = min(sound.size, samples_of(4.0 * thing.knock_time))
        fall = np.exp(-np.arange(length, dtype=np.float32) / samples_of(thing.knock_time))
        burst = noise(length, *thing.knock_band, seed_of(name, pitch, duration, velocity))
        sound[:length] += np.float32(thing.knock * LEVEL * 2.0 * (velocity / 0.8) ** 2) * burst * fall
    return shape(sound, thing.attack, thing.ring)
