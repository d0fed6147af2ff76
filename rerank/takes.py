"""The files of takes: which ones are of a run, told by their names and their content.

The document of a run says so, and for what it does not name yet, or no longer, the notes of the run do: `.takes.jsonl`
beside `ranking.json`, where a take is noted before it is written, and before its removal begins. The notes go when the
run ends; where a process was killed, who claims the folder next finds by them what it left.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rerank.files import cannot_write, read_file, sha256_of

_NOTES = ".takes.jsonl"


def free_name(path: Path, digest: str) -> Path:
    """Return the path, or one with a number before its suffix, where nothing is or a file with that content."""
    number, free = 1, path
    while os.path.lexists(free) and not _is(free, digest):
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


def named(place: Path) -> list[tuple[Path, str]]:
    """Return the files in a place that its document names, with the hashes that it records.

    A document that records no hashes (version 1) names nothing that could be told from what a user put there.
    """
    entries = read_object(place / "ranking.json").get("candidates", [])
    found: list[tuple[Path, str]] = []
    for entry in entries if isinstance(entries, list) else []:
        path, digest = (entry.get("path"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
        # what is above the folder, or a link out of it, is not of the run
        if isinstance(path, str) and isinstance(digest, str) and is_inside(place, place / path):
            found.append((place / path, digest))
    return found


def maker_of(paths: Iterable[Path]) -> str | None:
    """Return the generator that made all of these files, as the documents of their runs say; None where it is not known."""
    places: dict[Path, list[Path]] = {}
    for path in map(Path, map(os.path.abspath, paths)):
        places.setdefault(path.parent.parent, []).append(path)
    makers = {_maker(place, files) for place, files in places.items()}
    return makers.pop() if len(makers) == 1 else None


def _maker(place: Path, files: Iterable[Path]) -> str | None:
    settings = read_object(place / "ranking.json").get("settings")
    generator = settings.get("generator") if isinstance(settings, dict) else None
    if not isinstance(generator, str):
        return None
    known = {os.path.realpath(path) for path, _ in named(place)}
    return generator if all(os.path.realpath(path) in known for path in files) else None


def note(place: Path, path: Path, digest: str) -> None:
    """Note that a file in a place is of the run there, whatever its document says.

    Raises:
        OutputError: it cannot be written.
    """
    # a line that a killed process did not finish must not spoil this one
    line = f"\n{json.dumps([path.relative_to(place).as_posix(), digest])}\n"
    try:
        with (place / _NOTES).open("a", encoding="ascii") as file:
            file.write(line)
    except OSError as error:
        raise cannot_write(place / _NOTES, error) from error


def left(place: Path) -> list[tuple[Path, str]]:
    """Return the files in a place that were noted, are still what was noted, and are not named by its document."""
    known = set(named(place))
    return [one for one in dict.fromkeys(_noted(place)) if one not in known and is_own(place, *one)]


def clean(place: Path) -> None:
    """Remove what a killed process left in a place; only for who has claimed the folder.

    Raises:
        OSError: a file cannot be removed.
    """
    for path, digest in left(place):
        remove(place, path, digest)
    forget(place)


def forget(place: Path) -> None:
    """Remove the notes in a place, unless they are needed to know what was left there."""
    with contextlib.suppress(OSError):
        if not left(place):
            (place / _NOTES).unlink(missing_ok=True)


def remove(folder: Path, path: Path | None, digest: str | None) -> bool:
    """Remove a file of a run if it is in its folder and still has that content; return whether it did."""
    if path is None or not is_own(folder, path, digest):
        return False
    path.unlink()
    return True


def is_own(folder: Path, path: Path | None, digest: str | None) -> bool:
    """Return whether a file is in the folder of its run and still has the content that was recorded."""
    return path is not None and digest is not None and is_inside(folder, path) and _is(path, digest)


def is_inside(folder: Path, path: Path) -> bool:
    """Return whether a path leads to a place in a folder, links and `..` followed."""
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one where there is none."""
    try:
        found = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def is_document(found: Mapping[str, Any]) -> bool:
    """Return whether the object of a JSON file has the form of a run's document."""
    return "version" in found and isinstance(found.get("candidates"), list)


def _noted(place: Path) -> list[tuple[Path, str]]:
    found: list[tuple[Path, str]] = []
    try:
        lines = read_file(place / _NOTES).splitlines()
    except OSError:
        return []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):  # a line that was not finished
            name, digest = json.loads(line)
            found.append((place / name, str(digest)))
    return found


def _is(path: Path, digest: str) -> bool:
    try:
        return path.is_file() and sha256_of(path) == digest
    except OSError:
        return False
