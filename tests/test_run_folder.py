"""The folder of a run holds what was finished, and nothing of a user is lost to it."""

import json
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
    assert kept.exists(), "the earlier run must stay until the new one has something"
    second.write_candidate(AUDIO, 1, 1)
    assert sorted(path.name for path in (tmp_path / "run").rglob("*.*")) == ["001-seed1.flac", "notes.txt"]


def test_a_folder_without_a_run_is_used_and_a_file_refused(tmp_path: Path) -> None:
    (tmp_path / "other.txt").touch()
    RunFolder(tmp_path).write_document({"version": 1})
    assert json.loads((tmp_path / "ranking.json").read_text()) == {"version": 1}
    with pytest.raises(OutputError, match="it is a file; choose a folder"):
        RunFolder(tmp_path / "other.txt")


def test_json_holds_no_nan_and_any_file_name() -> None:
    assert json.loads(to_json({"path": "a\udcff", "text": "ü"})) == {"path": "a\udcff", "text": "ü"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"combined": float("nan")})
