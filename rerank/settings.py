"""With what a ranking was made.

**Conventions**: as in `rerank.rules`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rerank.rules import Rule

Status = Literal["running", "done", "interrupted", "failed"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a ranking was made with; stored in `ranking.json`.

    Attributes:
        n: how many candidates were asked for.
        top_k: how many of the best the ranking gives back.
        duration: asked of each candidate, in seconds; None for audio made elsewhere.
        seed: of candidate 0; candidate i has `seed + i`. None for audio made elsewhere.
        generator: its name; None for audio made elsewhere.
        generator_version: of its weights or its code.
        generator_options: name -> value in force.
        generator_device: that it computed on; empty where it did not tell.
        reward: name of the reward model; of several, joined by commas.
        reward_version: of its weights.
        rewards: of each reward model `{name, version, options, encoders, device, precision}`.
        weights: of the axes, with the sum 1.
        rule: how the rewards become one combined reward.
        filters: the thresholds of `rerank.filters.Filters`.
        not_followed: the parts of the prompt that the generator does not follow.
        not_read: the parts of the prompt that the reward model does not read.
        notes: on what of the prompt was understood and what was not, one sentence each.
        generator_licence: of the generator's weights.
        reward_licence: of the reward model's weights.
        rerank_version: of this package.
        versions: of this package and of those that sound and numbers depend on.
    """

    n: int
    top_k: int
    duration: float | None = None
    seed: int | None = None
    generator: str | None = None
    generator_version: str = ""
    generator_options: Mapping[str, Any] = field(default_factory=dict)
    generator_device: str = ""
    reward: str
    reward_version: str = ""
    rewards: tuple[Mapping[str, Any], ...] = ()
    weights: Mapping[str, float]
    rule: Rule = "mean"
    filters: Mapping[str, Any]
    not_followed: tuple[str, ...] = ()
    not_read: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    generator_licence: str | None = None
    reward_licence: str | None = None
    rerank_version: str
    versions: Mapping[str, str] = field(default_factory=dict)
