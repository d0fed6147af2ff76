"""What is said of a prompt that is not understood, or is in a language that nobody reads."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rerank
from rerank.data import Prompt
from rerank.errors import GenerationFailed
from rerank.protocols import Condition, Reading, ReadsPrompts
from rerank.ranking import Ranking
from tests.conftest import ToyGenerator, ToyReward, notes

GERMAN = "fröhliche Musik mit Gitarre und Schlagzeug"
RUSSIAN = "дождь идёт по крышам"


class Reader(ToyGenerator):
    """Reads English and tells what it understands: the words before a colon."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.info = replace(self.info, languages=("en",))

    def reading(self, prompt: Prompt) -> Reading:
        understood, _, ignored = prompt.text.partition(":")
        lost: list[Condition] = [] if understood else ["text"]
        return Reading(understood=tuple(understood.split()), ignored=tuple(ignored.split()), not_followed=tuple(lost))


def reward(name: str = "toy", *languages: str) -> ToyReward:
    toy = ToyReward()
    toy.info = replace(toy.info, name=name, languages=languages)
    return toy


def english(generator: ToyGenerator) -> ToyGenerator:
    generator.info = replace(generator.info, languages=("en",))
    return generator


def make(prompt: str, generator: ToyGenerator | None = None, **options: Any) -> Ranking:
    options = {"n": 2, "duration": 1.0, "reward": reward("toy", "en"), **options}
    return rerank.generate(prompt, generator=generator or Reader(), **options)


def said(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno == level]


def test_what_is_understood_in_part_is_noted_and_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "rerank"):
        ranking = make("slow sad piano: vinyl crackle")
    told = "toy understood: slow, sad, piano; it ignored: vinyl, crackle"
    assert ranking.settings.notes == (told,) and ranking.settings.not_followed == ()
    assert told in said(caplog, logging.INFO) and said(caplog, logging.WARNING) == []


def test_a_long_list_of_words_is_cut() -> None:
    (told,) = make("piano: " + " ".join(f"word{i}" for i in range(20))).settings.notes
    assert told == f"toy understood: piano; it ignored: {', '.join(f'word{i}' for i in range(8))} and 12 more"


def test_what_is_not_understood_is_a_warning_and_not_followed(caplog: pytest.LogCaptureFixture) -> None:
    ranking = make(": seagulls", lyrics="la la")
    assert ranking.settings.not_followed == ("text", "lyrics")  # lyrics: the toy follows none
    assert ranking.settings.notes == ("toy understood nothing of the text",)
    assert said(caplog, logging.WARNING) == [
        "generator toy does not follow lyrics: only the reward model gets it",
        "toy understood nothing of the text",
    ]


def test_other_languages_are_named_with_those_who_do_not_read_them(caplog: pytest.LogCaptureFixture) -> None:
    several = [reward("one", "en"), reward("two", "en", "zh"), reward("three", "de"), reward("four")]
    ranking = make(GERMAN, english(ToyGenerator()), reward=several)
    expected = (
        "the text seems to be German; toy and one read English only",
        "the text seems to be German; two reads English and Chinese only",
    )
    assert ranking.settings.notes == expected and said(caplog, logging.WARNING) == list(expected)
    assert ranking.settings.not_followed == ()


@pytest.mark.parametrize(("text", "lyrics"), [(GERMAN, None), ("slow", RUSSIAN)])
def test_who_cannot_read_a_prompt_gives_no_verdict_on_it(text: str, lyrics: str | None, tmp_path: Path) -> None:
    judge = reward("toy", "en")
    judge.info = replace(judge.info, calibration=1.0)
    assert make("slow", ToyGenerator(), reward=judge).verdict is not None
    asked: dict[str, Any] = {"generator": ToyGenerator(), "lyrics": lyrics, "reward": judge, "output": tmp_path}
    blind = make(text, **asked)
    assert blind.verdict is None and "probability" not in blind.best.reasons[0]
    assert make(text, n=3, resume=True, **asked).verdict is None
    assert rerank.rank(tmp_path, weights={"musicality": 1.0}).verdict is None
    judge.info = replace(judge.info, languages=("en", "de", "ru"))
    assert make(text, ToyGenerator(), lyrics=lyrics, reward=judge).verdict is not None


@pytest.mark.parametrize(
    ("languages", "generator", "lost"),
    [
        (("en",), ("en",), ("lyrics",)),  # nobody reads them
        (("en", "ru"), ("en",), ()),  # the reward model does
        (("en",), (), ()),  # the generator may
        ((), ("en",), ()),  # the reward model may
    ],
)
def test_lyrics_that_nobody_reads_are_not_followed(
    languages: tuple[str, ...], generator: tuple[str, ...], lost: tuple[str, ...]
) -> None:
    singer = ToyGenerator(conditions=("text", "lyrics"))
    singer.info = replace(singer.info, languages=generator)
    ranking = make("slow", singer, lyrics=RUSSIAN, reward=reward("toy", *languages))
    assert ranking.settings.not_followed == lost


def test_audio_made_elsewhere_is_told_of_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = notes(np.random.default_rng(0), 1.0).save(tmp_path / "take.wav")
    told = "the text seems to be German; toy reads English only"
    assert rerank.rank([path], GERMAN, reward=reward("toy", "en")).settings.notes == (told,)
    rerank.score(path, GERMAN, reward=reward("toy", "en"))
    assert said(caplog, logging.WARNING) == [told, told]  # once for each


def test_a_run_that_is_gone_on_with_has_the_notes_that_it_had(tmp_path: Path) -> None:
    whole = make(f"{GERMAN}: x", n=3, lyrics=RUSSIAN, output=tmp_path / "whole")
    make(f"{GERMAN}: x", n=1, lyrics=RUSSIAN, output=tmp_path / "run")
    longer = make(f"{GERMAN}: x", n=3, lyrics=RUSSIAN, output=tmp_path / "run", resume=True)
    assert len(whole.settings.notes) == 3
    assert longer.settings == whole.settings
    assert rerank.load(tmp_path / "run").settings.notes == whole.settings.notes


def test_ranked_again_only_what_is_new_is_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = make(GERMAN, output=tmp_path / "run")
    caplog.clear()
    again = rerank.rank(tmp_path / "run", reward=[reward("toy", "en"), reward("other", "en")])
    told = "the text seems to be German; other reads English only"
    assert again.settings.notes == (*made.settings.notes, told)
    assert again.settings.not_followed == made.settings.not_followed
    assert said(caplog, logging.WARNING) == [told]


def test_a_generator_that_fails_to_read_says_so_in_one_line() -> None:
    class Broken(Reader):
        def reading(self, prompt: Prompt) -> Reading:
            raise KeyError("no\nwords")

    assert isinstance(Broken(), ReadsPrompts)
    with pytest.raises(GenerationFailed, match="^generator 'toy' cannot read the prompt: KeyError: 'no.*words'$"):
        make("slow", Broken())


def test_synth_tells_what_it_makes_of_a_prompt(caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"n": 1, "duration": 1.0, "generator": "synth"}
    ranking = rerank.generate("Slow, sad piano with seagulls, no drums", **options)
    assert ranking.settings.notes == ("synth understood: Slow, sad, piano, no drums; it ignored: seagulls",)
    assert ranking.settings.not_followed == () and said(caplog, logging.WARNING) == []
    ranking = rerank.generate("ゆっくりした悲しいピアノ", lyrics=RUSSIAN, **options)
    assert ranking.settings.not_followed == ("text", "lyrics")
    assert said(caplog, logging.WARNING) == [
        "synth understood nothing of the text",
        "synth understood nothing of the lyrics",
        "the text seems to be Japanese; synth and cmi-mini read English only",
        "the lyrics seem to be Russian; synth and cmi-mini read English only",
    ]
