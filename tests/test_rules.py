"""Weights, combined rewards, order."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.errors import InvalidInput, UnknownName
from rerank.rules import best_first, combine, normalise_weights

AXES = ("musicality", "alignment")
REWARDS = st.floats(-1e6, 1e6)
WEIGHTS = st.fixed_dictionaries({axis: st.floats(0, 1e300) for axis in AXES}).filter(lambda found: any(found.values()))


def test_weights_are_equal_by_default_and_zero_where_not_named() -> None:
    assert normalise_weights(None, AXES) == {"musicality": 0.5, "alignment": 0.5}
    assert normalise_weights({"alignment": 7}, AXES) == {"musicality": 0, "alignment": 1}


@given(weights=WEIGHTS)
def test_weights_sum_to_one(weights: dict[str, float]) -> None:
    assert sum(normalise_weights(weights, AXES).values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"musicality": 0, "alignment": 0.0}, "are all zero"),
        ({}, "are all zero"),
        ({"musicality": math.nan}, "weight of 'musicality' must be a finite number, 0 or more, got nan"),
        ({"musicality": math.inf}, "got inf"),
        ({"musicality": -1}, "got -1"),
        ({"musicality": "1"}, "got '1'"),
        ({"musicality": True}, "got True"),
        ({"musicality": 10**400}, "weight of 'musicality' must be a finite number, 0 or more, got 1000"),
        ([1, 2], "weights must be a mapping"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        normalise_weights(weights, AXES)


def test_an_unknown_axis_is_guessed() -> None:
    with pytest.raises(UnknownName, match="unknown axis 'musicalty'; did you mean 'musicality'"):
        normalise_weights({"musicalty": 1}, AXES)


@given(rewards=st.fixed_dictionaries({axis: REWARDS for axis in AXES}), weights=WEIGHTS)
def test_combined_reward_lies_between_the_rewards(rewards: dict[str, float | None], weights: dict[str, float]) -> None:
    found = combine(rewards, normalise_weights(weights, AXES))
    values = [value for value in rewards.values() if value is not None]
    assert found is not None
    assert min(values) - 1e-6 <= found <= max(values) + 1e-6


def test_an_axis_that_does_not_apply_takes_no_part() -> None:
    weights = {"musicality": 0.25, "alignment": 0.75}
    assert combine({"musicality": 2.0, "alignment": None}, weights) == 2.0
    assert combine({"musicality": None, "alignment": None}, weights) is None
    assert combine({"musicality": 2.0, "alignment": None}, {"musicality": 0.0, "alignment": 1.0}) is None


@given(combined=st.lists(REWARDS))
def test_order_is_a_permutation_best_first_with_ties_by_index(combined: list[float]) -> None:
    order = best_first(combined)
    assert sorted(order) == list(range(len(combined)))
    pairs = [(-combined[index], index) for index in order]
    assert pairs == sorted(pairs)


def test_nan_is_never_ranked() -> None:
    with pytest.raises(ValueError, match="NaN"):
        best_first([1.0, math.nan])
