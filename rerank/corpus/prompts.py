"""Sentences from templates that ask for music in words that `synth` follows; the templates of a split are its own."""

import numpy as np

from rerank.corpus.captions import Split, pick
from rerank.generators.synth.lexicon import (
    DYNAMICS_WORDS,
    GENRE_WORDS,
    INSTRUMENT_WORDS,
    MOOD_WORDS,
    RECORDING_WORDS,
    TEMPO_WORDS,
    VOICE_WORDS,
)

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
_PITCHES = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")


def sentence(rng: np.random.Generator, split: Split) -> str:
    """Return a prompt made from one of the split's templates."""
    template = pick(rng, _TEMPLATES[split])
    count = int(rng.integers(1, 4))
    instruments = [_word(rng, INSTRUMENT_WORDS) for _ in range(count)]
    values = {
        "mood": _word(rng, MOOD_WORDS),
        "mood2": _word(rng, MOOD_WORDS),
        "genre": _word(rng, GENRE_WORDS),
        "instruments": instruments[0] if count == 1 else ", ".join(instruments[:-1]) + " and " + instruments[-1],
        "tempo": _word(rng, {str(k): words for k, words in TEMPO_WORDS.items()}),
        "bpm": str(int(np.exp(rng.uniform(np.log(45), np.log(220))))),
        "key": f"{pick(rng, _PITCHES)} {pick(rng, ('major', 'minor'))}",
        "dynamics": _word(rng, DYNAMICS_WORDS),
        "recording": _word(rng, RECORDING_WORDS),
        "voice": _word(rng, VOICE_WORDS),
        "excluded": pick(rng, ("drums", "percussion", "bass", "piano", "guitar solo", "strings", "vocals")),
    }
    return template.format(**values)


def _word(rng: np.random.Generator, table: dict[str, str]) -> str:
    """Return a random phrase for a random value of a lexicon table; the common phrases come first and more often."""
    phrases = [phrase.strip() for phrase in pick(rng, list(table.values())).split(",")]
    return phrases[min(int(rng.exponential(4.0)), len(phrases) - 1)]
