"""What audio towers made before: a tensor for each window of audio, by what it was made from.

All reward models of a process share one memory, and those with the same folder share that: whatever one has sent through
a tower, the others need not.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from weakref import WeakValueDictionary

from torch import Tensor

from rerank.data import check_whole
from rerank.rewards.cache_folder import CacheFolder

DEFAULT_SIZE = 512
"""MiB that a memory holds, and again as many in its folder."""

_MAX_SIZE = 2**40
_MIB = 1024**2


class Memory:
    """Keeps tensors by key, the latest ones, and in a folder if one is given.

    A folder that cannot be used any more costs a warning, nothing else.

    Args:
        limit: bytes kept in memory, and again as many in the folder.
        folder: where they are kept for later processes, see `CacheFolder`. None keeps none.

    Raises:
        OutputError: the folder cannot be made, or holds anything else.
        InvalidInput: the limit is no number of bytes.
    """

    def __init__(self, limit: int = DEFAULT_SIZE * _MIB, folder: Path | None = None) -> None:
        check_whole("limit", limit, 0, _MAX_SIZE * _MIB)
        self.limit = limit
        self.folder = None if folder is None else CacheFolder(folder)
        self._held: OrderedDict[str, Tensor] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    @classmethod
    def shared(cls, size: int = DEFAULT_SIZE, folder: Path | None = None) -> "Memory":
        """Return the memory of this process that belongs to a folder, or the one that belongs to none.

        It goes when nobody holds it any more. Of those that ask for different sizes the largest holds.

        Args:
            size: MiB kept in memory, and again as many in the folder.
            folder: as above.

        Raises:
            OutputError: as the class.
            InvalidInput: the size is no whole number of MiB.
        """
        check_whole("cache_size", size, 0, _MAX_SIZE)
        place = "" if folder is None else str(folder.resolve())
        with _SHARED_LOCK:
            memory = _SHARED.get(place)
            if memory is None:
                memory = _SHARED[place] = cls(size * _MIB, folder)
            elif memory.folder is not None:
                memory.folder.claim()  # anything may have come into it
            memory.limit = max(memory.limit, size * _MIB)
        return memory

    def get(self, key: str) -> Tensor | None:
        """Return what is kept under `key`, 64 hex digits, on the CPU; None if nothing is."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        found = None if self.folder is None else self.folder.read(key)
        if found is not None:
            self._hold(key, found)
        return found

    def put(self, made: Mapping[str, Tensor]) -> None:
        """Keep tensors by key; the ones that were used longest ago make place."""
        for key, tensor in made.items():
            here = tensor.cpu()
            self._hold(key, here)
            if self.folder is not None:
                self.folder.write(key, here)
        if made and self.folder is not None:
            self.folder.prune(self.limit)

    def clear(self) -> None:
        """Forget what is in memory; the folder keeps what it has."""
        with self._lock:
            self._held.clear()
            self._size = 0

    def _hold(self, key: str, tensor: Tensor) -> None:
        with self._lock:
            before = self._held.pop(key, None)
            self._size += tensor.nbytes - (0 if before is None else before.nbytes)
            self._held[key] = tensor
            while self._size > self.limit:
                _, oldest = self._held.popitem(last=False)
                self._size -= oldest.nbytes


_SHARED: "WeakValueDictionary[str, Memory]" = WeakValueDictionary()
_SHARED_LOCK = threading.Lock()
