"""Downsamplers: lengths, masks, published names, and a plain numpy implementation."""

import copy
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rerank.errors import WeightsError
from rerank.models.downsample import STRIDES, build_downsampler
from rerank.models.transformer import Tokens

DIM = 6

ALIASES = {
    "none": ["none"],
    "meanpool": ["mean"],
    "meanpool+mlp": ["mean+mlp", "b1", "baseline1"],
    "conv*2": ["b2", "baseline2"],
    "conv": ["b2s", "baseline2simple"],
    "gluconv*2+pw": ["b3", "baseline3"],
}

BLOCK = {"dw.weight": (768, 1, 5), "ln.weight": (768,), "ln.bias": (768,)}
GATED_BLOCK = {"pw1.weight": (1536, 768, 1), **BLOCK}
MLP = {"mlp.0.weight": (1536, 768), "mlp.0.bias": (1536,), "mlp.3.weight": (768, 1536), "mlp.3.bias": (768,)}

SETTINGS: list[dict[str, Any]] = [
    {"kind": "meanpool"},
    {"kind": "meanpool", "factor": 3},
    {"kind": "meanpool+mlp"},
    {"kind": "meanpool+mlp", "factor": 1, "pre_mlp": True},
    {"kind": "meanpool+mlp", "factor": 4},
    {"kind": "meanpool+mlp", "factor": 4, "pre_mlp": True, "mlp_ratio": 0.5, "dropout": 0.3},
    {"kind": "conv*2", "factor": 1},
    {"kind": "conv*2", "factor": 2},
    {"kind": "conv*2", "factor": 6},
    {"kind": "conv*2", "factor": 4, "kernel_size": 3, "use_layernorm": False},
    {"kind": "conv", "factor": 1, "stage": 2},
    {"kind": "conv", "factor": 3},
    {"kind": "conv", "factor": 2, "stage": 3},
    {"kind": "gluconv*2+pw", "factor": 1},
    {"kind": "gluconv*2+pw", "factor": 3},
    {"kind": "gluconv*2+pw", "factor": 8},
]


def named(settings: dict[str, Any]) -> str:
    return "-".join(str(value) for value in settings.values())


EACH = pytest.mark.parametrize("settings", SETTINGS, ids=named)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def built(settings: dict[str, Any], dim: int = DIM) -> nn.Module:
    """Return a downsampler in which every weight, also of the norms, has a value of its own."""
    module = build_downsampler(settings, dim).eval()
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.5 * torch.randn_like(weight))
    return module


def ratio(settings: dict[str, Any]) -> int:
    return int(settings.get("factor", 1) ** settings.get("stage", 1))


def apply(module: nn.Module, tokens: Tokens) -> Tokens:
    with torch.no_grad():
        shorter = module(tokens)
    assert isinstance(shorter, Tokens)
    assert shorter.mask.dtype == torch.bool
    assert shorter.values.shape[:2] == shorter.mask.shape
    return shorter


def some(length: int, batch: int = 1) -> Tokens:
    return Tokens.of(torch.randn(batch, length, DIM))


# --- the plain implementation: one item, token by token, in float64


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def plain_windows(mask: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield the indices of each full window."""
    for start in range(0, len(mask) - size + 1, size):
        yield np.arange(start, start + size)


def plain_mlp(weights: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    hidden = x @ weights["mlp.0.weight"].T + weights["mlp.0.bias"]
    return np.asarray((hidden * sigmoid(hidden)) @ weights["mlp.3.weight"].T + weights["mlp.3.bias"])


def plain_mean(x: np.ndarray, mask: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    means, counts = [np.zeros((0, x.shape[1]))], []
    for window in plain_windows(mask, size):
        valid = window[mask[window]]
        counts.append(len(valid) > 0)
        means.append(x[valid].mean(0, keepdims=True) if len(valid) else np.zeros((1, x.shape[1])))
    return np.concatenate(means), np.array(counts, dtype=bool)


def plain_block(
    weights: dict[str, np.ndarray], block: str, x: np.ndarray, mask: np.ndarray, stride: int
) -> tuple[np.ndarray, np.ndarray]:
    kernel = weights[f"{block}.dw.weight"][:, 0]
    length = len(mask) // stride * stride
    x, mask = np.where(mask[:length, None], x[:length], 0.0), mask[:length]
    if f"{block}.pw1.weight" in weights:
        value, gate = np.split(x @ weights[f"{block}.pw1.weight"][:, :, 0].T, 2, axis=1)
        x = value * sigmoid(gate)
    rows, counts = [np.zeros((0, x.shape[1]))], []
    for window in plain_windows(mask, stride):
        total = np.zeros(x.shape[1])
        for tap in range(kernel.shape[1]):
            at = window[0] + tap - kernel.shape[1] // 2
            if 0 <= at < length:
                total += kernel[:, tap] * x[at]
        if f"{block}.ln.weight" in weights:
            total = (total - total.mean()) / np.sqrt(total.var() + 1e-5)
            total = total * weights[f"{block}.ln.weight"] + weights[f"{block}.ln.bias"]
        counts.append(bool(mask[window].any()))
        rows.append((total * sigmoid(total) * counts[-1])[None])
    return np.concatenate(rows), np.array(counts, dtype=bool)


def plain(settings: dict[str, Any], module: nn.Module, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return values and mask of one item, `[tokens, dim]`."""
    weights = {key: value.double().numpy() for key, value in module.state_dict().items()}
    kind, factor = settings["kind"], settings.get("factor", 1)
    if kind == "meanpool":
        return plain_mean(x, mask, factor)
    if kind == "meanpool+mlp" and settings.get("pre_mlp"):
        return plain_mean(plain_mlp(weights, x), mask, factor)
    if kind == "meanpool+mlp":
        x, mask = plain_mean(x, mask, factor)
        return plain_mlp(weights, x) * mask[:, None], mask
    if factor == 1:
        return x * mask[:, None], mask
    if kind == "conv":
        for _ in range(settings.get("stage", 1)):
            x, mask = plain_block(weights, "blocks.0", x, mask, factor)
        return x, mask
    for block, stride in zip(("block1", "block2"), STRIDES[factor], strict=True):
        x, mask = plain_block(weights, block, x, mask, stride)
    if kind == "gluconv*2+pw":
        x = x @ weights["final_pw.weight"][:, :, 0].T
    return x, mask


# --- what all kinds have in common


@EACH
def test_equals_plain_implementation(settings: dict[str, Any]) -> None:
    module = built(settings)
    tokens = Tokens(torch.randn(3, 29, DIM), torch.rand(3, 29) > 0.5)
    tokens.mask[:, 8:16] = False  # whole windows without a token that counts
    values, mask = apply(module, tokens)
    for item in range(3):
        expected, counts = plain(settings, module, tokens.values[item].double().numpy(), tokens.mask[item].numpy())
        assert mask[item].tolist() == counts.tolist()
        np.testing.assert_allclose(values[item].numpy(), expected, atol=1e-5, rtol=1e-4)


@EACH
def test_lengths(settings: dict[str, Any]) -> None:
    module, factor = built(settings), ratio(settings)
    for length in range(2 * factor + 2):
        shorter = apply(module, some(length, batch=2))
        assert shorter.values.shape == (2, length // factor, DIM)
        assert bool(shorter.mask.all())
        assert bool(shorter.values.isfinite().all())


@EACH
def test_no_token_counts(settings: dict[str, Any]) -> None:
    shorter = apply(built(settings), some(30)._replace(mask=torch.zeros(1, 30, dtype=torch.bool)))
    assert not shorter.mask.any()
    assert not shorter.values.any()


@EACH
def test_masked_values_do_not_leak(settings: dict[str, Any]) -> None:
    module, mask = built(settings), torch.rand(2, 33) > 0.4
    tokens = Tokens(torch.randn(2, 33, DIM), mask)
    expected = apply(module, tokens)
    for rubbish in (1e6, math.inf, math.nan):
        shorter = apply(module, tokens._replace(values=tokens.values.masked_fill(~mask[..., None], rubbish)))
        assert torch.equal(shorter.mask, expected.mask)
        assert torch.equal(shorter.values, expected.values)


@EACH
def test_masked_tokens_come_out_as_zero(settings: dict[str, Any]) -> None:
    tokens, kept = some(48), 24 // ratio(settings)
    tokens.mask[:, 24:] = False
    shorter = apply(built(settings), tokens)
    assert shorter.mask[0].tolist() == [True] * kept + [False] * kept
    assert not shorter.values[:, kept:].any()


@EACH
def test_an_item_of_full_windows_is_the_same_alone_and_padded(settings: dict[str, Any]) -> None:
    module, length = built(settings), 3 * ratio(settings)
    alone = some(length)
    padded = Tokens(torch.randn(2, length + 7, DIM), torch.ones(2, length + 7, dtype=torch.bool))
    padded.values[0, :length], padded.mask[0, length:] = alone.values[0], False
    expected, shorter = apply(module, alone), apply(module, padded)
    assert shorter.mask[0].sum() == 3
    torch.testing.assert_close(shorter.values[0, :3], expected.values[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("settings", [each for each in SETTINGS if ratio(each) > 1], ids=named)
def test_padding_keeps_a_partial_last_window(settings: dict[str, Any]) -> None:
    module, factor = built(settings), ratio(settings)
    alone = some(2 * factor + 1)
    padded = Tokens(torch.zeros(1, 3 * factor, DIM), torch.arange(3 * factor)[None] < 2 * factor + 1)
    padded.values[0, : 2 * factor + 1] = alone.values[0]
    assert apply(module, alone).mask.sum() == 2
    assert apply(module, padded).mask.sum() == 3


@EACH
def test_gradients_are_finite(settings: dict[str, Any]) -> None:
    module, tokens = built(settings).train(), some(26)
    tokens.mask[:, 13:] = False
    tokens.values.requires_grad_()
    module(tokens).values.sum().backward()
    assert tokens.values.grad is not None
    assert bool(tokens.values.grad.isfinite().all())
    assert not tokens.values.grad[:, 13:].any()


# --- values worked out by hand


def test_mean_by_hand() -> None:
    values = torch.tensor([[[1.0], [3.0], [5.0], [7.0], [9.0], [11.0], [13.0]]])
    mask = torch.tensor([[True, True, False, True, False, False, True]])
    shorter = apply(build_downsampler({"kind": "mean", "factor": 2}, 1), Tokens(values, mask))
    assert shorter.values.flatten().tolist() == [2.0, 7.0, 0.0]
    assert shorter.mask.tolist() == [[True, True, False]]


def test_convolution_by_hand() -> None:
    module = build_downsampler({"kind": "conv", "factor": 2, "use_layernorm": False}, 1)
    with torch.no_grad():
        module.get_parameter("blocks.0.dw.weight").copy_(torch.tensor([[[1.0, 10.0, 100.0, 1000.0, 10000.0]]]))
    values = torch.tensor([[[1.0], [2.0], [3.0], [4.0], [5.0]]])
    shorter = apply(module, Tokens.of(values))
    # the fifth token is dropped: the second window ends with silence, and SiLU of a large number is that number
    assert shorter.values.flatten().tolist() == [100 + 2000 + 30000, 1 + 20 + 300 + 4000]


# --- names, options, errors


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {}),
        ({"kind": "none"}, {}),
        ({"kind": "none", "factor": 9, "stage": 2}, {}),
        ({"kind": "meanpool", "factor": 5}, {}),
        ({"kind": "meanpool", "factor": 5, "mlp_ratio": 2.0, "dropout": 0.1}, {}),
        ({"kind": "meanpool+mlp", "factor": 5}, MLP),
        ({"kind": "meanpool+mlp", "dropout": 0.1, "pre_mlp": True}, MLP),
        ({"kind": "conv*2", "factor": 9}, {f"block{s}.{key}": shape for s in (1, 2) for key, shape in BLOCK.items()}),
        ({"kind": "conv*2", "use_layernorm": False}, {f"block{s}.dw.weight": (768, 1, 5) for s in (1, 2)}),
        ({"kind": "conv", "factor": 2}, {f"blocks.0.{key}": shape for key, shape in BLOCK.items()}),
        (
            {"kind": "conv", "factor": 2, "stage": 3, "dim": 512},
            {f"blocks.{s}.{key}": shape for s in range(3) for key, shape in BLOCK.items()},
        ),
        (
            {"kind": "gluconv*2+pw", "factor": 1},
            {f"block{s}.{key}": shape for s in (1, 2) for key, shape in GATED_BLOCK.items()}
            | {"final_pw.weight": (768, 768, 1)},
        ),
    ],
    ids=lambda value: named(value) if "kind" in value else "",
)
def test_keys_are_the_published_ones(settings: dict[str, Any], expected: dict[str, tuple[int, ...]]) -> None:
    with torch.device("meta"):
        module = build_downsampler(settings, 768)
    assert {key: tuple(value.shape) for key, value in module.state_dict().items()} == expected


def test_no_kind_changes_nothing() -> None:
    tokens = some(5)
    for settings in ({}, {"kind": "none"}, {"kind": "None"}):
        assert build_downsampler(settings, DIM)(tokens) is tokens


@pytest.mark.parametrize(("kind", "alias"), [(kind, alias) for kind in ALIASES for alias in ALIASES[kind]])
def test_aliases_are_the_same_kind(kind: str, alias: str) -> None:
    module, tokens = built({"kind": kind, "factor": 4}), some(21, batch=2)
    for name in (alias, alias.upper()):
        other = build_downsampler({"kind": name, "factor": 4}, DIM)
        other.load_state_dict(module.state_dict(), strict=True)
        assert torch.equal(apply(module, tokens).values, apply(other.eval(), tokens).values)


@pytest.mark.parametrize("kind", ["conv*2", "gluconv*2+pw"])
@pytest.mark.parametrize("factor", STRIDES)
def test_two_stages_multiply_to_the_factor(kind: str, factor: int) -> None:
    module = build_downsampler({"kind": kind, "factor": factor}, 2)
    convolutions = (module.get_submodule(f"block{stage}.dw") for stage in (1, 2))
    strides = tuple(layer.stride[0] for layer in convolutions if isinstance(layer, nn.Conv1d))
    assert strides == STRIDES[factor]
    assert math.prod(strides) == factor


def test_strides_are_the_nearest_divisors() -> None:
    for factor, strides in STRIDES.items():
        pairs = (pair for pair in itertools.product(range(1, factor + 1), repeat=2) if math.prod(pair) == factor)
        nearest = sorted(min(pairs, key=max))
        assert list(strides) == (nearest[::-1] if nearest[1] == 3 else nearest)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"kind": "max"},
            r"no downsampler of kind 'max'; known kinds: none, meanpool, mean, meanpool\+mlp, .*baseline3$",
        ),
        ({"kind": None}, "no downsampler of kind None"),
        ({"kind": ["conv"]}, r"no downsampler of kind \['conv'\]"),
        (
            {"kind": "mean", "stride": 3},
            "kind 'mean' has no option 'stride'; known options: factor, mlp_ratio, dropout$",
        ),
        ({"kind": "none", "size": 3}, "kind 'none' has no option 'size'"),
        ({"kind": "conv*2", "stage": 2}, "kind 'conv\\*2' has no option 'stage'; known options: factor, kernel_size"),
        ({"kind": "b3", "gated": False}, "kind 'b3' has no option 'gated'"),
        ({"kind": "b2", "factor": 11}, "two stages has no factor 11; known factors: 1, 2, 3, .*24, 25$"),
        ({"kind": "b3", "factor": 26}, "two stages has no factor 26"),
        (
            {"kind": "conv", "factor": 0},
            "factor of a downsampler of kind 'conv' must be a whole number from 1 to 1,024, got 0",
        ),
        ({"kind": "mean", "factor": 2.0}, "factor .* must be a whole number from 1 to 1,024, got 2.0"),
        ({"kind": "mean", "factor": True}, "factor .* must be a whole number from 1 to 1,024, got True"),
        ({"kind": "mean", "factor": "4"}, "factor .* must be a whole number from 1 to 1,024, got '4'"),
        ({"kind": "conv", "stage": 0}, "stage .* must be a whole number from 1 to 1,024, got 0"),
        ({"kind": "b1", "mlp_ratio": 0}, "mlp_ratio .* must be a number above 0, up to 64, got 0"),
        ({"kind": "b1", "pre_mlp": 1}, "pre_mlp .* must be true or false, got 1"),
        ({"kind": "b1", "dropout": 2}, "dropout .* must be a number from 0 to 1, got 2"),
        ({"kind": "conv", "kernel_size": 4}, "kernel_size .* must be an odd whole number up to 1,024, got 4"),
        ({"kind": "conv", "use_layernorm": None}, "use_layernorm .* must be true or false, got None"),
        (None, "settings of a downsampler are names with values, got None"),
    ],
)
def test_refusals_are_one_line(settings: Any, message: str) -> None:
    with pytest.raises(WeightsError, match=message) as refusal:
        build_downsampler(settings, DIM)
    assert "\n" not in str(refusal.value)


# --- the block that is applied several times


def test_repeated_block_is_one_block() -> None:
    module = built({"kind": "conv", "factor": 2, "stage": 3})
    weights = module.state_dict()
    assert len(list(module.parameters())) == 3
    assert len({weights[f"blocks.{s}.dw.weight"].data_ptr() for s in range(3)}) == 1
    once = build_downsampler({"kind": "conv", "factor": 2}, DIM)
    once.load_state_dict({key: value for key, value in weights.items() if key.startswith("blocks.0.")}, strict=True)
    tokens = some(17)
    expected = apply(once, apply(once, apply(once, tokens)))
    assert torch.equal(apply(module, tokens).values, expected.values)


@pytest.mark.parametrize("assign", [False, True])
def test_repeated_block_takes_separate_equal_tensors(assign: bool, tmp_path: Path) -> None:
    settings = {"kind": "conv", "factor": 2, "stage": 2}
    original = built(settings)
    # safetensors refuses tensors that share memory: each name gets a copy
    save_file({key: value.clone() for key, value in original.state_dict().items()}, tmp_path / "m.safetensors")
    weights = load_file(tmp_path / "m.safetensors")
    with torch.device("meta" if assign else "cpu"):
        other = build_downsampler(settings, DIM)
    other.load_state_dict(weights, strict=True, assign=assign)
    assert len(list(other.parameters())) == 3
    tokens = some(16)
    assert torch.equal(apply(other, tokens).values, apply(original, tokens).values)


def test_repeated_block_refuses_weights_that_differ() -> None:
    module = nn.Sequential(build_downsampler({"kind": "conv", "factor": 2, "stage": 2}, DIM))
    weights = copy.deepcopy(module.state_dict())
    weights["0.blocks.1.ln.bias"] = weights["0.blocks.1.ln.bias"] + 1
    with pytest.raises(WeightsError, match=r"0\.blocks\.1\.ln\.bias and 0\.blocks\.0\.ln\.bias are one weight"):
        module.load_state_dict(weights)


def test_repeated_block_reports_what_is_missing() -> None:
    module = build_downsampler({"kind": "conv", "factor": 2, "stage": 2}, DIM)
    weights = {key: value for key, value in module.state_dict().items() if key != "blocks.1.ln.bias"}
    with pytest.raises(RuntimeError, match="Missing key.*blocks.1.ln.bias"):
        module.load_state_dict(weights)
