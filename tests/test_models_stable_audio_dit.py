"""Transformer and decoder of Stable Audio: equal to recorded outputs of stable-audio-tools, published sizes, refusals.

The tolerances are float32 in another order of additions: the library adds up the same products by other kernels.
"""

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rerank.errors import WeightsError
from rerank.models.oobleck import PREFIX, OobleckConfig, read_decoder
from rerank.models.stable_audio_dit import UNUSED, Dit, DitConfig, NumberEmbedding
from rerank.models.weights import load_strictly
from tests.record_stable_audio_small import DATA, OPEN_DIT, PUBLISHED, SMALL_OPEN_DIT, small_config, weights

DIFFUSION = PUBLISHED["model"]["diffusion"]["config"]
DIT = "model.model."
TOLERANCE = 1e-5


def recorded(name: str) -> dict[str, NDArray[np.float32]]:
    return dict(np.load(DATA / f"{name}.npz"))


def published_weights(name: str, prefix: str) -> dict[str, Tensor]:
    shapes = json.loads((DATA / f"{name}.json").read_text())
    return weights({key: shape for key, shape in shapes.items() if key.startswith(prefix)})


def build(config: dict[str, Any], name: str, prefix: str) -> Dit:
    with torch.device("meta"):
        model = Dit(DitConfig.of(config)).eval()
    unused = [prefix + formula for formula in UNUSED]
    load_strictly(model, published_weights(name, prefix), where=name, prefix=prefix, unused=unused)
    return model


def small_dit() -> Dit:
    return build(small_config()["model"]["diffusion"]["config"], "shapes", DIT)


@torch.inference_mode()
def velocity(model: Dit, inputs: dict[str, NDArray[np.float32]], rows: slice = slice(None)) -> Tensor:
    names = ("latents", "time", "text", "length")
    found: Tensor = model(*(torch.from_numpy(inputs[name][rows]) for name in names))
    return found


def worst(found: Tensor, expected: NDArray[np.float32]) -> float:
    assert tuple(found.shape) == expected.shape
    return float((found - torch.from_numpy(expected)).abs().max())


def test_transformer_of_the_small_model_gives_the_recorded_numbers() -> None:
    truth = {name: value[:2] for name, value in recorded("parts").items()}
    truth |= {name: np.repeat(truth[name], 2, 0) for name in ("text", "length")}
    assert worst(velocity(small_dit(), truth), truth["velocity"]) < TOLERANCE


def test_transformer_with_the_settings_of_open_1_0_gives_the_recorded_numbers() -> None:
    truth = recorded("open_dit")
    assert worst(velocity(build(SMALL_OPEN_DIT, "open_dit_shapes", "model."), truth), truth["velocity"]) < TOLERANCE


def test_what_all_candidates_share_may_be_given_once() -> None:
    truth, model = recorded("parts"), small_dit()
    each = {**truth, "text": np.repeat(truth["text"], 2, 0), "length": np.repeat(truth["length"], 2, 0)}
    assert worst(velocity(model, truth), velocity(model, each).numpy()) < TOLERANCE


def test_a_row_is_the_same_among_others() -> None:
    truth, model = recorded("open_dit"), build(SMALL_OPEN_DIT, "open_dit_shapes", "model.")
    together = velocity(model, truth)
    for row in range(2):
        assert worst(velocity(model, truth, slice(row, row + 1)), together[row : row + 1].numpy()) < TOLERANCE


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2**-5), (torch.float16, 2**-8)])
def test_products_in_half_precision_stay_near_float32(dtype: torch.dtype, tolerance: float) -> None:
    truth, model = recorded("parts"), small_dit()
    model.compute_in(dtype)
    found = velocity(model, truth)
    assert found.dtype == torch.float32
    assert {part.weight.dtype for part in model.modules() if isinstance(part, nn.LayerNorm)} == {torch.float32}
    # a rounding is 2**-9 in bfloat16 and 2**-12 in float16; here are the largest of thousands, each of many roundings
    assert worst(found, truth["velocity"]) < tolerance * float(np.abs(truth["velocity"]).max())


def test_published_settings_give_the_published_sizes() -> None:
    with torch.device("meta"):
        small, large = Dit(DitConfig.of(DIFFUSION)), Dit(DitConfig.of(OPEN_DIT))
        seconds = NumberEmbedding(768)
    assert DitConfig.of(DIFFUSION) == DitConfig()
    assert sum(value.numel() for value in small.parameters()) == 340_879_488
    assert sum(value.numel() for value in large.parameters()) == 1_056_828_544
    assert {name: tuple(value.shape) for name, value in seconds.state_dict().items()} == {
        "embedding.0.weights": (128,),
        "embedding.1.weight": (768, 257),
        "embedding.1.bias": (768,),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"global_cond_type": "adaLN"}, "global_cond_type 'adaLN' is not supported; expected 'prepend'"),
        ({"patch_size": 2}, "patch_size 2 is not supported; expected 1"),
        ({"project_global_cond": False}, "project_global_cond False"),
        ({"conformer": True}, "the setting 'conformer' is not supported"),
        ({"attn_kwargs": {"qk_norm": "l2"}}, "attn_kwargs .*l2.* is not supported"),
        ({"attn_kwargs": {"qk_norm": "ln", "differential": True}}, "differential"),
        ({"num_heads": 48}, "48 heads, tokens 1024 and text 1024 wide is not supported"),
        ({"num_heads": 64}, "64 heads"),
        ({"project_cond_tokens": False}, "8 heads, tokens 1024 and text 768 wide is not supported"),
        ({"depth": None}, "depth of a DiT must be a whole number from 1 to 256, got None"),
    ],
)
def test_other_transformers_are_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        DitConfig.of({**DIFFUSION, **change})
    assert "\n" not in str(caught.value)


def test_a_config_that_lacks_a_size_is_refused() -> None:
    with pytest.raises(WeightsError, match="lacks 'embed_dim'"):
        DitConfig.of({name: value for name, value in DIFFUSION.items() if name != "embed_dim"})


def small_decoder() -> tuple[OobleckConfig, nn.Module]:
    config = OobleckConfig.of(small_config()["model"]["pretransform"])
    return config, read_decoder(config, published_weights("shapes", "pretransform."), "shapes.json")


@torch.inference_mode()
def test_decoder_gives_the_recorded_numbers_with_its_weights_normalised_once() -> None:
    truth = recorded("parts")
    _, decoder = small_decoder()
    assert not any("weight_g" in name for name in decoder.state_dict())
    assert worst(decoder(torch.from_numpy(truth["frames"])), truth["audio"]) < 1e-6


@torch.inference_mode()
def test_audio_depends_on_frames_within_reach_only() -> None:
    truth = recorded("parts")
    config, decoder = small_decoder()
    kept = 10
    cut = torch.from_numpy(truth["frames"][..., : kept + config.reach])
    samples = kept * config.hop
    assert worst(decoder(cut)[..., :samples], truth["audio"][..., :samples]) < 1e-6
    # so that the reach is not just large
    near = decoder(cut[..., : kept + 3])
    assert worst(near[..., :samples], truth["audio"][..., :samples]) > 1e-3


def test_published_decoder_has_the_published_size() -> None:
    config = OobleckConfig.of(PUBLISHED["model"]["pretransform"])
    assert config == OobleckConfig()
    assert (config.hop, config.reach) == (2048, 10)


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_decoder_takes_exactly_its_weights(change: str) -> None:
    config = OobleckConfig.of(small_config()["model"]["pretransform"])
    found = published_weights("shapes", PREFIX)
    name = f"{PREFIX}layers.1.layers.2.layers.1.weight_g"
    value = found.pop(name)
    if change == "unknown":
        found |= {name: value, f"{PREFIX}layers.1.layers.9.alpha": torch.zeros(4)}
    elif change == "shape":
        found[name] = value[:1]
    messages = {
        "missing": "missing: block.0.res_unit1.conv1.weight_g",
        "unknown": "not known: block.0.layers.9.alpha",
        "shape": "of another shape: block.0.res_unit1.conv1.weight_g",
    }
    with pytest.raises(WeightsError, match=messages[change]):
        read_decoder(config, found, "here")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("type",), "dac_pretrained", "dac_pretrained"),
        (("scale",), 0.5, "0.5"),
        (("config", "bottleneck", "type"), "rvq", "rvq"),
        (("config", "decoder", "config", "final_tanh"), True, "final_tanh"),
        (("config", "decoder", "config", "strides"), [2, 4], "strides"),
        (("config", "decoder", "config"), {}, "lacks 'config.decoder.config.use_snake'"),
    ],
)
def test_other_autoencoders_are_refused(path: tuple[str, ...], value: object, message: str) -> None:
    published = small_config()["model"]["pretransform"]
    inner = published
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    with pytest.raises(WeightsError, match=message):
        OobleckConfig.of(published)
