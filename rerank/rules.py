"""How rewards become one order: weights, rules, the combined reward.

**Conventions**: rewards are floats, higher is better, None where an axis does not apply to a candidate; weights are
normalised to a sum of 1; rank 1 is best. An axis is called by its name where there is one reward model, and
`model.axis` where there are several.

**Rules**
- `mean`: the weighted mean of the rewards as they are; what one reward model gives is made for it
- `zscore`: each axis is first standardised over the candidates that are ranked (less its mean, by its standard
  deviation); for reward models whose scales differ
- `rank`: minus the weighted mean of the ranks on each axis, ties sharing theirs; nothing but the order counts

**Source**: combining the axes by equal weights is what CMI-RewardBench does (arXiv:2603.00610, section 5).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rerank.data import is_number
from rerank.errors import InvalidInput, UnknownName

Rule = Literal["mean", "zscore", "rank"]

RULES: tuple[Rule, ...] = get_args(Rule)


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights that are wrong whatever the axes are called.

    Raises:
        InvalidInput: a weight is negative or not finite, or all are zero.
    """
    if not isinstance(weights, Mapping):
        raise InvalidInput(f'weights must be a mapping such as {{"musicality": 1, "alignment": 2}}, got {weights!r}')
    for axis, weight in weights.items():
        if not is_number(weight) or weight < 0:
            raise InvalidInput(f"weight of {axis!r} must be a finite number, 0 or more, got {weight!r:.40}")
    if not any(weights.values()):
        raise InvalidInput(f"weights {dict(weights)} are all zero; give at least one axis a weight above 0")


def normalise_weights(
    weights: Mapping[str, float] | None, axes: Iterable[str], models: Sequence[str] = ()
) -> dict[str, float]:
    """Return one weight per axis, with the sum 1: equal ones for None, and 0 for an axis that is not named.

    Args:
        weights: axis -> weight.
        axes: all that there are.
        models: names of the reward models that they are of, as `full_axis` takes them.

    Raises:
        InvalidInput: as `check_weights`, or an axis is named twice.
        UnknownName: a weight is for an axis that the reward model does not have.

    >>> normalise_weights({"alignment": 3, "musicality": 1}, ["musicality", "alignment"])
    {'musicality': 0.25, 'alignment': 0.75}
    """
    names = list(axes)
    if weights is None:
        return {axis: 1 / len(names) for axis in names}
    check_weights(weights)
    named = by_full_axis(weights, names, models)
    plain = {axis: float(named.get(axis, 0)) for axis in names}  # a numpy float is no JSON
    largest = max(plain.values())  # first divided by it, so that huge weights do not overflow
    scaled = {axis: weight / largest for axis, weight in plain.items()}
    total = sum(scaled.values())
    return {axis: weight / total for axis, weight in scaled.items()}


def by_full_axis(values: Mapping[str, float], known: Iterable[str], models: Sequence[str] = ()) -> dict[str, float]:
    """Return values given for axes by the full names of these, as `full_axis` tells them.

    Raises:
        UnknownName: there is no such axis.
        InvalidInput: an axis is named twice, or several reward models have it.
    """
    names = list(known)
    given: dict[str, str] = {}
    for axis in values:
        full = full_axis(axis, names, models)
        if full in given:
            raise InvalidInput(f"{given[full]!r} and {axis!r} are the same axis; give it once")
        given[full] = axis
    return {full: values[axis] for full, axis in given.items()}


def full_axis(axis: str, known: Iterable[str], models: Sequence[str] = ()) -> str:
    """Return the axis that is meant: by `model.axis`, or by its own name where one reward model only has it.

    Args:
        axis: as it was named.
        known: all axes, by their own names where there is one reward model, else as `model.axis`.
        models: names of the reward models. Where they are not known, what stands after a dot is an own name, and
            `model.axis` of the only reward model is not.

    Raises:
        UnknownName: there is no such axis.
        InvalidInput: several reward models have it.

    >>> full_axis("complexity", ["cmi-rm.musicality", "audiobox.complexity"])
    'audiobox.complexity'
    >>> full_axis("cmi-mini.musicality", ["musicality", "alignment"], ["cmi-mini"])
    'musicality'
    """
    names = list(known)
    if axis in names:
        return axis
    if len(models) == 1:
        meant = [name for name in names if f"{models[0]}.{name}" == axis]
    elif models:
        meant = [name for name in names if any(f"{model}.{axis}" == name for model in models)]
    else:
        meant = [name for name in names if name.endswith(f".{axis}")]
    if not meant:
        raise UnknownName.among("axis", axis, names)
    if len(meant) > 1:
        raise InvalidInput(f"axis {axis!r} is one of several reward models; name it as one of: {', '.join(meant)}")
    return meant[0]


def check_rule(rule: object) -> None:
    """Refuse what is no rule.

    Raises:
        UnknownName: naming it and the rules.
    """
    if rule not in RULES:
        raise UnknownName.among("rule", rule, RULES)


def by_rule(rewards: Sequence[Mapping[str, float | None]], rule: Rule) -> list[dict[str, float | None]]:
    """Return what a rule makes of each reward of several candidates, before the weighted mean.

    >>> by_rule([{"musicality": 1.0}, {"musicality": 3.0}, {"musicality": None}], "zscore")
    [{'musicality': -1.0}, {'musicality': 1.0}, {'musicality': None}]
    >>> by_rule([{"musicality": 1.0}, {"musicality": 3.0}], "rank")
    [{'musicality': -2.0}, {'musicality': -1.0}]
    """
    found = [dict(one) for one in rewards]
    if rule == "mean":
        return found
    change = _standardised if rule == "zscore" else _minus_ranks
    for axis in {axis: None for one in found for axis in one}:
        places = [place for place, one in enumerate(found) if one.get(axis) is not None]
        if places:
            values = change(np.array([found[place][axis] for place in places], dtype=np.float64))
            for place, value in zip(places, values.tolist(), strict=True):
                found[place][axis] = value
    return found


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if values.max() == values.min():  # candidates that an axis does not tell apart stand in its middle
        return np.zeros_like(values)
    # near 1 before they are squared, where neither the largest nor the smallest floats overflow or vanish
    values = _near_one(values)
    deviations = _near_one(values - values.mean())
    deviations -= deviations.mean()
    return np.asarray(deviations / deviations.std())


def _near_one(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values by the power of two, which changes no digit, that takes the largest to between 0.5 and 1."""
    exponent = np.frexp(np.abs(values).max())[1]
    return np.asarray(np.ldexp(values, -exponent))


def _minus_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    better = (values[None] > values[:, None]).sum(axis=1)
    same = (values[None] == values[:, None]).sum(axis=1)
    return np.asarray(-(better + (same + 1) / 2))


def combine(rewards: Mapping[str, float | None], weights: Mapping[str, float]) -> float | None:
    """Return the combined reward: the weighted mean over the axes that apply and have a weight above 0.

    An axis that is None takes no part: the weights of the others are scaled up to a sum of 1, which is the same for
    every candidate of a prompt as long as the axis applies to all of them or to none. None if no axis is left.

    >>> combine({"musicality": 1.0, "alignment": 0.0}, {"musicality": 0.25, "alignment": 0.75})
    0.25
    >>> combine({"musicality": 1.0, "alignment": None}, {"musicality": 0.25, "alignment": 0.75})
    1.0
    """
    parts = [
        (weight, reward) for axis, reward in rewards.items() if reward is not None and (weight := weights.get(axis))
    ]
    if not parts:
        return None
    total = sum(weight for weight, _ in parts)
    mean = sum(weight / total * reward for weight, reward in parts)
    # rounding may take the mean of huge rewards beyond the largest float
    return min(max(mean, min(reward for _, reward in parts)), max(reward for _, reward in parts))


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
