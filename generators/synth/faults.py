"""The ways in which a candidate falls short of good craft, each with a severity from 0 to 1.

Some are in the playing (they change the notes), some in the sound (they change the mix). `draw` decides which a seed
gets; `truth.musicality` says what they cost.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rerank.generators.synth import effects
from rerank.generators.synth.instruments import SAMPLE_RATE
from rerank.generators.synth.score import Note, Part
from rerank.generators.synth.truth import FAULT_COSTS

Stereo = NDArray[np.float32]


def draw(rng: np.random.Generator) -> dict[str, float]:
    """Draw the faults of one candidate: name -> severity in (0, 1]. A careless seed has more and worse ones."""
    carelessness = float(rng.random())
    faults = {}
    for name in FAULT_COSTS:
        severity = float(rng.uniform(0.25, 1.0)) * (0.5 + 0.5 * carelessness)
        if rng.random() < 0.02 + 0.3 * carelessness**1.2:
            faults[name] = round(severity, 3)
    return faults


def play_badly(parts: list[Part], faults: Mapping[str, float], bar: float, rng: np.random.Generator) -> list[Part]:
    """Return the parts with the faults of the playing: repetition, timing, wrong notes, detuning.

    Args:
        parts: what was composed.
        faults: name -> severity.
        bar: length of a bar in seconds.
        rng: where the details are drawn from.
    """
    if severity := faults.get("repetition", 0.0):
        parts = [_repeat(part, bar, severity) for part in parts]
    return [
        Part(part.instrument, part.role, [_misplay(n, o, faults, rng) for n, o in _offsets(part, faults, rng)])
        for part in parts
    ]


def _repeat(part: Part, bar: float, severity: float) -> Part:
    """Loop the first bar (from half severity: the first half bar) over and over."""
    loop = bar if severity < 0.5 else bar / 2
    end = max((note.start for note in part.notes), default=0.0)
    first = [note for note in part.notes if note.start < loop - 1e-3]
    notes = [
        replace(note, start=note.start + k * loop, duration=min(note.duration, loop))
        for k in range(int(end / loop) + 1)
        for note in first
        if note.start + k * loop <= end + 1e-3
    ]
    return Part(part.instrument, part.role, notes)


def _offsets(part: Part, faults: Mapping[str, float], rng: np.random.Generator) -> list[tuple[Note, float]]:
    """Pair each note with the detuning of its part in semitones: parts go astray from each other, and drift."""
    severity = faults.get("detuning", 0.0)
    offset = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.35, 0.8)) * severity
    return [(note, offset + 0.25 * severity * float(rng.standard_normal())) for note in part.notes]


def _misplay(note: Note, offset: float, faults: Mapping[str, float], rng: np.random.Generator) -> Note:
    late, wrong, kind = rng.standard_normal(), rng.random(), rng.choice([-1.0, 1.0])
    start = note.start + 0.004 * late + 0.12 * faults.get("timing", 0.0) * late
    pitches = note.pitches
    if wrong < 0.55 * faults.get("wrong notes", 0.0):
        pitches = tuple(pitch + kind for pitch in pitches)
    return replace(note, start=max(0.0, start), pitches=tuple(pitch + offset for pitch in pitches))


def spoil(stereo: Stereo, faults: Mapping[str, float], rng: np.random.Generator) -> Stereo:
    """Return the mix with the faults of the sound: dull, boomy, harsh, noise, cuts, clipping.

    Shape:
        `[2, time]` -> `[2, time]`
    """
    if severity := faults.get("dull", 0.0):
        stereo = effects.lowpass(stereo, 5000 * (700 / 5000) ** severity, order=3)
    if severity := faults.get("boomy", 0.0):
        stereo = effects.shelf(stereo, 180, 6 + 12 * severity, "low")
    if severity := faults.get("harsh", 0.0):
        stereo = effects.shelf(stereo, 2500, 6 + 14 * severity, "high")
        stereo = _matched(np.tanh(stereo * (1 + 6 * severity) / _peak(stereo)).astype(np.float32), stereo)
    if severity := faults.get("noise", 0.0):
        stereo = _noise(stereo, severity, rng)
    if severity := faults.get("cuts", 0.0):
        stereo = _cuts(stereo, severity, rng)
    if severity := faults.get("clipping", 0.0):
        drive = 10 ** ((6 + 18 * severity) / 20)
        stereo = _matched(np.clip(stereo * drive / _peak(stereo), -1, 1), stereo)
    return stereo


def _peak(stereo: Stereo) -> float:
    return float(np.abs(stereo).max()) + 1e-9


def _level(stereo: Stereo) -> float:
    return float(np.sqrt(np.mean(np.square(stereo)))) + 1e-9


def _matched(stereo: Stereo, original: Stereo) -> Stereo:
    """Return `stereo` at the level of `original`, so that a fault is heard and not just louder."""
    return stereo * np.float32(_level(original) / _level(stereo))


def _noise(stereo: Stereo, severity: float, rng: np.random.Generator) -> Stereo:
    level = _level(stereo) * 10 ** ((-30 + 24 * severity) / 20)
    time = np.arange(stereo.shape[1], dtype=np.float32) / SAMPLE_RATE
    hiss = rng.standard_normal(stereo.shape, dtype=np.float32)
    if rng.random() < 0.4:
        mains = 2 * np.pi * float(rng.choice([50.0, 60.0]))
        hum = sum((np.sin(k * mains * time) / k for k in range(1, 6)), np.zeros_like(time))
        hiss = (0.5 * hiss + 1.2 * hum).astype(np.float32)
    return stereo + np.float32(level) * hiss


def _cuts(stereo: Stereo, severity: float, rng: np.random.Generator) -> Stereo:
    """Mute a few stretches without fades, and end in the middle of the music."""
    stereo = stereo.copy()
    length = stereo.shape[1]
    for _ in range(1 + int(4 * severity)):
        width = int(SAMPLE_RATE * rng.uniform(0.06, 0.15 + 0.25 * severity))
        start = int(rng.integers(0, max(1, length - width)))
        stereo[:, start : start + width] = 0
    stereo[:, int(length * (1 - 0.12 * severity)) :] = 0
    return stereo
