"""What `synth` says that it understood of a prompt, and what it ignored."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.corpus.captions import captions
from rerank.data import Prompt
from rerank.generators.synth.reading import reading_of
from rerank.generators.synth.words import Request, read_text


@pytest.mark.parametrize(
    ("text", "understood", "ignored"),
    [
        ("A slow, sad lo-fi piano with seagulls, no drums", "slow|sad|lo-fi|piano|no drums", "seagulls"),
        ("Kölsch rock ballad, 95 bpm, in F# minor", "rock|ballad|95 bpm|F# minor", "Kölsch"),
        ("K-pop with hip-hop and techno", "K-pop", "hip-hop|techno"),  # one genre at a time
        ("loud epic metal, female vocals, 600 bpm", "loud|epic|metal|female vocals", "600"),
        ("fast-paced, at 174bpm, no drums or bass", "fast-paced|174bpm|no drums or bass", ""),
        ("without vocals, nothing but a high-quality flute", "without vocals|high-quality|flute", "nothing"),
        ("the music of this song", "", ""),
        ("a harp\nwithout\nvocals, 95\nbpm", "harp|without vocals|95 bpm", ""),
        ("ein ruhiges Klavier", "", "ein|ruhiges|Klavier"),
        ("ゆっくりした悲しいピアノ", "", "ゆっくりした悲しいピアノ"),
        ("", "", ""),
    ],
)
def test_words_are_told_as_they_were_written(text: str, understood: str, ignored: str) -> None:
    reading = reading_of(Prompt(text, "la la"))
    assert "|".join(reading.understood) == understood
    assert "|".join(reading.ignored) == ignored
    assert reading.not_followed == (("text",) if text and not understood else ())


@pytest.mark.parametrize("lyrics", [None, "la la la", "Der Mond ist aufgegangen", "Đêm nay", "[verse]\noh"])
def test_lyrics_in_latin_letters_are_sung(lyrics: str | None) -> None:
    assert reading_of(Prompt("piano", lyrics)).not_followed == ()


@pytest.mark.parametrize("lyrics", ["дождь идёт", "你好 世界", "يا ليل", "夜に駆ける", "hmm"])
def test_lyrics_without_vowels_are_not(lyrics: str) -> None:
    reading = reading_of(Prompt("piano", lyrics))
    assert reading.not_followed == ("lyrics",) and reading.ignored == ()


def test_words_of_lyrics_that_cannot_be_read_are_told() -> None:
    assert reading_of(Prompt("piano", "[verse]\noh 사랑해, my love 사랑해")).ignored == ("사랑해",)


def test_what_is_not_understood_sets_nothing() -> None:
    """Where nothing of a caption is understood, nothing is asked; and what is ignored can be left out."""
    rng = np.random.default_rng(0)
    for caption in rng.choice(captions("train"), 200, replace=False):
        asked, reading = read_text(caption), reading_of(Prompt(str(caption)))
        assert bool(reading.understood) == (asked != Request())
        assert not set(reading.understood) & set(reading.ignored)


@given(st.text(max_size=80))
def test_any_text_is_read(text: str) -> None:
    reading = reading_of(Prompt(text, "la"))
    assert ("text" in reading.not_followed) == (bool(text.strip()) and not reading.understood)
