"""The small towers: tokens per second, words and numbers, independence of batch and padding, size."""

from typing import Any

import pytest
import torch

from rerank.models.mel import SHORTEST
from rerank.models.mini import (
    NUMBER,
    UNKNOWN,
    MiniAudioTower,
    MiniConfig,
    MiniTextTower,
    build_mini,
    mini_config,
    mini_vocabulary,
)
from rerank.models.vocabulary import Vocabulary, split_words

TEXTS = [
    "A slow piano ballad in C# minor, 72 BPM",
    "fast electronic dance music with a piano melody at 128 BPM",
    "slow guitar and soft piano; sad, mellow mood",
]


@pytest.fixture(scope="module")
def text_tower() -> MiniTextTower:
    torch.manual_seed(0)
    return MiniTextTower(Vocabulary.learn(TEXTS, min_count=1)).eval()


@pytest.fixture(scope="module")
def audio_tower() -> MiniAudioTower:
    torch.manual_seed(0)
    return MiniAudioTower().eval()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n\t -- ... !?", []),
        ("Lo-Fi  hip/hop", ["lo", "fi", "hip", "hop"]),
        ("120bpm, 4/4, 92.5", ["120", "bpm", "4", "4", "92.5"]),
        ("Ｃafé “naïve” don’t F♯ B♭", ["cafe", "naive", "don't", "f#", "bb"]),
        ("a 80's beat #1", ["a", "80", "s", "beat", "1"]),
        ("静かな песня", ["静かな", "песня"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_vocabulary_is_sorted_by_frequency_and_survives_json() -> None:
    vocabulary = Vocabulary.learn(TEXTS, min_count=2, max_ngrams=50)
    assert vocabulary.words[0] == "piano"
    assert set(vocabulary.words) == {"piano", "a", "slow", "bpm"}
    assert len(vocabulary.ngrams) == 50
    assert not any(character.isdigit() for entry in vocabulary.ngrams + vocabulary.words for character in entry)
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary
    assert Vocabulary.learn(reversed(TEXTS), min_count=2, max_ngrams=50) == vocabulary


def test_ids(text_tower: MiniTextTower) -> None:
    piano, pianos, number, foreign = text_tower.tokenize("piano pianos 120 песня")
    assert piano.word > NUMBER and piano.value == 0
    assert pianos.word == UNKNOWN and set(piano.ngrams) & set(pianos.ngrams)
    assert number == (NUMBER, (), 120.0)
    assert foreign == (UNKNOWN, (), 0.0)
    assert text_tower.tokenize("PIANO, piano!") == (piano, piano)


def test_text_tokens_have_one_vector_per_word(text_tower: MiniTextTower) -> None:
    tokens = text_tower([*TEXTS, ""])
    assert tokens.mask.sum(1).tolist() == [9, 11, 8, 0]
    assert tokens.values.shape == (4, 11, 192)
    assert not tokens.values[~tokens.mask].any()


@pytest.mark.parametrize("texts", [[""], ["", "?!"]])
def test_empty_texts_have_no_tokens(text_tower: MiniTextTower, texts: list[str]) -> None:
    tokens = text_tower(texts)
    assert tokens.values.shape == (len(texts), 0, 192) and tokens.mask.shape == (len(texts), 0)


def test_text_does_not_depend_on_batch_or_padding(text_tower: MiniTextTower) -> None:
    together = text_tower([*TEXTS, "piano", ""])
    for item, text in enumerate([*TEXTS, "piano"]):
        alone = text_tower([text])
        assert bool(alone.mask.all())
        torch.testing.assert_close(together.values[item, together.mask[item]], alone.values[0], atol=1e-5, rtol=1e-5)


def test_long_text_is_not_cut_off(text_tower: MiniTextTower) -> None:
    assert text_tower(["piano " * 3000]).mask.sum() == 3000


def test_near_numbers_and_words_are_near(text_tower: MiniTextTower) -> None:
    words = text_tower.tokenize("120 121 60 piano pianos guitar")
    vectors = torch.nn.functional.normalize(text_tower._vectors(list(words)), dim=-1)
    near = (vectors @ vectors.T).tolist()
    assert near[0][1] > 0.98 > near[0][2]
    assert near[3][4] > near[3][5]
    assert bool(text_tower(["0 00 1e400 " + "9" * 400]).values.isfinite().all())


def test_word_dropout_is_for_training_only(text_tower: MiniTextTower) -> None:
    words = list(text_tower.tokenize(TEXTS[1]))
    assert torch.equal(text_tower._vectors(words), text_tower._vectors(words))
    all_unknown = MiniTextTower(text_tower.vocabulary, word_dropout=1.0)
    all_unknown.load_state_dict(text_tower.state_dict())
    replaced = [word._replace(word=NUMBER if word.word == NUMBER else UNKNOWN) for word in words]
    torch.testing.assert_close(all_unknown.train()._vectors(words), text_tower._vectors(replaced))


@pytest.mark.parametrize(("seconds", "tokens"), [(10.0, 63), (1.0, 7), (3.3, 21)])
def test_audio_tokens_per_second(audio_tower: MiniAudioTower, seconds: float, tokens: int) -> None:
    with torch.inference_mode():
        assert audio_tower(torch.zeros(2, round(24000 * seconds))).shape == (2, tokens, 192)


def test_shortest_audio(audio_tower: MiniAudioTower) -> None:
    made = audio_tower(torch.randn(1, SHORTEST))
    assert made.shape == (1, 1, 192) and bool(made.isfinite().all())


def test_audio_does_not_depend_on_batch(audio_tower: MiniAudioTower) -> None:
    waveforms = torch.randn(3, 30000) * torch.tensor([0.001, 0.1, 1.0])[:, None]
    with torch.inference_mode():
        alone = torch.cat([audio_tower(waveform[None]) for waveform in waveforms])
        torch.testing.assert_close(audio_tower(waveforms), alone, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(audio_tower.encode(audio_tower.mel(waveforms)), alone, atol=1e-4, rtol=1e-4)


def test_neighbouring_semitones_sound_different(audio_tower: MiniAudioTower) -> None:
    time = torch.arange(24000) / 24000
    tones = torch.stack([0.3 * torch.sin(2 * torch.pi * hertz * time) for hertz in (440.0, 440.0, 466.16)])
    with torch.inference_mode():
        one, same, other = audio_tower(tones).mean(1)
    assert float((one - other).norm()) > 0.03 * float(one.norm())
    torch.testing.assert_close(one, same)


def test_size_and_config() -> None:
    vocabulary = Vocabulary([f"w{i}" for i in range(3500)], [f"g{i}" for i in range(5000)])
    model = build_mini(vocabulary)
    assert sum(weight.numel() for weight in model.parameters()) <= 7_500_000
    assert mini_config(model) == MiniConfig() and mini_vocabulary(model) == vocabulary
    other = MiniConfig(dim=64, heads=2, dim_head=16, audio_depth=1, text_depth=0, joint_tf_depth=1, dropout=0.1)
    assert mini_config(build_mini(vocabulary, other)) == other


def test_all_weights_learn() -> None:
    model = build_mini(Vocabulary.learn(TEXTS, min_count=1), MiniConfig(dim=64, heads=2, audio_depth=1))
    candidate, reference = (model.encode_audio(0.1 * torch.randn(3, 12000)) for _ in range(2))
    prompt = model.encode_prompt(model.encode_text(TEXTS), model.encode_text([*TEXTS[:2], ""]), reference)
    loss: Any = model.score_tokens(prompt, candidate).square().sum()
    loss.backward()
    assert [key for key, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []
