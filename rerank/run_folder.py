"""The folder of a run: `ranking.json` and `candidates/*.flac`, written as the candidates come.

**Conventions**: a candidate is stored at the level it has. The file is a 24-bit FLAC where that can hold it, and a
32-bit float WAV where it cannot: samples beyond full scale, not finite, no samples, or more than 8 channels.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rerank import audio as audio_files
from rerank.audio import Audio
from rerank.errors import OutputError
from rerank.files import as_path, cannot_write, make_folder, write_bytes

_OURS = re.compile(r"\d{3,}-.*\.(flac|wav)")


class RunFolder:
    """Writes one run.

    Where the folder holds an earlier run, the new one is written to its subfolder `unfinished` and takes the place of
    the earlier one when it is complete and its `ranking.json` is stored, not before: a run that fails, or is
    interrupted, loses nothing.

    Args:
        path: of the folder.
        overwrite: whether a run that is there already may be replaced. Files that are not of a run stay.
        sources: the files that the run is made from, which must not be among those it replaces.

    Attributes:
        path: of the folder.
        place: where the new files are: the folder itself, or `unfinished` until that takes its place.

    Raises:
        InvalidInput: `path` is no path.
        OutputError: the folder holds a run and `overwrite` is False, or the run is among its own sources; it is a
            file, or may not be read.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False, sources: Iterable[Path] = ()) -> None:
        self.path = as_path("output", path)
        # by os.path, which takes every name: Path.exists raises where a name is too long or a folder is closed
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise OutputError(f"cannot write {self.path}: it is a file; choose a folder")
        self._earlier = _stored(self.path)
        if self._earlier and not overwrite:
            raise OutputError(
                f"{self.path} already holds a run; choose another folder, or --overwrite (in Python: overwrite=True)"
            )
        unfinished = self.path / "unfinished"
        replaced = {os.path.realpath(file) for file in (*self._earlier, *_stored(unfinished))}
        for source in sources:
            if os.path.realpath(source) in replaced:
                raise OutputError(f"cannot overwrite {self.path}: it holds the input {source}; choose another folder")
        self.place = unfinished if self._earlier else self.path
        self._started = False
        self._new: list[Path] = []

    def make(self) -> None:
        """Make the folder if it is missing, so that one which may not be written is known before any work.

        Raises:
            OutputError: it cannot be made.
        """
        folders = (self.path / "candidates", self.path)
        self._new = [folder for folder in folders if not os.path.lexists(folder)]
        make_folder(folders[0])

    def leave(self) -> None:
        """Remove the folder again if it was made, and nothing was stored."""
        for folder in self._new:
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()

    def write_candidate(self, audio: Audio, index: int, seed: int | None) -> Path:
        """Store one candidate and return the path that its file has at the end of the run.

        It is called `INDEX-seedSEED`, or `INDEX-NAME` after the file it came from where it has no seed.

        Raises:
            OutputError: it cannot be written; what was written before it stays.
        """
        self._start()
        origin = re.sub(r"[^\w-]+", "-", audio.path.stem)[:60] if audio.path else "audio"
        name = f"{index:03d}-{origin if seed is None else f'seed{seed}'}{audio_files.lossless_suffix(audio)}"
        audio_files.write(audio, self.place / "candidates" / name)
        return self.path / "candidates" / name

    def write_document(self, document: Mapping[str, Any], *, complete: bool = True) -> None:
        """Store `ranking.json`; with it, if the run is complete, it takes the place of the earlier one.

        Raises:
            OutputError: it cannot be written; the candidates stay.
        """
        self._start()
        write_bytes(self.place / "ranking.json", to_json(document).encode())
        if self.place != self.path and complete:
            try:
                self._replace_earlier()
            except OSError as error:
                raise cannot_write(self.path, error) from error

    def _start(self) -> None:
        """Make the folder that is written to, once, without what an earlier run left in `unfinished`."""
        if self._started:
            return
        make_folder(self.place / "candidates")
        for file in _stored(self.place) if self.place != self.path else ():
            try:
                file.unlink()
            except OSError as error:
                raise cannot_write(file, error) from error
        self._started = True

    def _replace_earlier(self) -> None:
        for file in self._earlier:
            file.unlink(missing_ok=True)
        self._earlier = []
        # the document last: where it is, what it names is there
        for file in _stored(self.place)[::-1]:
            file.replace(self.path / file.relative_to(self.place))
        for folder in (self.place / "candidates", self.place):
            with contextlib.suppress(OSError):  # it holds something that is not ours
                folder.rmdir()
        self.place = self.path


def to_json(document: Mapping[str, Any]) -> str:
    """Return the document as JSON text, without NaN or infinity, ending in a line break."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # a file name that is not UTF-8 arrives as lone surrogates, which only JSON's own escapes can hold
    return text.encode("utf-8", "backslashreplace").decode()


def _stored(folder: Path) -> list[Path]:
    """Return the files of a run in a folder, the document first.

    Raises:
        OutputError: the folder may not be read.
    """
    try:
        stored = sorted((folder / "candidates").iterdir())
    except (FileNotFoundError, NotADirectoryError):
        stored = []
    except (OSError, ValueError) as error:
        raise cannot_write(folder, error) from error
    found = [path for path in stored if _OURS.fullmatch(path.name)]
    document = folder / "ranking.json"
    return [document, *found] if os.path.lexists(document) else found
