"""Drums: membranes and metal as damped sines with falling pitch, rattles and cymbals as shaped noise.

Conventions:
    As in `tones`: float32 `[time]`, mono, 32 kHz. `velocity` is 0..1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rerank.generators.synth.tones import SAMPLE_RATE, Sound, damped_sines, noise, samples_of, seed_of, shape


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One drum or cymbal.

    Attributes:
        level: peak at velocity 0.8.
        seconds: how long it lasts.
        tone: frequency in Hz, how many times higher it starts, time constant of that fall in seconds, time constant
            of the sound in seconds, height; frequency 0 for none.
        modes: (frequency in Hz, height, time constant in seconds) of further damped sines.
        noises: (low Hz, high Hz, height, time constant in seconds).
        strokes: times in seconds at which the noise starts again.
        swell: seconds in which the noise rises.
    """

    level: float
    seconds: float
    tone: tuple[float, float, float, float, float] = (0.0, 1.0, 1.0, 1.0, 0.0)
    modes: tuple[tuple[float, float, float], ...] = ()
    noises: tuple[tuple[float, float, float, float], ...] = ()
    strokes: tuple[float, ...] = (0.0,)
    swell: float = 0.0008


def _metal(low: float, count: int, height: float, decay: float, seed: int) -> tuple[tuple[float, float, float], ...]:
    random = np.random.default_rng(seed)
    frequencies = low * 2.0 ** np.sort(random.uniform(0.0, np.log2(13_000.0 / low), count))
    return tuple((float(f), height / count**0.5, decay * float(random.uniform(0.5, 1.0))) for f in frequencies)


_ACOUSTIC: Mapping[str, Piece] = {
    "kick": Piece(
        level=0.85, seconds=0.45, tone=(54.0, 2.6, 0.018, 0.11, 1.0), modes=((92.0, 0.25, 0.06),),
        noises=((900.0, 4000.0, 0.12, 0.006), (60.0, 400.0, 0.15, 0.03)),
    ),
    "snare": Piece(
        level=0.6, seconds=0.4, tone=(185.0, 1.25, 0.015, 0.06, 0.7), modes=((286.0, 0.35, 0.045), (410.0, 0.2, 0.03)),
        noises=((1400.0, 9000.0, 0.42, 0.075), (300.0, 2000.0, 0.2, 0.03)),
    ),
    "hat": Piece(
        level=0.26, seconds=0.16, modes=_metal(3500.0, 30, 0.5, 0.03, 1), noises=((6500.0, 14_000.0, 0.5, 0.025),)
    ),
    "open hat": Piece(
        level=0.26, seconds=0.8, modes=_metal(3500.0, 40, 0.5, 0.25, 1), noises=((6000.0, 14_000.0, 0.45, 0.18),)
    ),
    "tom": Piece(
        level=0.6, seconds=0.6, tone=(112.0, 1.5, 0.04, 0.14, 1.0), modes=((190.0, 0.3, 0.09),),
        noises=((300.0, 3000.0, 0.12, 0.015),),
    ),
    "crash": Piece(
        level=0.42, seconds=2.2, modes=_metal(700.0, 90, 0.8, 0.8, 2), noises=((3000.0, 13_000.0, 0.4, 0.5),), swell=0.003
    ),
    "ride": Piece(
        level=0.28, seconds=1.3, modes=(*_metal(900.0, 60, 0.5, 0.5, 3), (2950.0, 0.3, 0.12), (4410.0, 0.25, 0.1)),
        noises=((5000.0, 12_000.0, 0.2, 0.12),),
    ),
    "rim": Piece(
        level=0.45, seconds=0.12, modes=((520.0, 0.4, 0.012), (1720.0, 0.7, 0.012), (2900.0, 0.3, 0.007)),
        noises=((1500.0, 7000.0, 0.2, 0.006),),
    ),
    "clap": Piece(
        level=0.5, seconds=0.35, noises=((900.0, 3800.0, 0.8, 0.012), (1000.0, 5000.0, 0.25, 0.08)),
        strokes=(0.0, 0.011, 0.021, 0.033),
    ),
}  # fmt: skip
_ELECTRONIC: Mapping[str, Piece] = {
    "kick": Piece(level=0.9, seconds=0.7, tone=(47.0, 4.5, 0.03, 0.2, 1.0), noises=((2000.0, 9000.0, 0.06, 0.003),)),
    "snare": Piece(
        level=0.58, seconds=0.3, tone=(180.0, 1.6, 0.012, 0.05, 0.6), modes=((330.0, 0.3, 0.035),),
        noises=((2200.0, 12_000.0, 0.5, 0.055),),
    ),
    "hat": Piece(level=0.25, seconds=0.12, noises=((8000.0, 15_000.0, 0.7, 0.018),)),
    "open hat": Piece(level=0.25, seconds=0.5, noises=((7500.0, 15_000.0, 0.7, 0.12),)),
    "tom": Piece(level=0.6, seconds=0.5, tone=(95.0, 2.2, 0.06, 0.15, 1.0)),
    "crash": Piece(
        level=0.36, seconds=1.6, modes=_metal(2500.0, 40, 0.4, 0.4, 4), noises=((4500.0, 15_000.0, 0.6, 0.4),)
    ),
    "ride": Piece(
        level=0.25, seconds=0.8, modes=((3140.0, 0.4, 0.15), (4710.0, 0.3, 0.12), (6100.0, 0.3, 0.12)),
        noises=((8000.0, 15_000.0, 0.2, 0.12),),
    ),
    "rim": Piece(level=0.42, seconds=0.08, modes=((455.0, 0.5, 0.01), (1667.0, 0.8, 0.009))),
    "clap": Piece(
        level=0.5, seconds=0.45, noises=((800.0, 2400.0, 0.9, 0.009), (900.0, 3000.0, 0.3, 0.11)),
        strokes=(0.0, 0.01, 0.02, 0.03),
    ),
}  # fmt: skip
_HANDS: Mapping[str, Piece] = {
    "conga low": Piece(
        level=0.6, seconds=0.55, tone=(165.0, 1.08, 0.03, 0.13, 1.0), modes=((372.0, 0.25, 0.05), (590.0, 0.15, 0.03)),
        noises=((400.0, 2500.0, 0.15, 0.01),),
    ),
    "conga high": Piece(
        level=0.55, seconds=0.4, tone=(250.0, 1.08, 0.02, 0.08, 1.0), modes=((560.0, 0.35, 0.035), (880.0, 0.2, 0.02)),
        noises=((700.0, 4000.0, 0.25, 0.008),),
    ),
    "bongo": Piece(
        level=0.5, seconds=0.25, tone=(395.0, 1.08, 0.015, 0.05, 1.0), modes=((880.0, 0.35, 0.02), (1400.0, 0.2, 0.012)),
        noises=((1000.0, 5000.0, 0.25, 0.006),),
    ),
    "shaker": Piece(level=0.2, seconds=0.16, noises=((5000.0, 12_000.0, 0.8, 0.03),), swell=0.03),
    "tambourine": Piece(
        level=0.28, seconds=0.4, modes=_metal(5200.0, 24, 0.6, 0.12, 5), noises=((6000.0, 14_000.0, 0.5, 0.05),),
        strokes=(0.0, 0.022, 0.05),
    ),
    "cajon": Piece(
        level=0.7, seconds=0.4, tone=(78.0, 1.7, 0.02, 0.08, 1.0), modes=((210.0, 0.3, 0.04), (340.0, 0.2, 0.025)),
        noises=((1200.0, 6000.0, 0.18, 0.03), (200.0, 900.0, 0.2, 0.02)),
    ),
}  # fmt: skip
_KITS: Mapping[str, Mapping[str, Piece]] = {
    "acoustic kit": _ACOUSTIC,
    "electronic kit": _ELECTRONIC,
    "hand percussion": _HANDS,
}
KITS: tuple[str, ...] = tuple(_KITS)
PIECES: Mapping[str, tuple[str, ...]] = {kit: tuple(pieces) for kit, pieces in _KITS.items()}


def hit(kit: str, piece: str, velocity: float = 0.8) -> Sound:
    """Strike one drum or cymbal.

    Args:
        kit: one of `KITS`.
        piece: one of `PIECES[kit]`.
        velocity: 0..1, rounded to a twentieth; louder is also brighter.

    Returns:
        Read-only float32 `[time]` at 32 kHz, starting and ending at zero, the same for the same arguments.

    Raises:
        ValueError: the kit or the piece is unknown, or the velocity is out of range.
    """
    if kit not in _KITS:
        raise ValueError(f"unknown kit {kit!r}; known: {', '.join(KITS)}")
    if piece not in _KITS[kit]:
        raise ValueError(f"unknown piece {piece!r} of the {kit}; known: {', '.join(PIECES[kit])}")
    if not 0.0 <= velocity <= 1.0:
        raise ValueError(f"velocity must be from 0 to 1, got {velocity}")
    return _struck(kit, piece, round(20.0 * velocity))


@lru_cache(maxsize=512)
def _struck(kit: str, name: str, twentieths: int) -> Sound:
    piece, velocity = _KITS[kit][name], twentieths / 20.0
    samples = samples_of(piece.seconds)
    time = np.arange(samples) / SAMPLE_RATE
    sound = np.zeros(samples, np.float32)
    hardness = 0.6 + 0.5 * velocity
    frequency, start, fall, decay, height = piece.tone
    if frequency:
        turns = frequency * (time + (start - 1.0) * hardness * fall * -np.expm1(-time / fall))
        sound += (height * np.sin(2.0 * np.pi * turns) * np.exp(-time / decay)).astype(np.float32)
    if piece.modes:
        frequencies, heights, decays = np.array(piece.modes).T
        angles = np.random.default_rng(seed_of(name)).uniform(-np.pi, np.pi, frequencies.size)
        angles[frequencies < 3000.0] = 0.0
        sound += damped_sines(frequencies, hardness * heights * np.exp(1j * angles), decays, samples)
    for place, (low, high, height, decay) in enumerate(piece.noises):
        last = len(piece.noises) > 1 and place == len(piece.noises) - 1
        strokes = piece.strokes[-1:] if last and len(piece.strokes) > 1 else piece.strokes
        for stroke in strokes:
            first = samples_of(stroke)
            rest = time[: samples - first]
            envelope = height * hardness * -np.expm1(-rest / piece.swell) * np.exp(-rest / decay)
            sound[first:] += noise(rest.size, low, high, seed_of(kit, name, twentieths, place, stroke)) * envelope
    peak = float(np.abs(sound).max())
    sound *= np.float32(piece.level * (velocity / 0.8) ** 1.5 / max(peak, 1e-6))
    shape(sound, 0.0004, min(0.05, 0.4 * piece.seconds)).flags.writeable = False
    return sound
