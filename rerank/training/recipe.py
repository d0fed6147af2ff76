"""What the training loop asks of a recipe: a model, the stages of its training, and the losses of each step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from rerank.protocols import Progress

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Stage:
    """A part of a training run.

    Attributes:
        name: that progress goes by.
        steps: its length.
        averaged: whether the running mean takes its weights in.
    """

    name: str
    steps: int
    averaged: bool = False


class Recipe(Protocol):
    """What is learnt, and from what."""

    @property
    def model(self) -> nn.Module:
        """What is trained, and whose running mean is the result."""
        ...

    @property
    def helpers(self) -> Mapping[str, nn.Module]:
        """What is trained along with it and thrown away at the end, by name."""
        ...

    @property
    def stages(self) -> Sequence[Stage]:
        """The stages of the run, in order; at least one is averaged."""
        ...

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        ...

    def begin(self, stage: str, on_progress: OnProgress) -> None:
        """Get ready for a step of this stage; called before each, so what is ready already must cost nothing."""
        ...

    def losses(self, stage: str, step: int) -> dict[str, Tensor]:
        """Return the losses of a step by name, on the device of the model; their sum is made smaller."""
        ...
