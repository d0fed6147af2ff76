"""Lyrics to sing: lines from templates, those of a split its own, and the same vowels in other words."""

import re
from functools import cache

import numpy as np

from rerank.corpus.captions import Split, english, pick
from rerank.generators.synth.voice import vowels_of

_LINES: dict[Split, tuple[str, ...]] = {
    "train": (
        "{pronoun} {verb} the {noun} {place}",
        "{pronoun} {verb} {adverb} and {verb} {adverb}",
        "{adjective} {noun}, {adjective} {noun}",
        "oh my {noun}, oh my {adjective} {noun}",
        "{place} {pronoun} {verb}",
        "every {noun} that {pronoun} {verb} is {adjective}",
        "{noun} and {noun} {place}",
    ),
    "test": (
        "when {pronoun} {verb} {place} the {noun} turns {adjective}",
        "no {adjective} {noun} can {verb} like {pronoun}",
        "hold the {noun}, {verb} the {noun} {adverb}",
        "{place}, {adverb}, {pronoun} {verb} for {noun}",
    ),
}
_LYRIC_WORDS = {
    "pronoun": "I, you, we, they, she, he, nobody, everyone, my love, the children, two lovers, my mother",
    "verb": "see, hold, know, keep, find, leave, wait for, dream of, follow, lose, love, carry, need, hear, sing, feel, call,"
    " walk through, forget, remember, watch, burn, fight, cross, want, chase, open, take, miss, hide, paint, stop, build",
    "noun": "moon, river, fire, night, light, heart, road, sea, sun, rain, star, dream, home, stone, tree, bird, window, door,"
    " summer, winter, city, shadow, mountain, mirror, song, word, day, wheel, dust, snow, garden, highway, ocean, train, hand,"
    " rose, bottle, flame, silence, morning, street, cloud, boat, beach, hill, moonlight, machine, fool, pool, car, tower",
    "adjective": "blue, deep, cold, sweet, lonely, free, golden, broken, wild, slow, young, old, green, hollow, tender, bright,"
    " dark, new, endless, true, holy, easy, bitter, warm, lost, foolish, silver, heavy, naked, low",
    "adverb": "again, tonight, so far, too soon, away, forever, slowly, all day long, like thunder, one more time, in the end,"
    " before dawn, now, alone, without fear",
    "place": "in the night, by the sea, down the road, under the moon, in my room, on the hill, across the water, out in the cold,"
    " at the door, over the rooftops, beneath the trees, in your arms, far from home, behind the wall, up in the sky",
}


def lyrics(rng: np.random.Generator, split: Split) -> str:
    """Return one to four lines to sing; some are plain runs of English words, so that any spelling is met."""
    lines = []
    for _ in range(int(rng.integers(1, 5))):
        if rng.random() < 0.4:
            words = english(split)
            lines.append(" ".join(pick(rng, words) for _ in range(int(rng.integers(3, 8)))))
        else:
            lines.append(re.sub(r"\{(\w+)\}", lambda kind: _lyric_word(rng, kind[1]), pick(rng, _LINES[split])))
    return "\n".join(lines)


def respelled(rng: np.random.Generator, lyrics: str) -> str:
    """Return other words that are sung alike: with the vowels of `lyrics` in their order, in lines of about their length.

    Of these there is no end, so what is learnt from them is the sound of words, and not which lyrics belong to which clip.
    """
    lines = []
    for line in lyrics.split("\n"):
        vowels, words = tuple(vowels_of(line)), []
        while vowels:
            length = min(int(rng.integers(1, _LONGEST_WORD + 1)), len(vowels))
            if known := _words_by_vowels().get(vowels[:length]):
                words.append(pick(rng, known))
                vowels = vowels[length:]
        lines.append(" ".join(words))
    return "\n".join(lines)


_LONGEST_WORD = 3
"""Syllables of the longest word that `respelled` looks for; for every single vowel there is a word."""


@cache
def _words_by_vowels() -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return the words of the training captions and lyrics by their vowels."""
    lyric_words = re.findall(r"[a-z]+", " ".join(_LYRIC_WORDS.values()).lower())
    found: dict[tuple[str, ...], list[str]] = {}
    for word in sorted({*english("train"), *lyric_words}):
        found.setdefault(tuple(vowels_of(word)), []).append(word)
    return {vowels: tuple(words) for vowels, words in found.items()}


def _lyric_word(rng: np.random.Generator, kind: str) -> str:
    return pick(rng, _LYRIC_WORDS[kind].split(", "))
