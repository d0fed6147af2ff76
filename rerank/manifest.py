"""Lists of what to rank and what to make: audio files, folders, manifests, files of prompts.

A manifest is a CSV file with a header (`.csv`) or one JSON object per line (`.jsonl`), in UTF-8. One of takes has the
column `path`, and may have `prompt` (or `text`), `lyrics` and `reference`; one of prompts has these, and may have `id`.
Paths in it are relative to its folder. A cell that is empty, or null, is not given.

Everything is checked when it is read, before any work; what is wrong is told with file and line.
"""

import logging
import mimetypes
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rerank.data import Prompt
from rerank.errors import InvalidInput
from rerank.records import Row, read_lines, read_rows

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")
"""Of the files that are looked for in a folder; a file that is named itself may be called anything."""

INDEX = "index.json"
"""The file beside the folders of many prompts that says what they are."""

_MANIFESTS = (".csv", ".jsonl")
_PROMPT_COLUMNS = ("prompt", "text", "lyrics", "reference")
_ID = re.compile(r"\w[\w.-]{0,99}")  # what can be the name of a folder everywhere

logger = logging.getLogger("rerank")


@dataclass(frozen=True)
class PromptParts:
    """A prompt as it is written down: the reference is a path, not yet read."""

    text: str = ""
    lyrics: str | None = None
    reference: Path | None = None

    def read(self) -> Prompt:
        """Return the prompt; without any part where none is written down.

        Raises:
            UnreadableAudio: the reference cannot be used.
        """
        return Prompt.of(self.text or None, self.lyrics, self.reference)


@dataclass(frozen=True)
class Take:
    """An audio file to rank or score, and its own prompt, where its manifest has one."""

    path: Path
    prompt: PromptParts | None = None


@dataclass(frozen=True)
class PromptEntry:
    """A prompt to make candidates for; `id` names its folder."""

    id: str
    prompt: PromptParts


def takes(arguments: Iterable[str | Path]) -> list[Take]:
    """Return the takes that files, folders and manifests stand for, in the order given.

    A folder stands for the audio files in it and below, `take2` before `take10`; hidden ones are left out. A file that
    is missing is a take like one that cannot be read: it costs only itself.

    Raises:
        InvalidInput: not one file is there, a folder holds no audio, or a manifest is wrong.
    """
    found: list[Take] = []
    missing: list[InvalidInput] = []
    for argument in map(Path, arguments):
        if argument.suffix.lower() in _MANIFESTS:
            rows = read_rows(argument, ("path", *_PROMPT_COLUMNS))
            for row in rows:
                take = Take(_path(row, "path", argument.parent), _prompt(row, argument.parent))
                found.append(take)
                if not os.path.exists(take.path):
                    missing.append(_missing(row, take.path))
        elif os.path.isdir(argument):
            found += map(Take, _audio_below(argument))
        else:
            found.append(Take(argument))
            if not os.path.exists(argument):
                missing.append(InvalidInput(f"no such audio file: {argument}; check the path"))
    if missing and len(missing) == len(found):
        several = f"none of the {len(missing)} files is there; the first: " if len(missing) > 1 else ""
        raise InvalidInput(f"{several}{missing[0]}")
    return found


def by_prompt(takes: Iterable[Take], prompt: PromptParts) -> dict[PromptParts, list[Take]]:
    """Return the takes of each prompt, both in the order given.

    Args:
        takes: with or without a prompt of their own.
        prompt: of those without.

    Raises:
        InvalidInput: there is such a prompt, and takes have their own.
    """
    found: dict[PromptParts, list[Take]] = {}
    for take in takes:
        if take.prompt is not None and prompt != PromptParts():
            raise InvalidInput(f"{take.path} has a prompt of its own in its manifest; give no other beside it")
        found.setdefault(take.prompt or prompt, []).append(take)
    return found


def prompts(path: str | Path) -> list[PromptEntry]:
    """Return the prompts of a file: one per line (`.txt`), or a manifest.

    Where it gives no `id`, that is the number of the prompt: `001`, `002`, ...

    Raises:
        InvalidInput: the file cannot be read, or holds what is no prompt, no id, or an id twice.
    """
    path = Path(path)
    if path.suffix.lower() == ".txt":
        rows = [Row(place, {"prompt": line}) for place, line in read_lines(path)]
    elif path.suffix.lower() in _MANIFESTS:
        rows = read_rows(path, ("id", *_PROMPT_COLUMNS))
    else:
        raise InvalidInput(f"{path} must be a .txt file with a prompt on each line, or a .csv or .jsonl file")
    width = max(3, len(str(len(rows))))
    found: dict[str, PromptEntry] = {}
    for number, row in enumerate(rows, start=1):
        prompt = _prompt(row, path.parent)
        if prompt is None:
            raise row.wrong("there is no prompt; give a text, lyrics or a reference")
        name = row.values.get("id") or f"{number:0{width}}"
        if not _ID.fullmatch(name) or name.casefold() == INDEX:
            raise row.wrong(
                f"id {name!r:.60} cannot name a folder; use up to 100 letters, digits, '.', '_' and '-', a letter or "
                "digit first"
            )
        if name.casefold() in found:  # folders of two such names are one on some file systems
            raise row.wrong(f"id {name!r} is there already; give each prompt its own")
        found[name.casefold()] = PromptEntry(name, prompt)
    return list(found.values())


def _prompt(row: Row, folder: Path) -> PromptParts | None:
    """Return the prompt of a row, checked as far as that is possible without reading audio; None where it has none."""
    if "prompt" in row.values and "text" in row.values:
        raise row.wrong("prompt and text are given, which mean the same; give one")
    text = row.values.get("prompt") or row.values.get("text") or ""
    lyrics = row.values.get("lyrics")
    if text or lyrics:
        try:
            Prompt(text, lyrics)
        except InvalidInput as error:
            raise row.wrong(str(error)) from error
    reference = _path(row, "reference", folder) if "reference" in row.values else None
    if reference is not None and not os.path.exists(reference):
        raise _missing(row, reference)
    return PromptParts(text, lyrics, reference) if text or lyrics or reference else None


def _path(row: Row, column: str, folder: Path) -> Path:
    if column not in row.values:
        raise row.wrong(f"{column} is missing")
    path = folder / row.values[column]
    if os.path.isdir(path):
        raise row.wrong(f"{path} is a folder; expected an audio file")
    return path


def _missing(row: Row, path: Path) -> InvalidInput:
    return row.wrong(f"no such audio file: {path}; paths are relative to the folder of this file")


def _audio_below(folder: Path) -> list[Path]:
    """Return the audio files in a folder and below, in natural order; hidden ones are left out.

    Raises:
        InvalidInput: there are none, or a folder may not be read.
    """

    def closed(error: OSError) -> None:
        raise InvalidInput(f"cannot read the folder {error.filename}: {(error.strerror or str(error)).lower()}")

    found: list[Path] = []
    others: Counter[str] = Counter()
    seen = {os.path.realpath(folder)}  # a link may lead back to a folder above it
    for place, folders, files in os.walk(folder, onerror=closed, followlinks=True):
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(place, name))
            if name.startswith(".") or real in seen:
                folders.remove(name)
            seen.add(real)
        for path in (Path(place, name) for name in files if not name.startswith(".")):
            if path.suffix.lower() in SUFFIXES:
                found.append(path)
            elif (mimetypes.guess_type(path.name)[0] or "").startswith("audio/"):
                others[path.suffix.lower()] += 1
    if others:
        told = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        logger.warning("%s: passed over %s; only WAV, FLAC, MP3 and OGG files are read", folder, told)
    if not found:
        raise InvalidInput(f"folder {folder} holds no WAV, FLAC, MP3 or OGG file; give the folder of the audio")
    return sorted(found, key=lambda path: ([*map(_natural, (*path.parent.parts, path.stem))], path.suffix))


def _natural(name: str) -> tuple[list[str | int], str]:
    """Return what `name` is sorted by: numbers in it by their value."""
    parts: list[str | int] = [*re.split("([0-9]+)", name.casefold())]
    parts[1::2] = map(int, parts[1::2])
    return parts, name
