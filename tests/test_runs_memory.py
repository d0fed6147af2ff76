"""However long a run is, its memory stays flat: audio that is stored is released."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

MAKE = """
import resource, sys, rerank
from rerank.filters import Filters
from tests.conftest import ToyGenerator, ToyReward
chosen = {"reward": ToyReward(), "filters": Filters(duplicate=None)}
n, how, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
if how == "generate":
    found = rerank.generate("piano", n, generator=ToyGenerator(), duration=20, output=folder, **chosen)
else:
    takes = sorted(map(str, __import__("pathlib").Path(folder, "candidates").glob("*.flac")))[:n]
    found = rerank.rank(takes, "piano", **chosen) if how == "rank" else rerank.score(takes, "piano", reward=ToyReward())
assert len(found) == n
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(peak / 1024 if sys.platform == "linux" else peak / 1024**2)
"""


def peak(*arguments: object) -> float:
    """Return the peak memory of a process that makes or ranks takes of 2.4 MiB each, in MiB."""
    command = [sys.executable, "-c", MAKE, *map(str, arguments)]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run of 100 takes, and the memory that it took."""
    folder = tmp_path_factory.mktemp("takes")
    return folder / "run", peak(100, "generate", folder / "run")


def test_many_candidates_take_no_more_memory_than_few(takes: tuple[Path, float], tmp_path: Path) -> None:
    assert takes[1] - peak(10, "generate", tmp_path / "few") < 30, "90 more takes would be 220 MiB"


@pytest.mark.parametrize("how", ["rank", "score"])
def test_many_files_take_no_more_memory_than_few(takes: tuple[Path, float], how: str) -> None:
    assert peak(100, how, takes[0]) - peak(10, how, takes[0]) < 30, "90 more files would be 220 MiB"
