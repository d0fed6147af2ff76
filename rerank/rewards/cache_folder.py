"""A folder in which encoded audio is kept for later processes: one file for each tensor, named by its key.

A folder is a cache only by the file `CACHEDIR.TAG` in it, by which backup programs know one too; nothing else may lie
there. Only files are read, replaced or deleted that have a name of 64 hex digits and say inside that they were written here.

**Source**: of the mark, the Cache Directory Tagging Specification (https://bford.info/cachedir/).
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import time
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from rerank.errors import OutputError
from rerank.files import cannot_write, make_folder, write_bytes

FORMAT = "rerank-cache 2"
"""To be raised when encoding or the layout of the folder changes, so that nothing old is taken for new."""

_TAG = "CACHEDIR.TAG"
_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55"
_MARK = f"{_SIGNATURE}\n# {FORMAT}: audio that reward models have encoded; all of it may be deleted\n"

_ENCODED = "encoded"
"""Name of the tensor in a file."""

_SUFFIX = ".encoded.safetensors"
_NAME = re.compile(rf"[0-9a-f]{{64}}{re.escape(_SUFFIX)}")
_PARTIAL = re.compile(rf"\.(?:{_NAME.pattern}|{re.escape(_TAG)})\..*\.partial")
_OLDER_NAME = re.compile(r"(?:[0-9a-f]{64}\.safetensors|\.[0-9a-f]{64}\.safetensors\..*\.partial)")

_LONGEST_HEADER = 1024**2
"""Bytes of a header of ours, and more."""

_MOST_BYTES = 1024**3
"""Of a file; one is of a window of audio."""

_ABANDONED = 3600.0
"""Seconds after which a partial file is one of a process that is gone."""

log = logging.getLogger("rerank")


class CacheFolder:
    """Files of a cache, which several processes may use at a time.

    Args:
        path: one that is missing or empty, or was used for this before.

    Raises:
        OutputError: it cannot be made, or holds anything else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.claim()

    def claim(self) -> None:
        """Make the folder a cache, or find that it still is one, and delete what killed processes left half written.

        Raises:
            OutputError: as the class.
        """
        _claim(self.path)
        _delete_abandoned(self.path)
        self._writes = True

    def read(self, key: str) -> Tensor | None:
        """Return what is kept under `key`, 64 hex digits; None if nothing is, or, with a warning, not what was written."""
        return _read(self._file(key), key)

    def write(self, key: str, tensor: Tensor) -> None:
        """Keep a tensor of the CPU; where that fails, nothing more is written, with a warning."""
        if not self._writes:
            return
        about = {"written_by": FORMAT, "key": key, "sha256": _digest(tensor)}
        try:
            write_bytes(self._file(key), save_tensors({_ENCODED: tensor.contiguous()}, metadata=about))
        except OutputError as error:
            log.warning("encoded audio is no longer kept: %s", error)
            self._writes = False

    def prune(self, limit: int) -> None:
        """Delete what was used longest ago until the rest is within so many bytes."""
        _prune(self.path, limit)

    def _file(self, key: str) -> Path:
        name = f"{key}{_SUFFIX}"
        assert _NAME.fullmatch(name), key
        return self.path / name


def _claim(folder: Path) -> None:
    """Make a folder a cache, or find that it is one.

    Raises:
        OutputError: it holds anything else, or cannot be made or read.
    """
    make_folder(folder)
    try:
        names = sorted(path.name for path in folder.iterdir())
        # read after the list is made, since another process may be making the same cache
        mark = (folder / _TAG).read_text(encoding="utf-8", errors="replace") if (folder / _TAG).is_file() else None
    except OSError as error:
        raise cannot_write(folder, error) from error
    known = [_PARTIAL] if mark is None else [_PARTIAL, _NAME, re.compile(re.escape(_TAG))]
    foreign = [name for name in names if not any(pattern.fullmatch(name) for pattern in known)]
    if mark is not None and mark != _MARK and mark.startswith(f"{_SIGNATURE}\n# rerank-cache "):
        raise OutputError(
            f"{folder} is a cache of another version of rerank, not a {FORMAT!r}; name another folder, or delete it"
        )
    if mark is None and foreign and all(_OLDER_NAME.fullmatch(name) for name in foreign):
        raise OutputError(
            f"{folder} looks like a cache of an earlier rerank, which is not read any more; name another folder, or delete "
            "it if it is one"
        )
    if foreign or mark not in (None, _MARK):
        other = (foreign or [_TAG])[0]
        raise OutputError(
            f"{folder} holds {other!r}, which is no part of a cache; name a folder that is empty or does not exist"
        )
    if mark is None:
        write_bytes(folder / _TAG, _MARK.encode())


def _read(path: Path, key: str) -> Tensor | None:
    """Return the tensor of a file; None, with a warning, where it is not what was written."""
    try:
        if path.exists() and not (path.is_file() and path.stat().st_size <= _MOST_BYTES):
            raise OSError(f"it is no file of at most {_MOST_BYTES:,} bytes")
        content = path.read_bytes()
        named = load_tensors(content)
        about = _about(io.BytesIO(content))
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError) as error:
        log.warning("%s cannot be read and is made again: %s", path, error)
        return None
    found = named.get(_ENCODED)
    ours = None if found is None else {"written_by": FORMAT, "key": key, "sha256": _digest(found)}
    if about != ours or len(named) > 1:
        log.warning("%s does not hold what was written there and is made again", path)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # used now: others make place before it
    return found


def _digest(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor with its type and shape."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    digest.update(tensor.contiguous().flatten().view(dtype=torch.uint8).numpy().data)
    return digest.hexdigest()


def _prune(folder: Path, limit: int) -> None:
    """Delete what was used longest ago until the rest is within the limit."""
    files = []
    # another process may delete any of them at any time
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _NAME.fullmatch(path.name) and path.is_file():
                with contextlib.suppress(FileNotFoundError):
                    files.append((path.stat().st_mtime, path.stat().st_size, path))
        size = sum(length for _, length, _ in files)
        for _, length, path in sorted(files):
            if size <= limit:
                return
            if _is_ours(path):
                path.unlink(missing_ok=True)
            size -= length


def _is_ours(path: Path) -> bool:
    """Return whether a file says inside that it was written here."""
    try:
        with path.open("rb") as file:
            about = _about(file)
    except OSError:
        return False
    return about.get("written_by") == FORMAT and path.name == f"{about.get('key')}{_SUFFIX}"


def _about(file: BinaryIO) -> dict[str, str]:
    """Return what the header of a safetensors file says beside its tensors; nothing where it is none."""
    length = int.from_bytes(file.read(8), "little")
    try:
        # the library gives it for open files only, which another process may be deleting
        header = json.loads(file.read(min(length, _LONGEST_HEADER)))
    except (ValueError, RecursionError):
        return {}
    about = header.get("__metadata__") if isinstance(header, dict) else None
    return about if isinstance(about, dict) else {}


def _delete_abandoned(folder: Path) -> None:
    """Delete what processes that were killed have left half written."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _PARTIAL.fullmatch(path.name) and path.is_file():
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < time.time() - _ABANDONED:
                        path.unlink()
