"""`cmi-rm` and `mulan`: recorded scores, strategies, memory of audio, precision, files from hub and folder."""

import errno
import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

import rerank
from rerank.audio import Audio, read
from rerank.data import Prompt
from rerank.errors import InvalidInput, WeightsError
from rerank.eval.speed.random_weights import write_models
from rerank.models.hub import Source
from rerank.models.published import read_cmi_rm
from rerank.models.weights import say_licence
from rerank.rewards.cmi import CmiReward
from rerank.rewards.cmi_rm import load_cmi_rm
from rerank.rewards.memory import Memory
from rerank.rewards.mulan import load_mulan
from rerank.testing import check_reward
from tests.test_models_published import CHECKPOINT, GOLDEN, SMALL, TOWERS

EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
AXES = EXPECTED["score_columns"]
TEXT = "a bright happy pop song"
COMMIT = "a" * 40


def noise(seconds: float, seed: int = 0, sample_rate: int = 24_000) -> Audio:
    waveform = 0.1 * np.random.default_rng(seed).standard_normal((1, round(seconds * sample_rate)), dtype=np.float32)
    return Audio(waveform, sample_rate)


def prompt_of(case: dict[str, Any]) -> Prompt:
    reference = read(GOLDEN / case["ref_audio"]) if case["ref_audio"] else None
    return Prompt.recalled(case["text"], case["lyrics"] or None, reference)


@pytest.fixture(scope="module")
def reward() -> CmiReward:
    return load_cmi_rm(path=CHECKPOINT, device="cpu")


@pytest.fixture
def calls(reward: CmiReward) -> Iterator[Counter[str]]:
    """How many items each tower gets."""
    assert reward.tower is not None
    counter: Counter[str] = Counter()

    def count(name: str, network: torch.nn.Module) -> Any:
        return network.register_forward_pre_hook(lambda module, inputs: counter.update({name: len(inputs[0])}))

    handles = [count("text", reward.model.text_module), count("audio", reward.tower.network)]
    yield counter
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("name", EXPECTED["cases"])
def test_scores_are_the_recorded_ones(name: str) -> None:
    case = EXPECTED["cases"][name]
    reward = load_cmi_rm(path=CHECKPOINT, max_duration=case["max_dur"], device="cpu")
    found = reward.score(reward.prepare(prompt_of(case)), [read(GOLDEN / case["audio"])])[0]
    expected = dict(zip(AXES, EXPECTED["expected"]["sa"][name], strict=True))
    if name == "bare3":
        assert found.pop("alignment") is None, "there is nothing that it could fit"
        del expected["alignment"]
    assert found == pytest.approx(expected, abs=EXPECTED["tolerance"])


def test_scores_do_not_depend_on_the_batch(reward: CmiReward) -> None:
    prepared = reward.prepare(Prompt(TEXT, "la la", noise(1)))
    audio = [noise(1, 1), noise(31, 2), noise(0.01, 3), noise(1, 4), noise(2.3, 5, 44_100)]
    together = reward.score(prepared, audio)
    for one, rewards in zip(audio, together, strict=True):
        assert reward.score(prepared, [one])[0] == pytest.approx(rewards, abs=2e-5)


def test_it_is_a_reward_as_others() -> None:
    check_reward(load_cmi_rm(path=CHECKPOINT, device="cpu"))


def test_loaded_by_name_and_by_folder(reward: CmiReward) -> None:
    for loaded in (rerank.load_reward("cmi-rm", path=CHECKPOINT, device="cpu"), rerank.load_reward(CHECKPOINT)):
        assert loaded.info == reward.info
    assert len(reward.info.version) == 12
    assert (reward.info.device, reward.info.precision, reward.info.batch_size) == ("cpu", "float32", 1)
    assert reward.info.options == {
        "strategy": "whole",
        "chunk_duration": 30.0,
        "max_duration": 120.0,
        "resampler": "sinc",
    }
    audio = GOLDEN / "audio" / "a11_3.000.wav"
    expected = dict(zip(AXES, EXPECTED["expected"]["sa"]["text3"], strict=True))
    assert rerank.score(audio, EXPECTED["cases"]["text3"]["text"], reward=reward) == pytest.approx(expected, abs=2e-5)


def test_strategies() -> None:
    audio, prompt = noise(23), Prompt(TEXT)
    clips = [Audio(audio.waveform[:, start * 24_000 : (start + 10) * 24_000], 24_000) for start in (0, 10, 20)]
    whole = load_cmi_rm(path=CHECKPOINT, device="cpu")
    prepared = whole.prepare(prompt)
    each = [np.array([rewards[axis] for axis in AXES]) for rewards in whole.score(prepared, clips)]
    first, mean = (
        load_cmi_rm(path=CHECKPOINT, strategy=name, device="cpu").score(prepared, [audio])[0]
        for name in ("first", "mean")
    )
    assert [first[axis] for axis in AXES] == pytest.approx(each[0].tolist(), abs=2e-5)
    weighted = (10 * each[0] + 10 * each[1] + 3 * each[2]) / 23
    assert [mean[axis] for axis in AXES] == pytest.approx(weighted.tolist(), abs=2e-5)
    assert whole.score(prepared, [audio])[0] != pytest.approx(mean, abs=1e-3)


def test_longer_audio_is_cut_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    reward = load_cmi_rm(path=CHECKPOINT, max_duration=2.0, device="cpu")
    for sample_rate in (24_000, 44_100):
        long = noise(5, 0, sample_rate)
        cut = Audio(long.waveform[:, : round(2.5 * sample_rate)], sample_rate)
        caplog.clear()
        found = reward.score(reward.prepare(Prompt(TEXT)), [long, cut])
        assert found[0] == pytest.approx(found[1], abs=2e-5)
        assert caplog.text.count("its first 2 s are heard") == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"strategy": "last"}, "unknown strategy 'last'"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"max_duration": 0}, "max_duration must be a positive number"),
        ({"max_duration": float("nan")}, "max_duration must be a positive number"),
        ({"device": "tpu"}, "device 'tpu'"),
        ({"resampler": "linear"}, "unknown resampler 'linear'"),
        ({"cache_size": -1}, "cache_size must be a whole number from 0"),
        ({"cache_size": 1.5}, "cache_size must be a whole number from 0"),
        ({"revision": "main"}, "a folder has none"),
    ],
)
def test_options_are_checked(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        load_cmi_rm(path=CHECKPOINT, **options)


def test_audio_and_texts_are_encoded_once(reward: CmiReward, calls: Counter[str]) -> None:
    audio = [noise(1, seed) for seed in range(50, 55)]
    reward.score(reward.prepare(Prompt("a new text", reference=audio[0])), audio)
    # a reference that is a candidate too, and empty lyrics that were met before, are known
    assert calls["audio"] == 5 and calls["text"] <= 2
    calls.clear()
    other = reward.score(reward.prepare(Prompt("a new text", reference=audio[0])), audio[::-1])
    assert not calls
    again = Audio(audio[0].waveform.copy(), 24_000)
    assert reward.score(reward.prepare(Prompt("a new text", reference=audio[0])), [again])[0] == pytest.approx(
        other[-1]
    )
    reward.score(reward.prepare(Prompt("another text")), audio)
    assert calls == {"text": 1}


def test_encoded_audio_is_kept_for_later_processes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    audio, prompt, folder = [noise(1, 7), noise(2, 8)], Prompt(TEXT), tmp_path / "kept"
    first = load_cmi_rm(path=CHECKPOINT, cache=folder, device="cpu")
    expected = first.score(first.prepare(prompt), audio)
    assert len(list(folder.glob("*.safetensors"))) == 2
    first.forget()
    second = load_cmi_rm(path=CHECKPOINT, cache=folder, device="cpu")
    assert second.tower is not None
    handle = second.tower.network.register_forward_pre_hook(lambda *_: pytest.fail("encoded again"))
    assert second.score(second.prepare(prompt), audio) == expected
    handle.remove()
    # where other settings hear the same samples that is known too, and else nothing is taken from the folder
    third = load_cmi_rm(path=CHECKPOINT, cache=folder, max_duration=1.5, device="cpu")
    found = third.score(third.prepare(prompt), audio)
    assert found[0] == expected[0] and found[1] != expected[1]
    assert len(list(folder.glob("*.safetensors"))) == 3
    third.forget()
    for path in folder.glob("*.safetensors"):
        path.write_bytes(b"broken")
    assert second.score(second.prepare(prompt), audio) == expected
    assert "is made again" in caplog.text


def test_half_precisions_are_near_and_keep_the_order() -> None:
    audio = [read(GOLDEN / "audio" / name) for name in ("a11_3.000.wav", "a12_10.000.wav", "a15_2.346.wav")]
    prompt = Prompt(TEXT, reference=noise(1))
    found: dict[str, Any] = {}
    for precision in ("float32", "bf16", "bf16-autocast"):
        reward = load_cmi_rm(path=CHECKPOINT, precision=precision, device="cpu")
        assert reward.precision == precision
        scores = reward.score(reward.prepare(prompt), audio)
        found[precision] = np.array([[rewards[axis] for axis in AXES] for rewards in scores], dtype=float)
    for precision in ("bf16", "bf16-autocast"):
        difference = np.abs(found[precision] - found["float32"]).max()
        assert 0 < difference < 0.2
        assert np.array_equal(found[precision].argsort(0), found["float32"].argsort(0))
    # what autocast gives has 8 significant bits, the safe flavour has all
    as_half = torch.from_numpy(found["bf16-autocast"]).to(torch.bfloat16).double().numpy()
    assert np.array_equal(as_half, found["bf16-autocast"])
    assert not np.array_equal(torch.from_numpy(found["bf16"]).to(torch.bfloat16).double().numpy(), found["bf16"])


def test_the_licence_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    say_licence.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            load_cmi_rm(path=CHECKPOINT, device="cpu")
    assert caplog.text.count("not for commercial use") == 1


def test_what_is_safe_in_bf16_is_float32() -> None:
    exact, safe, official = (
        load_cmi_rm(path=CHECKPOINT, precision=precision, device="cpu").model
        for precision in ("float32", "bf16", "bf16-autocast")
    )
    for name, weight in exact.score_projector.state_dict().items():
        assert torch.equal(safe.score_projector.state_dict()[name], weight)
    assert official.score_projector[1].weight.dtype == torch.bfloat16
    waveform = torch.from_numpy(noise(1).waveform)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        states = safe.audio_module.model.hidden_states(waveform)  # type: ignore[union-attr, operator]
    assert {state.dtype for state in states} == {torch.float32}


def test_audio_from_memory_is_cut_with_a_warning_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        reward = load_cmi_rm(path=CHECKPOINT, max_duration=2.0, cache=tmp_path, device="cpu")
        for _ in range(2):
            reward.score(reward.prepare(Prompt(TEXT)), [noise(3)])
    assert caplog.text.count("its first 2 s are heard") == 4


def test_other_configs_take_nothing_from_the_memory(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "copy", ignore=shutil.ignore_patterns("audio", "*.npz"))
    config = tmp_path / "copy" / "MuQ-large-msd-iter" / "config.json"
    found = []
    for mean in ("6.768444971712967", "1.5"):
        config.write_text(config.read_text().replace("6.768444971712967", mean))
        for cache in (tmp_path / "kept", None):
            reward = load_cmi_rm(path=tmp_path / "copy" / "CMI-RM-sa", cache=cache, device="cpu")
            found.append(reward.score(reward.prepare(Prompt(TEXT)), [noise(1)])[0])
    assert found[0] == pytest.approx(found[1]) and found[2] == pytest.approx(found[3])
    assert found[0] != pytest.approx(found[2], abs=1e-3)


def test_a_memory_needs_a_tower_that_was_hashed() -> None:
    with pytest.raises(InvalidInput, match="a memory of audio needs a tower that can be told from others"):
        CmiReward(read_cmi_rm(Source(CHECKPOINT))[0], memory=Memory(), device="cpu")


def test_equal_audio_is_encoded_once(calls: Counter[str], reward: CmiReward) -> None:
    reward.score(reward.prepare(Prompt(TEXT)), [noise(1, 99)] * 3)
    assert calls["audio"] == 1


def test_a_cache_that_fails_costs_a_warning_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "kept"
    reward = load_cmi_rm(path=CHECKPOINT, cache=folder, device="cpu")
    shutil.rmtree(folder)
    assert reward.score(reward.prepare(Prompt(TEXT)), [noise(1)])[0]["musicality"] is not None
    assert "encoded audio is no longer kept" in caplog.text


def test_candidates_that_a_downsampler_empties_have_no_reward(tmp_path: Path) -> None:
    pool = {"kind": "meanpool", "factor": 25}
    config = replace(SMALL, downsamplers={role: pool for role in ("text", "lyrics", "reference", "candidate")})
    reward = load_cmi_rm(path=write_models(tmp_path, config, TOWERS), device="cpu")
    short, long = reward.score(reward.prepare(Prompt(TEXT)), [noise(0.05), noise(2)])
    assert np.isnan(short["musicality"]) and np.isfinite(long["musicality"])  # type: ignore[arg-type]


def test_waveforms_of_any_memory_layout(reward: CmiReward) -> None:
    audio = noise(1)
    backwards = Audio(audio.waveform[:, ::-1], 24_000)
    frozen = Audio(audio.waveform.copy(), 24_000)
    frozen.waveform.setflags(write=False)
    prepared = reward.prepare(Prompt(TEXT))
    found = reward.score(prepared, [backwards, frozen, Audio(backwards.waveform.copy(), 24_000), audio])
    assert found[0] == pytest.approx(found[2]) and found[1] == pytest.approx(found[3])


def test_downloads_that_fail_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for error, told in (
        (RuntimeError("xet broke\nbadly"), "xet broke"),
        (OSError(errno.ENOSPC, "No space left"), "the disk is full"),
    ):
        monkeypatch.setattr("rerank.models.hub._ask", lambda question: None)
        monkeypatch.setattr("rerank.models.hub.hf_hub_download", Mock(side_effect=error))
        with pytest.raises(WeightsError, match=told) as caught:
            Source("some/model").file("config.yaml")
        assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"), SMALL, TOWERS, towers=True).parent


def test_mulan_is_the_mean_of_its_clips(towers: Path) -> None:
    reward = load_mulan(path=towers / "MuQ-MuLan-large", device="cpu")
    check_reward(load_mulan(path=towers / "MuQ-MuLan-large", device="cpu"))
    audio = noise(23)
    wave = torch.from_numpy(audio.waveform)
    text = reward.prepare(Prompt(TEXT))
    assert text is not None
    with torch.inference_mode():
        tail = torch.cat([wave[:, 480_000:], wave[:, : 7 * 24_000]], 1)
        clips = reward.model.encode_audio(torch.cat([wave[:, :240_000], wave[:, 240_000:480_000], tail]))
        short = wave[:, : 4 * 24_000]
        wrapped = reward.model.encode_audio(torch.cat([short, short], 1))
    assert reward.score(text, [audio])[0]["alignment"] == pytest.approx(float(clips.mean(0) @ text), abs=1e-5)
    found = reward.score(text, [Audio(short.numpy(), 24_000)])[0]["alignment"]
    assert found == pytest.approx(float(wrapped[0] @ text), abs=1e-5)
    cosine = load_mulan(path=towers / "MuQ-MuLan-large", normalised=True, device="cpu").score(text, [audio])[0]
    mean = torch.nn.functional.normalize(clips.mean(0), dim=0)
    assert cosine["alignment"] == pytest.approx(float(mean @ text), abs=1e-5)


def test_mulan_says_nothing_without_a_text(towers: Path) -> None:
    reward = load_mulan(path=towers / "MuQ-MuLan-large", device="cpu")
    assert reward.score(reward.prepare(Prompt(lyrics="la")), [noise(1)]) == [{"alignment": None}]
    assert reward.score(reward.prepare(Prompt(TEXT)), []) == []
    assert reward.score(reward.prepare(Prompt(TEXT)), [noise(0.001)])[0]["alignment"] is not None


def test_from_the_hub_cache_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # the layout in which huggingface_hub keeps what it downloaded
    cache = tmp_path / "hub"
    for repository, folder in {
        "HaiwenXia/CMI-RM": "CMI-RM-sa",
        "OpenMuQ/MuQ-MuLan-large": "MuQ-MuLan-large",
        "OpenMuQ/MuQ-large-msd-iter": "MuQ-large-msd-iter",
        "xlm-roberta-base": "xlm-roberta-base",
    }.items():
        place = cache / f"models--{repository.replace('/', '--')}"
        snapshot = place / "snapshots" / COMMIT
        shutil.copytree(GOLDEN / folder, snapshot)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(COMMIT)
        for name in ("config.yaml", "config.json"):
            if (path := snapshot / name).exists():
                text = path.read_text().replace("../MuQ", "OpenMuQ/MuQ").replace("../xlm", "xlm")
                path.write_text(text)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    reward = load_cmi_rm(device="cpu")
    case = EXPECTED["cases"]["text3"]
    found = reward.score(reward.prepare(prompt_of(case)), [read(GOLDEN / case["audio"])])[0]
    assert found == pytest.approx(dict(zip(AXES, EXPECTED["expected"]["sa"]["text3"], strict=True)), abs=2e-5)


def test_files_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        WeightsError, match="not on this machine .*HF_HUB_OFFLINE is set.; unset it, or give a local folder"
    ) as caught:
        Source("HaiwenXia/CMI-RM-that-is-not").file("config.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.weights
def test_the_published_files() -> None:
    reward = load_cmi_rm(device="cpu")
    found = reward.score(reward.prepare(Prompt(TEXT)), [noise(10)])[0]
    assert all(value is not None and np.isfinite(value) for value in found.values())
