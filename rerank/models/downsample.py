"""Downsamplers: fewer tokens for the transformers of the compositional reward model, where its config asks for them.

Pooling or strided convolutions over time; names of sub-modules give the state-dict keys of published checkpoints.

**Conventions**: all map `Tokens` to `Tokens` of the same width. Values of masked tokens never reach a token that
counts, and masked tokens come out as 0. A window of `factor` tokens becomes one token, which counts if any of them
does; tokens after the last full window are dropped, so a sequence shorter than the factor becomes empty. With factor 1
nothing but `MeanPoolMlp` changes a token that counts.

A window that is full only thanks to padding stays, while the same tokens alone lose it: unless its length is a multiple
of the factor, a sequence in a padded batch and the same sequence by itself come out differently. So it is in the
published model: give it one sequence at a time, or sequences of one length.

**Source**: the CMI reward model (arXiv:2603.00610), written from its published layout.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rerank.errors import WeightsError
from rerank.models.config import shown
from rerank.models.transformer import Tokens

STRIDES = {
    1: (1, 1),
    2: (1, 2),
    3: (3, 1),
    4: (2, 2),
    5: (1, 5),
    6: (3, 2),
    7: (1, 7),
    8: (2, 4),
    9: (3, 3),
    10: (2, 5),
    12: (3, 4),
    14: (2, 7),
    15: (3, 5),
    16: (4, 4),
    18: (3, 6),
    20: (4, 5),
    24: (4, 6),
    25: (5, 5),
}
"""Strides of first and second stage by factor: the two nearest divisors, the smaller first, but 3 before any other."""


def build_downsampler(settings: Mapping[str, Any], dim: int) -> nn.Module:
    """Return the downsampler of one entry of `downsample.configs`, with fresh weights.

    Kinds and their options, each with `factor` (default 1, tokens that become one):
        none: tokens stay as they are, whatever the other options say.
        mean, meanpool: see `MeanPool`; `mlp_ratio` and `dropout` are known and mean nothing.
        meanpool+mlp, mean+mlp, b1, baseline1: see `MeanPoolMlp`; `mlp_ratio`, `pre_mlp`, `dropout`.
        conv*2, b2, baseline2: see `TwoConvolutions`; `kernel_size`, `use_layernorm`.
        conv, b2s, baseline2simple: see `RepeatedConvolution`; `stage`, `kernel_size`, `use_layernorm`.
        gluconv*2+pw, b3, baseline3: see `TwoConvolutions`, gated; `kernel_size`, `use_layernorm`.

    Args:
        settings: `kind` in any case (default "none") and options; an entry `dim` is ignored.
        dim: width of a token.

    Raises:
        WeightsError: the kind or an option is not known, or an option has a value that it cannot have.
    """
    if not isinstance(settings, Mapping):
        raise WeightsError(f"the settings of a downsampler are names with values, got {shown(settings)}")
    name = settings.get("kind", "none")
    kind = _BY_NAME.get(name.lower()) if isinstance(name, str) else None
    if kind is None:
        raise WeightsError(f"there is no downsampler of kind {shown(name)}; known kinds: {', '.join(_BY_NAME)}")
    options = {option: value for option, value in settings.items() if option not in ("kind", "dim")}
    known = kind.options + kind.ignored
    for option, value in options.items():
        if option not in known:
            raise WeightsError(
                f"a downsampler of kind {name!r} has no option {shown(option)}; known options: {', '.join(known)}"
            )
        expected, fits = _OPTIONS[option]
        if not fits(value):
            raise WeightsError(f"{option} of a downsampler of kind {name!r} must be {expected}, got {shown(value)}")
    return kind.make(dim, **{option: value for option, value in options.items() if option in kind.options})


def _without_masked(tokens: Tokens) -> Tokens:
    """Return the same tokens, 0 where they do not count, whatever was there."""
    return tokens._replace(values=tokens.values.masked_fill(~tokens.mask[..., None], 0.0))


def _full_windows(tokens: Tokens, size: int) -> Tokens:
    """Return the tokens of the windows of `size` that are full; masked ones are 0."""
    kept = tokens.mask.shape[1] // size * size
    return _without_masked(Tokens(tokens.values[:, :kept], tokens.mask[:, :kept]))


def _windows(x: Tensor, size: int) -> Tensor:
    """Shape: `[batch, windows * size, ...]` -> `[batch, windows, size, ...]`; no windows are fine."""
    return x.reshape(x.shape[0], x.shape[1] // size, size, *x.shape[2:])


class MeanPool(nn.Module):
    """Mean over the tokens of each window that count; no weights.

    Args:
        factor: tokens in a window.

    Shape:
        `[batch, tokens, dim]` -> `[batch, tokens // factor, dim]`
    """

    def __init__(self, factor: int = 1) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, tokens: Tokens) -> Tokens:
        """Shape: `[batch, tokens, dim]` -> `[batch, tokens // factor, dim]`."""
        values, mask = _full_windows(tokens, self.factor)
        counting = _windows(mask, self.factor).sum(2)
        means = _windows(values, self.factor).sum(2) / counting.clamp(min=1)[..., None]
        return Tokens(means, counting > 0)


class MeanPoolMlp(nn.Module):
    """`MeanPool` and two linear layers, after it or before it, also with factor 1.

    Args:
        dim: width of a token.
        factor: tokens in a window.
        mlp_ratio: hidden width is int(dim * mlp_ratio).
        pre_mlp: the linear layers come before the mean.
        dropout: in training only.

    Shape:
        `[batch, tokens, dim]` -> `[batch, tokens // factor, dim]`
    """

    def __init__(
        self, dim: int, factor: int = 1, mlp_ratio: float = 2.0, pre_mlp: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.pre_mlp = pre_mlp
        self.pool = MeanPool(factor)
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.SiLU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.Dropout(dropout)
        )

    def forward(self, tokens: Tokens) -> Tokens:
        """Shape: `[batch, tokens, dim]` -> `[batch, tokens // factor, dim]`."""
        if self.pre_mlp:
            pooled: Tokens = self.pool(tokens._replace(values=self.mlp(tokens.values)))
            return pooled
        pooled = self.pool(tokens)
        return _without_masked(pooled._replace(values=self.mlp(pooled.values)))


class _ConvolutionBlock(nn.Module):
    """Depthwise convolution with a stride, layer norm, SiLU; gated: after a pointwise convolution and its gate.

    Shape:
        `[batch, tokens, dim]` -> `[batch, tokens // stride, dim]`
    """

    def __init__(self, dim: int, stride: int, gated: bool, kernel_size: int, use_layernorm: bool) -> None:
        super().__init__()
        self.stride = stride
        self.pw1 = nn.Conv1d(dim, 2 * dim, 1, bias=False) if gated else None
        self.dw = nn.Conv1d(dim, dim, kernel_size, stride, kernel_size // 2, groups=dim, bias=False)
        self.ln = nn.LayerNorm(dim) if use_layernorm else nn.Identity()

    def forward(self, tokens: Tokens) -> Tokens:
        """Shape: `[batch, tokens, dim]` -> `[batch, tokens // stride, dim]`."""
        tokens = _full_windows(tokens, self.stride)
        if tokens.mask.shape[1] == 0:  # a convolution refuses an empty sequence
            return tokens
        x = tokens.values.transpose(1, 2)
        if self.pw1 is not None:
            x = F.glu(self.pw1(x), dim=1)
        x = self.dw(x).transpose(1, 2)
        return _without_masked(Tokens(F.silu(self.ln(x)), _windows(tokens.mask, self.stride).any(2)))


class TwoConvolutions(nn.Module):
    """Two blocks of depthwise convolution, layer norm and SiLU, whose strides multiply to the factor.

    With factor 1 the blocks are there, so that a checkpoint fits, and are not used.

    Args:
        dim: width of a token.
        factor: one of `STRIDES`.
        gated: each block starts with a pointwise convolution and a gate, and a pointwise convolution ends all.
        kernel_size: of the depthwise convolutions, odd.
        use_layernorm: False leaves the layer norms out.

    Shape:
        `[batch, tokens, dim]` -> `[batch, tokens // factor, dim]`

    Raises:
        WeightsError: there are no strides for the factor.
    """

    def __init__(
        self, dim: int, factor: int = 1, gated: bool = False, kernel_size: int = 5, use_layernorm: bool = True
    ) -> None:
        super().__init__()
        if factor not in STRIDES:
            raise WeightsError(
                f"a downsampler in two stages has no factor {factor}; known factors: {', '.join(map(str, STRIDES))}"
            )
        self.factor = factor
        first, second = STRIDES[factor]
        self.block1 = _ConvolutionBlock(dim, first, gated, kernel_size, use_layernorm)
        self.block2 = _ConvolutionBlock(dim, second, gated, kernel_size, use_layernorm)
        self.final_pw = nn.Conv1d(dim, dim, 1, bias=False) if gated else None

    def forward(self, tokens: Tokens) -> Tokens:
        """Shape: `[batch, tokens, dim]` -> `[batch, tokens // factor, dim]`."""
        if self.factor == 1:
            return _without_masked(tokens)
        tokens = self.block2(self.block1(tokens))
        if self.final_pw is None or tokens.mask.shape[1] == 0:
            return tokens
        return _without_masked(tokens._replace(values=self.final_pw(tokens.values.transpose(1, 2)).transpose(1, 2)))


class RepeatedConvolution(nn.Module):
    """One block of depthwise convolution, layer norm and SiLU, applied `stage` times with the same weights.

    The state dict holds its weights once for each time, `blocks.0.*` to `blocks.{stage - 1}.*`, and takes nothing that
    differs between them. With factor 1 the block is there, so that a checkpoint fits, and is not used.

    Args:
        dim: width of a token.
        factor: stride of the block, each time.
        stage: how many times.
        kernel_size: of the depthwise convolution, odd.
        use_layernorm: False leaves the layer norm out.

    Shape:
        `[batch, tokens, dim]` -> `[batch, tokens // factor**stage, dim]`

    Raises:
        WeightsError: (on loading) the weights of one time are not those of another.
    """

    def __init__(
        self, dim: int, factor: int = 1, stage: int = 1, kernel_size: int = 5, use_layernorm: bool = True
    ) -> None:
        super().__init__()
        self.factor = factor
        block = _ConvolutionBlock(dim, factor, False, kernel_size, use_layernorm)
        self.blocks = nn.ModuleList([block] * stage)
        # torch does not annotate it
        self.register_load_state_dict_pre_hook(_check_repeated)  # type: ignore[no-untyped-call]

    def forward(self, tokens: Tokens) -> Tokens:
        """Shape: `[batch, tokens, dim]` -> `[batch, tokens // factor**stage, dim]`."""
        if self.factor == 1:
            return _without_masked(tokens)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


def _check_repeated(module: nn.Module, state_dict: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    """Refuse weights that differ between the times a block is applied: only the last would be kept, silently."""
    first = f"{prefix}blocks.0."
    for key in module.state_dict(prefix=prefix):
        other = first + key.removeprefix(f"{prefix}blocks.").split(".", 1)[1]
        if key in state_dict and other in state_dict and not torch.equal(state_dict[key], state_dict[other]):
            raise WeightsError(f"{key} and {other} are one weight of a downsampler, but differ; download it again")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_MOST = 1024
"""Of tokens that become one, of convolutions one after another, and of places of a kernel."""

_OPTIONS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "factor": (f"a whole number from 1 to {_MOST:,}", _is_whole),
    "stage": (f"a whole number from 1 to {_MOST:,}", _is_whole),
    "mlp_ratio": ("a number above 0, up to 64", lambda value: _is_number(value) and 0 < value <= 64),
    "pre_mlp": ("true or false", lambda value: isinstance(value, bool)),
    "dropout": ("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1),
    "kernel_size": (f"an odd whole number up to {_MOST:,}", lambda value: _is_whole(value) and value % 2 == 1),
    "use_layernorm": ("true or false", lambda value: isinstance(value, bool)),
}
"""What values an option can have: in words, and whether one is such."""


@dataclass(frozen=True)
class _Kind:
    """Names of a kind, what makes it, and the options that it takes, or knows without heeding them."""

    names: tuple[str, ...]
    make: Callable[..., nn.Module]
    options: tuple[str, ...]
    ignored: tuple[str, ...] = ()


_CONVOLUTION = ("factor", "kernel_size", "use_layernorm")

_KINDS = (
    _Kind(("none",), lambda dim: nn.Identity(), (), tuple(_OPTIONS)),
    _Kind(("meanpool", "mean"), lambda dim, **options: MeanPool(**options), ("factor",), ("mlp_ratio", "dropout")),
    _Kind(("meanpool+mlp", "mean+mlp", "b1", "baseline1"), MeanPoolMlp, ("factor", "mlp_ratio", "pre_mlp", "dropout")),
    _Kind(("conv*2", "b2", "baseline2"), TwoConvolutions, _CONVOLUTION),
    _Kind(("conv", "b2s", "baseline2simple"), RepeatedConvolution, (*_CONVOLUTION, "stage")),
    _Kind(("gluconv*2+pw", "b3", "baseline3"), partial(TwoConvolutions, gated=True), _CONVOLUTION),
)
_BY_NAME = {name: kind for kind in _KINDS for name in kind.names}
