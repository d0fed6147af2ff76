"""MusicGen: many candidates of one prompt at once, each with a seed of its own.

    checkpoint  the model as published, and what it makes of text and melody
    pattern     in which column stands which frame of which codebook
    sampling    guidance, top-k, and a stream of random numbers for each candidate
    layer       one layer of the transformer
    engine      the transformer, one column at a time, for all candidates
    codec       EnCodec: codes to audio and back

**Source**: MusicGen (Copet et al. 2023, arXiv:2306.05284); defaults are those of audiocraft.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from rerank.audio import Audio, AudioLike, as_audio, resample, to_mono
from rerank.batching import OnStep, in_batches
from rerank.catalogue import generator_info
from rerank.data import Candidate, Prompt, check_whole, is_number
from rerank.errors import InvalidInput, WeightsError
from rerank.generators.dtypes import name_of, resolve_dtype
from rerank.generators.musicgen.checkpoint import Checkpoint
from rerank.generators.musicgen.engine import Sampling, Side
from rerank.generators.musicgen.pattern import codes_of, columns_of, delays
from rerank.generators.musicgen.sampling import numbers_of
from rerank.models.device import has_fast_bfloat16, resolve_device
from rerank.models.hub import Source
from rerank.models.weights import say_licence
from rerank.protocols import Condition, Progress

_INFO = generator_info("musicgen")

_MOST = {"cpu": 16, "cuda": 64}
"""Candidates of a batch: from about there on, more at once are not faster, and come later."""

_CLIP_STEPS = 10
"""Steps of the transformer that take about as long as decoding the codes of one candidate."""

_MEMORY_SHARE = 0.5
"""Of the free memory that a batch may take."""


class MusicGen:
    """A MusicGen model as a generator.

    A candidate depends on its seed, the prompt and these options alone. On a CPU its codes are the same, to the bit,
    alone and in any batch; on a GPU they are with the same `batch_size`, given, as other sizes add in another order there
    (a last batch that is not full is filled up). A longer candidate begins as a shorter one does, but for the last three frames of that one.

    Args:
        path: folder with a model as transformers saves it; None downloads it from the hub, once.
        repository: on the Hugging Face hub.
        name: that it goes by.
        revision: branch, tag or commit on the hub; None for its main branch.
        device: "auto" for the GPU if there is one.
        dtype: of the transformer: "float32", "bfloat16", "float16"; "auto" is float16 on a GPU, as in audiocraft, bfloat16
            on a CPU that multiplies it, else float32. Text encoder and codec are in float32, as in audiocraft.
        temperature: 1 samples as trained, 0 takes the likeliest token each time.
        top_k: tokens that can be drawn; 0 for all.
        guidance: how far to follow the prompt; 1 for not more than it was trained to, and half the work.
        negative_prompt: text to move away from.
        start: clip that every candidate begins with and goes on from: audio, or a candidate, whose codes are used as they
            are. It counts to the duration; audio is resampled to that of the model.
        batch_size: candidates that are made at once; None for as many as fit the memory.

    Raises:
        WeightsError: files are missing or broken, cannot be downloaded, or hold no MusicGen model.
        InvalidInput: an option has no such value.
    """

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        repository: str | None = "facebook/musicgen-small",
        name: str = "musicgen-small",
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        temperature: float = 1.0,
        top_k: int = 250,
        guidance: float = 3.0,
        negative_prompt: str | None = None,
        start: AudioLike | Candidate | None = None,
        batch_size: int | None = None,
    ) -> None:
        torch_device = resolve_device(device)
        if torch_device.type == "mps":
            raise InvalidInput("MusicGen does not run on device 'mps', which has no float64; use 'cpu'")
        for label, value, low in (("temperature", temperature, 0.0), ("guidance", guidance, 1.0)):
            if not is_number(value) or not low <= value <= 100.0:
                raise InvalidInput(f"{label} must be a number from {low:g} to 100, got {value!r}")
        check_whole("top_k", top_k, 0, 1_000_000)
        if batch_size is not None:
            check_whole("batch_size", batch_size, 1, 1024)
        if repository is None and path is None:
            raise InvalidInput(f"generator {name!r} needs path=, a folder with a MusicGen model")
        if not isinstance(negative_prompt, str | None):
            raise InvalidInput(
                f"negative_prompt must be a str, got {type(negative_prompt).__name__}; pass it in quotes"
            )
        negative = negative_prompt or ""
        if negative.strip() and guidance == 1:
            raise InvalidInput("negative_prompt needs guidance above 1; with guidance 1 there is no other side")
        quick = torch.bfloat16 if has_fast_bfloat16() else torch.float32
        self.dtype = resolve_dtype(dtype, torch_device, torch.float16, on_cpu=quick)
        self._sampling = Sampling(temperature=float(temperature), top_k=int(top_k), guidance=float(guidance))
        self._negative, self._batch_size, self._device = negative, batch_size, torch_device
        source = Source.given(path, repository or "a MusicGen model", revision)
        say_licence(name, _INFO.licence)
        self._checkpoint = Checkpoint(source, self.dtype, torch_device)
        self._engine, self._codec = self._checkpoint.engine, self._checkpoint.codec
        self._delay = delays(self._engine.codebooks, self._codec.channels)
        self._start = self._codes_of_clip(start)
        melody: frozenset[Condition] = frozenset({"reference"} if self._checkpoint.follows_melody else ())
        self.info = replace(
            _INFO,
            name=name,
            sample_rate=self._codec.sample_rate,
            channels=self._codec.channels,
            conditions=_INFO.conditions | melody,
            version=self._checkpoint.version,
            options=self._options(),
        )
        self._hears_melodies = False  # until it is asked

    def _options(self) -> dict[str, Any]:
        """Return the options in force; a clip to start from by its codes, a batch size where it changes the audio."""
        begins = self._start.shape[1] > 0
        found = {
            "temperature": self._sampling.temperature,
            "top_k": self._sampling.top_k,
            "guidance": self._sampling.guidance,
            "negative_prompt": self._negative or None,
            "start": f"sha256:{hashlib.sha256(self._start.numpy().tobytes()).hexdigest()}" if begins else None,
            "dtype": name_of(self.dtype),
        }
        return found if self._device.type == "cpu" else {**found, "batch_size": self._batch_size}

    def generate(
        self,
        prompt: Prompt,
        seeds: Sequence[int],
        duration: float,
        *,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Iterator[Candidate]:
        """Yield one candidate per seed; see `rerank.protocols.Generator`.

        Raises:
            InvalidInput: the clip to start from is as long as the duration, or longer.
            WeightsError: the model does not hear the reference.
        """
        frames = self._frames(duration)
        sides = self._sides(prompt)
        columns = columns_of(self._start, frames, self._delay, self._engine.special)

        def make(batch: Sequence[int], on_step: OnStep) -> Iterable[tuple[NDArray[np.int16], Audio]]:
            numbers = torch.stack([numbers_of(seed, columns.shape[1] - 1, self._engine.codebooks) for seed in batch])
            clips, steps = _CLIP_STEPS * len(batch), columns.shape[1]
            filled = self._engine.decode(
                sides, columns, numbers, self._sampling, lambda done, of: on_step(done * steps, of * (steps + clips))
            )
            codes = codes_of(filled, self._delay).to(torch.int16).numpy()
            audio = self._decode(codes, duration, lambda done: on_step(steps + _CLIP_STEPS * done, steps + clips))
            return zip(map(np.copy, codes), audio, strict=True)

        size = self._batch_size or self._fitting(columns.shape[1], sides)
        alike = self._device.type == "cuda" and self._batch_size is not None  # a GPU adds alike for one size only
        made = in_batches(seeds, size, make, on_progress, filled=alike)
        for index, (seed, (codes, audio)) in enumerate(zip(seeds, made, strict=True)):
            yield Candidate(index=index, seed=seed, audio=audio, codes=codes, licence=_INFO.licence)

    def decode(self, codes: NDArray[np.int16]) -> Audio:
        """Return the audio of a candidate's codes, `[codebooks, frames]`, all frames whole.

        Raises:
            InvalidInput: they are not codes of this model.
        """
        self._check_codes(codes)
        return next(self._decode(codes[None], codes.shape[1] * self._codec.hop / self._codec.sample_rate))

    def _decode(
        self, codes: NDArray[np.int16], duration: float, on_clips: Callable[[int], None] = lambda done: None
    ) -> Iterator[Audio]:
        """Yield the audio of each candidate, cut to the duration; `codes` is `[candidates, codebooks, frames]`."""
        rate = self._codec.sample_rate
        for waveform in self._codec.decode(torch.from_numpy(codes), on_clips):
            yield Audio(waveform[:, : round(duration * rate)].numpy().copy(), rate)

    def _frames(self, duration: float) -> int:
        """Return the frames of a candidate: as many as hold the duration."""
        frames = -(-round(duration * self._codec.sample_rate) // self._codec.hop)
        known = self._start.shape[1]
        if known >= frames:
            length = known * self._codec.hop / self._codec.sample_rate
            raise InvalidInput(
                f"the clip to start from has {length:g} s and the candidates {duration:g} s; ask for a longer duration"
            )
        return frames

    def _sides(self, prompt: Prompt) -> list[Side]:
        reference = prompt.reference if self._checkpoint.follows_melody else None
        if reference is not None and not self._hears_melodies:
            self._hears_melodies = self._checkpoint.hears_melodies()
            if not self._hears_melodies:
                raise WeightsError("the model hears no difference between two melodies; leave the reference out")
        sides = self._checkpoint.sides(prompt.text, self._negative, reference)
        return sides if self._sampling.guidance > 1 else sides[:1]

    def _fitting(self, columns: int, sides: Sequence[Side]) -> int:
        """Return how many candidates fit the free memory, with their tables and what decoding them takes."""
        places = columns + (0 if sides[0].prefix is None else len(sides[0].prefix))
        tables = self._engine.bytes_per_candidate(places, len(sides))
        most = _MOST.get(self._device.type, _MOST["cpu"])
        free = _MEMORY_SHARE * _free_memory(self._device) - self._codec.bytes_to_decode(columns)
        return max(1, min(most, int(free / tables)))

    def _codes_of_clip(self, start: AudioLike | Candidate | None) -> torch.Tensor:
        """Return the codes that every candidate begins with, `[codebooks, frames]`."""
        if start is None:
            return torch.zeros(self._engine.codebooks, 0, dtype=torch.int64)
        if isinstance(start, Candidate):
            if start.codes is not None:
                self._check_codes(start.codes)
                return torch.from_numpy(start.codes.astype(np.int64))
            if start.audio is None:
                raise InvalidInput(f"candidate {start.index} has no audio to start from: {start.set_aside}")
            start = start.audio
        audio = resample(as_audio(start, max_duration=_INFO.max_duration), self._codec.sample_rate)
        waveform = audio.waveform if audio.channels == self._codec.channels else to_mono(audio).waveform
        heard = torch.from_numpy(np.ascontiguousarray(waveform)).expand(self._codec.channels, -1)
        return self._codec.encode(heard)

    def _check_codes(self, codes: NDArray[np.int16]) -> None:
        codebooks, special = self._engine.codebooks, self._engine.special
        shaped = codes.ndim == 2 and codes.shape[0] == codebooks and codes.shape[1] > 0
        if not shaped or not np.issubdtype(codes.dtype, np.integer) or codes.min() < 0 or codes.max() >= special:
            raise InvalidInput(
                f"codes must be whole numbers below {special}, [{codebooks}, frames], got {codes.dtype} {codes.shape}; "
                "take those of a candidate of this model"
            )


def _free_memory(device: torch.device) -> int:
    """Return the free memory of a device, in bytes."""
    if device.type == "cuda":
        # torch keeps what it has freed, and takes it again before it asks the device
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return int(psutil.virtual_memory().available)
