"""The conformer encoder of MuQ: feed-forward, attention, convolution, feed-forward, each added to what comes in.

It is the encoder of Wav2Vec2-Conformer with rotary positions, which differs from other conformers: the normalised input
is rotated before the projections to queries and keys, all heads together. Names of sub-modules give the state-dict keys
of the published checkpoints. Inference only: no dropout.

**Conventions**: all tokens count; a shorter item is a batch of its own, never padded.

**Source**: MuQ (Zhu et al. 2025, arXiv:2501.01108), written from its published settings and layout; conformer:
Gulati et al. 2020, arXiv:2005.08100; rotary positions: Su et al. 2021, arXiv:2104.09864.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rerank.models.transformer import split_heads


class Rotary(NamedTuple):
    """Cosines and sines of each token and place within a head.

    Shape:
        `[tokens, dim_head]` each
    """

    cos: Tensor
    sin: Tensor

    @classmethod
    def table(cls, tokens: int, dim_head: int, base: float, device: torch.device, dtype: torch.dtype) -> "Rotary":
        """Return the table for tokens 0 to `tokens` - 1; a `dtype` under float32 rounds the angles as well."""
        rates = 1.0 / base ** (torch.arange(0, dim_head, 2, device=device, dtype=torch.float32) / dim_head)
        places = torch.arange(tokens, device=device, dtype=torch.float32)
        angles = (places.to(dtype)[:, None] * rates.to(dtype)).repeat(1, 2)
        return cls(angles.cos(), angles.sin())

    def turn(self, x: Tensor) -> Tensor:
        """Rotate each head: its first half pairs with its second.

        Shape:
            `[batch, tokens, heads * dim_head]` -> same
        """
        heads = x.reshape(*x.shape[:-1], -1, self.cos.shape[-1])
        first, second = heads.chunk(2, dim=-1)
        cos, sin = self.cos[:, None], self.sin[:, None]
        turned: Tensor = heads * cos + torch.cat([-second, first], -1) * sin
        return turned.flatten(-2)


class ConformerAttention(nn.Module):
    """Self-attention with rotary positions.

    Shape:
        `[batch, tokens, dim]` -> same
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x: Tensor, rotary: Rotary) -> Tensor:
        """Shape: `[batch, tokens, dim]` -> same."""
        turned = rotary.turn(x)
        return self.attend(self.linear_q(turned), self.linear_k(turned), self.linear_v(x))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return what comes out for projected queries, keys and values.

        Shape:
            `[batch, tokens, dim]` each -> same
        """
        q, k, v = (split_heads(part, self.heads) for part in (q, k, v))
        attended = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)
        update: Tensor = self.linear_out(attended.transpose(1, 2).flatten(2))
        return update


class FusedAttention(ConformerAttention):
    """The same with queries and keys in one product."""

    def __init__(self, plain: ConformerAttention) -> None:
        nn.Module.__init__(self)
        self.heads, self.linear_v, self.linear_out = plain.heads, plain.linear_v, plain.linear_out
        self.linear_qk = stack_linear(plain.linear_q, plain.linear_k)

    def forward(self, x: Tensor, rotary: Rotary) -> Tensor:
        """Shape: `[batch, tokens, dim]` -> same."""
        q, k = self.linear_qk(rotary.turn(x)).chunk(2, dim=-1)
        return self.attend(q, k, self.linear_v(x))


class ConformerConvolution(nn.Module):
    """Pointwise, gate, depthwise over time, batch norm, SiLU, pointwise.

    Shape:
        `[batch, tokens, dim]` -> same
    """

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(dim)
        self.pointwise_conv1: nn.Module = nn.Conv1d(dim, 2 * dim, 1, bias=False)
        self.depthwise_conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=False)
        self.batch_norm: nn.Module = nn.BatchNorm1d(dim)
        self.pointwise_conv2: nn.Module = nn.Conv1d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: `[batch, tokens, dim]` -> same."""
        h = F.glu(_pointwise(self.pointwise_conv1, self.layer_norm(x)), dim=-1)
        h = F.silu(self.batch_norm(self.depthwise_conv(h.transpose(1, 2))))
        return _pointwise(self.pointwise_conv2, h.transpose(1, 2))

    def fuse(self) -> None:
        """Fold the batch norm into the convolution before it, and make pointwise convolutions linear layers."""
        self.pointwise_conv1, self.pointwise_conv2 = _linear(self.pointwise_conv1), _linear(self.pointwise_conv2)
        assert isinstance(self.batch_norm, nn.BatchNorm1d)
        self.depthwise_conv = fuse_conv_bn_eval(self.depthwise_conv, self.batch_norm)
        self.batch_norm = nn.Identity()


def _pointwise(layer: nn.Module, x: Tensor) -> Tensor:
    """Shape: `[batch, tokens, inputs]` -> `[batch, tokens, outputs]`."""
    out: Tensor = layer(x.transpose(1, 2)).transpose(1, 2) if isinstance(layer, nn.Conv1d) else layer(x)
    return out


def _linear(pointwise: nn.Module) -> nn.Linear:
    weight = pointwise.get_parameter("weight")[..., 0]
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight, False)
    return linear


class ConformerFeedForward(nn.Module):
    """Widen, SiLU, narrow.

    Shape:
        `[..., dim]` -> same
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.intermediate_dense, self.output_dense = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: `[..., dim]` -> same."""
        update: Tensor = self.output_dense(F.silu(self.intermediate_dense(x)))
        return update


class ConformerLayer(nn.Module):
    """One layer; its input to each part is normalised, and its output once more.

    Shape:
        `[batch, tokens, dim]` -> same
    """

    def __init__(self, dim: int, heads: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.ffn1_layer_norm, self.ffn1 = nn.LayerNorm(dim), ConformerFeedForward(dim, hidden)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.self_attn = ConformerAttention(dim, heads)
        self.conv_module = ConformerConvolution(dim, kernel)
        self.ffn2_layer_norm, self.ffn2 = nn.LayerNorm(dim), ConformerFeedForward(dim, hidden)
        self.final_layer_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, rotary: Rotary) -> Tensor:
        """Shape: `[batch, tokens, dim]` -> same."""
        x = x + 0.5 * self.ffn1(self.ffn1_layer_norm(x))
        x = x + self.self_attn(self.self_attn_layer_norm(x), rotary)
        x = x + self.conv_module(x)
        x = x + 0.5 * self.ffn2(self.ffn2_layer_norm(x))
        out: Tensor = self.final_layer_norm(x)
        return out

    def fuse(self) -> None:
        """Join weights that are used together."""
        self.self_attn = FusedAttention(self.self_attn)
        self.conv_module.fuse()


class Conformer(nn.Module):
    """Layers, and a norm after the last.

    Args:
        dim: width of a token.
        depth: number of layers.
        heads: of attention.
        hidden: width of the feed-forward parts.
        kernel: of the convolutions over time, in tokens.
        base: of the rotary positions.

    Attributes:
        rotary_dtype: of the angles.
        exact_start: take what comes in as float32, whatever autocast made it; what layers give always is.
    """

    def __init__(self, dim: int, depth: int, heads: int, hidden: int, kernel: int, base: float) -> None:
        super().__init__()
        self.dim_head, self.base = dim // heads, base
        self.rotary_dtype, self.exact_start = torch.float32, True
        self.layers = nn.ModuleList(ConformerLayer(dim, heads, hidden, kernel) for _ in range(depth))
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return what comes in, what each layer but the last gives, and what the last gives after the final norm.

        Shape:
            `[batch, tokens, dim]` -> depth + 1 of the same
        """
        rotary = Rotary.table(x.shape[1], self.dim_head, self.base, x.device, self.rotary_dtype)
        states = [x.float() if self.exact_start else x]
        for layer in self.layers:
            states.append(layer(states[-1], rotary).float())
        return [*states[:-1], self.layer_norm(states[-1])]


def stack_linear(*parts: nn.Linear) -> nn.Linear:
    """Return one linear layer that gives the outputs of `parts`, which take the same input, side by side."""
    weight, bias = torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
    stacked = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    stacked.weight, stacked.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
    return stacked
