"""`mulan`: how similar a text and a piece of audio are, by the two towers of MuQ-MuLan.

**Source**: MuQ-MuLan (Zhu et al. 2025, arXiv:2501.01108); `OpenMuQ/MuQ-MuLan-large`, weights CC BY-NC 4.0, not for
commercial use.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rerank.audio import Audio
from rerank.catalogue import reward_info
from rerank.data import Prompt
from rerank.files import as_path
from rerank.models.device import resolve_device
from rerank.models.hub import Source
from rerank.models.mel import SHORTEST
from rerank.models.mulan import Mulan
from rerank.models.published import MULAN, read_mulan
from rerank.models.weights import fingerprint, say_licence
from rerank.protocols import RewardInfo
from rerank.rewards.encoding import (
    CHUNK_DURATION,
    GPU_DURATION,
    SAMPLE_RATE,
    AudioEncoder,
    Mono,
    batch_size,
    check_duration,
    to_waveform,
)
from rerank.rewards.memory import Memory, check_memory
from rerank.rewards.precision import autocast, resolve_precision, set_precision

_INFO = reward_info("mulan")


class MulanReward:
    """Reward model with the axis alignment: the product of the vectors of text and audio.

    Audio is mixed to mono, resampled to 24 kHz (soxr) and cut into clips of 10 seconds; the last one, and audio that is
    shorter, is completed with the start of the audio, as far as that goes. The vector of an audio is the mean of those
    of its clips, each of length 1; as in the original code the mean is not brought to length 1 again, so the reward of
    longer audio is below the cosine.

    Args:
        model: both towers.
        version: see `RewardInfo`.
        normalised: bring the mean to length 1, so that every reward is a cosine.
        max_duration: longer audio is cut there, in seconds, with a warning; None hears all.
        precision: "auto" (bf16 on a GPU that has it, else float32), or one of `rerank.rewards.precision.PRECISIONS`.
        memory: of audio that was encoded before; None forgets.
        device: "auto" (the GPU if there is one), or a torch device name.

    Raises:
        InvalidInput: there is no such device or precision, max_duration is not positive, or there is a memory and no
            version.
    """

    def __init__(
        self,
        model: Mulan,
        *,
        version: str = "",
        normalised: bool = False,
        max_duration: float | None = None,
        precision: str = "float32",
        memory: Memory | None = None,
        device: str = "auto",
    ) -> None:
        check_duration(max_duration)
        check_memory(memory, version)
        self.device = resolve_device(device)
        self.precision = resolve_precision(precision, self.device)
        self.model = model.to(self.device).eval()
        set_precision(self.model, self.precision)
        self.normalised = normalised
        self._clips = AudioEncoder(
            partial(_encode_audio, model),
            partial(_cut, duration=model.config.clip_duration, max_duration=max_duration),
            self.device,
            GPU_DURATION if self.device.type == "cuda" else CHUNK_DURATION,
            memory,
            f"mulan {version} {self.precision} {max_duration}",
            max_duration,
        )
        self._info = replace(
            _INFO,
            version=version,
            options={"normalised": normalised, "max_duration": max_duration},
            device=str(self.device),
            precision=self.precision,
            batch_size=batch_size(self.device),
        )

    @property
    def info(self) -> RewardInfo:
        """What this reward model is and reads."""
        return self._info

    def prepare(self, prompt: Prompt) -> Tensor | None:
        """Encode the text; None where there is none."""
        if not prompt.text.strip():
            return None
        with autocast(self.device, self.precision):
            return self.model.encode_text(prompt.text)[0]

    def score(self, prepared: Tensor | None, audio: Sequence[Audio]) -> list[dict[str, float | None]]:
        """Return the alignment of each audio; None where the prompt has no text."""
        if prepared is None:
            return [{"alignment": None} for _ in audio]
        with autocast(self.device, self.precision):
            vectors = torch.stack([torch.stack(clips).mean(0) for clips in self._clips(audio)]) if audio else None
        if vectors is None:
            return []
        if self.normalised:
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
        return [{"alignment": value} for value in (vectors @ prepared).tolist()]


def _encode_audio(model: Mulan, waveforms: Tensor) -> Tensor:
    """Shape: `[batch, time]` -> `[batch, dim_latent]`, float32."""
    return model.encode_audio(waveforms)


def _cut(audio: Audio, *, duration: float, max_duration: float | None) -> list[Mono]:
    """Return clips of `duration` seconds, the last completed from the start."""
    waveform, length = to_waveform(audio, max_duration), round(duration * SAMPLE_RATE)
    clips = [waveform[start : start + length] for start in range(0, max(len(waveform), 1), length)]
    clips[-1] = np.concatenate([clips[-1], waveform[: length - len(clips[-1])]])
    # the original code fails where even so a clip is too short for a spectrogram
    clips[-1] = np.pad(clips[-1], (0, max(0, SHORTEST - len(clips[-1]))))
    return clips


def load_mulan(
    *,
    path: str | Path | None = None,
    revision: str | None = None,
    normalised: bool = False,
    max_duration: float | None = None,
    precision: str = "auto",
    cache: str | Path | None = None,
    device: str = "auto",
) -> MulanReward:
    """Return the similarity of MuQ-MuLan as a reward model.

    Args:
        path: folder with `pytorch_model.bin` and `config.json`; None downloads them (2.7 GB), once, to the hub's cache.
        revision: branch, tag or commit on the hub; None for its main branch. A folder has none.
        normalised: make every reward a cosine; without it, as in the original code, that of longer audio is below.
        max_duration: longer audio is cut there, in seconds, with a warning; None hears all.
        precision: "float32", "bf16" or "bf16-autocast"; "auto" is bf16 on a GPU that has it, else float32.
        cache: folder in which encoded audio is kept for later runs, at most 512 MiB; None keeps it in memory only.
        device: to compute on: "auto" (the GPU if there is one), "cpu", "cuda".

    Raises:
        WeightsError: a file is missing, broken, not supported or cannot be downloaded.
        InvalidInput: an option has no such value.
        OutputError: `cache` cannot be written, or holds anything else.
    """
    precision = resolve_precision(precision, resolve_device(device))
    check_duration(max_duration)
    source = Source.given(path, MULAN, revision)
    memory = Memory(folder=None if cache is None else as_path("cache", cache))
    say_licence(_INFO.name, _INFO.licence)
    model, weights = read_mulan(source)
    return MulanReward(
        model,
        version=fingerprint([weights], model.config),
        normalised=normalised,
        max_duration=max_duration,
        precision=precision,
        memory=memory,
        device=device,
    )
