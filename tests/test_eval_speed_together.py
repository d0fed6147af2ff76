"""The benchmark of two reward models on one tower, on small ones: its figures are what they say."""

import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rerank.cli import app
from rerank.errors import InvalidInput
from rerank.eval.speed.random_weights import write_models
from rerank.eval.speed.together import TogetherOptions, evaluate
from rerank.models.muq import Muq
from rerank.protocols import Progress
from tests.test_models_published import SMALL, TOWERS

FORWARD = 0.25
"""Seconds that each forward of MuQ sleeps for."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"), SMALL, TOWERS, towers=True).parent


@pytest.mark.parametrize(("duration", "forwards"), [(10.0, 2), (4.0, 4)])
def test_each_forward_is_paid_once_where_both_hear_the_same(
    duration: float, forwards: int, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = Muq.hidden_states

    def slow(muq: Muq, waveform: Any) -> Any:
        time.sleep(FORWARD)
        return states(muq, waveform)

    monkeypatch.setattr(Muq, "hidden_states", slow)
    seen: list[Progress] = []
    options = TogetherOptions(n=2, duration=duration, rounds=2, device="cpu")
    report = evaluate(models / "CMI-RM", models / "MuQ-MuLan-large", options, seen.append)
    metrics = report["metrics"]
    assert metrics["forwards"] == forwards
    assert metrics["both"] >= forwards * FORWARD and min(metrics["cmi-rm"], metrics["mulan"]) >= 2 * FORWARD
    alone = max(metrics["cmi-rm"], metrics["mulan"])
    assert metrics["both, by the slower alone"] == pytest.approx(metrics["both"] / alone, abs=0.01)
    least, most = metrics["both, by the slower alone, least and most of a round"]
    assert 0 < least <= most
    # where each takes two forwards by itself, both take two or four
    assert abs(metrics["both, by the slower alone"] - forwards / 2) < 0.75
    assert [(one.done, one.total) for one in seen] == [(1, 2), (2, 2)]


def test_options_and_folders_are_checked(models: Path) -> None:
    with pytest.raises(InvalidInput, match="n and rounds must be at least 1, got 0 and 3"):
        TogetherOptions(n=0)
    wrong = ["eval", "reward-speed", "--beside-mulan", "--reward-path", str(models / "CMI-RM")]
    result = CliRunner().invoke(app, wrong)
    assert result.exit_code == 2 and "both --reward-path and --mulan-path" in result.stderr


def test_the_command_measures_both(models: Path) -> None:
    folders = ["--reward-path", str(models / "CMI-RM"), "--mulan-path", str(models / "MuQ-MuLan-large")]
    options = ["--n", "1", "--repeats", "1", "--device", "cpu", "--json"]
    result = CliRunner().invoke(app, ["eval", "reward-speed", "--beside-mulan", *folders, *options])
    assert result.exit_code == 0 and '"both, by the slower alone"' in result.stdout
