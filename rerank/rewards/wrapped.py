"""`wrap_reward`: any function that judges audio becomes a reward model.

**Conventions**: sample rates in Hz, waveforms float32 `[channels, time]` in [-1, 1]; higher rewards are better.
"""

import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rerank.audio import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, Audio, resample
from rerank.data import Prompt, check_whole
from rerank.errors import InvalidInput, UnknownName
from rerank.names.function import check_function, checked_conditions, keywords_of, name_of
from rerank.protocols import Axis, Condition, Reward, RewardInfo

_MAX_BATCH_SIZE = 1024

Rewards = dict[str, float | None]


def wrap_reward(
    function: Callable[..., Any],
    *,
    axes: Mapping[str, str | Axis],
    sample_rate: int,
    name: str | None = None,
    conditions: Iterable[Condition] = ("text",),
    licence: str = "unknown",
    version: str = "",
    batch_size: int | None = None,
) -> Reward:
    """Return a reward model that judges each piece of audio by a function of yours.

    The function is called as `function(prompt, audio)`: the text of the prompt (a str) and a `rerank.Audio`, whose
    `waveform` is a numpy array at the `sample_rate` that you name. It returns a number, or a dict with a number for
    each axis; None stands for a reward that does not apply. With "lyrics" or "reference" among the `conditions` it also
    gets `lyrics=` (a str) or `reference=` (a `rerank.Audio`), None where the prompt has none. With `conditions=()` it
    judges the audio alone, and the text is empty.

    What it raises costs the candidate, not the run; so does a result that is no reward. An axis that needs a part which
    the prompt lacks (`Axis.applies`) is None, whatever the function returns, and where no axis is left it is not called.

    With a `batch_size` it is called with a list of up to that many pieces of audio, and returns a list with what it
    would return for each.

    A model that has work to do on the prompt alone is better a class with `prepare` (`rerank.protocols.Reward`), which
    does it once for all candidates. `rerank.testing.check_reward` tells whether the promises are kept.

    Args:
        function: judges: a function, a method, or any object that can be called.
        axes: name of each reward -> what it means, in a sentence, or an `Axis` that says more.
        sample_rate: that it listens at, 8,000 to 192,000 Hz; audio at other rates is resampled (soxr) before.
        name: of the reward model, in rankings and messages; that of the function by default.
        conditions: the parts of a prompt that it reads: "text", "lyrics", "reference".
        licence: of its weights.
        version: tells it from others of the same name: change it with everything that changes its rewards.
        batch_size: how many pieces it takes at once; left out, it takes one.

    Raises:
        InvalidInput: an option cannot be used, or the function does not take these arguments.

    >>> def quiet(prompt, audio):
    ...     return -float(abs(audio.waveform).mean())
    >>> reward = wrap_reward(quiet, axes={"quiet": "how quiet it is"}, sample_rate=16000, conditions=())
    >>> import numpy as np
    >>> reward.score(reward.prepare(Prompt("a hum")), [Audio(np.full((1, 16000), 0.5, np.float32), 16000)])
    [{'quiet': -0.5}]
    """
    parts = checked_conditions(conditions)
    keywords = keywords_of(parts)
    batched = batch_size is not None
    check_function("wrap_reward", function, {"prompt": "", "audio": [_EXAMPLE] if batched else _EXAMPLE}, keywords)
    check_whole("sample_rate", sample_rate, MIN_SAMPLE_RATE, MAX_SAMPLE_RATE)
    if batch_size is not None:
        check_whole("batch_size", batch_size, 1, _MAX_BATCH_SIZE)
    info = RewardInfo(
        name=name or name_of(function),
        axes=_checked_axes(axes, parts),
        sample_rate=int(sample_rate),
        conditions=parts,
        licence=licence,
        version=version,
        options={} if batch_size is None else {"batch_size": int(batch_size)},
        batch_size=int(batch_size or 1),
    )
    return _Wrapped(function, info, keywords, batched)


_EXAMPLE = object()
"""In the place of audio, where only the number of arguments counts."""


@dataclass(frozen=True)
class _Asked:
    """What the function is told of a prompt, and the axes that the prompt has all parts for."""

    text: str
    extra: Mapping[str, Any]
    axes: frozenset[str]


class _Wrapped:
    """The reward model that `wrap_reward` returns."""

    def __init__(self, function: Callable[..., Any], info: RewardInfo, keywords: Sequence[str], batched: bool) -> None:
        self.info = info
        self._function, self._keywords, self._batched = function, keywords, batched

    def prepare(self, prompt: Prompt) -> _Asked:
        """Read the parts that the function is told."""
        here = prompt.conditions()
        return _Asked(
            text=prompt.text if "text" in self.info.conditions else "",
            extra={keyword: getattr(prompt, keyword) for keyword in self._keywords},
            axes=frozenset(name for name, axis in self.info.axes.items() if axis.applies(here)),
        )

    def score(self, prepared: _Asked, audio: Sequence[Audio]) -> list[Rewards]:
        """Return what the function gives for each piece of audio, checked."""
        if not prepared.axes:
            return [dict.fromkeys(self.info.axes) for _ in audio]
        rewards = []
        for start in range(0, len(audio), self.info.batch_size):
            # copies: the function may do with them what it likes
            heard = [
                Audio(resample(piece, self.info.sample_rate).waveform.copy(), self.info.sample_rate)
                for piece in audio[start : start + self.info.batch_size]
            ]
            rewards += [self._checked(one, prepared.axes) for one in self._asked(prepared, heard)]
        return rewards

    def _asked(self, prepared: _Asked, heard: list[Audio]) -> list[Any]:
        if not self._batched:
            return [self._function(prepared.text, piece, **prepared.extra) for piece in heard]
        found = self._function(prepared.text, heard, **prepared.extra)
        count = len(found) if hasattr(found, "__len__") and not isinstance(found, str | Mapping) else None
        if count != len(heard):
            came = type(found).__name__ if count is None else f"{count} results"
            raise InvalidInput(
                f"{self.info.name} returned {came} for {len(heard)} pieces of audio; return a list with one for each, "
                "or leave out batch_size"
            )
        return list(found)

    def _checked(self, found: Any, applying: frozenset[str]) -> Rewards:
        """Return what the function gave for one piece as rewards by axis."""
        axes = list(self.info.axes)
        if not isinstance(found, Mapping):
            if len(axes) > 1:
                raise InvalidInput(
                    f"{self.info.name} returned {_described(found)}; return a dict with: {', '.join(axes)}"
                )
            found = {axes[0]: found}
        if set(found) != set(axes):
            got = ", ".join(map(str, found)) or "nothing"
            raise InvalidInput(f"{self.info.name} returned a dict with {got}; return one with: {', '.join(axes)}")
        numbers_ = {axis: self._number(axis, found[axis]) for axis in axes}
        return {axis: value if axis in applying else None for axis, value in numbers_.items()}

    def _number(self, axis: str, value: Any) -> float | None:
        if value is None:
            return None
        if getattr(value, "shape", None) == () and hasattr(value, "item"):
            value = value.item()  # of numpy or torch
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise InvalidInput(f"{self.info.name} returned {_described(value)} for {axis}; return a float or None")
        try:
            return float(value)
        except OverflowError as error:
            raise InvalidInput(
                f"{self.info.name} returned a number for {axis} that is too large for a float"
            ) from error


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" if shape is None else f"a {type(value).__name__} of shape {tuple(shape)}"


def _checked_axes(axes: Mapping[str, str | Axis], conditions: frozenset[Condition]) -> dict[str, Axis]:
    if not isinstance(axes, Mapping) or not axes:
        raise InvalidInput(
            f"axes must be a dict of names and meanings, got {axes!r}; pass {{'groove': 'how it swings'}}"
        )
    found = {}
    for name, axis in axes.items():
        if not isinstance(name, str) or not name.strip() or not isinstance(axis, str | Axis):
            raise InvalidInput(f"axes holds {name!r}: {axis!r}; expected a name and its meaning as texts, or an Axis")
        found[name] = Axis(meaning=axis) if isinstance(axis, str) else axis
        for part in (found[name].needs | found[name].needs_any) - conditions:
            raise UnknownName.among(
                f"need of axis {name!r}, which is no condition of the reward model:", part, conditions
            )
    return found
