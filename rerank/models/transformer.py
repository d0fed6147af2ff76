"""The transformer block that text tower, prompt transformer and joint transformer share.

Self-attention with normalised queries and keys, feed-forward with a GELU gate, scale-only layer norms; no biases, no
positions, no final norm. Names of sub-modules give the state-dict keys of the published checkpoints.

**Conventions**: a mask is True where a token counts. Masked tokens are never attended to; what comes out at their own
positions means nothing.

**Source**: MuQ-MuLan (Zhu et al. 2025, arXiv:2501.01108) and the CMI reward model (arXiv:2603.00610), written from
their published layouts.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOGIT_SCALE = 8.0
"""Factor on the cosine of query and key, whatever the head size."""

MASKED = -1e9
"""Added to the logit of a masked key; finite, so a row without any valid key stays finite."""


class Tokens(NamedTuple):
    """A batch of token sequences.

    Attributes:
        values: one vector per token.
        mask: True where a token counts.

    Shape:
        values: `[batch, tokens, dim]`
        mask: `[batch, tokens]`, bool
    """

    values: Tensor
    mask: Tensor

    @classmethod
    def of(cls, values: Tensor) -> "Tokens":
        """Return `values` as tokens that all count."""
        return cls(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))

    def where(self, present: Tensor) -> "Tokens":
        """Return the same tokens, none of which counts in the items where `present` (`[batch]`, bool) is False."""
        return Tokens(self.values, self.mask & present[:, None])

    def expand(self, batch: int) -> "Tokens":
        """Return one item repeated `batch` times without copying; a batch of that size is returned as it is."""
        return Tokens(self.values.expand(batch, -1, -1), self.mask.expand(batch, -1))

    def mean(self) -> Tensor:
        """Return the mean of each item's tokens that count, NaN where none does: `[batch, dim]`."""
        mask = self.mask[..., None]
        return (self.values * mask).sum(1) / mask.sum(1)


def concatenate(parts: list[Tokens]) -> Tokens:
    """Return the tokens of `parts` one after another; a part with one item is repeated for every item of the others.

    Shape:
        parts of `[batch, tokens_i, dim]` -> `[batch, sum of tokens_i, dim]`
    """
    batch = max(part.values.shape[0] for part in parts)
    parts = [part.expand(batch) for part in parts]
    return Tokens(torch.cat([part.values for part in parts], 1), torch.cat([part.mask for part in parts], 1))


def positions(tokens: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Return sines (first half) and cosines of the token index, with wavelengths from 2 pi to 10,000 * 2 pi.

    Shape:
        `[tokens, dim]`, float32
    """
    rates = torch.exp(torch.arange(dim // 2, device=device) * (-math.log(10000.0) / max(dim // 2 - 1, 1)))
    angles = torch.arange(tokens, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def masked_bias(mask: Tensor | None) -> Tensor | None:
    """Return what is added to the logits of attention, or None where every token counts.

    Shape:
        `[batch, keys]` -> `[batch, 1, 1, keys]`, float32
    """
    # asking a GPU whether all count would wait for it
    if mask is None or (mask.device.type == "cpu" and bool(mask.all())):
        return None
    return torch.where(mask, 0.0, MASKED)[:, None, None, :]


class ScaleNorm(nn.Module):
    """Layer norm with a learned scale and no shift.

    Shape:
        `[..., dim]` -> `[..., dim]`
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.learned_gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Shape: `[..., dim]` -> `[..., dim]`."""
        return F.layer_norm(x, x.shape[-1:], self.learned_gamma)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Shape: `[batch, tokens, heads * dim_head]` -> `[batch, heads, tokens, dim_head]`."""
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention on normalised input, with queries and keys of length 1 times a learned scale.

    Shape:
        `[batch, tokens, dim]` -> `[batch, kept, dim]`
    """

    def __init__(self, dim: int, heads: int = 8, dim_head: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm = ScaleNorm(dim)
        self.to_q = nn.Linear(dim, heads * dim_head, bias=False)
        self.to_kv = nn.Linear(dim, 2 * heads * dim_head, bias=False)
        self.q_scale = nn.Parameter(torch.ones(dim_head))
        self.k_scale = nn.Parameter(torch.ones(dim_head))
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim, bias=False), nn.Dropout(dropout))

    def forward(self, x: Tensor, bias: Tensor | None = None, keep: int | None = None) -> Tensor:
        """Return the update of the last `keep` tokens (default: of all), which attend to all tokens.

        Shape:
            x: `[batch, tokens, dim]`
            bias: `[batch, 1, 1, tokens]`, see `masked_bias`
        """
        h = self.norm(x)
        q = split_heads(self.to_q(h if keep is None else h[:, h.shape[1] - keep :]), self.heads)
        k, v = (split_heads(part, self.heads) for part in self.to_kv(h).chunk(2, dim=-1))
        q, k = F.normalize(q, dim=-1) * self.q_scale, F.normalize(k, dim=-1) * self.k_scale
        if bias is not None:
            bias = bias.to(v.dtype)
        attended = F.scaled_dot_product_attention(
            q.to(v.dtype),
            k.to(v.dtype),
            v,
            attn_mask=bias,
            dropout_p=self.dropout if self.training else 0.0,
            scale=LOGIT_SCALE,
        )
        update: Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return update


class CrossAttention(nn.Module):
    """Attention of one sequence to another, with plain scaled dot products; attending to nothing adds nothing.

    Shape:
        `[batch, tokens, dim]`, memory `[batch, memory tokens, dim]` -> `[batch, tokens, dim]`
    """

    def __init__(self, dim: int, heads: int = 8, dim_head: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_q, self.norm_kv = ScaleNorm(dim), ScaleNorm(dim)
        self.to_q = nn.Linear(dim, heads * dim_head, bias=False)
        self.to_kv = nn.Linear(dim, 2 * heads * dim_head, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim, bias=False), nn.Dropout(dropout))

    def forward(self, x: Tensor, memory: Tokens) -> Tensor:
        """Return the update of `x`; zero for items whose memory has no valid token.

        Shape:
            `[batch, tokens, dim]` -> `[batch, tokens, dim]`
        """
        if memory.values.shape[1] == 0:
            return torch.zeros_like(x)
        q = split_heads(self.to_q(self.norm_q(x)), self.heads)
        k, v = (split_heads(part, self.heads) for part in self.to_kv(self.norm_kv(memory.values)).chunk(2, dim=-1))
        bias = masked_bias(memory.mask)
        attended = F.scaled_dot_product_attention(
            q, k, v, attn_mask=None if bias is None else bias.to(v.dtype), dropout_p=self.dropout * self.training
        )
        update: Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return update * memory.mask.any(1)[:, None, None]


class GatedGelu(nn.Module):
    """First half times exact GELU of the second half.

    Shape:
        `[..., 2 * hidden]` -> `[..., hidden]`
    """

    def forward(self, x: Tensor) -> Tensor:
        """Shape: `[..., 2 * hidden]` -> `[..., hidden]`."""
        value, gate = x.chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Sequential):
    """Norm, widen, gate, narrow; the hidden width is int(dim * ff_mult * 2 / 3).

    Shape:
        `[..., dim]` -> `[..., dim]`
    """

    def __init__(self, dim: int, ff_mult: int = 4, dropout: float = 0.0) -> None:
        hidden = int(dim * ff_mult * 2 / 3)
        super().__init__(
            ScaleNorm(dim),
            nn.Linear(dim, 2 * hidden, bias=False),
            GatedGelu(),
            nn.Dropout(dropout),
            nn.Linear(hidden, dim, bias=False),
        )


class _Layer(nn.ModuleList):
    """Attention (`0`) and feed-forward (`1`), each added to what comes in."""

    def __init__(self, dim: int, heads: int, dim_head: int, ff_mult: int, dropout: float) -> None:
        super().__init__([Attention(dim, heads, dim_head, dropout), FeedForward(dim, ff_mult, dropout)])

    def forward(self, x: Tensor, bias: Tensor | None, keep: int | None) -> Tensor:
        """Shape: `[batch, tokens, dim]` -> `[batch, kept, dim]`."""
        attended: Tensor = self[0](x, bias, keep)
        x = attended + (x if keep is None else x[:, x.shape[1] - keep :])
        update: Tensor = self[1](x)
        return update + x


class Transformer(nn.Module):
    """Layers of self-attention and feed-forward.

    Args:
        dim: width of a token.
        depth: number of layers; 0 returns what comes in.
        heads: of attention.
        dim_head: width of a head.
        ff_mult: the hidden width of the feed-forward part is int(dim * ff_mult * 2 / 3).
        dropout: on attention weights, updates and hidden values, in training only.

    Shape:
        `[batch, tokens, dim]` -> `[batch, tokens, dim]`; no tokens are fine.
    """

    def __init__(
        self, dim: int, depth: int, heads: int = 8, dim_head: int = 64, ff_mult: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(dim, heads, dim_head, ff_mult, dropout) for _ in range(depth))

    def forward(self, x: Tensor, mask: Tensor | None = None, keep: int | None = None) -> Tensor:
        """Transform all tokens, and return the last `keep` of them (default: all).

        Asking for fewer saves work in the last layer.

        Shape:
            x: `[batch, tokens, dim]`
            mask: `[batch, tokens]`, bool; None where every token counts
            returns: `[batch, kept, dim]`
        """
        if x.shape[1] == 0:
            return x
        bias = masked_bias(mask)
        for index, layer in enumerate(self.layers):
            x = layer(x, bias, keep if index == len(self.layers) - 1 else None)
        return x if keep is None else x[:, x.shape[1] - keep :]


class DecoderLayer(nn.Module):
    """Self-attention, attention to a memory, and feed-forward, each added to what comes in.

    Shape:
        `[batch, tokens, dim]`, memory `[batch, memory tokens, dim]` -> `[batch, tokens, dim]`
    """

    def __init__(self, dim: int, heads: int = 8, dim_head: int = 64, ff_mult: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads, dim_head, dropout)
        self.cross_attn = CrossAttention(dim, heads, dim_head, dropout)
        self.ffn = FeedForward(dim, ff_mult, dropout)

    def forward(self, tokens: Tokens, memory: Tokens) -> Tokens:
        """Shape: `[batch, tokens, dim]` -> `[batch, tokens, dim]`."""
        x, mask = tokens
        x = self.self_attn(x, masked_bias(mask)) + x
        x = self.cross_attn(x, memory) + x
        x = self.ffn(x) + x
        return Tokens(x, mask)
