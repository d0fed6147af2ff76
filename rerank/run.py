"""One run of best-of-N: collects candidates as they come, filters and stores them, has them scored, ranks them."""

import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rerank import __version__
from rerank.audio import Audio
from rerank.data import Candidate, Prompt, check_whole
from rerank.errors import GenerationFailed, InvalidInput, RerankError, RewardFailed, one_line
from rerank.filters import Duplicates, Filters, reward_fault, sound_fault
from rerank.protocols import Generator, GeneratorInfo, Progress, Reward, RewardInfo
from rerank.ranking import Ranking, Settings, Status, check_weights, normalise_weights
from rerank.run_folder import RunFolder
from rerank.scoring import not_finite, score_each

MAX_CANDIDATES = 1024

_STEPS = 100  # of progress per candidate

ProgressCallback = Callable[[Progress], None]

logger = logging.getLogger("rerank")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `generate` and `rank` share, checked before anything is loaded."""

    n: int
    top_k: int
    weights: Mapping[str, float] | None
    filters: Filters
    offered: Mapping[str, Any]

    @classmethod
    def checked(
        cls,
        n: int,
        top_k: int | None,
        weights: Mapping[str, float] | None,
        filters: Filters | None,
        device: str,
    ) -> "Options":
        check_whole("n", n, 1, MAX_CANDIDATES)
        if top_k is not None:
            check_whole("top_k", top_k, 1, n)
        if weights is not None:
            check_weights(weights)
        if filters is not None and not isinstance(filters, Filters):
            raise InvalidInput(
                f"filters must be a rerank.Filters, got {type(filters).__name__}; pass Filters(silent=-50)"
            )
        return cls(
            n=n,
            top_k=int(top_k or n),
            weights=weights,
            filters=filters or Filters(),
            offered=offered_device(device),
        )

    def check_axes(self, info: RewardInfo) -> None:
        """Refuse weights and floors for axes that a reward model does not have, and one without any."""
        if not info.axes:
            raise InvalidInput(f"reward model {info.name!r} has no axes, so it gives no rewards; choose another")
        self.filters.check_axes(info.axes)
        normalise_weights(self.weights, info.axes)


class Run:
    """One run: collects candidates, filters and stores them as they come, scores and ranks them."""

    def __init__(
        self,
        prompt: Prompt,
        options: Options,
        reward: Reward,
        folder: RunFolder | None,
        on_progress: ProgressCallback | None,
    ) -> None:
        self.prompt = prompt
        self.status: Status = "done"
        self.candidates: list[Candidate] = []
        self._stored = 0  # how many of them are on disk, if they go there
        self._reward, self._folder = reward, folder
        info = reward.info
        options.check_axes(info)
        self._filters = options.filters
        self._duplicates = Duplicates(self._filters.duplicate)
        self._report = Reporter(on_progress)
        self.settings = Settings(
            n=int(options.n),
            top_k=options.top_k,
            reward=info.name,
            reward_version=info.version,
            reward_licence=info.licence,
            weights=normalise_weights(options.weights, info.axes),
            filters=self._filters.to_dict(),
            not_read=tuple(part for part in prompt.conditions() if part not in info.conditions),
            rerank_version=__version__,
        )
        for part in self.settings.not_read:
            logger.warning("reward model %s does not read %s", info.name, part)
        if folder is not None:
            folder.make()

    def until_interrupted(self, step: Callable[[], None]) -> None:
        """Do a step; the first Ctrl-C of the run ends the step, the second one the run."""
        try:
            step()
        except KeyboardInterrupt:
            if self.status == "interrupted":
                raise
            self.status = "interrupted"
            logger.warning("interrupted: ranking the %d finished; Ctrl-C again to abort", len(self.candidates))

    @contextlib.contextmanager
    def kept_on_failure(self, settings: Settings) -> Iterator[None]:
        """Where the block fails, store what there is, as far as that is possible, with the reason for what is not."""
        try:
            yield
        except KeyboardInterrupt:
            if self._folder is not None:
                self._folder.leave()
            raise
        # whatever it is: it goes on to the caller
        except Exception as error:
            if self._folder is not None and any(candidate.audio for candidate in self.candidates):
                # the disk may be what failed: then the first error tells more than the second
                with contextlib.suppress(Exception):
                    self._set_unscored_aside(str(error) if isinstance(error, RerankError) else one_line(error))
                    self._store_ranking(self._folder, settings, "failed")
            if self._folder is not None:
                self._folder.leave()
            raise

    def generate(self, generator: Generator, prompt: Prompt, seeds: Sequence[int], duration: float) -> None:
        """Collect one candidate per seed."""
        started = time.perf_counter()
        self._report.begin("generating", len(seeds))
        for candidate in _candidates(generator, prompt, seeds, duration, self._report):
            self._add(candidate, duration)
            self._report.finished(len(self.candidates))
        failed = sum(candidate.set_aside is not None for candidate in self.candidates)
        logger.info(
            "generated %d candidates with %s in %.2f s, %d set aside",
            len(self.candidates),
            generator.info.name,
            time.perf_counter() - started,
            failed,
        )

    def take(self, audio: Sequence[Audio]) -> None:
        """Collect audio made elsewhere."""
        for index, piece in enumerate(audio):
            self._add(Candidate(index=index, seed=None, audio=piece, path=piece.path), None)

    def check_generated(self, name: str) -> None:
        """Refuse to go on without a single candidate.

        Raises:
            GenerationFailed: the generator failed on all of them.
            KeyboardInterrupt: the user stopped before the first was finished.
        """
        if any(candidate.audio for candidate in self.candidates):
            return
        if self.status == "interrupted":
            raise KeyboardInterrupt
        raise GenerationFailed(
            f"generator {name!r} failed on all {len(self.candidates)} candidates; the first: "
            f"{self.candidates[0].set_aside}"
        )

    def finish(self, settings: Settings) -> Ranking:
        """Score, rank and store what was collected."""
        if not self.candidates:  # interrupted before the first
            raise KeyboardInterrupt
        self._store()
        waiting = [place for place, candidate in enumerate(self.candidates) if candidate.set_aside is None]
        if waiting:
            self.until_interrupted(lambda: self._score(waiting))
        self._set_unscored_aside("interrupted before it")
        if self._folder is None:
            return Ranking.of(self.prompt, self.candidates, settings, self.status)
        return self._store_ranking(self._folder, settings, self.status)

    def _store_ranking(self, folder: RunFolder, settings: Settings, status: Status) -> Ranking:
        """Store the ranking; that of a run which is not done does not replace an earlier one."""
        complete = status == "done"
        home = folder.path if complete else folder.place
        for place, candidate in enumerate(self.candidates):
            if candidate.path and place < self._stored and candidate.audio:
                self._update(place, path=home / candidate.path.relative_to(folder.path))
        ranking = Ranking.of(self.prompt, self.candidates, settings, status)
        folder.write_document(ranking.to_dict(home), complete=complete)
        if folder.place != folder.path:
            logger.warning("%s keeps its earlier run; what the new one made is in %s", folder.path, folder.place)
        return ranking

    def _set_unscored_aside(self, reason: str) -> None:
        for place, candidate in enumerate(self.candidates):
            if not candidate.rewards and candidate.set_aside is None:
                self._update(place, set_aside=f"not scored: {reason}")

    def _add(self, candidate: Candidate, duration: float | None) -> None:
        audio = candidate.audio
        if audio is not None and candidate.set_aside is None:
            fault = sound_fault(audio, self._filters, duration) or self._duplicates.fault(candidate.index, audio)
            candidate = replace(candidate, set_aside=fault)
        # first collected, then stored: a Ctrl-C between the two does not lose what is finished
        self.candidates.append(candidate)
        self._store()

    def _store(self) -> None:
        """Write every candidate that is not on disk yet."""
        for place in range(self._stored, len(self.candidates)):
            candidate = self.candidates[place]
            if self._folder is not None and candidate.audio is not None:
                path = self._folder.write_candidate(candidate.audio, candidate.index, candidate.seed)
                self._update(place, path=path)
            self._stored = place + 1

    def _score(self, waiting: Sequence[int]) -> None:
        started = time.perf_counter()
        self._report.begin("rewarding", len(waiting))
        audio = [one for place in waiting if (one := self.candidates[place].audio) is not None]
        failures: list[str] = []
        results = score_each(self._reward, self.prompt, audio)
        for count, (place, result) in enumerate(zip(waiting, results, strict=True), start=1):
            if isinstance(result, str):
                failures.append(result)
                self._update(place, set_aside=result)
            else:
                finite = {axis: _finite(reward) for axis, reward in result.items()}
                fault = not_finite(result) or reward_fault(finite, self._filters)
                self._update(place, rewards=finite, set_aside=fault)
            self._report.finished(count)
        name, elapsed = self._reward.info.name, time.perf_counter() - started
        if len(failures) == len(waiting):
            raise RewardFailed(
                f"reward model {name!r} failed on all {len(waiting)} candidates; the first: {failures[0]}"
            )
        logger.info("rewarded %d candidates with %s in %.2f s", len(waiting), name, elapsed)

    def _update(self, place: int, **changes: Any) -> None:
        self.candidates[place] = replace(self.candidates[place], **changes)


class Reporter:
    """Passes progress on, in steps that only go up, whatever the generator reports."""

    def __init__(self, callback: ProgressCallback | None) -> None:
        self._callback = callback
        self.failure: Exception | None = None

    def begin(self, phase: Literal["generating", "rewarding"], total: int) -> None:
        """Start a phase of `total` candidates."""
        self._phase, self._total, self._done = phase, total, 0
        self._send(0)

    def finished(self, count: int) -> None:
        """Report that `count` candidates of the phase are finished."""
        self._send(count * _STEPS)

    def within(self, start: int) -> ProgressCallback:
        """Return the callback for a generator that makes the candidates from `start` on."""

        def passed_on(progress: Progress) -> None:
            share = progress.done / progress.total if progress.total else 0.0
            self._send(start * _STEPS + int(share * (self._total - start) * _STEPS))

        return passed_on

    def _send(self, done: int) -> None:
        self._done = min(max(done, self._done), self._total * _STEPS)
        if self._callback is None:
            return
        try:
            self._callback(Progress(self._phase, self._done, self._total * _STEPS))
        except Exception as error:
            self.failure = error  # the caller's own error, which must not pass for one of the generator
            raise


def _candidates(
    generator: Generator, prompt: Prompt, seeds: Sequence[int], duration: float, report: Reporter
) -> Iterator[Candidate]:
    """Yield one candidate per seed; where the generator fails, one without audio that says why, and go on."""
    position = 0
    while position < len(seeds):
        reason = "generation failed: the generator ended before it"
        try:
            made = generator.generate(prompt, seeds[position:], duration, on_progress=report.within(position))
            for seed, candidate in zip(seeds[position:], made, strict=False):
                yield _numbered(candidate, position, seed, generator.info)
                position += 1
        except _BrokenPromise:
            raise
        # a generator is anybody's code: whatever it raises costs one candidate, which says so
        except Exception as error:
            if report.failure is not None:
                raise report.failure from None
            logger.debug("generator %s failed on seed %d", generator.info.name, seeds[position], exc_info=True)
            reason = f"generation failed: {one_line(error)}"
        if position < len(seeds):
            yield Candidate(index=position, seed=seeds[position], audio=None, set_aside=reason)
            position += 1


class _BrokenPromise(RerankError):
    """A generator yields something that cannot be attributed to its seed."""


def _numbered(candidate: object, index: int, seed: int, info: GeneratorInfo) -> Candidate:
    name = info.name
    if not isinstance(candidate, Candidate):
        raise _BrokenPromise(f"generator {name!r} yielded a {type(candidate).__name__}; expected a rerank.Candidate")
    if candidate.seed != seed:
        raise _BrokenPromise(
            f"generator {name!r} yielded seed {candidate.seed} where {seed} was due; test it with "
            "rerank.testing.check_generator"
        )
    fault = _truth_fault(candidate.truth)
    if fault:
        raise _BrokenPromise(
            f"generator {name!r} yielded for seed {seed} a truth that JSON cannot hold ({fault}); use plain numbers, "
            "text, lists and dicts only"
        )
    audio: Any = candidate.audio
    reason = None if candidate.set_aside is None else str(candidate.set_aside)
    if not isinstance(audio, Audio):
        problem = "no audio" if audio is None else f"its audio is a {type(audio).__name__}, expected a rerank.Audio"
        audio, reason = None, reason or f"generation failed: {problem}"
    return Candidate(
        index=index,
        seed=seed,
        audio=audio,
        set_aside=reason,
        truth=candidate.truth,
        codes=candidate.codes,
        licence=info.licence,
    )


def _truth_fault(truth: object) -> str | None:
    if truth is None:
        return None
    if not isinstance(truth, Mapping):
        return f"it is a {type(truth).__name__}"
    try:
        json.dumps(dict(truth), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return one_line(error)
    return None


def offered_device(device: str) -> dict[str, Any]:
    """Return the option for generators and reward models that take a device; none for "auto", their own default."""
    return {} if device == "auto" else {"device": device}


def _finite(reward: float | None) -> float | None:
    return reward if reward is not None and math.isfinite(reward) else None
