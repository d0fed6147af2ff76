"""Published models: numbers equal to recorded ones, strict loading, fused equal to plain, every variant."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from rerank.audio import read
from rerank.errors import InvalidInput, WeightsError
from rerank.eval.speed.random_weights import PUBLISHED, muq_config, shapes, write_models
from rerank.models.cmi import CmiConfig, RewardModel
from rerank.models.hub import Source
from rerank.models.mulan import MulanAudioTower, MulanConfig, MulanTextTower, TransformerSizes
from rerank.models.muq import ConvolutionBlock, Muq, MuqConfig
from rerank.models.published import build_cmi_rm, read_cmi_rm, read_mulan, read_muq
from rerank.models.tokenizer import read_tokenizer
from rerank.models.weights import load_strictly, read_weights
from rerank.models.xlm_roberta import XlmRoberta, XlmRobertaConfig
from rerank.rewards.front_end import FrontEnd

# Made by the official code of CMI-RewardBench (torch 2.11, transformers 4.57) from small random weights in the
# published layout: its scores of seven cases, and what is in between for one.
GOLDEN = Path(__file__).parent / "data" / "cmi-rm"
CHECKPOINT = GOLDEN / "CMI-RM-sa"

TOWERS = MulanConfig(
    muq=MuqConfig(dim=32, depth=2, heads=2, hidden=48, channels=4),
    text=XlmRobertaConfig(vocabulary=120, dim=24, depth=2, heads=2, hidden=40),
    audio_transformer=TransformerSizes(dim=24, heads=2, dim_head=16),
    text_transformer=TransformerSizes(dim=24, depth=2, heads=2, dim_head=16),
    dim_latent=20,
)
SMALL = CmiConfig(dim=24, heads=2, dim_head=16, prompt_tf_depth=2, joint_tf_depth=1, mlp_dim=16)


@pytest.fixture(scope="module")
def model() -> RewardModel:
    return read_cmi_rm(Source(CHECKPOINT))[0]


@pytest.fixture(scope="module")
def recorded() -> dict[str, NDArray[np.float32]]:
    return dict(np.load(GOLDEN / "intermediates_text3.npz"))


def worst(found: torch.Tensor, expected: NDArray[np.float32]) -> float:
    assert tuple(found.shape) == expected.shape
    return float((found - torch.from_numpy(expected)).abs().max())


@torch.inference_mode()
def test_audio_tower_gives_the_recorded_numbers(model: RewardModel, recorded: dict[str, NDArray[np.float32]]) -> None:
    waveform = torch.from_numpy(FrontEnd().mono(read(GOLDEN / "audio" / "a11_3.000.wav")))[None]
    tower = model.audio_module
    assert isinstance(tower, MulanAudioTower)
    mel = tower.model.mel(waveform)
    assert worst(mel, recorded["mel_norm_first_chunk"]) < 1e-4
    assert worst(tower.model.model.conv(mel), recorded["conv_out"]) < 1e-4
    states = tower.model.hidden_states(waveform)
    assert len(states) == 3
    assert worst(states[0], recorded["conv_out"]) < 1e-4
    assert worst(states[-1], recorded["muq_last_hidden"]) < 1e-4
    assert worst(tower(waveform), recorded["audio_embed_first_chunk"]) < 1e-4


@torch.inference_mode()
def test_text_tower_gives_the_recorded_numbers(model: RewardModel, recorded: dict[str, NDArray[np.float32]]) -> None:
    tower = model.text_module
    assert isinstance(tower, MulanTextTower)
    text = json.loads((GOLDEN / "expected.json").read_text())["cases"]["text3"]["text"]
    assert [tower.tokenize(text)] == recorded["text_ids"].tolist()
    assert (
        worst(
            tower.model(torch.from_numpy(recorded["text_ids"]), torch.ones(1, 12, dtype=torch.bool)),
            recorded["xlmr_hidden"],
        )
        < 1e-4
    )
    tokens = tower([text])
    assert worst(tokens.values, recorded["text_embed"]) < 1e-4 and tokens.mask.all()
    empty = tower([""])
    assert tower.tokenize("") == [0, 2] and worst(empty.values, recorded["lyrics_embed"]) < 1e-4
    both = tower(["", text])
    assert both.mask.sum(1).tolist() == [2, len(tower.tokenize(text))]
    assert worst(both.values[:1, :2], recorded["lyrics_embed"]) < 1e-4
    prompt = model.encode_prompt(tokens, empty)
    # the official code has one token for an absent reference, that is masked; here it has none
    assert recorded["prompt_mask"].tolist() == [14 * [True] + [False]]
    assert worst(prompt.values, recorded["prompt_out"][:, :14]) < 1e-4


def test_a_long_text_is_cut_with_a_warning(model: RewardModel, caplog: pytest.LogCaptureFixture) -> None:
    tower = model.text_module
    assert isinstance(tower, MulanTextTower)
    ids = tower.tokenize("a bright happy pop song " * 200)
    assert len(ids) == 512 and ids[0] == 0 and ids[-1] == 2
    assert "reads the first 512" in caplog.text
    with torch.inference_mode():
        assert tower(["a bright happy pop song " * 200]).values.shape[1] == 512


def test_true_sizes() -> None:
    tokenizer = read_tokenizer(GOLDEN / "xlm-roberta-base" / "tokenizer.json", 80, (0, 2))
    with torch.device("meta"):
        audio, text = MulanAudioTower(MulanConfig()), MulanTextTower(MulanConfig(), tokenizer)
    weights = [value for part in (audio, text) for value in part.state_dict().values()]
    assert len(weights) == 872 - 75 - 21 - 51  # but for what training used, and the rest of the reward model
    # of the published 334.2 M and 328.4 M, MuQ's training heads, codebooks and positions and a pooler are not used
    assert sum(value.numel() for value in audio.state_dict().values()) == pytest.approx(
        334_188_698 - 17_100_000, rel=1e-3
    )
    assert sum(value.numel() for value in text.state_dict().values()) == 328_388_608 - 768 * 769


def test_fused_is_equal_to_plain() -> None:
    torch.manual_seed(0)
    plain = Muq(TOWERS.muq).eval()
    for part in plain.modules():
        if isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.normal_(part.running_mean)  # type: ignore[arg-type]
            torch.nn.init.uniform_(part.running_var, 0.5, 2)  # type: ignore[arg-type]
            torch.nn.init.normal_(part.weight, 1, 0.2)
            torch.nn.init.normal_(part.bias)
    waveform = 0.1 * torch.randn(2, 30_000)
    with torch.inference_mode():
        expected = plain.hidden_states(waveform)
        found = plain.fuse().hidden_states(waveform)
    assert not any(isinstance(part, ConvolutionBlock) for part in plain.modules())
    assert len(found) == len(expected) == 3
    assert all(torch.allclose(one, other, atol=2e-5) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("samples", [1025, 24_000, 24_240, 56_293, 72_001])
def test_number_of_tokens(samples: int) -> None:
    muq = Muq(TOWERS.muq).eval()
    with torch.inference_mode():
        tokens = muq(torch.zeros(1, samples)).shape[1]
    assert tokens == math.ceil(math.ceil(samples // 240 / 2) / 2)
    slower = replace(TOWERS.muq, token_rate=50)
    with torch.inference_mode():
        assert Muq(slower).eval()(torch.zeros(1, samples)).shape[1] == math.ceil(samples // 240 / 2)


def test_text_encoder_equals_that_of_transformers() -> None:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    config = XLMRobertaConfig(
        vocab_size=120,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=40,
        max_position_embeddings=40,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )
    theirs = XLMRobertaModel(config, add_pooling_layer=False).train(False)
    ours = XlmRoberta(XlmRobertaConfig.of(config.to_dict())).eval()
    load_strictly(ours, theirs.state_dict(), where="transformers")
    ids = torch.tensor([[0, 17, 5, 99, 2], [0, 44, 2, 1, 1]])
    with torch.inference_mode():
        expected = theirs(ids, attention_mask=(ids != 1).long()).last_hidden_state
        assert torch.allclose(ours(ids, ids != 1)[ids != 1], expected[ids != 1], atol=1e-5)


DOWNSAMPLERS: dict[str, dict[str, Any]] = {
    "none": {"kind": "none"},
    "meanpool": {"kind": "meanpool", "factor": 4},
    "meanpool+mlp": {"kind": "meanpool+mlp", "factor": 3},
    "conv*2": {"kind": "conv*2", "factor": 4},
    "conv": {"kind": "conv", "factor": 2, "stage": 2},
    "gluconv*2+pw": {"kind": "gluconv*2+pw", "factor": 4},
}


@pytest.mark.parametrize("mode", ["SA", "CA"])
@pytest.mark.parametrize("depths", [(4, 1), (1, 4)])
@pytest.mark.parametrize("kind", DOWNSAMPLERS)
def test_every_variant_is_loaded(tmp_path: Path, mode: str, depths: tuple[int, int], kind: str) -> None:
    of = dict.fromkeys(("text", "lyrics", "reference", "candidate"), DOWNSAMPLERS["none"])
    of |= {"reference": DOWNSAMPLERS[kind], "candidate": DOWNSAMPLERS[kind]}
    config = replace(
        SMALL,
        attention_mode=mode,  # type: ignore[arg-type]
        prompt_tf_depth=depths[0],
        joint_tf_depth=depths[1],
        downsamplers=of,
    )
    folder = write_models(tmp_path, config, TOWERS)
    model, path = read_cmi_rm(Source(folder))
    assert model.config == config and path == folder / "model.safetensors"
    keys = set(load_file(path))
    assert any(
        key.startswith(f"joint_transformer.{'layers.0.1.4' if mode == 'SA' else '0.cross_attn'}") for key in keys
    )
    assert any(key.startswith("eval_downsampler.") for key in keys) == (kind not in ("none", "meanpool"))
    with torch.inference_mode():
        prompt = model.encode_prompt(
            model.encode_text(["piano"]), model.encode_text([""]), model.encode_audio(torch.randn(1, 48_000))
        )
        scores = model.score_tokens(prompt, model.encode_audio(torch.randn(3, 48_000)))
    assert scores.shape == (3, 2) and scores.isfinite().all() and scores.std(0).min() > 0


def test_text_only_leaves_lyrics_out(tmp_path: Path) -> None:
    model, _ = read_cmi_rm(Source(write_models(tmp_path, replace(SMALL, reads_lyrics=False), TOWERS)))
    assert not model.config.reads_lyrics
    with torch.inference_mode():
        text, lyrics = model.encode_text(["piano"]), model.encode_text(["la la"])
        assert torch.equal(model.encode_prompt(text, lyrics).values, model.encode_prompt(text).values)


def test_towers_are_loaded_by_themselves(tmp_path: Path) -> None:
    folder = write_models(tmp_path, SMALL, TOWERS, towers=True)
    reward, _ = read_cmi_rm(Source(folder))
    muq = read_muq(Source(tmp_path / "MuQ-large-msd-iter"))
    mulan, _ = read_mulan(Source(tmp_path / "MuQ-MuLan-large"))
    waveform = 0.1 * torch.randn(2, 24_000)
    with torch.inference_mode():
        audio = reward.audio_module
        assert isinstance(audio, MulanAudioTower)
        assert torch.equal(muq(waveform), audio.model(waveform))
        assert torch.equal(mulan.audio(waveform), audio(waveform))
        assert torch.equal(mulan.text(["piano"]).values, reward.encode_text(["piano"]).values)
        assert torch.allclose(mulan.encode_audio(waveform).norm(dim=-1), torch.ones(2))
        assert mulan.encode_text("piano").shape == (1, 20)


def test_published_layout_has_872_weights() -> None:
    from rerank.eval.speed.random_weights import _extra

    tokenizer = read_tokenizer(GOLDEN / "xlm-roberta-base" / "tokenizer.json", 80, (0, 2))
    towers = MulanConfig()
    with torch.device("meta"):
        model = RewardModel(PUBLISHED, MulanTextTower(towers, tokenizer), MulanAudioTower(towers))
    weights = {**shapes(model), **_extra(PUBLISHED, towers)}
    assert len(weights) == 872
    assert sum(value.nbytes for value in weights.values()) == 2_782_754_188  # the size of the published tensors


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the recorded checkpoint that may be changed."""
    shutil.copytree(GOLDEN, tmp_path / "copy", ignore=shutil.ignore_patterns("audio", "*.npz"))
    return tmp_path / "copy" / "CMI-RM-sa"


def test_strict_loading_lists_what_does_not_fit(copied: Path) -> None:
    path = copied / "model.safetensors"
    weights = load_file(path)
    weights["audio_module.model.model.conv.extra.weight"] = weights.pop("score_projector.3.bias")
    weights["audio_module.proj.bias"] = torch.zeros(7)
    save_file(weights, path)
    with pytest.raises(WeightsError) as caught:
        read_cmi_rm(Source(copied))
    told = str(caught.value)
    assert "missing: score_projector.3.bias;" in told
    assert "not known: audio_module.model.model.conv.extra.weight;" in told
    assert "of another shape: audio_module.proj.bias [7] instead of [32]" in told
    assert "\n" not in told


def test_many_problems_are_counted(copied: Path) -> None:
    save_file({"x": torch.zeros(1)}, copied / "model.safetensors")
    with pytest.raises(WeightsError, match=r"missing: .* and \d+ more; not known: x"):
        read_cmi_rm(Source(copied))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("text_encoder: t5", "text_encoder 't5' is not supported"),
        ("text_encoder: {name: t5, tune: true}", "text_encoder 't5' is not supported"),
        ("text_lora_config: {use_lora: true}", "text_lora_config.use_lora is not supported"),
        ("name: sanity", "name 'sanity' or with .* is not supported"),
        ("heads: null", "heads of a reward model must be a whole number from 1 to 1,024, got None"),
        ("prompt_tf_depth: 1.0", "prompt_tf_depth of a reward model must be a whole number"),
        ("downsample: x", "downsample of a reward model must be names with values"),
        ("downsample: {configs: {a: {kind: none}}, eval: [a], text: a}", "no downsampler"),
        ("text_lora_config: true", "text_lora_config of a reward model must be names"),
        ("attention_mode: XA", "attention_mode 'XA' is not supported"),
        ("sr: 44100", "sr 44100 is not supported"),
        ("dim: 40", "dim is 40, and the towers"),
        ("downsample: {configs: {a: {kind: none}}, eval: b, text: a}", "no downsampler 'b'"),
        ("model_name: ../nowhere", "there is no file"),
    ],
)
def test_configs_that_are_not_supported(copied: Path, change: str, told: str) -> None:
    path = copied / "config.yaml"
    name = change.partition(":")[0]
    kept = [line for line in path.read_text().splitlines() if not line.startswith(f"  {name}:")]
    path.write_text("\n".join([*kept, f"  {change}"]))
    with pytest.raises(WeightsError, match=told):
        build_cmi_rm(Source(copied))


def test_config_without_a_model_section(copied: Path) -> None:
    path = copied / "config.yaml"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line.removeprefix("  ") for line in lines if line != "model:"))
    assert build_cmi_rm(Source(copied)).config.dim == 32


@pytest.mark.parametrize("change", [{"label_rate": 75}, {"features": ["chroma"]}, {"hop_length": 320}])
def test_muq_that_is_not_supported(change: dict[str, object]) -> None:
    with pytest.raises(WeightsError, match="supported"):
        MuqConfig.of({**muq_config(TOWERS.muq), **change})
    with pytest.raises(WeightsError, match="lacks 'w2v2_config'"):
        MuqConfig.of({})


@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml"])
@pytest.mark.parametrize("content", [None, b"", b"- 1", b"\xff{"])
def test_missing_and_broken_files(copied: Path, name: str, content: bytes | None) -> None:
    (copied / name).unlink()
    if content is not None:
        (copied / name).write_bytes(content)
    with pytest.raises(WeightsError, match="there is no file|cannot read|holds a") as caught:
        read_cmi_rm(Source(copied))
    assert "\n" not in str(caught.value)


def test_a_pickle_that_holds_more_than_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": Path("x")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="it wants pathlib.*; nothing of it was run"):
        read_weights(tmp_path / "pytorch_model.bin")
    torch.save([1], tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="other than named tensors"):
        read_weights(tmp_path / "pytorch_model.bin")


def test_names_in_configs(tmp_path: Path) -> None:
    beside = tmp_path / "a" / "config.yaml"
    assert Source.named("../b", beside) == Source(tmp_path / "b")
    assert Source.named("./b", beside) == Source(tmp_path / "a" / "b")
    assert Source.named("/b", beside) == Source(Path("/b"))
    assert Source.named("some/model", beside) == Source("some/model")
    assert Source.given(None, "some/model", "abc") == Source("some/model", "abc")
    assert Source.given(tmp_path, "some/model", None) == Source(tmp_path)
    with pytest.raises(InvalidInput, match="there is no folder"):
        Source.given(tmp_path / "x", "some/model", None)
    with pytest.raises(InvalidInput, match="a folder has none"):
        Source.given(tmp_path, "some/model", "abc")
