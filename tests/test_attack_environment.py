"""Machines that lack something: each command works nevertheless, or ends in one clear line."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rerank.cli.command import Group
from tests.conftest import ROOT

COMMAND = ["-m", "rerank"]
MAKE = [
    *COMMAND,
    "generate",
    "slow piano",
    "-n",
    "2",
    "--duration",
    "1",
    "--generator",
    "synth",
    "--reward",
    "cmi-mini",
]


CODE = (
    "import sys, rerank\n"
    "try: rerank.generate('slow', n=1, duration=1.0, generator='synth', reward='cmi-mini')\n"
    "except rerank.RerankError as error: sys.exit(f'error: {error}')"
)

START = "import os, resource, sys; {}; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
"""What a child does before it becomes the command, with a place for what is taken from it."""

GONE = "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')"


def limited(kind: str, most: int) -> str:
    return f"resource.setrlimit(resource.{kind}, ({most}, {most}))"


def run(folder: Path, arguments: list[str], taken: str = "pass", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments in a child that has something taken from it."""
    return subprocess.run(
        [sys.executable, "-c", START.format(taken), *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def check_ended(done: subprocess.CompletedProcess[str], told: str = "") -> None:
    """Refuse everything but an end with one line that says what is wrong."""
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert line.startswith("error: ") and told in line


@pytest.mark.parametrize("arguments", [MAKE, [*COMMAND, "rank", "a.wav"], [*COMMAND, "models"], ["-c", CODE]])
def test_a_working_folder_that_is_gone_is_told(arguments: list[str], tmp_path: Path) -> None:
    check_ended(
        run(tmp_path, arguments, GONE), "the folder that this was started in is gone; change to one that exists"
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.EMFILE, "Too many open files", "/a"), "too many files are open; raise the limit"),
        (OSError(errno.ENOSPC, "No space left on device", "/a"), "the disk is full"),
        (OSError(errno.EROFS, "Read-only file system"), "the disk may only be read"),
        (MemoryError(), "there is not enough memory"),
    ],
)
def test_what_a_machine_is_short_of_is_told_in_one_line(error: Exception, told: str) -> None:
    app = typer.Typer(cls=Group, pretty_exceptions_enable=False)

    @app.command()
    def work() -> None:
        raise error

    @app.command()
    def other() -> None:
        raise OSError(errno.EIO, "a fault of the disk")

    done = CliRunner().invoke(app, ["work"])
    assert done.exit_code == 1 and done.stderr.startswith(f"error: {told}") and done.stderr.count("\n") == 1
    assert isinstance(CliRunner().invoke(app, ["other"]).exception, OSError), "what is not known is not hidden"


@pytest.mark.attack
@pytest.mark.parametrize(
    "taken",
    [limited("RLIMIT_NOFILE", 32), limited("RLIMIT_AS", 3 * 10**9)],
    ids=["32 open files", "3 GB of addresses"],
)
def test_little_is_enough(taken: str, tmp_path: Path) -> None:
    done = run(tmp_path, [*MAKE, "-o", "run", "--report"], taken)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    takes = sorted(str(path) for path in (tmp_path / "run" / "candidates").iterdir())
    done = run(tmp_path, [*COMMAND, "rank", *takes, "--reward", "cmi-mini", "--prompt", "slow piano"], taken)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


@pytest.mark.attack
@pytest.mark.parametrize("most", [3 * 10**8, 5 * 10**8, 7 * 10**8])
def test_too_few_addresses_end_in_one_line(most: int, tmp_path: Path) -> None:
    check_ended(run(tmp_path, [*MAKE, "-o", "run"], limited("RLIMIT_AS", most)))


@pytest.mark.attack
@pytest.mark.parametrize("place", ["/proc", "/nonexistent"])
def test_a_folder_for_temporary_files_that_cannot_be_written_is_not_needed(place: str, tmp_path: Path) -> None:
    done = run(tmp_path, [*MAKE, "-o", "run", "--report"], TMPDIR=place)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


@pytest.mark.attack
def test_a_full_disk_ends_in_one_line(tmp_path: Path) -> None:
    check_ended(run(tmp_path, [*MAKE, "-o", "run"], limited("RLIMIT_FSIZE", 1000)), "cannot write")
