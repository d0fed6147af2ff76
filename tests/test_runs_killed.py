"""Runs that are killed, at random moments, at every call that changes a file, and by signals: see `tests.killing`."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("how", "many", "told"),
    [
        ("at_random", 50, "50 kills"),
        # each call of the fifty or so takes a second and a half
        ("at_every_call", 7, "deaths, the last at call"),
        ("by_signal", 40, "40 signals"),
    ],
)
def test_nothing_is_lost(tmp_path: Path, how: str, many: int, told: str) -> None:
    command = [sys.executable, "-m", "tests.killing", how, str(tmp_path), str(many)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert told in done.stdout
