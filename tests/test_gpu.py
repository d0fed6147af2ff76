"""What only a GPU can show: what it computes is what a CPU computes, and it gives its memory back.

Where there is none these are skipped; where there is one, `pytest -m gpu` runs them alone. Models are small and random.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import rerank
from rerank.audio import Audio, read
from rerank.data import Prompt
from rerank.eval.speed.random_musicgen import TINY, save_random_musicgen
from rerank.eval.speed.random_weights import write_models
from rerank.generators.musicgen import MusicGen
from rerank.generators.musicgen.engine import BUCKET
from rerank.models.cmi import AXES
from rerank.protocols import Progress
from rerank.rewards.cmi import CmiReward
from rerank.rewards.cmi_rm import load_cmi_rm
from rerank.rewards.mini import load_mini
from rerank.rewards.mulan import load_mulan
from rerank.scoring import score_each
from rerank.testing import check_generator, check_reward
from rerank.training.mini.train import train
from tests.conftest import ToyReward, notes
from tests.test_models_published import CHECKPOINT, GOLDEN, SMALL, TOWERS
from tests.test_rewards_cmi_rm import EXPECTED, prompt_of
from tests.test_training_mini import OPTIONS, data

__all__ = ["data"]  # the fixture with a little training data

GPU = "cuda"
TEXT = "slow warm piano with vinyl crackle"
GIB = 2**30

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]


# MusicGen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_musicgen(tmp_path_factory.mktemp("musicgen"), TINY)


def made(generator: MusicGen, seeds: Sequence[int] = range(3), duration: float = 6.0) -> list[Any]:
    return list(generator.generate(Prompt(TEXT), seeds, duration))


def codes(candidates: Sequence[Any]) -> NDArray[np.int16]:
    return np.stack([candidate.codes for candidate in candidates])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_captured_step_is_the_step(folder: Path, dtype: str, caplog: pytest.LogCaptureFixture) -> None:
    captured = MusicGen(path=folder, device=GPU, dtype=dtype)
    plain = MusicGen(path=folder, device=GPU, dtype=dtype)
    assert captured._engine.captures and 6.0 * 50 > 2 * BUCKET, "several graphs are captured"
    plain._engine.captures = False
    with caplog.at_level(logging.WARNING, "rerank"):
        first, second = made(captured), made(plain)
    assert captured._engine.captures and "cannot be captured" not in caplog.text
    assert np.array_equal(codes(first), codes(second))
    assert len({candidate.codes.tobytes() for candidate in first}) == 3, "each seed draws for itself"


def test_musicgen_is_that_of_the_cpu(folder: Path) -> None:
    here, there = (MusicGen(path=folder, device=device, dtype="float32") for device in ("cpu", GPU))
    expected, found = made(here), made(there)
    columns = torch.from_numpy(expected[0].codes.astype(np.int64))
    logits = [
        one._engine.logits(one._checkpoint.sides(TEXT, "", None)[0], columns).cpu().numpy() for one in (here, there)
    ]
    spread = float(logits[0].std())
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-3 * spread, rtol=0)
    # a number may fall between two tokens that are as likely but for the last digits; from there on all differs
    same = [np.array_equal(one.codes, other.codes) for one, other in zip(expected, found, strict=True)]
    assert sum(same) >= 2, same
    heard = there.decode(expected[0].codes).waveform
    loudest = float(np.abs(expected[0].audio.waveform).max())
    # convolutions of the codec may be in TF32, which has ten bits
    np.testing.assert_allclose(heard[:, : 6 * 32_000], expected[0].audio.waveform, atol=0.02 * loudest, rtol=0)


def test_a_candidate_is_the_same_in_any_run_of_one_batch_size(folder: Path) -> None:
    generator = MusicGen(path=folder, device=GPU, dtype="float16", batch_size=4)
    together = made(generator, range(6), 3.0)
    for seed in (1, 5):
        assert np.array_equal(made(generator, [seed], 3.0)[0].codes, together[seed].codes)


def test_musicgen_keeps_the_promises_of_a_generator(folder: Path) -> None:
    check_generator(MusicGen(path=folder, device=GPU, dtype="float32", batch_size=4))


# Reward models


def rewards(reward: CmiReward, prompt: Prompt, audio: Sequence[Audio]) -> NDArray[np.float64]:
    found = reward.score(reward.prepare(prompt), audio)
    return np.array([[one[axis] for axis in AXES] for one in found], dtype=np.float64)


@pytest.mark.parametrize("name", EXPECTED["cases"])
def test_cmi_rm_gives_the_recorded_scores(name: str) -> None:
    case = EXPECTED["cases"][name]
    reward = load_cmi_rm(path=CHECKPOINT, max_duration=case["max_dur"], precision="float32", device=GPU)
    found = rewards(reward, prompt_of(case), [read(GOLDEN / case["audio"])])[0]
    expected = np.array(EXPECTED["expected"]["sa"][name])
    if not prompt_of(case).conditions():
        expected[AXES.index("alignment")] = np.nan  # there is nothing that it could fit
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("precision", ["bf16", "bf16-autocast"])
def test_cmi_rm_in_bf16_ranks_as_in_float32(precision: str) -> None:
    audio = [read(GOLDEN / "audio" / name) for name in ("a11_3.000.wav", "a12_10.000.wav", "a15_2.346.wav")]
    prompt = Prompt("a bright happy pop song", reference=audio[2])
    exact, rounded = (
        rewards(load_cmi_rm(path=CHECKPOINT, device=GPU, precision=one), prompt, audio)
        for one in ("float32", precision)
    )
    assert 0 < np.abs(rounded - exact).max() < 0.2
    assert np.array_equal(rounded.argsort(0), exact.argsort(0))


def test_cmi_rm_is_in_bf16_where_the_gpu_has_it() -> None:
    reward = load_cmi_rm(path=CHECKPOINT, device=GPU)
    has = torch.cuda.is_bf16_supported(including_emulation=False)
    assert reward.precision == ("bf16" if has else "float32") and reward.device.type == GPU


def test_two_reward_models_share_a_tower(tmp_path: Path) -> None:
    models = write_models(tmp_path, SMALL, TOWERS, towers=True).parent
    audio = [notes(np.random.default_rng(seed), 10.0, 24_000) for seed in range(20)]
    found = []
    for device in ("cpu", GPU):
        cmi_rm = load_cmi_rm(path=models / "CMI-RM", device=device, precision="float32")
        mulan = load_mulan(path=models / "MuQ-MuLan-large", device=device, precision="float32")
        assert mulan.tower is cmi_rm.tower
        windows: list[int] = []
        handle = mulan.tower.network.register_forward_pre_hook(lambda _, inputs, to=windows: to.append(len(inputs[0])))
        both = [rewards(cmi_rm, Prompt("piano"), audio)]
        both += [np.array([[one["alignment"]] for one in mulan.score(mulan.prepare(Prompt("piano")), audio)], float)]
        handle.remove()
        assert sum(windows) == 20 and max(windows) == (1 if device == "cpu" else 12)
        found.append(np.concatenate(both, axis=1))
    np.testing.assert_allclose(found[1], found[0], atol=1e-3, rtol=0)


def test_cmi_mini_is_that_of_the_cpu() -> None:
    prompt = Prompt("fast funk with slap bass", "down the road", notes(np.random.default_rng(9), 4.0))
    ranking = rerank.generate("fast funk with slap bass", n=4, duration=4.0, generator="synth", device="cpu")
    audio = [candidate.audio for candidate in ranking.candidates if candidate.audio]
    found = [rewards(load_mini(device=device), prompt, audio) for device in ("cpu", GPU)]
    np.testing.assert_allclose(found[1], found[0], atol=2e-3, rtol=0)
    assert found[0].std(0).min() > 0.01, "the candidates differ by more than the devices"


def test_cmi_mini_keeps_the_promises_of_a_reward_model() -> None:
    check_reward(load_mini(device=GPU))


# Memory


@pytest.fixture
def two_gib() -> Iterator[int]:
    """Limit this process to 2 GiB of the GPU; return what is a bit more than a quarter of what is left of them."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 2 * GIB / total))
    yield int(0.3 * (2 * GIB - torch.cuda.memory_allocated()))
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


class Hungry:
    """Takes so many bytes of the GPU for each of several things, and keeps what was taken already when it began."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.calls: list[tuple[int, int]] = []

    def eat(self, count: int) -> None:
        self.calls.append((count, torch.cuda.memory_allocated()))
        food = [torch.empty(self.size, dtype=torch.uint8, device=GPU) for _ in range(count)]
        assert len(food) == count


def test_a_generator_is_given_back_what_a_batch_took_that_did_not_fit(two_gib: int) -> None:
    hungry, before = Hungry(two_gib), torch.cuda.memory_allocated()

    def make(prompt: str, seeds: list[int], duration: float) -> list[NDArray[np.float32]]:
        hungry.eat(len(seeds))
        return [notes(np.random.default_rng(seed), duration).waveform for seed in seeds]

    generator = rerank.wrap(make, sample_rate=16_000, channels=2, batch_size=4)
    made = list(generator.generate(Prompt("techno"), range(5), 1.0))
    assert all(candidate.audio for candidate in made) and len(made) == 5
    assert hungry.calls == [(count, before) for count in (4, 2, 2, 1)]


def test_a_reward_model_is_given_back_what_a_batch_took_that_did_not_fit(two_gib: int) -> None:
    hungry, before = Hungry(two_gib), torch.cuda.memory_allocated()

    class Judge(ToyReward):
        def score(self, prepared: float, audio: Sequence[Audio]) -> list[dict[str, float | None]]:
            hungry.eat(len(audio))
            return super().score(prepared, audio)

    reward = Judge()
    assert reward.info.batch_size == 4
    audio = [notes(np.random.default_rng(seed), 1.0) for seed in range(5)]
    assert all(isinstance(one, dict) for one in score_each(reward, Prompt("techno"), audio))
    assert hungry.calls == [(count, before) for count in (4, 2, 2, 1)]


# Training


def test_a_few_steps_of_training(data: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    losses = {}
    for device, place in (("cpu", tmp_path), (GPU, tmp_path_factory.mktemp("gpu"))):
        for name in ("data", "sung"):
            (place / name).symlink_to(data / name)

        def stop(progress: Progress) -> None:
            if progress.total == OPTIONS.steps and progress.done == 5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(place, OPTIONS, stop, device)
        weights = train(place, OPTIONS, device=device)
        assert torch.load(place / "checkpoint.pt", weights_only=True)["step"] == OPTIONS.steps
        losses[device] = torch.load(place / "checkpoint.pt", map_location="cpu", weights_only=True)["losses"]
    # dropout draws other numbers on a GPU, and the first loss of hearing has none
    assert losses[GPU][0]["hearing"] == pytest.approx(losses["cpu"][0]["hearing"], rel=0.02)
    for step, (here, there) in enumerate(zip(losses["cpu"], losses[GPU], strict=True)):
        assert here.keys() == there.keys()
        assert there == pytest.approx(here, rel=0.5, abs=0.3), step
    reward = load_mini(path=weights, device="cpu")
    assert np.isfinite(rewards(reward, Prompt("piano"), [notes(np.random.default_rng(0), 2.0)])).all()
