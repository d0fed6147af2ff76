"""The benchmark of the published reward model, on a small one: all of it runs, and its figures are what they say."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rerank.errors import InvalidInput, WeightsError
from rerank.eval.random_weights import write_models
from rerank.eval.reward_speed import RewardSpeedOptions, _packed_flops, evaluate
from rerank.models.device import has_fast_bfloat16
from rerank.models.linear import PackedLinear
from tests.test_models_published import SMALL, TOWERS


def test_all_figures_are_there(tmp_path: Path) -> None:
    folder = write_models(tmp_path, SMALL, TOWERS)
    options = RewardSpeedOptions(n=5, duration=1.0, repeats=1, compared=4, compared_duration=1.0, device="cpu")
    seen = []
    report = evaluate(folder, options, lambda progress: seen.append((progress.done, progress.total)))
    metrics = report["metrics"]
    assert seen[-1][0] == seen[-1][1] and report["options"]["n"] == 5 and report["machine"]["cores"]
    for precision in ("float32", "bf16") if has_fast_bfloat16() else ("float32",):
        ratio = metrics["official"] / metrics[precision]
        assert metrics[f"{precision}, times as fast as official"] == pytest.approx(ratio, rel=0.05)
        assert 0 <= metrics[f"{precision}, share of bound"] < 1
    for precision in ("bf16", "bf16-autocast"):
        for axis in ("musicality", "alignment"):
            found = metrics[f"{precision}, {axis}"]
            assert 0 < found["mean difference"] <= found["largest difference"] and -1 <= found["Kendall's tau"] <= 1
    assert metrics["loading"] > 0 and metrics["loading, peak memory by weights"] >= 0


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
