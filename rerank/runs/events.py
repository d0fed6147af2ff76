"""What happens in a run, as it is yielded."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from rerank.data import Candidate
from rerank.ranking import Ranking
from rerank.runs.stopping import Stop


@dataclass(frozen=True)
class Made:
    """A candidate was made or read, and stored where the run has a folder."""

    candidate: Candidate


@dataclass(frozen=True)
class Scored:
    """A candidate has its rewards."""

    candidate: Candidate


@dataclass(frozen=True)
class SetAside:
    """A candidate will not be ranked; it says why."""

    candidate: Candidate


@dataclass(frozen=True)
class Ended:
    """The run is over, and this is its ranking."""

    ranking: Ranking


Event = Made | Scored | SetAside | Ended

EventCallback = Callable[[Event], None]


def drained(events: Iterator[Event], on_event: EventCallback | None, stop: Stop) -> Ranking:
    """Take all events of a run and return its ranking; KeyboardInterrupt from the callback asks for a stop."""
    with contextlib.closing(cast(Any, events)):
        for event in events:
            if on_event is not None:
                try:
                    on_event(event)
                except KeyboardInterrupt:
                    stop.ask()
            if isinstance(event, Ended):
                return event.ranking
    raise AssertionError("a run ends with an Ended event")
