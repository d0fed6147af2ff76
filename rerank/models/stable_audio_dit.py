"""The transformer of Stable Audio, which tells noise from audio in the latents of an autoencoder.

Every frame of the latents is a token. One more before them says how much noise there is and how long the audio shall
be; text is attended to. Names of sub-modules give the state-dict keys of checkpoints of stable-audio-tools.

**Conventions**: latents `[batch, channels, frames]`; what is the same for the whole batch may have a batch of 1. What
passes from layer to layer is float32, whatever the products within a layer are computed in.

**Source**: Stable Audio Open (Evans et al. 2024, arXiv:2407.14358) and its small version (Novack et al. 2025,
arXiv:2505.08175), written from the published settings and layout and checked against the outputs of stable-audio-tools
0.0.19 (code MIT; weights Stability AI Community License); rotary positions: Su et al. 2021, arXiv:2104.09864; gated
feed-forward: Shazeer 2020, arXiv:2002.05202.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rerank.errors import WeightsError
from rerank.models.config import DEPTH, HEADS, WIDTH, Config, shown

UNUSED = ("transformer.rotary_pos_emb.inv_freq",)
"""Weights of a checkpoint, relative to `Dit`, that are a formula."""

_FEATURES, _WIDER = 256, 4  # of a time and of a number; the feed-forward part than a token
_ROTARY_BASE, _LEAST_ROTARY = 10000.0, 32  # the latter are places of a head that turn, where half of it is fewer

_SIZES = {
    "io_channels": "channels",
    "embed_dim": "dim",
    "depth": "depth",
    "num_heads": "heads",
    "cond_token_dim": "token_dim",
    "global_cond_dim": "global_dim",
}
_ONLY: Mapping[str, object] = {  # of these settings one value is supported
    "transformer_type": "continuous_transformer",
    "global_cond_type": "prepend",
    "timestep_cond_type": "global",
    "project_global_cond": True,
    "patch_size": 1,
    "input_concat_dim": 0,
    "prepend_cond_dim": 0,
}


@dataclass(frozen=True, kw_only=True)
class DitConfig:
    """Sizes of `Dit`; the defaults are those of stable-audio-open-small.

    Attributes:
        channels: of the latents.
        dim: width of a token.
        depth: number of layers.
        heads: of attention.
        token_dim: width of a token of the text.
        global_dim: width of what says the length.
        project_tokens: bring tokens of the text to `dim`; without it they keep their width, and have fewer heads.
        norm_heads: normalise queries and keys, each head by itself.
    """

    channels: int = 64
    dim: int = 1024
    depth: int = 16
    heads: int = 8
    token_dim: int = 768
    global_dim: int = 768
    project_tokens: bool = True
    norm_heads: bool = True

    def __post_init__(self) -> None:
        head, text = self.dim_head, self.context_dim
        if self.dim % self.heads or text % head or self.heads % (text // head) or head < _LEAST_ROTARY or head % 4:
            raise WeightsError(
                f"a DiT with {self.heads} heads, tokens {self.dim} and text {text} wide is not supported"
            )

    @property
    def dim_head(self) -> int:
        """Width of a head."""
        return self.dim // self.heads

    @property
    def context_dim(self) -> int:
        """Width of a token of the text where it is attended to."""
        return self.dim if self.project_tokens else self.token_dim

    @classmethod
    def of(cls, published: Mapping[str, Any]) -> "DitConfig":
        """Return the sizes that `model.diffusion.config` of a published `model_config.json` says.

        Raises:
            WeightsError: it lacks one, or asks for something that this class is not.
        """
        config = Config(published, "a DiT")
        for name in published:
            if name in _ONLY:
                config.only(name, _ONLY[name])
            elif name not in {*_SIZES, *_ONLY, "project_cond_tokens", "attn_kwargs"}:
                raise WeightsError(f"a DiT with the setting {shown(name)} is not supported")
        attention = config.only("attn_kwargs", {"qk_norm": "ln"}, {"qk_norm": "none"}, {}, default={})
        most = {"depth": DEPTH, "heads": HEADS}
        sizes = {ours: config.whole(theirs, 1, most.get(ours, WIDTH)) for theirs, ours in _SIZES.items()}
        projected, normed = config.flag("project_cond_tokens", True), attention == {"qk_norm": "ln"}
        return cls(project_tokens=projected, norm_heads=normed, **sizes)


def rotary(tokens: int, places: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosines and sines by which each token turns the first places of a head: `[tokens, places]` each."""
    rates = 1.0 / _ROTARY_BASE ** (torch.arange(0, places, 2, device=device, dtype=torch.float32) / places)
    angles = (torch.arange(tokens, device=device, dtype=torch.float32)[:, None] * rates).repeat(1, 2)
    return angles.cos(), angles.sin()


def turn(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the first places of each head, where the first half pairs with the second, and keep the others.

    Shape:
        `[batch, heads, tokens, dim_head]`, `[tokens, places]` twice -> the first
    """
    turning, still = heads[..., : cos.shape[-1]], heads[..., cos.shape[-1] :]
    first, second = turning.chunk(2, -1)
    return torch.cat([turning * cos + torch.cat([-second, first], -1) * sin, still], -1)


class Norm(nn.Module):
    """Layer norm, by the names of the checkpoint."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))
        self.register_buffer("beta", torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Shape: `[..., dim]` -> same."""
        return F.layer_norm(x, self.gamma.shape, self.gamma, self.get_buffer("beta"))


class Attention(nn.Module):
    """Attention of the tokens to each other, or with a `context_dim` to those of the text."""

    def __init__(self, dim: int, dim_head: int, norm_heads: bool, context_dim: int | None = None) -> None:
        super().__init__()
        self.dim_head = dim_head
        if context_dim is None:
            self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        else:
            self.to_q = nn.Linear(dim, dim, bias=False)
            self.to_kv = nn.Linear(context_dim, 2 * context_dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)
        self.q_norm, self.k_norm = (nn.LayerNorm(dim_head, 1e-6) if norm_heads else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor, context: Tensor | None = None, table: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Shape: `[batch, tokens, dim]`, `[batch or 1, text tokens, context_dim]` -> the former."""
        x = x.to(self.to_out.weight.dtype)
        if context is None:
            parts = self.to_qkv(x).chunk(3, -1)
        else:
            parts = (self.to_q(x), *self.to_kv(context.to(x.dtype)).chunk(2, -1))
        q, k, v = (part.unflatten(-1, (-1, self.dim_head)).transpose(1, 2) for part in parts)
        q, k = self.q_norm(q.float()), self.k_norm(k.float())
        if table is not None:
            q, k = turn(q, *table), turn(k, *table)
        # a head of the text serves several, a text the whole batch
        k, v = (part.repeat_interleave(q.shape[1] // part.shape[1], 1).expand(len(q), -1, -1, -1) for part in (k, v))
        attended = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)
        update: Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return update


class Gate(nn.Module):
    """Widen, and let one half through as far as the other half says."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: `[..., dim]` -> `[..., hidden]`."""
        value, gate = self.proj(x.to(self.proj.weight.dtype)).chunk(2, -1)
        return torch.mul(value, F.silu(gate))


class Layer(nn.Module):
    """Attention to each other, attention to the text, feed-forward; each takes normalised tokens and is added to them."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        dim, head, norm = config.dim, config.dim_head, config.norm_heads
        self.pre_norm, self.self_attn = Norm(dim), Attention(dim, head, norm)
        self.cross_attend_norm, self.cross_attn = Norm(dim), Attention(dim, head, norm, config.context_dim)
        # what has no weights counts in the names of the checkpoint
        feed_forward = nn.Sequential(Gate(dim, _WIDER * dim), nn.Identity(), nn.Linear(_WIDER * dim, dim))
        self.ff_norm, self.ff = Norm(dim), nn.Sequential(OrderedDict(ff=feed_forward))

    def forward(self, x: Tensor, context: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
        """Shape: `[batch, tokens, dim]`, `[batch or 1, text tokens, context_dim]` -> the former."""
        x = x + self.self_attn(self.pre_norm(x), table=table)
        x = x + self.cross_attn(self.cross_attend_norm(x), context)
        out: Tensor = x + self.ff(self.ff_norm(x))
        return out


class Transformer(nn.Module):
    """Layers between a projection of the latents and one back."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.places = max(config.dim_head // 2, _LEAST_ROTARY)
        self.project_in = nn.Linear(config.channels, config.dim, bias=False)
        self.project_out = nn.Linear(config.dim, config.channels, bias=False)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))

    def forward(self, frames: Tensor, first: Tensor, context: Tensor) -> Tensor:
        """Return what becomes of the frames; `first` is the token before them.

        Shape:
            `[batch, frames, channels]`, `[batch or 1, dim]`, `[batch or 1, text tokens, context_dim]` -> the first
        """
        x = torch.cat([first[:, None].expand(len(frames), -1, -1), self.project_in(frames)], 1)
        table = rotary(x.shape[1], self.places, x.device)
        for layer in self.layers:
            x = layer(x, context, table)
        out: Tensor = self.project_out(x[:, 1:])
        return out


class Dit(nn.Module):
    """The velocity of a flow from audio (time 0) to noise (time 1), in latents.

    Its weights have the prefix `model.model.` in a checkpoint.
    """

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        dim, channels = config.dim, config.channels
        self.timestep_features = nn.ParameterDict({"weight": torch.randn(_FEATURES // 2, 1)})
        self.to_timestep_embed = nn.Sequential(nn.Linear(_FEATURES, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.to_cond_embed = _projection(config.token_dim, config.context_dim)
        self.to_global_embed = _projection(config.global_dim, dim)
        self.preprocess_conv, self.postprocess_conv = (nn.Conv1d(channels, channels, 1, bias=False) for _ in range(2))
        self.transformer = Transformer(config)

    def forward(self, latents: Tensor, time: Tensor, text: Tensor, length: Tensor) -> Tensor:
        """Return the velocity.

        Args:
            latents: audio with noise.
            time: how much of them is noise, 0 to 1.
            text: what the audio shall be; all its tokens count.
            length: how long it shall be, as a vector.

        Shape:
            `[batch, channels, frames]`, `[batch or 1]`, `[batch or 1, text tokens, token_dim]`,
            `[batch or 1, global_dim]` -> the first
        """
        angles = 2 * math.pi * time[:, None] @ self.timestep_features["weight"].T
        first = self.to_global_embed(length) + self.to_timestep_embed(torch.cat([angles.cos(), angles.sin()], -1))
        frames = (latents + self.preprocess_conv(latents)).transpose(1, 2)
        out = self.transformer(frames, first, self.to_cond_embed(text)).transpose(1, 2)
        velocity: Tensor = out + self.postprocess_conv(out)
        return velocity

    def compute_in(self, dtype: torch.dtype) -> None:
        """Compute the products within the layers, nearly all there is to compute, in `dtype`; for good."""
        for part in self.transformer.layers.modules():
            if isinstance(part, nn.Linear):
                part.to(dtype)


class NumberEmbedding(nn.Module):
    """A number between 0 and 1 as a vector: of itself, and of its sines and cosines at learnt rates.

    Its weights have the prefix `conditioner.conditioners.seconds_total.embedder.` in a checkpoint.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        rates = nn.ParameterDict({"weights": torch.randn(_FEATURES // 2)})
        self.embedding = nn.ModuleList([rates, nn.Linear(_FEATURES + 1, dim)])

    def forward(self, number: Tensor) -> Tensor:
        """Shape: `[batch]` -> `[batch, dim]`."""
        rates, linear = self.embedding
        angles = number[:, None] * rates.get_parameter("weights") * 2 * math.pi
        vector: Tensor = linear(torch.cat([number[:, None], angles.sin(), angles.cos()], -1))
        return vector


def _projection(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.SiLU(), nn.Linear(outputs, outputs, bias=False))
