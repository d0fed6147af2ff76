"""Options of a training run of `cmi-mini`."""

from dataclasses import dataclass, field

from rerank.errors import InvalidInput
from rerank.models.mini import MiniConfig


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of a training run.

    Attributes:
        seed: of everything.
        shards: of data.
        sung_shards: of more data, whose prompts all have lyrics.
        shard_prompts: prompts in a shard, with four clips each.
        tower_steps, lyrics_steps, preference_steps, truth_steps: length of the four stages.
        prompts: per step, with four candidates each.
        learning_rate: at its highest.
        processes: that render data.
        checkpoint_every: steps.
        model: sizes of the network.

    Raises:
        InvalidInput: one is out of its range, or the data would be too little for a step.
    """

    seed: int = 0
    shards: int = 60
    sung_shards: int = 60
    shard_prompts: int = 50
    tower_steps: int = 2000
    lyrics_steps: int = 600
    preference_steps: int = 500
    truth_steps: int = 1900
    prompts: int = 8
    learning_rate: float = 1.2e-3
    processes: int = 2
    checkpoint_every: int = 100
    model: MiniConfig = field(default_factory=lambda: MiniConfig(dropout=0.05))

    def __post_init__(self) -> None:
        counts = ("shards", "sung_shards", "shard_prompts", "prompts", "processes", "checkpoint_every", "truth_steps")
        for name in counts:
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("seed", "tower_steps", "lyrics_steps", "preference_steps"):
            if getattr(self, name) < 0:
                raise InvalidInput(f"{name} must not be negative, got {getattr(self, name)}")
        if self.shards * self.shard_prompts < self.prompts:
            held = self.shards * self.shard_prompts
            raise InvalidInput(f"a step takes {self.prompts} prompts and the data would hold {held}; raise shards")

    @property
    def steps(self) -> int:
        """Return the number of all steps."""
        return self.tower_steps + self.lyrics_steps + self.preference_steps + self.truth_steps
