"""How likely is the take with the higher reward the better one? The slope of the log odds, and how far they are off.

The slope is fitted to what a ranking tells: the first of a run against each of the others, in runs of several sizes. The
first stands there for having the highest reward, and near the top of the scale a gap tells less than elsewhere: takes
without any fault are equally good, and their rewards still differ. All pairs would give a steeper slope, which says
"clear" too often of the first two.

Probabilities are judged on prompts that their slope was not fitted to.
"""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from rerank.eval.agreement.takes import Takes
from rerank.eval.calibration import (
    Pairs,
    all_pairs,
    bins_of,
    calibration_error,
    error_by_chance,
    first_against,
    fit_slope,
    held_out_probabilities,
    slope_interval,
    together,
)
from rerank.eval.metrics import Floats, Places, mean_interval
from rerank.verdict import Word, word_for

ALL = "all pairs"

WORDS = get_args(Word)[::-1]

SIZES = (5, 3)
"""Of smaller runs, which the takes are cut into."""

OTHER_WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "musicality only": {"musicality": 1.0},
    "musicality 3, alignment 1": {"musicality": 0.75, "alignment": 0.25},
    "musicality 1, alignment 3": {"musicality": 0.25, "alignment": 0.75},
    "alignment only": {"alignment": 1.0},
}


def others(sizes: Sequence[int]) -> str:
    """Return the name of the pairs of the first and each of the others, in runs of some sizes.

    >>> others([10, 5, 3])
    'first against the others of 10, 5 and 3'
    """
    return f"first against the others of {' and '.join(', '.join(map(str, sizes)).rsplit(', ', 1))}"


def second(n: int) -> str:
    """Return the name of the pairs of the first and the second of n."""
    return f"first against second of {n}"


def how_sure(takes: Takes) -> dict[str, Any]:
    """Return the slope with its interval, and how far it is off, for each kind of pairs and for other weights.

    None stands for what cannot be told from so few takes, or from rewards without gaps.
    """
    rewards, truth = takes.combined()
    kinds = _kinds(rewards, truth)
    told = others(_sizes(rewards))
    fitted = kinds[told]
    return {
        "fitted to": told,
        "pairs": len(fitted.gap),
        "slope": fit_slope(fitted),
        "interval": slope_interval(fitted),
        "told": {name: _judged(fitted, pairs) for name, pairs in kinds.items()},
        "other weights": {name: _under(weights, takes, fitted) for name, weights in OTHER_WEIGHTS.items()},
    }


def _kinds(rewards: Floats, truth: Floats) -> dict[str, Pairs]:
    sizes = _sizes(rewards)
    return {
        ALL: all_pairs(rewards, truth),
        others(sizes): together([first_against(rewards, truth, n, n - 1) for n in sizes]),
        **{second(n): first_against(rewards, truth, n, 1) for n in sizes},
    }


def _sizes(rewards: Floats) -> list[int]:
    most = rewards.shape[1]
    return [most, *(size for size in SIZES if size < most)]


def _judged(fitted: Pairs, pairs: Pairs) -> dict[str, Any] | None:
    """Return how far the probabilities of some pairs are off, by the slope of other prompts."""
    probability = held_out_probabilities(fitted, pairs)
    if probability is None or not len(probability):
        return None
    said = np.array([word_for(one) for one in probability.tolist()])
    return {
        "pairs": len(probability),
        "slope of their own": fit_slope(pairs),
        "error": calibration_error(probability, pairs.right),
        "error by chance": error_by_chance(probability),
        "Brier score": float(np.mean((probability - pairs.right) ** 2)),
        "words": {word: _shares(probability, pairs, np.flatnonzero(said == word)) for word in WORDS},
        "bins": [_shares(probability, pairs, places) for places in bins_of(probability)],
    }


def _shares(probability: Floats, pairs: Pairs, places: Places) -> dict[str, Any]:
    """Return how often some pairs were said to be right, and were."""
    said = float(probability[places].mean()) if len(places) else None
    return {"pairs": len(places), "said": said, "right": mean_interval(pairs.right[places], pairs.prompt[places])}


def _under(weights: Mapping[str, float], takes: Takes, fitted: Pairs) -> dict[str, Any]:
    """Return the slope under other weights, and how far the one of equal weights is off there."""
    rewards, truth = takes.combined(weights)
    found: dict[str, Any] = {}
    for name, pairs in _kinds(rewards, truth).items():
        by_equal, by_own = held_out_probabilities(fitted, pairs), held_out_probabilities(pairs, pairs)
        found[name] = {
            "pairs": len(pairs.gap),
            "slope of their own": fit_slope(pairs),
            "error": None if by_equal is None else calibration_error(by_equal, pairs.right),
            "error by chance": None if by_equal is None else error_by_chance(by_equal),
            "error with that slope": None if by_own is None else calibration_error(by_own, pairs.right),
        }
    return found
