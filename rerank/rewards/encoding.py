"""What an audio tower makes of audio: in batches that fit the device, and nothing twice.

How much goes together is decided here and nowhere else.
"""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rerank.audio import Audio
from rerank.batching import Batches
from rerank.rewards.cache_folder import FORMAT
from rerank.rewards.front_end import FrontEnd, Mono
from rerank.rewards.memory import Memory
from rerank.rewards.towers import Tower

log = logging.getLogger("rerank")

_GPU_PIECES = 16

_GPU_DURATION = 120.0
"""Seconds of audio that go through a tower together on a GPU: about 5 GB with MuQ."""


def batch_size(device: torch.device) -> int:
    """Return how many pieces of audio to score together.

    On a CPU several together are not faster; one at a time has the same rewards, to the bit, whatever else is scored.
    """
    return _GPU_PIECES if device.type == "cuda" else 1


def seconds_together(device: torch.device) -> float:
    """Return how many seconds of audio go through a tower at a time; a single window may have more.

    On a CPU that is one window, for the same reasons.
    """
    return _GPU_DURATION if device.type == "cuda" else 0.0


class AudioEncoder:
    """Encodes each window of audio once: those of equal length go through the tower together, and all are remembered.

    Args:
        tower: of one or of several reward models.
        front_end: cuts audio into windows.
        memory: of what was encoded before; None forgets.
        make: what of the tower is wanted, such as one of its hidden states; None for what it gives.
        output: a name for that, by which a memory tells it from other things that the same tower makes.
    """

    def __init__(
        self,
        tower: Tower[Any],
        front_end: FrontEnd,
        memory: Memory | None = None,
        *,
        make: Callable[[Any, Tensor], Tensor] | None = None,
        output: str = "",
    ) -> None:
        assert bool(make) == bool(output), "what is made needs a name of its own"
        self.front_end, self.memory = front_end, memory
        self._tower, self._make, self._output = tower, make, output
        self._together = seconds_together(tower.device)

    def __call__(self, audio: Sequence[Audio]) -> list[list[Tensor]]:
        """Return what the tower makes of each window of each audio, on its device.

        Where a batch of windows fails, it is tried again in halves, down to one window.

        Shape:
            `[...]` for each window
        """
        windows = [self.front_end(one) for one in audio]
        made = iter(self._encode([window for of_one in windows for window in of_one]))
        return [[next(made) for _ in of_one] for of_one in windows]

    def _encode(self, windows: Sequence[Mono]) -> list[Tensor]:
        keys = [str(place) if self.memory is None else self._key(window) for place, window in enumerate(windows)]
        found = self._known({key: len(window) for key, window in zip(keys, windows, strict=True)})
        missing = {key: window for key, window in zip(keys, windows, strict=True) if key not in found}
        by_length = defaultdict(list)
        for key, window in missing.items():
            by_length[len(window)].append(key)
        for length, places in by_length.items():
            size = max(1, int(self._together * self.front_end.sample_rate) // length)
            batches = Batches(size, of="windows of audio")
            made = batches(places, lambda batch: self._made({key: missing[key] for key in batch}))
            found.update(zip(places, made, strict=True))
            if batches.size < size:
                # what it learned of the memory of the device holds for later audio too
                self._together = batches.size * length / self.front_end.sample_rate
        return [found[key] for key in keys]

    def _known(self, lengths: Mapping[str, int]) -> dict[str, Tensor]:
        """Return what is remembered of windows of so many samples, on the device of the tower."""
        if self.memory is None:
            return {}
        found = {}
        for key, samples in lengths.items():
            kept = self.memory.get(key)
            if kept is not None and self._can_be(kept, samples):
                found[key] = kept.to(self._tower.device)
        log.debug("%s: %d of %d windows are remembered", self._tower.name, len(found), len(lengths))
        return found

    def _can_be(self, kept: Tensor, samples: int) -> bool:
        """Return whether what is remembered is of the shape that the tower gives, as far as it says one; else warn."""
        shape = getattr(self._tower.network, "shape", None)
        expected = tuple(kept.shape) if shape is None or self._make is not None else shape(samples)
        if tuple(kept.shape) == expected and kept.is_floating_point():
            return True
        told = "what is remembered of audio is %s %s, %s makes %s of it; it is made again"
        log.warning(told, str(kept.dtype).removeprefix("torch."), [*kept.shape], self._tower.name, [*expected])
        return False

    def _made(self, windows: Mapping[str, Mono]) -> list[Tensor]:
        """Return what the tower makes of windows of one length, and remember it."""
        encoded = self._tower(torch.from_numpy(np.stack([*windows.values()])), self._make)
        # each with memory of its own: one that is kept would else keep its whole batch
        made = [one.clone() for one in encoded]
        if self.memory is not None:
            self.memory.put(dict(zip(windows, made, strict=True)))
        return made

    def _key(self, window: Mono) -> str:
        """Return what tells a window, and what is made of it, from all others."""
        about = f"{FORMAT} {self._tower.key} {self._output} {self.front_end.sample_rate} {len(window)} "
        digest = hashlib.sha256(about.encode())
        digest.update(np.ascontiguousarray(window).data)
        return digest.hexdigest()
