"""Read a prompt in free English: which tempo, key, mood, genre, instruments, dynamics and voice it asks for.

One scan over the text finds the longest known phrases, so that "soft rock" is a genre and not a dynamic, and each phrase
sets one attribute. What the text does not mention stays None: the composer is free there, and the truth does not
count it. Phrases after "no", "without" and the like are exclusions.

**Conventions**: tempo in beats per minute, key as pitch class (0 is C), mood as (valence, energy) in [0, 1].
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast

from rerank.generators.synth.drums import KITS
from rerank.generators.synth.lexicon import (
    ALONE_WORDS,
    BASSES,
    DYNAMICS_WORDS,
    FASTEST,
    GENRE_WORDS,
    INSTRUMENT_WORDS,
    MODE_WORDS,
    MOOD_WORDS,
    MOODS,
    RECORDING_WORDS,
    SLOWEST,
    TEMPO_WORDS,
    VOICE_WORDS,
)

Mode = Literal["major", "minor"]
Dynamics = Literal["quiet", "loud"]
Recording = Literal["low", "high"]
Voice = Literal["male", "female", "any", "none"]

_GUITARS = ("acoustic guitar", "electric guitar", "distorted guitar")
_PITCH_CLASSES = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_NEGATION = re.compile(
    r"\b(?:no|not|without|minus|lacks?|lacking|free of|isn't|aren't)\s+(?:any\s+|other\s+|a\s+|an\s+)?$"
)
_NEGATED_LIST = re.compile(r"\b(?:no|without)\s+(?:\w+\s+){1,3}(?:or|nor|and no)\s+$")
_BPM = re.compile(
    r"(?<!\d)(\d{2,3}(?:\.\d+)?)\s*(?:bpm\b|beats per minute)|(?:bpm|tempo)\s*(?:of|is|:|=|at)?\s*(\d{2,3}(?:\.\d+)?)"
)
_KEY = re.compile(
    r"\b(?:(?P<named>[A-G])|[Kk]ey (?:of|is) (?P<said>[A-Ga-g]))[ ]?(?P<sign>sharp|flat|#|♯|♭|b(?![a-z]))?"
    r"(?:[ ]?(?P<mode>major|minor|maj\b|min\b))?"
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a prompt asks for; None (or empty) where it leaves the choice open.

    Attributes:
        tempo: slowest and fastest tempo that fit, in beats per minute; equal where a number was given.
        key: pitch class, 0 is C.
        mode: major or minor.
        mood: (valence, energy), each in [0, 1]: the mean of the moods that the text names.
        genre: one of `GENRE_WORDS`.
        instruments: one of `INSTRUMENT_WORDS` each, drum kits among them, in order of mention.
        excluded: instruments that must not sound.
        alone: nothing but the named instruments may sound.
        dynamics: quiet or loud.
        recording: low or high quality.
        voice: who sings: male, female, any, or none where a voice is ruled out.
        vowels: of the lyrics, one per syllable (see `voice.vowels_of`).
        reference: what a reference audio sounds like.
    """

    tempo: tuple[float, float] | None = None
    key: int | None = None
    mode: Mode | None = None
    mood: tuple[float, float] | None = None
    genre: str | None = None
    instruments: tuple[str, ...] = ()
    excluded: frozenset[str] = frozenset()
    alone: bool = False
    dynamics: Dynamics | None = None
    recording: Recording | None = None
    voice: Voice | None = None
    vowels: tuple[str, ...] = ()
    reference: "Heard | None" = None


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What a piece of audio sounds like, measured (see `listen`).

    Attributes:
        tempo: beats per minute, up to a factor of two.
        key: pitch class of the tonic, 0 is C.
        mode: major or minor.
        brightness: spectral centroid in Hz.
    """

    tempo: float
    key: int
    mode: Mode
    brightness: float


def _phrases(words: str) -> list[str]:
    return [phrase.strip() for phrase in words.split(",")]


@cache
def _lexicon() -> dict[str, list[tuple[str, object]]]:
    """Every known phrase -> the attributes it sets; one phrase may set several ("808" is a kit and a bass)."""
    lexicon: dict[str, list[tuple[str, object]]] = {}
    tables: list[tuple[str, Mapping[Any, str]]] = [
        ("mood", MOOD_WORDS),
        ("genre", GENRE_WORDS),
        ("instrument", INSTRUMENT_WORDS),
        ("voice", VOICE_WORDS),
        ("dynamics", DYNAMICS_WORDS),
        ("recording", RECORDING_WORDS),
        ("tempo", TEMPO_WORDS),
        ("mode", MODE_WORDS),
        ("alone", {True: ALONE_WORDS}),
    ]
    for attribute, table in tables:
        for value, words in table.items():
            for phrase in _phrases(words):
                lexicon.setdefault(phrase, []).append((attribute, value))
    for instrument in ("piano", "acoustic guitar", "violin", "cello", "flute"):
        lexicon[f"solo {instrument}"] = [("alone", True), ("instrument", instrument)]
    lexicon["solo guitar"] = [("alone", True), ("instrument", "acoustic guitar")]
    lexicon["guitar"] = lexicon["guitars"] = [("guitar", None)]
    return lexicon


@cache
def _scanner() -> re.Pattern[str]:
    phrases = sorted(_lexicon(), key=len, reverse=True)
    return re.compile(r"(?<![\w'])(?:" + "|".join(re.escape(phrase) for phrase in phrases) + r")(?![\w'])")


def plain_text(text: str) -> str:
    """Return a text as phrases are looked for in it: without hyphens and the like."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'")
    return re.sub(r"[-_/]+", " ", text)


@dataclass(frozen=True)
class Phrase:
    """A known phrase in a text, or a number, that stands for one wish or several.

    Attributes:
        start, end: where it is in the plain text, in characters.
        ruled_out: where the words begin that rule it out, such as "no"; None where it is wished for.
        sets: attributes and what they become.
    """

    start: int
    end: int
    ruled_out: int | None
    sets: tuple[tuple[str, object], ...]


def phrases_of(lowered: str) -> list[Phrase]:
    """Return the longest known phrases of a plain text in small letters, in their order."""
    found = []
    for match in _scanner().finditer(lowered):
        before = lowered[max(0, match.start() - 40) : match.start()]
        negation = _NEGATION.search(before) or _NEGATED_LIST.search(before)
        ruled_out = match.start() - len(before) + negation.start() if negation else None
        found.append(Phrase(*match.span(), ruled_out, tuple(_lexicon()[match.group()])))
    return found


def read_text(text: str) -> Request:
    """Return what a prompt in free English asks for.

    >>> request = read_text("A slow, sad piano ballad in D minor with soft strings, no drums")
    >>> request.tempo, request.key, request.mode, request.instruments, sorted(request.excluded)
    ((55, 82), 2, 'minor', ('piano', 'strings'), ['acoustic kit', 'electronic kit', 'hand percussion'])
    """
    plain = plain_text(text)
    lowered = plain.lower()
    found: dict[str, list[object]] = {}
    excluded: set[str] = set()
    voice_excluded = False
    for phrase in phrases_of(lowered):
        for attribute, value in phrase.sets:
            if phrase.ruled_out is None:
                found.setdefault(attribute, []).append(value)
            elif attribute in ("instrument", "guitar"):
                excluded.update(_meant(lowered[phrase.start : phrase.end], str(value)))
            elif attribute == "voice" and value != "none":
                voice_excluded = True
    genre = _most_common(found.get("genre"))
    instruments = _instruments(found, genre)
    key, mode, _ = key_of(plain)
    if mode is None:
        mode = cast(Mode | None, _most_common(found.get("mode")))
    moods = [MOODS[str(name)] for name in found.get("mood", [])]
    mood = (sum(m[0] for m in moods) / len(moods), sum(m[1] for m in moods) / len(moods)) if moods else None
    return Request(
        tempo=number_of(lowered)[0] or cast(tuple[float, float] | None, (found.get("tempo") or [None])[0]),
        key=key,
        mode=mode,
        mood=mood,
        genre=genre,
        instruments=tuple(name for name in instruments if name not in excluded),
        excluded=frozenset(excluded),
        alone="alone" in found,
        dynamics=cast(Dynamics | None, _most_common(found.get("dynamics"))),
        recording=cast(Recording | None, _most_common(found.get("recording"))),
        voice="none" if voice_excluded else _voice_of(found),
    )


def _meant(phrase: str, instrument: str) -> tuple[str, ...]:
    """Return what a phrase rules out: "no drums" all kits, "no bass" all basses, "no guitar" all guitars."""
    if instrument in KITS:
        return KITS
    if phrase in ("guitar", "guitars"):
        return _GUITARS
    if phrase in ("bass", "bass line", "bassline"):
        return BASSES
    return (instrument,)


def _most_common(values: list[object] | None) -> str | None:
    """Return the value named most often, the first one on a tie."""
    return str(Counter(values).most_common(1)[0][0]) if values else None


def _instruments(found: dict[str, list[object]], genre: str | None) -> list[str]:
    named = [str(name) for name in found.get("instrument", [])]
    if "guitar" in found and not any("guitar" in name and name != "bass guitar" for name in named):
        heavy = {"metal": "distorted guitar", "punk": "distorted guitar"}
        electric = ("rock", "blues", "funk", "jazz", "reggae")
        named.append(heavy.get(genre or "", "electric guitar" if genre in electric else "acoustic guitar"))
    named = list(dict.fromkeys(named))
    if "acoustic kit" in named and "electronic kit" in named:
        named.remove("acoustic kit")  # "electronic drums with a punchy snare" is one kit
    if "acoustic kit" in named and genre in ("electronic", "hip hop", "lo-fi"):
        named[named.index("acoustic kit")] = "electronic kit"
    specific_bass = [name for name in named if name in ("upright bass", "synth bass")]
    if specific_bass and "bass guitar" in named:
        named.remove("bass guitar")  # "upright bass ... the bass line" is one instrument
    return named


def _voice_of(found: dict[str, list[object]]) -> Voice | None:
    named = [str(who) for who in found.get("voice", [])]
    for who in ("male", "female"):
        if who in named:
            return cast(Voice, _most_common([name for name in named if name in ("male", "female")]))
    if "none" in named:
        return "none"
    return "any" if named else None


def number_of(lowered: str) -> tuple[tuple[float, float] | None, tuple[int, int] | None]:
    """Return the tempo that a text gives as a number, and where; None where it gives none that can be played."""
    for match in _BPM.finditer(lowered):
        tempo = float(match.group(1) or match.group(2))
        if SLOWEST <= tempo <= FASTEST:
            return (tempo, tempo), match.span()
    return None, None


def key_of(plain: str) -> tuple[int | None, Mode | None, tuple[int, int] | None]:
    """Return the key and the mode that a text names, and where; None where it names none."""
    for match in _KEY.finditer(plain):
        mode: Mode | None = None
        if match["mode"]:
            mode = "major" if match["mode"].startswith("maj") else "minor"
        if match["said"] is None and mode is None:
            continue  # a lone capital letter is no key
        if (
            match["named"] == "A"
            and mode
            and plain[match.end() :].lstrip().lower().startswith(("key", "chord", "scale"))
        ):
            continue  # "A minor key" at the start of a sentence is an article
        pitch_class = _PITCH_CLASSES[(match["named"] or match["said"]).lower()]
        sign = {"sharp": 1, "#": 1, "♯": 1, "flat": -1, "♭": -1, "b": -1}.get(match["sign"] or "", 0)
        return (pitch_class + sign) % 12, mode, match.span()
    return None, None, None
