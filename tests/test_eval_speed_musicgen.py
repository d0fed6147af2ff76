"""The report on the speed of the MusicGen engine, on a small model: each figure is of what it says."""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import MusicgenForConditionalGeneration

from rerank.errors import InvalidInput, UnknownName, WeightsError
from rerank.eval.speed import musicgen
from rerank.eval.speed.musicgen import MusicgenSpeedOptions, evaluate
from rerank.eval.speed.random_musicgen import TINY, save_random_musicgen
from rerank.generators.musicgen import MusicGen
from rerank.models.device import has_fast_bfloat16
from rerank.protocols import Progress

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

OPTIONS = MusicgenSpeedOptions(n=3, duration=0.5, compared=2, device="cpu")
THEIRS, OURS = 0.3, 0.5
"""Seconds that each call of either side sleeps for."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_musicgen(tmp_path_factory.mktemp("musicgen"), TINY)


def _slowed(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(seconds)
        return function(*arguments, **options)

    return slow


def test_sleep_is_measured_where_it_is_slept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here: Callable[..., Any] = lambda function, *arguments: function(*arguments)
    monkeypatch.setattr(musicgen, "_alone", here)  # in a process of its own, nothing would sleep
    monkeypatch.setattr(MusicGen, "generate", _slowed(MusicGen.generate, OURS))
    theirs = MusicgenForConditionalGeneration
    monkeypatch.setattr(theirs, "generate", _slowed(theirs.generate, THEIRS))
    seen: list[Progress] = []
    metrics = evaluate(folder, OPTIONS, seen.append)["metrics"]
    dtypes = ["float32"] + ["bfloat16"] * has_fast_bfloat16()
    for dtype in dtypes:
        loop, batched, ours = (metrics[f"{way}, {dtype}"] for way in ("loop", "batched", "ours"))
        # figures have two digits
        assert loop > OPTIONS.n * THEIRS - 0.01 and batched > THEIRS - 0.01 and ours > OURS - 0.01
        assert loop > 1.5 * batched, "one after another, the sleep comes for each candidate"
        for way, seconds in (("loop", loop), ("batched", batched)):
            assert metrics[f"ours, {dtype}, times as fast as {way}"] == pytest.approx(seconds / ours, rel=0.05)
        assert metrics[f"ours, {dtype}, times the bound"] > 10, "asleep, nothing is near the bound"
    assert ("bfloat16, first frame that differs, mean" in metrics) == has_fast_bfloat16()
    steps = 3 * len(dtypes) + 1
    assert [(one.done, one.total) for one in seen] == [(done, steps) for done in range(1, steps + 1)]


def test_the_bound_grows_with_the_work(folder: Path) -> None:
    short, long = (
        musicgen._bound(folder, "float32", dataclasses.replace(OPTIONS, duration=seconds)) for seconds in (1.0, 20.0)
    )
    assert long > 5 * short > 0


def test_a_precision_is_compared_with_float32(folder: Path) -> None:
    same = musicgen._precision(folder, "float32", OPTIONS)
    frames = round(50 * OPTIONS.duration)
    assert list(same.values()) == [0, 0, frames], "no error, no divergence, no frame that differs"
    rounded = musicgen._precision(folder, "bfloat16", OPTIONS)
    error, divergence, first = rounded.values()
    assert 0 < error < 0.05 and 0 < divergence < 0.1 and first <= frames


def test_each_way_has_a_process_of_its_own() -> None:
    assert musicgen._alone(os.getpid) != os.getpid()


def test_options_are_checked(tmp_path: Path) -> None:
    for options in ({"n": 0}, {"compared": -1}, {"duration": 31.0}):
        with pytest.raises(InvalidInput, match="musicgen speed needs"):
            MusicgenSpeedOptions(**options)
    with pytest.raises(UnknownName, match="unknown dtype 'float8'; .*Known: bfloat16, float16, float32"):
        MusicgenSpeedOptions(dtype="float8")
    with pytest.raises(WeightsError, match="there is no file"):
        evaluate(tmp_path, MusicgenSpeedOptions(device="cpu"))
