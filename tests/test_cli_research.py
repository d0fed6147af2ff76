"""The commands of researchers, run as commands, at the smallest size they take."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rerank
from rerank.cli import app
from rerank.eval.speed.random_musicgen import TINY, save_random_musicgen
from rerank.eval.speed.random_weights import write_models
from tests.conftest import ROOT
from tests.test_models_published import SMALL, TOWERS

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
TINY_TRAINING = ("--shards", "1", "--shard-prompts", "8", "--prompts", "2", "--device", "cpu")


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a fresh process."""
    command = [sys.executable, "-m", "rerank", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600)


def report_of(*arguments: str | Path, cwd: Path) -> dict[str, Any]:
    """Return the report that a command prints and writes."""
    done = run(*arguments, "--json", "-o", "report.json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert json.loads((cwd / "report.json").read_text(encoding="utf-8")) == report
    return report


def kept(name: str) -> dict[str, Any]:
    """Return the metrics of the report in docs/."""
    metrics: dict[str, Any] = json.loads((ROOT / "docs" / f"{name}.json").read_text(encoding="utf-8"))["metrics"]
    return metrics


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a reward model was trained, a step of each stage."""
    folder = tmp_path_factory.mktemp("training")
    done = run("train", "mini", "here", "--steps", "1,1,1,1", *TINY_TRAINING, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "step 4 of 4: " in done.stderr and "best-of-n gain, combined" in done.stdout
    measured = (folder / "here" / "cmi-mini" / "calibration.json").exists()
    assert measured != ("the weights go without a calibration: " in done.stderr)
    return folder / "here"


def test_training_leaves_weights_a_report_and_a_card(trained: Path) -> None:
    reward = rerank.load_reward(trained / "cmi-mini")
    report = json.loads((trained / "cmi-mini.json").read_text(encoding="utf-8"))
    assert report["version"] == reward.info.version != rerank.load_reward("cmi-mini").info.version
    assert report["options"]["prompts"] == 2
    card = (trained / "cmi-mini.md").read_text(encoding="utf-8")
    assert "`rerank train mini DIR --seed 0 --shards 1 --steps 1,1,1,1 --shard-prompts 8`" in card
    assert "32 clips of 10 seconds" in card
    # two prompts may be too few to tell what a gap means: then there is none, and it is said
    assert reward.info.calibration is None or reward.info.calibration == report["calibration"]["slope"]


def test_the_same_command_by_its_former_name_makes_nothing_again(trained: Path) -> None:
    made = {path: path.stat().st_mtime_ns for name in ("data", "sung", "tokens") for path in (trained / name).iterdir()}
    weights = (trained / "cmi-mini" / "model.safetensors").read_bytes()
    checkpoint = (trained / "checkpoint.pt").stat().st_mtime_ns
    done = run("train", "cmi-mini", trained, "--steps", "1,1,1,1", *TINY_TRAINING, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert len(made) == 8 and all(path.stat().st_mtime_ns == before for path, before in made.items())
    assert (trained / "checkpoint.pt").stat().st_mtime_ns == checkpoint
    assert (trained / "cmi-mini" / "model.safetensors").read_bytes() == weights
    assert "cmi-mini" not in run("train", "--help", cwd=trained).stdout


def test_ctrl_c_keeps_what_is_trained(trained: Path, tmp_path: Path) -> None:
    for name in ("data", "sung"):
        (tmp_path / name).symlink_to(trained / name)
    arguments = ("train", "mini", str(tmp_path), "--steps", "1,500,1,1", *TINY_TRAINING)
    command = [sys.executable, "-m", "rerank", *arguments]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 300
    while not (tmp_path / "tokens" / "0001.npy").exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, messages = process.communicate(timeout=120)
    assert process.returncode == 130 and output == "", messages
    (step,) = re.findall(r"^stopped at step (\d+) of 503, from which the same run goes on$", messages, re.MULTILINE)
    assert 1 <= int(step) < 503 and (tmp_path / "checkpoint.pt").exists()
    assert messages.splitlines()[-1] == (
        "error: interrupted; what was made stays, and the same command goes on from there"
    )
    done = run("train", "mini", tmp_path, "--steps", "1,2,1,1", *TINY_TRAINING, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "holds a run with other options" in done.stderr


@pytest.mark.parametrize("steps", ["1,2,3", "1,2,3,x", "1,-2,3,4"])
def test_steps_are_four_numbers(steps: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["train", "mini", str(tmp_path / "new"), "--steps", steps])
    assert done.exit_code == 2 and "must be four whole numbers" in " ".join(done.output.split())
    assert not (tmp_path / "new").exists()


def test_agreement_is_that_of_the_folder_that_is_named(trained: Path, tmp_path: Path) -> None:
    options = ("--reward-path", trained / "cmi-mini", "--prompts", "2", "-n", "2")
    report = report_of("eval", "agreement", *options, cwd=tmp_path)
    assert report["options"] == {"prompts": 2, "n": 2, "duration": 10.0, "seed": 0}
    assert report["version"] == rerank.load_reward(trained / "cmi-mini").info.version


def test_agreement_stores_with_the_weights_what_a_gap_means(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folder = tmp_path / "copy"
    shutil.copytree(ROOT / "rerank" / "rewards" / "cmi-mini", folder)
    (folder / "calibration.json").unlink(missing_ok=True)
    assert rerank.load_reward(folder).info.calibration is None
    size = ("--prompts", "12", "-n", "4")
    done = run(
        "eval", "agreement", *size, "--calibrate", folder, "--plot", "plot.png", "-o", "report.json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    info = rerank.load_reward(folder).info
    assert info.calibration == report["calibration"]["slope"] and info.version == report["version"]
    assert info.norms is not None and info.norms.takes == "48 takes of 10 s by synth"
    assert f"slope of the log odds of being right: {info.calibration:.3f} per unit of the gap" in done.stdout
    for told in ("best-of-n gain, combined", "best of 4 by zscore", "first against second of 3", "too close to call"):
        assert told in done.stdout
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_stored_or_drawn_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(ROOT / "rerank" / "rewards" / "cmi-mini", folder)
    (folder / "calibration.json").unlink()
    (folder / "calibration.json").mkdir()
    for options, told in (
        (["--calibrate", str(tmp_path)], "a reward model is a folder with"),
        (["--calibrate", str(folder)], "cannot write .*calibration.json: it must be a file in a folder that exists"),
        (["-o", str(tmp_path / "gone" / "report.json")], "cannot write .*report.json: it must be a file"),
        (["--plot", str(tmp_path / "plot.wav")], "a picture must be a file such as|'matplotlib' is not installed"),
    ):
        done = CliRunner().invoke(app, ["eval", "agreement", "--prompts", "2000", *options])
        assert done.exit_code == 1 and re.search(told, done.output) and done.output.count("\n") == 1


def test_speed(tmp_path: Path) -> None:
    report = report_of("eval", "speed", "-n", "1", "--duration", "1", "--repeats", "1", cwd=tmp_path)
    assert (report["generator"], report["reward"]) == ("synth", "cmi-mini")
    assert report["version"] == rerank.load_reward("cmi-mini").info.version
    metrics = report["metrics"]
    assert metrics["cold start"] > metrics["generation"] + metrics["rewarding"] > 0 and metrics["peak memory"] > 100
    assert list(metrics["rewarding by number of candidates"]) == ["1", "2"]
    assert metrics.keys() == kept("speed").keys()


def test_reward_speed(tmp_path: Path) -> None:
    folder = write_models(tmp_path, SMALL, TOWERS)
    small = ("-n", "2", "--duration", "1", "--repeats", "1", "--compared", "0", "--device", "cpu")
    report = report_of("eval", "reward-speed", "--reward-path", folder, *small, cwd=tmp_path)
    assert report["weights"] == "given" and report["options"]["n"] == 2
    metrics = report["metrics"]
    ratio = metrics["float32, times as fast as official"]
    assert metrics["official"] == pytest.approx(ratio * metrics["float32"], rel=0.1) and metrics["loading"] > 0
    assert metrics.keys() <= kept("reward-speed").keys() and "spread of the rewards" not in metrics


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_musicgen_speed(tmp_path: Path) -> None:
    folder = save_random_musicgen(tmp_path / "model", TINY)
    small = ("-n", "2", "--duration", "0.5", "--compared", "0", "--dtype", "float32", "--device", "cpu")
    report = report_of("eval", "musicgen-speed", "--path", folder, *small, cwd=tmp_path)
    assert report["weights"] == "given" and report["options"]["dtype"] == "float32"
    metrics = report["metrics"]
    for way in ("loop", "batched"):
        ratio = metrics[f"ours, float32, times as fast as {way}"]
        assert metrics[f"{way}, float32"] == pytest.approx(ratio * metrics["ours, float32"], abs=0.05)
        assert 0.1 < metrics[f"{way}, float32, peak GiB"] < 3
    assert metrics.keys() == {name for name in kept("musicgen-speed") if "bfloat16" not in name}


def test_one_precision_by_its_name() -> None:
    done = CliRunner().invoke(app, ["eval", "musicgen-speed", "--dtype", "float8"])
    assert done.exit_code == 1 and done.output.startswith("error: unknown dtype 'float8'; ")
