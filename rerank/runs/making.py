"""Candidates from a generator, one for each seed, whatever the generator does."""

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rerank.audio import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, Audio
from rerank.data import Candidate, Prompt
from rerank.errors import GenerationFailed, one_line, plain
from rerank.protocols import Generator, GeneratorInfo, Progress
from rerank.runs.reporting import ProgressCallback, Reporter

logger = logging.getLogger("rerank")


def candidates(
    generator: Generator,
    prompt: Prompt,
    seed: int,
    indices: Sequence[int],
    duration: float,
    report: Reporter,
    timeout: float | None = None,
) -> Iterator[Candidate]:
    """Yield the candidates of these indices, in order; where the generator fails, one without audio that says why.

    Args:
        generator: that makes them.
        prompt: as far as it follows it.
        seed: of candidate 0.
        indices: of the candidates.
        duration: of each, in seconds.
        report: is told how far it is.
        timeout: the seconds that it has for each, after which it is asked to stop; None for no limit.
    """
    seeds = [seed + index for index in indices]
    position, together = 0, len(seeds)
    while position < len(seeds):
        asked, start = seeds[position : position + together], position
        reason = "generation failed: the generator ended before it"
        try:
            pace = _Pace(report.within(position, len(asked)), len(asked), timeout)
            made = generator.generate(prompt, asked, duration, on_progress=pace)
            if not isinstance(made, Iterable):
                raise GenerationFailed(f"generate returned a {type(made).__name__}; expected an iterator of candidates")
            for due, candidate in zip(asked, made, strict=False):
                yield _numbered(candidate, indices[position], due, generator.info)
                position += 1
                pace.restart()
        except _TooSlow:
            reason = f"generation failed: it took longer than {timeout:g} s; allow more, or ask for a shorter one"
        # a generator is anybody's code: whatever it raises costs one candidate, which says so
        except (Exception, SystemExit) as error:
            logger.debug("generator %s failed on seed %d", generator.info.name, seeds[position], exc_info=True)
            reason = f"generation failed: {one_line(error)}"
        finished = position == start + len(asked)
        if not finished and len(asked) == 1:
            yield Candidate(index=indices[position], seed=asked[0], audio=None, set_aside=reason)
            position += 1
        # which of several it failed on, only each alone tells
        together = 1 if not finished and len(asked) > 1 else len(seeds)


class _TooSlow(BaseException):
    """Raised within a generator where a candidate takes too long; no Exception, so that it takes it for none of its own."""


class _Pace:
    """Passes the progress of a generator on, and asks it to stop where one candidate takes too long.

    Args:
        passed_on: is told each report.
        count: candidates that are made.
        timeout: seconds for each; None for no limit.
    """

    def __init__(self, passed_on: ProgressCallback, count: int, timeout: float | None) -> None:
        self._passed_on, self._count, self._timeout = passed_on, count, timeout
        self._worth = 0  # candidates that the progress amounts to
        self.restart()

    def restart(self) -> None:
        """Begin to measure the time of the next candidate: whoever took the last one may have kept it for long."""
        self._since = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        self._passed_on(progress)
        worth = int(progress.done / progress.total * self._count + 1e-9) if progress.total else 0
        if worth > self._worth:
            self._worth = worth
            self.restart()
        elif self._timeout is not None and time.monotonic() - self._since > self._timeout:
            raise _TooSlow


def _numbered(candidate: object, index: int, seed: int, info: GeneratorInfo) -> Candidate:
    """Return what a generator yielded for a seed as a candidate of the run, without audio where that cannot be used.

    Raises:
        GenerationFailed: it cannot be attributed to the seed.
    """
    if not isinstance(candidate, Candidate):
        raise GenerationFailed(f"it yielded a {type(candidate).__name__}; expected a rerank.Candidate")
    if candidate.seed != seed:
        raise GenerationFailed(
            f"it yielded seed {candidate.seed} where {seed} was due; test it with rerank.testing.check_generator"
        )
    reason = None if candidate.set_aside is None else plain(str(candidate.set_aside))
    fault = _audio_fault(candidate.audio, info) or _truth_fault(candidate.truth)
    if fault:
        return Candidate(
            index=index, seed=seed, audio=None, set_aside=reason or f"generation failed: {fault}", licence=info.licence
        )
    return Candidate(
        index=index,
        seed=seed,
        audio=candidate.audio,
        set_aside=reason,
        truth=candidate.truth,
        codes=candidate.codes,
        licence=info.licence,
    )


def _audio_fault(audio: object, info: GeneratorInfo) -> str | None:
    """Return why audio is not what the generator declares, in words; None where it is."""
    if not isinstance(audio, Audio):
        return "no audio" if audio is None else f"its audio is a {type(audio).__name__}, expected a rerank.Audio"
    if not MIN_SAMPLE_RATE <= audio.sample_rate <= MAX_SAMPLE_RATE:
        return f"its audio has {audio.sample_rate} Hz, expected {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz"
    if audio.channels != info.channels:
        return f"its audio has {audio.channels} channels; its generator declares {info.channels}"
    return None


def _truth_fault(truth: object) -> str | None:
    """Return why `ranking.json` cannot hold a truth, in words; None where it can."""
    if truth is None:
        return None
    if not isinstance(truth, Mapping):
        return f"its truth is a {type(truth).__name__}, expected a dict"
    try:
        json.dumps(dict(truth), allow_nan=False)
    # its keys and values are anybody's objects
    except Exception as error:
        logger.debug("a truth cannot be stored", exc_info=True)
        return f"JSON cannot hold its truth ({one_line(error)}); use plain numbers, text, lists and dicts only"
    return None
