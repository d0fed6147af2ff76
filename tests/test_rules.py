"""Weights, combined rewards, order."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.errors import InvalidInput, UnknownName
from rerank.rules import best_first, by_rule, combine, full_axis, normalise_weights

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


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8), scale=st.booleans())
def test_standardised_rewards_are_finite_whatever_their_scale(values: list[float], scale: bool) -> None:
    if scale:
        values = [value * 1e-200 for value in values]
    found = [one["a"] for one in by_rule([{"a": value} for value in values], "zscore")]
    results = [value for value in found if value is not None]
    assert len(results) == len(values) and all(map(math.isfinite, results))
    if max(values) == min(values):
        assert set(results) == {0.0}
    else:
        assert sum(results) / len(results) == pytest.approx(0, abs=1e-9)
        assert sum(value**2 for value in results) / len(results) == pytest.approx(1)
    pairs = sorted(zip(values, results, strict=True))
    assert [result for _, result in pairs] == sorted(results), "the order stays"


@pytest.mark.parametrize("unit", [1e-320, 1e-200, 1.0, 1e200, 5e307])
def test_standardised_rewards_do_not_depend_on_their_unit(unit: float) -> None:
    found = [one["a"] for one in by_rule([{"a": value * unit} for value in (-3.0, 1.0, 2.0)], "zscore")]
    assert found == pytest.approx([-math.sqrt(2) * 0.98198, 0.46291, 0.92582], abs=1e-3)


@given(rewards=st.fixed_dictionaries({axis: st.floats(-1.7e308, 1.7e308) for axis in AXES}), weights=WEIGHTS)
def test_the_combined_reward_of_huge_rewards_is_finite(rewards: dict[str, float], weights: dict[str, float]) -> None:
    found = combine(rewards, normalise_weights(weights, AXES))
    assert found is not None and min(rewards.values()) <= found <= max(rewards.values())


def test_an_axis_that_is_named_twice_is_refused() -> None:
    for axes, models in ((["toy.musicality", "other.sound"], ["toy", "other"]), (["musicality"], ["toy"])):
        for known in (models, models[:0] if len(models) > 1 else models):
            with pytest.raises(InvalidInput, match="'musicality' and 'toy.musicality' are the same axis; give it once"):
                normalise_weights({"musicality": 1, "toy.musicality": 3}, axes, known)


def test_an_axis_of_the_only_reward_model_may_be_named_with_it() -> None:
    axes, models = ["musicality", "alignment"], ["cmi-mini"]
    assert normalise_weights({"cmi-mini.musicality": 1}, axes, models) == {"musicality": 1, "alignment": 0}
    for axes_of, axis in ((models, "cmi-rm.musicality"), ([], "cmi-mini.musicality")):
        with pytest.raises(UnknownName, match=f"unknown axis '{axis}'"):
            full_axis(axis, axes, axes_of)


def test_axes_may_have_dots_in_their_own_names() -> None:
    assert full_axis("sub.bright", ["a.sub.bright", "b.bright"], ["a", "b"]) == "a.sub.bright"
    assert full_axis("bright", ["a.sub.bright", "b.bright"], ["a", "b"]) == "b.bright"
    assert full_axis("sub.bright", ["a.sub.bright", "b.dark"]) == "a.sub.bright"
    assert full_axis("a.sub.bright", ["sub.bright"], ["a"]) == "sub.bright"
    with pytest.raises(UnknownName, match="unknown axis 'bright'; did you mean 'sub.bright'"):
        full_axis("bright", ["sub.bright"], ["a"])
