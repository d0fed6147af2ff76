"""A singing voice: a glottal pulse train through the resonances of a vowel.

Conventions:
    As in `tones`. A vowel is one of `VOWELS`, see `vowels`.

Source:
    Formants: Hillenbrand et al. 1995, each moved by at most a fifth so that the least distance of two vowels, between
    their mel spectra in dB at pitches of 104..208 Hz (men) and 208..415 Hz (women), became as great as possible.
    Cascade of resonators: Klatt 1980.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

import numpy as np

from rerank.generators.synth.tones import (
    LEVEL,
    Sound,
    Spectrum,
    Wave,
    bent_time,
    frequency_of,
    looped_wave,
    loudness,
    noise,
    ramp,
    samples_of,
    seed_of,
    shape,
    tabulate,
)
from rerank.generators.synth.vowels import VOWELS, vowels_of

__all__ = ["VOWELS", "Voice", "formants", "sing", "vowels_of"]

Voice = Literal["male", "female"]

_FORMANTS: Mapping[str, Mapping[str, tuple[float, float, float]]] = {
    "male": {
        "ah": (920.0, 1540.0, 2250.0),
        "eh": (680.0, 2080.0, 2530.0),
        "ee": (260.0, 2690.0, 3480.0),
        "ih": (400.0, 1820.0, 3100.0),
        "oh": (510.0, 790.0, 2840.0),
        "oo": (280.0, 950.0, 2240.0),
        "uh": (530.0, 1360.0, 2190.0),
        "aw": (750.0, 1150.0, 2940.0),
    },
    "female": {
        "ah": (1120.0, 1710.0, 2420.0),
        "eh": (700.0, 2260.0, 2600.0),
        "ee": (320.0, 3200.0, 3730.0),
        "ih": (510.0, 2370.0, 3550.0),
        "oh": (580.0, 920.0, 3280.0),
        "oo": (400.0, 1060.0, 2320.0),
        "uh": (670.0, 1600.0, 3400.0),
        "aw": (790.0, 1190.0, 2450.0),
    },
}
_WIDTHS = (70.0, 90.0, 130.0, 250.0, 300.0)
_UPPER: Mapping[str, tuple[float, float]] = {"male": (3500.0, 4600.0), "female": (4200.0, 5300.0)}
_THIRD = 0.06  # height of the third formant above what the cascade gives it, relative to the first: singers raise it
_NASAL = (260.0, 1150.0, 2300.0)


def _harmonics(formants: tuple[float, float, float], voice: str, first: float, effort: float) -> Spectrum:
    frequencies = first * np.arange(1, int(9000.0 / first) + 1, dtype=np.float64)
    spectrum = 1.0 / (1.0 + 1j * frequencies / (effort * 600.0)) / (1.0 + 1j * frequencies / 5000.0)
    for centre, width in zip((*formants, *_UPPER[voice]), _WIDTHS, strict=True):
        spectrum = spectrum * centre**2 / (centre**2 - frequencies**2 + 1j * width * frequencies)
    third = formants[2]
    ringing = 1j * frequencies * 160.0 / (third**2 - frequencies**2 + 160.0j * frequencies)
    spectrum += _THIRD * np.abs(spectrum).max() * ringing
    spectrum *= LEVEL / loudness(frequencies, np.abs(spectrum))
    return np.asarray(spectrum)


@lru_cache(maxsize=256)
def _table(vowel: str, pitch: int, voice: str, effort: float) -> Wave:
    """Return a hummed onset (soft) and the vowel (bright) at a whole pitch."""
    first = frequency_of(pitch)
    hum = 0.5 * _harmonics(_NASAL, voice, first, 0.5)
    return tabulate(hum, _harmonics(_FORMANTS[voice][vowel], voice, first, effort))


def formants(vowel: str, voice: Voice = "female") -> tuple[float, float, float]:
    """Return the three lowest resonances of a vowel, in Hz."""
    return _FORMANTS[voice][vowel]


def sing(vowel: str, pitch: float, duration: float, velocity: float = 0.8, voice: Voice = "female") -> Sound:
    """Sing one syllable: a soft consonant, then the vowel with vibrato.

    Args:
        vowel: one of `VOWELS`.
        pitch: MIDI number, rounded to a cent.
        duration: seconds held, rounded to 10 ms.
        velocity: 0..1, rounded to a twentieth.
        voice: whose resonances; male voices lie at 40..64, female ones at 52..76.

    Returns:
        Read-only float32 `[time]` at 32 kHz, starting and ending at zero, the same for the same arguments.

    Raises:
        ValueError: the vowel or the voice is unknown, or a number is out of range.
    """
    if vowel not in VOWELS:
        raise ValueError(f"unknown vowel {vowel!r}; known: {', '.join(VOWELS)}")
    if voice not in _FORMANTS:
        raise ValueError(f"voice must be 'male' or 'female', got {voice!r}")
    if not 12.0 <= pitch <= 100.0 or not 0.0 < duration <= 60.0 or not 0.0 <= velocity <= 1.0:
        raise ValueError(
            "expected a pitch of 12..100, a duration of 0..60 seconds and a velocity of 0..1, "
            f"got {pitch}, {duration} and {velocity}"
        )
    return _syllable(vowel, round(100.0 * pitch), max(4, round(100.0 * duration)), round(20.0 * velocity), voice)


@lru_cache(maxsize=1024)
def _syllable(vowel: str, cents: int, hundredths: int, twentieths: int, voice: str) -> Sound:
    pitch, duration, velocity = cents / 100.0, hundredths / 100.0, twentieths / 20.0
    seed = seed_of(vowel, cents, hundredths, twentieths, voice)
    release = 0.09
    samples = samples_of(duration + release)
    table = _table(vowel, round(pitch), voice, 0.5 + round(velocity, 1))
    times = bent_time(samples, 5.6, 22.0, 0.22, 3.0, seed % 6)
    wave = looped_wave(table, frequency_of(pitch), times)
    nasal = seed % 2 == 0
    gap = min(samples_of(0.07 if nasal else 0.02), samples // 3)
    opening = np.ones(samples, np.float32)
    slide = min(samples_of(0.05), samples - gap)
    opening[:gap] = 0.0 if nasal else 0.6
    opening[gap : gap + slide] = opening[0] + (1.0 - opening[0]) * ramp(slide)
    envelope = np.full(samples, (velocity / 0.8) ** 1.5, np.float32)
    rising = min(samples_of(0.03), samples)
    envelope[:rising] *= ramp(rising)
    falling = min(samples_of(release), samples)
    envelope[-falling:] *= ramp(falling)[::-1]
    sound = (wave.real + wave.imag * opening) * envelope
    sound += noise(samples, 2500.0, 8000.0, seed) * envelope * np.float32(0.012 * LEVEL)
    if not nasal:
        length = min(samples_of(0.05), samples)
        burst = noise(length, 2200.0, 7000.0, seed + 1) * np.hanning(length).astype(np.float32)
        sound[:length] += burst * np.float32(0.5 * LEVEL * (velocity / 0.8) ** 1.5)
    shape(sound, 0.004, 0.004).flags.writeable = False
    return sound
