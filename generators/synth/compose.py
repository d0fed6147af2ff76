"""Compose: from a plan (tempo, key, genre, instruments, ...) to the notes of every part.

The form is a chord progression of one chord a bar (two where the tempo is slow), looped, with a melody that states a
motif, varies it and comes home, a drum fill at the end of each fourth bar, and a last tonic chord that rings out.

**Conventions**: inside this module time is in beats (four to a bar); notes leave it in seconds. Pitches are MIDI numbers.
"""

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from rerank.generators.synth.drums import KITS
from rerank.generators.synth.lexicon import BASSES
from rerank.generators.synth.lines import (
    bass_strokes,
    colour_strokes,
    drum_strokes,
    final_strokes,
    harmony_strokes,
    melody_strokes,
)
from rerank.generators.synth.score import Chord, Note, Part, Plan, Role, Stroke
from rerank.generators.synth.styles import STYLES, Style

CHORDAL = (
    "piano", "electric piano", "acoustic guitar", "electric guitar", "distorted guitar", "organ", "pad", "strings", "harp",
    "accordion", "marimba", "banjo", "bells", "synth lead",
)  # fmt: skip
MELODIC = (
    "flute", "clarinet", "saxophone", "trumpet", "violin", "cello", "sitar", "synth lead", "bells", "marimba", "accordion",
    "banjo", "harp", "electric guitar", "piano", "acoustic guitar", "organ", "strings", "electric piano", "distorted guitar", "pad",
)  # fmt: skip
_NUMERAL = re.compile(r"(b?)([iv]+|[IV]+)(maj7|7|5|dim)?")
_DEGREES = {"i": 0, "ii": 2, "iii": 4, "iv": 5, "v": 7, "vi": 9, "vii": 11}


def compose(plan: Plan, rng: np.random.Generator) -> list[Part]:
    """Return the parts of a piece that fills `plan.duration`."""
    style = STYLES[plan.genre]
    beats = plan.duration * plan.tempo / 60
    ending = _ending(beats, plan.tempo)
    chords = _chords(plan, style, ending, rng)
    parts = []
    for instrument, role in _roles(plan, style, rng):
        if role == "drums":
            strokes = drum_strokes(instrument, plan, style, ending, rng)
            parts.append(Part(instrument, role, [_in_seconds(s, plan, style, piece) for s, piece in strokes]))
            continue
        player: Callable[[], list[Stroke]] = {
            "melody": lambda i=instrument: melody_strokes(i, plan, style, chords, ending, rng),
            "voice": lambda i=instrument: melody_strokes(i, plan, style, chords, ending, rng),
            "harmony": lambda i=instrument: harmony_strokes(i, plan, style.comping, chords, rng),
            "colour": lambda i=instrument: colour_strokes(i, plan, chords, rng),
            "bass": lambda i=instrument: bass_strokes(i, plan, style.walking, chords, rng),
        }[role]
        strokes_played = player() + final_strokes(instrument, role, plan, ending, beats)
        words = _syllables(plan, len(strokes_played)) if role == "voice" else [""] * len(strokes_played)
        notes = [_in_seconds(stroke, plan, style, word) for stroke, word in zip(strokes_played, words, strict=True)]
        parts.append(Part(instrument, role, notes))
    for part in parts:
        part.notes = [note for note in part.notes if note.start < plan.duration]
    return [part for part in parts if part.notes]


def sung(parts: Sequence[Part]) -> list[tuple[float, str]]:
    """Return the syllables that are sung, in order of time: start in seconds and vowel."""
    return sorted((round(note.start, 3), note.word) for part in parts if part.role == "voice" for note in part.notes)


def _syllables(plan: Plan, count: int) -> list[str]:
    return [plan.vowels[i % len(plan.vowels)] for i in range(count)]


def _in_seconds(stroke: Stroke, plan: Plan, style: Style, word: str) -> Note:
    start, length, pitches, velocity = stroke
    beat = math.floor(start + 1e-6)
    part = start - beat
    swung = part * 2 * style.swing if part <= 0.5 else style.swing + (part - 0.5) * 2 * (1 - style.swing)
    seconds = 60 / plan.tempo
    start = (beat + swung) * seconds
    return Note(
        start, max(0.05, min(length * seconds, plan.duration - start)), pitches, min(max(velocity, 0.05), 1.0), word
    )


def _ending(beats: float, tempo: float) -> float:
    """Return the beat on which the last chord falls: at least 1.3 s before the end, on a half bar; never for short pieces."""
    if beats * 60 / tempo < 4:
        return beats
    return max(2.0, 2 * math.floor((beats - 1.3 * tempo / 60) / 2))


def _chords(plan: Plan, style: Style, ending: float, rng: np.random.Generator) -> list[Chord]:
    progressions = style.major if plan.mode == "major" else style.minor
    progression = progressions[rng.integers(len(progressions))].split()
    length = 2.0 if plan.tempo < 78 else 4.0
    chords: list[Chord] = []
    start = 0.0
    while start < ending - 1e-6:
        root, intervals = _numeral(progression[len(chords) % len(progression)], style.sevenths)
        chords.append(Chord(start, min(length, ending - start), (plan.key + root) % 12, intervals))
        start += length
    return chords


def _numeral(numeral: str, sevenths: bool) -> tuple[int, tuple[int, ...]]:
    match = _NUMERAL.fullmatch(numeral)
    assert match, numeral
    flat, degree, suffix = match.groups()
    root = _DEGREES[degree.lower()] - (1 if flat else 0)
    if suffix == "5":
        return root, (0, 7, 12)
    third = 4 if degree.isupper() else 3
    intervals = (0, third, 6 if suffix == "dim" else 7)
    if suffix == "maj7":
        return root, (*intervals, 11)
    if suffix == "7" or (sevenths and suffix is None and (degree in ("V", "ii", "vi"))):
        return root, (*intervals, 10)
    return root, intervals


def _roles(plan: Plan, style: Style, rng: np.random.Generator) -> list[tuple[str, Role]]:
    """Give every asked instrument a role, then fill what the genre needs, unless the piece is for those alone."""
    pitched = [name for name in plan.instruments if name not in KITS]
    roles: list[tuple[str, Role]] = [(name, "bass") for name in pitched if name in BASSES]
    others = [name for name in pitched if name not in BASSES]
    if plan.voice:
        roles.append(("voice", "voice"))
    elif melodic := [name for name in MELODIC if name in others]:
        lead = melodic[0]
        only = len(others) == 1
        if not (only and lead in CHORDAL and rng.random() < 0.4 and not plan.alone):
            roles.append((lead, "melody"))
        if not only:
            others.remove(lead)
        elif lead not in CHORDAL:
            others.clear()
    free = [name for name in others if name in CHORDAL]
    for name in others:
        roles.append((name, "harmony" if free and name == free[0] else "colour"))

    def fill(names: Sequence[str], role: Role) -> None:
        usable = [name for name in names if name not in plan.barred]
        if usable and not any(r == role for _, r in roles):
            roles.append((usable[rng.integers(len(usable))], role))

    if not plan.alone:
        fill(style.harmony, "harmony")
        if not any(role in ("melody", "voice") for _, role in roles) and rng.random() < 0.6:
            fill(style.lead, "melody")
        if style.bass:
            fill((style.bass,), "bass")
    roles += [(kit, "drums") for kit in plan.instruments if kit in KITS]
    if not plan.alone and style.kit and plan.mood[1] > 0.1:
        fill((style.kit,), "drums")
    if not roles:  # all that the genre would play is ruled out
        fill(CHORDAL, "harmony")
    return roles
