"""Towers: held once for all reward models with the same weights, and audio goes through each of them once."""

import copy
import gc
import logging
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import rerank
from rerank.audio import Audio
from rerank.data import Prompt
from rerank.eval.speed.random_weights import write_models
from rerank.models.hub import Source
from rerank.models.mel import SHORTEST
from rerank.models.muq import Muq
from rerank.models.published import read_muq
from rerank.rewards import encoding
from rerank.rewards.cmi_rm import load_cmi_rm
from rerank.rewards.encoding import AudioEncoder
from rerank.rewards.front_end import FrontEnd
from rerank.rewards.memory import Memory
from rerank.rewards.mulan import load_mulan
from rerank.rewards.precision import Precision
from rerank.rewards.towers import Tower, share_muq
from tests.test_models_published import SMALL, TOWERS

CPU = torch.device("cpu")
TEXT = Prompt("a slow piano in the rain")


def noise(seconds: float, seed: int = 0, sample_rate: int = 24_000) -> Audio:
    waveform = 0.1 * np.random.default_rng(seed).standard_normal((1, round(seconds * sample_rate)), dtype=np.float32)
    return Audio(waveform, sample_rate)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"), SMALL, TOWERS, towers=True).parent


@pytest.fixture(autouse=True)
def _no_tower_of_another_test() -> None:
    gc.collect()


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """The shapes of all that goes through any MuQ."""
    shapes: list[tuple[int, ...]] = []
    states = Muq.hidden_states

    def counted(muq: Muq, waveform: Tensor) -> list[Tensor]:
        shapes.append(tuple(waveform.shape))
        return states(muq, waveform)

    monkeypatch.setattr(Muq, "hidden_states", counted)
    yield shapes


def shared(models: Path, precision: Precision = "float32", bias: Tensor | None = None) -> Tower[Muq]:
    muq = read_muq(Source(models / "MuQ-large-msd-iter"), fuse=False)
    if bias is not None:
        muq.model.conv.linear.bias = torch.nn.Parameter(bias)
    return share_muq(muq, precision, CPU, "a test")


def test_two_models_with_the_same_weights_are_one_network_and_one_forward(
    models: Path, forwards: list[tuple[int, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    alone = load_mulan(path=models / "MuQ-MuLan-large", device="cpu")
    takes = [noise(10, seed) for seed in range(3)]
    expected = alone.score(alone.prepare(TEXT), takes)
    alone.forget()
    del alone
    gc.collect()
    forwards.clear()
    with caplog.at_level(logging.DEBUG, "rerank"):
        cmi_rm = load_cmi_rm(path=models / "CMI-RM", device="cpu")
        mulan = load_mulan(path=models / "MuQ-MuLan-large", device="cpu")
        assert mulan.model.audio.model is cmi_rm.model.audio_module.model
        assert "mulan shares MuQ with cmi-rm: same weights" in caplog.text
        cmi_rm.score(cmi_rm.prepare(TEXT), takes)
        found = mulan.score(mulan.prepare(TEXT), takes)
    assert forwards == [(1, 240_000)] * 3, "one for each window, for both together"
    assert found == expected, "what the other made is what it makes itself"
    assert "MuQ: 1 of 1 windows are remembered" in caplog.messages


def test_what_they_hear_alike_goes_through_once_in_a_run(models: Path, forwards: list[tuple[int, ...]]) -> None:
    rewards: list[Any] = [
        load_cmi_rm(path=models / "CMI-RM", device="cpu"),
        load_mulan(path=models / "MuQ-MuLan-large", device="cpu"),
    ]
    takes = [noise(10, seed, 44_100) for seed in range(4)]
    pieces = [(piece.waveform, piece.sample_rate) for piece in takes]
    ranking = rerank.rank(pieces, TEXT, reward=rewards)
    assert {axis for one in ranking for axis in one.rewards} == {
        "cmi-rm.musicality",
        "cmi-rm.alignment",
        "mulan.alignment",
    }
    assert len(forwards) == 4


@pytest.mark.parametrize(
    ("seconds", "options", "expected"),
    [
        (10.0, {"resampler": "soxr"}, 2),  # at 44.1 kHz: other samples
        (7.0, {}, 2),  # mulan completes a shorter take
        (20.0, {}, 3),  # cmi-rm hears 20 s at once, mulan two clips
    ],
)
def test_where_they_hear_other_samples_nothing_is_taken_for_the_same(
    seconds: float, options: dict[str, Any], expected: int, models: Path, forwards: list[tuple[int, ...]]
) -> None:
    cmi_rm = load_cmi_rm(path=models / "CMI-RM", device="cpu")
    mulan = load_mulan(path=models / "MuQ-MuLan-large", device="cpu", **options)
    take = noise(seconds, 1, 44_100)
    for reward in (cmi_rm, mulan):
        reward.forget()
        reward.score(reward.prepare(TEXT), [take])  # type: ignore[arg-type]  # each prepares for itself
    alone = len(forwards)
    forwards.clear()
    cmi_rm.forget()
    cmi_rm.score(cmi_rm.prepare(TEXT), [take])
    mulan.score(mulan.prepare(TEXT), [take])
    assert len(forwards) == alone == expected


def test_clips_of_longer_takes_are_shared_where_both_take_clips(models: Path, forwards: list[tuple[int, ...]]) -> None:
    mulan = load_mulan(path=models / "MuQ-MuLan-large", device="cpu")
    cmi_rm = load_cmi_rm(path=models / "CMI-RM", strategy="mean", device="cpu")
    for reward in (mulan, cmi_rm):
        reward.score(reward.prepare(TEXT), [noise(23, 5)])  # type: ignore[arg-type]
    assert forwards == [(1, 240_000)] * 3 + [(1, 72_000)], "all but the last, which mulan completes"


def test_a_prompt_without_a_text_sends_nothing_through_for_mulan(models: Path, forwards: list[tuple[int, ...]]) -> None:
    mulan = load_mulan(path=models / "MuQ-MuLan-large", device="cpu")
    nothing = Prompt.recalled("", None, None)
    assert mulan.score(mulan.prepare(nothing), [noise(10, 77)]) == [{"alignment": None}]
    assert not forwards


def test_one_folder_serves_all(models: Path, tmp_path: Path, forwards: list[tuple[int, ...]]) -> None:
    cmi_rm = load_cmi_rm(path=models / "CMI-RM", cache=tmp_path, cache_size=8, device="cpu")
    cmi_rm.score(cmi_rm.prepare(TEXT), [noise(10)])
    cmi_rm.forget()
    mulan = load_mulan(path=models / "MuQ-MuLan-large", cache=tmp_path, cache_size=9, device="cpu")
    mulan.score(mulan.prepare(TEXT), [noise(10)])
    assert len(forwards) == 1
    assert mulan.memory is cmi_rm.memory and mulan.memory is not None and mulan.memory.limit == 9 * 2**20
    memoryless = load_mulan(path=models / "MuQ-MuLan-large", cache_size=0, device="cpu")
    assert memoryless.memory is not mulan.memory


def test_the_second_copy_of_the_weights_is_not_kept(models: Path) -> None:
    first = shared(models)
    muq = read_muq(Source(models / "MuQ-large-msd-iter"), fuse=False)
    left_over = weakref.ref(muq)
    second = share_muq(muq, "float32", CPU, "another")
    assert second is first
    del muq
    gc.collect()
    assert left_over() is None
    gone = weakref.ref(first.network)
    del first, second
    gc.collect()
    assert gone() is None, "a tower goes when nobody holds it"


def test_what_differs_is_not_shared(models: Path) -> None:
    first = shared(models)
    bias = first.network.model.conv.linear.bias.clone()
    bias[0] += 1e-6
    others = {"a weight": shared(models, bias=bias), "precision": shared(models, "bf16")}
    muq = read_muq(Source(models / "MuQ-large-msd-iter"), fuse=False)
    muq.config = replace(muq.config, mean=1.0)
    others["a size"] = share_muq(muq, "float32", CPU, "another")
    assert len({first.key, *(tower.key for tower in others.values())}) == 4
    assert all(tower.network is not first.network for tower in others.values())
    assert shared(models) is first


def test_a_shared_network_is_brought_to_its_precision_once(models: Path) -> None:
    rewards: list[Any] = [
        load(path=models / name, precision="bf16", device="cpu")
        for load, name in ((load_cmi_rm, "CMI-RM"), (load_mulan, "MuQ-MuLan-large"))
    ]
    (muq,) = {reward.tower.network for reward in rewards}
    before = copy.deepcopy(muq.state_dict())
    again = load_mulan(path=models / "MuQ-MuLan-large", precision="bf16", device="cpu")
    assert again.tower.network is muq
    after = muq.state_dict()
    assert all(torch.equal(after[name], before[name]) and after[name].dtype == before[name].dtype for name in before)
    exact = load_mulan(path=models / "MuQ-MuLan-large", precision="float32", device="cpu")
    assert exact.tower.network is not muq


def test_hidden_states_are_kept_apart(models: Path, forwards: list[tuple[int, ...]]) -> None:
    tower, memory = shared(models), Memory()
    whole = FrontEnd(shortest=SHORTEST)
    last = AudioEncoder(tower, whole, memory)
    first = AudioEncoder(tower, whole, memory, make=lambda muq, wave: muq.hidden_states(wave)[1], output="hidden 1")
    audio = [noise(2)]
    for encoder in (last, first, last, first):
        made = encoder(audio)[0][0]
        states = [state[0] for state in tower.network.hidden_states(torch.from_numpy(audio[0].waveform))]
        assert torch.allclose(made, states[-1] if encoder is last else states[1], atol=1e-5)
    assert len(forwards) - 4 == 2, "one for each of them, beside those that are compared with"


def test_a_window_that_fails_costs_no_other(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sizes: list[int] = []

    def fail(muq: Muq, waveforms: Tensor) -> Tensor:
        sizes.append(len(waveforms))
        if bool((waveforms == 0).all(1).any()):
            raise RuntimeError("silence is not heard")
        return waveforms.mean(1)

    monkeypatch.setattr(encoding, "seconds_together", lambda device: 8.0)
    tower, memory = shared(models), Memory()
    encoder = AudioEncoder(tower, FrontEnd(duration=1.0), memory, make=fail, output="mean")
    loud = noise(8)
    hole = Audio(np.where(np.arange(8 * 24_000) // 24_000 == 5, 0, loud.waveform).astype(np.float32), 24_000)
    with pytest.raises(RuntimeError, match="silence is not heard"):
        encoder([hole])
    assert sizes == [8, 4, 4, 2, 1, 1]
    assert "8 windows of audio at once failed (RuntimeError: silence is not heard): going on in halves" in caplog.text
    sizes.clear()
    assert len(encoder([loud])[0]) == 8
    assert sizes == [3], "the five before it were kept"


def test_after_a_lack_of_memory_later_batches_are_smaller(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def short(muq: Muq, waveforms: Tensor) -> Tensor:
        sizes.append(len(waveforms))
        if waveforms.numel() > 3 * 24_000:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return waveforms.mean(1)

    monkeypatch.setattr(encoding, "seconds_together", lambda device: 8.0)
    encoder = AudioEncoder(shared(models), FrontEnd(duration=1.0), None, make=short, output="mean")
    encoder([noise(8)])
    encoder([noise(4, 1)])
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2]
