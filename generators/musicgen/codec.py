"""EnCodec: codes to audio and back, for many candidates at once, mono and stereo.

Stereo models have the codes of both channels side by side: codebooks 0, 2, 4, ... are left, 1, 3, 5, ... right.

**Conventions**: codes are `[codebooks, frames]`, waveforms float32 `[channels, time]` in [-1, 1] as far as the codec keeps
to it.

**Source**: transformers' `EncodecModel`, in float32 as audiocraft runs it.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

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

    @torch.inference_mode()
    def decode(self, codes: Tensor, on_clips: Callable[[int], None] = lambda done: None) -> Tensor:
        """Return the audio of each clip; report how many clips are done.

        Shape:
            `[clips, codebooks, frames]` -> `[clips, channels, frames * hop]`, on the CPU
        """
        clips, codebooks, frames = codes.shape
        alone = codes.to(self.device, torch.int64).reshape(clips, codebooks // self.channels, self.channels, frames)
        hidden: Tensor = self.model.quantizer.decode(alone.permute(1, 0, 2, 3).flatten(1, 2))
        for layer in self._slow:
            hidden = layer(hidden)
        made: list[Tensor] = []
        for group in torch.split(hidden, _GROUP.get(self.device.type, 1)):
            for layer in self._wide:
                group = layer(group)
            made += group.float().cpu()
            on_clips(len(made) // self.channels)
        return torch.stack(made).reshape(clips, self.channels, -1)

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
