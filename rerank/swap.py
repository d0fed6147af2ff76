"""How a complete run takes the place of an earlier one, so that at every instant the folder holds one of them whole.

The new run was written to a stage, the subfolder `unfinished`. Then, each step by itself complete or not begun:

1. `stage/replaced.json` says which files of earlier runs may go, with their hashes.
2. `ranking.json` becomes that of the new run, with the paths that its files have in the stage. From here on the new run
   is what the folder holds.
3. The files of the earlier runs are removed, as far as they are still what was recorded.
4. The files of the new run are linked to `candidates/`, and `ranking.json` names them there.
5. The stage is removed.

A process that is killed between two steps leaves a folder that can be read; whoever claims it next goes on from there.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from rerank import takes
from rerank.errors import OutputError
from rerank.files import claimed, remove_partial, sha256_of, sync, write_bytes

_STAGE = "unfinished"
_REPLACED = "replaced.json"


def free_stage(folder: Path) -> Path:
    """Return where in a folder a new run is to be written: `unfinished`, or a name like it that is not in use."""
    number = 1
    while os.path.lexists(stage := folder / (_STAGE if number == 1 else f"{_STAGE}-{number}")):
        number += 1
    return stage


def listed(folder: Path) -> list[tuple[Path, str]]:
    """Return the files of the runs in a folder, those in its stages too, with the hashes that were recorded of them.

    Those of a run are what its document names, and what it had noted (see `rerank.takes`) when it was killed.
    """
    found: list[tuple[Path, str]] = []
    for place in (folder, *(stage for stage in _stages(folder) if _is_free(stage))):
        found += [*takes.named(place), *takes.left(place)]
        if place != folder and takes.read_object(place / "ranking.json"):
            found.append((place / "ranking.json", sha256_of(place / "ranking.json")))
    return found


def take_place(folder: Path, stage: Path, document: str) -> dict[Path, Path]:
    """Put the run in a stage where the earlier one is; return where each of its files is now, by where it was.

    Args:
        folder: of the run.
        stage: that holds the complete new run.
        document: of the new run, with paths relative to `folder`.

    Raises:
        OSError, OutputError: a step cannot be done.
    """
    going = [(path, digest) for path, digest in listed(folder) if stage not in path.parents]
    replaced = {
        "document": _digest(folder / "ranking.json"),
        "files": [[path.relative_to(folder).as_posix(), digest] for path, digest in going],
    }
    write_bytes(stage / _REPLACED, json.dumps(replaced).encode(), synced=True)
    sync(stage)
    write_bytes(folder / "ranking.json", document.encode(), synced=True)
    sync(folder)
    return settle(folder)


def settle(folder: Path) -> dict[Path, Path]:
    """Go on with what a killed process left of `take_place`; return where each file is now, by where it was.

    Raises:
        OSError, OutputError: a step cannot be done.
    """
    moved: dict[Path, Path] = {}
    stages = list(_stages(folder))
    for stage in stages:
        replaced = takes.read_object(stage / _REPLACED)
        if not replaced:
            continue
        if replaced.get("document") == _digest(folder / "ranking.json"):
            # the new run did not get so far as to take the place: it stays where it is
            (stage / _REPLACED).unlink()
            continue
        for path, digest in replaced.get("files", []):
            takes.remove(folder, folder / path, digest)
        takes.forget(folder)
        moved |= _move(folder, stage)
        _remove_stage(stage)
    for stage in stages:  # a process may have been killed before it wrote anything, and files may just have gone
        if stage.exists() and _is_free(stage):
            for place in (stage, stage / "candidates"):
                remove_partial(place)
            takes.forget(stage)
            _remove_empty(stage)
    return moved


def _move(folder: Path, stage: Path) -> dict[Path, Path]:
    """Link the files of the run in a stage to `candidates/`, and name them there."""
    document = takes.read_object(folder / "ranking.json")
    moved: dict[Path, Path] = {}
    for entry in document.get("candidates", []):
        old = folder / entry["path"] if entry.get("path") else None
        if old is None or stage not in old.parents:
            continue
        new = takes.free_name(folder / "candidates" / old.name, entry["sha256"])
        new.parent.mkdir(exist_ok=True)
        if not new.exists():
            _link(old, new)
        moved[old] = new
        entry["path"] = new.relative_to(folder).as_posix()
    if moved:
        sync(folder / "candidates")
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_bytes(folder / "ranking.json", text.encode("utf-8", "backslashreplace"), synced=True)
        sync(folder)
    return moved


def _link(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except OSError:  # some file systems have no links
        write_bytes(new, old.read_bytes(), synced=True)
        shutil.copystat(old, new)


def _remove_stage(stage: Path) -> None:
    for path, digest in listed(stage):
        takes.remove(stage, path, digest)
    for path in (stage / "ranking.json", stage / _REPLACED):
        path.unlink(missing_ok=True)
    takes.forget(stage)
    _remove_empty(stage)


def _remove_empty(stage: Path) -> None:
    for made in (stage / "candidates", stage):
        with contextlib.suppress(OSError):  # it holds something that is not ours
            made.rmdir()


def _stages(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.glob(f"{_STAGE}*")):
        number = path.name.removeprefix(_STAGE).removeprefix("-")
        if (not number or number.isdecimal()) and path.is_dir() and not path.is_symlink():
            yield path


def _is_free(stage: Path) -> bool:
    """Return whether no run is writing into a stage, which may be gone on with by itself."""
    try:
        with claimed(stage):
            return True
    except OutputError:
        return False


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
