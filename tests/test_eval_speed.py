"""The speed of a run, measured on parts whose time and memory are known: they sleep, and hold what they were told to."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rerank
from rerank.errors import InvalidInput, RerankError
from rerank.eval.speed.best_of_n import SpeedOptions, _warm, evaluate
from rerank.eval.speed.timing import peak_memory, shortest
from rerank.protocols import Progress
from tests.conftest import ROOT, install

MIB = 2**20
MAKING, READING, HEARING = 0.1, 0.1, 0.01
"""Seconds that the parts below sleep for: for each candidate, for the prompt, for each candidate again."""

SLEEPERS = f"""
import dataclasses, time
from tests.conftest import ToyGenerator, ToyReward

class Sleepy(ToyGenerator):
    def __init__(self):
        super().__init__(pause={MAKING})
        self.info = dataclasses.replace(self.info, name="sleepy")

class Drowsy(ToyReward):
    def __init__(self):
        super().__init__()
        self.info = dataclasses.replace(self.info, name="drowsy", version="7")

    def prepare(self, prompt):
        time.sleep({READING})
        return super().prepare(prompt)

    def score(self, prepared, audio):
        time.sleep({HEARING} * len(audio))
        return super().score(prepared, audio)
"""


@pytest.fixture
def sleepers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a generator and a reward model that sleep, for this process and for the commands it starts."""
    install(tmp_path, "sleepers", generators="sleepy = sleepers:Sleepy", rewards="drowsy = sleepers:Drowsy")
    (tmp_path / "sleepers.py").write_text(SLEEPERS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    monkeypatch.delenv("RERANK_PLUGINS", raising=False)


def test_sleep_is_measured_where_it_is_slept(sleepers: None) -> None:
    n, seen = 3, list[Progress]()
    ballast = np.ones(100_000_000)  # 763 MiB: what this process holds is not what the command takes
    generator, reward = rerank.load_generator("sleepy"), rerank.load_reward("drowsy")
    report = evaluate(generator, reward, SpeedOptions(n=n, duration=0.5, repeats=1), seen.append)
    metrics: dict[str, Any] = report["metrics"]
    assert (report["generator"], report["reward"], report["version"]) == ("sleepy", "drowsy", "7")
    assert [(one.done, one.total) for one in seen] == [(0, 3), (1, 3), (2, 3), (3, 3)]

    rounding = 0.006  # of a figure with two digits
    assert metrics["generation"] > n * MAKING - rounding
    assert metrics["rewarding"] > READING + n * HEARING - rounding
    assert 0 < metrics["import"] < metrics["cold start"]
    assert metrics["cold start"] > metrics["generation"] + metrics["rewarding"]
    assert metrics["share of rewarding"] == pytest.approx(metrics["rewarding"] / metrics["cold start"], abs=0.001)
    assert 20 < metrics["peak memory"] < ballast.nbytes / MIB

    counted = metrics["rewarding by number of candidates"]
    assert list(counted) == [1, 2, 5, 10], "up to four times as many as in a run"
    assert all(seconds > READING + count * HEARING - rounding for count, seconds in counted.items())
    # wide, since sleepers on a busy machine wake late
    ratio = n * (READING + HEARING) / (READING + n * HEARING)
    slept = {"the prompt": READING, "each candidate": HEARING, "one by one, ratio": ratio}
    for what, expected in slept.items():
        assert expected / 3 < metrics[f"rewarding, {what}".replace(", one", " one")] < expected * 3, what


def test_what_a_reward_model_remembers_is_measured_again() -> None:
    reward = rerank.load_reward("cmi-mini", device="cpu")
    encode, encoded = reward.model.encode_text, list[list[str]]()  # type: ignore[attr-defined]  # a CmiReward
    reward.model.encode_text = lambda texts: encoded.append(texts) or encode(texts)  # type: ignore[attr-defined,func-returns-value]
    _warm(rerank.load_generator("synth"), reward, SpeedOptions(n=1, duration=1.0, repeats=2))
    # the text and the lyrics of the prompt, in a first run and two that count, for 1, 2, all and one by one
    assert len(encoded) == 2 * 3 * 4


def test_a_command_that_fails_is_said(sleepers: None) -> None:
    with pytest.raises(RerankError, match="generate .* failed: .*duration"):
        evaluate(
            rerank.load_generator("sleepy"), rerank.load_reward("drowsy"), SpeedOptions(n=1, duration=0.1, repeats=1)
        )


def test_options_are_checked() -> None:
    for options in ({"n": 0}, {"repeats": 0}):
        with pytest.raises(InvalidInput, match="speed needs n and repeats of at least 1"):
            SpeedOptions(**options)  # type: ignore[arg-type]


def test_the_shortest_of_several_calls_counts() -> None:
    pauses = iter([0.3, 0.05, 0.3])
    assert 0.05 <= shortest(lambda: time.sleep(next(pauses)), 3) < 0.3
    assert next(pauses, None) is None


def test_peak_memory_is_that_of_this_process_alone() -> None:
    def child(megabytes: int) -> float:
        code = (
            "from rerank.eval.speed.timing import peak_memory\n"
            f"held = bytearray({megabytes} * 2**20)\ndel held\nprint(peak_memory())"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        return int(done.stdout) / MIB

    held = np.ones(50_000_000)  # 381 MiB
    assert peak_memory() > held.nbytes
    nothing = child(0)
    assert nothing < held.nbytes / MIB
    assert child(200) - nothing == pytest.approx(200, abs=20)


@pytest.mark.parametrize("name", ["speed", "cmi-mini"])
def test_the_kept_reports_are_of_the_weights_in_the_package(name: str) -> None:
    report = json.loads((ROOT / "docs" / f"{name}.json").read_text(encoding="utf-8"))
    assert report["reward"] == "cmi-mini"
    assert report["version"] == rerank.load_reward("cmi-mini").info.version, "measure it again"
