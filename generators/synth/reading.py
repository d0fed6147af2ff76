"""What `synth` makes of a prompt, in its words: what sets something, and what says nothing to it."""

import re
import unicodedata
from functools import cache

from rerank.data import Prompt
from rerank.generators.synth.voice import vowels_of
from rerank.generators.synth.words import Phrase, Request, key_of, number_of, phrases_of, plain_text, read_text
from rerank.protocols import Condition, Reading

_COMMON = """
    a about after again all along alongside also although among an and another any are as at away be because been before
    being between both but by can could do does down during each else even ever every everything feel feels few for
    from get give given gives go had has have he her here him his how i if in into is it it's its itself just kind let
    lets like lot make makes making many may me might more most much my never no nor not now of off on once one only
    or other others our out over own per please quite rather really s same she should since so some something somewhat
    such t than that that's the their them then there there's these they thing this those through throughout to together
    too two under until up upon us use used uses using very want wants was way we were what when where which while who
    whole with within without would you your

    accompanied accompanies accompaniment accompanying add added adding audio background backing bpm beat beats clip
    consists contain containing contains create creates creating feature featured features featuring feeling full include
    includes including instrument instrumentation instruments key kinds line lines made main mainly melodic melodies
    melody mood moods music musical note notes part parts perform performance performed performing piece pieces play
    played playing plays record recorded recording rhythm rhythmic rhythms sequence song songs sound sounding sounds
    style styles take tempo theme themes track tracks tune tunes type vibe vibes
"""
"""Words that nobody misses where they set nothing: those of grammar, and those that any music could be described by."""

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def reading_of(prompt: Prompt) -> Reading:
    """Return what is understood of a prompt, and what is ignored, in the order of its words.

    >>> reading_of(Prompt("A slow, sad lo-fi piano with seagulls, no drums"))
    Reading(understood=('slow', 'sad', 'lo-fi', 'piano', 'no drums'), ignored=('seagulls',), not_followed=())
    >>> reading_of(Prompt("langsames Klavier", "дождь идёт")).not_followed
    ('text', 'lyrics')
    """
    plain = plain_text(prompt.text)
    lowered = plain.lower()
    request, phrases = read_text(prompt.text), phrases_of(lowered)
    numbers = [span for span in (number_of(lowered)[1], key_of(plain)[2]) if span]
    heeded = _outermost([*numbers, *filter(None, (_heeded(phrase, request) for phrase in phrases))])
    lost = [(phrase.start, phrase.end) for phrase in phrases]
    lost += [word.span() for word in _WORD.finditer(lowered) if _is_missed(word.group())]
    lost = [span for span in _outermost(lost) if not any(start < span[1] and span[0] < end for start, end in heeded)]
    understood, ignored = (
        dict.fromkeys(_as_written(lowered[start:end], prompt.text) for start, end in spans) for spans in (heeded, lost)
    )
    silent = prompt.lyrics is not None and not vowels_of(prompt.lyrics)
    unsung = _not_sung(prompt.lyrics or "") if not silent else []
    not_followed: dict[Condition, bool] = {"text": bool(prompt.text.strip()) and not understood, "lyrics": silent}
    return Reading(
        understood=tuple(understood),
        ignored=tuple(dict.fromkeys([*ignored, *unsung])),
        not_followed=tuple(part for part, is_so in not_followed.items() if is_so),
    )


def _heeded(phrase: Phrase, request: Request) -> tuple[int, int] | None:
    """Return where a phrase is that the request follows; None where it sets nothing, or others decided instead."""
    attributes = [attribute for attribute, _ in phrase.sets]
    if phrase.ruled_out is not None:
        rules_out = any(attribute in ("instrument", "guitar", "voice") for attribute in attributes)
        return (phrase.ruled_out, phrase.end) if rules_out else None
    one_of_a_kind = {name: getattr(request, name) for name in ("genre", "dynamics", "recording", "mode")}
    follows = any(
        one_of_a_kind[attribute] == value
        if attribute in one_of_a_kind
        else attribute != "instrument" or value in request.instruments
        for attribute, value in phrase.sets
    )
    return (phrase.start, phrase.end) if follows else None


def _outermost(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans that lie in no other, in their order."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not found or end > found[-1][1]:
            found.append((start, end))
    return found


@cache
def _not_missed() -> frozenset[str]:
    return frozenset(_COMMON.split())


def _is_missed(word: str) -> bool:
    return len(word) > 1 and word not in _not_missed()


def _as_written(phrase: str, text: str) -> str:
    """Return a phrase with the hyphens and the capitals that it has in the text."""
    pattern = r"[-_/\s]+".join(map(re.escape, phrase.split()))
    found = re.search(pattern, unicodedata.normalize("NFKC", text).replace("’", "'"), re.IGNORECASE)
    return " ".join((found.group() if found else phrase).split())


def _not_sung(lyrics: str) -> list[str]:
    """Return the words of lyrics of which no letter can be read."""
    plain = re.sub(r"\[[^\]]*\]", " ", lyrics)
    return [word for word in _WORD.findall(plain) if word[0].isalpha() and not _has_latin(word)]


def _has_latin(word: str) -> bool:
    return re.search("[a-z]", unicodedata.normalize("NFKD", word.lower())) is not None
