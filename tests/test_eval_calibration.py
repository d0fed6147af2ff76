"""What a gap tells: slopes that are known are found, and probabilities are judged as they deserve."""

import numpy as np
import pytest
from scipy.special import expit

from rerank.eval.calibration import (
    Pairs,
    all_pairs,
    calibration_error,
    error_by_chance,
    first_against,
    fit_slope,
    held_out_probabilities,
    slope_interval,
    together,
)


def simulated(slope: float, prompts: int = 200, pairs: int = 20, seed: int = 0) -> Pairs:
    """Return pairs whose log odds have a slope."""
    rng = np.random.default_rng(seed)
    gap = rng.exponential(1.0, prompts * pairs)
    right = (rng.random(len(gap)) < expit(slope * gap)).astype(np.float64)
    return Pairs(gap, right, np.repeat(np.arange(prompts), pairs))


@pytest.mark.parametrize("slope", [2.0, 0.3, 0.0, -1.0])
def test_a_known_slope_is_found_within_its_interval(slope: float) -> None:
    pairs = simulated(slope)
    found, interval = fit_slope(pairs), slope_interval(pairs)
    assert found is not None and found == pytest.approx(slope, abs=0.2) and interval is not None
    assert interval[0] < slope < interval[1] and interval[0] < found < interval[1]


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_slope_goes_with_the_unit_of_the_gap(scale: float) -> None:
    pairs = simulated(2.0)
    other = fit_slope(Pairs(pairs.gap * scale, pairs.right, pairs.prompt))
    expected = fit_slope(pairs)
    assert other is not None and expected is not None and other * scale == pytest.approx(expected, rel=1e-6)


def test_a_pair_that_counts_twice_is_two_pairs() -> None:
    pairs = simulated(1.0, prompts=20)
    counts = np.arange(len(pairs.gap)) % 3
    repeated = Pairs(np.repeat(pairs.gap, counts), np.repeat(pairs.right, counts), np.repeat(pairs.prompt, counts))
    assert fit_slope(pairs, counts) == pytest.approx(fit_slope(repeated))


@pytest.mark.parametrize(("gap", "right"), [(1.0, 1.0), (1.0, 0.0), (0.0, 0.5)])
def test_there_is_no_slope_where_none_is_the_best_one(gap: float, right: float) -> None:
    pairs = Pairs(np.full(40, gap), np.full(40, right), np.arange(40) % 20)
    assert fit_slope(pairs) is None and slope_interval(pairs) is None and held_out_probabilities(pairs, pairs) is None


def test_without_pairs_there_is_nothing_to_tell() -> None:
    empty = Pairs(np.empty(0), np.empty(0), np.empty(0, dtype=np.intp))
    assert fit_slope(empty) is None and slope_interval(empty) is None
    assert calibration_error(np.empty(0), np.empty(0)) is None and error_by_chance(np.empty(0)) is None


def test_probabilities_of_the_true_slope_are_off_by_chance_only() -> None:
    pairs = simulated(2.0)
    probability = held_out_probabilities(pairs, pairs)
    assert probability is not None
    error = calibration_error(probability, pairs.right)
    chance = error_by_chance(probability)
    assert error is not None and chance is not None and error < 0.03 and 0.2 < error / chance < 3
    wrong = calibration_error(expit(4.0 * pairs.gap), pairs.right)
    assert wrong is not None and wrong > 0.05


def test_a_prompt_is_judged_by_the_slope_of_others() -> None:
    """Ten prompts, of which one is the opposite of the others: its own pairs must not have moved its slope."""
    pairs = simulated(2.0, prompts=10, pairs=400)
    first = pairs.prompt == 0
    changed = Pairs(pairs.gap, np.where(first, 1 - pairs.right, pairs.right), pairs.prompt)
    before, after = held_out_probabilities(pairs, pairs), held_out_probabilities(changed, changed)
    assert before is not None and after is not None
    assert np.array_equal(before[first], after[first]) and not np.allclose(before[~first], after[~first])


def test_pairs_of_equal_truth_are_left_out_and_equal_rewards_are_half_right() -> None:
    rewards, truth = np.array([[3.0, 1.0, 1.0]]), np.array([[0.5, 0.5 + 1e-16, 1.0]])
    pairs = all_pairs(rewards, truth)
    assert pairs.gap.tolist() == [2.0, 0.0] and pairs.right.tolist() == [0.0, 0.5]


def test_the_first_is_the_one_with_the_highest_reward_of_each_run() -> None:
    rewards = np.array([[1.0, 5.0, 3.0, 9.0, 2.0, 8.0, 7.0]])
    truth = np.array([[1.0, 0.0, 2.0, 4.0, 0.0, 3.0, 9.0]])
    pairs = first_against(rewards, truth, 3, 1)  # 5, 3, 1 and 9, 8, 2; the 7 is in no full run
    assert pairs.gap.tolist() == [2.0, 1.0] and pairs.right.tolist() == [0.0, 1.0]
    pairs = first_against(rewards, truth, 3, 2)
    assert pairs.gap.tolist() == [2.0, 4.0, 1.0, 7.0] and pairs.right.tolist() == [0.0, 0.0, 1.0, 1.0]
    assert pairs.prompt.tolist() == [0] * 4
    assert together([pairs, pairs]).gap.tolist() == [*pairs.gap, *pairs.gap]
    assert len(first_against(rewards, truth, 8, 1).gap) == 0


def test_what_belongs_to_one_prompt_stays_together() -> None:
    """Prompts that are right or wrong as a whole tell less than as many pairs of their own."""
    rng = np.random.default_rng(0)
    gap, right = np.ones(900), np.repeat((rng.random(30) < 0.7).astype(np.float64), 30)
    alone, clustered = (
        slope_interval(Pairs(gap, right, prompt)) for prompt in (np.arange(900), np.repeat(np.arange(30), 30))
    )
    assert alone is not None and clustered is not None
    assert clustered[1] - clustered[0] > 3 * (alone[1] - alone[0])
