"""`StableAudioTools`: one library call for each candidate, and nothing of the process is changed by it.

The library is a stand-in that has the habits of the real one: it seeds the process, sets flags, prints, draws a bar, and
always makes its whole length. `tests/integration` has the real one.
"""

import sys
import types
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rerank.data import Prompt
from rerank.errors import InvalidInput, MissingDependency, UnknownName
from rerank.generators import StableAudioTools
from rerank.protocols import Progress
from rerank.testing import check_generator

RATE, SIZE = 8000, 24_000
PROMPT = Prompt("slow sad piano")

Calls = list[dict[str, Any]]


class Reader:
    """A text conditioner; its tokens are words, and one more says that the text ends."""

    max_length = 5
    is_fast = True

    @property
    def tokenizer(self) -> "Reader":
        return self

    def __call__(self, text: str, **options: object) -> dict[str, list[tuple[int, int]]]:
        places, end = [], 0
        for word in text.split():
            start = text.index(word, end)
            end = start + len(word)
            places.append((start, end))
        return {"offset_mapping": [*places, (0, 0)]}


class Conditioner:
    def __init__(self) -> None:
        self.conditioners = {"prompt": Reader()}
        self.told: list[dict[str, Any]] = []

    def __call__(self, told: list[dict[str, Any]], device: torch.device) -> dict[str, Any]:
        print("conditioning")
        torch.manual_seed(99)
        self.told += told
        return {name: torch.tensor([zlib.crc32(str(value).encode()) % 1000]) for name, value in told[0].items()}


class Model(torch.nn.Module):
    diffusion_objective = "rf_denoiser"
    io_channels = 8
    pretransform = types.SimpleNamespace(io_channels=2)

    def __init__(self, weight: float = 0.0) -> None:
        super().__init__()
        self.conditioner = Conditioner()
        self.weight = torch.nn.Parameter(torch.tensor(weight))


def config(*more: str) -> dict[str, Any]:
    names = ["prompt", "seconds_total", *more]
    conditions = {"configs": [{"id": name} for name in names]}
    return {
        "model_type": "diffusion_cond",
        "sample_rate": RATE,
        "sample_size": SIZE,
        "model": {"conditioning": conditions},
    }


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Install the stand-in; what it was called with is kept."""
    kept: Calls = []

    def generate_diffusion_cond(
        model: Model,
        *,
        conditioning_tensors: dict[str, Tensor],
        batch_size: int,
        sample_size: int,
        seed: int,
        device: torch.device,
        callback: Callable[[dict[str, Any]], None],
        steps: int,
        loudness: float = 0.2,
        **options: Any,
    ) -> Tensor:
        kept.append({**options, "steps": steps, "batch_size": batch_size, "seed": seed})
        print(seed)
        torch.manual_seed(seed)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        for step in range(steps):
            print(f"{step}/{steps}", file=sys.stderr)
            callback({"i": step})
        place = float(sum(conditioning_tensors.values())) / 10_000
        noise = torch.randn(batch_size, 2, sample_size).clamp(-2, 2) / 2
        return loudness * (noise * (1 - place) + place)

    names = ["stable_audio_tools", "stable_audio_tools.inference", "stable_audio_tools.inference.generation"]
    modules = [types.ModuleType(name) for name in names]
    modules[-1].generate_diffusion_cond = generate_diffusion_cond  # type: ignore[attr-defined]
    for name, module in zip(names, modules, strict=True):
        monkeypatch.setitem(sys.modules, name, module)
    return kept


def test_it_keeps_the_promises_of_a_generator(calls: Calls) -> None:
    check_generator(StableAudioTools(Model(), config()), tolerance=0.0)
    assert {call["batch_size"] for call in calls} == {1}


def test_a_candidate_is_the_call_of_the_library_with_its_seed_cut_to_the_duration(calls: Calls) -> None:
    model = Model()
    generator = StableAudioTools(model, config("seconds_start"), name="mine", licence="MIT")
    made = list(generator.generate(PROMPT, [3, 2**62], 1.5))
    assert [call["seed"] for call in calls] == [3, 2**62]
    assert calls[0] == {"steps": 8, "cfg_scale": 1.0, "sampler_type": "pingpong", "batch_size": 1, "seed": 3}
    assert model.conditioner.told == [{"prompt": "slow sad piano", "seconds_total": 1.5, "seconds_start": 0}]
    assert [candidate.index for candidate in made] == [0, 1]
    assert made[0].audio is not None and made[0].audio.waveform.shape == (2, 12_000)
    assert (generator.info.name, made[0].licence, generator.info.max_duration) == ("mine", "MIT", 3.0)


@pytest.fixture
def flags() -> Iterator[Callable[[], list[bool]]]:
    """Set all flags that the library takes away, and return what tells them."""
    # monkeypatch cannot put these back
    places = [
        (torch.backends.cudnn, "benchmark"),
        (torch.backends.cudnn, "allow_tf32"),
        (torch.backends.cuda.matmul, "allow_tf32"),
        (torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction"),
    ]

    def tell() -> list[bool]:
        return [getattr(place, name) for place, name in places]

    before = tell()
    for place, name in places:
        setattr(place, name, True)
    yield tell
    for (place, name), value in zip(places, before, strict=True):
        setattr(place, name, value)


def test_nothing_of_the_process_is_changed(
    calls: Calls, flags: Callable[[], list[bool]], capfd: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    list(StableAudioTools(Model(), config()).generate(PROMPT, [1, 2], 1.0, on_progress=lambda report: print("heard")))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(flags())
    said = capfd.readouterr()
    assert set(said.out.split()) == {"heard"} and said.err == ""


def test_progress_goes_up_to_all(calls: Calls) -> None:
    reports: list[Progress] = []
    list(StableAudioTools(Model(), config(), steps=3).generate(PROMPT, [1, 2], 1.0, on_progress=reports.append))
    assert len(reports) == 2 * 4
    assert [report.done for report in reports] == sorted({report.done for report in reports})
    assert reports[-1].done == reports[-1].total


def test_it_can_be_stopped_and_then_changes_nothing_either(calls: Calls) -> None:
    def stop(report: Progress) -> None:
        raise KeyboardInterrupt

    state, stdout = torch.random.get_rng_state(), sys.stdout
    with pytest.raises(KeyboardInterrupt):
        list(StableAudioTools(Model(), config()).generate(PROMPT, [1], 1.0, on_progress=stop))
    assert torch.equal(torch.random.get_rng_state(), state) and sys.stdout is stdout


def test_what_goes_beyond_full_scale_is_scaled_down(calls: Calls) -> None:
    for loudness, peak in ((0.5, 0.5), (4.0, 1.0)):
        [made] = StableAudioTools(Model(), config(), loudness=loudness).generate(PROMPT, [1], 1.0)
        assert made.audio is not None
        assert np.abs(made.audio.waveform).max() == pytest.approx(peak, abs=1e-6)


def test_a_warning_says_what_the_library_leaves_out(calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    generator = StableAudioTools(Model(), config())
    list(generator.generate(Prompt("one two three four"), [1], 1.0))
    assert not caplog.records
    list(generator.generate(Prompt("one two three four five six"), [1], 1.0))
    assert caplog.messages == [
        "stable-audio-tools reads no more of the text: its last 8 characters are left out, 'five six'"
    ]


@pytest.mark.parametrize(
    ("objective", "steps", "sampler"),
    [("rf_denoiser", 8, "pingpong"), ("rectified_flow", 50, "euler"), ("v", 100, "dpmpp-3m-sde")],
)
def test_options_left_out_fit_what_the_model_was_trained_for(
    calls: Calls, objective: str, steps: int, sampler: str
) -> None:
    model = Model()
    model.diffusion_objective = objective
    list(StableAudioTools(model, config(), cfg_scale=3.0).generate(PROMPT, [1], 1.0))
    assert (calls[0]["steps"], calls[0]["sampler_type"], calls[0]["cfg_scale"]) == (steps, sampler, 3.0)


def test_a_duration_that_is_an_index_is_whole(calls: Calls) -> None:
    model, found = Model(), config()
    found["model"]["conditioning"]["configs"][1]["type"] = "int"
    list(StableAudioTools(model, found).generate(PROMPT, [1], 1.5))
    told = model.conditioner.told[0]["seconds_total"]
    assert told == 2 and isinstance(told, int)


def test_further_conditions_are_given_values(calls: Calls) -> None:
    with pytest.raises(InvalidInput, match=r"needs the condition 'tempo'; give it a value: conditioning=\{'tempo'"):
        StableAudioTools(Model(), config("tempo"))
    with pytest.raises(UnknownName, match="unknown condition 'tempi'; did you mean 'tempo'"):
        StableAudioTools(Model(), config("tempo"), conditioning={"tempi": 120, "tempo": 120})
    model = Model()
    list(StableAudioTools(model, config("tempo"), conditioning={"tempo": 120}).generate(PROMPT, [1], 1.0))
    assert model.conditioner.told[0]["tempo"] == 120


def test_other_models_and_options_are_refused(calls: Calls) -> None:
    with pytest.raises(InvalidInput, match="got Model and 'autoencoder'"):
        StableAudioTools(Model(), {**config(), "model_type": "autoencoder"})
    with pytest.raises(InvalidInput, match="got str and"):
        StableAudioTools("model", config())
    with pytest.raises(InvalidInput, match="got Model and 'str'"):
        StableAudioTools(Model(), "model_config.json")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="takes no prompt, only: seconds_total"):
        found = config()
        found["model"]["conditioning"]["configs"].pop(0)
        StableAudioTools(Model(), found)
    with pytest.raises(InvalidInput, match="steps"):
        StableAudioTools(Model(), config(), steps=0)
    with pytest.raises(UnknownName, match="unknown sampler_type 'pingpon'; did you mean 'pingpong'"):
        StableAudioTools(Model(), config(), sampler_type="pingpon")
    with pytest.raises(InvalidInput, match="'init_audio' is no option"):
        StableAudioTools(Model(), config(), init_audio=None)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stable_audio_tools", None)
    with pytest.raises(MissingDependency, match="pip install --no-deps stable-audio-tools"):
        StableAudioTools(Model(), config())


def test_says_its_weights_and_its_options(calls: Calls) -> None:
    info = StableAudioTools(Model(), config("mood"), conditioning={"mood": 3}, steps=4, loudness=0.1).info
    assert info.options == {
        "steps": 4,
        "cfg_scale": 1.0,
        "sampler_type": "pingpong",
        "loudness": 0.1,
        "conditioning": {"mood": 3},
    }
    assert info.version == StableAudioTools(Model(), config()).info.version
    assert info.version != StableAudioTools(Model(weight=1.0), config()).info.version
