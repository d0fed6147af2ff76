"""Files are written completely or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rerank.errors import InvalidInput, OutputError
from rerank.files import as_path, check_place, make_folder, write_bytes
from tests.conftest import ROOT


def test_where_no_file_can_be_written_is_known_before(tmp_path: Path) -> None:
    check_place(tmp_path / "new")
    for path in (tmp_path, tmp_path / "gone" / "new"):
        with pytest.raises(OutputError, match="it must be a file in a folder that exists"):
            check_place(path)


def test_a_folder_that_may_not_be_written_is_known_before() -> None:
    code = (
        "import os\nfrom pathlib import Path\nfrom rerank.errors import OutputError\nfrom rerank.files import check_place\n"
        "if os.getuid() == 0:\n    os.setuid(65534)\n"  # to root every folder may be written
        "try:\n    check_place(Path('/usr/new'))\nexcept OutputError as error:\n    print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "its folder may not be written" in told.stdout


def test_write_bytes_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"one")

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="no space left on device") as caught:
        write_bytes(path, b"two")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_is_no_file_to_be_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="a device or a pipe"):
        write_bytes(pipe, b"new")
    assert pipe.is_fifo() and os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize("name", ["a\0b", "a" * 300])
def test_names_that_no_file_can_have_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_bytes(tmp_path / name, b"")
    with pytest.raises(OutputError, match="cannot write"):
        make_folder(tmp_path / name)


@pytest.mark.parametrize("value", [5, None, b"a", ""])
def test_what_is_no_path_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="output must be a path, as a str that is not empty or a pathlib.Path, got"):
        as_path("output", value)


def test_make_folder_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(OutputError, match="cannot write"):
        make_folder(tmp_path / "a" / "b")


def test_make_folder_refuses_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for path in (tmp_path / "link", tmp_path / "link" / "b"):
        with pytest.raises(OutputError, match="cannot write"):
            make_folder(path)
