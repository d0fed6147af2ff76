"""Strings that are plucked or struck, and bars: sums of damped sines.

A string is the closed form of the Karplus-Strong loop: every harmonic is one pole of it, excited by a comb (where
the string is plucked), shaped by a body, and lost at a rate that grows with its frequency.

Conventions:
    As in `tones`. `ring` is how long a note sounds on after it is let go, in seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from rerank.generators.synth.tones import (
    HIGHEST,
    LEVEL,
    SAMPLE_RATE,
    Numbers,
    Sound,
    Spectrum,
    Wave,
    damped_sines,
    frequency_of,
    loudness,
    noise,
    resonances,
    samples_of,
    seed_of,
    shape,
)

Bodies = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, kw_only=True)
class PluckedString:
    """What makes one plucked or hammered string sound as it does.

    Attributes:
        decay: time constant of the first harmonic at 220 Hz, in seconds; it shortens with the root of the pitch.
        damping: further loss per second of a harmonic at 1 kHz; it grows with the square root of the cube.
        position: where it is plucked, as a part of its length.
        pickup: where a pickup listens, as a part of its length; 0 for none.
        slope: how fast the harmonics of the excitation fall: amplitude k ** -slope.
        cutoff: where the excitation turns dull, in Hz, at velocity 0.8.
        stiffness: inharmonicity B of a string at 220 Hz.
        body, body_floor: resonances, see `tones.resonances`.
        chorus: half the distance of two detuned copies of each harmonic, in cents; 0 for none.
        aftersound: how many times longer the second copy lasts than the first.
        blooming: 0..1, how far the high harmonics arrive late (the buzz of a sitar).
        knock, knock_band, knock_time: noise of the finger, pick or hammer: level, edges in Hz, seconds.
        attack, ring: seconds.
        partials: at most so many harmonics.
    """

    decay: float
    damping: float
    position: float
    slope: float
    cutoff: float
    pickup: float = 0.0
    stiffness: float = 0.0
    body: Bodies = ()
    body_floor: float = 1.0
    chorus: float = 0.0
    aftersound: float = 1.0
    blooming: float = 0.0
    knock: float = 0.0
    knock_band: tuple[float, float] = (200.0, 4000.0)
    knock_time: float = 0.012
    attack: float = 0.0015
    ring: float = 0.12
    partials: int = 48


STRINGS: Mapping[str, PluckedString] = {
    "acoustic guitar": PluckedString(
        decay=0.85, damping=1.3, position=0.13, slope=0.75, cutoff=5200.0, stiffness=0.00006,
        body=((105.0, 30.0, 0.8), (205.0, 50.0, 1.2), (410.0, 120.0, 0.7), (2600.0, 1800.0, 0.6)), body_floor=0.6,
        knock=0.4, knock_band=(250.0, 7000.0), ring=0.15, partials=60,
    ),
    "electric guitar": PluckedString(
        decay=2.2, damping=0.5, position=0.24, pickup=0.17, slope=1.0, cutoff=2300.0, stiffness=0.00003,
        body=((2400.0, 1500.0, 0.8),), chorus=2.2, knock=0.03, ring=0.12, partials=56,
    ),
    "harp": PluckedString(
        decay=1.6, damping=2.2, position=0.42, slope=1.25, cutoff=2800.0, body=((280.0, 160.0, 0.6),),
        knock=0.03, knock_band=(150.0, 1200.0), attack=0.003, ring=0.9, partials=28,
    ),
    "banjo": PluckedString(
        decay=0.28, damping=1.6, position=0.07, slope=0.35, cutoff=4200.0, stiffness=0.00004,
        body=((650.0, 260.0, 1.6), (1500.0, 600.0, 1.1), (3200.0, 1200.0, 1.2)), body_floor=0.3,
        knock=0.5, knock_band=(700.0, 6000.0), knock_time=0.008, attack=0.0008, ring=0.08,
    ),
    "sitar": PluckedString(
        decay=1.6, damping=0.25, position=0.09, slope=0.25, cutoff=3600.0, stiffness=0.0,
        body=((700.0, 500.0, 0.8), (2100.0, 900.0, 1.8)), body_floor=0.5, chorus=1.5, blooming=0.9,
        knock=0.2, knock_band=(1500.0, 7000.0), ring=0.5, partials=46,
    ),
    "piano": PluckedString(
        decay=0.95, damping=0.45, position=0.12, slope=0.85, cutoff=1500.0, stiffness=0.0005,
        body=((90.0, 80.0, 0.5), (230.0, 200.0, 0.5), (1100.0, 1200.0, 0.4)), chorus=0.5, aftersound=2.8,
        knock=0.2, knock_band=(90.0, 1400.0), knock_time=0.03, attack=0.002, ring=0.18, partials=56,
    ),
    "bass guitar": PluckedString(
        decay=1.1, damping=1.6, position=0.2, pickup=0.22, slope=0.8, cutoff=1100.0, stiffness=0.00005,
        knock=0.06, knock_band=(200.0, 1800.0), knock_time=0.015, attack=0.003, ring=0.09, partials=64,
    ),
    "upright bass": PluckedString(
        decay=0.36, damping=5.0, position=0.36, slope=1.1, cutoff=600.0, stiffness=0.00005,
        body=((75.0, 40.0, 0.6), (115.0, 50.0, 0.9), (240.0, 120.0, 0.6)), body_floor=0.7,
        knock=0.35, knock_band=(60.0, 600.0), knock_time=0.045, attack=0.008, ring=0.1, partials=28,
    ),
    "synth bass": PluckedString(
        decay=4.0, damping=5.0, position=0.5, slope=0.75, cutoff=3000.0, chorus=1.5, attack=0.003, ring=0.05, partials=64,
    ),
}  # fmt: skip


def string_partials(
    string: PluckedString, pitch: float, velocity: float, highest: float = HIGHEST
) -> tuple[Numbers, Spectrum, Numbers]:
    """Return frequencies in Hz, complex amplitudes and decays in seconds of a string's partials."""
    first = frequency_of(pitch)
    stiffness = string.stiffness * (first / 220.0) ** 0.8
    count = int(min(string.partials, highest / first))
    order = np.arange(1, count + 1, dtype=np.float64)
    frequencies = order * first * np.sqrt((1.0 + stiffness * order**2) / (1.0 + stiffness))
    order, frequencies = order[frequencies < highest], frequencies[frequencies < highest]
    cutoff = string.cutoff * 2.0 ** (2.5 * (velocity - 0.8)) * (first / 220.0) ** 0.25
    amplitudes = order**-string.slope / (1.0 + (frequencies / cutoff) ** 2)
    if string.position != 0.5:
        amplitudes = amplitudes * (0.06 + np.abs(np.sin(np.pi * order * string.position)))
    if string.pickup:
        amplitudes = amplitudes * (0.06 + np.abs(np.sin(np.pi * order * string.pickup)))
    phases = np.random.default_rng(seed_of(string.position, round(pitch))).uniform(-1.0, 1.0, order.size)
    phased = amplitudes * resonances(frequencies, string.body, string.body_floor) * np.exp(1j * np.pi * phases)
    losses = (first / 220.0) ** 0.5 / string.decay + string.damping * (frequencies / 1000.0) ** 1.5
    decays = 1.0 / losses
    if string.chorus:
        detune = 2.0 ** (string.chorus / 1200.0)
        frequencies = np.concatenate([frequencies * detune**-0.8, frequencies * detune**1.2])
        phased = np.concatenate([0.6 * phased, 0.4 * phased * np.exp(0.7j * order)])
        decays = np.concatenate([decays, string.aftersound * decays])
    if string.blooming:
        late = string.blooming * phased * np.clip((frequencies - 2.0 * first) / (4.0 * first), 0.0, 1.0)
        frequencies = np.concatenate([frequencies, frequencies])
        phased = np.concatenate([phased, -late])
        decays = np.concatenate([decays, np.minimum(0.06, 0.5 * decays)])
    heard = np.abs(phased) > 3e-4 * np.abs(phased).max()
    return frequencies[heard], phased[heard], decays[heard]


def play_string(name: str, pitch: float, duration: float, velocity: float) -> Sound:
    """Play one note on a string of `STRINGS`."""
    string = STRINGS[name]
    frequencies, amplitudes, decays = string_partials(string, pitch, velocity)
    level = LEVEL * (velocity / 0.8) ** 1.5 / loudness(frequencies, np.abs(amplitudes), decays)
    sound = damped_sines(frequencies, level * amplitudes, decays, samples_of(duration + string.ring))
    if string.knock:
        length = min(sound.size, samples_of(4.0 * string.knock_time))
        fall = np.exp(-np.arange(length, dtype=np.float32) / samples_of(string.knock_time))
        burst = noise(length, *string.knock_band, seed_of(name, pitch, duration, velocity))
        sound[:length] += np.float32(string.knock * LEVEL * 2.0 * (velocity / 0.8) ** 2) * burst * fall
    return shape(sound, string.attack, string.ring)


DISTORTED = PluckedString(
    decay=2.2, damping=0.7, position=0.13, pickup=0.09, slope=0.8, cutoff=3200.0, stiffness=0.00002, partials=30
)
_CABINET_FALL = 4300.0


def play_distorted(pitches: tuple[float, ...], duration: float, velocity: float, strum: float = 0.004) -> Sound:
    """Play strings together into a valve amplifier: summed, driven into saturation at twice the rate, and a cabinet."""
    rate = 2 * SAMPLE_RATE
    release = 0.06
    samples = samples_of(duration + release)
    padded = 4 * next_fast_len(-(-(samples + 1024) // 4), real=True)
    driven = np.zeros(2 * padded, np.float32)
    for place, pitch in enumerate(pitches):
        frequencies, amplitudes, decays = string_partials(DISTORTED, pitch, velocity, highest=6000.0)
        level = 1.0 / loudness(frequencies, np.abs(amplitudes), decays)
        start = min(round(place * strum * rate), 2 * samples)
        driven[start : 2 * samples] += damped_sines(frequencies, level * amplitudes, decays, 2 * samples - start, rate)
    np.tanh(driven * np.float32(6.0) + np.float32(0.25), out=driven)
    spectrum = rfft(driven)[: padded // 2 + 1]
    filtered: Sound = irfft(spectrum * _cabinet(padded), padded)[:samples]
    filtered *= np.float32(0.082 * (velocity / 0.8) ** 1.2)
    return shape(filtered, 0.003, release)


@lru_cache(maxsize=32)
def _cabinet(padded: int) -> Wave:
    """Response of a loudspeaker cabinet for a transform of `padded` samples; halves, as the rate is halved."""
    frequencies = np.arange(padded // 2 + 1, dtype=np.float64) * (SAMPLE_RATE / padded)
    s = np.asarray(1j * frequencies, np.complex128)
    fall = s / _CABINET_FALL
    response: Spectrum = 0.5 / ((1.0 + 1.2 * fall + fall**2) * (1.0 + 1.8 * fall + fall**2))
    response = response * s**2 / (s**2 + 110.0 * s + 90.0**2)
    response = response * resonances(frequencies, ((120.0, 90.0, 0.5), (2400.0, 1500.0, 1.0)))
    return np.asarray(response, np.complex64)
