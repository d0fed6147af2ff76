"""Asking a reward model: small batches, checked answers, and a failure that costs one candidate only."""

import logging
import math
import numbers
from collections.abc import Iterator, Mapping, Sequence

from rerank.audio import Audio
from rerank.data import Prompt
from rerank.errors import RerankError, RewardFailed, one_line
from rerank.protocols import PreparedPrompt, Reward

_BATCH = 4  # candidates scored together: enough to fill a processor, few enough for its memory

logger = logging.getLogger("rerank")

Rewards = dict[str, float | None]


def score_each(reward: Reward, prompt: Prompt, audio: Sequence[Audio]) -> Iterator[Rewards | str]:
    """Yield for each piece of audio, in order, its rewards by axis, or why it has none.

    The prompt is prepared once, before the first. A reward may be NaN or infinite: see `not_finite`.

    Raises:
        RewardFailed: the reward model cannot prepare the prompt, or breaks its protocol.
    """
    try:
        prepared = reward.prepare(prompt)
    except RerankError:
        raise
    except Exception as error:
        raise RewardFailed(f"reward model {reward.info.name!r} cannot read the prompt: {one_line(error)}") from error
    for start in range(0, len(audio), _BATCH):
        yield from _score(reward, prepared, audio[start : start + _BATCH])


def not_finite(rewards: Mapping[str, float | None]) -> str | None:
    """Return which reward is NaN or infinite, in words; None if none is."""
    for axis, value in rewards.items():
        if value is not None and not math.isfinite(value):
            return f"reward not finite: {axis} is {value}"
    return None


def _score(reward: Reward, prepared: PreparedPrompt, audio: Sequence[Audio]) -> Sequence[Rewards | str]:
    try:
        found = reward.score(prepared, audio)
    # a reward model is anybody's code: what it raises costs the candidate it was raised for, which says so
    except Exception as error:
        logger.debug("reward model %s failed", reward.info.name, exc_info=True)
        if len(audio) == 1:
            return [f"reward failed: {error if isinstance(error, RerankError) else one_line(error)}"]
        return [result for piece in audio for result in _score(reward, prepared, [piece])]
    return _checked(reward, found, len(audio))


def _checked(reward: Reward, found: Sequence[Mapping[str, float | None]], count: int) -> list[Rewards]:
    """Return the answer of a reward model, its axes in the order declared.

    Raises:
        RewardFailed: the answer breaks the protocol.
    """
    name, axes = reward.info.name, reward.info.axes
    if len(found) != count:
        raise RewardFailed(f"reward model {name!r} gave {len(found)} results for {count} candidates")
    for rewards in found:
        if set(rewards) != set(axes):
            raise RewardFailed(f"reward model {name!r} gave the axes {sorted(rewards)}; it declares {sorted(axes)}")
        for axis, value in rewards.items():
            if value is not None and not isinstance(value, numbers.Real):
                raise RewardFailed(f"reward model {name!r} gave {value!r} on axis {axis!r}; expected a float or None")
    return [{axis: _plain(rewards[axis]) for axis in axes} for rewards in found]


def _plain(value: float | None) -> float | None:
    return None if value is None else float(value)  # a numpy float is no JSON
