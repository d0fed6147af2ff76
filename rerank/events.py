"""What happens in a run, as it is yielded."""

from collections.abc import Callable
from dataclasses import dataclass

from rerank.data import Candidate
from rerank.ranking import Ranking


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
