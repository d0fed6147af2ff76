"""What composing is about: the plan of a piece, its chords, notes and parts.

**Conventions**: pitches are MIDI numbers; a stroke is in beats, a note in seconds.
"""

from dataclasses import dataclass, field
from typing import Literal

from rerank.generators.synth.words import Mode

Role = Literal["melody", "voice", "harmony", "bass", "colour", "drums"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be played.

    Attributes:
        tempo: beats per minute.
        key: pitch class of the tonic.
        mode: major or minor.
        mood: (valence, energy) in [0, 1].
        genre: name in `STYLES`.
        instruments: that must sound, drum kits included.
        alone: nothing else may sound.
        barred: instruments that may not be added.
        voice: who sings, None for nobody.
        vowels: to sing, in order, from the start again at the end.
        duration: seconds.
    """

    tempo: float
    key: int
    mode: Mode
    mood: tuple[float, float]
    genre: str
    instruments: tuple[str, ...]
    alone: bool
    barred: frozenset[str]
    voice: Literal["male", "female"] | None
    vowels: tuple[str, ...]
    duration: float


@dataclass(frozen=True)
class Note:
    """One note, chord, syllable or drum stroke: start and duration in seconds, pitches as MIDI numbers.

    `word` is the vowel of a syllable or the piece of a drum kit.
    """

    start: float
    duration: float
    pitches: tuple[float, ...]
    velocity: float
    word: str = ""


@dataclass
class Part:
    """The notes of one instrument."""

    instrument: str
    role: Role
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True)
class Chord:
    """A chord of the progression: start and length in beats, root as pitch class, intervals above it in semitones."""

    start: float
    length: float
    root: int
    intervals: tuple[int, ...]


Stroke = tuple[float, float, tuple[float, ...], float]
"""Start and length in beats, pitches, velocity."""
