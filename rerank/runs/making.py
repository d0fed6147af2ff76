"""Candidates from a generator, one for each seed, whatever the generator does."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rerank.audio import Audio
from rerank.data import Candidate, Prompt
from rerank.errors import RerankError, one_line
from rerank.protocols import Generator, GeneratorInfo
from rerank.runs.reporting import Reporter

logger = logging.getLogger("rerank")


def candidates(
    generator: Generator, prompt: Prompt, seed: int, indices: Sequence[int], duration: float, report: Reporter
) -> Iterator[Candidate]:
    """Yield the candidates of these indices, in order; where the generator fails, one without audio that says why.

    Raises:
        RerankError: the generator yields something that cannot be attributed to its seed.
    """
    seeds = [seed + index for index in indices]
    position, together = 0, len(seeds)
    while position < len(seeds):
        asked, start = seeds[position : position + together], position
        reason = "generation failed: the generator ended before it"
        try:
            made = generator.generate(prompt, asked, duration, on_progress=report.within(position, len(asked)))
            for due, candidate in zip(asked, made, strict=False):
                yield _numbered(candidate, indices[position], due, generator.info)
                position += 1
        except _BrokenPromise:
            raise
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
