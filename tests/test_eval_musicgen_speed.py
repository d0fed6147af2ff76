"""The report on the speed of the MusicGen engine, on a small model."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rerank.errors import InvalidInput, WeightsError
from rerank.eval import musicgen_speed
from rerank.eval.musicgen_speed import MusicgenSpeedOptions, evaluate
from rerank.eval.random_musicgen import TINY, save_random_musicgen
from rerank.models.device import has_fast_bfloat16
from rerank.protocols import Progress

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def test_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_random_musicgen(tmp_path, TINY)
    here: Callable[..., Any] = lambda function, *arguments: function(*arguments)
    monkeypatch.setattr(musicgen_speed, "_alone", here)  # a process each would take most of a minute
    reports: list[Progress] = []
    report = evaluate(folder, MusicgenSpeedOptions(n=2, duration=0.5, compared=2, device="cpu"), reports.append)
    metrics = report["metrics"]
    for dtype in ["float32"] + ["bfloat16"] * has_fast_bfloat16():
        for way in ("loop", "batched", "ours"):
            assert metrics[f"{way}, {dtype}"] >= 0 and metrics[f"{way}, {dtype}, peak GiB"] > 0
        assert metrics[f"ours, {dtype}, times as fast as loop"] > 0
        assert metrics[f"ours, {dtype}, times the bound"] > 1
    if has_fast_bfloat16():
        assert 0 < metrics["bfloat16, error of logits, relative to their spread"] < 0.05
        assert 0 <= metrics["bfloat16, divergence of what is drawn from, nats"] < 0.1
        assert 0 <= metrics["bfloat16, first frame that differs, mean"] <= 25
    assert reports[-1].done == reports[-1].total == len(reports)
    assert report["machine"]["cores"] > 0


def test_each_way_has_a_process_of_its_own() -> None:
    assert musicgen_speed._alone(os.getpid) != os.getpid()


def test_options_are_checked(tmp_path: Path) -> None:
    for options in ({"n": 0}, {"compared": -1}, {"duration": 31.0}):
        with pytest.raises(InvalidInput, match="musicgen speed needs"):
            MusicgenSpeedOptions(**options)
    with pytest.raises(WeightsError, match="there is no file"):
        evaluate(tmp_path, MusicgenSpeedOptions(device="cpu"))
