"""How well rewards agree with a truth, on cases that can be worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.errors import InvalidInput
from rerank.eval.metrics import (
    best_of_n_gain,
    best_of_n_gains,
    mean_interval,
    pair_accuracy,
    preference,
    runs_of,
)

rows = st.lists(st.floats(-5, 5), min_size=4, max_size=4)
tables = st.lists(rows, min_size=1, max_size=5).map(lambda table: np.array(table))


@given(tables)
def test_truth_itself_agrees_fully(truth: np.ndarray) -> None:
    accuracy, pairs = pair_accuracy(truth, truth)
    assert accuracy == (1.0 if pairs else None)
    if np.ptp(truth, axis=1).max() > 1e-6:
        assert best_of_n_gain(truth, truth) == pytest.approx((1.0, 1.0))


@given(tables)
def test_the_opposite_of_truth_never_agrees(truth: np.ndarray) -> None:
    accuracy, pairs = pair_accuracy(-truth, truth)
    assert accuracy == (0.0 if pairs else None)


def test_ties_count_half() -> None:
    assert pair_accuracy(np.zeros((1, 3)), np.array([[0.0, 0.5, 1.0]])) == (0.5, 3)
    assert preference(np.zeros(4), np.zeros(4)) == 0.5


def test_pairs_that_hardly_differ_are_left_out() -> None:
    assert pair_accuracy(np.array([[0.0, 1.0, 2.0]]), np.array([[0.5, 0.6, 1.0]]))[1] == 2


def test_choosing_the_mean_candidate_gains_nothing() -> None:
    assert best_of_n_gain(np.array([[0.0, 9.0, 1.0]]), np.array([[0.0, 0.5, 1.0]])) == (0.0, 0.0)


def test_there_is_nothing_to_choose_among_equals() -> None:
    assert best_of_n_gain(np.array([[1.0, 2.0]]), np.zeros((1, 2))) == (None, None)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 2)), r"got \(2, 3\) and \(2, 2\)"),
        (np.zeros(3), np.zeros(3), "need two arrays"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "need two arrays"),
        (np.array([[np.nan]]), np.zeros((1, 1)), "must be finite"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(first: np.ndarray, second: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        pair_accuracy(first, second)


def test_the_gain_of_each_prompt_is_none_among_equals() -> None:
    truth = np.array([[0.0, 1.0, 0.5], [1.0, 1.0, 1.0]])
    gains = best_of_n_gains(np.array([1, 0]), truth)
    assert gains[0] == 1.0 and np.isnan(gains[1])


@given(tables)
def test_the_gain_is_the_mean_of_those_of_the_prompts(truth: np.ndarray) -> None:
    rewards = np.sin(truth * 7)
    gains = best_of_n_gains(rewards.argmax(axis=1), truth)
    gain, _ = best_of_n_gain(rewards, truth)
    told = gains[np.isfinite(gains)]
    assert gain == (float(told.mean()) if len(told) else None)


def test_candidates_are_cut_into_runs() -> None:
    runs, prompts = runs_of(np.arange(10.0).reshape(2, 5), 2)
    assert runs.tolist() == [[0, 1], [2, 3], [5, 6], [7, 8]] and prompts.tolist() == [0, 0, 1, 1]


def test_an_interval_is_as_wide_as_prompts_are_few() -> None:
    """A thousand coins: the interval is that of the normal law; those of one prompt that are the same count once."""
    values = (np.random.default_rng(0).random(1000) < 0.5).astype(np.float64)
    alone = mean_interval(values, np.arange(1000))
    same = mean_interval(np.repeat(values[:40], 25), np.repeat(np.arange(40), 25))
    for found, width in ((alone, 2 * 1.96 * 0.5 / 1000**0.5), (same, 2 * 1.96 * 0.5 / 40**0.5)):
        assert found["value"] is not None and found["low"] is not None and found["high"] is not None
        assert found["low"] < found["value"] < found["high"]
        assert found["high"] - found["low"] == pytest.approx(width, rel=0.15)


def test_prompts_without_values_do_not_count() -> None:
    assert mean_interval(np.array([1.0, 3.0]), np.array([2, 2])) == {"value": 2.0, "low": 2.0, "high": 2.0}
    assert mean_interval(np.empty(0), np.empty(0, dtype=np.intp)) == {"value": None, "low": None, "high": None}
