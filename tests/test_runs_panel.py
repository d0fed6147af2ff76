"""The reward models of one run: axes that cannot be mixed up, facts of each that are kept."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rerank
from rerank.errors import InvalidInput
from rerank.protocols import Norms, Reward, RewardInfo
from tests.conftest import ToyGenerator, ToyReward


def level(name: str, axis: str = "level", licence: str = "unknown") -> Reward:
    def judge(prompt: str, audio: Any) -> dict[str, float]:
        return {axis: float(abs(audio.waveform).mean())}

    return rerank.wrap_reward(
        judge, axes={axis: "how loud it is"}, sample_rate=16_000, name=name, conditions=(), licence=licence
    )


def run(folder: Path, reward: Any) -> rerank.Ranking:
    return rerank.generate("piano", 3, duration=0.5, generator=ToyGenerator(), reward=reward, output=folder)


def test_axes_that_would_have_one_name_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"an axis that would be called 'ear\.left\.level'"):
        rerank.generate(
            "piano",
            2,
            duration=0.5,
            generator=ToyGenerator(),
            reward=[level("ear", "left.level"), level("ear.left")],
        )


def test_the_licence_of_each_reward_model_stays(tmp_path: Path) -> None:
    assert run(tmp_path / "run", ToyReward()).settings.reward_licence == "Apache-2.0"
    added = rerank.rank(tmp_path / "run", reward=level("ear", licence="MIT"), output=tmp_path / "run")
    assert added.settings.reward_licence == "Apache-2.0, MIT"
    assert added.reweight({"level": 1}).settings.reward_licence == "Apache-2.0, MIT"


def test_what_is_measured_later_holds_for_a_run_that_is_ranked_again(tmp_path: Path) -> None:
    reward = ToyReward()
    assert run(tmp_path / "run", reward).verdict is None
    norms = Norms(takes="2 toys", quantiles={"musicality": (0.0, 1.0)})
    reward.info = replace(reward.info, calibration=30.0, norms=norms)
    again = rerank.rank(tmp_path / "run", reward=reward)
    assert again.verdict is not None
    assert "of 2 toys" in again.best.reasons[1]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Norms(takes="toys", quantiles={"x": (1.0,)}), "quantiles of 'x'"),
        (lambda: Norms(takes="toys", quantiles={"x": (2.0, 1.0)}), "quantiles of 'x'"),
        (lambda: Norms(takes="toys", quantiles={"x": (0.0, float("nan"))}), "quantiles of 'x'"),
        (lambda: replace(ToyReward().info, calibration=0.0), "calibration of 'toy' must be a number above 0"),
        (lambda: replace(ToyReward().info, calibration="2"), "calibration of 'toy'"),  # type: ignore[arg-type]
        (lambda: replace(ToyReward().info, calibration=True), "calibration of 'toy'"),
        (lambda: replace(ToyReward().info, norms={"takes": "toys"}), "norms of 'toy'"),  # type: ignore[arg-type]
    ],
)
def test_facts_that_no_run_could_be_read_with_are_refused(make: Callable[[], Norms | RewardInfo], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        make()


def test_norms_may_be_given_as_any_sequence() -> None:
    assert Norms(takes="toys", quantiles={"x": [0, 1]}).quantiles == {"x": (0.0, 1.0)}  # type: ignore[dict-item]
