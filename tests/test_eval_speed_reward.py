"""The benchmark of the published reward model, on a small one: all of it runs, and its figures are what they say."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rerank.data import Prompt
from rerank.errors import InvalidInput, WeightsError
from rerank.eval.speed import reward as reward_speed
from rerank.eval.speed.random_weights import write_models
from rerank.eval.speed.reward import RewardSpeedOptions, _packed_flops, apart, evaluate
from rerank.models.cmi import RewardModel
from rerank.models.device import has_fast_bfloat16
from rerank.models.linear import PackedLinear
from rerank.models.mulan import TransformerSizes
from rerank.models.xlm_roberta import XlmRobertaConfig
from rerank.rewards.cmi import CmiReward
from tests.test_models_published import SMALL, TOWERS

OPTIONS = RewardSpeedOptions(n=5, duration=1.0, repeats=1, compared=4, compared_duration=1.0, device="cpu")
OFFICIAL, OURS = 0.4, 0.3
"""Seconds that each group of the official way, and each call of ours, sleeps for."""


def _slowed(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(seconds)
        return function(*arguments, **options)

    return slow


def test_sleep_is_measured_where_it_is_slept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CmiReward, "prepare", _slowed(CmiReward.prepare, OURS))
    official = _slowed(reward_speed._official_group, OFFICIAL)
    monkeypatch.setattr(reward_speed, "_official_group", official)
    seen = []
    report = evaluate(write_models(tmp_path, SMALL, TOWERS), OPTIONS, lambda one: seen.append((one.done, one.total)))
    metrics = report["metrics"]
    precisions = ["float32"] + ["bf16"] * has_fast_bfloat16()
    assert metrics["official"] > 2 * OFFICIAL - 0.001, "five candidates are two groups of four at most"
    for precision in precisions:
        ours = metrics[precision]
        assert ours > OURS - 0.001
        ratio = metrics["official"] / ours
        assert metrics[f"{precision}, times as fast as official"] == pytest.approx(ratio, abs=0.01)
        bound = metrics[f"{precision}, bound"]
        assert metrics[f"{precision}, share of bound"] == pytest.approx(bound / ours, abs=0.002)
        assert bound < ours - OURS + 0.002, "the sleep is no work"
    assert {f"bf16, {axis}" for axis in ("musicality", "alignment")} < set(metrics)
    steps = 2 + len(precisions) + 3
    assert seen == [(done, steps) for done in range(1, steps + 1)]


def test_the_official_way_does_each_part_as_often_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"encode_text": 0, "encode_audio": 0}

    def counted(name: str, count: Callable[[Any], int]) -> None:
        function = getattr(RewardModel, name)

        def call(model: RewardModel, items: Any) -> Any:
            calls[name] += count(items)
            return function(model, items)

        monkeypatch.setattr(RewardModel, name, call)

    counted("encode_text", len)
    counted("encode_audio", len)
    folder = write_models(tmp_path, SMALL, TOWERS)
    audio = [reward_speed._noise(1.0, seed) for seed in range(OPTIONS.n)]
    prompt = Prompt("piano", "oh", audio[0])
    reward_speed._official(folder, prompt, audio, OPTIONS, torch.device("cpu"))
    # of each candidate: text and lyrics twice; its reference and itself
    assert calls == {"encode_text": 4 * OPTIONS.n, "encode_audio": 2 * OPTIONS.n}


def test_loading_takes_about_the_memory_of_the_weights(tmp_path: Path) -> None:
    words = XlmRobertaConfig(vocabulary=200_000, dim=192, depth=1, heads=2, hidden=40)  # 146 MiB of embeddings
    wide = TransformerSizes(dim=192, depth=1, heads=2, dim_head=16)
    towers = replace(TOWERS, text=words, text_transformer=wide, audio_transformer=wide)
    metrics = reward_speed._loading(write_models(tmp_path, replace(SMALL, dim=192), towers), "cpu")
    assert 0.5 < metrics["loading, peak memory by weights"] < 2, "what was held before is not counted"
    assert metrics["loading"] > 0


def test_precisions_that_rank_the_other_way_are_seen() -> None:
    exact = np.array([1.0, 2.0, 4.0])
    assert apart(exact, exact) == {"largest difference": 0, "mean difference": 0, "Kendall's tau": 1}
    assert apart(exact, -exact) == {"largest difference": 8, "mean difference": 4.6667, "Kendall's tau": -1}


def test_options_are_checked(tmp_path: Path) -> None:
    for options in ({"n": 0}, {"repeats": 0}, {"compared": 1}):
        with pytest.raises(InvalidInput, match="at least"):
            RewardSpeedOptions(**options)  # type: ignore[arg-type]
    with pytest.raises(WeightsError):
        evaluate(tmp_path, RewardSpeedOptions(compared=0))


def test_packed_layers_are_counted() -> None:
    layer = PackedLinear(torch.randn(128, 64), torch.zeros(128))
    counted = FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: _packed_flops})
    with torch.inference_mode(), counted:
        layer(torch.randn(2, 5, 64))
    assert counted.get_total_flops() == 2 * 10 * 64 * 128
