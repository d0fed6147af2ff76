"""What each role plays: melody, accompaniment, colour, bass and drums over the chords of a piece.

**Conventions**: time is in beats, four to a bar. Pitches are MIDI numbers.
"""

import math
from collections.abc import Sequence

import numpy as np

from rerank.generators.synth.instruments import INSTRUMENTS
from rerank.generators.synth.score import Chord, Plan, Stroke
from rerank.generators.synth.styles import PATTERNS, Style

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
PENTATONICS = {"major": (0, 2, 4, 7, 9), "minor": (0, 3, 5, 7, 10)}
_MOTIFS: dict[str, tuple[tuple[float, ...], ...]] = {
    "low": ((2, 2), (3, 1), (4,), (1.5, 0.5, 2), (1, 3)),
    "middle": ((1, 1, 2), (1.5, 0.5, 1, 1), (1, 0.5, 0.5, 2), (0.5, 0.5, 1, 1.5, 0.5), (2, 1, 1)),
    "high": (
        (0.5, 0.5, 0.5, 0.5, 1, 1),
        (0.75, 0.75, 0.5, 1, 1),
        (0.5, 0.5, 1, 0.5, 0.5, 1),
        (0.5, 0.25, 0.25, 0.5, 0.5, 1, 1),
        (1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
    ),
}


def _register(instrument: str, plan: Plan, role: str) -> tuple[float, float]:
    """Return the lowest and highest pitch for an instrument in a role; happy music lies higher, dark music lower."""
    if role == "voice":
        return (48.0, 64.0) if plan.voice == "male" else (57.0, 74.0)
    low, high = float(INSTRUMENTS[instrument].low), float(INSTRUMENTS[instrument].high)
    shift = 5 * (plan.mood[0] - 0.5)
    low = max(low, {"melody": 62, "harmony": 50, "colour": 57, "bass": 0}[role] + shift)
    low = min(low, high - 14)
    return low, min(high, low + 19)


def _voicing(chord: Chord, low: float, previous: Sequence[float] = ()) -> tuple[float, ...]:
    """Return the inversion of `chord` at or above `low` that moves least from `previous`."""
    pitches = sorted(low + (chord.root + interval - low) % 12 for interval in chord.intervals)
    inversions = [tuple(pitches[k:] + [p + 12 for p in pitches[:k]]) for k in range(2)]
    if not previous:
        return inversions[0]
    return min(inversions, key=lambda chord_: abs(sum(chord_) / len(chord_) - sum(previous) / len(previous)))


def _scale(plan: Plan, style: Style) -> tuple[int, ...]:
    return (PENTATONICS if style.pentatonic else SCALES)[plan.mode]


def melody_strokes(
    instrument: str, plan: Plan, style: Style, chords: list[Chord], ending: float, rng: np.random.Generator
) -> list[Stroke]:
    """A one-bar motif (rhythm and contour) in the form A A' B A, on chord tones at the strong beats."""
    role = "voice" if instrument == "voice" else "melody"
    low, high = _register(instrument, plan, role)
    energy = plan.mood[1] if plan.tempo < 150 else 0.6 * plan.mood[1]
    if role == "voice":
        energy = min(max(energy, 0.4), 0.6)
    level = "low" if energy < 0.3 else "middle" if energy < 0.65 else "high"
    rhythms = [_MOTIFS[level][rng.integers(len(_MOTIFS[level]))] for _ in range(2)]
    contours = [rng.integers(-2, 3, size=8) for _ in range(2)]
    legato = 0.95 if plan.mood[1] < 0.5 else 0.8 if plan.mood[0] < 0.7 else 0.65
    strokes: list[Stroke] = []
    pitch = (low + high) / 2
    bar = 0
    while bar * 4 < ending - 1e-6:
        which = 1 if bar % 4 == 2 else 0
        beat = bar * 4.0
        if bar % 4 == 3 and level != "high":
            rhythm: tuple[float, ...] = (*rhythms[0][:1], 4 - rhythms[0][0]) if rhythms[0][0] < 4 else rhythms[0]
        else:
            rhythm = rhythms[which]
        for k, length in enumerate(rhythm):
            if beat >= ending - 1e-6:
                break
            chord = max((c for c in chords if c.start <= beat + 1e-6), key=lambda c: c.start)
            step = int(contours[which][k % 8]) + (int(rng.integers(-1, 2)) if bar % 4 == 1 else 0)
            target = min(max(pitch + 2.0 * step, low), high)
            pitch = _nearest(target, chord if beat % 1 == 0 or length >= 1 else None, plan, style, low, high)
            accent = 0.12 if beat % 2 == 0 else 0.0
            strokes.append((beat, min(length, ending - beat) * legato, (pitch,), 0.5 + 0.3 * plan.mood[1] + accent))
            beat += length
        bar += 1
    return strokes


def _nearest(target: float, chord: Chord | None, plan: Plan, style: Style, low: float, high: float) -> float:
    """Return the pitch nearest to `target` that is a chord tone, or a scale tone where no chord is given."""
    if chord is not None:
        allowed = {(chord.root + interval) % 12 for interval in chord.intervals}
    else:
        allowed = {(plan.key + step) % 12 for step in _scale(plan, style)}
    candidates = [p for p in range(math.ceil(low), math.floor(high) + 1) if p % 12 in allowed]
    return float(min(candidates, key=lambda p: (abs(p - target), p)))


COMPING: dict[str, tuple[tuple[float, float, float], ...]] = {
    "eighths": tuple((k / 2, 0.45, 0.75 if k % 2 == 0 else 0.6) for k in range(8)),
    "chug": tuple((k / 4, 0.2, 0.85 if k % 4 == 0 else 0.6) for k in range(16)),
    "power": ((0, 1.9, 0.9), (2, 1.4, 0.85), (3.5, 0.45, 0.8)),
    "quarters": tuple((k, 0.9, 0.75 if k % 2 == 0 else 0.65) for k in range(4)),
    "halves": ((0, 1.9, 0.75), (2, 1.9, 0.65)),
    "jazz": ((0, 0.6, 0.7), (1.5, 0.5, 0.65), (3.5, 0.4, 0.6)),
    "swells": ((0, 4.0, 0.7),),
    "stabs": ((0, 0.3, 0.8), (0.75, 0.3, 0.7), (1.5, 0.3, 0.8), (2.5, 0.3, 0.7), (3.25, 0.3, 0.75)),
    "strum": ((0, 0.9, 0.8), (1, 0.45, 0.6), (1.5, 0.45, 0.65), (2.5, 0.45, 0.65), (3, 0.45, 0.7), (3.5, 0.45, 0.6)),
    "boom chick": ((1, 0.4, 0.75), (3, 0.4, 0.75), (3.5, 0.3, 0.55)),
    "skank": ((1, 0.2, 0.8), (3, 0.2, 0.8)),
    "shuffle": tuple((k / 2, 0.4, 0.75 if k % 2 == 0 else 0.55) for k in range(8)),
    "sixteenths": (
        (0, 0.15, 0.8), (0.5, 0.12, 0.6), (0.75, 0.12, 0.75), (1.5, 0.15, 0.8), (1.75, 0.12, 0.6), (2.25, 0.15, 0.75),
        (2.75, 0.12, 0.65), (3.5, 0.15, 0.8), (3.75, 0.12, 0.6),
    ),
    "montuno": ((0, 0.4, 0.8), (0.5, 0.4, 0.65), (1.5, 0.4, 0.75), (2.5, 0.4, 0.75), (3, 0.4, 0.65), (3.5, 0.4, 0.75)),
}  # fmt: skip
"""How an accompaniment is played: (beat of the bar, length in beats, velocity) of each chord."""


def harmony_strokes(
    instrument: str, plan: Plan, comping: str, chords: list[Chord], rng: np.random.Generator
) -> list[Stroke]:
    if comping == "alberti" or (instrument in ("harp", "banjo", "bells", "marimba") and comping != "swells"):
        return _arpeggio(instrument, plan, chords, 0.5 if plan.tempo < 150 else 1.0, "harmony")
    if instrument in ("pad", "strings") and comping not in ("stabs", "skank", "sixteenths"):
        comping = "swells"
    low, _ = _register(instrument, plan, "harmony")
    velocity = 0.75 + 0.3 * (plan.mood[1] - 0.5)
    strokes: list[Stroke] = []
    voicing: tuple[float, ...] = ()
    for chord in chords:
        voicing = _voicing(chord, low, voicing)
        for beat, length, accent in COMPING[comping]:
            if beat < chord.length - 1e-6:
                length = min(length, chord.length - beat)
                strokes.append(
                    (chord.start + beat, length, voicing, accent * velocity * (1 + 0.06 * rng.standard_normal()))
                )
    return strokes


def _arpeggio(instrument: str, plan: Plan, chords: list[Chord], step: float, role: str) -> list[Stroke]:
    low, _ = _register(instrument, plan, role)
    strokes: list[Stroke] = []
    for chord in chords:
        pitches = _voicing(chord, low)
        order = (0, 2, 1, 2) if len(pitches) == 3 else (0, 2, 1, 3)
        for k in range(round(chord.length / step)):
            accent = 0.1 if k % 4 == 0 else 0.0
            strokes.append(
                (chord.start + k * step, step * 0.95, (pitches[order[k % 4]],), 0.55 + 0.2 * plan.mood[1] + accent)
            )
    return strokes


def colour_strokes(instrument: str, plan: Plan, chords: list[Chord], rng: np.random.Generator) -> list[Stroke]:
    """A second voice: arpeggios on plucked and struck instruments, held chord tones or answers on the others."""
    if instrument in ("harp", "banjo", "bells", "marimba", "piano", "electric piano", "synth lead", "acoustic guitar"):
        return _arpeggio(instrument, plan, chords, 0.5 if 0.3 < plan.mood[1] and plan.tempo < 140 else 1.0, "colour")
    low, _ = _register(instrument, plan, "colour")
    if instrument in ("electric guitar", "distorted guitar", "organ", "pad", "strings", "accordion"):
        return [(c.start, c.length * 0.95, _voicing(c, low), 0.6 + 0.2 * plan.mood[1]) for c in chords]
    strokes: list[Stroke] = []
    for chord in chords:
        pitches = _voicing(chord, low)
        half = chord.length / 2
        first, second = rng.permutation(len(pitches))[:2]
        strokes.append((chord.start, half * 0.9, (pitches[first],), 0.65 + 0.2 * plan.mood[1]))
        strokes.append((chord.start + half, half * 0.9, (pitches[second],), 0.6 + 0.2 * plan.mood[1]))
    return strokes


def bass_strokes(
    instrument: str, plan: Plan, walking: str, chords: list[Chord], rng: np.random.Generator
) -> list[Stroke]:
    low = float(max(INSTRUMENTS[instrument].low, 28))
    strokes: list[Stroke] = []
    for index, chord in enumerate(chords):
        root = low + (chord.root - low) % 12
        fifth = root + chord.intervals[2] if root + chord.intervals[2] < low + 17 else root - 5
        following = chords[(index + 1) % len(chords)].root
        approach = root + ((following - root + 6) % 12 - 6) + (1 if rng.random() < 0.5 else -1)
        patterns: dict[str, tuple[tuple[float, float, float], ...]] = {
            "eighths": tuple((k / 2, 0.45, root) for k in range(8)),
            "quarters": tuple((float(k), 0.9, root if k != 3 else fifth) for k in range(4)),
            "pulse": (
                (0, 0.7, root),
                (0.75, 0.7, root),
                (1.5, 0.5, root),
                (2, 0.7, root),
                (2.75, 0.7, root),
                (3.5, 0.45, fifth),
            ),
            "walk": ((0, 0.9, root), (1, 0.9, root + chord.intervals[1]), (2, 0.9, fifth), (3, 0.9, approach)),
            "halves": ((0, 1.9, root), (2, 1.9, fifth)),
            "whole": ((0, 4.0, root),),
            "offbeat": tuple((k + 0.5, 0.4, root) for k in range(4)),
            "syncopated": ((0, 1.4, root), (1.75, 0.25, root), (2.5, 1.0, root), (3.5, 0.4, fifth)),
            "two beat": ((0, 0.9, root), (2, 0.9, fifth)),
            "reggae": ((0, 0.9, root), (1.5, 0.4, root), (2, 0.4, fifth), (2.5, 0.9, root)),
            "funk": (
                (0, 0.3, root),
                (0.75, 0.2, root + 12),
                (1.5, 0.3, root),
                (2.25, 0.2, fifth),
                (2.75, 0.3, root),
                (3.5, 0.3, fifth),
            ),
            "tumbao": ((0, 1.4, root), (1.5, 1.4, fifth), (3, 0.9, root)),
        }
        for beat, length, pitch in patterns[walking]:
            if beat < chord.length - 1e-6:
                accent = 0.08 if beat == 0 else 0.0
                strokes.append(
                    (chord.start + beat, min(length, chord.length - beat), (pitch,), 0.7 + 0.15 * plan.mood[1] + accent)
                )
    return strokes


def final_strokes(instrument: str, role: str, plan: Plan, ending: float, beats: float) -> list[Stroke]:
    """The last tonic chord, held to the end."""
    if beats - ending < 0.5:
        return []
    tonic = Chord(ending, beats - ending, plan.key, (0, 4 if plan.mode == "major" else 3, 7))
    velocity = 0.6 + 0.25 * plan.mood[1]
    if role == "bass":
        low = max(INSTRUMENTS[instrument].low, 28)
        return [(ending, tonic.length, (float(low + (plan.key - low) % 12),), velocity)]
    low_pitch, high = _register(instrument, plan, role)
    if role in ("melody", "voice"):
        middle = math.ceil((low_pitch + high) / 2 - 6)
        return [(ending, tonic.length, (float(middle + (plan.key - middle) % 12),), velocity)]
    return [(ending, tonic.length, _voicing(tonic, math.ceil(low_pitch)), velocity)]


def drum_strokes(
    kit: str, plan: Plan, style: Style, ending: float, rng: np.random.Generator
) -> list[tuple[Stroke, str]]:
    """The genre's pattern, thinned at low energy, with a fill in each fourth bar and a crash on the last chord."""
    energy = plan.mood[1]
    name = style.drums
    if kit == "hand percussion":
        name = "hands" if energy > 0.35 else "hands calm"
    elif name in ("hands calm", "sparse"):
        name = "pop" if energy > 0.45 else "brushes"
    strokes: list[tuple[Stroke, str]] = []
    for bar in range(math.ceil(ending / 4)):
        fill = bar % 4 == 3 and kit != "hand percussion" and energy > 0.4
        for piece, pattern in PATTERNS[name].items():
            for step, mark in enumerate(pattern):
                beat = bar * 4 + step / 4
                if mark == "." or beat >= ending - 1e-6 or (fill and step >= 12 and piece != "kick"):
                    continue
                if energy < 0.3 and step % 4 and mark == "x":
                    continue  # calm music keeps to the beat
                accent = (0.85 if mark == "o" else 0.6) * (0.65 + 0.45 * energy)
                strokes.append(((beat, 0.25, (), accent * (1 + 0.05 * rng.standard_normal())), piece))
        if fill:
            pieces = ("snare", "snare", "tom", "tom")
            strokes += [
                ((bar * 4 + 3 + k / 4, 0.25, (), 0.6 + 0.1 * k), pieces[k])
                for k in range(4)
                if bar * 4 + 3 + k / 4 < ending
            ]
    last = {"hand percussion": "tambourine"}.get(kit, "crash" if energy > 0.3 else "ride")
    strokes.append(((ending, 1.0, (), 0.5 + 0.4 * energy), last))
    return strokes
