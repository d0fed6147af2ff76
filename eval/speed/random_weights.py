"""Write published models with random weights: all files of the true layout, at any size.

Timings do not depend on what the weights are, so speed is measured with these where the real ones cannot be had; tests
load small ones. The scores mean nothing.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from rerank.files import make_folder
from rerank.models.cmi import CmiConfig, RewardModel
from rerank.models.mulan import Mulan, MulanAudioTower, MulanConfig, MulanTextTower, TransformerSizes
from rerank.models.muq import MuqConfig
from rerank.models.xlm_roberta import XlmRobertaConfig

PUBLISHED = CmiConfig(prompt_tf_depth=4, joint_tf_depth=1)
"""Sizes of the reward model: the depths are those of the paper."""

TOWERS = MulanConfig()

_QUANTIZERS, _CODES = 8, 8192


def write_models(
    folder: Path, cmi: CmiConfig = PUBLISHED, mulan: MulanConfig = TOWERS, seed: int = 0, towers: bool = False
) -> Path:
    """Write the reward model and the configs that it needs, each in a folder of its own.

    Args:
        folder: made if needed.
        cmi: sizes of the reward model.
        mulan: sizes of its towers.
        seed: of the weights.
        towers: write the weights of MuQ-MuLan and MuQ by themselves too, the same as in the reward model.

    Returns:
        The folder of the reward model, as `load_reward("cmi-rm", path=...)` takes it.
    """
    generator = torch.Generator().manual_seed(seed)
    places = {name: folder / name for name in ("CMI-RM", "MuQ-MuLan-large", "MuQ-large-msd-iter", "xlm-roberta-base")}
    for place in places.values():
        make_folder(place)
    _write_json(places["MuQ-large-msd-iter"] / "config.json", muq_config(mulan.muq))
    _write_json(places["xlm-roberta-base"] / "config.json", _text_config(mulan.text))
    _write_json(places["MuQ-MuLan-large"] / "config.json", _mulan_config(mulan))
    tokenizer = make_tokenizer(min(mulan.text.vocabulary, 1000))
    tokenizer.save(str(places["xlm-roberta-base"] / "tokenizer.json"))
    (places["CMI-RM"] / "config.yaml").write_text(yaml.safe_dump({"model": cmi_config(cmi)}), encoding="utf-8")
    with torch.device("meta"):
        model = RewardModel(cmi, MulanTextTower(mulan, tokenizer), MulanAudioTower(mulan))
        both = Mulan(mulan, tokenizer)
    weights = {name: _random(name, value, generator) for name, value in {**shapes(model), **_extra(cmi, mulan)}.items()}
    save_file(weights, places["CMI-RM"] / "model.safetensors", metadata={"format": "pt"})
    if towers:
        renamed = {name.replace("audio_module.", "mulan.audio.", 1): value for name, value in weights.items()}
        renamed = {name.replace("text_module.", "mulan.text.", 1): value for name, value in renamed.items()}
        latents = {f"mulan.{name}": value for name, value in shapes(both).items() if "_to_latents" in name}
        found = {name: value for name, value in renamed.items() if name.startswith("mulan.")}
        found |= {name: _random(name, value, generator) for name, value in latents.items()}
        torch.save(
            {**found, "mulan.contrast.temperatures": torch.ones(1, 1, 1)},
            places["MuQ-MuLan-large"] / "pytorch_model.bin",
        )
        prefix = "audio_module.model."
        muq = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        save_file(muq, places["MuQ-large-msd-iter"] / "model.safetensors", metadata={"format": "pt"})
    return places["CMI-RM"]


def shapes(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a model on the meta device, each shared weight once."""
    first = {name for name, _ in model.named_parameters()} | {name for name, _ in model.named_buffers()}
    return {name: value for name, value in model.state_dict().items() if name in first}


def _extra(cmi: CmiConfig, mulan: MulanConfig) -> dict[str, Tensor]:
    """Return the weights of the published checkpoint that inference leaves unread, on the meta device."""
    dim, muq, text = cmi.dim, mulan.muq.dim, mulan.text.dim
    found: dict[str, tuple[int, ...]] = {f"null_{name}_embedding": (1, 10, dim) for name in ("text", "lyrics", "audio")}
    for head in ("single_score_projector", "alignment_head", "quality_head"):
        found |= {f"{head}.0.weight": (dim,), f"{head}.0.bias": (dim,), f"{head}.1.weight": (cmi.mlp_dim, dim)}
        found |= {f"{head}.1.bias": (cmi.mlp_dim,), f"{head}.3.weight": (1, cmi.mlp_dim), f"{head}.3.bias": (1,)}
    found |= {"text_module.model.pooler.dense.weight": (text, text), "text_module.model.pooler.dense.bias": (text,)}
    found |= {"audio_module.aggregator.weight": (1, 25, 1), "audio_module.aggregator.bias": (1,)}
    encoder = "audio_module.model.model"
    found |= {
        f"{encoder}.cls_token": (muq,),
        f"{encoder}.linear.weight": (_CODES, muq),
        f"{encoder}.linear.bias": (_CODES,),
    }
    for quantizer in (f"{encoder}.rvq.quantizers.{index}" for index in range(_QUANTIZERS)):
        found |= {f"{quantizer}.stale_counter": (1024,), f"{quantizer}.codebook.weight": (1024, 16)}
        for part, inputs, outputs in (("in_proj", 512, 16), ("out_proj", 16, 512)):
            found |= {f"{quantizer}.{part}.bias": (outputs,), f"{quantizer}.{part}.weight_g": (outputs, 1, 1)}
            found |= {f"{quantizer}.{part}.weight_v": (outputs, inputs, 1)}
    positions = f"{encoder}.conformer.pos_conv_embed.conv"
    found |= {f"{encoder}.conformer.embed_positions.inv_freq": (muq // mulan.muq.heads // 2,)}
    found |= {f"{positions}.bias": (muq,), f"{positions}.parametrizations.weight.original0": (1, 1, 128)}
    found |= {f"{positions}.parametrizations.weight.original1": (muq, muq // 16, 128)}
    return {name: torch.empty(shape, device="meta") for name, shape in found.items()}


def _random(name: str, like: Tensor, generator: torch.Generator) -> Tensor:
    """Return weights of a size that keeps activations near 1."""
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype)
    noise = torch.randn(like.shape, generator=generator)
    if name.endswith("running_var"):
        return 1 + 0.2 * noise.tanh()
    if name.endswith(("gamma", "_scale")) or (like.ndim == 1 and name.endswith("weight")):
        return 1 + 0.1 * noise
    if like.ndim < 2:
        return 0.05 * noise
    return noise / math.sqrt(like[0].numel())


def make_tokenizer(size: int) -> Tokenizer:
    """Return a tokenizer of the kind of XLM-RoBERTa's, with a small vocabulary of letters and invented pieces."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    letters = ["▁", *"etaoinshrdlucmfwypvbgkqjxz'.,!?-0123456789"]
    pairs = [a + b for a in "etaoinshrdlu" for b in "etaoinshrdlucmfw"]
    pieces = [*letters, *pairs, *(f"▁{pair}" for pair in pairs)][: size - len(special)]
    vocabulary = [(piece, 0.0) for piece in special] + [(piece, -float(1 + i) / 10) for i, piece in enumerate(pieces)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def cmi_config(config: CmiConfig) -> dict[str, Any]:
    """Return what the published `config.yaml` says of these sizes."""
    settings: dict[str, Any] = {
        "name": "reward",
        "model_name": "../MuQ-MuLan-large",
        "dim": config.dim,
        "mode": "concat_text_late" if config.reads_lyrics else "text_only",
        "attention_mode": config.attention_mode,
        "mlp_dim": config.mlp_dim,
        "output_dim": 2,
        "sr": 24000,
        "prompt_tf_depth": config.prompt_tf_depth,
        "joint_tf_depth": config.joint_tf_depth,
        "dim_head": config.dim_head,
        "heads": config.heads,
        "ff_mult": config.ff_mult,
    }
    if config.downsamplers:
        roles = {"text": "text", "reference": "ref", "candidate": "eval"}
        named = {option: dict(config.downsamplers[role]) for role, option in roles.items()}
        settings["downsample"] = {"configs": named, **{option: option for option in named}}
    return settings


def muq_config(config: MuqConfig) -> dict[str, Any]:
    """Return what the published `config.json` of MuQ says of these sizes."""
    return {
        "label_rate": config.token_rate,
        "features": ["melspec_2048"],
        "hop_length": 240,
        "n_mels": config.bands,
        "conv_dim": config.channels,
        "encoder_dim": config.dim,
        "encoder_depth": config.depth,
        "stat": {"melspec_2048_mean": config.mean, "melspec_2048_std": config.std},
        "w2v2_config": {
            "num_attention_heads": config.heads,
            "intermediate_size": config.hidden,
            "hidden_act": "swish",
            "conv_depthwise_kernel_size": config.kernel,
            "position_embeddings_type": "rotary",
            "rotary_embedding_base": config.base,
            "layer_norm_eps": 1e-5,
        },
    }


def _text_config(config: XlmRobertaConfig) -> dict[str, Any]:
    return {
        "model_type": "xlm-roberta",
        "hidden_act": "gelu",
        "pad_token_id": 1,
        "type_vocab_size": 1,
        "vocab_size": config.vocabulary,
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.hidden,
        "max_position_embeddings": config.positions,
        "layer_norm_eps": config.epsilon,
    }


def _mulan_config(config: MulanConfig) -> dict[str, Any]:
    def sizes(of: TransformerSizes) -> dict[str, int]:
        return {"dim": of.dim, "tf_depth": of.depth, "heads": of.heads, "dim_head": of.dim_head, "ff_mult": of.ff_mult}

    return {
        "mulan": {"sr": 24000, "clip_secs": config.clip_duration, "dim_latent": config.dim_latent},
        "audio_model": {"name": "../MuQ-large-msd-iter", "model_dim": config.muq.dim, "use_layer_idx": -1},
        "text_model": {"name": "../xlm-roberta-base", "model_dim": None, "use_layer_idx": -1},
        "audio_transformer": sizes(config.audio_transformer),
        "text_transformer": sizes(config.text_transformer),
    }


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
