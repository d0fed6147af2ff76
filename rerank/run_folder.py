"""The folder of a run: `ranking.json` and `candidates/*.flac`, written as the candidates come.

**Conventions**: a candidate is stored at the level it has. The file is a 24-bit FLAC where that can hold it, and a
32-bit float WAV where it cannot: samples beyond full scale, not finite, no samples, or more than 8 channels.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rerank import audio as audio_files
from rerank.audio import Audio
from rerank.errors import OutputError
from rerank.files import cannot_write, make_folder, write_bytes

_OURS = re.compile(r"\d{3,}-.*\.(flac|wav)")


class RunFolder:
    """Writes one run. The files of an earlier run go when the first file of the new one is ready, not before.

    Args:
        path: of the folder; made if it is missing.
        overwrite: whether a run that is there already may be replaced. Files that are not of a run stay.

    Raises:
        OutputError: the folder holds a run and `overwrite` is False, it is a file, or it may not be written.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._candidates = self.path / "candidates"
        self._document = self.path / "ranking.json"
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"cannot write {self.path}: it is a file; choose a folder")
        if self._earlier() and not overwrite:
            raise OutputError(
                f"{self.path} already holds a run; choose another folder, or --overwrite (in Python: overwrite=True)"
            )
        make_folder(self._candidates)
        self._started = False

    def write_candidate(self, audio: Audio, index: int, seed: int | None) -> Path:
        """Store one candidate and return the path of its file.

        It is called `INDEX-seedSEED`, or `INDEX-NAME` after the file it came from where it has no seed.

        Raises:
            OutputError: it cannot be written; what was written before it stays.
        """
        self._start()
        origin = re.sub(r"[^\w-]+", "-", audio.path.stem)[:60] if audio.path else "audio"
        name = f"{index:03d}-{origin if seed is None else f'seed{seed}'}{audio_files.lossless_suffix(audio)}"
        return audio_files.write(audio, self._candidates / name)

    def write_document(self, document: Mapping[str, Any]) -> Path:
        """Store `ranking.json` and return its path.

        Raises:
            OutputError: it cannot be written; the candidates stay.
        """
        self._start()
        write_bytes(self._document, to_json(document).encode())
        return self._document

    def _earlier(self) -> list[Path]:
        """Return the files of an earlier run."""
        try:
            stored = sorted(self._candidates.iterdir()) if self._candidates.is_dir() else []
        except OSError as error:
            raise cannot_write(self.path, error) from error
        found = [path for path in stored if _OURS.fullmatch(path.name)]
        return [self._document, *found] if self._document.exists() else found

    def _start(self) -> None:
        """Remove the earlier run, once."""
        if self._started:
            return
        for path in self._earlier():
            try:
                path.unlink()
            except OSError as error:
                raise cannot_write(path, error) from error
        self._started = True


def to_json(document: Mapping[str, Any]) -> str:
    """Return the document as JSON text, without NaN or infinity, ending in a line break."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # a file name that is not UTF-8 arrives as lone surrogates, which only JSON's own escapes can hold
    return text.encode("utf-8", "backslashreplace").decode()
