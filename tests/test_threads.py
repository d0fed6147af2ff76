"""How the threads of torch wait: what is set before torch is there to read it."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

COMMAND = """
import os, sys
from rerank.cli import main

sys.argv = ["rerank", "--version"]
try:
    main()
except SystemExit as end:
    assert end.code == 0
assert "torch" not in sys.modules
print(os.environ["OMP_WAIT_POLICY"])
"""


@pytest.mark.parametrize(("own", "expected"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_the_command_lets_threads_sleep_unless_told_otherwise(own: dict[str, str], expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND],
        cwd=ROOT,
        env={**environment, **own},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == [expected]
