"""Why each candidate stands where it does: sentences that are made from numbers, and from nothing else.

**Conventions**: rewards have three decimals, as in tables; a sentence has no full stop.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rerank.data import Candidate
from rerank.protocols import Norms
from rerank.settings import Settings
from rerank.verdict import CLEAR, axes_of, chance, percent, word_for

_UNITS = {"mean": "", "zscore": ", in standard deviations", "rank": ", minus its rank"}
"""By rule: what is weighed, where it is not the reward itself."""

_RULES = {
    "zscore": "combined: the weighted mean of the rewards in standard deviations, 0 is the middle of these takes",
    "rank": "combined: minus the weighted mean of the ranks on each axis, -1 is the first on all of them",
}
"""By rule: what the combined reward is, where it is no mean of rewards."""

_FILTERS = {kind: kind for kind in ("not_finite", "silent", "clipped", "dc_offset", "duplicate", "short")}
_FILTERS["floor"] = "floors"
"""Kinds of what is set aside -> the filter that did it."""


def reasons_of(
    ranked: Sequence[Candidate], weighed: Sequence[Mapping[str, float | None]], settings: Settings
) -> list[tuple[str, ...]]:
    """Return for each ranked candidate what speaks for and against it.

    Args:
        ranked: best first, with their combined rewards.
        weighed: what the rule made of the rewards of each.
        settings: of the ranking.
    """
    standings = _standings(ranked, settings)
    return [
        (
            *_ahead_or_behind(place, ranked, settings),
            *(f"{axis} {text}" for axis, by_place in standings.items() if (text := by_place[place])),
            *_sum(candidate, weighed[place], settings),
            *_not_followed(settings),
            *_faults(candidate),
        )
        for place, candidate in enumerate(ranked)
    ]


def reasons_aside(candidate: Candidate) -> tuple[str, ...]:
    """Return why a candidate is not ranked: by which filter, if by one, and what reward models said; nothing if it waits."""
    if candidate.set_aside is None:
        return tuple(_faults(candidate))
    name = _FILTERS.get(candidate.set_aside_kind or "")
    return (
        f"the filter {name!r} set it aside: {candidate.set_aside}" if name else candidate.set_aside,
        *_faults(candidate),
    )


def scales_of(settings: Settings, rewards: Iterable[Mapping[str, float | None]]) -> list[str]:
    """Return what the numbers of a ranking mean, a sentence each.

    Args:
        settings: of the ranking.
        rewards: of each candidate.
    """
    sentences = scales(settings.rewards, settings.weights, rewards)
    sentences += [sentence for record in settings.rewards for sentence in _reservations(record, settings)]
    return [*([_RULES[settings.rule]] if settings.rule in _RULES else []), *sentences]


def scales(
    records: Sequence[Mapping[str, Any]], axes: Iterable[str], rewards: Iterable[Mapping[str, float | None]]
) -> list[str]:
    """Return what rewards mean, a sentence for each reward model or axis that has something to say.

    Args:
        records: of the reward models, as `Settings.rewards` holds them.
        axes: all that there are, by their names in a ranking.
        rewards: that were given; nothing is said of an axis or a reward model without any.
    """
    given = {axis for one in rewards for axis, reward in one.items() if reward is not None}
    there = [axis for axis in axes if axis in given]
    return [sentence for record in records for sentence in _scales(record, axes_of(record, records, there))]


def _reservations(record: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    """Yield what is to be said of a calibration that was measured under other weights."""
    axes = axes_of(record, settings.rewards, settings.weights)
    usual = {axis: about.get("weight") for axis, about in (record.get("axes") or {}).items()}
    if not record.get("calibration") or not all(usual.get(own) is not None for own in axes.values()):
        return
    given = np.array([settings.weights[axis] for axis in axes])
    default = np.array([usual[own] for own in axes.values()])
    if given.any() and not np.allclose(given / given.sum(), default / max(default.sum(), 1e-9)):
        yield f"{record['name']}: that was measured for its usual weights, and is less sure for others"


def _ahead_or_behind(place: int, ranked: Sequence[Candidate], settings: Settings) -> Iterator[str]:
    """Yield how far a candidate is from the first, and the first from the second."""
    if len(ranked) < 2:
        return
    one, other = (ranked[0], ranked[1]) if place == 0 else (ranked[place], ranked[0])
    assert one.combined is not None and other.combined is not None
    gap = abs(one.combined - other.combined)
    where = f"{gap:.3f} {'ahead of' if place == 0 else 'behind'} {other.name}"
    probability = chance(ranked[0].rewards, ranked[place or 1].rewards, settings)
    if probability is None:
        yield where
    elif place == 0:
        yield f"{where}, and better than it with a probability of {percent(probability)}: {word_for(probability)}"
    else:
        yield f"{where}, which is better with a probability of {percent(probability)}"


def _standings(ranked: Sequence[Candidate], settings: Settings) -> dict[str, list[str]]:
    """Return by axis where each candidate stands on it; an empty text where its reward is missing."""
    found = {}
    for record in settings.rewards:
        norms = norms_of(record)
        for axis, own in axes_of(record, settings.rewards, settings.weights).items():
            rewards = [candidate.rewards.get(axis) for candidate in ranked]
            there = np.sort(np.array([reward for reward in rewards if reward is not None]))
            texts = []
            for candidate, reward in zip(ranked, rewards, strict=True):
                if reward is None:
                    # that a reward model failed on it is said by itself
                    failed = record["name"] in candidate.faults or axis not in candidate.rewards
                    texts.append("" if failed else "does not apply")
                    continue
                better = len(there) - int(np.searchsorted(there, reward, "right"))
                same = len(there) - better - int(np.searchsorted(there, reward, "left"))
                texts.append(f"{reward:.3f}: {_place(better + 1, same, len(there))}{_among(norms, own, reward)}")
            found[axis] = texts
    return found


def _place(place: int, same: int, count: int) -> str:
    """Return a place in words.

    >>> _place(2, 1, 10), _place(1, 3, 10)
    ('2nd of 10', 'shares the 1st of 10 with 2 more')
    """
    if count == 1:
        return "the only one"
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    if same == 1:
        return f"{place}{ending} of {count}"
    return f"shares the {place}{ending} of {count} with {same - 1} more"


def _among(norms: Norms | None, axis: str, reward: float) -> str:
    share = None if norms is None else norms.share_below(axis, reward)
    return "" if norms is None or share is None else f", above {share:.0%} of {norms.takes}"


def _sum(candidate: Candidate, weighed: Mapping[str, float | None], settings: Settings) -> Iterator[str]:
    """Yield how the weights add up, where there is more than one axis."""
    parts = {axis: value for axis, value in weighed.items() if value is not None and settings.weights.get(axis)}
    if len(parts) < 2:
        return
    total = sum(settings.weights[axis] for axis in parts)
    terms = [
        f"{settings.weights[axis] / total:.3g} × {value:.3f} ({axis}{_UNITS[settings.rule]})"
        for axis, value in parts.items()
    ]
    yield f"combined {candidate.combined:.3f} = {' + '.join(terms)}"


def _not_followed(settings: Settings) -> Iterator[str]:
    for part in settings.not_followed:
        yield f"{settings.generator} did not follow the {part} of the prompt"


def _faults(candidate: Candidate) -> Iterator[str]:
    for name, why in candidate.faults.items():
        yield f"{name} gave no reward: {why}"


def norms_of(record: Mapping[str, Any]) -> Norms | None:
    """Return the norms in the record of a reward model, if it has any."""
    norms = record.get("norms")
    return None if norms is None else Norms(takes=norms["takes"], quantiles=norms["quantiles"])


def clear_gap(calibration: float) -> float:
    """Return the gap from which on one mean of the axes is clearly above another.

    >>> round(clear_gap(2.0), 3)
    0.549
    """
    return float(np.log(CLEAR / (1 - CLEAR)) / calibration)


def _scales(record: Mapping[str, Any], axes: Mapping[str, str]) -> Iterator[str]:
    name, calibration, norms = record["name"], record.get("calibration"), norms_of(record)
    known = record.get("axes") or {}
    if not axes:
        return
    for axis, own in axes.items():
        about = known.get(own, {})
        if about.get("low") is not None and about.get("high") is not None:
            yield f"{axis} lies between {about['low']:g} and {about['high']:g}"
        if norms is not None and own in norms.quantiles:
            low, middle, high = np.quantile(norms.quantiles[own], [0.25, 0.5, 0.75])
            yield f"{axis}: half of {norms.takes} have {low:.2f} to {high:.2f}, the middle one {middle:.2f}"
    if calibration:
        gap = clear_gap(calibration)
        yield f"{name}: {gap:.2f} more in the mean of its axes is a clear win, better in three of four cases"
    else:
        yield f"{name}: nobody measured how much a gap between takes like these means"
