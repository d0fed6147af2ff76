"""Render the parts of a piece and mix them to stereo."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rerank.audio import Audio
from rerank.generators.synth import effects
from rerank.generators.synth.drums import KITS, hit
from rerank.generators.synth.instruments import SAMPLE_RATE, play, play_chord
from rerank.generators.synth.listen import brightness
from rerank.generators.synth.score import Note, Part
from rerank.generators.synth.voice import sing

Stereo = NDArray[np.float32]

_GAINS = {"melody": 0.9, "voice": 1.5, "harmony": 0.5, "bass": 0.75, "colour": 0.6, "drums": 0.8}
_SENDS = {"melody": 0.8, "voice": 0.7, "harmony": 0.7, "bass": 0.05, "colour": 0.9, "drums": 0.35}
_PLACES = {"melody": 0.12, "voice": 0.0, "harmony": -0.35, "bass": 0.0, "colour": 0.45, "drums": 0.0}
_LEVELS = {"quiet": -28.0, "medium": -18.0, "loud": -11.0}


def render(
    parts: Sequence[Part], duration: float, voice: Literal["male", "female"] | None, room: float, seed: int
) -> Stereo:
    """Return the parts as a dry-and-wet stereo mix, not yet levelled.

    Args:
        parts: to play.
        duration: seconds; what rings on after it is cut (the caller fades).
        voice: who sings.
        room: reverberation in seconds.
        seed: of the reverberation.

    Shape:
        -> `[2, time]`
    """
    length = round(duration * SAMPLE_RATE)
    dry = np.zeros((2, length), np.float32)
    send = np.zeros((2, length), np.float32)
    colours = 0
    for part in parts:
        mono = np.zeros(length, np.float32)
        for note in part.notes:
            _add(mono, _sound(part, note, voice), note.start)
        place = _PLACES[part.role]
        if part.role == "colour":
            place, colours = place * (-1) ** colours, colours + 1
        stereo = effects.pan(mono * np.float32(_GAINS[part.role]), place)
        dry += stereo
        send += stereo * np.float32(_SENDS[part.role])
    return dry + effects.reverb(send, room, 1.0, seed) * np.float32(0.22)


def master(stereo: Stereo, energy: float, target_brightness: float | None) -> Stereo:
    """Return the mix with its tone set: as bright as its energy suggests, or as bright as asked.

    Args:
        stereo: the mix.
        energy: of the mood, 0 to 1.
        target_brightness: spectral centroid in Hz, None for none in particular.
    """
    stereo = effects.highpass(stereo, 30)
    if target_brightness is None:
        return effects.compress(effects.shelf(stereo, 3000, 6 * (energy - 0.5), "high"), -18, 2.0)
    stereo = effects.compress(stereo, -18, 2.0)
    for _ in range(4):
        octaves = np.log2(target_brightness / brightness(Audio(stereo, SAMPLE_RATE)))
        if abs(octaves) < 0.08:
            break
        gain = float(np.clip(9 * octaves, -18, 18))
        stereo = effects.shelf(stereo, 2200, gain, "high")
    return stereo


def level(stereo: Stereo, dynamics: Literal["quiet", "medium", "loud"], energy: float) -> Stereo:
    """Return the mix at the loudness that was asked for, below full scale."""
    target = _LEVELS[dynamics] + (4 * (energy - 0.5) if dynamics == "medium" else 0)
    return effects.limit(effects.normalise_loudness(stereo, target), 0.95)


def _sound(part: Part, note: Note, voice: Literal["male", "female"] | None) -> NDArray[np.float32]:
    if part.instrument in KITS:
        return hit(part.instrument, note.word, note.velocity)
    if part.role == "voice":
        return sing(note.word, note.pitches[0], note.duration, note.velocity, voice or "female")
    if len(note.pitches) > 1:
        return play_chord(part.instrument, note.pitches, note.duration, note.velocity)
    return play(part.instrument, note.pitches[0], note.duration, note.velocity)


def _add(mono: NDArray[np.float32], sound: NDArray[np.float32], start: float) -> None:
    first = round(start * SAMPLE_RATE)
    last = min(first + sound.size, mono.size)
    if first < last:
        mono[first:last] += sound[: last - first]
