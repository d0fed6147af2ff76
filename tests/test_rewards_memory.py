"""A memory of encoded audio: its limits, and a folder in which only files of its own are read, replaced or deleted."""

import os
import re
import shutil
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

import rerank
from rerank.cli import app
from rerank.errors import InvalidInput, OutputError
from rerank.rewards.memory import Memory
from tests.conftest import ROOT
from tests.test_models_published import CHECKPOINT, GOLDEN

SUFFIX = ".encoded.safetensors"


def key(number: int) -> str:
    return f"{number:064x}"


def tensor(number: int, size: int = 100) -> Tensor:
    return torch.full((size,), float(number))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "CACHEDIR.TAG")


def change(path: Path, about: dict[str, str] | None = None, made: dict[str, Tensor] | None = None) -> None:
    """Write a file again with other tensors, or with other words about them."""
    with safe_open(path, framework="pt") as file:
        before = file.metadata()
    save_file(made or load_file(path), path, metadata=before | (about or {}))


def test_it_keeps_what_was_used_last_within_its_limit(tmp_path: Path) -> None:
    folder, memory = tmp_path / "kept", Memory(limit=1000, folder=tmp_path / "kept")
    for number in range(5):
        memory.put({key(number): tensor(number)})
        path = folder / f"{key(number)}{SUFFIX}"
        if path.exists():
            os.utime(path, (number, number))
    assert [memory._held.keys() & {key(n)} != set() for n in range(5)] == [False, False, False, True, True]
    assert memory._size == 2 * 400
    assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) <= 1000
    found = memory.get(key(4))
    assert found is not None and found[0] == 4
    assert memory.get(key(0)) is None


def test_what_is_read_makes_place_after_what_is_not(tmp_path: Path) -> None:
    first = Memory(folder=tmp_path)
    first.put({key(number): tensor(number) for number in range(3)})
    for number in range(3):
        os.utime(tmp_path / f"{key(number)}{SUFFIX}", (number, number))
    length = (tmp_path / f"{key(0)}{SUFFIX}").stat().st_size
    second = Memory(limit=3 * length, folder=tmp_path)
    assert second.get(key(0)) is not None
    second.put({key(3): tensor(3)})
    assert files(tmp_path) == [f"{key(number)}{SUFFIX}" for number in (0, 2, 3)]


@pytest.mark.parametrize(
    "made", [torch.randn(2, 3), torch.ones((), dtype=torch.bfloat16), torch.zeros(0, 4), torch.randn(3, 2).T]
)
def test_tensors_come_back_as_they_were(made: Tensor, tmp_path: Path) -> None:
    with torch.inference_mode():
        Memory(folder=tmp_path).put({key(1): made})
    found = Memory(folder=tmp_path).get(key(1))
    assert found is not None
    assert found.dtype == made.dtype and torch.equal(found, made)


@pytest.mark.parametrize("limit", [-1, 1.5, True, "1 GB"])
def test_a_limit_is_a_number_of_bytes(limit: Any) -> None:
    with pytest.raises(InvalidInput, match="limit must be a whole number"):
        Memory(limit=limit)


def test_one_memory_serves_all_of_a_process_and_one_all_of_a_folder(tmp_path: Path) -> None:
    kept, other = Memory.shared(2, tmp_path / "kept"), Memory.shared(2, tmp_path / "other")
    assert Memory.shared(1, tmp_path / "other" / ".." / "kept") is kept is not other
    assert Memory.shared() is Memory.shared() and Memory.shared() not in (kept, other)
    assert kept.limit == 2 * 2**20, "the largest holds"
    assert Memory.shared(3, tmp_path / "kept").limit == kept.limit == 3 * 2**20
    gone = weakref.ref(kept)
    del kept
    assert gone() is None and Memory.shared(1, tmp_path / "kept").limit == 2**20


def test_a_shared_folder_is_looked_into_each_time(tmp_path: Path) -> None:
    memory = Memory.shared(1, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds 'notes\.txt', which is no part of a cache"):
        Memory.shared(1, tmp_path)
    assert memory.get(key(1)) is None


# what is not ours


def _put(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"weight": torch.ones(1000)}, path)
    os.utime(path, (1, 1))  # older than all that the memory keeps
    return path


@pytest.mark.parametrize("name", ["my-fine-tune.safetensors", "model.safetensors", "notes.txt", ".hidden", "sub/a.txt"])
@pytest.mark.parametrize("before", [False, True])
def test_a_folder_that_holds_anything_else_is_refused(name: str, before: bool, tmp_path: Path) -> None:
    if before:
        Memory(folder=tmp_path).put({key(1): tensor(1)})
    path = _put(tmp_path, name)
    held = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=re.escape(f"holds {name.split('/')[0]!r}, which is no part of a cache")):
        Memory(limit=0, folder=tmp_path)
    assert path.exists() and sorted(tmp_path.rglob("*")) == held


def test_a_folder_of_weights_is_refused_before_any_work(tmp_path: Path) -> None:
    weights = shutil.copytree(CHECKPOINT.parent, tmp_path / "models") / CHECKPOINT.name
    (weights / "model.safetensors").write_bytes(b"not read")
    with pytest.raises(OutputError, match="which is no part of a cache; name a folder that is empty or does not exist"):
        rerank.load_reward("cmi-rm", path=weights, cache=weights)
    options = ["--reward", "cmi-rm", "--reward-path", str(weights), "--reward-cache", str(weights)]
    result = CliRunner().invoke(app, ["generate", "piano", *options])
    assert result.exit_code == 1 and result.stdout == ""
    assert "no part of a cache" in result.stderr and result.stderr.count("\n") == 1
    assert sorted(one.name for one in weights.iterdir()) == sorted(one.name for one in CHECKPOINT.iterdir())


def test_the_command_line_takes_a_size(tmp_path: Path) -> None:
    options = ["--reward", "cmi-rm", "--reward-path", str(CHECKPOINT), "--reward-cache", str(tmp_path / "kept")]
    audio = str(GOLDEN / "audio" / "a11_3.000.wav")
    result = CliRunner().invoke(app, ["score", audio, "--prompt", "piano", *options, "--reward-option", "cache_size=1"])
    assert result.exit_code == 0 and len(files(tmp_path / "kept")) == 1
    result = CliRunner().invoke(
        app, ["score", audio, "--prompt", "piano", *options, "--reward-option", "cache_size=.5"]
    )
    assert result.exit_code == 1 and "cache_size must be a whole number from 0" in result.stderr


@pytest.mark.parametrize(
    "name", ["my-fine-tune.safetensors", "notes.txt", f"{key(7)}.safetensors", f"{key(7)}{SUFFIX}"]
)
def test_what_comes_into_a_cache_later_is_never_deleted(name: str, tmp_path: Path) -> None:
    memory = Memory(limit=1500, folder=tmp_path)
    path = _put(tmp_path, name)
    content = path.read_bytes()
    for number in range(1, 7):
        memory.put({key(number): tensor(number)})
    assert path.read_bytes() == content
    assert key(1) + SUFFIX not in files(tmp_path)


def test_another_tool_s_cache_and_other_formats_are_refused(tmp_path: Path) -> None:
    tag = tmp_path / "CACHEDIR.TAG"
    tag.write_text(
        "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag of another tool\n"
    )
    with pytest.raises(OutputError, match="holds 'CACHEDIR.TAG', which is no part of a cache"):
        Memory(folder=tmp_path)
    tag.write_text("Signature: 8a477f597d28d172789f06886806bc55\n# rerank-cache 17: of the future\n")
    with pytest.raises(OutputError, match="a cache of another version of rerank, not a 'rerank-cache 2'; name another"):
        Memory(folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["CACHEDIR.TAG"]


def test_a_cache_of_the_earlier_layout_is_refused(tmp_path: Path) -> None:
    path = _put(tmp_path, f"{key(1)}.safetensors")
    with pytest.raises(
        OutputError, match="looks like a cache of an earlier rerank, .*; name another folder, or delete it"
    ):
        Memory(folder=tmp_path)
    assert path.exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        Memory(folder=tmp_path / "file")


# what does not fit


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"broken"),
        lambda path: path.write_bytes(path.read_bytes()[:-7]),
        lambda path: change(path, about={"key": key(2)}),
        lambda path: change(path, about={"written_by": "rerank-cache 1"}),
        lambda path: change(path, about={"sha256": "0" * 64}),
        lambda path: change(path, made={"encoded": torch.ones(100, dtype=torch.float64)}),
        lambda path: change(path, made={"encoded": tensor(1).reshape(10, 10)}),
        lambda path: change(path, made={"encoded": tensor(1), "more": torch.arange(3.0)}),
        lambda path: change(path, made={"other": tensor(1)}),
        lambda path: save_file({"weight": torch.ones(3)}, path),
    ],
)
def test_what_is_not_what_was_written_is_made_again(
    spoil: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Memory(folder=tmp_path).put({key(1): tensor(1)})
    path = tmp_path / f"{key(1)}{SUFFIX}"
    spoil(path)
    memory = Memory(folder=tmp_path)
    assert memory.get(key(1)) is None
    assert "is made again" in caplog.text and str(path) in caplog.text
    memory.put({key(1): tensor(1)})
    assert Memory(folder=tmp_path).get(key(1)) is not None


# several at once, and what is left of those that were killed


def test_what_a_killed_process_left_is_deleted_after_a_while(tmp_path: Path) -> None:
    Memory(folder=tmp_path).put({key(1): tensor(1)})
    ours = tmp_path / f".{key(1)}{SUFFIX}.123.456.partial"
    for path in (ours, tmp_path / ".CACHEDIR.TAG.123.456.partial"):
        path.write_bytes(b"half")
    Memory(folder=tmp_path)
    assert ours.exists()  # of a process that writes it now, for all one knows
    os.utime(ours, (time.time() - 7200,) * 2)
    memory = Memory(folder=tmp_path)
    assert not ours.exists() and memory.get(key(1)) is not None


def test_a_write_that_is_killed_leaves_what_is_known_by_name(tmp_path: Path) -> None:
    code = """
import os, pathlib, sys, torch
from rerank.rewards.memory import Memory
memory = Memory(folder=pathlib.Path(sys.argv[1]))
sys.addaudithook(lambda event, args: os._exit(9) if event == "os.rename" else None)
memory.put({"1" * 64: torch.ones(3)})
"""
    for folder in (tmp_path / "kept", tmp_path / "kept"):
        assert subprocess.run([sys.executable, "-c", code, folder], check=False, cwd=ROOT).returncode == 9
    (left,) = [path for path in folder.iterdir() if path.suffix == ".partial"][:1]
    os.utime(left, (1, 1))
    Memory(folder=folder)
    assert not left.exists()


def test_one_cache_serves_many_threads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory(limit=4000, folder=tmp_path)

    def work(number: int) -> None:
        for turn in range(50):
            name = (number + turn) % 7
            found = memory.get(key(name))
            assert found is None or found.tolist() == [float(name)] * 100
            memory.put({key(name): tensor(name)})
            memory.clear()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert not caplog.records


def test_one_cache_serves_several_processes(tmp_path: Path) -> None:
    code = """
import logging, pathlib, sys, torch
from rerank.rewards.memory import Memory
logging.basicConfig(level=logging.WARNING)
for turn in range(150):
    if turn % 10 == 0:
        memory = Memory(limit=4000, folder=pathlib.Path(sys.argv[1]))
    name = (turn + int(sys.argv[2])) % 9
    found = memory.get(f"{name:064x}")
    assert found is None or found.tolist() == [float(name)] * 100, found
    memory.put({f"{name:064x}": torch.full((100,), float(name))})
    memory.clear()
"""
    command = [sys.executable, "-c", code, str(tmp_path / "kept")]
    started = [
        subprocess.Popen([*command, str(number)], cwd=ROOT, stderr=subprocess.PIPE, text=True) for number in range(3)
    ]
    assert [process.communicate()[1] for process in started] == ["", "", ""]
    assert [process.returncode for process in started] == [0, 0, 0]


def test_a_folder_that_cannot_be_written_any_more_is_still_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(folder=tmp_path)
    memory.put({key(1): tensor(1)})

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        memory.put({key(2): tensor(2)})
    assert "encoded audio is no longer kept" in caplog.text and "no space left" in caplog.text
    memory.clear()
    assert memory.get(key(1)) is not None and memory.get(key(2)) is None
