"""What the reward model learns from: comparisons, and the truth itself.

**Conventions**: rewards and truths are `[pairs, 2]`, columns alignment and musicality, of pairs of prompt and candidate.

**Source**: the two losses of CMI-RewardBench (arXiv:2603.00610), section 3.3.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from rerank.training.batches import PairBatch

SMOOTHING = 0.2
"""Of the label of a noisy preference, as in the paper."""

NOISE = 0.1
"""Temperature of a noisy preference: how much truth differs before a judge is mostly right."""
TANH_SCALE = 3.0
"""Reward at which the regression is well into saturation; rewards run over about twice that."""
TANH_RANGE = 0.85
"""Where the regression puts a truth of 1; below 1, so that no reward is driven to infinity."""


def preference_loss(rewards: Tensor, pairs: PairBatch, noisy: bool) -> Tensor:
    """Return the Bradley-Terry loss over all comparisons among pairs, both axes.

    Candidates under one prompt are compared on both axes, twins (one candidate under two prompts) on alignment.

    Args:
        rewards: of each pair.
        pairs: that they are of.
        noisy: draw a judge's choice, whose odds follow the truth, and smooth the label; otherwise the better one by
            truth is preferred, and true ties are left out.

    Shape:
        rewards: `[pairs, 2]`
    """
    same = pairs.prompt_of[:, None] == pairs.prompt_of[None, :]
    first, second = torch.nonzero(torch.triu(same, diagonal=1), as_tuple=True)
    gap = (pairs.truth[first] - pairs.truth[second]).flatten()
    margin = (rewards[first] - rewards[second]).flatten()
    if len(pairs.twins):
        one, two = pairs.twins.T
        gap = torch.cat([gap, (pairs.truth[one] - pairs.truth[two])[:, 0]])
        margin = torch.cat([margin, (rewards[one] - rewards[two])[:, 0]])
    if noisy:
        chosen = (torch.rand_like(gap) < torch.sigmoid(gap / NOISE)).float()
        return F.binary_cross_entropy_with_logits(margin, chosen * (1 - SMOOTHING) + SMOOTHING / 2)
    told = gap.abs() > 0.02
    return F.softplus(-margin[told] * gap[told].sign()).mean() if told.any() else margin.sum() * 0


def regression_loss(rewards: Tensor, truth: Tensor) -> Tensor:
    """Return the squared error of tanh(reward / scale) against the truth, moved to [-0.85, 0.85].

    Shape:
        rewards, truth: `[pairs, 2]`
    """
    return 3 * F.mse_loss(torch.tanh(rewards / TANH_SCALE), TANH_RANGE * (2 * truth - 1))
