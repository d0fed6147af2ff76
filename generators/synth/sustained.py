"""Tones that last as long as they are held: blown, bowed, keyed and electronic, read from looped waves.

Each instrument has a soft and a bright wave, made once per semitone from its harmonics; the louder a note is at a
moment, the more of the bright one is heard. Vibrato, drift and ensembles come from bent times.

Conventions:
    As in `tones`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rerank.generators.synth.tones import (
    HIGHEST,
    LEVEL,
    SAMPLE_RATE,
    Sound,
    Spectrum,
    Wave,
    bent_time,
    frequency_of,
    looped_wave,
    loudness,
    noise,
    ramp,
    resonances,
    samples_of,
    seed_of,
    shape,
    tabulate,
)


@dataclass(frozen=True, kw_only=True)
class Sustained:
    """What makes one sustained instrument sound as it does.

    Attributes:
        slope: harmonics fall as k ** -slope; `even` multiplies the even ones.
        drawbars: heights of the first harmonics, instead of `slope`.
        soft, bright: where the soft and the bright wave turn dull, in Hz.
        tracking: 0..1, how far these follow the pitch.
        body, body_floor: resonances, see `tones.resonances`.
        attack, release: seconds.
        vibrato: rate in Hz, depth in cents, seconds until it begins.
        drift: slow wander of the pitch, in cents.
        voices: detuning of each voice, in cents; their mean is zero.
        tremolo: rate in Hz, depth 0..1.
        breath, breath_band: noise while the note lasts, relative to it, and its edges in Hz.
        chiff, chiff_time: noise at the onset, relative to the note, and its time constant in seconds.
        closing: time constant in seconds with which the bright wave fades after the onset; 0 for never.
        scattered: harmonics in random phases (as an ensemble or a room makes them) rather than aligned.
    """

    slope: float = 1.0
    even: float = 1.0
    drawbars: tuple[float, ...] = ()
    soft: float
    bright: float
    tracking: float = 0.0
    body: tuple[tuple[float, float, float], ...] = ()
    body_floor: float = 1.0
    attack: float = 0.04
    release: float = 0.08
    vibrato: tuple[float, float, float] = (5.0, 0.0, 0.3)
    drift: float = 0.0
    voices: tuple[float, ...] = (0.0,)
    tremolo: tuple[float, float] = (5.0, 0.0)
    breath: float = 0.0
    breath_band: tuple[float, float] = (500.0, 5000.0)
    chiff: float = 0.0
    chiff_time: float = 0.03
    closing: float = 0.0
    scattered: bool = False


SUSTAINED: Mapping[str, Sustained] = {
    "organ": Sustained(
        drawbars=(1.0, 0.75, 0.5, 0.6, 0.12, 0.3, 0.0, 0.4), soft=9000.0, bright=12000.0, attack=0.006, release=0.03,
        vibrato=(6.4, 4.0, 0.0), tremolo=(6.4, 0.12), chiff=0.12, chiff_time=0.006, scattered=True,
    ),
    "accordion": Sustained(
        slope=0.45, soft=3000.0, bright=4600.0, body=((1600.0, 900.0, 0.9), (3600.0, 1500.0, 1.4)), attack=0.035,
        release=0.06, voices=(-8.0, 8.0), tremolo=(4.5, 0.05), breath=0.01,
    ),
    "flute": Sustained(
        slope=1.9, soft=1500.0, bright=3500.0, tracking=0.6, attack=0.055, release=0.08, vibrato=(5.2, 10.0, 0.25),
        drift=1.0, tremolo=(5.2, 0.16), breath=0.11, breath_band=(900.0, 6000.0), chiff=0.5, chiff_time=0.035,
    ),
    "clarinet": Sustained(
        slope=0.8, even=0.06, soft=1300.0, bright=2600.0, body=((1500.0, 1200.0, 0.6),), attack=0.04, release=0.06,
        drift=1.0, breath=0.015, breath_band=(1000.0, 5000.0), chiff=0.08,
    ),
    "saxophone": Sustained(
        slope=0.8, soft=1100.0, bright=2600.0, body=((480.0, 260.0, 2.0), (1200.0, 400.0, 1.4), (2700.0, 900.0, 0.6)),
        body_floor=0.35, attack=0.035, release=0.07, vibrato=(4.8, 16.0, 0.3), drift=1.5, tremolo=(4.8, 0.1),
        breath=0.09, breath_band=(1500.0, 6500.0), chiff=0.35,
    ),
    "trumpet": Sustained(
        slope=0.25, soft=1400.0, bright=3800.0, body=((1250.0, 900.0, 1.6), (2300.0, 1200.0, 0.9)), body_floor=0.5,
        attack=0.028, release=0.05, vibrato=(5.4, 9.0, 0.4), drift=1.0, breath=0.01, chiff=0.12, chiff_time=0.012,
    ),
    "violin": Sustained(
        slope=0.95, soft=3000.0, bright=6000.0,
        body=((285.0, 60.0, 0.8), (470.0, 80.0, 1.2), (720.0, 160.0, 0.7), (1150.0, 300.0, 0.8), (2600.0, 1100.0, 1.8)),
        body_floor=0.5, attack=0.07, release=0.1, vibrato=(5.8, 20.0, 0.15), drift=2.0, tremolo=(5.8, 0.12),
        breath=0.03, breath_band=(2000.0, 8000.0), chiff=0.2, chiff_time=0.05,
    ),
    "cello": Sustained(
        slope=0.9, soft=1500.0, bright=3200.0,
        body=((105.0, 40.0, 0.8), (190.0, 60.0, 1.3), (320.0, 120.0, 0.8), (600.0, 250.0, 0.8), (1500.0, 900.0, 1.0)),
        body_floor=0.5, attack=0.09, release=0.12, vibrato=(5.1, 14.0, 0.2), drift=2.0, tremolo=(5.1, 0.1),
        breath=0.025, breath_band=(1000.0, 5000.0), chiff=0.15, chiff_time=0.06,
    ),
    "strings": Sustained(
        slope=1.0, soft=2200.0, bright=4500.0, body=((300.0, 150.0, 0.5), (500.0, 250.0, 0.7), (2400.0, 1400.0, 0.8)),
        body_floor=0.7, attack=0.16, release=0.25, vibrato=(5.4, 9.0, 0.1), drift=2.5, voices=(-7.0, -2.0, 2.0, 7.0),
        breath=0.02, breath_band=(2000.0, 8000.0), scattered=True,
    ),
    "pad": Sustained(
        slope=1.0, soft=500.0, bright=1500.0, tracking=0.4, attack=0.35, release=0.5, voices=(-8.0, 0.0, 8.0),
        drift=1.0, tremolo=(0.4, 0.12), scattered=True,
    ),
    "synth lead": Sustained(
        slope=1.0, soft=1800.0, bright=9000.0, tracking=0.5, attack=0.006, release=0.06, vibrato=(5.6, 10.0, 0.35),
        voices=(-5.0, 5.0), closing=0.25,
    ),
}  # fmt: skip


def _harmonics(tone: Sustained, pitch: int, cutoff: float) -> Spectrum:
    first = frequency_of(pitch)
    order = np.arange(1, max(2, int(min(HIGHEST, 9.0 * tone.bright + 4.0 * first) / first)), dtype=np.float64)
    if tone.drawbars:
        heights = np.zeros(order.size)
        heights[: len(tone.drawbars)] = tone.drawbars[: order.size]
    else:
        heights = order**-tone.slope
    heights[1::2] *= tone.even
    corner = cutoff * (first / 440.0) ** tone.tracking
    frequencies = order * first
    spectrum = heights * resonances(frequencies, tone.body, tone.body_floor) / (1.0 + (frequencies / corner) ** 3)
    if tone.scattered:
        spectrum = spectrum * np.exp(2j * np.pi * np.random.default_rng(pitch).uniform(size=order.size))
    return np.asarray(spectrum)


@lru_cache(maxsize=256)
def _table(name: str, pitch: int) -> Wave:
    """Return the soft and bright wave of an instrument at a whole pitch, each of the standard loudness."""
    tone = SUSTAINED[name]
    first = frequency_of(pitch)
    waves = []
    for cutoff in (tone.soft, tone.bright):
        harmonics = _harmonics(tone, pitch, cutoff)
        frequencies = first * np.arange(1, harmonics.size + 1, dtype=np.float64)
        waves.append(harmonics * LEVEL / loudness(frequencies, np.abs(harmonics)))
    return tabulate(waves[0], waves[1])


@lru_cache(maxsize=64)
def _tremolo(name: str, seconds: int) -> Sound:
    """Return the slow coming and going of an instrument's loudness, about 1, `[seconds * SAMPLE_RATE]`."""
    rate, depth = SUSTAINED[name].tremolo
    time = np.arange(seconds * SAMPLE_RATE) / SAMPLE_RATE
    rising = np.clip((time - SUSTAINED[name].vibrato[2]) / 0.35, 0.0, 1.0) if rate > 1.0 else 1.0
    swing = (1.0 + depth * rising * np.sin(2.0 * np.pi * rate * time)).astype(np.float32)
    swing.flags.writeable = False
    return swing


@lru_cache(maxsize=64)
def _fall(samples: int) -> Sound:
    fall = np.exp(-np.arange(6 * samples, dtype=np.float32) / samples)
    fall.flags.writeable = False
    return fall


def play_sustained(name: str, pitch: float, duration: float, velocity: float) -> Sound:
    """Play one note on an instrument of `SUSTAINED`."""
    tone = SUSTAINED[name]
    seed = seed_of(name, pitch, duration, velocity)
    attack = tone.attack * min(1.5, max(0.6, 1.4 - 0.5 * velocity))
    if tone.attack > 0.1:
        attack = min(attack, 0.6 * duration + 0.02)
    release = tone.release
    samples = samples_of(max(duration, attack) + release)
    envelope = np.ones(samples, np.float32)
    if tone.tremolo[1]:
        envelope = _tremolo(name, -(-samples // SAMPLE_RATE))[:samples].copy()
    rising = samples_of(attack)
    envelope[:rising] *= ramp(rising)
    envelope[-samples_of(release) :] *= ramp(samples_of(release))[::-1]
    envelope *= np.float32((velocity / 0.8) ** 1.5)

    table = _table(name, round(pitch))
    frequency = frequency_of(pitch)
    rate, cents, delay = tone.vibrato
    wave = np.zeros(samples, np.complex64)
    for voice, detuning in enumerate(tone.voices):
        variant = voice + 8 * (seed % 3) if tone.drift else voice
        times = bent_time(samples, rate, cents, delay, tone.drift, variant)
        wave += looped_wave(table, frequency * 2.0 ** (detuning / 1200.0), times, 0.618 * voice)
    scale = 1.0 / np.sqrt(len(tone.voices))
    brightness = envelope * np.float32(min(1.0, 0.2 + 0.8 * velocity) * (0.8 / velocity) ** 0.5 if velocity else 0.0)
    if tone.closing:
        fading = _fall(samples_of(tone.closing))[:samples]
        brightness[: fading.size] *= fading
        brightness[fading.size :] = 0.0
    else:
        np.minimum(brightness, 1.0, out=brightness)
    sound = wave.real + wave.imag * brightness
    sound *= envelope * np.float32(scale)
    if tone.breath:
        hiss = noise(samples, *tone.breath_band, seed)
        sound += hiss * envelope * np.float32(tone.breath * LEVEL)
    if tone.chiff:
        fall = _fall(samples_of(tone.chiff_time))[:samples]
        burst = noise(fall.size, *tone.breath_band, seed + 1) * fall
        sound[: fall.size] += burst * np.float32(tone.chiff * LEVEL * (velocity / 0.8) ** 1.5)
    return shape(sound, 0.003, 0.003)
