"""Audio made elsewhere, ranked and scored: with a prompt, with a part of one, and without."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rerank
from rerank.audio import Audio
from rerank.data import Prompt
from rerank.errors import InvalidInput, RewardFailed, UnreadableAudio
from rerank.filters import Filters
from rerank.protocols import Axis, Condition, Reward
from rerank.ranking import Ranking
from tests.conftest import SAMPLE_RATE, ToyGenerator, ToyReward, notes

ANY: frozenset[Condition] = frozenset({"text", "lyrics", "reference"})


def judge(text: str, audio: Audio, lyrics: str | None, reference: Audio | None) -> dict[str, float]:
    level = float(np.abs(audio.waveform).mean())
    return {"level": level, "fit": level * len(text), "rhyme": level * len(lyrics or "")}


def reward() -> Reward:
    """Return one with axes that need nothing, any part of a prompt, and lyrics."""
    return rerank.wrap_reward(
        judge,
        axes={
            "level": "how loud it is",
            "fit": Axis(meaning="how well it fits", needs_any=ANY),
            "rhyme": Axis(meaning="how it rhymes", needs=frozenset({"lyrics"})),
        },
        sample_rate=SAMPLE_RATE,
        conditions=ANY,
    )


@pytest.fixture
def takes(tmp_path: Path) -> list[str]:
    return [str(notes(np.random.default_rng(seed), 1.0).save(tmp_path / f"take{seed}.wav")) for seed in range(3)]


def axes_of(ranking: Ranking) -> set[str]:
    """Return the axes on which every candidate has a reward; on the others none has."""
    given = [{axis for axis, value in one.rewards.items() if value is not None} for one in ranking]
    assert all(one == given[0] for one in given)
    return given[0]


def test_audio_is_ranked_and_scored_without_a_prompt(takes: list[str]) -> None:
    ranking = rerank.rank(takes, reward=reward())
    assert len(ranking) == 3 and axes_of(ranking) == {"level"}
    assert ranking.prompt.conditions() == []
    assert [one.combined for one in ranking] == [one.rewards["level"] for one in ranking]
    (best,) = rerank.score([str(ranking.best.source)], reward=reward())
    assert best == dict(ranking.best.rewards)
    assert rerank.score(takes[0], reward=reward())["fit"] is None


@pytest.mark.parametrize(
    ("given", "axes"),
    [
        ({"prompt": "slow"}, {"level", "fit"}),
        ({"lyrics": "la la"}, {"level", "fit", "rhyme"}),
        ({"reference": notes(np.random.default_rng(9), 0.5)}, {"level", "fit"}),
    ],
)
def test_one_part_is_a_prompt(takes: list[str], given: dict[str, Any], axes: set[str]) -> None:
    assert axes_of(rerank.rank(takes, reward=reward(), **given)) == axes


@pytest.mark.parametrize("text", ["", "  "])
def test_a_prompt_that_is_given_and_empty_is_refused(takes: list[str], text: str) -> None:
    for ask in (rerank.rank, rerank.score):
        with pytest.raises(InvalidInput, match="the prompt is empty"):
            ask(takes, text, reward=reward())


@pytest.mark.parametrize("prompt", [None, "", Prompt.of(None)])
def test_nothing_is_generated_for_no_prompt(prompt: Any) -> None:
    with pytest.raises(InvalidInput, match="the prompt is empty"):
        rerank.generate(prompt, n=1, generator=ToyGenerator(), reward=reward())


def test_what_needs_a_missing_part_is_refused_before_anything_is_heard(takes: list[str]) -> None:
    def never(text: str, audio: Audio) -> float:
        raise AssertionError("nothing is to be judged")

    axes = {"fit": Axis(meaning="how well it fits", needs=frozenset({"text"}))}
    fitting = rerank.wrap_reward(never, axes=axes, sample_rate=SAMPLE_RATE)
    with pytest.raises(
        InvalidInput, match="no axis that has a weight applies: fit needs text, and the prompt has no part"
    ):
        rerank.rank(takes, reward=fitting)
    with pytest.raises(InvalidInput, match="fit needs text, and the prompt has only lyrics; give what it needs"):
        rerank.rank(takes, lyrics="la", reward=fitting)
    with pytest.raises(InvalidInput, match="applies: fit needs text or lyrics or reference, and the"):
        rerank.rank(takes, reward=reward(), weights={"fit": 1, "rhyme": 2})
    with pytest.raises(InvalidInput, match="a floor on rhyme, which does not apply: it needs lyrics"):
        rerank.rank(takes, "slow", reward=reward(), filters=Filters(floors={"rhyme": 1.0}))
    assert rerank.score(takes[0], reward=fitting) == {"fit": None}  # nothing to be ranked by, and nothing is hidden


def test_what_is_built_in_is_refused_before_it_is_loaded(takes: list[str]) -> None:
    with pytest.raises(InvalidInput, match="no axis that has a weight applies: alignment needs text"):
        rerank.rank(takes, reward="mulan")  # of which there are no weights here


def test_a_run_without_a_prompt_is_stored_read_again_and_judged_again(takes: list[str], tmp_path: Path) -> None:
    made = rerank.rank(takes, reward=reward(), output=tmp_path / "run")
    stored = rerank.load(tmp_path / "run")
    assert stored.prompt.conditions() == [] and stored.prompt.text == ""
    assert [one.rewards for one in stored] == [one.rewards for one in made]
    again = rerank.rank(tmp_path / "run", weights={"level": 1}, output=tmp_path / "run")
    assert [one.index for one in again] == [one.index for one in made]
    with pytest.raises(
        InvalidInput, match="no candidate of the run has a reward on fit or rhyme; weigh another axis: lev"
    ):
        rerank.rank(tmp_path / "run", weights={"fit": 1, "rhyme": 1}, output=tmp_path / "run")
    assert len(rerank.load(tmp_path / "run")) == 3


def tiny(samples: int) -> Audio:
    return Audio(np.full((1, samples), 0.1, np.float32), SAMPLE_RATE)


def test_a_take_in_which_there_is_nothing_to_hear_is_set_aside_whatever_the_filters(
    takes: list[str], tmp_path: Path
) -> None:
    short = str(tiny(50).save(tmp_path / "short.wav"))
    ranking = rerank.rank([*takes, short, tiny(1600)], reward=reward(), filters=Filters.off(), output=tmp_path / "run")
    assert [(one.index, one.set_aside_kind) for one in ranking.set_aside] == [(3, "too_short")]
    assert ranking.set_aside[0].set_aside == "too short: 0.003125 s, at least 0.1 s are needed to be judged"
    almost = rerank.rank([*takes, tiny(1599)], reward=reward()).set_aside[0].set_aside
    assert almost == "too short: 0.09994 s, at least 0.1 s are needed to be judged", (
        "a length that is less than it must be"
    )
    assert len(ranking) == 4 and not ranking.set_aside[0].rewards
    again = rerank.rank(tmp_path / "run", filters=Filters(), reward=reward())
    assert [one.index for one in again.set_aside if one.set_aside_kind == "too_short"] == [3]


def test_a_take_that_a_generator_broke_off_is_set_aside_whatever_the_filters(tmp_path: Path) -> None:
    def broken_off(seed: int, audio: Audio) -> Audio:
        return Audio(audio.waveform[:, :50], audio.sample_rate) if seed == 1 else audio

    ranking = rerank.generate(
        "slow",
        n=3,
        generator=ToyGenerator(change=broken_off),
        reward=reward(),
        filters=Filters.off(),
        output=tmp_path / "run",
    )
    assert [(one.seed, one.set_aside_kind) for one in ranking.set_aside] == [(1, "too_short")]
    assert "filter" not in " ".join(ranking.set_aside[0].reasons), "none was on"
    assert rerank.load(tmp_path / "run").set_aside[0].audio is not None


def test_a_short_piece_has_no_rewards_and_costs_only_itself(
    takes: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = str(tiny(50).save(tmp_path / "short.wav"))
    found = rerank.score([takes[0], short], "slow", reward=reward())
    assert found[0]["level"] is not None and found[1]["level"] is None
    assert f"not scored: {short} is too short: 0.003125 s, at least 0.1 s are needed" in caplog.text
    with pytest.raises(UnreadableAudio, match="the audio is too short: 0.003125 s"):
        rerank.score(tiny(50), "slow", reward="mulan")  # which is not loaded for that


@pytest.mark.parametrize("samples", [3, 1599])
def test_a_reference_in_which_there_is_nothing_to_hear_is_refused(samples: int, tmp_path: Path) -> None:
    path = tiny(samples).save(tmp_path / "short.wav")
    with pytest.raises(InvalidInput, match=rf"^reference: {path} is too short: 0\.\d+ s, at least 0\.1 s are needed"):
        Prompt("slow", reference=path)
    assert Prompt("slow", reference=tiny(1600)).reference is not None


def test_a_reward_model_that_fails_on_a_piece_costs_its_own_axes_in_score_too(caplog: pytest.LogCaptureFixture) -> None:
    class Deaf(ToyReward):
        def score(self, prepared: float, audio: Sequence[Audio]) -> list[dict[str, float | None]]:
            raise RuntimeError("deaf")

    deaf = Deaf()
    deaf.info = replace(deaf.info, name="deaf")
    piece = notes(np.random.default_rng(0), 0.5)
    found = rerank.score(piece, "piano", reward=[ToyReward(), deaf])
    assert found["toy.musicality"] is not None
    assert found["deaf.musicality"] is None and found["deaf.alignment"] is None
    assert "reward model 'deaf' on " in caplog.text and "RuntimeError: deaf" in caplog.text
    with pytest.raises(RewardFailed, match="deaf"):
        rerank.score(piece, "piano", reward=deaf)
