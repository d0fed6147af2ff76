"""The shared transformer block: published names, masks, and a plain implementation."""

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor

from rerank.models.transformer import (
    Attention,
    CrossAttention,
    DecoderLayer,
    FeedForward,
    Tokens,
    Transformer,
    concatenate,
    positions,
)

LAYER = {
    "0.q_scale": (20,),
    "0.k_scale": (20,),
    "0.norm.learned_gamma": (32,),
    "0.to_q.weight": (40, 32),
    "0.to_kv.weight": (80, 32),
    "0.to_out.0.weight": (32, 40),
    "1.0.learned_gamma": (32,),
    "1.1.weight": (170, 32),
    "1.4.weight": (32, 85),
}

DECODER = {
    "self_attn.q_scale": (20,),
    "self_attn.k_scale": (20,),
    "self_attn.norm.learned_gamma": (32,),
    "self_attn.to_q.weight": (40, 32),
    "self_attn.to_kv.weight": (80, 32),
    "self_attn.to_out.0.weight": (32, 40),
    "cross_attn.norm_q.learned_gamma": (32,),
    "cross_attn.norm_kv.learned_gamma": (32,),
    "cross_attn.to_q.weight": (40, 32),
    "cross_attn.to_kv.weight": (80, 32),
    "cross_attn.to_out.0.weight": (32, 40),
    "ffn.0.learned_gamma": (32,),
    "ffn.1.weight": (170, 32),
    "ffn.4.weight": (32, 85),
}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def randomise(module: torch.nn.Module) -> None:
    """Give every weight, also the scales, a value of its own."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.3 * torch.randn_like(weight))


def shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def plain_norm(x: Tensor, gamma: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gamma


def plain_attention(block: Attention, x: Tensor, mask: Tensor) -> Tensor:
    h = plain_norm(x, block.norm.learned_gamma)
    heads, width = block.heads, len(block.q_scale)
    key_weight, value_weight = block.to_kv.weight.chunk(2)
    merged = torch.zeros(*x.shape[:2], heads * width)
    for item in range(len(x)):
        for head in range(heads):
            rows = slice(head * width, (head + 1) * width)
            q, k, v = (h[item] @ weight[rows].T for weight in (block.to_q.weight, key_weight, value_weight))
            q = q / q.norm(dim=-1, keepdim=True) * block.q_scale
            k = k / k.norm(dim=-1, keepdim=True) * block.k_scale
            logits = 8.0 * q @ k.T + torch.where(mask[item], 0.0, -1e9)
            merged[item, :, rows] = logits.softmax(-1) @ v
    return merged @ block.get_parameter("to_out.0.weight").T


def test_keys_are_the_published_ones() -> None:
    expected = {f"layers.{i}.{key}": shape for i in range(3) for key, shape in LAYER.items()}
    assert shapes(Transformer(32, 3, heads=2, dim_head=20)) == expected
    assert shapes(DecoderLayer(32, heads=2, dim_head=20)) == DECODER


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_adds_no_keys_and_is_off_in_eval(dropout: float) -> None:
    transformer = Transformer(32, 1, heads=2, dim_head=20, dropout=dropout).eval()
    assert all(re.fullmatch(r"layers\.0\.[01]\..+", key) for key in transformer.state_dict())
    x = torch.randn(1, 5, 32)
    assert torch.equal(transformer(x), transformer(x))


def test_attention_equals_plain_implementation() -> None:
    block = Attention(32, heads=2, dim_head=20)
    randomise(block)
    x, mask = torch.randn(3, 7, 32), torch.rand(3, 7) > 0.4
    bias = torch.where(mask, 0.0, -1e9)[:, None, None, :]
    torch.testing.assert_close(block(x, bias), plain_attention(block, x, mask), atol=1e-5, rtol=1e-4)


def test_attention_to_nothing_valid_is_uniform() -> None:
    block = Attention(32, heads=2, dim_head=20)
    x = torch.randn(1, 4, 32)
    update = block(x, torch.full((1, 1, 1, 4), -1e9))
    values = plain_norm(x, block.norm.learned_gamma) @ block.to_kv.weight[40:].T
    torch.testing.assert_close(update[0], (values.mean(1) @ block.get_parameter("to_out.0.weight").T).expand(4, -1))


def test_feed_forward_gates_the_first_half_with_the_second() -> None:
    block = FeedForward(32)
    randomise(block)
    x = torch.randn(2, 5, 32)
    hidden = plain_norm(x, block.get_parameter("0.learned_gamma")) @ block.get_parameter("1.weight").T
    value, gate = hidden[..., :85], hidden[..., 85:]
    gated = value * gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))
    torch.testing.assert_close(block(x), gated @ block.get_parameter("4.weight").T, atol=1e-5, rtol=1e-4)


def test_cross_attention_equals_plain_implementation() -> None:
    block = CrossAttention(32, heads=1, dim_head=20)
    randomise(block)
    x, memory = torch.randn(1, 3, 32), torch.randn(1, 6, 32)
    mask = torch.tensor([[True, True, False, True, False, True]])
    q = plain_norm(x, block.norm_q.learned_gamma) @ block.to_q.weight.T
    k, v = (plain_norm(memory, block.norm_kv.learned_gamma) @ block.to_kv.weight.T).chunk(2, -1)
    logits = (q @ k.mT / math.sqrt(20)).masked_fill(~mask[:, None], -math.inf)
    expected = logits.softmax(-1) @ v @ block.get_parameter("to_out.0.weight").T
    torch.testing.assert_close(block(x, Tokens(memory, mask)), expected, atol=1e-5, rtol=1e-4)


def test_cross_attention_to_nothing_adds_nothing() -> None:
    block = CrossAttention(32, heads=2, dim_head=20)
    x = torch.randn(2, 3, 32)
    assert not block(x, Tokens.of(torch.zeros(2, 0, 32))).any()
    partly = block(x, Tokens(torch.randn(2, 4, 32), torch.tensor([[True] * 4, [False] * 4])))
    assert bool(partly[0].any()) and not partly[1].any()


def test_padding_changes_nothing() -> None:
    transformer = Transformer(32, 2, heads=2, dim_head=20)
    x = torch.randn(1, 5, 32)
    padded, mask = torch.cat([x, 100 * torch.randn(1, 3, 32)], 1), torch.arange(8)[None] < 5
    torch.testing.assert_close(transformer(padded, mask)[:, :5], transformer(x))


def test_keeping_the_last_tokens_changes_nothing_else() -> None:
    for depth in range(3):
        transformer = Transformer(32, depth, heads=2, dim_head=20)
        x, mask = torch.randn(2, 9, 32), torch.rand(2, 9) > 0.3
        torch.testing.assert_close(transformer(x, mask, keep=4), transformer(x, mask)[:, -4:])


def test_no_tokens_and_no_layers() -> None:
    assert Transformer(32, 2, heads=2, dim_head=20)(torch.zeros(3, 0, 32)).shape == (3, 0, 32)
    x = torch.randn(3, 2, 32)
    assert torch.equal(Transformer(32, 0)(x), x)


def test_fully_masked_rows_have_finite_gradients() -> None:
    transformer = Transformer(32, 2, heads=2, dim_head=20)
    x = torch.randn(2, 4, 32, requires_grad=True)
    transformer(x, torch.tensor([[True] * 4, [False] * 4])).sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())


def test_concatenate_repeats_single_items() -> None:
    one, three = (
        Tokens.of(torch.ones(1, 2, 4)),
        Tokens.of(torch.zeros(3, 5, 4)).where(torch.tensor([True, False, True])),
    )
    joined = concatenate([one, three])
    assert joined.values.shape == (3, 7, 4)
    assert joined.mask.sum(1).tolist() == [7, 2, 7]


def test_positions_differ_and_stay_within_one() -> None:
    table = positions(2000, 192)
    assert table.shape == (2000, 192)
    assert float(table.abs().max()) <= 1.0
    assert float(torch.cdist(table[None, :200], table[None, :200])[0].fill_diagonal_(9).min()) > 0.1


def test_decoder_layer_is_the_published_formula() -> None:
    """The cross-attention variant has no recorded numbers: it is written out here in numpy, loop by loop."""
    heads, width, dim = 2, 20, 32
    layer = DecoderLayer(dim, heads=heads, dim_head=width)
    random = torch.Generator().manual_seed(3)
    for parameter in layer.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=random) + (parameter.ndim == 1)
    x, memory = (torch.randn(2, length, dim, generator=random) for length in (5, 7))
    mask, memory_mask = torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:], memory_mask[0, 5:] = False, False
    with torch.inference_mode():
        found = layer(Tokens(x, mask), Tokens(memory, memory_mask)).values.numpy()
    weights = {name: value.double().numpy() for name, value in layer.state_dict().items()}
    for item in range(2):
        expected = _decoder_layer(
            x[item].double().numpy(), memory[item].double().numpy(), mask[item], memory_mask[item], weights, heads
        )
        np.testing.assert_allclose(found[item], expected, atol=2e-5)


def _decoder_layer(x: Any, memory: Any, mask: Any, memory_mask: Any, weights: dict[str, Any], heads: int) -> Any:
    def norm(rows: Any, gamma: Any) -> Any:
        centred = rows - rows.mean(-1, keepdims=True)
        return gamma * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)

    def softmax(rows: Any) -> Any:
        powers = np.exp(rows - rows.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    def unit(rows: Any) -> Any:
        return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)

    def attend(kind: str, asking: Any, asked: Any, valid: Any, lengths: bool) -> Any:
        q = asking @ weights[f"{kind}.to_q.weight"].T
        k, v = np.split(asked @ weights[f"{kind}.to_kv.weight"].T, 2, axis=-1)
        merged = []
        for head in range(heads):
            width = q.shape[1] // heads
            part = slice(head * width, (head + 1) * width)
            if lengths:  # lengths are 1, times a learned scale; the logits are multiplied by 8
                scaled = unit(q[:, part]) * weights[f"{kind}.q_scale"], unit(k[:, part]) * weights[f"{kind}.k_scale"]
                logits = 8 * scaled[0] @ scaled[1].T
            else:
                logits = q[:, part] @ k[:, part].T / np.sqrt(width)
            logits[:, ~valid.numpy()] = -1e9
            merged.append(softmax(logits) @ v[:, part])
        return np.concatenate(merged, axis=-1) @ weights[f"{kind}.to_out.0.weight"].T

    h = norm(x, weights["self_attn.norm.learned_gamma"])
    x = x + attend("self_attn", h, h, mask, lengths=True)
    asked = norm(memory, weights["cross_attn.norm_kv.learned_gamma"])
    x = x + attend("cross_attn", norm(x, weights["cross_attn.norm_q.learned_gamma"]), asked, memory_mask, lengths=False)
    wide = norm(x, weights["ffn.0.learned_gamma"]) @ weights["ffn.1.weight"].T
    value, gate = np.split(wide, 2, axis=-1)
    gelu = gate * 0.5 * (1 + special.erf(gate / np.sqrt(2)))
    return x + (value * gelu) @ weights["ffn.4.weight"].T
