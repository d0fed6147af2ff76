"""Products with weight matrices on a CPU: fast, and for each row the same whatever rows are computed with it.

**Source**: oneDNN's products with weights that were brought into its own order before, as torch's compiler uses them.
"""

import time
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_BLOCK = 8
"""Rows that are computed at a time where the result of a row would else depend on how many there are."""


class PackedLinear(nn.Module):
    """A linear layer on a CPU by oneDNN, with its weights in the order that oneDNN likes.

    Args:
        weight: `[outputs, inputs]`, float32 or bfloat16; it is copied.
        bias: `[outputs]`, or None.
        rows: how many are usual; any number can be computed.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, rows: int = 512) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """Shape: `[..., inputs]` -> `[..., outputs]`."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return out


def has_packing(dtype: torch.dtype = torch.float32) -> bool:
    """Return whether this build of torch has oneDNN, and that this processor's instructions for `dtype`."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch does not annotate it
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return dtype == torch.float32


@cache
def packing_pays() -> bool:
    """Return whether `PackedLinear` is clearly faster on this processor: on some, torch's own product is far slower."""
    if not has_packing():
        return False
    with torch.inference_mode():
        x, plain = torch.randn(512, 1024), nn.Linear(1024, 2048)
        times = []
        for layer in (plain, PackedLinear(plain.weight, plain.bias)):
            runs = []
            for _ in range(5):
                started = time.perf_counter()
                layer(x)
                runs.append(time.perf_counter() - started)
            times.append(min(runs))
    return times[1] < 0.8 * times[0]


class RowLinear(nn.Module):
    """A linear layer without bias for few rows; on a CPU each row has the same result, to the bit, among any others.

    Args:
        weight: `[outputs, inputs]`, on its device and in its dtype.
        rows: how many are usual.
    """

    def __init__(self, weight: Tensor, rows: int = 20) -> None:
        super().__init__()
        self.outputs, self.inputs = weight.shape
        on_cpu = weight.device.type == "cpu"
        # not where it is measured to be faster: the choice must be the same each time, for it changes the last bits
        packs = on_cpu and has_packing(weight.dtype)
        self.packed = PackedLinear(weight, rows=rows) if packs else None
        self.weight = None if self.packed else weight.detach()
        self.in_blocks = on_cpu and not _rows_agree(*weight.shape, weight.dtype, self.packed is not None)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: `[..., inputs]` -> `[..., outputs]`."""
        if not self.in_blocks:
            return self._product(x)
        rows = x.reshape(-1, x.shape[-1])
        missing = -len(rows) % _BLOCK
        blocks = torch.split(F.pad(rows, (0, 0, 0, missing)), _BLOCK)
        out = torch.cat([self._product(block) for block in blocks])[: len(rows)]
        return out.reshape(*x.shape[:-1], out.shape[-1])

    def _product(self, x: Tensor) -> Tensor:
        if self.packed is not None:
            packed: Tensor = self.packed(x)
            return packed
        assert self.weight is not None
        return F.linear(x, self.weight)


@cache
def _rows_agree(outputs: int, inputs: int, dtype: torch.dtype, packed: bool) -> bool:
    """Return whether a product with so large a matrix gives a row the same result among any number of rows."""
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=random).to(dtype)
    layer = PackedLinear(weight, rows=20) if packed else nn.Linear(inputs, outputs, bias=False)
    if isinstance(layer, nn.Linear):
        layer.weight = nn.Parameter(weight)
    rows = torch.randn(64, inputs, generator=random).to(dtype)
    with torch.inference_mode():
        together = layer(rows)
        return all(torch.equal(layer(rows[:count]), together[:count]) for count in (1, 2, 3, 4, 6, 10, 20, 33))
