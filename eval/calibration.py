"""How much a gap between two rewards tells: the slope of its log odds, and how far the odds that follow are off.

**Conventions**: of two candidates of one prompt the gap is how far the reward of one is above that of the other, 0 or
more; that one is right where its truth is higher too (half right where the gap is 0). Pairs of equal truth are left out.
A probability is that of being right. Intervals are those of `rerank.eval.metrics`.

**Metrics**
- calibration error: pairs are sorted by probability and cut into 10 bins of equally many, or 5 where there are fewer
  than 1,000; the mean over bins of how far the mean probability is from the share that is right
- Brier score: the mean squared distance of the probability from what came true

**Source**: the chance that the better one wins is the logistic function of the gap (Bradley and Terry 1952); Brier 1950.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from rerank.eval.metrics import Floats, Places, resampled, runs_of, validate

SLOPES = 500
"""Resamples of the prompts, for an interval of a slope."""

FOLDS = 10

DRAWS = 200
"""Of what comes true by chance."""

EQUAL = 1e-9
"""Difference up to which two truths are equal but for rounding."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of candidates.

    Shape:
        gap, right, prompt: `[pairs]`, the last of them the index of the prompt of each
    """

    gap: Floats
    right: Floats
    prompt: Places


def all_pairs(rewards: Floats, truth: Floats) -> Pairs:
    """Return all pairs of candidates of one prompt.

    Shape:
        rewards, truth: `[prompts, candidates]`
    """
    validate(rewards, truth)
    one, other = np.triu_indices(rewards.shape[1], k=1)
    return _pairs(rewards, truth, np.arange(len(rewards)), one[None], other[None])


def first_against(rewards: Floats, truth: Floats, n: int, others: int) -> Pairs:
    """Return the pairs of the one with the highest reward of each run of `n`, and the `others` next ones.

    Shape:
        rewards, truth: `[prompts, candidates]`, which are cut into runs
    """
    validate(rewards, truth)
    run_rewards, prompts = runs_of(rewards, n)
    order = np.argsort(-run_rewards, axis=1, kind="stable")
    return _pairs(run_rewards, runs_of(truth, n)[0], prompts, order[:, :1], order[:, 1 : 1 + others])


def together(parts: Sequence[Pairs]) -> Pairs:
    """Return all pairs of several kinds."""
    return Pairs(*(np.concatenate(of) for of in zip(*((one.gap, one.right, one.prompt) for one in parts), strict=True)))


def _pairs(rewards: Floats, truth: Floats, prompts: Places, one: Places, other: Places) -> Pairs:
    gap, apart = (
        np.take_along_axis(of, np.broadcast_to(one, (len(of), one.shape[1])), axis=1)
        - np.take_along_axis(of, np.broadcast_to(other, (len(of), other.shape[1])), axis=1)
        for of in (rewards, truth)
    )
    told = np.abs(apart) > EQUAL
    right = 0.5 + 0.5 * np.sign(gap * np.sign(apart))
    return Pairs(np.abs(gap)[told], right[told], np.broadcast_to(prompts[:, None], gap.shape)[told])


def fit_slope(pairs: Pairs, counts: NDArray[np.int64] | None = None) -> float | None:
    """Return the slope through the origin under which what came true is likeliest.

    Args:
        pairs: to fit.
        counts: how often each pair counts; once by default.

    Returns:
        None where no slope is the best one: there are no gaps, or all pairs are right, or none is.
    """
    weight = pairs.gap if counts is None else pairs.gap * counts

    def pull(slope: float) -> float:  # derivative of the log likelihood, falling
        return float(weight @ (pairs.right - expit(slope * pairs.gap)))

    if not weight @ pairs.right > 0 or not weight @ (1 - pairs.right) > 0:
        return None
    limit = 1 / float(pairs.gap.mean())
    while pull(limit) > 0 or pull(-limit) < 0:
        limit *= 2
    return float(brentq(pull, -limit, limit))


def slope_interval(pairs: Pairs) -> tuple[float, float] | None:
    """Return the interval of the slope; None where there is none, or it has no end."""
    if fit_slope(pairs) is None:
        return None
    prompts, place = np.unique(pairs.prompt, return_inverse=True)
    slopes = [fit_slope(pairs, drawn[place]) for drawn in resampled(len(prompts), SLOPES)]
    # a resample in which all pairs are right is as steep as can be
    known = np.array([np.inf if slope is None else slope for slope in slopes])
    low, high = np.quantile(known, [0.025, 0.975], method="nearest")
    return (float(low), float(high)) if np.isfinite(high) else None


def held_out_probabilities(fitted: Pairs, told: Pairs) -> Floats | None:
    """Return the probability of each told pair, by the slope of the fitted pairs of other prompts (10 folds).

    None where a fold has no slope.
    """
    probability = np.empty(len(told.gap))
    for fold in range(FOLDS):
        rest = fitted.prompt % FOLDS != fold
        chosen = told.prompt % FOLDS == fold
        if not chosen.any():
            continue
        slope = fit_slope(Pairs(fitted.gap[rest], fitted.right[rest], fitted.prompt[rest]))
        if slope is None:
            return None
        probability[chosen] = expit(slope * told.gap[chosen])
    return probability


def bins_of(probability: Floats) -> list[Places]:
    """Return the places of the pairs in each bin, sorted by probability: 10 bins, or 5 of fewer than 1,000 pairs."""
    order = np.argsort(probability, kind="stable")
    return [places for places in np.array_split(order, 10 if len(order) >= 1000 else 5) if len(places)]


def calibration_error(probability: Floats, right: Floats) -> float | None:
    """Return the calibration error; None where there are no pairs.

    >>> calibration_error(np.array([0.75, 0.75]), np.array([1.0, 1.0]))
    0.25
    """
    return _error(probability - right, bins_of(probability)) if len(probability) else None


def error_by_chance(probability: Floats) -> float | None:
    """Return the calibration error that true probabilities would show on average over as many pairs."""
    rng = np.random.default_rng(0)
    bins = bins_of(probability)
    drawn = (rng.random(len(probability)) < probability for _ in range(DRAWS))
    return float(np.mean([_error(probability - right, bins) for right in drawn])) if len(probability) else None


def _error(off: Floats, bins: Sequence[Places]) -> float:
    return sum(abs(float(off[places].sum())) for places in bins) / len(off)
