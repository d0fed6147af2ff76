"""The decoder of Oobleck, the autoencoder of Stable Audio: from latents to stereo audio.

The network is that of diffusers (the extra `[diffusion]`); here are the names that stable-audio-tools gives to its
weights, and the sizes that a published config says. The normalisation of weights is computed once, when they are read.

**Conventions**: latents `[batch, latent channels, frames]`, waveforms `[batch, channels, time]` in about [-1, 1].

**Source**: Stable Audio Open (Evans et al. 2024, arXiv:2407.14358); layout of stable-audio-tools 0.0.19 (code MIT), by
whose outputs the renamed weights were checked; network of diffusers (Apache-2.0).
"""

import importlib
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rerank.errors import MissingDependency, WeightsError
from rerank.models.config import WIDTH, Config, shown
from rerank.models.weights import load_strictly

PREFIX = "pretransform.model.decoder."
"""Of the weights of the decoder in a checkpoint of stable-audio-tools."""

_UNIT = ("snake1", "conv1", "snake2", "conv2")
_BLOCK = ("snake1", "conv_t1", "res_unit1", "res_unit2", "res_unit3")
"""Names in diffusers of what stable-audio-tools numbers, within a residual unit and within a block."""

_SIZES = {"latent_dim", "out_channels", "channels", "c_mults", "strides", "use_snake", "final_tanh"}
_MOST_BLOCKS = 16

_KERNEL = 7
_DILATIONS = (1, 3, 9)


@dataclass(frozen=True, kw_only=True)
class OobleckConfig:
    """Sizes of the decoder; the defaults are the published ones.

    Attributes:
        latent_channels: of what comes in.
        channels: of the audio.
        width: channels of the last block.
        multiples: of `width` that the blocks have, the last block first.
        strides: of the blocks, the last block first.
    """

    latent_channels: int = 64
    channels: int = 2
    width: int = 128
    multiples: tuple[int, ...] = (1, 2, 4, 8, 16)
    strides: tuple[int, ...] = (2, 4, 4, 8, 8)

    @property
    def hop(self) -> int:
        """Samples of audio for each frame of latents."""
        return math.prod(self.strides)

    @property
    def reach(self) -> int:
        """Return how many frames after the ones that it lies in a sample of audio may depend on."""
        unit = sum(dilation * (_KERNEL // 2) for dilation in _DILATIONS)
        samples = _KERNEL // 2
        for stride in self.strides:
            samples = math.ceil((samples + unit) / stride) + 1
        return samples + _KERNEL // 2

    @classmethod
    def of(cls, published: Mapping[str, Any]) -> "OobleckConfig":
        """Return the sizes that `model.pretransform` of a published `model_config.json` says.

        Raises:
            WeightsError: it lacks one, or asks for something that the decoder is not.
        """
        whole = Config(published, "an autoencoder")
        config = whole.part("config")
        decoder = config.part("decoder")
        sizes = decoder.part("config")
        whole.only("type", "autoencoder")
        whole.only("scale", 1.0, 1, default=1.0)
        decoder.only("type", "oobleck")
        config.part("bottleneck").only("type", "vae")
        sizes.only("use_snake", True)
        sizes.only("final_tanh", False)
        found = cls(
            latent_channels=sizes.whole("latent_dim", 1, WIDTH),
            channels=sizes.whole("out_channels", 1, 64),
            width=sizes.whole("channels", 1, WIDTH),
            multiples=sizes.wholes("c_mults", 1, 1024, _MOST_BLOCKS),
            strides=sizes.wholes("strides", 1, 64, _MOST_BLOCKS),
        )
        for name in sizes.values.keys() - _SIZES:
            raise WeightsError(f"an Oobleck decoder with the setting {shown(name)} is not supported")
        blocks = len(found.multiples)
        sizes.check("strides", list(found.strides), f"{blocks} as c_mults are", len(found.strides) == blocks)
        return found


def read_decoder(config: OobleckConfig, weights: Mapping[str, Tensor], where: str) -> nn.Module:
    """Return the decoder with its weights.

    Args:
        config: its sizes.
        weights: of a checkpoint of stable-audio-tools; those of other parts are passed over.
        where: they come from, for errors.

    Shape:
        the decoder: `[batch, latent channels, frames]` -> `[batch, channels, frames * hop]`

    Raises:
        MissingDependency: diffusers is not installed.
        WeightsError: a weight is missing, not known, or of another shape.
    """
    autoencoder = _autoencoder()
    # torch moves the normalisation of weights to another place, and says so for each of them
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        decoder: nn.Module = autoencoder(
            downsampling_ratios=list(config.strides),
            channel_multiples=list(config.multiples),
            decoder_channels=config.width,
            decoder_input_channels=config.latent_channels,
            audio_channels=config.channels,
        ).decoder
    load_strictly(decoder, _renamed(config, weights), where=where)
    for part in decoder.modules():
        if hasattr(part, "weight_g"):
            nn.utils.remove_weight_norm(part)
    return decoder.eval().requires_grad_(False)


def _renamed(config: OobleckConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the decoder by the names that they have in diffusers; unknown ones keep theirs."""
    last = len(config.strides) + 1
    outer = {"0": "conv1", str(last): "snake1", str(last + 1): "conv2"}
    outer |= {str(index): f"block.{index - 1}" for index in range(1, last)}
    found = {}
    for name, weight in weights.items():
        if not name.startswith(PREFIX):
            continue
        *numbers, kind = re.sub(r"\blayers\.", "", name.removeprefix(PREFIX)).split(".")
        tables = (outer, *(dict(zip("01234", names, strict=False)) for names in (_BLOCK, _UNIT)))
        path = [table.get(number, f"layers.{number}") for table, number in zip(tables, numbers, strict=False)]
        # the factors of the activations stand for channels
        found[".".join([*path, kind])] = weight[:, None].unsqueeze(0) if kind in ("alpha", "beta") else weight
    return found


def _autoencoder() -> Any:
    try:
        return importlib.import_module("diffusers").AutoencoderOobleck
    except ModuleNotFoundError as error:
        if error.name != "diffusers":
            raise
        raise MissingDependency("'diffusers' is not installed; run: pip install 'rerank-music[diffusion]'") from error
