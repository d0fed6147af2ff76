"""A run of best-of-N as a stream of events with a memory.

A run takes candidates from a source one by one, filters and stores each, has them scored in small groups, and yields what
happens. `ranking.json` holds what there is from the first moment on, so that a run which is stopped, or whose process is
killed, can be read, ranked and gone on with.

**Conventions**: each part of a run ends where it is asked to stop; what is finished is then scored for at most a second,
and ranked.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from rerank.audio import Audio, as_stored
from rerank.data import Candidate, Prompt
from rerank.errors import GenerationFailed, RerankError, RewardFailed, UnreadableAudio, one_line
from rerank.filters import Duplicates, Filters, reward_fault, sound_fault
from rerank.panel import Panel
from rerank.ranking import Ranking, Settings, Status
from rerank.reporting import ProgressCallback, Reporter
from rerank.run_folder import RunFolder
from rerank.scoring import Rewards, not_finite
from rerank.stopping import STOPS, CallbackFailed, Stop

_GRACE = 0.8  # seconds in which what is finished is still scored after a stop

_OF_FILTERS = {"not_finite", "silent", "clipped", "dc_offset", "short", "duplicate"}
_OF_REWARDS = {"floor", "reward_failed", "reward_not_finite", "not_scored", "no_axis"}

logger = logging.getLogger("rerank")


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


class Run:
    """One run.

    Args:
        prompt: that candidates are scored for.
        settings: of the run, as they will be stored.
        panel: the reward models.
        filters: what sets candidates aside.
        folder: to store to; None keeps everything in memory.
        known: candidates of an earlier session of the run, or of another ranking of it, by index.
        heard_before: whether filters on the sound have looked at those, and need not again.
        until_done: for a run that is ranked again, the settings that its document has until that is done, and its
            status.
        stop: asked whether to stop.
        on_progress: told how far each phase is.
    """

    def __init__(
        self,
        prompt: Prompt,
        settings: Settings,
        panel: Panel,
        filters: Filters,
        *,
        folder: RunFolder | None = None,
        known: Mapping[int, Candidate] | None = None,
        heard_before: bool = False,
        until_done: tuple[Settings, Status] | None = None,
        stop: Stop | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> None:
        self.prompt, self.settings = prompt, settings
        self.status: Status = "running"
        self.stop = stop or Stop()
        self.report = Reporter(on_progress, self.stop, settings.n, known=len(known or {}))
        self._panel, self._filters, self._folder = panel, filters, folder
        self._known = dict(known or {})
        self._heard_before, self._until_done = heard_before, until_done
        self._duplicates = Duplicates(filters.duplicate)
        self._candidates: list[Candidate] = []
        self._stored = 0  # how many of them are on disk, if they go there
        self._waiting: list[tuple[int, Audio]] = []  # places of candidates that have no rewards yet
        self._taken = 0  # candidates from the source
        self._asked = panel.asked_with(prompt)
        self._scoring = False
        self._asked_for, self._failures = 0, list[str]()
        self._seconds = {"generating": 0.0, "rewarding": 0.0}

    def stream(self, source: Iterable[Candidate], duration: float | None = None) -> Iterator[Event]:
        """Collect candidates, have them scored, rank them, and yield what happens.

        Args:
            source: of the candidates that are new, in the order of their indices.
            duration: that was asked of each, in seconds; None for audio made elsewhere.

        Raises:
            GenerationFailed, UnreadableAudio: not one candidate can be heard.
            RewardFailed: a reward model broke its protocol, or failed on every candidate.
            KeyboardInterrupt: a signal or a callback asked to stop before the first candidate.
            OutputError: the run cannot be stored.
        """
        with self.stop.listening(), self._kept_on_failure():
            self._remember(at_once=True)
            try:
                yield from self._collect_all(source, duration)
                yield from self._score(rest=True)
            except STOPS as stop:
                self.status = "interrupted"
                yield from self._after(stop)
            ranking = self._end()
        yield Ended(ranking)

    def _after(self, stop: BaseException) -> Iterator[Event]:
        """Have what is finished scored, if there is time, unless the stop came while some were being scored already."""
        if not any(candidate.audio for candidate in self._candidates) and not self.stop.by_flag(stop):
            raise KeyboardInterrupt
        self.stop.heed()
        self._store()
        logger.warning("interrupted: ranking the %d finished", len(self._candidates))
        if not self._scoring or not any(candidate.rewards for candidate in self._candidates):
            with contextlib.suppress(*STOPS):
                yield from self._score(rest=True, until=time.monotonic() + _GRACE)

    def _collect_all(self, source: Iterable[Candidate], duration: float | None) -> Iterator[Event]:
        self.report.begin("generating")
        for candidate in self._in_order(source):
            yield from self._collect(candidate, duration)
            self.report.finished("generating", len(self._candidates))
            # those that the generator has finished come first: they would be lost to a stop while others are scored
            if self.report.ready <= self._taken:
                yield from self._score()
        made = len(self._candidates)
        failed = sum(candidate.set_aside is not None for candidate in self._candidates)
        if not any(candidate.audio for candidate in self._candidates):
            raise self._nothing_made()
        if self.settings.generator is not None:
            name, seconds = self.settings.generator, self._seconds["generating"]
            logger.info("generated %d candidates with %s in %.2f s, %d set aside", made, name, seconds, failed)

    def _in_order(self, source: Iterable[Candidate]) -> Iterator[Candidate]:
        """Yield the candidates of the source, and those known before at their places among them.

        The filter for duplicates compares with those of lower index: a run that was stopped and gone on with is filtered
        as one that was not.
        """
        upcoming = iter(source)
        while True:
            place = len(self._candidates)
            if place in self._known:
                yield self._known[place]
                continue
            started = time.perf_counter()
            with self.stop.interruptible():
                candidate = next(upcoming, None)
            self._seconds["generating"] += time.perf_counter() - started
            if candidate is None:
                break
            self._taken += 1
            yield candidate
        for index in sorted(self._known):
            yield self._known[index]

    def _collect(self, candidate: Candidate, duration: float | None) -> Iterator[Event]:
        """Filter and store one candidate; it then waits for its rewards, has them already, or is set aside."""
        new = self._known.pop(candidate.index, None) is None
        candidate = replace(candidate, rewards=self._panel.named(candidate.rewards))
        if not new:
            candidate = _asked_again(candidate, heard=self._heard_before)
        lacks = self._panel.lacks(candidate.rewards)
        unheard = new or not self._heard_before
        audio = None
        if candidate.is_removed:
            if lacks and candidate.set_aside is None:
                candidate = replace(candidate, set_aside="not scored: its file was removed")
        elif candidate.audio is not None and candidate.set_aside is None and (unheard or lacks):
            candidate, audio = _heard(candidate, exact=new and candidate.seed is not None)
        if audio is not None and unheard:
            fault = sound_fault(audio, self._filters, duration) or self._duplicates.fault(candidate.index, audio)
            candidate = replace(candidate, set_aside=fault)
        waits = candidate.set_aside is None and lacks
        if candidate.set_aside is None and not lacks:
            unscored = None if candidate.rewards else "not scored: no reward model was asked about it"
            candidate = replace(candidate, set_aside=unscored or reward_fault(candidate.rewards, self._filters))
        place = len(self._candidates)
        # first collected, then stored: what stops between the two loses nothing
        self._candidates.append(candidate)
        if waits and audio is not None:
            self._waiting.append((place, audio))
        self._store()
        self._remember()
        candidate = self._candidates[place]
        if new and candidate.audio is not None:
            yield Made(candidate)
        if candidate.set_aside is not None:
            yield SetAside(candidate)

    def _store(self) -> None:
        """Write every candidate that no file of the run holds yet."""
        for place in range(self._stored, len(self._candidates)):
            candidate = self._candidates[place]
            if self._folder is not None and not candidate.is_removed:
                self._candidates[place] = self._folder.stored(candidate)
            self._stored = place + 1

    def _score(self, *, rest: bool = False, until: float = math.inf) -> Iterator[Event]:
        """Have those that wait scored in groups: full groups, or the `rest` too; none is begun after `until`."""
        size = self._panel.batch_size
        least = 1 if rest else size
        while len(self._waiting) >= least and time.monotonic() < until:
            self._scoring = True
            self.report.begin("rewarding")
            group = self._waiting[:size]
            started = time.perf_counter()
            known = [self._candidates[place].rewards for place, _ in group]
            results = self._asked([audio for _, audio in group], known)
            for place, _ in group:
                with self.stop.interruptible():
                    rewards, faults = next(results)
                candidate = self._with_rewards(place, rewards, faults)
                self._waiting.pop(0)
                yield Scored(candidate) if candidate.set_aside is None else SetAside(candidate)
                self.report.finished("rewarding", len(self._candidates) - len(self._waiting))
            self._seconds["rewarding"] += time.perf_counter() - started
            self._remember()
            self._scoring = False

    def _with_rewards(self, place: int, rewards: Rewards, faults: Mapping[str, str]) -> Candidate:
        """Give a candidate its rewards, or set it aside."""
        self._asked_for += 1
        candidate = self._candidates[place]
        finite = {axis: _finite(reward) for axis, reward in rewards.items()}
        fault = not_finite(rewards) or reward_fault(finite, self._filters)
        told = [f"{name} gave no reward: {why.removeprefix('reward failed: ')}" for name, why in faults.items()]
        if faults and not finite:
            fault = next(iter(faults.values())) if len(faults) == 1 else f"reward failed: {'; '.join(told)}"
            self._failures.append(fault)
        elif faults:
            candidate = replace(candidate, reasons=(*candidate.reasons, *told))
        candidate = replace(candidate, rewards=finite, set_aside=fault)
        self._candidates[place] = candidate
        return candidate

    def _end(self) -> Ranking:
        """Rank and store what was collected.

        Raises:
            RewardFailed: every candidate failed.
        """
        name = self._panel.name
        if self._failures and len(self._failures) == self._asked_for and not self._waiting:
            raise RewardFailed(
                f"reward model {name!r} failed on all {len(self._failures)} candidates; the first: {self._failures[0]}"
            )
        if self._asked_for:
            logger.info("rewarded %d candidates with %s in %.2f s", self._asked_for, name, self._seconds["rewarding"])
        if self.status == "running":
            self.status = "done"
        self._set_unscored_aside("interrupted before it")
        ranking = self.ranking()
        if self._folder is None:
            return ranking
        return self._stored_in(self._folder, ranking)

    def _stored_in(self, folder: RunFolder, ranking: Ranking) -> Ranking:
        ranking = ranking.stored_in(folder, complete=self.status == "done")
        if folder.place != folder.path:
            logger.warning("%s keeps its earlier run; what the new one made is in %s", folder.path, folder.place)
        return ranking

    def ranking(self) -> Ranking:
        """Return the ranking of what there is by now."""
        known = (replace(one, rewards=self._panel.named(one.rewards)) for one in self._known.values())
        settings, status = self.settings, self.status
        if self._until_done is not None:
            before, status = self._until_done
            settings = settings if self.status == "done" else before
        return Ranking.of(self.prompt, [*self._candidates, *known], settings, status)

    def _remember(self, *, at_once: bool = False) -> None:
        """Store the document of the run, as often as that takes little of its time."""
        if self._folder is not None and (at_once or self._folder.due()):
            self._folder.write(self.ranking().to_dict(self._folder.place))

    @contextlib.contextmanager
    def _kept_on_failure(self) -> Iterator[None]:
        """Where the block fails, store what there is, as far as that is possible, with the reason for what is not."""
        try:
            yield
        except GeneratorExit:  # whoever took the events wants no more
            self.status = "interrupted"
            self._keep("interrupted before it")
            raise
        except KeyboardInterrupt:
            self._keep("interrupted before it")
            raise
        except CallbackFailed as failed:
            self.status = "failed"
            self._keep(one_line(failed.error))
            raise failed.error from None
        # whatever it is: it goes on to the caller
        except Exception as error:
            self.status = "failed"
            self._keep(str(error) if isinstance(error, RerankError) else one_line(error))
            raise

    def _keep(self, reason: str) -> None:
        if self._folder is None:
            return
        if not any(candidate.audio for candidate in (*self._candidates, *self._known.values())):
            self._folder.abandon()
            return
        # the disk may be what failed: then the first error tells more than the second
        with contextlib.suppress(Exception):
            self._set_unscored_aside(reason)
            self._stored_in(self._folder, self.ranking())

    def _set_unscored_aside(self, reason: str) -> None:
        for place, candidate in enumerate(self._candidates):
            if candidate.set_aside is None and not candidate.rewards:
                self._candidates[place] = replace(candidate, set_aside=f"not scored: {reason}")

    def _nothing_made(self) -> RerankError:
        first = self._candidates[0].set_aside or "" if self._candidates else "there was none"
        if self.settings.generator is None:
            return UnreadableAudio(first.removeprefix("cannot be read: "))
        name = self.settings.generator
        return GenerationFailed(
            f"generator {name!r} failed on all {len(self._candidates)} candidates; the first: {first}"
        )


def _asked_again(candidate: Candidate, *, heard: bool) -> Candidate:
    """Return a candidate of an earlier session without the verdicts that are to be made anew."""
    kind = candidate.set_aside_kind
    if kind in _OF_REWARDS or kind == "unreadable" or (kind in _OF_FILTERS and not heard):
        candidate = replace(candidate, set_aside=None)
    # what a reward model failed on may have been the machine's fault
    return replace(candidate, rewards={}) if kind in ("reward_failed", "reward_not_finite") else candidate


def _heard(candidate: Candidate, *, exact: bool) -> tuple[Candidate, Audio | None]:
    """Return a candidate with its audio in memory, or set aside where that cannot be read.

    Args:
        candidate: with audio.
        exact: whether its samples become those that its file will hold, so that what is scored, stored and read again is
            the same; a copy in any case: a generator may use its array again.
    """
    assert candidate.audio is not None
    try:
        audio = candidate.audio.loaded()
    except UnreadableAudio as error:
        return replace(candidate, set_aside=f"cannot be read: {error}"), None
    if not exact:
        return candidate, audio
    rounded = as_stored(audio)
    if rounded is audio:
        rounded = Audio(audio.waveform.copy(), audio.sample_rate)
    return replace(candidate, audio=rounded), rounded


def _finite(reward: float | None) -> float | None:
    return reward if reward is not None and math.isfinite(reward) else None
