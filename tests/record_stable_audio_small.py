"""Record what stable-audio-tools makes of small models with random weights, as truth for our own.

    python tests/record_stable_audio_small.py     # in the environment of tests/integration/stable-audio-tools.txt

It writes to `tests/data/stable-audio-small`: the config, the names and shapes of the weights as the library saves them,
a small T5, and in `.npz` files what goes into and comes out of each part. The weights themselves are drawn again from
their names wherever they are needed, by a random number generator that gives the same numbers everywhere.
"""

import importlib
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DATA = Path(__file__).parent / "data" / "stable-audio-small"
TEXT, SECONDS, SEEDS = "slow sad piano in a minor key", 1.75, (3, 7)
LONG_TEXT = ", ".join(["slow sad piano", "warm tape and vinyl crackle", "soft brushes"] * 4)

PUBLISHED: dict[str, Any] = {
    "model_type": "diffusion_cond",
    "sample_size": 524288,
    "sample_rate": 44100,
    "audio_channels": 2,
    "model": {
        "pretransform": {
            "type": "autoencoder",
            "iterate_batch": False,
            "model_half": True,
            "config": {
                "encoder": {
                    "type": "oobleck",
                    "requires_grad": False,
                    "config": {
                        "in_channels": 2,
                        "channels": 128,
                        "c_mults": [1, 2, 4, 8, 16],
                        "strides": [2, 4, 4, 8, 8],
                        "latent_dim": 128,
                        "use_snake": True,
                    },
                },
                "decoder": {
                    "type": "oobleck",
                    "config": {
                        "out_channels": 2,
                        "channels": 128,
                        "c_mults": [1, 2, 4, 8, 16],
                        "strides": [2, 4, 4, 8, 8],
                        "latent_dim": 64,
                        "use_snake": True,
                        "final_tanh": False,
                    },
                },
                "bottleneck": {"type": "vae"},
                "latent_dim": 64,
                "downsampling_ratio": 2048,
                "io_channels": 2,
            },
        },
        "conditioning": {
            "configs": [
                {"id": "prompt", "type": "t5", "config": {"t5_model_name": "t5-base", "max_length": 64}},
                {"id": "seconds_total", "type": "number", "config": {"min_val": 0, "max_val": 256}},
            ],
            "cond_dim": 768,
        },
        "diffusion": {
            "cross_attention_cond_ids": ["prompt", "seconds_total"],
            "global_cond_ids": ["seconds_total"],
            "diffusion_objective": "rf_denoiser",
            "type": "dit",
            "config": {
                "io_channels": 64,
                "embed_dim": 1024,
                "depth": 16,
                "num_heads": 8,
                "cond_token_dim": 768,
                "global_cond_dim": 768,
                "transformer_type": "continuous_transformer",
                "attn_kwargs": {"qk_norm": "ln"},
            },
        },
        "io_channels": 64,
    },
}
"""The settings of `stabilityai/stable-audio-open-small`, without those of its training."""

OPEN_DIT: dict[str, Any] = {
    "io_channels": 64,
    "embed_dim": 1536,
    "depth": 24,
    "num_heads": 24,
    "cond_token_dim": 768,
    "global_cond_dim": 1536,
    "project_cond_tokens": False,
    "transformer_type": "continuous_transformer",
}
"""The settings of the transformer of `stabilityai/stable-audio-open-1.0`."""

SMALL_OPEN_DIT = {**OPEN_DIT, "io_channels": 8, "embed_dim": 128, "depth": 2, "num_heads": 2} | {
    "cond_token_dim": 64,
    "global_cond_dim": 48,
}

T5 = {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "d_model": 24,
    "d_ff": 32,
    "d_kv": 8,
    "num_heads": 3,
    "num_layers": 2,
    "vocab_size": 64,
    "feed_forward_proj": "relu",
    "eos_token_id": 1,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}


def small_config() -> dict[str, Any]:
    """Return the published settings with other sizes: two seconds at 8 kHz, 256 frames as published."""
    config: dict[str, Any] = json.loads(json.dumps(PUBLISHED))
    config |= {"sample_rate": 8000, "sample_size": 256 * 64}
    model = config["model"]
    sizes = {"channels": 8, "c_mults": [1, 2, 4], "strides": [2, 4, 8]}
    autoencoder = model["pretransform"]["config"]
    autoencoder["encoder"]["config"] |= {**sizes, "latent_dim": 16}
    autoencoder["decoder"]["config"] |= {**sizes, "latent_dim": 8}
    autoencoder |= {"latent_dim": 8, "downsampling_ratio": 64}
    model["pretransform"]["model_half"] = False
    model["conditioning"]["configs"][0]["config"]["t5_model_name"] = "./t5"
    model["conditioning"]["cond_dim"] = T5["d_model"]
    model["diffusion"]["config"] |= {"io_channels": 8, "embed_dim": 128, "depth": 2, "num_heads": 2}
    model["diffusion"]["config"] |= {"cond_token_dim": T5["d_model"], "global_cond_dim": T5["d_model"]}
    model["io_channels"] = 8
    return config


def draw(name: str, shape: Sequence[int]) -> NDArray[np.float32]:
    """Return the weight of that name: of the size that weights of its kind have."""
    if name.endswith("inv_freq"):
        return (10000.0 ** -(np.arange(shape[0]) / shape[0])).astype(np.float32)
    drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    kind = name.rpartition(".")[2]
    if kind == "weights" or "timestep_features" in name:
        scaled = drawn
    elif kind == "weight_g":
        scaled = 0.6 + 0.06 * drawn
    elif kind == "gamma" or (kind == "weight" and len(shape) == 1):
        scaled = 1 + 0.1 * drawn
    elif len(shape) > 1 and "relative_attention_bias" not in name and "shared" not in name:
        scaled = drawn / np.sqrt(np.prod(shape[1:]))
    else:
        scaled = 0.3 * drawn
    return scaled.astype(np.float32)


def weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Return all weights of a file, by the names and shapes that it has."""
    return {name: torch.from_numpy(draw(name, shape)) for name, shape in shapes.items()}


def _filled(module: torch.nn.Module) -> dict[str, list[int]]:
    shapes = {name: list(value.shape) for name, value in module.state_dict().items()}
    module.load_state_dict(weights(shapes), strict=True)
    module.eval().requires_grad_(False)
    return shapes


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in content.items())
    path.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def _write_t5() -> None:
    """Write a T5 as published ones are: both halves in the file of weights, and a tokenizer of pieces of words."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import T5Config, T5ForConditionalGeneration

    folder = DATA / "t5"
    _write_json(folder / "config.json", T5)
    letters = "abcdefghijklmnopqrstuvwxyz,0123456789"
    pieces = ["▁", *letters, *(f"▁{letter}" for letter in "abcdefghiklmnoprstvw"), "an", "in"]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(piece, -2.0 - 0.01 * place) for place, piece in enumerate(pieces)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    _write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **special})
    model = T5ForConditionalGeneration(T5Config.from_dict(T5))
    shapes = {
        name: list(value.shape)
        for name, value in model.state_dict().items()
        if "embed_tokens" not in name and "lm_head" not in name
    }
    _write_json(folder / "shapes.json", shapes)
    save_file(weights(shapes), folder / "model.safetensors")


class _Drawn:
    """Every noise that the library draws, in the order in which it does."""

    def __init__(self) -> None:
        self.noise: list[NDArray[np.float32]] = []
        self._functions = torch.randn, torch.randn_like

    def __enter__(self) -> Self:
        def kept(function: Any) -> Any:
            def draw_and_keep(*args: Any, **options: Any) -> Tensor:
                made: Tensor = function(*args, **options)
                self.noise.append(made.numpy().copy())
                return made

            return draw_and_keep

        torch.randn, torch.randn_like = (kept(function) for function in self._functions)
        return self

    def __exit__(self, *_: object) -> None:
        torch.randn, torch.randn_like = self._functions


def record() -> None:
    """Write all files."""
    import os

    DATA.mkdir(parents=True, exist_ok=True)
    os.chdir(DATA)  # where the library looks for a text encoder that is called ./t5
    _write_t5()
    config = small_config()
    _write_json(DATA / "model_config.json", config)
    conditioners = importlib.import_module("stable_audio_tools.models.conditioners")
    conditioners.T5Conditioner.T5_MODELS.append("./t5")
    conditioners.T5Conditioner.T5_MODEL_DIMS["./t5"] = T5["d_model"]
    model = importlib.import_module("stable_audio_tools.models.factory").create_model_from_config(config)
    _write_json(DATA / "shapes.json", _filled(model))
    _record_published()
    with torch.inference_mode():
        _record_parts(model)
        _record_samples(model, config)
        _record_open_dit()
    (DATA / "t5" / "model.safetensors").unlink()


def _record_published() -> None:
    """Record the names and shapes of all weights of the published model."""
    config = json.loads(json.dumps(PUBLISHED))
    # the text encoder is not among them
    config["model"]["conditioning"]["configs"][0]["config"] |= {"t5_model_name": "./t5", "output_dim": T5["d_model"]}
    model = importlib.import_module("stable_audio_tools.models.factory").create_model_from_config(config)
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    _write_json(DATA / "published_shapes.json", shapes)


def _record_parts(model: Any) -> None:
    def arrays(texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        told = model.conditioner([{"prompt": text, "seconds_total": SECONDS} for text in texts], "cpu")
        inputs = model.get_conditioning_inputs(told)
        return {name: inputs[name].float().numpy() for name in ("cross_attn_cond", "global_cond")}

    # the library rounds the text encoder to float16
    half, prompt = arrays([TEXT])["cross_attn_cond"], model.conditioner.conditioners["prompt"]
    prompt.__dict__["model"] = type(prompt.model).from_pretrained("./t5").eval()
    exact, long = arrays([TEXT]), arrays([LONG_TEXT])["cross_attn_cond"]
    random = np.random.RandomState(0)
    latents = random.standard_normal((2, 8, 100)).astype(np.float32)
    time = np.array([0.9, 0.3], np.float32)
    text, length = (torch.from_numpy(np.repeat(exact[name], 2, 0)) for name in ("cross_attn_cond", "global_cond"))
    velocity = model.model(torch.from_numpy(latents), torch.from_numpy(time), cross_attn_cond=text, global_cond=length)
    frames = 0.7 * random.standard_normal((1, 8, 40)).astype(np.float32)
    np.savez_compressed(
        DATA / "parts.npz",
        text=exact["cross_attn_cond"],
        length=exact["global_cond"],
        text_half=half,
        long_text=long,
        latents=latents,
        time=time,
        velocity=velocity.numpy(),
        frames=frames,
        audio=model.pretransform.decode(torch.from_numpy(frames)).numpy(),
    )


def _record_samples(model: Any, config: Mapping[str, Any]) -> None:
    generate = importlib.import_module("stable_audio_tools.inference.generation").generate_diffusion_cond
    found: dict[str, NDArray[np.float32]] = {}
    for seed in SEEDS:
        for latents in (True, False):
            with _Drawn() as drawn:
                made = generate(
                    model,
                    steps=8,
                    cfg_scale=1.0,
                    conditioning=[{"prompt": TEXT, "seconds_total": SECONDS}],
                    batch_size=1,
                    sample_size=config["sample_size"],
                    sampler_type="pingpong",
                    seed=seed,
                    device="cpu",
                    return_latents=latents,
                )
            found[f"{'latents' if latents else 'audio'}_{seed}"] = made.numpy()
        found[f"noise_{seed}"] = np.stack(drawn.noise)
    np.savez_compressed(DATA / "samples.npz", **found)  # type: ignore[arg-type]  # its annotation has no names


def _record_open_dit() -> None:
    """Record a transformer with the settings of Stable Audio Open 1.0: fewer heads of the text, no norms of heads."""
    wrapper = importlib.import_module("stable_audio_tools.models.diffusion").DiTWrapper
    model = wrapper(diffusion_objective="v", **SMALL_OPEN_DIT)
    _write_json(DATA / "open_dit_shapes.json", _filled(model))
    random = np.random.RandomState(1)
    inputs = {
        "latents": random.standard_normal((2, 8, 50)),
        "time": np.array([0.8, 0.2]),
        "text": random.standard_normal((2, 12, 64)),
        "length": random.standard_normal((2, 48)),
    }
    latents, time, text, length = (torch.from_numpy(value.astype(np.float32)) for value in inputs.values())
    velocity = model(latents, time, cross_attn_cond=text, global_cond=length)
    np.savez_compressed(
        DATA / "open_dit.npz",
        latents=latents.numpy(),
        time=time.numpy(),
        text=text.numpy(),
        length=length.numpy(),
        velocity=velocity.numpy(),
    )


if __name__ == "__main__":
    record()
