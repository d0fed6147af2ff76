"""`CmiReward`: what is computed when, chunks, independence of the batch, weights on disk."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rerank.audio import Audio
from rerank.data import Prompt
from rerank.errors import InvalidInput, OutputError, WeightsError
from rerank.models.cmi import AXES, RewardModel
from rerank.models.device import resolve_device
from rerank.models.mini import MiniConfig, build_mini
from rerank.models.vocabulary import Vocabulary
from rerank.protocols import Reward
from rerank.rewards.cmi import CmiReward
from rerank.rewards.mini import load_mini, save_mini
from rerank.scoring import Scorer
from rerank.testing import check_reward

SIZES = MiniConfig(dim=32, heads=2, dim_head=16, audio_depth=1, text_depth=1, joint_tf_depth=1, mlp_dim=16)
TEXT = "a slow piano piece in the rain"


def noise(seconds: float, seed: int = 0, sample_rate: int = 24000, channels: int = 1) -> Audio:
    rng = np.random.default_rng(seed)
    waveform = 0.1 * rng.standard_normal((channels, round(seconds * sample_rate)), dtype=np.float32)
    return Audio(waveform, sample_rate)


def build() -> RewardModel:
    torch.manual_seed(0)
    model = build_mini(Vocabulary.learn([TEXT], min_count=1), SIZES)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half().float())
    return model


@pytest.fixture
def reward() -> CmiReward:
    return CmiReward(build(), device="cpu")


@pytest.fixture
def calls(reward: CmiReward) -> Counter[str]:
    """How often each part of the network runs, and how many items it gets."""
    counter: Counter[str] = Counter()

    def count(name: str) -> Any:
        def hook(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
            counter[name] += 1
            counter[f"{name} items"] += len(inputs[0])

        return hook

    for name in ("text_module", "audio_module", "prompt_transformer", "joint_transformer"):
        getattr(reward.model, name).register_forward_pre_hook(count(name))
    return counter


def close(one: dict[str, float | None], other: dict[str, float | None]) -> bool:
    return one.keys() == other.keys() and all(math.isclose(one[k] or 0, other[k] or 0, abs_tol=1e-4) for k in one)


def test_is_a_reward(reward: CmiReward) -> None:
    assert isinstance(reward, Reward)
    assert list(reward.info.axes) == ["musicality", "alignment"]
    assert reward.info.conditions == {"text", "lyrics", "reference"}


def test_prompt_is_encoded_once(reward: CmiReward, calls: Counter[str]) -> None:
    prepared = reward.prepare(Prompt(TEXT, lyrics="rain rain", reference=noise(1)))
    assert calls["text_module"] == calls["text_module items"] == 2
    assert calls["audio_module"] == calls["audio_module items"] == 1
    assert calls["prompt_transformer"] == calls["prompt_transformer items"] == 1
    calls.clear()
    reward.score(prepared, [noise(1, seed) for seed in range(40)])
    assert calls["text_module"] == calls["prompt_transformer"] == 0
    assert calls["audio_module items"] == calls["joint_transformer items"] == 40
    # on a CPU one by one, so that each has the same rewards to the bit whatever is scored with it
    assert calls["audio_module"] == calls["joint_transformer"] == 40


def test_columns_are_the_axes(reward: CmiReward) -> None:
    prompt, audio = reward.prepare(Prompt(TEXT)), noise(1)
    with torch.inference_mode():
        alignment, musicality = reward.model.score_tokens(
            prompt.tokens, reward.model.encode_audio(torch.from_numpy(audio.waveform))
        )[0].tolist()
    assert close(reward.score(prompt, [audio])[0], {"musicality": musicality, "alignment": alignment})


@pytest.mark.parametrize("prompt", [Prompt(TEXT), Prompt(lyrics="rain"), Prompt(reference=noise(12)), Prompt("?!")])
def test_rewards_do_not_depend_on_the_others(reward: CmiReward, prompt: Prompt) -> None:
    prepared = reward.prepare(prompt)
    audio = [noise(1, 1), noise(11, 2), noise(0.01, 3), noise(1, 4), noise(21.3, 5), noise(1, 6, 44100, 2)]
    together = reward.score(prepared, audio)
    assert len(together) == len(audio)
    for one, rewards in zip(audio, together, strict=True):
        assert close(reward.score(prepared, [one])[0], rewards)
    assert all(map(close, reward.score(prepared, audio[::-1]), together[::-1]))
    assert reward.score(prepared, []) == []


def test_absent_and_blank_parts_are_the_same(reward: CmiReward) -> None:
    audio = [noise(1)]
    plain = reward.score(reward.prepare(Prompt(TEXT)), audio)
    assert reward.score(reward.prepare(Prompt(TEXT, lyrics="  \n")), audio) == plain
    assert reward.score(reward.prepare(Prompt(TEXT, lyrics="rain")), audio) != plain
    assert reward.score(reward.prepare(Prompt(TEXT, reference=noise(1, 1))), audio) != plain


def test_without_a_prompt_there_is_musicality_only(reward: CmiReward) -> None:
    nothing, audio = reward.prepare(Prompt.recalled("", None, None)), noise(1)
    with torch.inference_mode():
        empty = reward.model.encode_prompt(reward.model.encode_text([""]), reward.model.encode_text([""]))
        heard = reward.model.encode_audio(torch.from_numpy(audio.waveform))
        musicality = float(reward.model.score_tokens(empty, heard)[0, AXES.index("musicality")])
    assert reward.score(nothing, [audio]) == [{"musicality": pytest.approx(musicality, abs=1e-5), "alignment": None}]
    for prompt in (Prompt(TEXT), Prompt(lyrics="rain"), Prompt(reference=noise(1, 2))):
        assert None not in reward.score(reward.prepare(prompt), [audio])[0].values()


def test_lyrics_that_are_not_read_are_nothing_to_fit() -> None:
    model = build()
    model.config = replace(model.config, reads_lyrics=False)
    deaf = CmiReward(model, device="cpu")
    assert deaf.info.conditions == deaf.info.axes["alignment"].needs_any == {"text", "reference"}
    assert deaf.score(deaf.prepare(Prompt(lyrics="rain")), [noise(1)])[0]["alignment"] is None
    check_reward(deaf)


def test_audio_is_mixed_and_resampled(reward: CmiReward) -> None:
    prepared, time = reward.prepare(Prompt(TEXT)), np.arange(44100 * 2) / 44100
    tone = (0.2 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    stereo = Audio(np.stack([1.5 * tone, 0.5 * tone]), 44100)
    mono = Audio((0.2 * np.sin(2 * np.pi * 440 * np.arange(48000) / 24000)).astype(np.float32)[None], 24000)
    one, other = reward.score(prepared, [stereo, mono])
    # the edges of a resampled tone differ a little
    assert all(math.isclose(one[axis] or 0, other[axis] or 0, abs_tol=0.02) for axis in one)


def test_a_piece_alone_has_the_same_bits_whatever_was_scored_before() -> None:
    reward = load_mini(device="cpu")
    assert reward.info.batch_size == 1
    audio = [
        noise(seconds, seed, rate, 2)
        for seed, (seconds, rate) in enumerate([(3, 32000), (3, 44100), (0.02, 16000), (12.4, 24000)])
    ]
    prepared = reward.prepare(Prompt(TEXT))
    alone = [reward.score(prepared, [piece])[0] for piece in audio]
    reward.score(reward.prepare(Prompt("fast drums", "la la", audio[0])), [audio[2], audio[0], audio[1]])
    scorer = Scorer(reward, Prompt(TEXT))
    for order in ([0, 1, 2, 3], [3, 1, 2, 0, 1]):
        copies = [Audio(audio[place].waveform.copy(), audio[place].sample_rate) for place in order]
        assert list(scorer(copies)) == [alone[place] for place in order]


def test_rewards_that_are_not_finite_are_nan(reward: CmiReward) -> None:
    audio = noise(1)
    broken = Audio(np.full_like(audio.waveform, np.nan), 24000)
    good, bad = reward.score(reward.prepare(Prompt(TEXT)), [audio, broken])
    assert all(value is not None and math.isfinite(value) for value in good.values())
    assert all(value is not None and math.isnan(value) for value in bad.values())
    with torch.no_grad():
        reward.model.get_parameter("score_projector.3.bias").fill_(math.inf)
    assert all(math.isnan(value or 0) for value in reward.score(reward.prepare(Prompt(TEXT)), [audio])[0].values())


def test_scores_in_eval_mode_without_gradients(reward: CmiReward) -> None:
    reward.model.train()
    prepared = reward.prepare(Prompt(TEXT))
    assert not reward.model.training and not prepared.tokens.values.requires_grad
    assert reward.score(prepared, [noise(1)]) == reward.score(reward.prepare(Prompt(TEXT)), [noise(1)])


def test_round_trip(reward: CmiReward, tmp_path: Path) -> None:
    folder = save_mini(reward.model, tmp_path / "new" / "mini")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "vocabulary.json"]
    assert {value.dtype for value in load_file(folder / "model.safetensors").values()} == {torch.float16}
    loaded = load_mini(path=folder, device="cpu")
    assert loaded.info.name == "cmi-mini"
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
    prompt, audio = Prompt(TEXT, lyrics="rain", reference=noise(1, 3)), [noise(1), noise(2)]
    assert loaded.score(loaded.prepare(prompt), audio) == reward.score(reward.prepare(prompt), audio)
    save_mini(loaded.model, folder)
    assert load_mini(path=str(folder)).score(loaded.prepare(prompt), audio) == reward.score(
        reward.prepare(prompt), audio
    )


def test_wrong_keys_are_listed(tmp_path: Path) -> None:
    folder = save_mini(build(), tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["extra.weight"] = weights.pop("score_projector.3.bias")
    weights["score_projector.0.bias"] = torch.zeros(7)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(WeightsError) as caught:
        load_mini(path=folder)
    assert "missing: score_projector.3.bias;" in str(caught.value)
    assert "not known: extra.weight;" in str(caught.value)
    assert "of another shape: score_projector.0.bias" in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocabulary.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}x", b"[1]", b"\xff\xfe"])
def test_missing_and_broken_files(tmp_path: Path, name: str, content: bytes | None) -> None:
    folder = save_mini(build(), tmp_path)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(WeightsError, match="cannot read|is broken|must be names with values") as caught:
        load_mini(path=folder)
    assert "\n" not in str(caught.value)


def test_config_of_other_sizes(tmp_path: Path) -> None:
    folder = save_mini(build(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "joint_tf_depth": 2}))
    with pytest.raises(WeightsError, match=r"missing: joint_transformer\.layers\.1\.0"):
        load_mini(path=folder)
    (folder / "config.json").write_text(json.dumps({**config, "width": 2}))
    with pytest.raises(WeightsError, match="width"):
        load_mini(path=folder)


def test_unusable_weights_are_not_saved(tmp_path: Path) -> None:
    model = build()
    with torch.no_grad():
        model.get_parameter("score_projector.3.bias").fill_(1e6)
    with pytest.raises(WeightsError, match=r"score_projector\.3\.bias"):
        save_mini(model, tmp_path / "mini")
    assert not (tmp_path / "mini").exists()


def test_saving_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        save_mini(build(), tmp_path / "file")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "meta"])
def test_unknown_device(name: str) -> None:
    with pytest.raises(InvalidInput, match="use 'auto' or one of: cpu"):
        resolve_device(name)
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
