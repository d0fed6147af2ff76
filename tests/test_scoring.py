"""Asking a reward model: what it may answer, and what its failures cost."""

from typing import Any

import numpy as np
import pytest

from rerank.audio import Audio
from rerank.data import Prompt
from rerank.errors import RewardFailed
from rerank.scoring import not_finite, score_each
from tests.conftest import ToyReward, notes

AUDIO = [notes(np.random.default_rng(seed), 0.1 * (seed + 1)) for seed in range(9)]
PROMPT = Prompt("piano")


def test_scores_come_in_order_with_the_prompt_prepared_once() -> None:
    reward = ToyReward()
    together = list(score_each(reward, PROMPT, AUDIO))
    assert reward.prepared == 1
    assert reward.scored == len(AUDIO)
    assert together == [next(iter(score_each(reward, PROMPT, [piece]))) for piece in AUDIO]


def test_a_failure_costs_one_candidate() -> None:
    def fail(audio: Audio) -> dict[str, float | None]:
        if audio is AUDIO[5]:
            raise MemoryError("too\nlong")
        return {}

    results = list(score_each(ToyReward(override=fail), PROMPT, AUDIO))
    assert results[5] == "reward failed: MemoryError: too long"
    assert [isinstance(result, str) for result in results] == [index == 5 for index in range(9)]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"groove": 1.0}, r"gave the axes \['alignment', 'groove', 'musicality'\]; it declares"),
        ({"musicality": "high"}, "gave 'high' on axis 'musicality'; expected a float or None"),
    ],
)
def test_answers_that_break_the_protocol_are_refused(extra: Any, message: str) -> None:
    with pytest.raises(RewardFailed, match=message):
        list(score_each(ToyReward(override=lambda _: extra), PROMPT, AUDIO))


def test_too_few_answers_are_refused() -> None:
    class Lazy(ToyReward):
        def score(self, prepared: float, audio: Any) -> list[dict[str, float | None]]:
            return super().score(prepared, audio)[1:]

    with pytest.raises(RewardFailed, match="gave 3 results for 4 candidates"):
        list(score_each(Lazy(), PROMPT, AUDIO))


def test_a_prompt_that_cannot_be_prepared() -> None:
    class Deaf(ToyReward):
        def prepare(self, prompt: Prompt) -> float:
            raise KeyError("word")

    with pytest.raises(RewardFailed, match="'toy' cannot read the prompt: KeyError: 'word'"):
        list(score_each(Deaf(), PROMPT, AUDIO))


def test_not_finite_names_the_axis() -> None:
    assert not_finite({"musicality": None, "alignment": 1.0}) is None
    assert not_finite({"musicality": 1.0, "alignment": float("nan")}) == "reward not finite: alignment is nan"
