"""From audio to what a tower makes of it: mono at 24 kHz, chunks, batches.

**Conventions**: nothing is padded to the length of another, so what is made of an audio does not depend on the others
(to float rounding).
"""

import hashlib
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rerank.audio import Audio, resample, to_mono
from rerank.errors import InvalidInput
from rerank.models.mel import SHORTEST
from rerank.models.resample import sinc_resample
from rerank.rewards.memory import FORMAT, Memory

log = logging.getLogger("rerank")

Mono = NDArray[np.float32]

Chunk = Callable[[Audio], list[Mono]]
"""Cuts an audio into the mono waveforms that a tower takes one by one."""

Resampler = Literal["soxr", "sinc"]

SAMPLE_RATE = 24000
"""Of the audio towers here, in Hz."""

CHUNK_DURATION = 30.0
"""Seconds of audio that MuQ takes at a time, as its official uses have it."""

GPU_DURATION = 120.0
"""Seconds of audio that go through MuQ together on a GPU: about 5 GB. On a CPU more than one chunk is not faster."""

_GPU_BATCH = 16

_MARGIN = 0.1
"""Seconds beyond the longest duration that are resampled too, so that the cut does not change what is kept."""


def batch_size(device: torch.device) -> int:
    """Return how many pieces of audio to score together.

    On a CPU several together are not faster; one at a time has the same rewards, to the bit, whatever else is scored.
    """
    return _GPU_BATCH if device.type == "cuda" else 1


def to_waveform(audio: Audio, max_duration: float | None = None, resampler: Resampler = "soxr") -> Mono:
    """Return the first `max_duration` seconds of an audio (None: all) as one channel at 24 kHz.

    Args:
        audio: of any rate and number of channels.
        max_duration: in seconds.
        resampler: "sinc" is the kernel that numbers from torchaudio come from.

    Shape:
        `[time]`
    """
    if max_duration is not None:
        kept = round((max_duration + _MARGIN) * audio.sample_rate)
        audio = Audio(audio.waveform[:, :kept], audio.sample_rate)
    mono = to_mono(audio)
    if resampler == "sinc":
        waveform = sinc_resample(torch.from_numpy(np.array(mono.waveform[0])), audio.sample_rate, SAMPLE_RATE).numpy()
    else:
        waveform = resample(mono, SAMPLE_RATE).waveform[0]
    longest = len(waveform) if max_duration is None else int(max_duration * SAMPLE_RATE)
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


class AudioEncoder:
    """Encodes each audio once: chunks of equal length go through the tower together, and the result is remembered.

    Args:
        tower: `[batch, time]` -> `[batch, ...]`.
        chunk: cuts an audio into what the tower takes.
        device: that the tower is on.
        together: seconds of audio that go through the tower at a time; a single chunk may have more.
        memory: of what was encoded; None forgets.
        kind: all that the result depends on beside the audio, in words.
        max_duration: beyond which `chunk` cuts an audio, which is worth a warning; None where it cuts none, or should.
    """

    def __init__(
        self,
        tower: Callable[[Tensor], Tensor],
        chunk: Chunk,
        device: torch.device,
        together: float,
        memory: Memory | None = None,
        kind: str = "",
        max_duration: float | None = None,
    ) -> None:
        self.tower, self.chunk, self.device = tower, chunk, device
        self.together, self.max_duration = round(together * SAMPLE_RATE), max_duration
        self.memory, self.kind = memory, kind

    def __call__(self, audio: Sequence[Audio]) -> list[list[Tensor]]:
        """Return what the tower makes of each chunk of each audio.

        Shape:
            `[...]` for each chunk
        """
        for one in audio:
            if self.max_duration is not None and one.duration > self.max_duration:
                log.warning("audio of %.1f s is cut: its first %g s are heard", one.duration, self.max_duration)
        if self.memory is None:
            return self._encode(audio)
        keys = [self._key(one) for one in audio]
        known = {key: self.memory.get(key) for key in keys}
        missing = {key: one for key, one in zip(keys, audio, strict=True) if known[key] is None}
        made = dict(zip(missing, self._encode([*missing.values()]), strict=True))
        self.memory.put(made)
        return [[part.to(self.device) for part in made.get(key) or known[key] or []] for key in keys]

    def _key(self, audio: Audio) -> str:
        digest = hashlib.sha256(f"{FORMAT} {self.kind} {audio.sample_rate} {audio.waveform.shape}".encode())
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
                encoded = self.tower(waveforms.to(self.device))
                # each with memory of its own: one that is kept would else keep its whole batch
                made.update((place, one.clone()) for place, one in zip(batch, encoded, strict=True))
        parts: list[list[Tensor]] = [[] for _ in audio]
        for place, (index, _) in enumerate(chunks):
            parts[index].append(made[place])
        return parts


def check_duration(max_duration: float | None) -> None:
    """Raise InvalidInput unless `max_duration` is None or a positive number of seconds."""
    if max_duration is None:
        return
    if isinstance(max_duration, bool) or not isinstance(max_duration, int | float) or not 0 < max_duration < math.inf:
        raise InvalidInput(f"max_duration must be a positive number of seconds, got {max_duration!r}")
