"""The codec beside everything else in the process: signals, limits of the system, standard error."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from rerank.audio import Audio, read
from tests.conftest import ROOT

FORMATS = (".wav", ".flac", ".ogg", ".mp3")

SIGNALS = """
import os, random, signal, sys, threading, time
from pathlib import Path
from rerank.audio import read
from tests.test_formats_codec import noise

path, rng, arrived = Path(sys.argv[1]), random.Random(0), 0
noise().save(path)
for _ in range(60):
    sender = threading.Timer(rng.uniform(0.001, 0.02), os.kill, (os.getpid(), signal.SIGINT))
    try:
        sender.start()
        until = time.monotonic() + 10
        while time.monotonic() < until:
            noise().save(path)
            read(path)
    except KeyboardInterrupt:
        arrived += 1
    else:
        break
print(arrived)
"""

LIMITS = """
import resource, signal, sys
from pathlib import Path
from rerank.audio import encode
from rerank.errors import OutputError
from tests.test_formats_codec import noise

folder, (_, hard) = Path(sys.argv[1]), resource.getrlimit(resource.RLIMIT_FSIZE)
for suffix in (".flac", ".ogg", ".mp3"):
    length = len(encode(noise(), suffix))
    for limit in {0, 1, 50, 500, 4096, *range(5_000, length, 997), length - 300, length - 1}:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            noise().save(folder / f"a{suffix}")
        except OutputError as error:
            said = str(error)
        else:
            said = "nothing"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert said.startswith(f"cannot write {folder / 'a'}{suffix}: file too large; "), (limit, length, said)
        assert not list(folder.iterdir())
"""


def noise() -> Audio:
    return Audio((np.random.default_rng(0).standard_normal((2, 16_000)) * 0.1).astype(np.float32), 32_000)


def run(code: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_no_interrupt_is_lost_while_files_are_written_and_read(tmp_path: Path) -> None:
    assert run(SIGNALS, tmp_path / "a.flac") == "60\n"


def test_the_codec_never_calls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def called(*_: Any) -> None:
        raise AssertionError("the codec was given a Python file")

    monkeypatch.setattr(soundfile.SoundFile, "_init_virtual_io", called)
    with pytest.raises(AssertionError, match="a Python file"):  # which is what this test relies on
        soundfile.write(io.BytesIO(), np.zeros(9), 8_000, format="FLAC")
    for suffix in FORMATS:
        assert read(noise().save(tmp_path / f"a{suffix}")).channels == 2


def test_no_room_is_told_in_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    """The library itself says nothing where the last bytes it writes find no room."""
    run(LIMITS, tmp_path)
