"""From audio to what a tower makes of it: mono, the tower's sample rate, chunks, batches, and a memory of both.

**Conventions**: nothing is padded to the length of another, so what is made of an audio does not depend on the others
(to float rounding).
"""

import hashlib
import logging
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from rerank.audio import Audio, resample, to_mono
from rerank.errors import InvalidInput
from rerank.files import make_folder, write_bytes
from rerank.models.mel import SHORTEST
from rerank.models.resample import sinc_resample

log = logging.getLogger("rerank")

Mono = NDArray[np.float32]

Chunk = Callable[[Audio], list[Mono]]
"""Cuts an audio into the mono waveforms that a tower takes one by one."""

Resampler = Literal["soxr", "sinc"]

_MARGIN = 0.1
"""Seconds beyond the longest duration that are resampled too, so that the cut does not change what is kept."""


def to_waveform(
    audio: Audio, sample_rate: int, max_duration: float | None = None, resampler: Resampler = "soxr"
) -> Mono:
    """Return the audio as one channel at another sample rate, cut to `max_duration` (seconds) with a warning.

    Args:
        audio: of any rate and number of channels.
        sample_rate: in Hz.
        max_duration: None keeps all.
        resampler: "sinc" is the kernel that numbers from torchaudio come from.

    Shape:
        `[time]`
    """
    if max_duration is not None and audio.duration > max_duration:
        log.warning("audio of %.1f s is cut: the reward model hears the first %g s", audio.duration, max_duration)
        kept = round((max_duration + _MARGIN) * audio.sample_rate)
        audio = Audio(audio.waveform[:, :kept], audio.sample_rate)
    mono = to_mono(audio)
    if resampler == "sinc":
        waveform = sinc_resample(torch.from_numpy(mono.waveform[0]), audio.sample_rate, sample_rate).numpy()
    else:
        waveform = resample(mono, sample_rate).waveform[0]
    longest = len(waveform) if max_duration is None else int(max_duration * sample_rate)
    return waveform[:longest].astype(np.float32, copy=False)


def chunks_of(waveform: Mono, length: int) -> list[Mono]:
    """Return consecutive chunks of `length` samples, the last one shorter.

    What is left after full chunks is dropped if it is under 1025 samples, the fewest that a spectrogram takes; a
    waveform shorter than that in all is padded with zeros.
    """
    if len(waveform) < SHORTEST:
        waveform = np.pad(waveform, (0, SHORTEST - len(waveform)))
    chunks = [waveform[start : start + length] for start in range(0, len(waveform), length)]
    return [chunk for chunk in chunks if len(chunk) >= SHORTEST]


class Memory:
    """Keeps tensors by the content that they were made from, the latest ones, and in a folder if one is given.

    Args:
        limit: bytes kept in memory, and again as many in the folder.
        folder: where they are kept for later processes; made if needed. None keeps none.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, limit: int = 512 * 1024**2, folder: Path | None = None) -> None:
        self.limit, self.folder = limit, folder
        self._held: OrderedDict[str, list[Tensor]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        if folder is not None:
            make_folder(folder)

    def get(self, key: str) -> list[Tensor] | None:
        """Return what is kept under `key`; None if nothing is."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        found = self._read(key)
        if found is not None:
            self._hold(key, found)
        return found

    def put(self, key: str, tensors: list[Tensor]) -> None:
        """Keep tensors under `key`; the ones that were used longest ago make place."""
        self._hold(key, tensors)
        if self.folder is not None:
            content = save_tensors({f"{place:04d}": tensor.cpu() for place, tensor in enumerate(tensors)})
            write_bytes(self.folder / f"{key}.safetensors", content)
            self._prune()

    def clear(self) -> None:
        """Forget what is in memory; the folder keeps what it has."""
        with self._lock:
            self._held.clear()
            self._size = 0

    def _hold(self, key: str, tensors: list[Tensor]) -> None:
        with self._lock:
            self._size += _bytes(tensors) - _bytes(self._held.pop(key, []))
            self._held[key] = tensors
            while self._size > self.limit:
                _, oldest = self._held.popitem(last=False)
                self._size -= _bytes(oldest)

    def _read(self, key: str) -> list[Tensor] | None:
        if self.folder is None:
            return None
        path = self.folder / f"{key}.safetensors"
        try:
            found = load_tensors(path.read_bytes())
            path.touch()
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError) as error:
            log.warning("%s cannot be read and is made again: %s", path, error)
            return None
        return [found[place] for place in sorted(found)]

    def _prune(self) -> None:
        assert self.folder is not None
        files = sorted(((path.stat(), path) for path in self.folder.glob("*.safetensors")), key=lambda f: f[0].st_mtime)
        size = sum(stat.st_size for stat, _ in files)
        for stat, path in files:
            if size <= self.limit:
                return
            path.unlink(missing_ok=True)
            size -= stat.st_size


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


class AudioEncoder:
    """Encodes each audio once: chunks of equal length go through the tower together, and the result is remembered.

    Args:
        tower: `[batch, time]` -> `[batch, ...]`.
        chunk: cuts an audio into what the tower takes.
        device: that the tower is on.
        together: samples that go through the tower at a time; a single chunk may have more.
        memory: of what was encoded; None forgets.
        kind: all that the result depends on beside the audio, in words.
    """

    def __init__(
        self,
        tower: Callable[[Tensor], Tensor],
        chunk: Chunk,
        device: torch.device,
        together: int,
        memory: Memory | None = None,
        kind: str = "",
    ) -> None:
        self.tower, self.chunk, self.device = tower, chunk, device
        self.together, self.memory, self.kind = together, memory, kind

    def __call__(self, audio: Sequence[Audio]) -> list[list[Tensor]]:
        """Return what the tower makes of each chunk of each audio.

        Shape:
            `[...]` for each chunk
        """
        keys = [self._key(one) for one in audio] if self.memory else [""] * len(audio)
        known = [self.memory.get(key) if self.memory else None for key in keys]
        missing = [index for index, found in enumerate(known) if found is None]
        for index, encoded in zip(missing, self._encode([audio[index] for index in missing]), strict=True):
            known[index] = encoded
            if self.memory:
                self.memory.put(keys[index], encoded)
        return [[part.to(self.device) for part in found or []] for found in known]

    def _key(self, audio: Audio) -> str:
        digest = hashlib.sha256(f"{self.kind} {audio.sample_rate} {audio.waveform.shape}".encode())
        digest.update(np.ascontiguousarray(audio.waveform).data)
        return digest.hexdigest()

    def _encode(self, audio: Sequence[Audio]) -> list[list[Tensor]]:
        chunks = [(index, chunk) for index, one in enumerate(audio) for chunk in self.chunk(one)]
        by_length = defaultdict(list)
        for place, (_, chunk) in enumerate(chunks):
            by_length[len(chunk)].append(place)
        made: dict[int, Tensor] = {}
        for length, places in by_length.items():
            size = max(1, self.together // length)
            for start in range(0, len(places), size):
                batch = places[start : start + size]
                waveforms = torch.from_numpy(np.stack([chunks[place][1] for place in batch]))
                # each item of its own memory: one that is kept would else keep its whole batch
                made.update(
                    (place, one.clone())
                    for place, one in zip(batch, self.tower(waveforms.to(self.device)), strict=True)
                )
        encoded: list[list[Tensor]] = [[] for _ in audio]
        for place, (index, _) in enumerate(chunks):
            encoded[index].append(made[place])
        return encoded


def check_duration(max_duration: float | None) -> None:
    """Raise InvalidInput unless `max_duration` is None or a positive number of seconds."""
    if max_duration is not None and not 0 < max_duration < float("inf"):
        raise InvalidInput(f"max_duration must be a positive number of seconds, got {max_duration}")
