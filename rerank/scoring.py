"""Asking a reward model: small batches, checked answers, and a failure that costs one candidate only."""

import logging
import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from rerank.audio import Audio
from rerank.batching import Batches
from rerank.data import Prompt, check_whole
from rerank.errors import RerankError, RewardFailed, one_line, plain
from rerank.protocols import PreparedPrompt, Reward

_MAX_BATCH_SIZE = 1024

Rewards = dict[str, float | None]

logger = logging.getLogger("rerank")


class Scorer:
    """Asks one reward model about the candidates of one prompt, as many at a time as it says.

    A reward model is not asked where none of its axes applies to a prompt with these parts: all of them are None.

    Args:
        reward: the reward model.
        prompt: of all candidates; it is prepared once, when the first of them is scored.

    Raises:
        InvalidInput: the reward model wants batches of a size that is none.
    """

    def __init__(self, reward: Reward, prompt: Prompt) -> None:
        self._reward, self._prompt = reward, prompt
        size = reward.info.batch_size
        check_whole(f"batch_size of reward model {reward.info.name!r}", size, 1, _MAX_BATCH_SIZE)
        self._batches = Batches(int(size))  # what it learns of the memory holds for all candidates
        present = prompt.conditions()
        self._applies = any(axis.applies(present) for axis in reward.info.axes.values())

    def __call__(self, audio: Sequence[Audio]) -> Iterator[Rewards | str]:
        """Yield for each piece of audio, in order, its rewards by axis, or why it has none.

        Where the reward model fails on several together, they are scored in halves, so that only those without rewards
        are lost that it fails on by themselves. An answer that breaks its protocol is a failure too. A reward may be NaN
        or infinite: see `not_finite`.

        Raises:
            RewardFailed: the reward model cannot prepare the prompt.
        """
        if not self._applies:
            yield from (dict.fromkeys(self._reward.info.axes) for _ in audio)
            return
        prepared = self._prepared

        def ask(batch: Sequence[Audio]) -> Sequence[Rewards | str]:
            try:
                return self._checked(self._reward.score(prepared, batch), len(batch))
            except SystemExit as error:  # of its code: a request to stop arrives as KeyboardInterrupt
                raise RewardFailed(f"it tried to end the process: {one_line(error)}") from error

        yield from self._batches(audio, ask, alone=_reason)

    @cached_property
    def _prepared(self) -> PreparedPrompt:
        try:
            return self._reward.prepare(self._prompt)
        except RerankError:
            raise
        # a reward model is anybody's code, here and where it scores
        except (Exception, SystemExit) as error:
            name = self._reward.info.name
            raise RewardFailed(f"reward model {name!r} cannot read the prompt: {one_line(error)}") from error

    def _checked(self, found: object, count: int) -> list[Rewards | str]:
        """Return the answers of a reward model, or what is wrong with one of them.

        Raises:
            RewardFailed: there is not one for each candidate.
        """
        if not isinstance(found, Sequence) or isinstance(found, str | bytes):
            raise RewardFailed(f"it gave a {type(found).__name__}; expected a list of dicts")
        if len(found) != count:
            raise RewardFailed(f"it gave {len(found)} results for {count} candidates")
        return [self._answer(rewards) for rewards in found]

    def _answer(self, rewards: object) -> Rewards | str:
        """Return the rewards of one candidate, its axes in the order declared, or why it has none."""
        axes = self._reward.info.axes
        try:
            if not isinstance(rewards, Mapping):
                raise RewardFailed(f"it gave a list of {type(rewards).__name__}; expected dicts")
            if set(rewards) != set(axes):
                given = plain(", ".join(sorted(map(str, rewards)))) or "none"
                raise RewardFailed(f"it gave the axes {given}; it declares {', '.join(sorted(axes))}")
            return {axis: _number(rewards[axis], axis) for axis in axes}
        # what it gave is anybody's object
        except Exception as error:
            logger.debug("reward model %s gave what is no reward", self._reward.info.name, exc_info=True)
            return _reason(error)


def score_each(reward: Reward, prompt: Prompt, audio: Sequence[Audio]) -> Iterator[Rewards | str]:
    """Yield for each piece of audio what a `Scorer` made for this call gives; the prompt is prepared again each time.

    Raises:
        InvalidInput, RewardFailed: as `Scorer`.
    """
    yield from Scorer(reward, prompt)(audio)


def not_finite(rewards: Mapping[str, float | None]) -> str | None:
    """Return which reward is NaN or infinite, in words; None if none is."""
    for axis, value in rewards.items():
        if value is not None and not math.isfinite(value):
            return f"reward not finite: {axis} is {value}"
    return None


def _reason(error: Exception) -> str:
    return f"reward failed: {one_line(error)}"


def _number(value: object, axis: str) -> float | None:
    """Return a reward as a plain float, since a numpy float is no JSON."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise RewardFailed(f"it gave {value!r:.60} on axis {axis!r}; expected a float or None")
    try:
        return float(value)
    except OverflowError as error:
        raise RewardFailed(f"it gave a number on axis {axis!r} that is too large for a float") from error
