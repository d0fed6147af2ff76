"""How well rewards agree with a truth.

**Conventions**: rewards and truths are arrays `[prompts, candidates]` or one value per pair; accuracies are shares in
[0, 1], where a tie counts half; None where there is nothing to judge. An interval holds 95 % and comes from a bootstrap
over prompts: what belongs to one prompt stays together.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rerank.errors import InvalidInput

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

GAP = 0.2
"""Smallest difference of truth that a pair is judged on."""

RESAMPLES = 2000
"""Of the prompts, for an interval of a mean."""


def pair_accuracy(rewards: Floats, truth: Floats, gap: float = GAP) -> tuple[float | None, int]:
    """Return the pair accuracy within each row, and the number of pairs that it is over.

    Shape:
        rewards, truth: `[prompts, candidates]`

    >>> pair_accuracy(np.array([[0.1, 0.9, 0.5]]), np.array([[0.0, 1.0, 0.9]]))
    (1.0, 2)
    """
    validate(rewards, truth)
    right, count = 0.0, 0
    for row_rewards, row_truth in zip(rewards, truth, strict=True):
        first, second = np.triu_indices(len(row_truth), k=1)
        told = np.abs(row_truth[first] - row_truth[second]) >= gap
        margin = (row_rewards[first] - row_rewards[second]) * np.sign(row_truth[first] - row_truth[second])
        right += float(np.sum((margin[told] > 0) + 0.5 * (margin[told] == 0)))
        count += int(told.sum())
    return (right / count if count else None), count


def best_of_n_gain(rewards: Floats, truth: Floats) -> tuple[float | None, float | None]:
    """Return how much of the way from a random choice to the best one the highest reward goes.

    Prompts whose candidates are all equally good are left out.

    Returns:
        The mean over prompts, and the ratio of the sums over prompts.

    Shape:
        rewards, truth: `[prompts, candidates]`

    >>> best_of_n_gain(np.array([[0.1, 0.9, 0.5]]), np.array([[0.0, 1.0, 0.5]]))
    (1.0, 1.0)
    """
    validate(rewards, truth)
    chosen, best = _gained(rewards.argmax(axis=1), truth)
    told = best > 1e-9
    if not told.any():
        return None, None
    return float((chosen[told] / best[told]).mean()), float(chosen[told].sum() / best[told].sum())


def best_of_n_gains(chosen: Places, truth: Floats) -> Floats:
    """Return how much of the way from a random choice to the best one each choice goes; NaN among equals.

    Shape:
        chosen: `[prompts]`, index of a candidate each
        truth: `[prompts, candidates]` -> `[prompts]`

    >>> best_of_n_gains(np.array([2]), np.array([[0.0, 1.0, 0.5]]))
    array([0.])
    """
    gained, best = _gained(chosen, truth)
    gains: Floats = np.divide(gained, best, out=np.full(len(best), np.nan), where=best > 1e-9)
    return gains


def _gained(chosen: Places, truth: Floats) -> tuple[Floats, Floats]:
    """Return how far the chosen candidates, and the best ones, are above the mean."""
    mean = truth.mean(axis=1)
    return np.take_along_axis(truth, chosen[:, None], axis=1)[:, 0] - mean, truth.max(axis=1) - mean


def runs_of(values: Floats, n: int) -> tuple[Floats, Places]:
    """Cut the candidates of each prompt into runs of `n`, the first ones, the next ones, and so on.

    Returns:
        The runs, and the prompt of each. What is left after the last full run is dropped.

    Shape:
        values: `[prompts, candidates]` -> `[runs, n]`, `[runs]`
    """
    each = values.shape[1] // n
    return values[:, : each * n].reshape(-1, n), np.repeat(np.arange(len(values)), each)


def mean_interval(values: Floats, prompt: Places) -> dict[str, float | None]:
    """Return the mean of values with its interval.

    Shape:
        values, prompt: `[values]`, of each value the index of its prompt

    >>> mean_interval(np.array([1.0, 1.0]), np.array([0, 1]))
    {'value': 1.0, 'low': 1.0, 'high': 1.0}
    """
    if not len(values):
        return {"value": None, "low": None, "high": None}
    sums, counts = np.bincount(prompt, values), np.bincount(prompt)
    sums, counts = sums[counts > 0], counts[counts > 0]
    drawn = resampled(len(counts), RESAMPLES)
    low, high = np.quantile(drawn @ sums / (drawn @ counts), [0.025, 0.975])
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}


@lru_cache(maxsize=8)
def resampled(prompts: int, times: int) -> NDArray[np.int64]:
    """Return how often each prompt is in each resample; the same ones at every call.

    Shape:
        `[times, prompts]`
    """
    drawn = np.random.default_rng(0).multinomial(prompts, np.full(prompts, 1 / prompts), size=times)
    drawn.flags.writeable = False
    return drawn


def preference(right: Floats, wrong: Floats) -> float:
    """Return how often `right` is above `wrong`; a tie counts half.

    >>> preference(np.array([1.0, 2.0]), np.array([0.0, 2.0]))
    0.75
    """
    validate(right[None], wrong[None])
    return float(np.mean((right > wrong) + 0.5 * (right == wrong)))


def validate(first: Floats, second: Floats) -> None:
    """Refuse arrays that do not belong together or hold what is not a number.

    Raises:
        InvalidInput: shapes differ, are not two-dimensional, are empty, or a value is not finite.
    """
    if first.shape != second.shape or first.ndim != 2 or not first.size:
        raise InvalidInput(f"need two arrays [prompts, candidates] of one shape, got {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InvalidInput("rewards and truths must be finite numbers")
