"""The command: what it prints where, what it writes, and the exit status it leaves with."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import rerank
from rerank.audio import Audio
from rerank.cli import app
from tests.conftest import ROOT, install, notes

pytestmark = pytest.mark.usefixtures("plugged")

TOYS = ("--reward", "toy")
MAKE = ("generate", "slow piano", "--generator", "toy", *TOYS, "--duration", "0.5")


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def refused(*arguments: str) -> str:
    """Return the one line that a refused command leaves on standard error."""
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def takes(count: int = 3) -> list[str]:
    return [str(notes(np.random.default_rng(i), 1.0).save(f"take{i}.wav")) for i in range(count)]


def test_generate_writes_a_run_and_prints_a_table(tmp_path: Path) -> None:
    result = call(*MAKE, "-n", "3", "-o", "run", "--top-k", "2")
    assert result.exit_code == 0
    assert result.stderr == ""
    document = json.loads(Path("run/ranking.json").read_text())
    assert [entry["rank"] for entry in document["candidates"]] == [1, 2, 3]
    assert sorted(path.name for path in Path("run/candidates").iterdir()) == [f"00{i}-seed{i}.flac" for i in range(3)]
    lines = result.stdout.split("\n")
    assert lines[0].split() == ["rank", "combined", "musicality", "alignment", "seed", "file"]
    best, second = document["candidates"][:2]
    assert [f"candidates/{line.split()[-1]}" for line in lines[1:3]] == [best["path"], second["path"]]
    assert "files in run/candidates" in result.stdout
    assert "written to run" in result.stdout and document["candidates"][2]["path"] not in result.stdout


def test_json_is_exactly_the_document() -> None:
    result = call(*MAKE, "-n", "3", "-o", "run", "--json", "-v")
    assert result.stdout == Path("run/ranking.json").read_text(encoding="utf-8")
    assert "generated 3 candidates with toy" in result.stderr
    result = call(*MAKE, "-n", "1", "--json")
    assert result.stdout == Path("rerank-runs/slow-piano-seed0/ranking.json").read_text(encoding="utf-8")
    assert result.stderr == "written to rerank-runs/slow-piano-seed0\n"


def test_a_run_that_fails_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: type[BaseException]) -> Result:
        def score(*_: object) -> None:
            raise error("no")

        monkeypatch.setattr("tests.conftest.ToyReward.score", score)
        return call(*MAKE, "-n", "1")

    result = fail(ZeroDivisionError)
    assert result.exit_code == 1
    assert result.stderr.startswith("written to rerank-runs/slow-piano-seed0\nerror: reward model 'toy' failed on all")
    result = fail(KeyboardInterrupt)
    assert (result.exit_code, "Traceback" in result.stderr) == (130, False)
    assert "set aside: seed 0: not scored: interrupted before it" in result.stdout


def test_an_interrupted_run_says_where_it_is_beside_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(*MAKE, "-n", "1", "-o", "run").stdout.endswith("written to run\n")

    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tests.conftest.ToyReward.score", press)
    result = call(*MAKE, "-n", "2", "-o", "run", "--overwrite")
    assert result.exit_code == 130 and result.stdout.endswith("written to run/unfinished\n")
    result = call(*MAKE, "-n", "2", "-o", "run", "--overwrite", "--json")
    assert json.loads(result.stdout)["candidates"][0]["path"].startswith("candidates/")


def test_weights_come_from_a_folder_of_their_own(plugged: Path) -> None:
    install(plugged, "folder-package", rewards="placed = folder_package:placed")
    (plugged / "folder_package.py").write_text(
        "from tests.conftest import ToyReward\n"
        "def placed(path=None, device='none'):\n"
        "    return ToyReward(override=lambda _: {'musicality': float(len(f'{path} {device}'))})\n"
    )
    file = takes(1)[0]
    options = ("--prompt", "piano", "--reward", "placed", "--reward-path", "mine", "--device", "cpu", "--json")
    assert json.loads(call("score", file, *options).stdout)["scores"][0]["rewards"]["musicality"] == len("mine cpu")
    assert json.loads(call("rank", file, *options).stdout)["candidates"][0]["rewards"]["musicality"] == len("mine cpu")
    made = call("generate", "piano", "--generator", "toy", *options[2:])
    assert json.loads(made.stdout)["candidates"][0]["rewards"]["musicality"] == len("mine cpu")


def test_the_command_gives_what_the_python_api_gives() -> None:
    options: dict[str, Any] = {"generator": "toy", "reward": "toy", "duration": 0.5, "lyrics": "la", "seed": 4}
    expected = rerank.generate("slow piano", 3, **options, weights={"alignment": 1}, output="python")
    Path("lyrics.txt").write_text("la", encoding="utf-8")
    call(*MAKE, "-n", "3", "--lyrics-file", "lyrics.txt", "--seed", "4", "--weight", "alignment=1", "-o", "command")
    one, two = (Path(name, "ranking.json").read_text() for name in ("python", "command"))
    assert one == two
    assert json.loads(one)["candidates"][0]["seed"] == expected.best.seed


def test_without_a_folder_each_run_gets_a_new_one() -> None:
    first, second = call(*MAKE, "-n", "1"), call(*MAKE, "-n", "1")
    assert "written to rerank-runs/slow-piano-seed0\n" in first.stdout
    assert "written to rerank-runs/slow-piano-seed0-2\n" in second.stdout
    assert Path("rerank-runs/slow-piano-seed0/ranking.json").exists()


def test_a_folder_that_holds_a_run_needs_overwrite() -> None:
    call(*MAKE, "-n", "2", "-o", "run")
    before = Path("run/ranking.json").read_bytes()
    assert "run already holds a run" in refused(*MAKE, "-n", "1", "-o", "run")
    assert Path("run/ranking.json").read_bytes() == before
    assert call(*MAKE, "-n", "1", "-o", "run", "--overwrite").exit_code == 0
    assert len(list(Path("run/candidates").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("generate", ""), "the prompt is empty"),
        (("generate", "a" * 4_001), "text has 4001 characters, the limit is 4000"),
        ((*MAKE, "-n", "0"), "n must be a whole number from 1 to 1024, got 0"),
        ((*MAKE, "-n", "1025"), "got 1025"),
        ((*MAKE, "-n", "2", "--top-k", "3"), "top_k must be a whole number from 1 to 2, got 3"),
        ((*MAKE[:-2], "--duration", "99"), "duration must be 0.5 to 30 s for generator 'toy', got 99"),
        ((*MAKE, "--seed", "-1"), "got -1"),
        (("generate", "piano", "--generator", "musicgem"), "unknown generator 'musicgem'"),
        (("generate", "piano", "--reward", "cmimini"), "unknown reward 'cmimini'; did you mean 'cmi-mini'?"),
        ((*MAKE, "--weight", "musicalty=1"), "unknown axis 'musicalty'; did you mean 'musicality'?"),
        ((*MAKE, "--weight", "musicality=0"), "are all zero"),
        ((*MAKE, "--weight", "musicality=nan"), "got nan"),
        ((*MAKE, "--filter", "silence=off"), "unknown filter 'silence'; did you mean 'silent'?"),
        ((*MAKE, "--filter", "clipped=2"), "filter 'clipped' must be 0 to 1"),
        ((*MAKE, "--floor", "groove=1"), "unknown axis 'groove'"),
        ((*MAKE, "--reference", "gone.wav"), "reference: no such audio file: gone.wav"),
        ((*MAKE, "--filter", "clipped=2"), "0 to 1 (share of samples), or off (in Python: None); got 2.0"),
        ((*MAKE, "-o", ""), "output must be a path, as a str that is not empty"),
        ((*MAKE, "-o", "a" * 300), "file name too long"),
        ((*MAKE, "--reward-path", "gone"), "option of reward 'toy': 'path'"),
        ((*MAKE, "--lyrics-file", "gone.txt"), "cannot read lyrics from gone.txt: no such file"),
        (("rank", "gone.wav", "--prompt", "piano", *TOYS), "no such audio file: gone.wav"),
        (("score", "gone.wav", "--prompt", "piano", *TOYS), "no such audio file: gone.wav"),
    ],
)
def test_bad_input_gets_one_line_and_status_1(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(*arguments)
    assert not Path("rerank-runs").exists()


def test_bad_references_get_one_line() -> None:
    Path("empty.wav").touch()
    Path("text.wav").write_text("no audio")
    Audio(np.full((1, 999), np.nan, np.float32), 16_000).save("nan.wav")
    Audio(np.zeros((1, 8_000 * 601), np.float32), 8_000).save("long.flac")
    for name, message in {
        "empty.wav": "is empty (0 bytes)",
        "text.wav": "give a WAV, FLAC, MP3 or OGG file",
        "nan.wav": "not finite",
        "long.flac": "is 601.0 s long, the limit is 600 s",
    }.items():
        told = refused(*MAKE, "--reference", name)
        assert name in told and message in told


@pytest.mark.parametrize(
    "arguments",
    [
        ("generat",),
        ("generate", "piano", "--ducks"),
        ("generate", "piano", "-n", "many"),
        (*MAKE, "--weight", "musicality"),
        (*MAKE, "--weight", "musicality=much"),
        (*MAKE, "--lyrics", "la", "--lyrics-file", "a.txt"),
        (*MAKE, "--overwrite"),
        (*MAKE, "--weight", "musicality=1", "--weight", "musicality=2"),
        (*MAKE, "--filter", "silent=off", "--filter", "silent=-50"),
        ("rank", "a.wav", "--prompt", "piano", "--overwrite"),
        ("rank", "--prompt", "piano"),
    ],
)
def test_wrong_usage_has_status_2(arguments: tuple[str, ...]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stdout == "" and "Usage" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("generate", "piano", "--reference", "a", "--reference", "b"), "--reference"),
        (("generate", "piano", "-n", "3", "--n=4"), "--n"),
        (("rank", "a.wav", "--prompt", "a", "--prompt", "a"), "--prompt"),
        (("score", "a.wav", "--device", "cpu", "--device", "cpu"), "--device"),
        (("train", "cmi-mini", "folder", "--seed", "1", "--seed", "2"), "--seed"),
        (("eval", "speed", "-o", "a", "-o", "b"), "--output"),
    ],
)
def test_an_option_that_is_given_twice_is_refused(arguments: tuple[str, ...], option: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert f"{option} is given twice; give it once" in result.stderr


@pytest.mark.parametrize("prompt", ["-5 dB techno", "-techno", "-nice techno"])
def test_how_to_give_a_prompt_that_begins_with_a_dash_is_said(prompt: str) -> None:
    result = call("generate", prompt, *MAKE[2:], "-o", "run")
    assert result.exit_code == 2
    told = " ".join(result.stderr.replace("│", " ").split())
    assert f"begins with a dash comes last, after two dashes: root generate [OPTIONS] -- {shlex.quote(prompt)}" in told
    assert call("generate", *MAKE[2:], "-n", "1", "-o", "run", "--", prompt).exit_code == 0
    assert json.loads(Path("run/ranking.json").read_text())["prompt"]["text"] == prompt


def test_a_dash_is_not_blamed_for_other_errors() -> None:
    assert "dash" not in call("generate", "piano", "--lyrics", "- la la", "-n", "many").stderr
    assert "dash" not in call("generate", "piano", "--ducks").stderr


def test_lyrics_that_are_not_text_are_refused() -> None:
    Path("lyrics.txt").write_bytes(b"\xff\xfe\x00")
    assert "lyrics.txt: it is not UTF-8 text" in refused(*MAKE, "--lyrics-file", "lyrics.txt")
    Path("lyrics.txt").write_text("\n")
    assert "lyrics file lyrics.txt is empty" in refused(*MAKE, "--lyrics-file", "lyrics.txt")
    Path("lyrics.txt").write_text("é" * 40_000)
    assert "lyrics file lyrics.txt is larger than 64 KiB" in refused(*MAKE, "--lyrics-file", "lyrics.txt")


def test_lyrics_may_begin_with_a_byte_order_mark() -> None:
    Path("lyrics.txt").write_text("la\r\nla", encoding="utf-8-sig", newline="")
    document = json.loads(call(*MAKE, "-n", "1", "--lyrics-file", "lyrics.txt", "--json").stdout)
    assert document["prompt"]["lyrics"] == "la\nla"


def test_rank_prints_files_best_first_and_writes_only_where_asked() -> None:
    files = takes()
    result = call("rank", *files, "--prompt", "piano", *TOYS, "--json")
    document = json.loads(result.stdout)
    assert sorted(entry["path"] for entry in document["candidates"]) == files
    combined = [entry["combined"] for entry in document["candidates"]]
    assert combined == sorted(combined, reverse=True)
    assert sorted(path.name for path in Path().iterdir()) == files
    table = call("rank", *files, "--prompt", "piano", *TOYS).stdout
    assert table.index(document["candidates"][0]["path"]) < table.index(document["candidates"][1]["path"])
    assert "source" not in table and "seed" not in table
    written = call("rank", *files, "--prompt", "piano", *TOYS, "-o", "run").stdout
    assert len(list(Path("run/candidates").iterdir())) == 3
    assert all(f"take{i}.wav " in written and f"00{i}-take{i}.flac" in written for i in range(3))
    assert "files in run/candidates" in written


def test_everything_set_aside_is_told_and_has_status_1() -> None:
    Audio(np.zeros((1, 16_000), np.float32), 16_000).save("silence.wav")
    result = call("rank", "silence.wav", "--prompt", "piano", *TOYS)
    assert result.exit_code == 1
    assert "set aside: silence.wav: silent: no sound at all" in result.stdout
    assert result.stderr.startswith("error: all 1 candidates were set aside: silent (1)")
    assert call("rank", "silence.wav", "--prompt", "piano", *TOYS, "--filter", "silent=OFF").exit_code == 0
    written = call("rank", "silence.wav", "--prompt", "piano", *TOYS, "-o", "run")
    assert "set aside: silence.wav: silent" in written.stdout


def test_score_keeps_the_order_of_the_files() -> None:
    files = takes()
    document = json.loads(call("score", *files, "--prompt", "piano", *TOYS, "--json").stdout)
    assert [entry["path"] for entry in document["scores"]] == files
    assert document["scores"][1]["rewards"] == rerank.score(files[1], "piano", reward="toy")
    assert (
        f"{document['scores'][1]['rewards']['musicality']:.3f}"
        in call("score", *files, "--prompt", "piano", *TOYS).stdout
    )


def test_models_and_plugins_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    told = call("models").stdout
    for name in ("cmi-rm", "2.8 GB", "CC BY-NC 4.0", "mulan"):
        assert name in told
    for name in ("synth", "cmi-mini", "toy", "musicality, alignment", "text, lyrics, reference", "Apache-2.0"):
        assert name in told
    assert call("plugins").stdout.count("toy-package") == 2
    monkeypatch.setenv("RERANK_PLUGINS", "")
    assert call("plugins").stdout.startswith("no plugins")


def test_version_and_help() -> None:
    assert call("--version").stdout == f"rerank {rerank.__version__}\n"
    told = call("generate", "--help").stdout
    assert "--overwrite" in told and "PROMPT" in told


def in_process(plugged: Path, *arguments: str) -> "subprocess.Popen[str]":
    paths = os.pathsep.join([str(plugged), str(ROOT)])
    return subprocess.Popen(
        [sys.executable, "-m", "rerank", *arguments],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_keeps_and_ranks_what_is_finished(plugged: Path, number: signal.Signals) -> None:
    install(plugged, "slow-package", generators="slow = slow_package:Slow")
    (plugged / "slow_package.py").write_text(
        "from tests.conftest import ToyGenerator\ndef Slow():\n    return ToyGenerator(pause=0.1)\n"
    )
    arguments = ("generate", "piano", "--generator", "slow", *TOYS, "--duration", "0.5", "-n", "500", "-o", "run")
    process = in_process(plugged, *arguments, "--json")
    deadline = time.monotonic() + 30
    while len(list(Path("run/candidates").glob("*.flac"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    document = json.loads(stdout)
    assert document == json.loads(Path("run/ranking.json").read_text())
    assert (document["status"], document["settings"]["n"]) == ("interrupted", 500)
    assert 3 <= len(document["candidates"]) < 500
    assert document["candidates"][0]["rank"] == 1
    assert all(Path("run", entry["path"]).exists() for entry in document["candidates"])
    assert "Traceback" not in stderr and "interrupted" in stderr


def test_a_terminal_that_closes_is_nothing_to_a_command_that_was_told_so(plugged: Path) -> None:
    """As under nohup, which has the signal ignored."""
    install(plugged, "slow-package", generators="slow = slow_package:Slow")
    (plugged / "slow_package.py").write_text(
        "from tests.conftest import ToyGenerator\ndef Slow():\n    return ToyGenerator(pause=0.1)\n"
    )
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        arguments = ("generate", "piano", "--generator", "slow", *TOYS, "--duration", "0.5", "-n", "5", "-o", "run")
        process = in_process(plugged, *arguments)
    finally:
        signal.signal(signal.SIGHUP, ignored)
    deadline = time.monotonic() + 30
    while not list(Path("run/candidates").glob("*.flac")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert len(list(Path("run/candidates").glob("*.flac"))) == 5


def test_importing_the_command_leaves_signals_as_they_are() -> None:
    code = "import signal, rerank.cli; print(*[signal.getsignal(s) == signal.SIG_DFL for s in (15, 1)])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


def test_ctrl_c_before_anything_is_finished(plugged: Path) -> None:
    install(plugged, "slow-package", generators="slow = slow_package:Slow")
    (plugged / "slow_package.py").write_text(
        "from tests.conftest import ToyGenerator\ndef Slow():\n    return ToyGenerator(pause=60)\n"
    )
    process = in_process(plugged, "generate", "piano", "--generator", "slow", *TOYS, "-o", "run")
    deadline = time.monotonic() + 30
    while not Path("run").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (130, "")
    assert stderr.splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in stderr


def test_ctrl_c_while_a_module_is_imported_has_the_same_status(plugged: Path) -> None:
    """Python notes one that comes in code that was text, and would end itself by the signal though it was caught."""
    install(plugged, "text-package", generators="text = text_package:made")
    (plugged / "text_package.py").write_text("exec('raise KeyboardInterrupt')\n")
    process = in_process(plugged, "generate", "piano", "--generator", "text", *TOYS)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (130, "")
    assert stderr == "error: interrupted; what was written before stays\n"


def test_the_module_runs_as_the_command(plugged: Path) -> None:
    process = in_process(plugged, "--version")
    assert process.communicate(timeout=30)[0] == f"rerank {rerank.__version__}\n"


def in_shell(plugged: Path, ending: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    paths = os.pathsep.join([str(plugged), str(ROOT)])
    return subprocess.run(
        ["sh", "-c", f'"$@" {ending}', "sh", sys.executable, "-m", "rerank", "rank", *takes(2), "--prompt", "p", *TOYS],
        env={**os.environ, "PYTHONPATH": paths, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(sys.platform == "darwin", reason="it has no /dev/full")
@pytest.mark.parametrize(
    ("ending", "status", "message"),
    [
        (">/dev/full", 1, "error: cannot print: no space left on device; send it elsewhere\n"),
        (">&-", 1, "error: cannot print: standard output is closed; send it to a file or a terminal\n"),
        ("--json >/dev/full", 1, "error: cannot print: no space left on device; send it elsewhere\n"),
        ("--json >/dev/full 2>&1", 1, ""),
        ("2>&-", 0, ""),
        ("gone.wav 2>/dev/full", 1, ""),
        ("gone.wav >&- 2>&-", 1, ""),
    ],
)
def test_output_that_cannot_be_printed_costs_one_line(plugged: Path, ending: str, status: int, message: str) -> None:
    done = in_shell(plugged, ending)
    assert (done.returncode, done.stderr) == (status, message)


def test_a_reader_that_leaves_is_no_error(plugged: Path) -> None:
    assert in_shell(plugged, "| true").stderr == ""


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are UTF-8")
def test_a_terminal_that_cannot_show_a_name_shows_something_else(plugged: Path) -> None:
    notes(np.random.default_rng(0), 1.0).save("ü.wav")
    notes(np.random.default_rng(1), 1.0).save("\udcff.wav")
    for encoding in ("ascii", "utf-8"):
        done = in_shell(plugged, "*.wav", PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (0, "")
        assert "?.wav" in done.stdout
