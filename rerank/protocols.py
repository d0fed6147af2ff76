"""The two seams: what a text-to-music generator and a reward model implement to work with `rerank`.

Both are plain protocols: a class needs the attributes and methods below and no base class. Add one from another
package by an entry point in the group `rerank.generators` or `rerank.rewards`, and test it with
`rerank.testing.check_generator` or `rerank.testing.check_reward`.

**Conventions**: durations in seconds, sample rates in Hz, waveforms float32 `[channels, time]` in [-1, 1].
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from rerank.audio import Audio
from rerank.data import Candidate, Prompt

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
        licence: of the weights (and so of what may be done with its audio).
    """

    name: str
    sample_rate: int
    channels: int
    max_duration: float
    min_duration: float = 1.0
    conditions: frozenset[Condition] = frozenset({"text"})
    licence: str = "unknown"


@dataclass(frozen=True, kw_only=True)
class RewardInfo:
    """What a reward model is and reads.

    Attributes:
        name: the name it is loaded by.
        axes: name of each reward -> what it means, in one sentence; higher is better.
        sample_rate: that it listens at, in Hz; audio at other rates is resampled by the reward model.
        conditions: the parts of a prompt that it reads.
        licence: of the weights.
        version: tells its weights from others of the same name, such as the start of their SHA-256.
    """

    name: str
    axes: Mapping[str, str]
    sample_rate: int
    conditions: frozenset[Condition] = frozenset({"text"})
    licence: str = "unknown"
    version: str = ""


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
