"""`stable-audio-open-small`: what stable-audio-tools makes, by seed, alone and in batches; other models are refused.

The model is a small one with random weights in the published layout. Where it is compared with what was recorded from
stable-audio-tools, the tolerance is float32 in another order of additions, through eight steps and the decoder.
"""

import itertools
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from rerank.catalogue import generator_info
from rerank.data import Candidate, Prompt
from rerank.errors import InvalidInput, WeightsError
from rerank.generators.ping_pong import ping_pong, times
from rerank.generators.stable_audio_small import (
    NAME,
    SmallConfig,
    StableAudioSmall,
    build_small,
)
from rerank.protocols import Progress
from rerank.testing import check_generator
from tests.record_stable_audio_small import DATA, LONG_TEXT, PUBLISHED, SECONDS, SEEDS, TEXT, weights

TOLERANCE = 1e-5
PROMPT = Prompt(TEXT)
RATE = 8000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model as it would be published, with its text encoder in a folder within."""
    place = tmp_path_factory.mktemp("stable-audio") / "small"
    place.mkdir()
    shutil.copy(DATA / "model_config.json", place)
    shutil.copytree(DATA / "t5", place / "t5")
    for shapes in (DATA / "shapes.json", DATA / "t5" / "shapes.json"):
        target = place / shapes.parent.relative_to(DATA) / "model.safetensors"
        save_file(weights(json.loads(shapes.read_text())), target)
    return place


@pytest.fixture(scope="module")
def generator(folder: Path) -> StableAudioSmall:
    return StableAudioSmall(path=folder, device="cpu")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


def recorded(name: str) -> dict[str, NDArray[np.float32]]:
    return dict(np.load(DATA / f"{name}.npz"))


def worst(found: Tensor | NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    assert tuple(found.shape) == expected.shape
    return float(np.abs(np.asarray(found) - expected).max())


def waveforms(candidates: Sequence[Candidate] | Iterator[Candidate]) -> list[NDArray[np.float32]]:
    return [candidate.audio.waveform for candidate in candidates if candidate.audio is not None]


def test_it_keeps_the_promises_of_a_generator(generator: StableAudioSmall) -> None:
    check_generator(generator, tolerance=0.0)


def test_it_does_so_in_batches(folder: Path) -> None:
    check_generator(StableAudioSmall(path=folder, device="cpu", batch_size=3), tolerance=TOLERANCE)


def test_a_candidate_is_what_the_library_makes_of_its_seed(generator: StableAudioSmall) -> None:
    truth = recorded("samples")
    samples = round(SECONDS * RATE)
    for seed, found in zip(SEEDS, waveforms(generator.generate(PROMPT, SEEDS, SECONDS)), strict=True):
        expected = truth[f"audio_{seed}"][0, :, :samples]
        peak = np.abs(expected).max()
        assert peak > 1  # so that it is scaled down
        assert worst(found, expected / peak) < TOLERANCE


def test_steps_give_the_recorded_latents_of_the_recorded_noise(generator: StableAudioSmall) -> None:
    truth, parts = recorded("samples"), recorded("parts")
    text, length = (torch.from_numpy(parts[name]) for name in ("text", "length"))
    done: list[int] = []

    def velocity(latents: Tensor, time: float) -> Tensor:
        found: Tensor = generator._dit(latents, torch.tensor([time]), text, length)
        return found

    for seed in SEEDS:
        noise = iter(torch.from_numpy(truth[f"noise_{seed}"]))
        with torch.inference_mode():
            found = ping_pong(velocity, noise.__next__, 8, done.append)
        # relative to latents up to about 6
        assert worst(found, truth[f"latents_{seed}"]) < 6 * TOLERANCE
        # the library also draws for the last step, which takes none
        assert len(list(noise)) == 1
    assert done == [*range(1, 9)] * 2


def test_times_go_from_all_noise_to_none() -> None:
    assert times(1) == [1.0, 0.0]
    for steps in (2, 8, 50):
        found = times(steps)
        assert len(found) == steps + 1
        assert found == sorted(found, reverse=True) and (found[0], found[-1]) == (1.0, 0.0)
    ratios = [np.log((1 - time) / time) for time in times(8)[1:-1]]
    assert np.allclose(ratios, range(-5, 2), atol=1e-4)


def test_text_and_duration_are_told_as_the_library_tells_them(generator: StableAudioSmall) -> None:
    truth = recorded("parts")
    request = generator._request(PROMPT, round(SECONDS * RATE))
    assert worst(request["text"], truth["text"]) < TOLERANCE
    assert worst(request["length"], truth["length"]) < TOLERANCE
    # the library rounds the text encoder to float16, which changes what the model is told by this much
    assert 1e-3 < worst(request["text"], truth["text_half"]) < 2e-2


def test_a_longer_text_is_cut_as_by_the_library_and_a_warning_says_what_is_left_out(
    generator: StableAudioSmall, caplog: pytest.LogCaptureFixture
) -> None:
    generator._request(PROMPT, 8000)
    assert not caplog.records
    request = generator._request(Prompt(LONG_TEXT), round(SECONDS * RATE))
    assert worst(request["text"], recorded("parts")["long_text"]) < TOLERANCE
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "stable-audio-open-small reads no more of the text: its last 154 characters are left out" in record.message
    assert LONG_TEXT[-154:][:20] in record.message


def test_candidates_do_not_depend_on_the_batch(folder: Path, generator: StableAudioSmall) -> None:
    seeds = range(5, 15)
    truth = waveforms(generator.generate(PROMPT, seeds, 1.5))
    # one by one, to the bit
    for found, expected in zip(waveforms(generator.generate(PROMPT, seeds[:3], 1.5)), truth, strict=False):
        assert np.array_equal(found, expected)
    # in batches of 4, 4 and 2, to what float32 is added up otherwise; at the published size there was no difference
    together = StableAudioSmall(path=folder, device="cpu", batch_size=4)
    for found, expected in zip(waveforms(together.generate(PROMPT, seeds, 1.5)), truth, strict=True):
        assert worst(found, expected) < TOLERANCE


def test_candidates_have_the_duration_to_the_sample_and_the_licence(generator: StableAudioSmall) -> None:
    assert generator.info.max_duration == 2.04
    for duration in (1.0, 1.2345, 2.04):
        [made] = generator.generate(PROMPT, [1], duration)
        assert made.audio is not None
        assert made.audio.waveform.shape == (2, round(duration * RATE))
        assert made.licence == generator.info.licence == generator_info(NAME).licence


def test_only_what_is_kept_is_decoded_and_the_duration_is_heard(generator: StableAudioSmall) -> None:
    assert [generator._request(PROMPT, samples)["frames"] for samples in (64, 6400, 256 * 64)] == [12, 111, 256]
    short, long = (waveforms(generator.generate(PROMPT, [1], duration))[0] for duration in (1.0, 2.0))
    assert worst(short, np.ascontiguousarray(long[:, :RATE])) > 1e-3


def test_half_precision_stays_near_float32(folder: Path, generator: StableAudioSmall) -> None:
    [truth] = waveforms(generator.generate(PROMPT, [3], 1.5))
    for dtype, tolerance in (("bfloat16", 0.2), ("float16", 0.03)):
        [found] = waveforms(StableAudioSmall(path=folder, device="cpu", dtype=dtype).generate(PROMPT, [3], 1.5))
        assert 0 < worst(found, truth) < tolerance


def test_progress_goes_up_to_all_and_can_stop(generator: StableAudioSmall) -> None:
    reports: list[Progress] = []
    list(generator.generate(PROMPT, [1, 2], 1.0, on_progress=reports.append))
    assert len(reports) == 2 * 9
    assert all(earlier.done < later.done for earlier, later in itertools.pairwise(reports))
    assert reports[-1].done == reports[-1].total

    def stop(report: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(iter(generator.generate(PROMPT, [1], 1.0, on_progress=stop)))


def test_published_settings_take_exactly_the_published_weights() -> None:
    config = SmallConfig.of(PUBLISHED)
    assert (config.samples, config.sample_rate, config.frames, config.tokens) == (524288, 44100, 256, 64)
    assert (config.text_encoder, config.shortest, config.longest) == ("t5-base", 0.0, 256.0)
    shapes = json.loads((DATA / "published_shapes.json").read_text())
    published = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    parts = build_small(config, published, "published")
    # the decoder has its weights normalised, which makes them fewer
    assert [sum(value.numel() for value in part.state_dict().values()) for part in parts[:2]] == [340928640, 198272]


def test_the_text_encoder_may_be_another_folder(folder: Path, copy: Path, generator: StableAudioSmall) -> None:
    (copy / "t5").rename(copy.parent / "elsewhere")
    with pytest.raises(WeightsError, match="there is no file .*t5"):
        StableAudioSmall(path=copy, device="cpu")
    found = StableAudioSmall(path=copy, text_encoder=copy.parent / "elsewhere", device="cpu")
    one, other = (waveforms(each.generate(PROMPT, [1], 1.0))[0] for each in (found, generator))
    assert np.array_equal(one, other)
    with pytest.raises(InvalidInput, match="there is no folder .*nowhere"):
        StableAudioSmall(path=copy, text_encoder="nowhere", device="cpu")


def test_a_file_in_half_precision_is_read_too(copy: Path) -> None:
    file = copy / "model.safetensors"
    save_file({name: value.half() for name, value in load_file(file).items()}, file)
    [found] = StableAudioSmall(path=copy, device="cpu").generate(PROMPT, [1], 1.0)
    assert found.audio is not None and found.audio.is_finite()


def change_config(path: Path, keys: Sequence[Any], value: object) -> None:
    config = json.loads(path.read_text())
    inner = config
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["model_type"], "autoencoder", "autoencoder"),
        (["model", "diffusion", "diffusion_objective"], "v", "diffusion_objective 'v' is not supported"),
        (["model", "diffusion", "global_cond_ids"], [], r"global_cond_ids \[\] is not supported"),
        (["model", "diffusion", "config", "depth"], 3, "missing: model.model.transformer.layers.2"),
        (["model", "diffusion", "config", "io_channels"], 4, "latents of 4 channels do not fit a decoder of 8"),
        (["model", "conditioning", "configs"], [], "is told"),
        (["model", "conditioning", "configs", 1, "type"], "int", "type 'int' is not supported"),
        (["model", "conditioning", "configs", 1, "config"], {}, "lacks 'config.min_val'"),
        (["model", "conditioning", "cond_dim"], 25, "cond_dim 25 is not supported; expected 24"),
        (["model", "pretransform", "config", "decoder", "type"], "dac", "dac"),
        (["sample_rate"], None, "sample_rate .* must be a whole number from 1,000 to 384,000, got None"),
    ],
)
def test_other_models_are_refused_in_one_line(copy: Path, keys: list[Any], value: object, message: str) -> None:
    change_config(copy / "model_config.json", keys, value)
    with pytest.raises(WeightsError, match=message) as caught:
        StableAudioSmall(path=copy, device="cpu")
    assert "\n" not in str(caught.value)


def test_weights_that_lack_one_or_have_one_more_are_refused(copy: Path) -> None:
    file = copy / "model.safetensors"
    whole = load_file(file)
    name = "conditioner.conditioners.seconds_total.embedder.embedding.1.bias"
    save_file({key: value for key, value in whole.items() if key != name}, file)
    with pytest.raises(WeightsError, match=f"missing: {name}"):
        StableAudioSmall(path=copy, device="cpu")
    save_file({**whole, "model.model.new": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match=r"not known: model\.model\.new"):
        StableAudioSmall(path=copy, device="cpu")
    change_config(copy / "t5" / "config.json", ["d_model"], 32)
    with pytest.raises(WeightsError, match="text encoder is 32 wide, and the model takes text 24 wide"):
        StableAudioSmall(path=copy, device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"device": "tpu"}, "device 'tpu' is not available"),
        ({"revision": "main"}, "a folder has none"),
    ],
)
def test_options_that_cannot_be_used_are_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        StableAudioSmall(**{"path": folder, "device": "cpu", **options})


def test_says_its_weights_and_its_options(generator: StableAudioSmall, folder: Path, tmp_path: Path) -> None:
    assert generator.info.options == {"steps": 8, "dtype": "float32", "batch_size": 1}
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert StableAudioSmall(path=copy, device="cpu").info == generator.info
    tokenizer = next(copy.rglob("tokenizer.json"))
    tokenizer.write_text(tokenizer.read_text() + " ")
    assert StableAudioSmall(path=copy, device="cpu").info.version != generator.info.version
