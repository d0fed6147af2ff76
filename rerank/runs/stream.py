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
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from rerank.audio import Audio, held_together
from rerank.data import Candidate, Prompt
from rerank.errors import GenerationFailed, RerankError, RewardFailed, UnreadableAudio, one_line
from rerank.filters import Duplicates, Filters, reward_fault, sound_fault
from rerank.ranking import Ranking
from rerank.run_folder import RunFolder
from rerank.runs.events import Ended, Event, Made, Scored, SetAside
from rerank.runs.memory import RunMemory
from rerank.runs.panel import Panel
from rerank.runs.reopening import asked_again, heard, reopened
from rerank.runs.reporting import Phase, ProgressCallback, Reporter
from rerank.runs.stopping import STOPS, CallbackFailed, Stop
from rerank.scoring import Rewards, not_finite
from rerank.settings import Settings, Status

_GRACE = 0.8  # seconds in which what is finished is still scored after a stop

_PATIENCE = 0.25  # seconds that a candidate waits for others before it is scored while more are being made
_MOST_WAITING = 64  # candidates that wait to be scored
_HELD = 4  # of these, whose audio is held in memory where there are files
_MOST_HELD = 120.0  # seconds of audio that wait where there are none

logger = logging.getLogger("rerank")


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
        before: the ranking of a run that is ranked again; its document changes by new rewards only until that is done.
        until_done: the settings that it has then.
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
        before: Ranking | None = None,
        until_done: Settings | None = None,
        stop: Stop | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> None:
        self.stop = stop or Stop()
        self.report = Reporter(on_progress, self.stop, settings.n, known=len(known or {}))
        # a run that is ranked again makes nothing, whatever it was made by
        self._generator = settings.generator if before is None else None
        self._again = before is not None
        self._collecting: Phase = "reading" if self._generator is None else "generating"
        self._panel, self._filters, self._heard_before = panel, filters, heard_before
        self._memory = RunMemory(prompt, settings, folder, known or {}, before, until_done, panel.known_of)
        self._duplicates = Duplicates(filters.duplicate)
        self._asked = panel.asked_with(prompt)
        self._waiting: list[tuple[int, Audio]] = []  # places of candidates that have no rewards yet
        self._taken = 0  # candidates from the source
        self._waiting_since = 0.0
        self._answers: list[tuple[int, tuple[Rewards, dict[str, str]]]] = []  # of those that wait, not yet taken
        self._scoring = False
        self._asked_for, self._failures = 0, list[str]()
        self._seconds: dict[Phase, float] = defaultdict(float)

    def stream(self, source: Iterable[Candidate], duration: float | None = None) -> Iterator[Event]:
        """Collect candidates, have them scored, rank them, and yield what happens.

        Args:
            source: of the candidates that are new, in the order of their indices.
            duration: that was asked of each, in seconds; None for audio made elsewhere.

        Raises:
            GenerationFailed, UnreadableAudio: not one candidate can be heard.
            RewardFailed: a reward model cannot read the prompt, or failed on every candidate.
            KeyboardInterrupt: a signal or a callback asked to stop before the first candidate; or a run that is ranked
                again was stopped, and stays as it was but for the rewards that are new.
            OutputError: the run cannot be stored.
        """
        status: Status = "done"
        with self.stop.listening(), self._kept_on_failure():
            self._memory.write(at_once=True)
            try:
                yield from self._collect_all(source, duration)
                yield from self._score(rest=True)
            except STOPS as stop:
                status = "interrupted"
                yield from self._after(stop)
            self._check_rewarded()
            ranking = self._memory.end(status, "interrupted before it")
        yield Ended(ranking)

    def _after(self, stop: BaseException) -> Iterator[Event]:
        """Have what is finished scored, if there is time, unless the stop came while some were being scored already."""
        memory = self._memory
        self._keep_answers()
        if self._again or (not memory.has_audio() and not self.stop.by_flag(stop)):
            raise KeyboardInterrupt
        self.stop.heed()
        memory.store()
        logger.warning("interrupted: ranking the %d finished", len(memory.candidates) + len(memory.known))
        if not self._scoring or not any(candidate.rewards for candidate in memory.candidates):
            with contextlib.suppress(*STOPS):
                yield from self._score(rest=True, until=time.monotonic() + _GRACE)

    def _collect_all(self, source: Iterable[Candidate], duration: float | None) -> Iterator[Event]:
        self.report.begin(self._collecting)
        for candidate in self._in_order(source):
            yield from self._collect(candidate, duration)
            self.report.finished(self._collecting, len(self._memory.candidates))
            if self._pays():
                yield from self._score()
        candidates = self._memory.candidates
        if not any(candidate.audio for candidate in candidates):
            raise _nothing_made(candidates, self._generator)
        if self._generator is not None:
            failed = sum(candidate.set_aside is not None for candidate in candidates)
            told = (len(candidates), self._generator, self._seconds["generating"], failed)
            logger.info("generated %d candidates with %s in %.2f s, %d set aside", *told)

    def _pays(self) -> bool:
        """Return whether to score what waits before the next candidate is taken."""
        if not self._waiting:
            return False
        if len(self._waiting) >= _MOST_WAITING:
            return True
        if not self._memory.is_stored and sum(audio.duration for _, audio in self._waiting) >= _MOST_HELD:
            return True
        # those that the generator has finished come first: they would be lost to a stop while others are scored
        if self.report.ready > self._taken:
            return False
        return time.monotonic() - self._waiting_since >= _PATIENCE

    def _in_order(self, source: Iterable[Candidate]) -> Iterator[Candidate]:
        """Yield the candidates of the source, and those known before at their places among them.

        The filter for duplicates compares with those of lower index: a run that was stopped and gone on with is filtered
        as one that was not.
        """
        upcoming, known = iter(source), self._memory.known
        while True:
            place = len(self._memory.candidates)
            if place in known:
                yield known[place]
                continue
            started = time.perf_counter()
            if not self._waiting:
                self._waiting_since = time.monotonic()
            with self.stop.interruptible():
                candidate = next(upcoming, None)
            self._seconds[self._collecting] += time.perf_counter() - started
            if candidate is None:
                break
            self._taken += 1
            yield candidate
        for index in sorted(known):
            yield known[index]

    def _collect(self, candidate: Candidate, duration: float | None) -> Iterator[Event]:
        """Filter and store one candidate; it then waits for its rewards, has them already, or is set aside."""
        memory = self._memory
        new = memory.known.pop(candidate.index, None) is None
        if not new and self._again:
            candidate = reopened(candidate, self._panel, heard=self._heard_before)
        elif not new:
            candidate = asked_again(candidate, heard=self._heard_before)
        lacks = self._panel.lacks(candidate.rewards)
        unheard = new or not self._heard_before
        audio = None
        if candidate.is_removed:
            if lacks and candidate.set_aside is None:
                candidate = replace(candidate, set_aside="not scored: its file was removed")
        elif candidate.audio is not None and candidate.set_aside is None and (unheard or lacks):
            candidate, audio = heard(candidate, exact=new and candidate.seed is not None)
        if audio is not None and unheard:
            fault = sound_fault(audio, self._filters, duration) or self._duplicates.fault(candidate.index, audio)
            candidate = replace(candidate, set_aside=fault)
        if candidate.set_aside is None and not candidate.rewards and not self._panel.completes({}):
            # its first reward is not asked for: it does not belong among those that have it
            candidate = replace(candidate, set_aside="not scored: its reward model was not asked")
        waits = candidate.set_aside is None and lacks
        if candidate.set_aside is None and not lacks:
            candidate = replace(candidate, set_aside=reward_fault(candidate.rewards, self._filters))
        if audio is not None and new and memory.is_stored:
            candidate = replace(candidate, audio=audio)  # read once, not again for its file
        place = len(memory.candidates)
        # first collected, then stored: what stops between the two loses nothing
        memory.candidates.append(candidate)
        if waits and audio is not None:
            self._waiting.append((place, audio))
        memory.store()
        if waits and held_together((one for _, one in self._waiting), _HELD) < len(self._waiting):
            # where there is a file, it holds the same samples to the bit, and is read again
            self._waiting[-1] = (place, memory.candidates[place].audio or self._waiting[-1][1])
        memory.write()
        candidate = memory.candidates[place]
        if new and candidate.audio is not None:
            yield Made(candidate)
        if candidate.set_aside is not None:
            yield SetAside(candidate)

    def _score(self, *, rest: bool = False, until: float = math.inf) -> Iterator[Event]:
        """Have those that wait scored in groups: full groups, or the `rest` too; none is begun after `until`."""
        size = self._panel.batch_size
        least = 1 if rest else size
        while len(self._waiting) >= least and time.monotonic() < until:
            self._scoring = True
            self.report.begin("rewarding")
            group = self._waiting[: held_together((audio for _, audio in self._waiting), size)]
            started = time.perf_counter()
            known = [self._memory.candidates[place].rewards for place, _ in group]
            results = self._asked([audio.loaded() for _, audio in group], known)
            with self.stop.interruptible():
                # all at once: what a reward model has answered is not lost to a stop between two answers
                self._answers = list(zip([place for place, _ in group], results, strict=True))
            while self._answers:
                candidate = self._take_answer()
                yield Scored(candidate) if candidate.set_aside is None else SetAside(candidate)
                self.report.finished("rewarding", len(self._memory.candidates) - len(self._waiting))
            self._seconds["rewarding"] += time.perf_counter() - started
            self._memory.write()
            self._scoring = False
        if rest and not self._waiting:  # what was set aside has been through it, too
            self.report.finished("rewarding", len(self._memory.candidates))

    def _take_answer(self) -> Candidate:
        """Give the first that waits its rewards."""
        place, (rewards, faults) = self._answers.pop(0)
        self._waiting.pop(0)
        return self._with_rewards(place, rewards, faults)

    def _keep_answers(self) -> None:
        while self._answers:
            self._take_answer()

    def _with_rewards(self, place: int, rewards: Rewards, faults: Mapping[str, str]) -> Candidate:
        """Give a candidate its rewards, or set it aside."""
        self._asked_for += 1
        finite = {axis: _finite(reward) for axis, reward in rewards.items()}
        fault = not_finite(rewards) or reward_fault(finite, self._filters)
        why = {name: text.removeprefix("reward failed: ") for name, text in faults.items()}
        if len(faults) == len(self._panel.infos):
            self._failures.append(next(iter(faults.values())))
        if faults and not finite:
            told = "; ".join(f"{name} gave no reward: {text}" for name, text in why.items())
            fault = self._failures[-1] if len(faults) == 1 else f"reward failed: {told}"
            why = {}
        asked = {info.name for info in self._panel.infos}
        before = {name: text for name, text in self._memory.candidates[place].faults.items() if name not in asked}
        return self._memory.update(place, rewards=finite, set_aside=fault, faults=before | why)

    def _check_rewarded(self) -> None:
        """Raise RewardFailed where the reward models failed on all that they were asked about."""
        name, everything = self._panel.name, (*self._memory.candidates, *self._memory.known.values())
        judged = any(self._panel.has_judged(candidate.rewards) for candidate in everything)
        if self._failures and len(self._failures) == self._asked_for and not self._waiting and not judged:
            raise RewardFailed(
                f"reward model {name!r} failed on all {len(self._failures)} candidates; the first: {self._failures[0]}"
            )
        if self._asked_for:
            logger.info("rewarded %d candidates with %s in %.2f s", self._asked_for, name, self._seconds["rewarding"])

    @contextlib.contextmanager
    def _kept_on_failure(self) -> Iterator[None]:
        """Where the block fails, store what there is, as far as that is possible, with the reason for what is not."""
        try:
            yield
        except (GeneratorExit, KeyboardInterrupt):  # whoever took the events wants no more
            self._memory.keep("interrupted", "interrupted before it")
            raise
        except CallbackFailed as failed:
            self._memory.keep("failed", one_line(failed.error))
            raise failed.error from None
        # whatever it is: it goes on to the caller
        except BaseException as error:
            self._memory.keep("failed", one_line(error))
            raise


def _nothing_made(candidates: Sequence[Candidate], generator: str | None) -> RerankError:
    first = candidates[0].set_aside or "" if candidates else "there was none"
    if generator is None:
        return UnreadableAudio(first.removeprefix("cannot be read: "))
    return GenerationFailed(f"generator {generator!r} failed on all {len(candidates)} candidates; the first: {first}")


def _finite(reward: float | None) -> float | None:
    return reward if reward is not None and math.isfinite(reward) else None
