"""Products on a CPU: equal to torch's, and the same for a row whatever rows are beside it."""

import sys

import pytest
import torch
from torch.nn import functional as F

from rerank.models import linear
from rerank.models.linear import PackedLinear, RowLinear, has_packing


def _random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


@pytest.mark.skipif(sys.platform == "darwin" and not has_packing(), reason="this torch for macOS has no oneDNN")
def test_packed_is_the_plain_product() -> None:
    weight, bias, x = _random(48, 40), _random(48), _random(2, 7, 40)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(weight, bias)(x), F.linear(x, weight, bias), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(PackedLinear(weight)(x), F.linear(x, weight), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("in_blocks", [False, True])
@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_row_is_the_same_among_any_others(
    dtype: torch.dtype, packs: bool, in_blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "has_packing", lambda dtype: packs and has_packing(dtype))
    weight, x = _random(96, 64, dtype=dtype), _random(24, 1, 64, dtype=dtype)
    layer = RowLinear(weight)
    assert (layer.packed is not None) == (packs and has_packing(dtype))
    assert (layer.outputs, layer.inputs) == (96, 64)
    layer.in_blocks = layer.in_blocks or in_blocks
    with torch.inference_mode():
        together = layer(x)
        torch.testing.assert_close(together.float(), F.linear(x.float(), weight.float()), atol=0.1, rtol=0.02)
        for first, count in ((0, 1), (3, 2), (5, 9), (0, 24)):
            assert torch.equal(layer(x[first : first + count]), together[first : first + count])
