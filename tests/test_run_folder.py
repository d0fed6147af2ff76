"""The folder of a run holds what was finished, and nothing of a user is lost to it."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rerank
from rerank import takes
from rerank.audio import Audio, read
from rerank.data import Candidate
from rerank.errors import InvalidInput, OutputError
from rerank.run_folder import RunFolder, new_folder, read_document, to_json
from tests.conftest import ROOT, ToyGenerator, ToyReward, notes

AUDIO = notes(np.random.default_rng(0), 0.1)


def candidate(index: int, seed: int | None = None, audio: Audio = AUDIO, source: Path | None = None) -> Candidate:
    return Candidate(index=index, seed=seed, audio=audio, source=source)


def document(*candidates: Candidate, folder: Path, status: str = "done") -> dict[str, Any]:
    return {"version": 2, "status": status, "candidates": [one.to_dict(folder) for one in candidates]}


def run(folder: Path, *seeds: int, overwrite: bool = False, complete: bool = True) -> list[Candidate]:
    with RunFolder.opened(folder, overwrite=overwrite) as opened:
        stored = [opened.stored(candidate(index, seed)) for index, seed in enumerate(seeds)]
        opened.write(document(*stored, folder=opened.place))
        if complete and opened.place != opened.path:
            opened.take_place(document(*stored, folder=opened.path))
    return stored


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_candidates_are_stored_at_their_level_and_read_when_used(tmp_path: Path) -> None:
    loud = Audio(AUDIO.waveform * 9, AUDIO.sample_rate)
    with RunFolder.opened(tmp_path) as opened:
        quiet = opened.stored(candidate(3, 14))
        assert quiet.path == tmp_path / "candidates" / "003-seed14.flac"
        stored = opened.stored(candidate(1000, 5, loud))
    assert stored.path is not None and stored.path.name == "1000-seed5.wav"
    assert stored.audio is not None and stored.audio is not loud
    assert np.array_equal(stored.audio.waveform, loud.waveform)
    stored.path.unlink()
    with pytest.raises(InvalidInput, match=re.escape(str(stored.path))):
        _ = stored.audio.waveform


def test_audio_made_elsewhere_keeps_its_name(tmp_path: Path) -> None:
    source = AUDIO.save(tmp_path / "my take (2).wav")
    with RunFolder.opened(tmp_path / "run") as opened:
        named = opened.stored(candidate(0, None, read(source), source))
        assert named.path is not None and named.path.name == "000-my-take-2-.flac"
        plain = opened.stored(candidate(1))
        assert plain.path is not None and plain.path.name == "001-audio.flac"


def test_a_long_name_is_cut_so_that_it_can_be_written(tmp_path: Path) -> None:
    source = Path("\N{MATHEMATICAL SCRIPT SMALL A}" * 62)
    with RunFolder.opened(tmp_path) as opened:
        stored = opened.stored(candidate(0, None, AUDIO, source))
    assert stored.path is not None and stored.path.name == f"000-{source.name[:50]}.flac"


def test_what_is_stored_already_is_not_written_again(tmp_path: Path) -> None:
    with RunFolder.opened(tmp_path) as opened:
        first = opened.stored(candidate(0, 0))
        assert opened.stored(first) is first
        assert opened.stored(candidate(0, 0)).path == first.path, "the same content needs no second name"
        other = opened.stored(candidate(0, 0, notes(np.random.default_rng(1), 0.1)))
    assert other.path is not None and other.path.name == "000-seed0-2.flac"


def test_a_run_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    run(tmp_path / "run", 0)
    with pytest.raises(OutputError, match="already holds a run; choose another folder, or go on with it by --resume"):
        run(tmp_path / "run", 1)
    (tmp_path / "run" / "ranking.json").unlink()
    with pytest.raises(OutputError, match="already holds a run"):
        run(tmp_path / "run", 1)
    with (
        pytest.raises(OutputError, match="holds takes and no ranking.json"),
        RunFolder.opened(tmp_path / "run", resume=True),
    ):
        pass


def test_only_files_of_the_earlier_run_go(tmp_path: Path) -> None:
    place = tmp_path / "run"
    run(place, 0, 1, 2)
    edited = notes(np.random.default_rng(9), 0.2).save(place / "candidates" / "001-seed1.flac").read_bytes()
    mine = ["band rehearsal.wav", "candidates/003-my-edited-favourite.wav", "candidates/2024-11-21 take.flac"]
    for name in mine:
        (place / name).write_bytes(b"mine")
    run(place, 0, 5, overwrite=True)
    assert files(place) == sorted(
        [*mine, "candidates/000-seed0.flac", "candidates/001-seed1.flac", "candidates/001-seed5.flac", "ranking.json"]
    )
    assert (place / "candidates" / "001-seed1.flac").read_bytes() == edited
    assert [entry["path"] for entry in (read_document(place) or {})["candidates"]] == [
        "candidates/000-seed0.flac",
        "candidates/001-seed5.flac",
    ]


def test_a_take_of_the_user_is_not_written_over(tmp_path: Path) -> None:
    place = tmp_path / "run"
    run(place, 0)
    (place / "candidates" / "000-seed0.flac").write_bytes(b"edited")
    run(place, 0, overwrite=True)
    assert (place / "candidates" / "000-seed0.flac").read_bytes() == b"edited"
    assert [entry["path"] for entry in (read_document(place) or {})["candidates"]] == ["candidates/000-seed0-2.flac"]


def test_a_document_of_the_user_in_a_folder_called_as_a_stage_stays(tmp_path: Path) -> None:
    run(tmp_path, 0)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "ranking.json").write_text('{"a": 1}')
    run(tmp_path, 1, overwrite=True)
    assert files(tmp_path) == ["candidates/000-seed1.flac", "ranking.json", "unfinished/ranking.json"]


def test_what_a_document_of_version_1_lists_stays(tmp_path: Path) -> None:
    place = tmp_path / "run"
    run(place, 0, 1)
    old = read_document(place) or {}
    for entry in old["candidates"]:
        del entry["sha256"]
    (place / "ranking.json").write_text(json.dumps({**old, "version": 1}))
    run(place, 7, overwrite=True)
    assert files(place) == [
        *(f"candidates/{name}.flac" for name in ("000-seed0", "000-seed7", "001-seed1")),
        "ranking.json",
    ]


@pytest.mark.parametrize("name", ["candidates", "unfinished"])
def test_a_link_is_not_followed(tmp_path: Path, name: str) -> None:
    run(tmp_path / "other", 0)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "other" / "candidates", target_is_directory=True)
    before = files(tmp_path / "other")
    with pytest.raises(OutputError, match=f"{name} is a link to somewhere else; choose another folder"):
        run(tmp_path / "run", 1, overwrite=True)
    assert files(tmp_path / "other") == before


def test_a_document_cannot_point_out_of_its_folder(tmp_path: Path) -> None:
    [mine] = run(tmp_path / "mine", 0)
    place = tmp_path / "run"
    run(place, 0)
    evil = {**(read_document(place) or {}), "candidates": [mine.to_dict(place)]}
    assert evil["candidates"][0]["path"].startswith("../mine/")
    (place / "ranking.json").write_text(json.dumps(evil))
    run(place, 3, overwrite=True)
    assert files(tmp_path / "mine") == ["candidates/000-seed0.flac", "ranking.json"]


def test_runs_that_are_not_complete_are_kept_beside_until_one_is(tmp_path: Path) -> None:
    place = tmp_path / "run"
    run(place, 0, 1)
    before = {name: (place / name).read_bytes() for name in files(place)}
    run(place, 5, overwrite=True, complete=False)
    run(place, 6, overwrite=True, complete=False)
    assert all((place / name).read_bytes() == content for name, content in before.items())
    assert files(place)[-4:] == [
        "unfinished-2/candidates/000-seed6.flac",
        "unfinished-2/ranking.json",
        "unfinished/candidates/000-seed5.flac",
        "unfinished/ranking.json",
    ]
    run(place, 9, overwrite=True)
    assert sorted(path.name for path in place.iterdir()) == ["candidates", "ranking.json"]
    assert files(place) == ["candidates/000-seed9.flac", "ranking.json"]


def test_files_are_copied_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    run(tmp_path / "run", 0, 1)
    run(tmp_path / "run", 0, 5, overwrite=True)
    assert files(tmp_path / "run") == ["candidates/000-seed0.flac", "candidates/001-seed5.flac", "ranking.json"]


def test_a_run_that_cannot_take_the_place_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "run"
    run(place, 0, 1)
    before = {name: (place / name).read_bytes() for name in files(place)}
    link = os.link
    calls: list[Path] = []

    def closed(old: Path, new: Path, **_: Any) -> None:
        calls.append(new)
        if len(calls) > 1:
            raise PermissionError(13, "Permission denied", str(new))
        link(old, new)

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", closed)
        patched.setattr(shutil, "copy2", closed)
        with pytest.raises(OutputError, match=r"cannot write .*run: permission denied"):
            run(place, 5, 6, overwrite=True)
    assert {name: (place / name).read_bytes() for name in before} == before
    assert set(files(place)) - set(before) == {
        "unfinished/candidates/000-seed5.flac",
        "unfinished/candidates/001-seed6.flac",
        "unfinished/ranking.json",
    }
    run(place, 7, overwrite=True)
    assert files(place) == ["candidates/000-seed7.flac", "ranking.json"]


@pytest.mark.parametrize("call", ["unlink", "replace"])
def test_what_fails_once_the_new_run_is_there_is_told_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    place = tmp_path / "run"
    run(place, 0, 1)
    real = getattr(Path, call)

    def failing(path: Path, *args: Any, **options: Any) -> Any:
        fails = (
            path.name == "001-seed1.flac"
            if call == "unlink"
            else ".001-seed6.flac" in path.name and "run/cand" in str(path)
        )
        if fails:
            raise OSError(5, "Input/output error")
        return real(path, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, call, failing)
        run(place, 5, 6, overwrite=True)
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"{place} holds the new run, but not all") and "input/output error" in told
    entries = (read_document(place) or {})["candidates"]
    assert [entry["path"] for entry in entries] == [f"unfinished/candidates/00{at}-seed{at + 5}.flac" for at in (0, 1)]
    assert all((place / entry["path"]).is_file() for entry in entries)
    with RunFolder.opened(place, resume=True):
        pass
    assert files(place) == ["candidates/000-seed5.flac", "candidates/001-seed6.flac", "ranking.json"]


def test_a_stage_in_which_nothing_was_stored_is_removed_again(tmp_path: Path) -> None:
    run(tmp_path, 0)
    with pytest.raises(ZeroDivisionError), RunFolder.opened(tmp_path, overwrite=True):
        _ = 1 / 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["candidates", "ranking.json"]


def test_a_run_whose_takes_were_removed_can_be_saved_elsewhere(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"generator": ToyGenerator(), "reward": ToyReward(), "duration": 0.5}
    kept = rerank.generate("piano", 3, output=tmp_path / "run", keep=1, **chosen)
    rerank.load(tmp_path / "run").save(tmp_path / "copy")
    copy = rerank.load(tmp_path / "copy")
    assert [one.rewards for one in copy.candidates] == [one.rewards for one in kept.candidates]
    assert [one.is_removed for one in copy.candidates] == [False, True, True]
    assert len(files(tmp_path / "copy")) == 2


def test_a_run_does_not_replace_its_own_sources(tmp_path: Path) -> None:
    [stored] = run(tmp_path / "run", 0)
    assert stored.path is not None
    (tmp_path / "link.flac").symlink_to(stored.path)
    for one in (stored.path, tmp_path / "link.flac"):
        with (
            pytest.raises(OutputError, match=r"cannot overwrite .*run: it holds the input .*; choose another folder"),
            RunFolder.opened(tmp_path / "run", overwrite=True, sources=[one]),
        ):
            pass
    assert stored.path.exists()


@pytest.mark.parametrize("name", ["a\0b", "a" * 300])
def test_a_folder_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="cannot write"), RunFolder.opened(tmp_path / name):
        pass


def test_a_folder_that_may_not_be_searched_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: object, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    for call in ("stat", "mkdir", "listdir", "open", "scandir"):
        monkeypatch.setattr(os, call, closed)
    with (
        pytest.raises(OutputError, match="cannot write .*: permission denied"),
        RunFolder.opened(tmp_path / "closed" / "run"),
    ):
        pass


def test_a_folder_without_a_run_is_used_and_a_file_refused(tmp_path: Path) -> None:
    (tmp_path / "other.txt").touch()
    run(tmp_path, 0)
    assert files(tmp_path) == ["candidates/000-seed0.flac", "other.txt", "ranking.json"]
    with pytest.raises(OutputError, match="it is a file; choose a folder"), RunFolder.opened(tmp_path / "other.txt"):
        pass


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '{"a": 1}', '{"version": 2}', '{"version": 2, "candidates": 3}'])
def test_a_document_that_is_none_is_not_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "ranking.json").write_text(text)
    with pytest.raises(InvalidInput, match="ranking.json is no ranking"):
        run(tmp_path, 0, overwrite=True)
    assert (tmp_path / "ranking.json").read_text() == text


def test_a_folder_in_which_nothing_was_stored_is_removed_again(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("new", "mine", "used"):
        with RunFolder.opened(tmp_path / name) as opened:
            assert (tmp_path / name / "candidates").is_dir()
            opened.write({"version": 2, "status": "running", "candidates": []})
            if name == "used":
                opened.write(document(opened.stored(candidate(0, 0)), folder=opened.place))
            else:
                opened.abandon()
    assert files(tmp_path) == ["used/candidates/000-seed0.flac", "used/ranking.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "used"]


def test_what_a_killed_process_left_is_cleaned(tmp_path: Path) -> None:
    run(tmp_path, 0)
    for name in (".ranking.json.12.34.partial", "candidates/.001-seed1.flac.12.34.partial"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "candidates" / "mine.partial").write_bytes(b"mine")
    with RunFolder.opened(tmp_path, resume=True):
        pass
    assert files(tmp_path) == ["candidates/000-seed0.flac", "candidates/mine.partial", "ranking.json"]


def kill(folder: Path, *, at: str, **options: bool) -> None:
    """Have a process store takes 0 and 1 and name the first, then keep none of them; it kills itself on the way."""
    code = """
import os, sys
import numpy as np
from rerank import swap, takes
from rerank.run_folder import RunFolder, remove_takes
from tests.test_run_folder import candidate, document
folder, at, options = sys.argv[1], sys.argv[2], eval(sys.argv[3])
with RunFolder.opened(folder, **options) as run:
    first = run.stored(candidate(0, 0))
    run.write(document(first, folder=run.place, status="running"))
    second = run.stored(candidate(1, 1))
    if at == "keep":
        takes.remove = lambda *_: os.kill(os.getpid(), 9)
        remove_takes(run, [first, second], [first, second], lambda left: document(*left, folder=run.place))
    os.kill(os.getpid(), 9)
"""
    command = [sys.executable, "-c", code, str(folder), at, repr(options)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9


@pytest.mark.parametrize("again", ["overwrite", "resume"])
def test_only_what_was_recorded_of_a_killed_run_goes(tmp_path: Path, again: str) -> None:
    kill(tmp_path, at="stored")
    assert files(tmp_path) == [
        ".takes.jsonl",
        "candidates/000-seed0.flac",
        "candidates/001-seed1.flac",
        "ranking.json",
    ]
    mine = {"candidates/000-seed0.wav", "candidates/002-seed2.flac"}  # called as takes of that run would have been
    for name in mine:
        (tmp_path / name).write_bytes(b"mine")
    for name in (".ranking.json.1.2.partial", "candidates/.002-seed2.flac.1.2.partial"):
        (tmp_path / name).write_bytes(b"half")
    if again == "overwrite":
        run(tmp_path, 7, overwrite=True)
        assert set(files(tmp_path)) == {*mine, "candidates/000-seed7.flac", "ranking.json"}
    else:
        with RunFolder.opened(tmp_path, resume=True):
            pass
        assert set(files(tmp_path)) == {*mine, "candidates/000-seed0.flac", "ranking.json"}


def test_a_take_that_was_edited_after_the_kill_stays(tmp_path: Path) -> None:
    kill(tmp_path, at="stored")
    (tmp_path / "candidates" / "001-seed1.flac").write_bytes(b"edited")
    with (tmp_path / ".takes.jsonl").open("ab") as notes_:
        notes_.write(b'\n["candidates/002-')  # killed while it wrote this line
    with RunFolder.opened(tmp_path, resume=True) as opened:
        opened.stored(candidate(2, 2))
        assert len(takes.left(tmp_path)) == 1, "what follows the broken line is read"
    run(tmp_path, 7, overwrite=True)
    assert files(tmp_path) == ["candidates/000-seed7.flac", "candidates/001-seed1.flac", "ranking.json"]


def test_what_a_killed_run_left_is_not_touched_by_one_that_is_refused(tmp_path: Path) -> None:
    kill(tmp_path, at="stored")
    before = files(tmp_path)
    with pytest.raises(OutputError, match="already holds a run"):
        run(tmp_path, 1)
    assert files(tmp_path) == before


@pytest.mark.parametrize("again", ["overwrite", "resume"])
def test_a_removal_that_was_killed_goes_on(tmp_path: Path, again: str) -> None:
    kill(tmp_path, at="keep")
    assert [entry["path"] for entry in (read_document(tmp_path) or {})["candidates"]] == [None, None]
    assert len(files(tmp_path)) == 4
    with RunFolder.opened(tmp_path, resume=again == "resume", overwrite=again == "overwrite") as opened:
        if again == "overwrite":
            opened.write(document(folder=opened.place))
            opened.take_place(document(folder=opened.path))
    assert files(tmp_path) == ["ranking.json"]


def test_what_a_run_killed_in_its_stage_left_goes(tmp_path: Path) -> None:
    run(tmp_path, 5)
    kill(tmp_path, at="stored", overwrite=True)
    (tmp_path / "unfinished" / "candidates" / "001-seed1.wav").write_bytes(b"mine")
    (tmp_path / "unfinished" / "candidates" / ".000-seed0.flac.1.2.partial").write_bytes(b"half")
    run(tmp_path, 6, overwrite=True)
    assert files(tmp_path) == ["candidates/000-seed6.flac", "ranking.json", "unfinished/candidates/001-seed1.wav"]


def test_a_folder_is_claimed(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom rerank.run_folder import RunFolder\n"
        "try:\n    with RunFolder.opened(sys.argv[1]): print('mine')\n"
        "except Exception as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with RunFolder.opened(tmp_path):
        told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        assert told == f"{tmp_path} is in use by another run; choose another folder, or wait until that is done\n"
        with pytest.raises(OutputError, match="in use by another run"), RunFolder.opened(tmp_path):
            pass
    assert subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout == "mine\n"


_RACE = """
import os, sys
from multiprocessing import get_context
from pathlib import Path
from rerank.errors import OutputError
from rerank.run_folder import RunFolder, new_folder

ctx, place, rounds, how = get_context("fork"), Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
together, tried, told = ctx.Barrier(3), ctx.Barrier(3), ctx.SimpleQueue()

def once(number):
    # every other round the folder is new, and nothing is stored in it: whoever had it removes it
    folder = place / str(number if how == "stored" else number % 2)
    together.wait(60)
    if how == "numbered":
        with new_folder(place / "runs", "a") as folder:
            mark = os.open(place / folder.name, os.O_CREAT | os.O_EXCL)  # raises where another one has it too
            (folder / "mine").touch()
            (folder / "mine").unlink()
            os.unlink(place / folder.name)
            os.close(mark)
        return "owner"
    try:
        with RunFolder.opened(folder) as run:
            if how == "stored":
                tried.wait(60)
                (folder / "candidates" / "000-mine.flac").touch()
                return "owner"
            mark = os.open(place / "mark", os.O_CREAT | os.O_EXCL)  # raises where another one has the folder too
            assert (folder / "candidates").is_dir() and os.path.samestat(os.stat(folder), os.stat(run.path))
            os.unlink(place / "mark")
            os.close(mark)
            return "owner"
    except OutputError as error:
        if how == "stored":
            tried.wait(60)
        return str(error).replace(str(folder), "FOLDER")

def several():
    try:
        result = [once(number) for number in range(rounds)]
    except BaseException as error:
        result = [repr(error)] * rounds
        together.abort(), tried.abort()
    told.put(result)

children = [ctx.Process(target=several) for _ in range(3)]
[child.start() for child in children]
results = [told.get() for _ in children]
[child.join() for child in children]
for number in range(rounds):
    print(sorted(result[number] for result in results))
"""


@pytest.mark.parametrize("how", ["stored", "removed again"])
def test_a_new_folder_has_one_owner(tmp_path: Path, how: str) -> None:
    command = [sys.executable, "-c", _RACE, str(tmp_path), "150", how]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    refused = "FOLDER is in use by another run; choose another folder, or wait until that is done"
    rounds = [ast.literal_eval(line) for line in done.stdout.splitlines()]
    assert len(rounds) == 150
    if how == "stored":
        assert all(one == [refused, refused, "owner"] for one in rounds)
    else:
        assert all("owner" in one and set(one) <= {refused, "owner"} for one in rounds)
        # one that a run made and another one claimed first is left to neither, and empty
        assert not list(tmp_path.glob("*/*"))


def test_new_folders_have_one_owner_each(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _RACE, str(tmp_path), "150", "numbered"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [str(["owner"] * 3)] * 150


def test_new_folders_are_not_shared(tmp_path: Path) -> None:
    with new_folder(tmp_path / "runs", "a") as first, new_folder(tmp_path / "runs", "a") as second:
        assert (first.name, second.name) == ("a", "a-2")
        (second / "something").touch()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a-2"]
    with pytest.raises(OutputError, match="cannot write"), new_folder(tmp_path / "runs", "a" * 300):
        pass


def test_json_holds_no_nan_and_any_file_name() -> None:
    assert json.loads(to_json({"path": "a\udcff", "text": "ü"})) == {"path": "a\udcff", "text": "ü"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"combined": float("nan")})
