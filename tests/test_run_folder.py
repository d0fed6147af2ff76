"""The folder of a run holds what was finished, and nothing of a user is lost to it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from rerank.audio import Audio, read
from rerank.errors import OutputError
from rerank.run_folder import RunFolder, to_json
from tests.conftest import notes

AUDIO = notes(np.random.default_rng(0), 0.1)


def test_candidates_are_stored_at_their_level(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    loud = Audio(AUDIO.waveform * 9, AUDIO.sample_rate)
    assert run.write_candidate(AUDIO, 3, 14) == tmp_path / "candidates" / "003-seed14.flac"
    path = run.write_candidate(loud, 1000, 5)
    assert path.name == "1000-seed5.wav"
    assert np.array_equal(read(path).waveform, loud.waveform)


def test_audio_made_elsewhere_keeps_its_name(tmp_path: Path) -> None:
    named = read(AUDIO.save(tmp_path / "my take (2).wav"))
    run = RunFolder(tmp_path / "run")
    assert run.write_candidate(named, 0, None).name == "000-my-take-2-.flac"
    assert run.write_candidate(AUDIO, 1, None).name == "001-audio.flac"


def test_a_run_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    first = RunFolder(tmp_path / "run")
    kept = first.write_candidate(AUDIO, 0, 0)
    # a crash before the end leaves candidates and no document: that is a run too
    with pytest.raises(OutputError, match="already holds a run; choose another folder, or --overwrite"):
        RunFolder(tmp_path / "run")
    first.write_document({})
    mine = tmp_path / "run" / "candidates" / "notes.txt"
    mine.write_text("mine")
    second = RunFolder(tmp_path / "run", overwrite=True)
    second.write_candidate(AUDIO, 1, 1)
    assert kept.exists(), "the earlier run must stay until the new one is complete"
    second.write_document({})
    assert sorted(path.name for path in (tmp_path / "run").rglob("*.*")) == [
        "001-seed1.flac",
        "notes.txt",
        "ranking.json",
    ]
    assert not (tmp_path / "run" / "unfinished").exists()


def run(folder: Path, *seeds: int, overwrite: bool = False) -> RunFolder:
    made = RunFolder(folder, overwrite=overwrite)
    for index, seed in enumerate(seeds):
        made.write_candidate(AUDIO, index, seed)
    return made


def test_a_run_that_fails_leaves_the_earlier_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, 0, 1).write_document({"run": 1})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    second = run(tmp_path, 0, 7, overwrite=True)
    second.write_document({"run": 2}, complete=False)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert json.loads((tmp_path / "unfinished" / "ranking.json").read_text()) == {"run": 2}
    third = run(tmp_path, 5, overwrite=True)

    def full(*_: object) -> None:
        raise OSError(28, "no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(OutputError, match="no space left"):
            third.write_document({"run": 3})
    assert all(path.read_bytes() == content for path, content in before.items())
    third.write_document({"run": 3})
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert names == ["candidates", "candidates/000-seed5.flac", "ranking.json"]
    assert json.loads((tmp_path / "ranking.json").read_text()) == {"run": 3}


def test_a_run_does_not_replace_its_own_sources(tmp_path: Path) -> None:
    source = run(tmp_path / "run", 0).write_candidate(AUDIO, 1, 1)
    (tmp_path / "link.flac").symlink_to(source)
    for one in (source, tmp_path / "link.flac"):
        with pytest.raises(OutputError, match=r"cannot overwrite .*run: it holds the input .*; choose another folder"):
            RunFolder(tmp_path / "run", overwrite=True, sources=[one])
    assert source.exists()


@pytest.mark.parametrize("name", ["a\0b", "a" * 300])
def test_a_folder_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        RunFolder(tmp_path / name)


def test_a_folder_that_may_not_be_searched_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: object, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", closed)
    monkeypatch.setattr(os, "mkdir", closed)
    monkeypatch.setattr(os, "listdir", closed)
    with pytest.raises(OutputError, match="cannot write .*: permission denied"):
        RunFolder(tmp_path / "closed" / "run")


def test_a_folder_without_a_run_is_used_and_a_file_refused(tmp_path: Path) -> None:
    (tmp_path / "other.txt").touch()
    RunFolder(tmp_path).write_document({"version": 1})
    assert json.loads((tmp_path / "ranking.json").read_text()) == {"version": 1}
    with pytest.raises(OutputError, match="it is a file; choose a folder"):
        RunFolder(tmp_path / "other.txt")


def test_a_folder_in_which_nothing_was_stored_is_removed_again(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("new", "mine", "used"):
        made = RunFolder(tmp_path / name)
        assert not (tmp_path / name / "candidates").exists()
        made.make()
        assert (tmp_path / name / "candidates").is_dir()
        if name == "used":
            made.write_candidate(AUDIO, 0, 0)
        made.leave()
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "mine",
        "used",
        "used/candidates",
        "used/candidates/000-seed0.flac",
    ]


def test_json_holds_no_nan_and_any_file_name() -> None:
    assert json.loads(to_json({"path": "a\udcff", "text": "ü"})) == {"path": "a\udcff", "text": "ü"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"combined": float("nan")})
