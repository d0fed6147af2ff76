"""Losses on numbers that can be worked out by hand."""

import math

import pytest
import torch

from rerank.training.losses import noisy_preference_loss, preference_loss, regression_loss


def test_preferring_the_better_one_costs_less() -> None:
    margin = torch.tensor([2.0, -1.0])
    for gap in (torch.tensor([0.5, -0.1]), torch.tensor([0.03, -1.0])):  # how large a gap is makes no difference
        expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
        assert preference_loss(margin, gap).item() == pytest.approx(expected)
        assert preference_loss(-margin, gap).item() == pytest.approx(expected + 1.5)


def test_ties_are_left_out() -> None:
    margin = torch.tensor([2.0, 9.0], requires_grad=True)
    told = preference_loss(margin, torch.tensor([0.5, 0.02]))
    assert told.item() == pytest.approx(math.log1p(math.exp(-2)))
    nothing = preference_loss(margin, torch.tensor([0.01, -0.02]))
    nothing.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
    assert nothing.item() == 0 and margin.grad is not None and not margin.grad.any()


def test_a_judge_of_a_clear_gap_is_right_and_its_label_is_smoothed() -> None:
    gap = torch.tensor([9.0, -9.0])
    for margin in (0.0, 1.5):
        expected = math.log1p(math.exp(-margin)) + 0.1 * margin  # label 0.9
        found = noisy_preference_loss(torch.tensor([margin, -margin]), gap)
        assert found.item() == pytest.approx(expected, rel=1e-5)


def test_the_odds_of_a_judge_follow_the_truth() -> None:
    torch.manual_seed(0)
    gap = torch.full((20_000,), 0.1)  # one temperature: right in e / (1 + e) of all cases
    margin = 1.0
    right, wrong = (math.log1p(math.exp(-margin)) + share * margin for share in (0.1, 0.9))
    odds = math.e / (1 + math.e)
    found = noisy_preference_loss(torch.full_like(gap, margin), gap).item()
    assert found == pytest.approx(odds * right + (1 - odds) * wrong, abs=0.02)


def test_regression_is_nothing_where_the_reward_says_the_truth() -> None:
    truth = torch.tensor([[0.0, 0.5], [1.0, 0.8]])
    rewards = 3 * torch.atanh(0.85 * (2 * truth - 1))
    assert regression_loss(rewards, truth).item() == pytest.approx(0, abs=1e-10)
    assert regression_loss(torch.zeros(1), torch.ones(1)).item() == pytest.approx(3 * 0.85**2)
