"""EnCodec: codes to audio and back, for many candidates at once, mono and stereo.

Stereo models have the codes of both channels side by side: codebooks 0, 2, 4, ... are left, 1, 3, 5, ... right.

**Conventions**: codes are `[codebooks, frames]`, waveforms float32 `[channels, time]` in [-1, 1] as far as the codec keeps
to it.

**Source**: transformers' `EncodecModel`, in float32 as audiocraft runs it.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rerank.batching import Batches
from rerank.errors import WeightsError

_GROUP = {"cuda": 8}
"""Clips whose samples are computed together, 1 elsewhere: the layers after the recurrent one, which goes frame by frame and
is as slow for one clip as for many, take much memory."""

_BYTES_PER_SAMPLE = 1000
"""That these layers take: 0.3 GB for ten seconds of a clip."""


class Codec:
    """An EnCodec model for one or two channels.

    Args:
        model: `transformers.EncodecModel`, mono.
        channels: 2 codes left and right by themselves.

    Raises:
        WeightsError: the model works in chunks or levels its input, as those of MusicGen do not.
    """

    def __init__(self, model: Any, channels: int, device: torch.device) -> None:
        config = model.config
        if config.chunk_length_s is not None or config.normalize or config.audio_channels != 1:
            raise WeightsError("the audio codec must be mono, without chunks and levelling, as those of MusicGen are")
        self.model, self.channels, self.device = model.to(device, torch.float32).eval(), channels, device
        self.sample_rate = int(config.sampling_rate)
        self.hop = int(math.prod(config.upsampling_ratios))
        layers = list(self.model.decoder.layers)
        recurrent = [
            place for place, layer in enumerate(layers) if any(isinstance(m, nn.LSTM) for m in layer.modules())
        ]
        after = recurrent[-1] + 1 if recurrent else 0
        self._slow, self._wide = layers[:after], layers[after:]

    def decode(self, codes: Tensor, on_clips: Callable[[int], None] = lambda done: None) -> Iterator[Tensor]:
        """Yield the audio of each clip as soon as it is decoded; report how many clips are done.

        Shape:
            `[clips, codebooks, frames]` -> `[channels, frames * hop]` for each, on the CPU
        """
        # memory that a group is short of is no reason to make the codes again
        made = Batches(_GROUP.get(self.device.type, 1))(list(self._begin(codes)), self._end)
        for done, channels in enumerate(zip(*[made] * self.channels, strict=True), 1):
            yield torch.stack(channels)
            on_clips(done)

    @torch.inference_mode()
    def _begin(self, codes: Tensor) -> Tensor:
        """Shape: `[clips, codebooks, frames]` -> `[clips * channels, dim, frames]`."""
        clips, codebooks, frames = codes.shape
        alone = codes.to(self.device, torch.int64).reshape(clips, codebooks // self.channels, self.channels, frames)
        hidden: Tensor = self.model.quantizer.decode(alone.permute(1, 0, 2, 3).flatten(1, 2))
        for layer in self._slow:
            hidden = layer(hidden)
        return hidden

    @torch.inference_mode()
    def _end(self, group: Sequence[Tensor]) -> Iterable[Tensor]:
        """Shape: `[dim, frames]` each -> `[frames * hop]` each, on the CPU."""
        hidden = torch.stack([*group])
        for layer in self._wide:
            hidden = layer(hidden)
        return [*hidden[:, 0].float().cpu()]

    def bytes_to_decode(self, frames: int) -> int:
        """Return the memory that `decode` takes for clips of so many frames, however many they are."""
        return _GROUP.get(self.device.type, 1) * frames * self.hop * _BYTES_PER_SAMPLE

    @torch.inference_mode()
    def encode(self, waveform: Tensor) -> Tensor:
        """Return the codes of a clip; what is left of a last frame is filled with its mirror image.

        Shape:
            `[channels, time]` -> `[codebooks, frames]`, int64, on the CPU
        """
        found: Tensor = self.model.encode(waveform[:, None].to(self.device)).audio_codes[0]
        return found.transpose(0, 1).flatten(0, 1).cpu()
