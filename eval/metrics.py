"""How well rewards agree with a truth.

**Conventions**: rewards and truths are arrays `[prompts, candidates]` or one value per pair; accuracies are shares in
[0, 1], where a tie counts half; None where there is nothing to judge.
"""

import numpy as np
from numpy.typing import NDArray

from rerank.errors import InvalidInput

Floats = NDArray[np.float64]

GAP = 0.2
"""Smallest difference of truth that a pair is judged on."""


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
    chosen = np.take_along_axis(truth, rewards.argmax(axis=1)[:, None], axis=1)[:, 0] - truth.mean(axis=1)
    best = truth.max(axis=1) - truth.mean(axis=1)
    told = best > 1e-9
    if not told.any():
        return None, None
    return float((chosen[told] / best[told]).mean()), float(chosen[told].sum() / best[told].sum())


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
