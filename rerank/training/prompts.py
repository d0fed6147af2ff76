"""Prompts to train and test with: real captions, sentences from templates, and lyrics.

The captions are those of MusicCaps (Google, CC BY-SA 4.0, in `musiccaps.csv`): the rows of its AudioSet train split are
for training, those of its evaluation split for testing. Templates and lyric lines are split as well, so nothing that a
test uses was seen in training.
"""

import csv
import io
import re
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np

from rerank.generators.synth.lexicon import (
    DYNAMICS_WORDS,
    GENRE_WORDS,
    INSTRUMENT_WORDS,
    MOOD_WORDS,
    RECORDING_WORDS,
    TEMPO_WORDS,
    VOICE_WORDS,
)
from rerank.generators.synth.voice import vowels_of

Split = Literal["train", "test"]

_TEMPLATES: dict[Split, tuple[str, ...]] = {
    "train": (
        "{mood} {genre} with {instruments}",
        "a {tempo} {mood} {genre} piece with {instruments}",
        "{genre}, {mood}, {instruments}, {tempo}",
        "{instruments} playing {mood} {genre} at {bpm} bpm",
        "{mood} and {mood2} {genre} song, {voice}, {instruments}",
        "this is a {genre} track in {key}. It features {instruments}. The mood is {mood}",
        "{tempo}, {dynamics} {instruments}, {mood}",
        "{bpm} BPM {genre}, {instruments}, {recording}",
        "the song is {mood}, with {instruments} and {voice}, {tempo}",
        "{recording} of {instruments} playing a {mood} tune, {tempo}",
        "{genre} in {key}, {bpm} bpm, {dynamics}",
        "{instruments}, no {excluded}, {mood}",
        "{mood} {instruments} only, without {excluded}, {tempo}",
        "I want something {mood} and {dynamics} with {instruments}",
        "{genre}",
        "{mood} music",
        "{instruments}",
        "{tempo} {genre} with {voice}",
    ),
    "test": (
        "Please make a {mood} {genre} tune: {instruments}, {tempo}",
        "{genre} for a {mood} evening, {instruments} up front, around {bpm} bpm",
        "Track idea - {instruments} - {mood}, {mood2}, {tempo}",
        "give me {dynamics} {genre} in {key} with {voice} and {instruments}",
        "background music, {mood}, {instruments}; leave out, no {excluded}",
        "{tempo}; {recording}; {instruments}; feels {mood}",
    ),
}
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
_PITCHES = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")


@cache
def captions(split: Split) -> tuple[str, ...]:
    """Return the MusicCaps captions of a split, in file order."""
    text = resources.files("rerank.training").joinpath("musiccaps.csv").read_text(encoding="utf-8")
    wanted = "True" if split == "test" else "False"
    return tuple(row["caption"].strip() for row in csv.DictReader(io.StringIO(text)) if row["is_eval"] == wanted)


def sentence(rng: np.random.Generator, split: Split) -> str:
    """Return a prompt made from one of the split's templates."""
    template = _pick(rng, _TEMPLATES[split])
    count = int(rng.integers(1, 4))
    instruments = [_word(rng, INSTRUMENT_WORDS) for _ in range(count)]
    values = {
        "mood": _word(rng, MOOD_WORDS),
        "mood2": _word(rng, MOOD_WORDS),
        "genre": _word(rng, GENRE_WORDS),
        "instruments": instruments[0] if count == 1 else ", ".join(instruments[:-1]) + " and " + instruments[-1],
        "tempo": _word(rng, {str(k): words for k, words in TEMPO_WORDS.items()}),
        "bpm": str(int(np.exp(rng.uniform(np.log(45), np.log(220))))),
        "key": f"{_pick(rng, _PITCHES)} {_pick(rng, ('major', 'minor'))}",
        "dynamics": _word(rng, DYNAMICS_WORDS),
        "recording": _word(rng, RECORDING_WORDS),
        "voice": _word(rng, VOICE_WORDS),
        "excluded": _pick(rng, ("drums", "percussion", "bass", "piano", "guitar solo", "strings", "vocals")),
    }
    return template.format(**values)


def lyrics(rng: np.random.Generator, split: Split) -> str:
    """Return one to four lines to sing; some are plain runs of English words, so that any spelling is met."""
    lines = []
    for _ in range(int(rng.integers(1, 5))):
        if rng.random() < 0.4:
            words = _pick_many(rng, _english(split), int(rng.integers(3, 8)))
            lines.append(" ".join(words))
        else:
            lines.append(re.sub(r"\{(\w+)\}", lambda kind: _lyric_word(rng, kind[1]), _pick(rng, _LINES[split])))
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
                words.append(_pick(rng, known))
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
    for word in sorted({*_english("train"), *lyric_words}):
        found.setdefault(tuple(vowels_of(word)), []).append(word)
    return {vowels: tuple(words) for vowels, words in found.items()}


@cache
def _english(split: Split) -> tuple[str, ...]:
    words = re.findall(r"[a-z]{2,}", " ".join(captions(split)).lower())
    return tuple(sorted(set(words)))


def _lyric_word(rng: np.random.Generator, kind: str) -> str:
    return _pick(rng, _LYRIC_WORDS[kind].split(", "))


def _pick(rng: np.random.Generator, options: "tuple[str, ...] | list[str]") -> str:
    return options[int(rng.integers(len(options)))]


def _pick_many(rng: np.random.Generator, options: tuple[str, ...], count: int) -> list[str]:
    return [_pick(rng, options) for _ in range(count)]


def _word(rng: np.random.Generator, table: dict[str, str]) -> str:
    """Return a random phrase for a random value of a lexicon table; the common phrases come first and more often."""
    phrases = [phrase.strip() for phrase in _pick(rng, list(table.values())).split(",")]
    return phrases[min(int(rng.exponential(4.0)), len(phrases) - 1)]
