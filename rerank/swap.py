"""How a complete run takes the place of an earlier one, so that at every instant the folder holds one of them whole.

The new run was written to a stage, the subfolder `unfinished`. Then, each step by itself complete or not begun:

1. The files of the new run are linked to `candidates/` under hidden names: what can be known to fail fails here.
2. `stage/replaced.json` says which files of earlier runs may go, with their hashes.
3. `ranking.json` becomes that of the new run, with the paths that its files have in the stage. From here on the new run
   is what the folder holds, and what fails is told and gone on with by whoever claims the folder next.
4. The files of the earlier runs are removed, as far as they are still what was recorded.
5. The links get their names, and `ranking.json` names them there.
6. The stage is removed.

A process that is killed between two steps leaves a folder that can be read; whoever claims it next goes on from there.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rerank import takes
from rerank.errors import OutputError
from rerank.files import claimed, partial_path, remove_partial, sha256_of, sync, write_bytes

_STAGE = "unfinished"
_REPLACED = "replaced.json"

logger = logging.getLogger("rerank")


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
        if place != folder and takes.is_document(takes.read_object(place / "ranking.json")):
            found.append((place / "ranking.json", sha256_of(place / "ranking.json")))
    return found


def take_place(folder: Path, stage: Path, document: str) -> dict[Path, Path]:
    """Put the run in a stage where the earlier one is; return where each of its files is now, by where it was.

    Args:
        folder: of the run.
        stage: that holds the complete new run.
        document: of the new run, with paths relative to `folder`.

    Raises:
        OSError, OutputError: it cannot be done, and the earlier run stays.
    """
    going = [(path, digest) for path, digest in listed(folder) if stage not in path.parents]
    replaced = {
        "document": _digest(folder / "ranking.json"),
        "files": [[path.relative_to(folder).as_posix(), digest] for path, digest in going],
    }
    ready: dict[Path, Path] = {}
    try:
        _make_ready(folder, stage, json.loads(document), ready)
        write_bytes(stage / _REPLACED, json.dumps(replaced).encode(), synced=True)
        sync(stage)
        write_bytes(folder / "ranking.json", document.encode(), synced=True)
    except BaseException:
        for hidden in ready.values():
            with contextlib.suppress(OSError):
                hidden.unlink(missing_ok=True)
        raise
    moved: dict[Path, Path] = {}
    try:
        sync(folder)
        _finish(folder, stage, replaced["files"], moved, ready)
        settle(folder)
    except (OSError, OutputError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        logger.warning(
            "%s holds the new run, but not all of the earlier one could be removed, or not all of the new one moved "
            "from %s: %s; it is gone on with when a run uses the folder next",
            folder,
            stage.name,
            reason,
        )
    return moved


def settle(folder: Path) -> None:
    """Go on with what a killed process left of `take_place`.

    Raises:
        OSError, OutputError: a step cannot be done.
    """
    stages = list(_stages(folder))
    for stage in stages:
        replaced = takes.read_object(stage / _REPLACED)
        if not replaced:
            continue
        if replaced.get("document") == _digest(folder / "ranking.json"):
            # the new run did not get so far as to take the place: it stays where it is
            (stage / _REPLACED).unlink()
            continue
        _finish(folder, stage, replaced.get("files", []), {}, {})
    for stage in stages:  # a process may have been killed before it wrote anything, and files may just have gone
        if stage.exists() and _is_free(stage):
            remove_partial(stage)
            if not (stage / "candidates").is_symlink():
                remove_partial(stage / "candidates")
            takes.forget(stage)
            remove_empty(stage)


def _finish(
    folder: Path, stage: Path, going: Iterable[Sequence[str]], moved: dict[Path, Path], ready: Mapping[Path, Path]
) -> None:
    """Do what is left after the document of the new run is in place.

    Args:
        folder: of the run.
        stage: that the new run was written to.
        going: files of earlier runs, with their hashes.
        moved: filled with where each file of the new run is now, by where it was.
        ready: links to its files in `candidates/`, by where they were.
    """
    named = {path for path, _ in takes.named(folder)}
    for path, digest in going:
        if folder / path not in named:
            takes.remove(folder, folder / path, digest)
    takes.forget(folder)
    _move(folder, stage, moved, ready)
    _remove_stage(stage)


def _make_ready(folder: Path, stage: Path, document: Mapping[str, Any], ready: dict[Path, Path]) -> None:
    """Link the files of the run in a stage to `candidates/` under hidden names, so that they need only be renamed.

    What can fail, for want of space or of leave to write, fails here, while the earlier run is still in place. A killed
    process leaves links that go as its half-written files do.
    """
    (folder / "candidates").mkdir(exist_ok=True)
    for old in _in_stage(folder, stage, document):
        ready[old] = hidden = partial_path(folder / "candidates" / old.name)
        _link(old, hidden)


def _move(folder: Path, stage: Path, moved: dict[Path, Path], ready: Mapping[Path, Path]) -> None:
    """Give the files of the run in a stage their places in `candidates/`, and name them there."""
    document = takes.read_object(folder / "ranking.json")
    places: dict[Path, Path] = {}
    for old, entry in _in_stage(folder, stage, document).items():
        new = takes.free_name(folder / "candidates" / old.name, entry["sha256"])
        hidden = ready.get(old) or partial_path(new)
        if old not in ready:
            new.parent.mkdir(exist_ok=True)
            _link(old, hidden)
        if new.exists():  # with that content
            hidden.unlink()
        else:
            hidden.replace(new)
        places[old] = new
        entry["path"] = new.relative_to(folder).as_posix()
    if places:
        sync(folder / "candidates")
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_bytes(folder / "ranking.json", text.encode("utf-8", "backslashreplace"), synced=True)
        moved |= places
        sync(folder)


def _in_stage(folder: Path, stage: Path, document: Mapping[str, Any]) -> dict[Path, dict[str, Any]]:
    """Return the entries of a document whose files are in a stage, by these files; one that was deleted is left out."""
    found = {folder / entry["path"]: entry for entry in document.get("candidates", []) if entry.get("path")}
    return {path: entry for path, entry in found.items() if stage in path.parents and path.is_file()}


def _link(old: Path, new: Path) -> None:
    """Link or copy a file to a hidden name, which whatever is there by it may go for."""
    new.unlink(missing_ok=True)
    try:
        os.link(old, new)
    except OSError:  # some file systems have no links
        shutil.copy2(old, new)
        sync(new)


def _remove_stage(stage: Path) -> None:
    for path, digest in listed(stage):
        takes.remove(stage, path, digest)
    for path in (stage / "ranking.json", stage / _REPLACED):
        path.unlink(missing_ok=True)
    takes.forget(stage)
    remove_empty(stage)


def remove_empty(stage: Path) -> None:
    """Remove a stage in which nothing is."""
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
