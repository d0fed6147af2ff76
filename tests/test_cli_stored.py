"""`rerank show` and `rerank export`: stored runs."""

import json
from pathlib import Path

import numpy as np
import pytest

import rerank
from rerank.audio import read
from rerank.export import measure_loudness
from tests.test_cli import MAKE, TOYS, call, refused, takes

pytestmark = pytest.mark.usefixtures("plugged")


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def run() -> str:
    call(*MAKE, "-n", "4", "-o", "run", "--lyrics", "la\nla")
    return "run"


def test_a_stored_run_is_shown_as_it_was_printed(run: str) -> None:
    made = call(*MAKE, "-n", "4", "-o", "other", "--lyrics", "la\nla").stdout.replace("other/", "run/").splitlines()
    lines = call("show", run).stdout.splitlines()
    assert lines[5:] == made[:-1] and made[-1] == "written to other"
    assert any("ahead of" in line for line in lines) and any("did not follow the lyrics" in line for line in lines)
    told = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[:5]}
    assert told == {
        "prompt": "slow piano",
        "lyrics": "la la",
        "status": "done; 4 asked for, 0 set aside",
        "generator": "toy",
        "reward": "toy; mean of musicality 0.50, alignment 0.50",
    }
    assert call("show", "run/ranking.json").stdout.splitlines()[-5:] == lines[-5:]


def test_the_document_of_a_stored_run_is_printed_exactly(run: str) -> None:
    assert call("show", run, "--json").stdout == Path("run/ranking.json").read_text(encoding="utf-8")
    assert call("show", "run/ranking.json", "--json").stdout == Path("run/ranking.json").read_text(encoding="utf-8")


def test_what_is_not_as_stored_is_found(run: str) -> None:
    good = call("show", run, "--verify")
    assert (good.exit_code, good.stderr) == (0, "every file is what was stored\n")
    Path("run/candidates/001-seed1.flac").write_bytes(b"other")
    Path("run/candidates/002-seed2.flac").unlink()
    bad = call("show", run, "--verify", "--json")
    assert bad.exit_code == 1 and json.loads(bad.stdout)["status"] == "done"
    assert bad.stderr == (
        "error: run/candidates/001-seed1.flac is not what was stored: its SHA-256 differs\n"
        "error: run/candidates/002-seed2.flac is missing\n"
    )


def test_the_runs_of_many_prompts_are_shown() -> None:
    Path("all.txt").write_text("piano\nska\n")
    made = call("generate", *MAKE[2:], "--prompts", "all.txt", "-n", "2", "-o", "all").stdout
    for command in ("report", "export"):
        assert "all holds a run for each of many prompts; give the folder of one" in refused(command, "all")
    assert made == call("show", "all").stdout + "written to all\n"
    assert call("show", "all", "--json").stdout == Path("all/index.json").read_text()
    Path("all/002/candidates/001-seed1.flac").unlink()
    assert "error: all/002/candidates/001-seed1.flac is missing" in call("show", "all", "--verify").stderr


@pytest.mark.parametrize("command", ["show", "export"])
def test_where_there_is_no_run_one_line_says_so(command: str) -> None:
    Path("empty").mkdir()
    assert "there is no run in empty" in refused(command, "empty")
    assert "there is no run in gone" in refused(command, "gone")


def test_the_best_are_copied(run: str) -> None:
    result = call("export", "run/", "--top", "2", "--format", "flac")
    assert result.exit_code == 0
    best = [f"0{one.rank}-seed{one.seed}.flac" for one in rerank.load(run).top(2)]
    assert sorted(path.name for path in Path("run-export").iterdir()) == best
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["rank", "file", "gain"],
        ["1", best[0], "none"],
        ["2", best[1], "none"],
        ["written", "to", "run-export"],
    ]
    assert "is there already; choose another folder, or --overwrite" in refused("export", "run", "--format", "flac")
    assert call("export", "run", "--format", "flac", "--overwrite").exit_code == 0
    assert len(list(Path("run-export").iterdir())) == 4


def test_copies_stand_beside_the_run_however_it_is_named(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("export", "run/ranking.json").stdout.endswith("written to run-export\n")
    monkeypatch.chdir("run")
    beside = Path.cwd().with_name("run-export")
    for name in (".", "ranking.json", "candidates/.."):
        result = call("export", name, "--overwrite")
        assert result.stdout.endswith(f"written to {beside}\n")
    assert sorted(path.name for path in Path().iterdir()) == ["candidates", "ranking.json"]


def test_the_gain_to_a_loudness_is_told(run: str) -> None:
    result = call("export", run, "--loudness", "-30", "-o", "quiet")
    for line in result.stdout.splitlines()[1:-1]:
        rank, name, gain, unit = line.split()
        loudness = measure_loudness(read(Path("quiet", name)))
        take = rerank.load(run).top(4)[int(rank) - 1].audio
        assert take is not None and unit == "dB"
        assert loudness == pytest.approx(-30, abs=0.01)
        assert float(gain) == pytest.approx(loudness - measure_loudness(take), abs=0.06)
    loud = call("export", run, "--loudness", "0", "-o", "loud").stdout
    peaks = [float(np.abs(read(path).waveform).max()) for path in Path("loud").iterdir()]
    assert loud.count("dB; its peak leaves room for no more") == sum(peak == 1.0 for peak in peaks) > 0


def test_wrong_copies_are_refused(run: str) -> None:
    assert "unknown format 'aac'" in refused("export", run, "--format", "aac")
    assert "top must be a whole number from 1 to 4, got 9" in refused("export", run, "--top", "9")
    assert "loudness must be from -70 to 0 LUFS, got 5.0" in refused("export", run, "--loudness", "5")
    assert not Path("run-export").exists()


def test_a_take_that_was_removed_is_not_copied() -> None:
    call(*MAKE, "-n", "3", "-o", "run", "--keep", "1")
    assert call("export", "run", "--top", "1").exit_code == 0
    told = refused("export", "run", "--top", "2", "-o", "more")
    assert "its file was removed from the run, so there is nothing to copy" in told
    assert not Path("more").exists()


def test_files_made_elsewhere_are_copied_from_their_run() -> None:
    call("rank", *takes(2), "--prompt", "p", *TOYS, "-o", "run")
    call("export", "run")
    assert {path.name[3:] for path in Path("run-export").iterdir()} == {"take0.wav", "take1.wav"}
