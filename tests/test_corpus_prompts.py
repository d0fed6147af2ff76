"""What prompts are drawn from: captions, sentences and lyrics of two splits that do not overlap."""

import numpy as np

from rerank.corpus.captions import captions
from rerank.corpus.lyrics import lyrics, respelled
from rerank.corpus.prompts import sentence
from rerank.generators.synth.voice import vowels_of


def test_captions_of_the_splits_do_not_overlap() -> None:
    train_captions, test_captions = captions("train"), captions("test")
    assert len(train_captions) > 2000 and len(test_captions) > 2000
    assert set(train_captions).isdisjoint(test_captions)


def test_made_prompts_of_the_splits_do_not_overlap() -> None:
    made = {
        split: {make(np.random.default_rng(seed), split) for seed in range(200) for make in (sentence, lyrics)}
        for split in ("train", "test")
    }
    assert len(made["train"]) > 300
    shared = made["train"] & made["test"]
    assert not {text for text in shared if len(text.split()) > 8}


def test_respelled_lyrics_are_sung_alike() -> None:
    rng = np.random.default_rng(0)
    for words in ("down the road, under the moon\nhold me", "", "hm\nbeautiful everything", lyrics(rng, "test")):
        made = {respelled(rng, words) for _ in range(5)}
        assert {tuple(vowels_of(one)) for one in made} == {tuple(vowels_of(words))}
        assert {one.count("\n") for one in made} == {words.count("\n")}
        assert len(made) > 1 or not vowels_of(words)
