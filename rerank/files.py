"""Writing files so that a crash or a full disk never leaves half a file under a real name."""

import contextlib
import os
import threading
from pathlib import Path

from rerank.errors import InvalidInput, OutputError


def as_path(name: str, value: object) -> Path:
    """Return the path that an argument stands for.

    Raises:
        InvalidInput: it is neither text nor a `Path`, or it is empty.
    """
    if not isinstance(value, str | Path) or value == "":
        raise InvalidInput(f"{name} must be a path, as a str that is not empty or a pathlib.Path, got {value!r}")
    return Path(value)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, replacing what was there, completely or not at all.

    The bytes go to a hidden file beside it first, which is then renamed.

    Raises:
        OutputError: the disk is full, the folder is missing or may not be written.
    """
    partial = path.parent / f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial"
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except (OSError, ValueError) as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError, ValueError):
            partial.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make the folder `path` and those above it, if they are missing.

    Raises:
        OutputError: something else has that name, or the place may not be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError | ValueError) -> OutputError:
    """Return the one-line error for a failed write to `path`; a ValueError is that of a name that cannot be one."""
    reason = (getattr(error, "strerror", None) or str(error)).lower()
    return OutputError(
        f"cannot write {path}: {reason}; what was written before it stays, choose another place or free space"
    )
