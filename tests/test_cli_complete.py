"""What the shell offers: names of models among them, without importing what computes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def offered(plugged: Path, line: str, *, imported: bool = False) -> list[str]:
    """Return what completes the last word of a line."""
    words = line.split(" ")
    code = (
        "import sys\nfrom rerank.cli import main\ntry:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(plugged), str(ROOT)]),
            "_RERANK_COMPLETE": "complete_bash",
            "COMP_WORDS": line.rstrip(),
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.split() if imported else done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rerank sc", ["score"]),
        ("rerank generate --generator sy", ["synth"]),
        ("rerank generate --generator to", ["toy"]),
        ("rerank rank a.wav --reward cmi", ["cmi-mini", "cmi-rm"]),
        ("rerank score a.wav --reward toy --reward mu", ["mulan"]),
        ("rerank models sy", ["synth"]),
        ("rerank generate piano --rule ", ["mean", "zscore", "rank"]),
        ("rerank export run --format f", ["flac"]),
        ("rerank eval speed --reward cmi-m", ["cmi-mini"]),
        ("rerank generate --prom", ["--prompts"]),
    ],
)
def test_names_are_completed(plugged: Path, line: str, expected: list[str]) -> None:
    assert offered(plugged, line) == expected


def test_completion_imports_nothing_heavy(plugged: Path) -> None:
    modules = offered(plugged, "rerank generate --generator mus", imported=True)
    assert "rerank.registry" in modules
    assert not {"torch", "transformers", "scipy", "soundfile", "huggingface_hub"} & set(modules)


def test_the_shell_is_told_how_to_complete() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rerank", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--install-completion" in done.stdout and "--show-completion" in done.stdout
