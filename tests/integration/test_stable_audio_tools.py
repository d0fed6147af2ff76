"""`StableAudioTools` on the real library, and our own port of Stable Audio Open Small beside it, on the same weights.

The model is small and its weights are random; the library loads it from the published layout.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from stable_audio_tools.models import conditioners  # type: ignore[import-not-found]  # types do not need it
from stable_audio_tools.models.factory import create_model_from_config  # type: ignore[import-not-found]
from stable_audio_tools.models.utils import load_ckpt_state_dict  # type: ignore[import-not-found]
from transformers import T5EncoderModel

from rerank.data import Prompt
from rerank.generators import StableAudioTools
from rerank.generators.stable_audio_small import StableAudioSmall
from rerank.protocols import Progress
from rerank.testing import check_generator
from tests.record_stable_audio_small import DATA, LONG_TEXT, SECONDS, SEEDS, T5, TEXT, weights

PROMPT = Prompt(TEXT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The small model as it would be published; its text encoder is one that the library knows."""
    place = tmp_path_factory.mktemp("stable-audio") / "small"
    shutil.copytree(DATA, place)
    for shapes in (place / "shapes.json", place / "t5" / "shapes.json"):
        save_file(weights(json.loads(shapes.read_text())), shapes.with_name("model.safetensors"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)  # where ./t5 is
        patch.setattr(conditioners.T5Conditioner, "T5_MODELS", ["./t5"])
        patch.setattr(conditioners.T5Conditioner, "T5_MODEL_DIMS", {"./t5": T5["d_model"]})
        yield place


def load(folder: Path, objective: str | None = None) -> tuple[Any, dict[str, Any]]:
    """Do what `get_pretrained_model` does after its downloads."""
    config = json.loads((folder / "model_config.json").read_text())
    if objective is not None:
        config["model"]["diffusion"]["diffusion_objective"] = objective
    model = create_model_from_config(config)
    model.load_state_dict(load_ckpt_state_dict(str(folder / "model.safetensors")))
    return model, config


@pytest.fixture(scope="module")
def generator(folder: Path) -> StableAudioTools:
    return StableAudioTools(*load(folder))


def with_exact_text(folder: Path) -> StableAudioTools:
    """The library rounds the text encoder to float16; here it does not."""
    model, config = load(folder)
    encoder: Any = T5EncoderModel.from_pretrained("./t5")
    model.conditioner.conditioners["prompt"].__dict__["model"] = encoder.eval()
    return StableAudioTools(model, config)


def test_it_keeps_the_promises_of_a_generator(generator: StableAudioTools) -> None:
    check_generator(generator, tolerance=0.0)


def test_so_does_a_model_with_another_objective_and_sampler(folder: Path) -> None:
    check_generator(StableAudioTools(*load(folder, "v"), steps=5, sigma_max=80), tolerance=0.0)
    check_generator(StableAudioTools(*load(folder, "rectified_flow"), steps=5, cfg_scale=2.0), tolerance=0.0)


def test_it_makes_what_was_recorded_and_our_own_port_the_same(folder: Path) -> None:
    truth = np.load(DATA / "samples.npz")
    theirs = with_exact_text(folder).generate(PROMPT, SEEDS, SECONDS)
    ours = StableAudioSmall(path=folder, device="cpu").generate(PROMPT, SEEDS, SECONDS)
    for seed, one, other in zip(SEEDS, theirs, ours, strict=True):
        assert one.audio is not None and other.audio is not None
        expected = truth[f"audio_{seed}"][0, :, : one.audio.waveform.shape[1]]
        expected = expected / np.abs(expected).max()
        assert np.abs(one.audio.waveform - expected).max() < 1e-5
        assert np.abs(one.audio.waveform - other.audio.waveform).max() < 1e-5


def test_rounding_the_text_encoder_changes_little(folder: Path, generator: StableAudioTools) -> None:
    [rounded], [exact] = (made.generate(PROMPT, [3], SECONDS) for made in (generator, with_exact_text(folder)))
    assert rounded.audio is not None and exact.audio is not None
    assert 0 < np.abs(rounded.audio.waveform - exact.audio.waveform).max() < 0.05


def test_nothing_of_the_process_is_changed(generator: StableAudioTools, capfd: pytest.CaptureFixture[str]) -> None:
    torch.backends.cudnn.benchmark, before = True, torch.random.get_rng_state()
    try:
        list(generator.generate(PROMPT, [1], 1.0))
        assert torch.backends.cudnn.benchmark and torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.benchmark = False
    assert torch.equal(torch.random.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


def test_progress_goes_up_to_all_and_can_stop(generator: StableAudioTools) -> None:
    reports: list[Progress] = []
    list(generator.generate(PROMPT, [1, 2], 1.0, on_progress=reports.append))
    assert [report.done for report in reports] == sorted({report.done for report in reports})
    assert len(reports) == 2 * 9 and reports[-1].done == reports[-1].total

    def stop(report: Progress) -> None:
        raise KeyboardInterrupt

    stdout = sys.stdout
    with pytest.raises(KeyboardInterrupt):
        list(generator.generate(PROMPT, [1], 1.0, on_progress=stop))
    assert sys.stdout is stdout


def test_a_warning_says_what_the_library_leaves_out(
    generator: StableAudioTools, caplog: pytest.LogCaptureFixture
) -> None:
    list(generator.generate(Prompt(LONG_TEXT), [1], 1.0))
    told = [record.message for record in caplog.records if record.name == "rerank"]
    assert told[0].startswith("stable-audio-tools reads no more of the text: its last 154 characters are left out")
