"""How sure a ranking is of its first against its second.

**Conventions**: rewards of one candidate by axis, as in `rerank.rules`; a chance is a probability in [0, 1].

**Words**: above 75 % the first is *clear*, from 60 % on it *leans*, below it is *too close to call*.

**Source**: the chance that the better one wins is the logistic function of the gap between two rewards (Bradley and
Terry 1952), times the `calibration` of the reward model that gave them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rerank.data import Candidate
from rerank.rules import combine
from rerank.settings import Settings

Word = Literal["clear", "leans", "too close to call"]

CLEAR, LEANS = 0.75, 0.6
"""Chances: above the first of them a verdict is clear, from the second on it leans."""


@dataclass(frozen=True)
class Verdict:
    """How sure a ranking is of its first against its second.

    Attributes:
        word: what the probability is called.
        probability: that the first is the better one of the two.
        first, second: their indices.
    """

    word: Word
    probability: float
    first: int
    second: int

    def __str__(self) -> str:
        """Say it with its probability.

        >>> print(Verdict("leans", 0.68, 4, 5))
        leans (68%)
        """
        return f"{self.word} ({percent(self.probability)})"

    def to_dict(self) -> dict[str, Any]:
        """Return what `ranking.json` holds."""
        return asdict(self)


def verdict_of(ranked: Sequence[Candidate], settings: Settings) -> Verdict | None:
    """Return the verdict on the first two of those that are ranked, best first.

    None where fewer than two are ranked, or nobody measured what the gap between two rewards means.
    """
    if len(ranked) < 2:
        return None
    first, second = ranked[:2]
    probability = chance(first.rewards, second.rewards, settings)
    return None if probability is None else Verdict(word_for(probability), probability, first.index, second.index)


def word_for(probability: float) -> Word:
    """Return what a chance is called.

    >>> word_for(0.7)
    'leans'
    """
    return "clear" if probability > CLEAR else "leans" if probability >= LEANS else "too close to call"


def percent(probability: float) -> str:
    """Return a chance as it is shown: rounded down, so that none seems to have reached a limit, or to be certain.

    >>> percent(0.749), percent(0.58), percent(0.9999)
    ('74%', '58%', '99%')
    """
    return f"{math.floor(round(100 * probability, 6))}%"


def chance(one: Mapping[str, float | None], other: Mapping[str, float | None], settings: Settings) -> float | None:
    """Return how likely one candidate is better than another, by their rewards.

    The log odds are the gap between their weighted means times the calibration. Those of several reward models are
    averaged by weight, not added up: they often rest on the same encoders, and so do not judge independently.

    Returns:
        None where a reward model that counts has no calibration, or no axis applies to both.
    """
    odds = counted = 0.0
    for record in settings.rewards:
        axes = axes_of(record, settings.rewards, settings.weights)
        shared = [axis for axis in axes if one.get(axis) is not None and other.get(axis) is not None]
        weights = {axis: settings.weights.get(axis, 0.0) for axis in shared}
        mine = combine({axis: one[axis] for axis in shared}, weights)
        theirs = combine({axis: other[axis] for axis in shared}, weights)
        if mine is None or theirs is None:
            continue
        calibration = record.get("calibration")
        if calibration is None:
            return None
        share = sum(weights.values())
        odds += share * calibration * (mine - theirs)
        counted += share
    # the logistic function, in a form that does not overflow
    return 0.5 + 0.5 * math.tanh(odds / counted / 2) if counted else None


def axes_of(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]], axes: Iterable[str]) -> dict[str, str]:
    """Return the axes of a reward model by the names that they have in a ranking, with their own names.

    Args:
        record: of the reward model, one of `records`.
        records: of all of them, as `Settings.rewards` holds them.
        axes: all that there are, by their names in the ranking.
    """
    if len(records) == 1:
        return {axis: axis for axis in axes}
    start = f"{record['name']}."
    # the name of one reward model may begin that of another
    longer = [name for other in records if (name := f"{other['name']}.") != start and name.startswith(start)]
    return {
        axis: axis.removeprefix(start)
        for axis in axes
        if axis.startswith(start) and not any(axis.startswith(name) for name in longer)
    }
