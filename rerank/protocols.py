"""The two seams: what a text-to-music generator and a reward model implement to work with `rerank`.

Both are plain protocols: a class needs the attributes and methods below and no base class. Add one from another
package by an entry point in the group `rerank.generators` or `rerank.rewards`, and test it with
`rerank.testing.check_generator` or `rerank.testing.check_reward`.

**Conventions**: durations in seconds, sample rates in Hz, waveforms float32 `[channels, time]` in [-1, 1].
"""

import bisect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from rerank.audio import Audio
from rerank.data import Candidate, Prompt, is_number
from rerank.errors import InvalidInput

Condition = Literal["text", "lyrics", "reference"]

PreparedPrompt = Any
"""What `Reward.prepare` made of a prompt; only the reward model that made it looks inside."""


@dataclass(frozen=True, kw_only=True)
class GeneratorInfo:
    """What a generator is and can do.

    Attributes:
        name: the name it is loaded by.
        sample_rate: of its audio, in Hz.
        channels: of its audio.
        max_duration: the longest candidate it makes, in seconds.
        min_duration: the shortest candidate it makes, in seconds.
        conditions: the parts of a prompt that it follows; the others reach only the reward model.
        languages: of a text that it reads, by their ISO 639-1 codes; none where that is not known.
        licence: of the weights (and so of what may be done with its audio).
        version: tells its weights or code from others of the same name: two that could make other audio have another.
        options: name -> value in force, of all options that can change the audio; plain JSON values.
        device: that it computes on, such as "cpu" or "cuda:0": another kind of device rounds differently.
    """

    name: str
    sample_rate: int
    channels: int
    max_duration: float
    min_duration: float = 1.0
    conditions: frozenset[Condition] = frozenset({"text"})
    languages: tuple[str, ...] = ()
    licence: str = "unknown"
    version: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str = ""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One thing that a reward model gives a number for; higher is better.

    Attributes:
        meaning: in one sentence.
        needs: the parts of a prompt without which there is no such reward: it is then None.
        needs_any: the parts of which one at least must be there, or there is no such reward either.
        weight: of the axis in the combined reward, where the user gives no weights.
        low, high: between which every reward lies; None where there is no bound.
    """

    meaning: str
    needs: frozenset[Condition] = frozenset()
    needs_any: frozenset[Condition] = frozenset()
    weight: float = 1.0
    low: float | None = None
    high: float | None = None

    def applies(self, conditions: Collection[str]) -> bool:
        """Return whether there is such a reward for a prompt with these parts.

        >>> Axis(meaning="how well it fits", needs_any=frozenset({"text", "lyrics"})).applies(["lyrics"])
        True
        """
        return self.needs.issubset(conditions) and (not self.needs_any or not self.needs_any.isdisjoint(conditions))


@dataclass(frozen=True, kw_only=True)
class Norms:
    """How the rewards of a set of takes are spread, which tells where another take would stand among them.

    Attributes:
        takes: which takes, in words, such as "2,000 takes by synth".
        quantiles: name of an axis -> the rewards that 0 to 1 of the takes are below, at even steps; two at least.

    Raises:
        InvalidInput: the quantiles of an axis are fewer, not finite, or fall.
    """

    takes: str
    quantiles: Mapping[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        for axis, steps in self.quantiles.items():
            if len(steps) < 2 or not all(map(is_number, steps)) or list(steps) != sorted(steps):
                raise InvalidInput(
                    f"the quantiles of {axis!r} must be two or more finite numbers that do not fall, got {steps!r:.40}"
                )
        plain = {axis: tuple(map(float, steps)) for axis, steps in self.quantiles.items()}
        object.__setattr__(self, "quantiles", plain)

    def share_below(self, axis: str, reward: float) -> float | None:
        """Return the share of the takes that have a lower reward on an axis; None where the axis has no norms.

        >>> Norms(takes="three takes", quantiles={"musicality": (0.0, 1.0, 4.0)}).share_below("musicality", 2.5)
        0.75
        """
        steps = self.quantiles.get(axis)
        if steps is None:
            return None
        after = bisect.bisect_right(steps, reward)
        if after in (0, len(steps)):
            return float(after > 0)
        low, high = steps[after - 1], steps[after]
        return (after - 1 + (reward - low) / (high - low)) / (len(steps) - 1)


@dataclass(frozen=True, kw_only=True)
class RewardInfo:
    """What a reward model is and reads.

    Attributes:
        name: the name it is loaded by.
        axes: name of each reward -> what it is; a plain text in place of an `Axis` becomes its meaning.
        sample_rate: that it listens at, in Hz; audio at other rates is resampled by the reward model.
        conditions: the parts of a prompt that it reads; none for one that judges the audio alone.
        languages: of a text that it reads, by their ISO 639-1 codes; none where that is not known.
        licence: of the weights.
        version: tells its weights from others of the same name, such as the start of their SHA-256.
        encoders: names of the published networks it rests on: judges that share one do not judge independently.
        trained_on: names of the data it learned from, for the same reason.
        calibration: how likely the one of two with the higher combined reward is the better one, per unit of the gap
            between them: the slope of the log odds; None where nobody measured it.
        norms: where rewards of a known set of takes lie; None where nobody measured it.
        options: name -> value in force, of all options that can change a reward; plain JSON values.
        device: that it computes on, such as "cpu" or "cuda:0".
        precision: that it computes in, such as "float32".
        batch_size: how many pieces of audio it is given at a time. 1 suits a processor where several together are no
            faster; the rewards of a piece are then the same to the bit whatever is scored with it.

    Raises:
        InvalidInput: the calibration is no number above 0, or the norms are no `Norms`.
    """

    name: str
    axes: Mapping[str, Axis]
    sample_rate: int
    conditions: frozenset[Condition] = frozenset({"text"})
    languages: tuple[str, ...] = ()
    licence: str = "unknown"
    version: str = ""
    encoders: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()
    calibration: float | None = None
    norms: Norms | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str = ""
    precision: str = ""
    batch_size: int = 4

    def __post_init__(self) -> None:
        axes = {name: Axis(meaning=axis) if isinstance(axis, str) else axis for name, axis in self.axes.items()}
        object.__setattr__(self, "axes", axes)
        if self.calibration is not None and not (is_number(self.calibration) and self.calibration > 0):
            raise InvalidInput(f"calibration of {self.name!r} must be a number above 0, got {self.calibration!r:.40}")
        if self.norms is not None and not isinstance(self.norms, Norms):
            raise InvalidInput(f"norms of {self.name!r} must be rerank.protocols.Norms, got {self.norms!r:.40}")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a generator made of a prompt before it makes any sound.

    Attributes:
        understood: wishes that it follows, each in the words of the prompt or in its own.
        ignored: words of the prompt that say nothing to it.
        not_followed: parts of the prompt of which it can follow nothing.
    """

    understood: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    not_followed: tuple[Condition, ...] = ()


@runtime_checkable
class ReadsPrompts(Protocol):
    """What a generator may offer beside `Generator`: it knows what it understands of a prompt, and says so."""

    def reading(self, prompt: Prompt) -> Reading:
        """Return what it understands of a prompt, and what it ignores."""
        ...


@dataclass(frozen=True)
class Progress:
    """How far a long job is: `done` of `total` steps of `phase` ("generating", "rewarding", ...)."""

    phase: str
    done: int
    total: int


@runtime_checkable
class Generator(Protocol):
    """Makes candidates for a prompt."""

    @property
    def info(self) -> GeneratorInfo:
        """What this generator is and can do."""
        ...

    def generate(
        self,
        prompt: Prompt,
        seeds: Sequence[int],
        duration: float,
        *,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Iterator[Candidate]:
        """Yield one candidate per seed, in the order of `seeds`, each as soon as it is finished.

        A candidate depends on the prompt, its own seed, the duration and the generator's options only: not on how
        many others are made with it. Its `index` is its position in `seeds`. An exception while one candidate is made
        costs that candidate; the caller goes on with the seeds after it.
        """
        ...


@runtime_checkable
class Reward(Protocol):
    """Gives each candidate one number per axis."""

    @property
    def info(self) -> RewardInfo:
        """What this reward model is and reads."""
        ...

    def prepare(self, prompt: Prompt) -> PreparedPrompt:
        """Do everything that depends on the prompt alone, once for all its candidates."""
        ...

    def score(self, prepared: PreparedPrompt, audio: Sequence[Audio]) -> list[dict[str, float | None]]:
        """Return one dict per audio, with a number for each axis of `info.axes`; None where an axis does not apply.

        The rewards of one audio do not depend on which others are scored with it.
        """
        ...
