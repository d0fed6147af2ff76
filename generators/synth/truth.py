"""What was asked, what was rendered, which faults were put in, and the two numbers that follow from it.

**Metrics**: true alignment is the weighted share of the asked attributes that were rendered; true musicality is what
the faults leave of perfect craft. Both are in [0, 1], 1 is best. Neither is ever shown to a reward model; training and
evaluation may compute them for any prompt and any candidate, so a wrong prompt has a true alignment too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rerank.generators.synth.styles import RELATED
from rerank.generators.synth.words import Heard, Mode, Request

FAULT_COSTS: dict[str, float] = {
    "timing": 0.65,
    "wrong notes": 0.7,
    "detuning": 0.65,
    "harsh": 0.5,
    "clipping": 0.65,
    "noise": 0.6,
    "dull": 0.5,
    "boomy": 0.45,
    "cuts": 0.7,
    "repetition": 0.4,
}
"""Craft faults, and the share of musicality that each takes at full severity."""

WEIGHTS: dict[str, float] = {
    "tempo": 1.5,
    "genre": 1.5,
    "mood": 1.5,
    "instrument": 1.2,
    "excluded": 1.0,
    "voice": 1.5,
    "dynamics": 0.8,
    "recording": 0.8,
    "mode": 0.4,
    "key": 0.3,
    "lyrics": 2.5,
    "brightness": 1.5,
}
"""How much each asked attribute counts; every named instrument counts by itself."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a candidate really is, in the words of `words.Request`."""

    tempo: float
    key: int
    mode: Mode
    mood: tuple[float, float]
    genre: str
    instruments: tuple[str, ...]
    dynamics: str
    recording: str
    voice: str | None
    vowels: tuple[str, ...]
    brightness: float


def musicality(faults: Mapping[str, float]) -> float:
    """Return the true musicality in [0, 1] of a candidate with these faults (name -> severity in [0, 1])."""
    return math.prod(1.0 - FAULT_COSTS[name] * severity for name, severity in faults.items())


def alignment(request: Request, facts: Facts) -> float:
    """Return the true alignment in [0, 1]; 1 where nothing in particular was asked."""
    parts = attribute_alignment(request, facts)
    total = sum(weight for weight, _ in parts.values())
    return sum(weight * share for weight, share in parts.values()) / total if total else 1.0


def attribute_alignment(request: Request, facts: Facts) -> dict[str, tuple[float, float]]:
    """Return each asked attribute with its weight and how far it was met, 0 to 1.

    Tempo, key and mode come from the text where it names them, else from the reference audio.
    """
    parts: dict[str, tuple[float, float]] = {}

    def add(attribute: str, share: float, name: str | None = None) -> None:
        parts[name or attribute] = (WEIGHTS[attribute], share)

    reference = request.reference
    if request.tempo:
        add("tempo", _tempo_share(facts.tempo, *request.tempo))
    elif reference:
        add("tempo", max(_tempo_share(facts.tempo, *(2 * [reference.tempo * m])) for m in (0.5, 1.0, 2.0)))
    key, mode = _asked_key(request.key, request.mode, reference)
    if key is not None:
        add("key", float(key == facts.key))
    if mode is not None:
        add("mode", float(mode == facts.mode))
    if request.mood:
        add("mood", max(0.0, 1.0 - max(0.0, math.dist(request.mood, facts.mood) - 0.1) / 0.6))
    if request.genre:
        related = any({request.genre, facts.genre} <= group for group in RELATED)
        add("genre", 1.0 if request.genre == facts.genre else 0.5 * related)
    for name in request.instruments:
        add("instrument", float(name in facts.instruments), name)
    if request.excluded:
        add("excluded", float(not request.excluded & set(facts.instruments)))
    if request.dynamics:
        add(
            "dynamics",
            {request.dynamics: 1.0, "medium": 0.5}.get(facts.dynamics, 0.5 if facts.dynamics == "medium" else 0),
        )
    if request.recording:
        add("recording", float(request.recording == facts.recording))
    if request.voice:
        add("voice", _voice_share(request.voice, facts.voice))
    if request.vowels:
        add("lyrics", _lyrics_share(request.vowels, facts.vowels))
    if reference:
        add(
            "brightness",
            max(0.0, 1.0 - max(0.0, abs(math.log2(facts.brightness / reference.brightness)) - 0.15) / 0.85),
        )
    return parts


def _asked_key(key: int | None, mode: Mode | None, reference: Heard | None) -> tuple[int | None, Mode | None]:
    if reference is None or key is not None or mode is not None:
        return key, mode
    return reference.key, reference.mode


def _tempo_share(tempo: float, slowest: float, fastest: float) -> float:
    """Full within 4 % of the range, none from a third of an octave beyond."""
    octaves = max(math.log2(slowest / tempo), math.log2(tempo / fastest), 0.0)
    return max(0.0, 1.0 - max(0.0, octaves - 0.057) / 0.35)


def _voice_share(asked: str, sung: str | None) -> float:
    if asked == "none":
        return float(sung is None)
    if sung is None:
        return 0.0
    return 1.0 if asked in ("any", sung) else 0.4


def _lyrics_share(asked: tuple[str, ...], sung: tuple[str, ...]) -> float:
    """The share of sung syllables whose vowel is the one that the lyrics have there (they start over at their end)."""
    if not sung:
        return 0.0
    return sum(vowel == asked[i % len(asked)] for i, vowel in enumerate(sung)) / len(sung)
