"""Weights, configs and tokenizers from strangers: each hostile case costs one clear line, soon and in little memory.

The models are small ones with random weights in their published layouts; each case spoils one of their files.
"""

import json
import logging
import os
import pickle
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from rerank.data import Prompt
from rerank.errors import WeightsError
from rerank.eval.speed.random_musicgen import TINY, save_random_musicgen
from rerank.eval.speed.random_weights import write_models
from rerank.generators.musicgen import MusicGen
from rerank.generators.stable_audio_small import SmallConfig, StableAudioSmall
from rerank.models.cmi import CmiConfig
from rerank.models.config import Config, check_sizes, read_json, read_yaml, shown
from rerank.models.hub import Source
from rerank.models.mini import MiniConfig
from rerank.models.mulan import MulanConfig
from rerank.models.muq import MuqConfig
from rerank.models.oobleck import OobleckConfig
from rerank.models.published import read_cmi_rm, read_mulan
from rerank.models.stable_audio_dit import DitConfig
from rerank.models.weights import read_weights
from rerank.models.xlm_roberta import XlmRobertaConfig
from rerank.rewards.cmi_rm import load_cmi_rm
from rerank.rewards.memory import Memory
from rerank.rewards.mini import load_mini
from tests.conftest import ROOT
from tests.record_stable_audio_small import DATA, weights
from tests.test_generators_diffusion import KINDS, saved
from tests.test_models_published import GOLDEN, SMALL, TOWERS
from tests.test_rewards_cmi_rm import noise

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

MINI = ROOT / "rerank" / "rewards" / "cmi-mini"
SECONDS = 5.0
"""That a refusal may take, on a busy machine."""

LONGEST_LINE = 700


def refused(load: Callable[[], object], match: str) -> str:
    """Return the one line by which something is refused, at once."""
    started = time.perf_counter()
    with pytest.raises(WeightsError, match=match) as caught:
        load()
    assert time.perf_counter() - started < SECONDS
    told = str(caught.value)
    assert told.isprintable() and len(told) < LONGEST_LINE, told
    return told


def change(path: Path, keys: list[Any], value: object) -> None:
    """Give one value of a JSON or YAML file another one."""
    plain = path.suffix == ".json"
    document = json.loads(path.read_text()) if plain else yaml.safe_load(path.read_text())
    inner = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(document) if plain else yaml.safe_dump(document))


@pytest.fixture(scope="module")
def musicgen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_musicgen(tmp_path_factory.mktemp("musicgen"), TINY)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("stable-audio") / "small"
    shutil.copytree(DATA, place, ignore=shutil.ignore_patterns("*.npz"))
    for folder in (place, place / "t5"):
        save_file(weights(json.loads((folder / "shapes.json").read_text())), folder / "model.safetensors")
    return place


@pytest.fixture(scope="module")
def mulan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("towers")
    write_models(folder, SMALL, TOWERS, towers=True)
    return folder


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pipelines")
    for name, (_, make, _) in KINDS.items():
        saved(place / name, make)
    return place


Copy = Callable[[Path], Path]


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """Copies a folder, to be spoiled."""
    return lambda folder: shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("audio", "*.npz"))


# Tokenizers


@pytest.mark.parametrize("left", ["tokenizer_config.json", None])
def test_musicgen_without_the_vocabulary_of_its_tokenizer(musicgen: Path, copy: Copy, left: str | None) -> None:
    folder = copy(musicgen)
    for path in folder.glob("*token*"):
        if path.name != left:
            path.unlink()
    refused(lambda: MusicGen(path=folder, device="cpu"), "the tokenizer in .* has no vocabulary; expected one of")


def unknown_words(path: Path) -> None:
    """Leave a tokenizer only its first pieces, the special ones."""
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    if isinstance(vocabulary, dict):
        kept: object = {piece: number for piece, number in vocabulary.items() if piece.startswith("<")}
    else:
        kept = vocabulary[:4]
    tokenizer["model"]["vocab"] = kept
    tokenizer["added_tokens"] = []
    path.write_text(json.dumps(tokenizer))


def test_musicgen_with_a_tokenizer_that_knows_no_words(musicgen: Path, copy: Copy) -> None:
    folder = copy(musicgen)
    unknown_words(folder / "tokenizer.json")
    refused(lambda: MusicGen(path=folder, device="cpu"), "tells no words apart")


def test_musicgen_with_a_text_encoder_that_is_deaf(musicgen: Path, copy: Copy) -> None:
    folder = copy(musicgen)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name in tensors:
        if name.startswith("text_encoder.") and ("shared" in name or "embed_tokens" in name):
            tensors[name] = torch.ones_like(tensors[name])
    save_file(tensors, path, metadata={"format": "pt"})
    refused(lambda: MusicGen(path=folder, device="cpu"), "the text encoder in .* tells no texts apart")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_text_encoder_of_stable_audio_that_lacks_a_file(small: Path, copy: Copy, name: str) -> None:
    folder = copy(small)
    (folder / "t5" / name).unlink()
    refused(lambda: StableAudioSmall(path=folder, device="cpu"), f"there is no file .*{name}")


def test_a_tokenizer_of_stable_audio_that_knows_no_words(small: Path, copy: Copy) -> None:
    folder = copy(small)
    unknown_words(folder / "t5" / "tokenizer.json")
    refused(lambda: StableAudioSmall(path=folder, device="cpu"), "the tokenizer .* (tells no words apart|makes)")


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_a_pipeline_without_the_files_of_a_tokenizer(pipelines: Path, copy: Copy, name: str, whole: bool) -> None:
    folder = copy(pipelines / name)
    place = max(folder.glob("tokenizer*"))
    for path in place.iterdir():
        if (path.name == "tokenizer_config.json") != whole:
            path.unlink()
    told = "has no vocabulary; expected one of" if whole else "is not complete; missing: tokenizer_config.json"
    refused(lambda: KINDS[name][0](path=folder, device="cpu"), f"the tokenizer in .*{place.name} {told}")


@pytest.mark.parametrize("name", KINDS)
def test_a_pipeline_with_a_text_encoder_that_is_deaf(pipelines: Path, copy: Copy, name: str) -> None:
    folder = copy(pipelines / name)
    path = next(folder.glob("text_encoder/*.safetensors"))
    tables = ("shared", "embed_tokens", "text_model.embeddings.word_embeddings")
    tensors = load_file(path)
    for key in tensors:
        if any(table in key for table in tables):
            tensors[key] = torch.ones_like(tensors[key])
    save_file(tensors, path, metadata={"format": "pt"})
    refused(lambda: KINDS[name][0](path=folder, device="cpu"), "the text encoder in .* tells no texts apart")


def test_reward_models_with_a_tokenizer_that_knows_no_words(mulan: Path, copy: Copy) -> None:
    folder = copy(mulan)
    unknown_words(folder / "xlm-roberta-base" / "tokenizer.json")
    refused(lambda: read_mulan(Source(folder / "MuQ-MuLan-large")), "tells no words apart")
    refused(lambda: read_cmi_rm(Source(folder / "CMI-RM")), "tells no words apart")
    (folder / "xlm-roberta-base" / "tokenizer.json").unlink()
    refused(lambda: read_cmi_rm(Source(folder / "CMI-RM")), "there is no file .*tokenizer.json")


def test_a_tokenizer_of_another_text_encoder(mulan: Path, copy: Copy) -> None:
    folder = copy(mulan)
    shutil.copy(DATA / "t5" / "tokenizer.json", folder / "xlm-roberta-base")
    refused(lambda: read_cmi_rm(Source(folder / "CMI-RM")), r"of an empty text, expected \[0, 2\]")
    change(folder / "xlm-roberta-base" / "config.json", ["vocab_size"], 50)
    shutil.copy(GOLDEN / "xlm-roberta-base" / "tokenizer.json", folder / "xlm-roberta-base")
    refused(lambda: read_cmi_rm(Source(folder / "CMI-RM")), "ids")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["post_processor", "special_tokens"], {}),
        (["model", "vocab"], []),
        (["model", "vocab"], {"a": 10**12}),
        (["model", "unk_id"], 10**9),
        (["model"], None),
        (["pre_tokenizer"], {"type": "Evil"}),
        (["added_tokens"], [{"id": -1}]),
    ],
)
def test_a_tokenizer_that_is_damaged(mulan: Path, musicgen: Path, copy: Copy, keys: list[str], value: object) -> None:
    folder = copy(mulan)
    path = folder / "xlm-roberta-base" / "tokenizer.json"
    change(path, keys, value)
    refused(lambda: read_cmi_rm(Source(folder / "CMI-RM")), "the tokenizer")
    other = shutil.copytree(musicgen, folder / "musicgen")
    shutil.copy(path, other)
    refused(lambda: MusicGen(path=other, device="cpu"), "the tokenizer")


@pytest.mark.parametrize(
    "vocabulary",
    [
        {"words": [], "ngrams": []},
        {"words": ["a", "a"], "ngrams": []},
        {"words": [1], "ngrams": []},
        {"words": "abc", "ngrams": []},
        {"words": ["a"]},
        [],
    ],
)
def test_a_vocabulary_that_is_none(copy: Copy, vocabulary: object) -> None:
    folder = copy(MINI)
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary))
    refused(lambda: load_mini(path=folder, device="cpu"), "is broken .*vocabulary")


# Tensors


def spoil(path: Path, name: str, how: str) -> None:
    """Make one tensor of a file what it must not be."""
    pickled = path.suffix == ".bin"
    tensors = torch.load(path, weights_only=True) if pickled else load_file(path)
    tensor = tensors[name].clone()
    if how in ("nan", "inf", "-inf"):
        tensor.reshape(-1)[-1] = float(how)
    else:
        tensor = tensor.to(getattr(torch, how))
    tensors[name] = tensor.contiguous()
    if pickled:
        torch.save(tensors, path)
    else:
        save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("how", ["nan", "inf", "-inf", "bool", "int32", "uint8"])
def test_tensors_of_reward_models_are_finite_and_floating(mulan: Path, copy: Copy, how: str) -> None:
    folder = copy(mulan)
    told = "is not finite everywhere" if how in ("nan", "inf", "-inf") else f"is {how}, expected floating point"
    spoil(folder / "CMI-RM" / "model.safetensors", "score_projector.3.weight", how)
    refused(lambda: read_cmi_rm(Source(folder / "CMI-RM")), f"the weight score_projector.3.weight in .* {told}")
    spoil(folder / "MuQ-MuLan-large" / "pytorch_model.bin", "mulan.audio_to_latents.weight", how)
    refused(lambda: read_mulan(Source(folder / "MuQ-MuLan-large")), f"mulan.audio_to_latents.weight in .* {told}")
    mini = shutil.copytree(MINI, folder / "mini")
    spoil(mini / "model.safetensors", "score_projector.3.weight", how)
    refused(lambda: load_mini(path=mini, device="cpu"), told)


@pytest.mark.parametrize(
    ("how", "told"), [("nan", "is not finite"), ("inf", "is not finite"), ("bool", "is BOOL"), ("int64", "is I64")]
)
def test_tensors_of_generators_are_finite_and_floating(
    musicgen: Path, small: Path, pipelines: Path, copy: Copy, how: str, told: str
) -> None:
    folder = copy(musicgen)
    spoil(folder / "model.safetensors", "decoder.lm_heads.0.weight", how)
    refused(lambda: MusicGen(path=folder, device="cpu"), f"decoder.lm_heads.0.weight in .* {told}")
    stable = shutil.copytree(small, folder / "stable")
    spoil(stable / "model.safetensors", "model.model.transformer.project_in.weight", how)
    told_loosely = told if "finite" in told else f"is {how}"
    refused(lambda: StableAudioSmall(path=stable, device="cpu"), told_loosely)
    for name, (kind, _, _) in KINDS.items():
        pipe = shutil.copytree(pipelines / name, folder / name)
        path = next(pipe.glob("vae/*.safetensors"))
        spoil(path, min(load_file(path)), how)
        refused(lambda kind=kind, pipe=pipe: kind(path=pipe, device="cpu"), told)  # type: ignore[misc]


# Configs

HOSTILE: list[object] = [10**9, -1, 0.5, True, "2", None, [1], {}, 10**5000, float("nan")]

MUQ_CONFIG = json.loads((GOLDEN / "MuQ-large-msd-iter" / "config.json").read_text())
TEXT_CONFIG = json.loads((GOLDEN / "xlm-roberta-base" / "config.json").read_text())
MULAN_CONFIG = json.loads((GOLDEN / "MuQ-MuLan-large" / "config.json").read_text())
SMALL_CONFIG = json.loads((DATA / "model_config.json").read_text())
CMI_CONFIG = read_yaml(GOLDEN / "CMI-RM-sa" / "config.yaml")
MINI_CONFIG = json.loads((MINI / "config.json").read_text())

MODEL = SMALL_CONFIG["model"]
SIZES: list[tuple[Callable[[Any], object], Any, str]] = [
    *(
        (CmiConfig.of, CMI_CONFIG, f"model.{name}")
        for name in ("dim", "heads", "dim_head", "ff_mult", "prompt_tf_depth", "joint_tf_depth", "mlp_dim")
    ),
    *(
        (MuqConfig.of, MUQ_CONFIG, name)
        for name in (
            "encoder_dim",
            "encoder_depth",
            "conv_dim",
            "n_mels",
            "label_rate",
            "hop_length",
            "w2v2_config.num_attention_heads",
            "w2v2_config.intermediate_size",
            "w2v2_config.conv_depthwise_kernel_size",
        )
    ),
    *(
        (XlmRobertaConfig.of, TEXT_CONFIG, name)
        for name in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
        )
    ),
    *(
        (lambda mulan: MulanConfig.of(mulan, MUQ_CONFIG, TEXT_CONFIG), MULAN_CONFIG, name)
        for name in (
            "mulan.sr",
            "mulan.dim_latent",
            *(f"{part}_transformer.{size}" for part in ("audio", "text") for size in ("dim", "tf_depth", "heads")),
            *(f"{part}_transformer.{size}" for part in ("audio", "text") for size in ("dim_head", "ff_mult")),
        )
    ),
    *(
        (DitConfig.of, MODEL["diffusion"]["config"], name)
        for name in ("io_channels", "embed_dim", "depth", "num_heads", "cond_token_dim", "global_cond_dim")
    ),
    *(
        (OobleckConfig.of, MODEL["pretransform"], f"config.decoder.config.{name}")
        for name in ("latent_dim", "out_channels", "channels", "c_mults", "strides")
    ),
    *((SmallConfig.of, SMALL_CONFIG, name) for name in ("sample_size", "sample_rate", "model.conditioning.cond_dim")),
    *((MiniConfig.of, MINI_CONFIG, name) for name in MINI_CONFIG if name != "dropout"),
]


@pytest.mark.parametrize(("of", "config", "name"), SIZES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_size_is_a_whole_number_within_bounds(of: Callable[[Any], object], config: Any, name: str) -> None:
    of(config)
    for value in HOSTILE:
        changed = json.loads(json.dumps(config))
        inner = changed
        *within, last = name.split(".")
        for part in within:
            inner = inner[part]
        if value == [1] and isinstance(inner[last], list):
            continue
        inner[last] = value
        refused(lambda changed=changed: of(changed), "must be|is not supported|do not fit|wide")  # type: ignore[misc]


@pytest.mark.parametrize(
    "kind",
    ["T5Config", "MusicgenConfig", "ClapConfig", "Qwen3Config", "T5GemmaConfig", "GPT2Config", "SpeechT5HifiGanConfig"],
)
def test_the_sizes_of_published_models_are_taken(kind: str) -> None:
    made = getattr(transformers, kind)
    parts = {"text_encoder": {"model_type": "t5"}, "audio_encoder": {"model_type": "encodec"}, "decoder": {}}
    config = made(**parts) if kind == "MusicgenConfig" else made()
    check_sizes(json.loads(json.dumps(config.to_dict(), default=str)), kind)


@pytest.mark.parametrize("value", [1e9, -1e-5, True, "1e-5", None, float("nan"), 0.5])
def test_an_epsilon_is_small(value: object) -> None:
    refused(lambda: XlmRobertaConfig.of({**TEXT_CONFIG, "layer_norm_eps": value}), "layer_norm_eps")
    inner = {**MUQ_CONFIG["w2v2_config"], "layer_norm_eps": value}
    refused(lambda: MuqConfig.of({**MUQ_CONFIG, "w2v2_config": inner}), "layer_norm_eps")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["num_hidden_layers"], 10**9),
        (["hidden_size"], 10**9),
        (["num_attention_heads"], -4),
        (["vocab_size"], 10**9),
        (["num_codebooks"], 10**9),
        (["num_codebooks"], True),
        (["audio_channels"], 3),
        (["hidden_size"], "64"),
    ],
)
def test_musicgen_of_sizes_that_none_has(musicgen: Path, copy: Copy, keys: list[str], value: object) -> None:
    folder = copy(musicgen)
    change(folder / "config.json", ["decoder", *keys], value)
    refused(lambda: MusicGen(path=folder, device="cpu"), f"{keys[-1]} of a MusicGen model must be a whole number")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["audio_encoder", "upsampling_ratios"], [10**9, 5]),
        (["audio_encoder", "sampling_rate"], 10**9),
        (["audio_encoder", "num_residual_layers"], 10**9),
        (["text_encoder", "num_layers"], 10**9),
        (["text_encoder", "layer_norm_epsilon"], 1e9),
        (["text_encoder", "d_model"], 32.0),
    ],
)
def test_parts_of_musicgen_of_sizes_that_none_has(musicgen: Path, copy: Copy, keys: list[str], value: object) -> None:
    folder = copy(musicgen)
    change(folder / "config.json", keys, value)
    refused(lambda: MusicGen(path=folder, device="cpu"), f"{'.'.join(keys)} of a MusicGen model must be")


@pytest.mark.parametrize(
    ("keys", "value"),
    [(["decoder", "pad_token_id"], 5), (["decoder", "pad_token_id"], None), (["audio_encoder", "codebook_size"], 64)],
)
def test_parts_of_musicgen_that_do_not_fit_each_other(
    musicgen: Path, copy: Copy, keys: list[str], value: object
) -> None:
    folder = copy(musicgen)
    change(folder / "config.json", keys, value)
    told = f"a MusicGen model with {'.'.join(keys)} {value} is not supported; expected 128"
    refused(lambda: MusicGen(path=folder, device="cpu"), told)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("feed_forward_proj", "gated-evil", "the config of the text encoder cannot be used"),
        ("relative_attention_max_distance", 0, "the text encoder in .* cannot read a text"),
        ("model_type", "bert", "model_type 'bert' is not supported"),
    ],
)
def test_a_text_encoder_that_cannot_be_built_or_run(
    small: Path, copy: Copy, name: str, value: object, told: str
) -> None:
    folder = copy(small)
    change(folder / "t5" / "config.json", [name], value)
    refused(lambda: StableAudioSmall(path=folder, device="cpu"), told)


@pytest.mark.parametrize("name", KINDS)
def test_pipelines_of_sizes_that_none_has(pipelines: Path, copy: Copy, name: str) -> None:
    folder = copy(pipelines / name)
    path = next(folder.glob("vae/config.json"))
    sizes = [key for key, value in json.loads(path.read_text()).items() if type(value) is int and key != "layers"]
    tried = 0
    for key in sizes:
        whole = path.read_text()
        change(path, [key], 10**9)
        try:
            check_sizes(read_json(path), "the vae")
        except WeightsError:
            refused(lambda: KINDS[name][0](path=folder, device="cpu"), f"{key} of the vae must be a whole number")
            tried += 1
        path.write_text(whole)
    assert tried >= 2, sizes


@pytest.mark.parametrize("name", ["num_layers", "d_model", "num_heads", "vocab_size", "d_kv", "d_ff"])
@pytest.mark.parametrize("value", [10**9, -1, "8", 2.0, True])
def test_text_encoders_of_sizes_that_none_has(small: Path, copy: Copy, name: str, value: object) -> None:
    folder = copy(small)
    change(folder / "t5" / "config.json", [name], value)
    refused(lambda: StableAudioSmall(path=folder, device="cpu"), f"{name} of the text encoder must be a whole number")


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "conv", "stage": 10**9},
        {"kind": "conv", "factor": 10**9},
        {"kind": "conv*2", "kernel_size": 10**9 + 1},
        {"kind": "meanpool+mlp", "mlp_ratio": 1e30},
        {"kind": "x" * 10**6},
    ],
)
def test_downsamplers_of_sizes_that_none_has(mulan: Path, copy: Copy, settings: dict[str, Any]) -> None:
    folder = copy(mulan)
    path = folder / "CMI-RM" / "config.yaml"
    config = {"configs": {"a": settings}, "eval": "a", "text": "a"}
    document = yaml.safe_load(path.read_text())
    document["model"]["downsample"] = config
    path.write_text(yaml.safe_dump(document))
    refused(lambda: read_cmi_rm(Source(folder / "CMI-RM")), "downsampler|at most 65,536 bytes")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(of=st.sampled_from(SIZES), value=values)
def test_whatever_a_config_says_it_is_taken_or_refused_in_one_line(of: tuple[Any, Any, str], value: object) -> None:
    build, config, name = of
    changed = json.loads(json.dumps(config))
    inner = changed
    *within, last = name.split(".")
    for part in within:
        inner = inner[part]
    inner[last] = value
    try:
        build(changed)
    except WeightsError as error:
        assert str(error).isprintable() and len(str(error)) < LONGEST_LINE


@given(value=values)
def test_what_a_message_shows_is_short(value: object) -> None:
    assert len(shown(value)) <= 60
    assert len(shown([value] * 1000)) <= 60


# Documents

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

DOCUMENTS = {
    "aliases": ("yaml", BOMB + "dim: *i\n", "aliases"),
    "one alias": ("yaml", "a: &a 1\nb: *a\n", "aliases"),
    "recursion": ("yaml", "a: &a [*a]\n", "aliases"),
    "merge": ("yaml", "a: &a {b: 1}\nc:\n  <<: *a\n", "aliases"),
    "deep yaml": ("yaml", "a: " + "[" * 20_000 + "]" * 20_000, "cannot read"),
    "long yaml": ("yaml", "a: " + "1" * 10**6, "at most 65,536 bytes"),
    "large number": ("yaml", "model:\n  dim: 0x" + "f" * 20_000, "dim of a reward model must be a whole number"),
    "python": ("yaml", "a: !!python/object/apply:os.system [id]\n", "cannot read .*ConstructorError"),
    "deep json": ("json", '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "cannot read .*Recursion"),
    "long json": ("json", '{"a": "' + "x" * 5_000_000 + '"}', "at most 4,194,304 bytes"),
    "large json number": ("json", '{"a": ' + "1" * 10_000 + "}", "cannot read"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_that_explode(tmp_path: Path, name: str) -> None:
    kind, content, told = DOCUMENTS[name]
    path = tmp_path / f"config.{kind}"
    path.write_text(content)
    refused(lambda: CmiConfig.of(read_yaml(path) if kind == "yaml" else read_json(path)), told)


@pytest.mark.attack
@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_that_explode_take_little_memory(tmp_path: Path, name: str) -> None:
    kind, content, _ = DOCUMENTS[name]
    path = tmp_path / f"config.{kind}"
    path.write_text(content)
    program = f"import sys; from pathlib import Path; from rerank.models.config import read_{kind} as read; read(Path(sys.argv[1]))"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2 * 1024**3, 2 * 1024**3))

    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        check=False,
        cwd=ROOT,
        preexec_fn=limit,
        capture_output=True,
        timeout=60,
    )
    assert b"MemoryError" not in done.stderr and done.returncode in (0, 1)


def test_values_in_messages_are_cut() -> None:
    for value in ("x" * 10**6, ["x"] * 10**5, 10**5000, {"a": "b" * 10**6}):
        refused(lambda value=value: Config({"dim": value}, "a model").whole("dim", 1, 9), "dim of a model must be")  # type: ignore[misc]
        refused(lambda value=value: Config({"dim": value}, "a model").only("dim", 1), "is not supported")  # type: ignore[misc]


# Pickles


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("layout", ["zip", "legacy", "plain", "later"])
def test_a_pickle_that_runs_something_is_not_run_and_nobody_is_told_to_run_it(tmp_path: Path, layout: str) -> None:
    path, mark = tmp_path / "pytorch_model.bin", tmp_path / "ran"
    if layout in ("plain", "later"):
        path.write_bytes(pickle.dumps({"weight": Evil(mark)}, protocol=2 if layout == "plain" else 5))
    else:
        torch.save({"weight": Evil(mark)}, path, _use_new_zipfile_serialization=layout == "zip")
    # torch reads no pickle of a later protocol, and so does not say what it wants
    wanted = "no file of plain tensors" if layout == "later" else "it wants (posix|nt|os).mkdir of Python"
    told = refused(lambda: read_weights(path), f"{wanted}; nothing of it was run")
    assert not mark.exists()
    for advice in ("weights_only", "safe_globals", "trust", "arbitrary code", "allowlist"):
        assert advice not in told


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(3).to_sparse(),
        torch.ones(3, device="meta"),
        torch.ones(3, dtype=torch.complex64),
        [1.0],
        torch.Size([3]),
    ],
    ids=["sparse", "without data", "complex", "list", "size"],
)
def test_a_pickle_of_other_than_plain_tensors(tmp_path: Path, tensor: object) -> None:
    torch.save({"weight": tensor}, tmp_path / "pytorch_model.bin")
    told = "something other than named tensors|no file of plain tensors"
    refused(lambda: read_weights(tmp_path / "pytorch_model.bin"), told)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x02}q\x00.", b"PK\x03\x04", b"\x80\x05\x95\xff"])
def test_a_damaged_pickle_is_told_without_advice_to_run_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content)
    assert "weights_only" not in refused(lambda: read_weights(path), "pytorch_model.bin")


# What is cached


@pytest.mark.parametrize("kind", ["fifo", "folder", "sparse"])
def test_what_is_cached_is_a_file_of_some_size(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory(folder=tmp_path / "kept")
    path = tmp_path / "kept" / f"{'a' * 64}.encoded.safetensors"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 2**40)
    assert memory.get("a" * 64) is None
    assert "it is no file of at most 1,073,741,824 bytes" in caplog.text


@pytest.mark.parametrize("shape", [(3,), (24, 48), (25, 47), (25, 48, 1), (0, 0)])
def test_a_cached_tensor_of_another_shape_is_made_again(
    tmp_path: Path, shape: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint, folder = GOLDEN / "CMI-RM-sa", tmp_path / "kept"
    reward = load_cmi_rm(path=checkpoint, cache=folder, device="cpu")
    prepared = reward.prepare(Prompt("a bright happy pop song"))
    expected = reward.score(prepared, [noise(1, 7)])
    [path] = folder.glob("*.safetensors")
    memory = reward.memory
    assert isinstance(memory, Memory) and memory.folder is not None
    memory.folder.write(path.name.partition(".")[0], torch.ones(shape))
    reward.forget()
    with caplog.at_level(logging.WARNING):
        assert reward.score(prepared, [noise(1, 7)]) == expected
    assert "it is made again" in caplog.text
    caplog.clear()
    reward.forget()
    assert reward.score(prepared, [noise(1, 7)]) == expected and not caplog.text
