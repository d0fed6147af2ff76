"""What a reward model learns from: comparisons, and the truth itself.

**Conventions**: a margin is how far the reward of one is above that of another, a gap how far its truth is; truths are
in [0, 1].

**Source**: the two losses of CMI-RewardBench (arXiv:2603.00610), section 3.3.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SMOOTHING = 0.2
"""Of the label of a noisy preference, as in the paper."""

NOISE = 0.1
"""Temperature of a noisy preference: how much truth differs before a judge is mostly right."""

TIE = 0.02
"""Gap up to which two count as equally good."""

TANH_SCALE = 3.0
"""Reward at which the regression is well into saturation; rewards run over about twice that."""

TANH_RANGE = 0.85
"""Where the regression puts a truth of 1; below 1, so that no reward is driven to infinity."""


def preference_loss(margin: Tensor, gap: Tensor) -> Tensor:
    """Return the Bradley-Terry loss of preferring the truly better one; ties are left out.

    Shape:
        margin, gap: `[comparisons]`
    """
    told = gap.abs() > TIE
    return F.softplus(-margin[told] * gap[told].sign()).mean() if told.any() else margin.sum() * 0


def noisy_preference_loss(margin: Tensor, gap: Tensor) -> Tensor:
    """Return the Bradley-Terry loss, with smoothed labels, of choices of a judge, whose odds follow the truth.

    The choices are drawn from torch's random numbers.

    Shape:
        margin, gap: `[comparisons]`
    """
    chosen = (torch.rand_like(gap) < torch.sigmoid(gap / NOISE)).float()
    return F.binary_cross_entropy_with_logits(margin, chosen * (1 - SMOOTHING) + SMOOTHING / 2)


def regression_loss(rewards: Tensor, truth: Tensor) -> Tensor:
    """Return the squared error of tanh(reward / scale) against the truth, moved to [-0.85, 0.85].

    Shape:
        rewards, truth: one shape
    """
    return 3 * F.mse_loss(torch.tanh(rewards / TANH_SCALE), TANH_RANGE * (2 * truth - 1))
