"""Candidates of held-out captions with their rewards and their truth, which most questions are asked of.

**Conventions**: rewards and truths are arrays `[prompts, candidates]`; combined ones are weighted means of the axes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rerank.audio import Audio
from rerank.corpus.captions import captions
from rerank.data import Prompt
from rerank.errors import InvalidInput, RewardFailed
from rerank.eval.metrics import Floats, best_of_n_gain, best_of_n_gains, mean_interval, pair_accuracy, runs_of
from rerank.generators.synth import Synth
from rerank.protocols import Norms, Progress, Reward
from rerank.rules import RULES, Rule, best_first, by_rule, combine
from rerank.scoring import not_finite, score_each

AXES = ("musicality", "alignment")

EQUAL = {axis: 0.5 for axis in AXES}
"""The default weights."""

QUANTILES = 21
"""Of the rewards on an axis that are kept as norms: at each 5 % of the takes."""


@dataclass(frozen=True, kw_only=True)
class AgreementOptions:
    """Options of `rerank.eval.agreement.report.evaluate`.

    Attributes:
        prompts: captions for the takes; the other measures use as many cases.
        n: candidates for each caption.
        duration: of every candidate, in seconds.
        seed: of the choice of prompts and cases.
    """

    prompts: int = 200
    n: int = 10
    duration: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        most = len(captions("test"))
        if not 2 <= self.prompts <= most or self.n < 2:
            raise InvalidInput(
                f"agreement needs 2 to {most} prompts and n of at least 2, got {self.prompts} and {self.n}"
            )


@dataclass(frozen=True, eq=False)
class Takes:
    """All takes of some captions: axis -> `[prompts, candidates]`."""

    rewards: Mapping[str, Floats]
    truths: Mapping[str, Floats]

    def combined(self, weights: Mapping[str, float] = EQUAL) -> tuple[Floats, Floats]:
        """Return the combined rewards and the combined truths under weights of the axes with the sum 1."""
        rewards, truth = (
            np.sum([weight * of[axis] for axis, weight in weights.items()], axis=0)
            for of in (self.rewards, self.truths)
        )
        return rewards, truth


def make_takes(
    reward: Reward, texts: Sequence[str], options: AgreementOptions, report: Callable[[Progress], None]
) -> Takes:
    """Return the takes of some captions."""
    seeds = range(options.seed * options.n, (options.seed + 1) * options.n)
    rewards, truths = (np.empty((len(AXES), len(texts), options.n)) for _ in range(2))
    for place, text in enumerate(texts):
        prompt = Prompt(text)
        candidates = list(Synth().generate(prompt, seeds, options.duration))
        found = rewards_of(reward, prompt, [candidate.audio for candidate in candidates if candidate.audio])
        known = [candidate.truth for candidate in candidates if candidate.truth]
        for row, axis in enumerate(AXES):
            rewards[row, place] = [one[axis] for one in found]
            truths[row, place] = [truth[axis] for truth in known]
        report(Progress("best of n", place + 1, len(texts)))
    return Takes(dict(zip(AXES, rewards, strict=True)), dict(zip(AXES, truths, strict=True)))


def rewards_of(reward: Reward, prompt: Prompt, audio: Sequence[Audio]) -> list[dict[str, float]]:
    """Return the rewards of each piece on both axes, and combined with equal weights.

    Raises:
        RewardFailed: a reward is missing, None or not finite.
    """
    rewards = []
    for found in score_each(reward, prompt, audio):
        fault = found if isinstance(found, str) else not_finite(found)
        if fault or isinstance(found, str):
            raise RewardFailed(f"reward model {reward.info.name}: {fault}")
        values = [value for axis in AXES if (value := found[axis]) is not None]
        if len(values) < len(AXES):
            raise RewardFailed(f"reward model {reward.info.name} gives no reward on an axis: {found}")
        rewards.append({**dict(zip(AXES, values, strict=True)), "combined": float(np.mean(values))})
    return rewards


def agreement(takes: Takes) -> dict[str, Any]:
    """Return pair accuracy and best-of-n gain."""
    metrics: dict[str, Any] = {}
    for axis in AXES:
        accuracy, pairs = pair_accuracy(takes.rewards[axis], takes.truths[axis])
        metrics |= {f"pair accuracy, {axis}": accuracy, f"pairs, {axis}": pairs}
    both = {"combined": takes.combined(), **{axis: (takes.rewards[axis], takes.truths[axis]) for axis in AXES}}
    for axis, (rewards, truths) in both.items():
        gain, of_sums = best_of_n_gain(rewards, truths)
        metrics |= {f"best-of-n gain, {axis}": gain, f"best-of-n gain of sums, {axis}": of_sums}
    return metrics


def choices(takes: Takes, n: int) -> dict[str, Any]:
    """Return what each rule chooses among the first, the next, ... `n` candidates of each prompt, beside `mean`.

    Returns:
        By rule: best-of-n gain, how much more that is than by `mean`, and the share of runs with the same choice; each
        with its 95 % interval.
    """
    rewards = np.stack([runs_of(takes.rewards[axis], n)[0] for axis in AXES], axis=-1)
    truth, prompts = runs_of(takes.combined()[1], n)
    chosen = {rule: np.array([_chosen(run, rule) for run in rewards]) for rule in RULES}
    gains = {rule: best_of_n_gains(places, truth) for rule, places in chosen.items()}
    told = np.isfinite(gains["mean"])
    return {
        rule: {
            "gain": mean_interval(gains[rule][told], prompts[told]),
            "more than mean": mean_interval((gains[rule] - gains["mean"])[told], prompts[told]),
            "same choice": mean_interval((chosen[rule] == chosen["mean"]).astype(np.float64), prompts),
        }
        for rule in RULES
    }


def _chosen(run: Floats, rule: Rule) -> int:
    """Return the index of the best candidate of a run, as a ranking orders them.

    Shape:
        run: `[candidates, axes]`
    """
    weighed = by_rule([dict(zip(AXES, row, strict=True)) for row in run.tolist()], rule)
    return best_first([combined for one in weighed if (combined := combine(one, EQUAL)) is not None])[0]


def norms(takes: Takes, options: AgreementOptions) -> Norms:
    """Return where the rewards of the takes lie on each axis."""
    steps = np.linspace(0, 1, QUANTILES)
    count = options.prompts * options.n
    return Norms(
        takes=f"{count:,} takes of {options.duration:g} s by synth",
        quantiles={
            axis: tuple(np.round(np.quantile(values, steps), 4).tolist()) for axis, values in takes.rewards.items()
        },
    )
