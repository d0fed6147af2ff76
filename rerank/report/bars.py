"""The bars of a page: where a take stands on each axis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rerank.report.words import number
from rerank.verdict import axes_of

if TYPE_CHECKING:
    from rerank.ranking import Ranking


@dataclass(frozen=True)
class Scale:
    """What the bars of one axis have in common.

    Attributes:
        axis: its name; "combined" for the combined reward.
        name: of the path that marks the takes.
        low, high: the ends.
        bounded: whether these are the bounds of the axis; else the least and the most of the takes that are ranked.
        ticks: data of a path that marks where these stand, below a bar that is 100 wide.
    """

    axis: str
    name: str
    low: float
    high: float
    bounded: bool
    ticks: str

    def at(self, value: float) -> float | None:
        """Return the place of a value, from 0 to 100; None where all are the same."""
        if self.high <= self.low:
            return None
        return round(min(max((value - self.low) / (self.high - self.low), 0.0), 1.0) * 100, 1)


@dataclass(frozen=True)
class Bar:
    """Where a take stands on one axis.

    Attributes:
        axis: its name.
        value: in words.
        low, high: the ends of the bar, in words.
        at: place on it, from 0 to 100; None where there is no bar.
        ticks: where the others stand: the name of a path.
    """

    axis: str
    value: str
    low: str = ""
    high: str = ""
    at: float | None = None
    ticks: str = ""


def scales_of(ranking: "Ranking") -> list[Scale]:
    """Return the scale of the combined reward, and that of each axis."""
    settings = ranking.settings
    bounds = {
        axis: about
        for record in settings.rewards
        for axis, own in axes_of(record, settings.rewards, settings.weights).items()
        if (about := (record.get("axes") or {}).get(own))
    }
    ranked = [one for one in ranking.candidates if one.rank is not None]
    each = [
        _scale(axis, f"axis-{place}", [one.rewards.get(axis) for one in ranked], bounds.get(axis, {}))
        for place, axis in enumerate(settings.weights)
    ]
    return [_scale("combined", "combined", [one.combined for one in ranked], {}), *each]


def _scale(axis: str, name: str, values: Sequence[float | None], about: Mapping[str, Any]) -> Scale:
    there = [value for value in values if value is not None]
    low, high = about.get("low"), about.get("high")
    if low is not None and high is not None:
        scale = Scale(axis, name, float(low), float(high), True, "")
    else:
        scale = Scale(axis, name, min(there, default=0.0), max(there, default=0.0), False, "")
    places = sorted({place for value in there if (place := scale.at(value)) is not None})
    return replace(scale, ticks="".join(f"M{place:g} 8v4" for place in places))


def bar_of(scale: Scale, value: float | None) -> Bar:
    """Return the bar of a take; one without ends where it has no reward, or all have the same."""
    at = None if value is None else scale.at(value)
    if at is None:
        return Bar(scale.axis, number(value))
    return Bar(scale.axis, number(value), number(scale.low), number(scale.high), at, scale.name)
