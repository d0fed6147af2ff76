"""MuQ, the music encoder under the published reward model and under later scorers: 24 kHz audio to 25 tokens a second.

A log-mel spectrogram, two residual convolution blocks that quarter time and frequency, and a conformer. Names of
sub-modules give the state-dict keys of `OpenMuQ/MuQ-large-msd-iter` (weights CC BY-NC 4.0). Inference only.

**Conventions**: mono waveforms at 24 kHz in [-1, 1], at least 1025 samples; all items of a batch have one length, so
nothing is padded.

**Source**: MuQ (Zhu et al. 2025, arXiv:2501.01108), written from its published settings and layout.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rerank.models.config import DEPTH, HEADS, WIDTH, Config
from rerank.models.conformer import Conformer, ConformerLayer
from rerank.models.mel import MUSIC_MEAN, MUSIC_STD, LogMel

SAMPLE_RATE = 24000

UNUSED = (
    "cls_token",
    "linear.weight",
    "linear.bias",
    "rvq.*",
    "conformer.embed_positions.inv_freq",
    "conformer.pos_conv_embed.*",
)
"""Weights of the checkpoint, relative to `Muq.model`, that only its training used or that are a formula."""


@dataclass(frozen=True, kw_only=True)
class MuqConfig:
    """Sizes of `Muq`; the defaults are those of the published one.

    Attributes:
        dim: width of a token.
        depth: conformer layers.
        heads: of attention.
        hidden: width of the feed-forward parts.
        kernel: of the convolutions over time, in tokens.
        base: of the rotary positions.
        channels: of the convolution blocks.
        bands: of mel that the linear layer is sized for.
        token_rate: tokens per second, 25 or 50.
        mean, std: of the spectrogram, in dB.
    """

    dim: int = 1024
    depth: int = 12
    heads: int = 16
    hidden: int = 4096
    kernel: int = 31
    base: float = 10000.0
    channels: int = 512
    bands: int = 128
    token_rate: int = 25
    mean: float = MUSIC_MEAN
    std: float = MUSIC_STD

    @classmethod
    def of(cls, published: Mapping[str, Any]) -> "MuqConfig":
        """Return the sizes that a published `config.json` says.

        Raises:
            WeightsError: it lacks one, or asks for something that this class is not.
        """
        config = Config(published, "MuQ")
        conformer, stat = config.part("w2v2_config"), config.part("stat")
        conformer.only("hidden_act", "swish", "silu")
        conformer.only("position_embeddings_type", "rotary")
        conformer.only("layer_norm_eps", 1e-5)
        config.only("features", ["melspec_2048"])
        config.only("hop_length", 240)
        kernel = conformer.whole("conv_depthwise_kernel_size", 1, 1023)
        conformer.check("conv_depthwise_kernel_size", kernel, "odd", kernel % 2 == 1)
        dim, heads = config.whole("encoder_dim", 1, WIDTH), conformer.whole("num_attention_heads", 1, HEADS)
        # each head has pairs of values that turn
        conformer.check("num_attention_heads", heads, f"a part of encoder_dim {dim} by twos", dim % (2 * heads) == 0)
        return cls(
            dim=dim,
            depth=config.whole("encoder_depth", 0, DEPTH),
            heads=heads,
            hidden=conformer.whole("intermediate_size", 1, WIDTH),
            kernel=kernel,
            base=conformer.number("rotary_embedding_base", 1.0, 1e9),
            channels=config.whole("conv_dim", 1, WIDTH),
            bands=config.only("n_mels", 128),
            token_rate=config.only("label_rate", 25, 50),
            mean=stat.number("melspec_2048_mean", -1000.0, 1000.0),
            std=stat.number("melspec_2048_std", 1e-3, 1000.0),
        )


class ConvolutionBlock(nn.Module):
    """Two convolutions over frequency and time, and one beside them, each with a batch norm.

    Shape:
        `[batch, inputs, frequency, time]` -> `[batch, channels, ceil(frequency / stride), ceil(time / stride)]`
    """

    def __init__(self, inputs: int, channels: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv3 = nn.Conv2d(inputs, channels, 3, stride, padding=1)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(channels) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Shape: `[batch, inputs, frequency, time]` -> `[batch, channels, smaller frequency, smaller time]`."""
        main = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(main + self.bn3(self.conv3(x)))


class FusedConvolutionBlock(nn.Module):
    """The same with batch norms folded into the convolutions, the two that share an input in one, and channels last."""

    def __init__(self, plain: ConvolutionBlock) -> None:
        super().__init__()
        first, beside = fuse_conv_bn_eval(plain.conv1, plain.bn1), fuse_conv_bn_eval(plain.conv3, plain.bn3)
        assert first.bias is not None and beside.bias is not None
        self.both = nn.Conv2d(
            first.in_channels, 2 * first.out_channels, 3, plain.stride, padding=1, device="meta"
        )  # fmt: skip
        self.both.weight = nn.Parameter(_channels_last(torch.cat([first.weight, beside.weight])), False)
        self.both.bias = nn.Parameter(torch.cat([first.bias, beside.bias]), False)
        self.second = fuse_conv_bn_eval(plain.conv2, plain.bn2)
        self.second.weight = nn.Parameter(_channels_last(self.second.weight), False)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: as `ConvolutionBlock`."""
        first, beside = self.both(_channels_last(x)).chunk(2, dim=1)
        return F.relu_(self.second(_channels_last(F.relu(first))).add_(beside))


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class Stem(nn.Module):
    """Spectrogram to tokens: two convolution blocks and a linear layer over channels and what is left of frequency.

    Shape:
        `[batch, 128, frames]` -> `[batch, tokens, dim]`
    """

    def __init__(self, config: MuqConfig) -> None:
        super().__init__()
        strides = ((2, 2), (2, 2 if config.token_rate == 25 else 1))
        inputs = (1, config.channels)
        self.conv = nn.Sequential(
            *(ConvolutionBlock(i, config.channels, s) for i, s in zip(inputs, strides, strict=True))
        )
        self.linear = nn.Linear(config.channels * (config.bands // 4), config.dim)

    def forward(self, mel: Tensor) -> Tensor:
        """Shape: `[batch, 128, frames]` -> `[batch, tokens, dim]`."""
        tokens: Tensor = self.linear(self.conv(mel[:, None]).permute(0, 3, 1, 2).flatten(2))
        return tokens

    def fuse(self) -> None:
        """Join weights that are used together."""
        blocks = [block for block in self.conv if isinstance(block, ConvolutionBlock)]
        self.conv = nn.Sequential(*(FusedConvolutionBlock(block) for block in blocks))


class MuqEncoder(nn.Module):
    """Stem and conformer: spectrogram to hidden states."""

    def __init__(self, config: MuqConfig) -> None:
        super().__init__()
        self.conv = Stem(config)
        self.conformer = Conformer(config.dim, config.depth, config.heads, config.hidden, config.kernel, config.base)


class Muq(nn.Module):
    """The encoder with its spectrogram.

    Shape:
        `[batch, time]` at 24 kHz -> `[batch, tokens, dim]`, the last hidden state
    """

    def __init__(self, config: MuqConfig) -> None:
        super().__init__()
        self.config = config
        self.mel = LogMel(SAMPLE_RATE, mean=config.mean, std=config.std)
        self.model = MuqEncoder(config)

    def shape(self, samples: int) -> tuple[int, int]:
        """Return tokens and width of what comes out for so many samples."""
        frames = samples // self.mel.hop
        for stride in (2, 2 if self.config.token_rate == 25 else 1):
            frames = -(-frames // stride)
        return frames, self.config.dim

    def hidden_states(self, waveform: Tensor) -> list[Tensor]:
        """Return depth + 1 states: of the stem (0), of each layer but the last (1 and up), and of the last after a norm.

        Shape:
            `[batch, time]` -> depth + 1 of `[batch, tokens, dim]`
        """
        states: list[Tensor] = self.model.conformer(self.model.conv(self.mel(waveform)))
        return states

    def forward(self, waveform: Tensor) -> Tensor:
        """Shape: `[batch, time]` -> `[batch, tokens, dim]`."""
        return self.hidden_states(waveform)[-1]

    def fuse(self) -> "Muq":
        """Join weights that are used together, which is faster and equal to rounding; the state dict is no longer the
        published one. Call it once, after loading.
        """
        self.model.conv.fuse()
        for layer in self.model.conformer.layers:
            assert isinstance(layer, ConformerLayer)
            layer.fuse()
        return self
