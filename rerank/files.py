"""Writing files so that a crash or a full disk never leaves half a file under a real name; claiming folders."""

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from rerank.errors import InvalidInput, OutputError

_TRIES = 100  # of making a folder that others make and remove

_LONGEST_BEGIN = 200  # bytes, of the 255 of a name: the numbers of a process and a thread stand behind
_PARTIAL = re.compile(r"\..+\.\d+\.\d+\.partial")


def as_path(name: str, value: object) -> Path:
    """Return the path that an argument stands for.

    Raises:
        InvalidInput: it is neither text nor a `Path`, or it is empty.
    """
    if not isinstance(value, str | Path) or value == "":
        raise InvalidInput(f"{name} must be a path, as a str that is not empty or a pathlib.Path, got {value!r}")
    return Path(value)


def open_file(path: Path) -> io.FileIO:
    """Open a file for reading, without ever waiting for another program.

    Raises:
        OSError: it cannot be opened, or is a folder, a pipe, a socket or a device.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # a device may do something as soon as it is opened
        raise _no_file(path)
    # what has its name by now may be a pipe: that is opened without waiting for who writes to it
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_file(path)
    return io.FileIO(descriptor)


def read_file(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: as `open_file`.
    """
    with open_file(path) as file:
        return file.readall()


def _no_file(path: Path) -> OSError:
    return OSError(errno.EINVAL, "it is a folder, a pipe or a device, not a file", str(path))


def check_working_folder() -> None:
    """Refuse to work from a folder that has been removed: relative paths have no meaning there, and torch cannot load.

    Raises:
        OutputError: the working folder of the process is gone.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise OutputError(
            "the folder that this was started in is gone; change to one that exists (cd) and start again"
        ) from error


def write_bytes(path: Path, content: bytes, *, synced: bool = False) -> None:
    """Write `content` to `path`, replacing what was there, completely or not at all.

    The bytes go to a hidden file beside it first, which is then renamed.

    Args:
        path: of the file.
        content: of the file.
        synced: whether the content reaches the disk before the name does, so that even a machine that loses its power
            never has a name without its content.

    Raises:
        OutputError: the disk is full, the folder is missing or may not be written; a device or a pipe is there.
    """
    partial = partial_path(path)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise OutputError(f"cannot write {path}: it is a device or a pipe, which a file would replace; name a file")
        if synced:
            _write_through(partial, content)
        else:
            partial.write_bytes(content)
        partial.replace(path)
    except (OSError, ValueError) as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError, ValueError):
            partial.unlink(missing_ok=True)


def partial_path(path: Path) -> Path:
    """Return the hidden name beside a file that it has until it is complete; see `remove_partial`.

    Of a long name only the begin is in it, so that it is not longer than a name may be.
    """
    begin = path.name
    while len(os.fsencode(begin)) > _LONGEST_BEGIN:
        begin = begin[:-1]
    return path.parent / f".{begin}.{os.getpid()}.{threading.get_ident()}.partial"


def _write_through(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_partial(folder: Path) -> None:
    """Remove what a killed process left of `write_bytes` in a folder; only for who has claimed the folder."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _PARTIAL.fullmatch(path.name):
                path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_place(path: Path) -> None:
    """Refuse, before any work, a path at which no file can be written.

    Raises:
        OutputError: saying why.
    """
    if os.path.isdir(path) or not os.path.isdir(path.parent):
        raise OutputError(f"cannot write {path}: it must be a file in a folder that exists")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: its folder may not be written; choose another place")


def make_folder(path: Path) -> None:
    """Make the folder `path` and those above it, if they are missing.

    Raises:
        OutputError: something else has that name, or the place may not be written.
    """
    for left in reversed(range(_TRIES)):
        try:
            return path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            # another run may have removed what was there before it was looked at again
            if left == 0 or (os.path.lexists(path) and not os.path.isdir(path)):
                raise cannot_write(path, error) from error
        except (OSError, ValueError) as error:
            raise cannot_write(path, error) from error


@contextlib.contextmanager
def claimed(folder: Path, *, make: bool = False) -> Iterator[None]:
    """Keep other processes, and other threads of this one, from claiming a folder while the block runs.

    The claim is a lock on the folder itself, which the system drops when the process ends, however it ends.

    Args:
        folder: to claim.
        make: whether a folder that is not there is made; it is removed again, before the claim ends, where the block
            leaves nothing in it.

    Raises:
        OutputError: another one has it, or the folder may not be read, or not be made.
    """
    descriptor, new = _lock(folder, make)
    try:
        yield
    finally:
        if new:
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()
        os.close(descriptor)


def _lock(folder: Path, make: bool) -> tuple[int, bool]:
    """Return the descriptor of a folder that is locked now, and whether the folder was not there before."""
    while True:
        new = make and not os.path.lexists(folder)
        if make:
            make_folder(folder)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except (OSError, ValueError) as error:
            if make and isinstance(error, FileNotFoundError):  # whoever had it before has just removed it
                continue
            raise cannot_write(folder, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # what was locked may have been removed meanwhile, and another folder have its name
            if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
                return descriptor, new
        except FileNotFoundError:
            pass
        except BlockingIOError as error:
            os.close(descriptor)
            raise OutputError(
                f"{folder} is in use by another run; choose another folder, or wait until that is done"
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise cannot_write(folder, error) from error
        os.close(descriptor)


def cannot_write(path: Path, error: OSError | ValueError) -> OutputError:
    """Return the one-line error for a failed write to `path`; a ValueError is that of a name that cannot be one."""
    reason = (getattr(error, "strerror", None) or str(error)).lower()
    return OutputError(
        f"cannot write {path}: {reason}; what was written before it stays, choose another place or free space"
    )
