"""Asking a reward model: what it may answer, and what its failures cost."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rerank.audio import Audio
from rerank.data import Prompt
from rerank.errors import InvalidInput, RewardFailed
from rerank.protocols import Axis
from rerank.scoring import Scorer, not_finite, score_each
from tests.conftest import ToyReward, notes

AUDIO = [notes(np.random.default_rng(seed), 0.1 * (seed + 1)) for seed in range(9)]
PROMPT = Prompt("piano")


def test_scores_come_in_order_with_the_prompt_prepared_once() -> None:
    reward = ToyReward()
    together = list(score_each(reward, PROMPT, AUDIO))
    assert reward.prepared == 1
    assert reward.scored == len(AUDIO)
    assert together == [next(iter(score_each(reward, PROMPT, [piece]))) for piece in AUDIO]


def test_a_scorer_goes_on_group_by_group_with_the_prompt_prepared_at_the_first() -> None:
    reward = ToyReward()
    scorer = Scorer(reward, PROMPT)
    assert reward.prepared == 0
    groups = [list(scorer(AUDIO[start:end])) for start, end in ((0, 1), (1, 7), (7, 7), (7, 9))]
    assert reward.prepared == 1
    assert [rewards for group in groups for rewards in group] == list(score_each(reward, PROMPT, AUDIO))


class Batched(ToyReward):
    """Keeps the sizes of the batches that it is asked for, and fails where a batch holds one of these pieces."""

    def __init__(self, failing: Sequence[Audio] = (), error: BaseException | None = None) -> None:
        super().__init__()
        self.failing, self.error, self.sizes = failing, error or RuntimeError("cannot hear it"), list[int]()

    def score(self, prepared: float, audio: Sequence[Audio]) -> list[dict[str, float | None]]:
        self.sizes.append(len(audio))
        if any(piece is one for piece in audio for one in self.failing):
            raise self.error
        return super().score(prepared, audio)


def test_a_batch_that_fails_is_scored_in_halves_and_the_next_whole() -> None:
    reward = Batched([AUDIO[1]])
    results = list(score_each(reward, PROMPT, AUDIO))
    assert [isinstance(result, str) for result in results] == [index == 1 for index in range(9)]
    assert results[1] == "reward failed: RuntimeError: cannot hear it"
    assert reward.sizes == [4, 2, 1, 1, 2, 4, 1]


def test_after_a_lack_of_memory_all_later_batches_are_small() -> None:
    class Short(Batched):
        def score(self, prepared: float, audio: Sequence[Audio]) -> list[dict[str, float | None]]:
            found = super().score(prepared, audio)
            if len(audio) > 2:
                raise MemoryError("too many at once")
            return found

    reward = Short()
    scorer = Scorer(reward, PROMPT)
    assert all(isinstance(result, dict) for group in (AUDIO[:4], AUDIO[4:]) for result in scorer(group))
    assert reward.sizes == [4, 2, 2, 2, 2, 1]


def test_batches_are_of_the_size_that_the_reward_model_says() -> None:
    reward = Batched()
    reward.info = replace(reward.info, batch_size=6)
    list(score_each(reward, PROMPT, AUDIO))
    assert reward.sizes == [6, 3]
    reward.info = replace(reward.info, batch_size=0)
    with pytest.raises(InvalidInput, match="batch_size of reward model 'toy' must be a whole number from 1"):
        Scorer(reward, PROMPT)


def test_what_a_failed_batch_held_is_free_before_the_next_try() -> None:
    held: list[weakref.ref[Any]] = []
    alive: list[int] = []

    class Heavy(ToyReward):
        def score(self, prepared: float, audio: Sequence[Audio]) -> list[dict[str, float | None]]:
            alive.append(sum(one() is not None for one in held))
            tensors = np.zeros(1000)
            held.append(weakref.ref(tensors))
            if len(audio) > 1:
                raise RuntimeError(f"{len(tensors)} numbers are too many")
            return super().score(prepared, audio)

    assert all(isinstance(result, dict) for result in score_each(Heavy(), PROMPT, AUDIO[:4]))
    assert alive == [0] * 7


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit()])
def test_a_request_to_stop_passes(error: BaseException) -> None:
    reward = Batched([AUDIO[1]], error)
    with pytest.raises(type(error)):
        list(score_each(reward, PROMPT, AUDIO))
    assert reward.sizes == [4]


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
        ({"groove": 1.0}, "it gave the axes alignment, groove, musicality; it declares alignment, musicality"),
        ({3: 1.0}, "it gave the axes 3, alignment, musicality; it declares"),
        ({"musicality": "high"}, "it gave 'high' on axis 'musicality'; expected a float or None"),
        ({"musicality": True}, "it gave True on axis 'musicality'; expected a float or None"),
        ({"musicality": np.bool_(True)}, "it gave np.True_ on axis 'musicality'"),
        ({"musicality": np.zeros(2)}, "it gave array([0., 0.]) on axis"),
        ({"musicality": 10**400}, "it gave a number on axis 'musicality' that is too large for a float"),
        ({"musicality": 10**5000}, "it gave a number on axis 'musicality' that is too large for a float"),
    ],
)
def test_an_answer_that_breaks_the_protocol_costs_its_candidate(extra: Any, message: str) -> None:
    reward = ToyReward(override=lambda audio: extra if audio is AUDIO[5] else {})
    results = list(score_each(reward, PROMPT, AUDIO))
    assert [isinstance(result, str) for result in results] == [index == 5 for index in range(9)]
    assert str(results[5]).startswith(f"reward failed: {message}")
    assert reward.scored == len(AUDIO), "the others of its batch need not be asked again"


def test_too_few_answers_are_told_from_each_other_alone() -> None:
    class Lazy(Batched):
        def score(self, prepared: float, audio: Sequence[Audio]) -> list[dict[str, float | None]]:
            found = super().score(prepared, audio)
            return found[1:] if any(piece is AUDIO[1] for piece in audio) else found

    results = list(score_each(Lazy(), PROMPT, AUDIO))
    assert [isinstance(result, str) for result in results] == [index == 1 for index in range(9)]
    assert results[1] == "reward failed: it gave 0 results for 1 candidates"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda found: None, "it gave a NoneType; expected a list of dicts"),
        (lambda found: (one for one in found), "it gave a generator; expected a list of dicts"),
        (lambda found: dict(enumerate(found)), "it gave a dict; expected a list of dicts"),
        (lambda found: "text"[: len(found)], "it gave a str; expected a list of dicts"),
        (lambda found: [None] * len(found), "it gave a list of NoneType; expected dicts"),
        (lambda found: [[1.0, 2.0]] * len(found), "it gave a list of list; expected dicts"),
    ],
)
def test_answers_that_are_no_list_of_dicts_are_told(answer: Callable[[Any], Any], told: str) -> None:
    class Odd(ToyReward):
        def score(self, prepared: float, audio: Sequence[Audio]) -> Any:
            return answer(super().score(prepared, audio))

    assert list(score_each(Odd(), PROMPT, AUDIO[:4])) == [f"reward failed: {told}"] * 4


def test_a_prompt_that_cannot_be_prepared() -> None:
    class Deaf(ToyReward):
        def prepare(self, prompt: Prompt) -> float:
            raise KeyError("word")

    with pytest.raises(RewardFailed, match="'toy' cannot read the prompt: KeyError: 'word'"):
        list(score_each(Deaf(), PROMPT, AUDIO))


def test_not_finite_names_the_axis() -> None:
    assert not_finite({"musicality": None, "alignment": 1.0}) is None
    assert not_finite({"musicality": 1.0, "alignment": float("nan")}) == "reward not finite: alignment is nan"


@pytest.mark.parametrize("needs", [{"needs": frozenset({"lyrics"})}, {"needs_any": frozenset({"lyrics", "reference"})}])
def test_a_model_of_which_no_axis_applies_is_not_asked(needs: Any) -> None:
    reward = ToyReward()
    reward.info = replace(reward.info, axes={name: Axis(meaning="", **needs) for name in reward.info.axes})
    assert list(score_each(reward, PROMPT, AUDIO)) == [{"musicality": None, "alignment": None}] * 9
    assert reward.prepared == reward.scored == 0
    (found,) = score_each(reward, Prompt("a", "la la"), AUDIO[:1])
    assert isinstance(found, dict) and None not in found.values()
    one = {**reward.info.axes, "musicality": Axis(meaning="")}
    reward.info = replace(reward.info, axes=one)
    assert all(isinstance(result, dict) for result in score_each(reward, PROMPT, AUDIO))
    assert reward.scored == 10, "one axis that applies is enough"
