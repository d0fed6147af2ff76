"""The folder of a run: `ranking.json` and `candidates/*.flac`, written as the candidates come.

**Conventions**: a candidate is stored at the level it has. The file is a 24-bit FLAC where that can hold it, and a
32-bit float WAV where it cannot: samples beyond full scale, not finite, no samples, or more than 8 channels.

**Promises**, whenever the process is killed
- `ranking.json` is whole, and what it lists is there: a file is on the disk before a document names it.
- Nobody else writes into a folder that a run has claimed.
- Nothing is removed or replaced but what a run has recorded, in its document or its notes, and whose content is still
  what it recorded.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rerank import audio as audio_files
from rerank import swap, takes
from rerank.audio import Audio
from rerank.data import Candidate
from rerank.errors import InvalidInput, OutputError
from rerank.files import as_path, cannot_write, claimed, make_folder, read_file, remove_partial, sync, write_bytes

_OURS = re.compile(r"\d{3,}-.*\.(flac|wav)")
# characters of the name of a file that a candidate is called after: at 4 bytes each, what is added to it (an index, a
# suffix, and that of a file being written) still fits into the 255 bytes of a name
_LONGEST_STEM = 50

logger = logging.getLogger("rerank")


class RunFolder:
    """Writes one run into a folder that it has claimed; see `opened`.

    Attributes:
        path: of the folder.
        place: where the new files are: the folder itself, or `unfinished` in it until that takes the place of an earlier
            run.
        earlier: the document of the run that goes on; None where a new one begins.
    """

    def __init__(self, path: Path, place: Path, earlier: Mapping[str, Any] | None = None) -> None:
        self.path, self.place, self.earlier = path, place, earlier
        self._unsynced: list[Path] = []

    @classmethod
    @contextlib.contextmanager
    def opened(
        cls, path: str | Path, *, overwrite: bool = False, resume: bool = False, sources: Iterable[Path] = ()
    ) -> Iterator["RunFolder"]:
        """Claim a folder for a run while the block runs.

        Where the folder holds an earlier run, the new one is written to its subfolder `unfinished` and takes the place
        of the earlier one when it is complete, not before. A folder that was made and in which nothing was stored is
        removed again.

        Args:
            path: of the folder.
            overwrite: whether a run that is there already may be replaced.
            resume: whether a run that is there goes on; where none is, one begins.
            sources: the files that the run is made from, which must not be among those it replaces.

        Raises:
            InvalidInput: `path` is no path.
            OutputError: the folder holds a run and neither is allowed, or the run is among its own sources; another run
                has claimed it; it is a file, or may not be read or written.
        """
        folder = as_path("output", path)
        if _is_no_folder(folder):
            raise OutputError(f"cannot write {folder}: it is a file; choose a folder")
        with claimed(folder, make=True):
            new = not os.path.lexists(folder / "candidates")
            run = None
            try:
                run = cls._claimed(folder, overwrite, resume, sources)
                yield run
            finally:
                if run is not None:
                    takes.forget(run.place)
                    if run.place != folder:
                        swap.remove_empty(run.place)
                if new:
                    with contextlib.suppress(OSError):  # it holds something, or was not made
                        (folder / "candidates").rmdir()

    @classmethod
    def _claimed(cls, folder: Path, overwrite: bool, resume: bool, sources: Iterable[Path]) -> "RunFolder":
        for name in ("candidates", "unfinished"):
            if os.path.islink(folder / name):
                raise OutputError(f"{folder / name} is a link to somewhere else; choose another folder, or remove it")
        try:
            for place in (folder, folder / "candidates"):
                remove_partial(place)
            swap.settle(folder)
            found = _called_as_takes(folder)
        except (OSError, ValueError) as error:
            raise cannot_write(folder, error) from error
        held = found or os.path.lexists(folder / "ranking.json")
        earlier = None
        if held and not (overwrite or resume):
            raise OutputError(
                f"{folder} already holds a run; choose another folder, or go on with it by --resume, or --overwrite it "
                "(in Python: resume=True, overwrite=True)"
            )
        if held:
            earlier = read_document(folder)
        if earlier is not None and not takes.is_document(earlier):
            raise InvalidInput(
                f"{folder / 'ranking.json'} is no ranking that can be read: it needs a version and candidates; restore "
                "it, or choose another folder"
            )
        if resume and held and earlier is None:
            raise OutputError(
                f"{folder} holds takes and no ranking.json, so they cannot be gone on with; --overwrite it"
            )
        place = folder
        if held and not resume:
            _check_sources(folder, sources)
            place = swap.free_stage(folder)
        make_folder(place / "candidates")
        try:
            if place == folder:
                takes.clean(folder)
        except OSError as error:
            raise cannot_write(folder, error) from error
        return cls(folder, place, earlier if resume else None)

    def stored(self, candidate: Candidate) -> Candidate:
        """Return the candidate with its audio stored; what is stored in this folder already is not written again.

        The file is called `INDEX-seedSEED`, or `INDEX-NAME` after the file it came from where it has no seed. The audio
        is then read from it when it is used.

        Raises:
            OutputError: it cannot be written; what was written before it stays.
        """
        audio = candidate.audio
        if (
            audio is None
            or candidate.is_removed
            or (candidate.path is not None and candidate.path.parent == self.place / "candidates")
        ):
            return candidate
        suffix = audio_files.lossless_suffix(audio)
        origin = re.sub(r"[^\w-]+", "-", candidate.source.stem)[:_LONGEST_STEM] if candidate.source else "audio"
        stem = f"{candidate.index:03d}-{origin if candidate.seed is None else f'seed{candidate.seed}'}"
        path = self.place / "candidates" / f"{stem}{suffix}"
        content = audio_files.encode(audio, suffix)
        digest = hashlib.sha256(content).hexdigest()
        path = takes.free_name(path, digest)
        if not path.exists():
            takes.note(self.place, path, digest)
            write_bytes(path, content)
        self._unsynced.append(path)
        kept = Audio.stored(
            path, sample_rate=audio.sample_rate, channels=audio.channels, frames=audio.frames, sha256=digest
        )
        return replace(candidate, audio=kept, path=path, sha256=digest)

    def write(self, document: Mapping[str, Any]) -> None:
        """Store `ranking.json` beside the new files; paths in it are relative to `place`.

        Raises:
            OutputError: it cannot be written; the document that was there stays, and the candidates.
        """
        try:
            for path in self._unsynced:
                with contextlib.suppress(FileNotFoundError):  # deleted by somebody else
                    sync(path)
            if self._unsynced:
                sync(self.place / "candidates")
        except OSError as error:
            raise cannot_write(self.place, error) from error
        self._unsynced = []
        write_bytes(self.place / "ranking.json", to_json(document).encode(), synced=True)

    def abandon(self) -> None:
        """Remove the document of a run in which not one candidate was stored; a run that goes on is left as it was."""
        if self.earlier is None:
            takes.forget(self.place)
            for path in (self.place / "ranking.json", self.place / "candidates"):
                with contextlib.suppress(OSError):
                    path.unlink() if path.is_file() else path.rmdir()

    def take_place(self, document: Mapping[str, Any]) -> dict[Path, Path]:
        """Put the complete run that is in `place` where the earlier one is, and remove the files of that.

        Args:
            document: of the new run; paths in it are relative to `path`.

        Returns:
            Where each file of a candidate is now, by where it was.

        Raises:
            OutputError: it cannot be done, and the earlier run stays. What fails once the new one is there is logged, and
                gone on with by whoever claims the folder next.
        """
        try:
            moved = swap.take_place(self.path, self.place, to_json(document))
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.place = self.path
        return moved


@contextlib.contextmanager
def opened(
    output: str | Path | None, *, overwrite: bool = False, resume: bool = False, made_from: Iterable[object] = ()
) -> Iterator[RunFolder | None]:
    """Claim the folder of a run, if it is to have one; see `RunFolder.opened`.

    Args:
        output: of the run; None for none.
        overwrite, resume: as there.
        made_from: pieces of audio whose files the run must not replace.
    """
    if output is None:
        yield None
        return
    files = (piece.path if isinstance(piece, Audio) else piece for piece in made_from)
    sources = [Path(file) for file in files if isinstance(file, str | Path) and os.path.exists(file)]
    with RunFolder.opened(output, overwrite=overwrite, resume=resume, sources=sources) as folder:
        yield folder


@contextlib.contextmanager
def new_folder(parent: Path, name: str) -> Iterator[Path]:
    """Make a folder of that name, or of one with a number after it, that nobody else gets while the block runs.

    Where the block leaves nothing in it, it is removed again.

    Raises:
        OutputError: it cannot be made.
    """
    new = not os.path.lexists(parent)
    number = 1
    while True:
        make_folder(parent)
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
            break
        except FileExistsError:
            number += 1
        except FileNotFoundError:  # another run has just removed the empty parent
            continue
        except OSError as error:
            raise cannot_write(folder, error) from error
    try:
        yield folder
    finally:
        # only who has claimed a folder may remove it
        with contextlib.suppress(OutputError), claimed(folder):
            for made in (folder / "candidates", folder):
                with contextlib.suppress(OSError):  # it holds something
                    made.rmdir()
        if new:
            with contextlib.suppress(OSError):
                parent.rmdir()


def read_document(folder: Path) -> dict[str, Any] | None:
    """Return the document of the run in a folder; None if there is none.

    Raises:
        InvalidInput: `ranking.json` cannot be read, or is none of ours.
    """
    path = folder / "ranking.json"
    try:
        found = json.loads(read_file(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{path} is no ranking that can be read ({error}); restore it, or choose another folder"
        ) from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{path} is no ranking; choose another folder")
    return found


def remove_takes(
    folder: RunFolder,
    candidates: Sequence[Candidate],
    going: Sequence[Candidate],
    document: Callable[[Sequence[Candidate]], Mapping[str, Any]],
) -> list[Candidate]:
    """Remove the files of candidates from the folder of their run, and return all of its candidates.

    Only files that are still what was stored go. Duration, rewards and hash stay known.

    Args:
        folder: of the run.
        candidates: of the run.
        going: those whose files go.
        document: returns what is to be stored, from the candidates without these files; it is stored first, so that a
            document never names a file that is gone.

    Raises:
        OutputError: it cannot be done.
    """
    named = {
        one.index: (one.path, one.sha256)
        for one in going
        if one.path and one.sha256 and takes.is_own(folder.path, one.path, one.sha256)
    }
    left = [without_file(one) if one.index in named else one for one in candidates]
    for path, digest in named.values():
        takes.note(folder.place, path, digest)
    folder.write(document(left))
    for path, digest in named.values():
        try:
            takes.remove(folder.path, path, digest)
        except OSError as error:
            raise cannot_write(folder.path, error) from error
    return left


def without_file(candidate: Candidate) -> Candidate:
    """Return a candidate whose file is no more: what it was is known, what it sounded like is not."""
    audio = candidate.audio
    if audio is not None:
        audio = Audio.stored(
            None, sample_rate=audio.sample_rate, channels=audio.channels, frames=audio.frames, sha256=candidate.sha256
        )
    return replace(candidate, path=None, audio=audio)


def to_json(document: Mapping[str, Any]) -> str:
    """Return the document as JSON text, without NaN or infinity, ending in a line break."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # a file name that is not UTF-8 arrives as lone surrogates, which only JSON's own escapes can hold
    return text.encode("utf-8", "backslashreplace").decode()


def _called_as_takes(folder: Path) -> list[Path]:
    """Return the files in a folder that are called as candidates are."""
    try:
        return [path for path in sorted((folder / "candidates").iterdir()) if _OURS.fullmatch(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _check_sources(folder: Path, sources: Iterable[Path]) -> None:
    going = {os.path.realpath(path) for path, _ in swap.listed(folder)} | {
        os.path.realpath(path) for path in _called_as_takes(folder)
    }
    for source in sources:
        if os.path.realpath(source) in going:
            raise OutputError(f"cannot overwrite {folder}: it holds the input {source}; choose another folder")


def _is_no_folder(path: Path) -> bool:
    """Return whether something else than a folder has that name, told by one look: another run may just remove it."""
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)
    except (OSError, ValueError):  # nothing is there, or nothing can be
        return False
