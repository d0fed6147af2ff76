"""What is printed can be read: on a terminal no line is wider than it, elsewhere no name is shortened."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from rerank.cli import tables
from rerank.cli.console import shown
from rerank.cli.tables import Column, print_columns
from tests.conftest import ROOT, install, notes

pytestmark = pytest.mark.usefixtures("plugged")

TOYS = ("--prompt", "p", "--reward", "toy")


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def on_terminal(plugged: Path, width: int, *arguments: str) -> list[str]:
    """Return the lines that a command shows on a terminal of that width, without their colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    paths = os.pathsep.join([str(plugged), str(ROOT)])
    process = subprocess.Popen(
        [sys.executable, "-m", "rerank", *arguments],
        env={**environment, "PYTHONPATH": paths, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 65536):
            written += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    finally:
        os.close(ours)
    errors = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 0, errors
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode()).replace("\r\n", "\n").split("\n")
    assert all(cell_len(line.rstrip()) <= width for line in lines), lines
    return [line.rstrip() for line in lines]


def takes(*names: str) -> list[str]:
    for place, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        notes(np.random.default_rng(place), 1.0).save(name)
    return list(names)


def test_a_run_shows_short_names_and_its_folder_once(plugged: Path) -> None:
    folder = "rerank-runs/warm-lo-fi-piano-slow-vinyl-crackle-seed0"
    made = ("--generator", "toy", "--reward", "toy", "--duration", "0.5", "-n", "3", "-o", folder)
    lines = on_terminal(plugged, 80, "generate", "piano", *made)
    assert lines[0].split() == ["rank", "combined", "musicality", "alignment", "seed", "file"]
    assert [len(line.split()) for line in lines[1:4]] == [6, 6, 6]
    assert sorted(line.split()[-1] for line in lines[1:4]) == [f"00{seed}-seed{seed}.flac" for seed in range(3)]
    assert lines[4] == f"files in {folder}/candidates" and lines[-2:] == [f"written to {folder}", ""]
    best = lines[1].split()[4]
    assert lines[5] == f"why seed {best} is first:" and lines[6].startswith("-  ") and " ahead of seed " in lines[6]
    told = " ".join(" ".join(lines[lines.index("the numbers:") + 1 : -3]).split())
    assert told == "- toy: nobody measured how much a gap between takes like these means"
    assert lines[-3] == "verdict: none"


def test_names_of_every_language_are_shown_in_full(plugged: Path) -> None:
    long = "静かな夜のピアノソロ（ゆっくり、レコードのノイズ入り、最終ミックス）"
    files = takes(f"음악/{long}.wav", "음악/короткое.wav", "음악/b/короткое.wav", "음악/[bold]x.wav")
    for width in (80, 120):
        lines = on_terminal(plugged, width, "rank", *files, *TOYS)
        names = "".join(line[len("rank  combined  musicality  alignment  ") - 12 :].strip() for line in lines[1:-2])
        for name in (long, "короткое.wav", "b/короткое.wav", "[bold]x.wav"):
            assert name in "".join(names.split())
        assert "files in 음악" in lines


def test_files_of_one_name_in_two_folders_can_be_told_apart(plugged: Path) -> None:
    lines = on_terminal(plugged, 80, "score", *takes("one/take.wav", "two/take.wav"), *TOYS)
    assert [line.split()[-1] for line in lines[1:3]] == ["one/take.wav", "two/take.wav"]
    lines = on_terminal(plugged, 80, "score", *takes("all/one/take.wav", "all/two/take.wav"), *TOYS)
    assert [line.split()[-1] for line in lines[1:3]] == ["one/take.wav", "two/take.wav"]
    assert lines[3] == "files in all"


def test_more_axes_than_fit_stand_in_more_than_one_table(plugged: Path) -> None:
    install(plugged, "wide-package", rewards="wide = wide_package:wide")
    (plugged / "wide_package.py").write_text(
        "from rerank.protocols import RewardInfo\n"
        "class Wide:\n"
        "    info = RewardInfo(name='wide', axes={f'model.axis{i}': 'x' for i in range(12)}, sample_rate=16000)\n"
        "    def prepare(self, prompt): return None\n"
        "    def score(self, _, audio): return [{axis: float(len(axis)) for axis in self.info.axes} for _ in audio]\n"
        "def wide():\n    return Wide()\n"
    )
    options = ("--prompt", "p", "--reward", "wide")
    lines = on_terminal(plugged, 80, "rank", *takes("a.wav", "b.wav"), *options)
    shown_axes = [word for line in lines for word in line.split() if re.fullmatch(r"axis\d+", word)]
    assert shown_axes == [f"axis{i}" for i in range(12)]
    tables = lines[: next(place for place, line in enumerate(lines) if line.startswith("why "))]
    assert sum("a.wav" in line for line in tables) == sum("rank" in line for line in tables) >= 2


def test_long_names_of_copies_give_way_to_the_axes(plugged: Path) -> None:
    long = [f"My Takes/Night Drive - final mix v{i} (no vocals) 2024.wav" for i in range(2)]
    lines = on_terminal(plugged, 80, "rank", *takes(*long), *TOYS, "-o", "run")
    titles = [line.split() for line in lines if line.startswith("rank ")]
    assert titles == [["rank", "combined", "musicality", "alignment", "source"]]
    assert "files in run/candidates" in lines
    wide = on_terminal(plugged, 200, "rank", "run")
    assert wide[0].split()[-2:] == ["source", "file"]


def test_the_list_of_models_is_short_and_one_of_them_is_told_in_full(plugged: Path) -> None:
    from rerank.registry import entries

    count = len(entries("generator")) + len(entries("reward"))
    lines = on_terminal(plugged, 80, "models")
    assert len(lines) <= 2 * count
    for name in (*entries("generator"), *entries("reward")):
        assert sum(line.split()[:1] == [name] for line in lines) in (1, 2)
    told = " ".join(" ".join(on_terminal(plugged, 80, "models", "cmi-rm")).split())
    for fact in (
        "2.8 GB",
        "CC BY-NC 4.0",
        "text, lyrics, reference",
        "24000 Hz",
        "English, Chinese",
        "how good the audio is as music",
    ):
        assert fact in told


@pytest.mark.parametrize("command", ["", "generate", "rank", "score", "show", "export", "models", "eval agreement"])
def test_help_fits_a_terminal_of_80_columns(plugged: Path, command: str) -> None:
    told = "\n".join(on_terminal(plugged, 80, *command.split(), "--help"))
    assert f"Usage: rerank {command}".rstrip() in told and "…" not in told


def test_elsewhere_than_on_a_terminal_nothing_is_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    name = "folder/" * 40 + "take.wav"
    print_columns([Column("rank", ["1", "10"], number=True), Column("file", [name, "b"])])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["rank", "file"],
        ["1", name],
        ["10", "b"],
    ]
    print_columns([Column("rank", [])])
    assert capsys.readouterr().out == ""


def test_what_a_terminal_would_obey_is_not_sent_to_it() -> None:
    assert shown("a\x1b[2J\r\n\x9b\udcffb ü　") == "a?[2J????b ü　"
    assert tables.number(None) == "-" and tables.number(-1.25) == "-1.250"
