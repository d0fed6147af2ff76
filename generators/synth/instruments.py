"""The instruments of `synth`: their names, ranges, and one call that plays a note on any of them.

Conventions:
    Sounds are float32 `[time]`, mono, 32 kHz. Pitches are MIDI numbers, fractions allowed; velocity is 0..1.
    A note of velocity 0.8 has the same loudness on every instrument. Results are cached and read-only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rerank.generators.synth.plucked import STRINGS, play_distorted, play_string
from rerank.generators.synth.struck import STRUCK, play_struck
from rerank.generators.synth.sustained import play_sustained
from rerank.generators.synth.tones import SAMPLE_RATE, Sound, samples_of

__all__ = ["INSTRUMENTS", "SAMPLE_RATE", "Instrument", "play", "play_chord"]


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """An instrument that `play` knows.

    Attributes:
        name: as in prompts.
        family: plucked, struck, blown, bowed, keys, pad, bass, electric or voice.
        low: lowest comfortable pitch.
        high: highest comfortable pitch.
        sustains: whether a note lasts as long as it is held.
    """

    name: str
    family: str
    low: int
    high: int
    sustains: bool


_ROWS = (
    ("acoustic guitar", "plucked", 40, 76, False),
    ("electric guitar", "electric", 40, 80, False),
    ("distorted guitar", "electric", 40, 76, True),
    ("harp", "plucked", 40, 91, False),
    ("banjo", "plucked", 48, 79, False),
    ("sitar", "plucked", 48, 76, False),
    ("piano", "keys", 33, 96, False),
    ("electric piano", "keys", 40, 88, False),
    ("bells", "struck", 60, 91, False),
    ("marimba", "struck", 48, 91, False),
    ("organ", "keys", 40, 88, True),
    ("accordion", "keys", 48, 84, True),
    ("flute", "blown", 60, 91, True),
    ("clarinet", "blown", 50, 84, True),
    ("saxophone", "blown", 49, 80, True),
    ("trumpet", "blown", 54, 82, True),
    ("violin", "bowed", 55, 91, True),
    ("cello", "bowed", 36, 72, True),
    ("strings", "bowed", 43, 88, True),
    ("pad", "pad", 40, 84, True),
    ("synth lead", "electric", 52, 88, True),
    ("bass guitar", "bass", 28, 55, False),
    ("upright bass", "bass", 28, 55, False),
    ("synth bass", "bass", 28, 55, False),
)
INSTRUMENTS: Mapping[str, Instrument] = {
    name: Instrument(name=name, family=family, low=low, high=high, sustains=sustains)
    for name, family, low, high, sustains in _ROWS
}
_STRUM = {"acoustic guitar": 0.014, "electric guitar": 0.01, "banjo": 0.01, "sitar": 0.02, "harp": 0.03}


def play(name: str, pitch: float, duration: float, velocity: float = 0.8) -> Sound:
    """Play one note.

    Args:
        name: a key of `INSTRUMENTS`.
        pitch: MIDI number, rounded to a cent.
        duration: seconds held, rounded to 10 ms; the release sounds on after it.
        velocity: 0..1, rounded to a twentieth.

    Returns:
        Read-only float32 `[time]` at `SAMPLE_RATE`, starting and ending at zero, the same for the same arguments.

    Raises:
        ValueError: the instrument is unknown, or a number is out of range.
    """
    if name not in INSTRUMENTS:
        raise ValueError(f"unknown instrument {name!r}; known: {', '.join(sorted(INSTRUMENTS))}")
    _check(pitch, duration, velocity)
    return _note(name, round(100.0 * pitch), max(2, round(100.0 * duration)), round(20.0 * velocity))


def play_chord(name: str, pitches: Sequence[float], duration: float, velocity: float = 0.8) -> Sound:
    """Play notes together: guitars strum from the first to the last, the distorted one sums before its amplifier.

    Args:
        name: a key of `INSTRUMENTS`.
        pitches: MIDI numbers, in the order of the strum; at least one.
        duration: seconds held, as in `play`.
        velocity: 0..1, of each note.

    Returns:
        Float32 `[time]` at `SAMPLE_RATE`; may be read-only.

    Raises:
        ValueError: as in `play`, or `pitches` is empty.
    """
    if not pitches:
        raise ValueError("a chord needs at least one pitch, got none")
    if name == "distorted guitar":
        for pitch in pitches:
            _check(pitch, duration, velocity)
        cents = tuple(round(100.0 * pitch) for pitch in pitches)
        return _distorted(cents, max(2, round(100.0 * duration)), round(20.0 * velocity))
    step = _STRUM.get(name, 0.0)
    notes = [play(name, pitch, duration, velocity) for pitch in pitches]
    if len(notes) == 1:
        return notes[0]
    starts = [samples_of(step * place) for place in range(len(notes))]
    chord = np.zeros(max(start + note.size for start, note in zip(starts, notes, strict=True)), np.float32)
    for start, note in zip(starts, notes, strict=True):
        chord[start : start + note.size] += note
    return chord


def _check(pitch: float, duration: float, velocity: float) -> None:
    if not 12.0 <= pitch <= 120.0:
        raise ValueError(f"pitch must be a MIDI number from 12 to 120, got {pitch}")
    if not 0.0 < duration <= 60.0:
        raise ValueError(f"duration must be above 0 and at most 60 seconds, got {duration}")
    if not 0.0 <= velocity <= 1.0:
        raise ValueError(f"velocity must be from 0 to 1, got {velocity}")


@lru_cache(maxsize=1024)
def _note(name: str, cents: int, hundredths: int, twentieths: int) -> Sound:
    pitch, duration, velocity = cents / 100.0, hundredths / 100.0, twentieths / 20.0
    if name == "distorted guitar":
        return _distorted((cents,), hundredths, twentieths)
    if name in STRINGS:
        sound = play_string(name, pitch, duration, velocity)
    elif name in STRUCK:
        sound = play_struck(name, pitch, duration, velocity)
    else:
        sound = play_sustained(name, pitch, duration, velocity)
    sound.flags.writeable = False
    return sound


@lru_cache(maxsize=256)
def _distorted(cents: tuple[int, ...], hundredths: int, twentieths: int) -> Sound:
    sound = play_distorted(tuple(cent / 100.0 for cent in cents), hundredths / 100.0, twentieths / 20.0)
    sound.flags.writeable = False
    return sound
