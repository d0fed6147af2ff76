"""What a frozen tower makes of the data, computed once and kept in a folder, one array for each shard."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank.files import make_folder, write_bytes
from rerank.protocols import Progress


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as `numpy.load` reads it, completely or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    content = io.BytesIO()
    np.save(content, array)
    write_bytes(path, content.getvalue())


def stored(
    folder: Path,
    shards: int,
    make: Callable[[int], NDArray[np.float16]],
    on_progress: Callable[[Progress], None],
) -> list[NDArray[np.float16]]:
    """Return the array of each shard, which stays on disk until used.

    Args:
        folder: that keeps them; made if needed.
        shards: how many there are.
        make: makes the array of a shard; only asked for those that are not there yet.
        on_progress: called after each shard.
    """
    make_folder(folder)
    found = []
    for index in range(shards):
        path = folder / f"{index:04d}.npy"
        if not path.exists():
            write_array(path, make(index))
        found.append(np.load(path, mmap_mode="r"))
        on_progress(Progress("listening", index + 1, shards))
    return found
