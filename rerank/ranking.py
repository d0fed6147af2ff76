"""The arithmetic of a ranking: rewards -> combined reward -> order.

**Conventions**: rewards are floats, higher is better, None where an axis does not apply to a candidate; weights are
normalised to a sum of 1; rank 1 is best.

**Source**: combining the axes by equal weights is what CMI-RewardBench does (arXiv:2603.00610, section 5).
"""

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence

from rerank.errors import InvalidInput, UnknownName


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights that are wrong whatever the axes are called.

    Raises:
        InvalidInput: a weight is negative or not finite, or all are zero.
    """
    if not isinstance(weights, Mapping):
        raise InvalidInput(f'weights must be a mapping such as {{"musicality": 1, "alignment": 2}}, got {weights!r}')
    for axis, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, numbers.Real) or not math.isfinite(weight) or weight < 0:
            raise InvalidInput(f"weight of {axis!r} must be a finite number, 0 or more, got {weight!r}")
    if not any(weights.values()):
        raise InvalidInput(f"weights {dict(weights)} are all zero; give at least one axis a weight above 0")


def normalise_weights(weights: Mapping[str, float] | None, axes: Iterable[str]) -> dict[str, float]:
    """Return one weight per axis, with the sum 1: equal ones for None, and 0 for an axis that is not named.

    Raises:
        InvalidInput: as `check_weights`.
        UnknownName: a weight is for an axis that the reward model does not have.

    >>> normalise_weights({"alignment": 3, "musicality": 1}, ["musicality", "alignment"])
    {'musicality': 0.25, 'alignment': 0.75}
    """
    names = list(axes)
    if weights is None:
        return {axis: 1 / len(names) for axis in names}
    check_weights(weights)
    for axis in weights:
        if axis not in names:
            raise UnknownName.among("axis", axis, names)
    largest = max(weights.values())  # first divided by it, so that huge weights do not overflow
    scaled = {axis: weights.get(axis, 0) / largest for axis in names}
    total = sum(scaled.values())
    return {axis: weight / total for axis, weight in scaled.items()}


def combine(rewards: Mapping[str, float | None], weights: Mapping[str, float]) -> float | None:
    """Return the combined reward: the weighted mean over the axes that apply and have a weight above 0.

    An axis that is None takes no part: the weights of the others are scaled up to a sum of 1, which is the same for
    every candidate of a prompt as long as the axis applies to all of them or to none. None if no axis is left.

    >>> combine({"musicality": 1.0, "alignment": 0.0}, {"musicality": 0.25, "alignment": 0.75})
    0.25
    >>> combine({"musicality": 1.0, "alignment": None}, {"musicality": 0.25, "alignment": 0.75})
    1.0
    """
    parts = [(weights.get(axis, 0.0), reward) for axis, reward in rewards.items() if reward is not None]
    total = sum(weight for weight, _ in parts)
    if total == 0:
        return None
    return sum(weight / total * reward for weight, reward in parts)


def best_first(combined: Sequence[float]) -> list[int]:
    """Return the indices of the combined rewards, best first; ties keep their order.

    Raises:
        ValueError: a combined reward is NaN.

    >>> best_first([0.1, 0.9, 0.4, 0.9])
    [1, 3, 2, 0]
    """
    if any(math.isnan(reward) for reward in combined):
        raise ValueError("a combined reward is NaN; set the candidate aside instead of ranking it")
    return sorted(range(len(combined)), key=lambda index: -combined[index])
