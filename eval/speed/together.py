"""What does a second reward model cost that uses the same audio tower? `cmi-rm` and `mulan` share MuQ.

It is measured at their true size, with random weights where the published ones cannot be had. All audio is at 24 kHz, so
both hear the same samples.

**Conventions**: seconds of wall time, the best of several rounds; all candidates are of one prompt, with text and lyrics.
Each round measures all, one after the other, since a machine is not as fast at all times; nothing is remembered from one
to the next.

**Metrics**
- cmi-rm, mulan: what each takes by itself
- both: what both take, one after the other, as in a run
- both, by the slower alone: their ratio, and the least and the most that it was within one round
- forwards: how many times audio went through the tower for both
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from rerank.audio import Audio
from rerank.data import Prompt
from rerank.errors import InvalidInput
from rerank.eval.speed.machine import machine
from rerank.eval.speed.timing import shortest
from rerank.models.muq import SAMPLE_RATE
from rerank.protocols import Progress
from rerank.rewards.cmi import CmiReward
from rerank.rewards.cmi_rm import load_cmi_rm
from rerank.rewards.mulan import MulanReward, load_mulan
from rerank.scoring import Scorer

_PROMPT = Prompt(
    "warm lo-fi piano with a slow beat, vinyl crackle and a soft female voice",
    "rain on the window, rain on the road\nslow is the night and heavy the load",
)


@dataclass(frozen=True, kw_only=True)
class TogetherOptions:
    """Options of `evaluate`.

    Attributes:
        n: candidates that are scored.
        duration: of each, in seconds; both hear the same samples where it is that of a clip of `mulan`.
        rounds: of which the best counts.
        device: to compute on.
    """

    n: int = 10
    duration: float = 10.0
    rounds: int = 3
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.n < 1 or self.rounds < 1:
            raise InvalidInput(f"n and rounds must be at least 1, got {self.n} and {self.rounds}")


def evaluate(
    cmi_rm: Path, mulan: Path, options: TogetherOptions, on_progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Return all metrics of the reward models in two folders, with the options and the machine they were measured on.

    Raises:
        WeightsError: a folder does not hold its reward model.
    """
    report = on_progress or (lambda progress: None)
    first, second = load_cmi_rm(path=cmi_rm, device=options.device), load_mulan(path=mulan, device=options.device)
    runs: dict[str, list[CmiReward | MulanReward]] = {"cmi-rm": [first], "mulan": [second], "both": [first, second]}
    audio = [_noise(options.duration, seed) for seed in range(options.n)]
    _score([first, second], audio[:1])  # what is done once is no part of it
    forwards, seconds = 0, {name: list[float]() for name in runs}
    for done in range(options.rounds):
        for name, rewards in runs.items():
            with _Counted(first) as counted:
                seconds[name].append(shortest(partial(_score, rewards, audio), 1, first.device))
            forwards = counted.windows  # of the last: both
        report(Progress("measuring", done + 1, options.rounds))
    ratios = [
        both / max(alone) for both, *alone in zip(seconds["both"], seconds["cmi-rm"], seconds["mulan"], strict=True)
    ]
    best = {name: min(times) for name, times in seconds.items()}
    metrics: dict[str, Any] = {name: round(time, 3) for name, time in best.items()}
    metrics["both, by the slower alone"] = round(best["both"] / max(best["cmi-rm"], best["mulan"]), 3)
    metrics["both, by the slower alone, least and most of a round"] = [round(min(ratios), 3), round(max(ratios), 3)]
    metrics["forwards"] = forwards
    return {"options": asdict(options), "machine": machine(), "metrics": metrics}


def _score(rewards: Sequence[CmiReward | MulanReward], audio: Sequence[Audio]) -> None:
    for reward in rewards:
        reward.forget()
    for reward in rewards:
        list(Scorer(reward, _PROMPT)(audio))


class _Counted:
    """Counts the windows that go through the tower of a reward model meanwhile."""

    def __init__(self, reward: CmiReward) -> None:
        assert reward.tower is not None
        self._network, self.windows = reward.tower.network, 0

    def __enter__(self) -> Self:
        def count(network: object, inputs: tuple[Any, ...]) -> None:
            self.windows += len(inputs[0])

        self._handle = self._network.register_forward_pre_hook(count)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()


def _noise(duration: float, seed: int) -> Audio:
    samples = round(duration * SAMPLE_RATE)
    return Audio(0.1 * np.random.default_rng(seed).standard_normal((1, samples), dtype=np.float32), SAMPLE_RATE)
