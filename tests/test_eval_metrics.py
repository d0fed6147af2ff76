"""How well rewards agree with a truth, on cases that can be worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.errors import InvalidInput
from rerank.eval.metrics import best_of_n_gain, pair_accuracy, preference

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
