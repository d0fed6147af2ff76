"""`rerank generate` beyond one run: going on, keeping the best, options, many prompts."""

import json
import signal
import time
from pathlib import Path

import pytest

import rerank
from rerank.report import is_stale
from tests.conftest import install
from tests.test_cli import MAKE, TOYS, call, in_process, refused

pytestmark = pytest.mark.usefixtures("plugged")

MANY = ("generate", "--generator", "toy", *TOYS, "--duration", "0.5")


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")


def candidates(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder, "candidates").iterdir()}


def test_a_run_goes_on_and_is_extended() -> None:
    call(*MAKE, "-n", "6", "-o", "whole")
    call(*MAKE, "-n", "3", "-o", "run")
    result = call(*MAKE, "-n", "6", "-o", "run", "--resume")
    assert result.exit_code == 0
    assert candidates("run") == candidates("whole")
    one, two = (json.loads(Path(name, "ranking.json").read_text())["candidates"] for name in ("run", "whole"))
    assert one == two
    assert "seed" in refused(*MAKE, "-n", "6", "--seed", "7", "-o", "run", "--resume")


def test_only_the_best_keep_their_files() -> None:
    result = call(*MAKE, "-n", "5", "-o", "run", "--keep", "2")
    ranking = rerank.load("run")
    assert set(candidates("run")) == {f"00{one.index}-seed{one.seed}.flac" for one in ranking.top(2)}
    assert len(ranking) == 5
    assert [line.split()[-1] for line in result.stdout.splitlines()[3:6]] == ["removed"] * 3


def test_the_rule_reaches_the_run() -> None:
    document = json.loads(call(*MAKE, "-n", "3", "--rule", "rank", "--json").stdout)
    assert document["settings"]["rule"] == "rank"
    assert "zscore" in refused(*MAKE, "--rule", "zscor")


def test_options_reach_the_generator_and_the_reward_model(plugged: Path) -> None:
    install(plugged, "tuned", generators="tuned = tuned:made", rewards="tuned = tuned:judged")
    (plugged / "tuned.py").write_text(
        "from tests.conftest import ToyGenerator, ToyReward\n"
        "def made(*, failing=7):\n    return ToyGenerator(failing=[failing])\n"
        "def judged(*, value=0.5):\n    return ToyReward(override=lambda _: {'musicality': value})\n"
    )
    options = ("--generator-option", "failing=1", "--reward-option", "value=2")
    document = json.loads(
        call("generate", "p", "--generator", "tuned", "--reward", "tuned", "-n", "3", *options, "--json").stdout
    )
    assert [entry["seed"] for entry in document["candidates"] if entry["set_aside"]] == [1]
    assert document["candidates"][0]["rewards"]["musicality"] == 2.0
    told = refused("generate", "p", "--generator", "tuned", "--generator-option", "faling=1")
    assert "option of generator 'tuned': 'faling'; did you mean 'failing'?" in told
    assert not Path("rerank-runs/p-seed0-2").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        (*MAKE, "--resume"),
        (*MAKE, "--generator-option", "failing"),
        (*MANY, "--prompts", "all.txt"),
        (*MAKE, "--prompts", "all.txt", "-o", "all"),
        (*MANY, "--prompts", "all.txt", "--lyrics", "la", "-o", "all"),
        (*MANY, "piano", "--reward", "toy"),
        (*MANY, "piano", "--reward", "cmi-mini", "--reward-path", "a"),
    ],
)
def test_wrong_usage_has_status_2(arguments: tuple[str, ...]) -> None:
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (2, "") and "Usage" in result.stderr


def test_many_prompts_get_a_run_each_and_an_index(plugged: Path) -> None:
    install(plugged, "counted", generators="counted = counted:made", rewards="counted = counted:judged")
    (plugged / "counted.py").write_text(
        "from tests.conftest import ToyGenerator, ToyReward\n"
        "def made():\n    with open('loads', 'a') as file: file.write('g')\n    return ToyGenerator()\n"
        "def judged():\n    with open('loads', 'a') as file: file.write('r')\n    return ToyReward()\n"
    )
    Path("all.csv").write_text("id,prompt,lyrics\nslow,slow piano,\nska,fast ska,la la\n")
    many = ("generate", "--generator", "counted", "--reward", "counted", "--duration", "0.5", "--prompts", "all.csv")
    result = call(*many, "-n", "3", "-o", "all")
    assert result.exit_code == 0 and Path("loads").read_text() == "gr"
    call("generate", "fast ska", "--lyrics", "la la", *MAKE[2:], "-n", "3", "-o", "one")
    assert candidates("all/ska") == candidates("one")
    index = json.loads(Path("all/index.json").read_text())
    assert [(entry["id"], entry["status"]) for entry in index["prompts"]] == [("slow", "done"), ("ska", "done")]
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["prompt", "slow", "ska", "written"]
    assert "all already holds runs" in refused(*many, "-n", "3", "-o", "all")
    before = candidates("all/ska")
    again = call(*many, "-n", "4", "-o", "all", "--resume", "--json")
    assert json.loads(again.stdout) == json.loads(Path("all/index.json").read_text())
    assert candidates("all/ska").items() > before.items() and len(candidates("all/slow")) == 4


def test_a_page_of_each_run_is_written_and_its_address_told() -> None:
    told = f"page: {(Path.cwd() / 'run' / 'report.html').as_uri()}"
    made = call(*MAKE, "-n", "3", "-o", "run", "--report")
    assert made.exit_code == 0 and made.stdout.splitlines()[-2:] == ["written to run", told]
    ranked = call("rank", "run", "--rule", "rank", "--report", "--json")
    assert json.loads(ranked.stdout)["settings"]["rule"] == "rank" and told in ranked.stderr
    assert not is_stale(rerank.load("run"), Path("run/report.html"))
    aside = call(*MAKE, "-n", "2", "--floor", "musicality=9", "-o", "aside", "--report")
    assert aside.exit_code == 1 and "aside/report.html" in aside.stdout
    Path("all.txt").write_text("slow piano\nfast ska\n")
    many = call(*MANY, "-n", "2", "--prompts", "all.txt", "-o", "all", "--report")
    pages = [(Path.cwd() / "all" / name / "report.html").as_uri() for name in ("001", "002")]
    assert many.exit_code == 0 and many.stdout.splitlines()[-2:] == [f"page: {page}" for page in pages]
    takes = sorted(map(str, Path("run/candidates").iterdir()))
    assert call("rank", *takes, *TOYS, "--report").exit_code == 2, "a page belongs to a run"


def test_what_was_finished_before_a_stop_has_a_page(plugged: Path) -> None:
    install(plugged, "stopping", generators="stopping = stopping:made")
    (plugged / "stopping.py").write_text(
        "import signal\n"
        "from tests.conftest import ToyGenerator\n"
        "def stopped(seed, audio):\n    if seed == 2: signal.raise_signal(signal.SIGINT)\n    return audio\n"
        "def made(): return ToyGenerator(change=stopped)\n"
    )
    found = call("generate", "piano", "--generator", "stopping", *MAKE[4:], "-n", "5", "-o", "run", "--report")
    assert found.exit_code == 130 and "run/report.html" in found.stdout
    assert "This run was stopped before it was done" in Path("run/report.html").read_text()


def test_a_wrong_file_of_prompts_is_refused_before_any_work() -> None:
    Path("all.txt").write_text("piano\n\nska\n")
    assert "all.txt:2: the line is empty" in refused(*MANY, "--prompts", "all.txt", "-o", "all")
    Path("all.txt").write_text("piano\nska\n")
    assert "got 0" in refused(*MANY, "--prompts", "all.txt", "-o", "all", "-n", "0")
    assert not Path("all").exists()


def test_a_prompt_that_fails_is_named_and_the_others_are_made() -> None:
    Path("broken.wav").touch()
    Path("all.csv").write_text("prompt,reference\nslow,\nfast,broken.wav\nodd,\n")
    result = call(*MANY, "--prompts", "all.csv", "-n", "2", "-o", "all")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: 002: reference: broken.wav is empty")
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:4]] == [
        ["001", "done"],
        ["002", "failed"],
        ["003", "done"],
    ]


def test_many_runs_that_are_interrupted_go_on(plugged: Path) -> None:
    install(plugged, "slow-package", generators="slow = slow_package:Slow")
    (plugged / "slow_package.py").write_text(
        "from tests.conftest import ToyGenerator\ndef Slow():\n    return ToyGenerator(pause=0.05)\n"
    )
    Path("all.txt").write_text("piano\nska\npolka\n")
    many = (
        "generate",
        "--generator",
        "slow",
        *TOYS,
        "--duration",
        "0.5",
        "-n",
        "8",
        "--prompts",
        "all.txt",
        "-o",
        "all",
    )
    process = in_process(plugged, *many)
    deadline = time.monotonic() + 60
    while len(list(Path("all/002/candidates").glob("*.flac"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in stderr
    assert [line.split()[:2] for line in stdout.splitlines()[1:4]] == [
        ["001", "done"],
        ["002", "interrupted"],
        ["003", "waiting"],
    ]
    assert json.loads(Path("all/index.json").read_text())["status"] == "interrupted"
    assert call(*many, "--resume").exit_code == 0
    assert all(len(candidates(f"all/{name}")) == 8 for name in ("001", "002", "003"))
