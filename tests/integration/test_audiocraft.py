"""`Audiocraft` on the real library, with the random weights that it brings for tests."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy  # type: ignore[import-not-found]  # comes with audiocraft, which types do not need
import torch
from audiocraft.models import AudioGen, MusicGen, builders  # type: ignore[import-not-found]
from audiocraft.modules import conditioners  # type: ignore[import-not-found]

import rerank
from rerank.data import Candidate
from rerank.errors import RerankError
from rerank.generators import Audiocraft
from rerank.protocols import Progress
from rerank.testing import check_generator

TEXT = "slow sad piano in a minor key"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A MusicGen of a few thousand weights; its text conditioner loads a spaCy pipeline, here an empty one."""
    folder = tmp_path_factory.mktemp("spacy")
    spacy.blank("en").to_disk(folder / "en_core_web_sm")
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield _debug_model()


def _debug_model() -> Any:
    made = MusicGen.get_pretrained("debug", device="cpu")
    # an empty pipeline knows no lemmas, and all words would be the same to the model
    made.lm.condition_provider.conditioners["description"].tokenizer.lemma = False
    return made


@pytest.fixture
def melody_model(model: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same with melody conditioning: chroma of what a small Demucs, of random weights too, separates."""
    from demucs import pretrained  # type: ignore[import-not-found]
    from demucs.htdemucs import HTDemucs  # type: ignore[import-not-found]

    def small(name: str) -> Any:
        stems = ["drums", "bass", "other", "vocals"]
        return HTDemucs(stems, channels=8, depth=4, t_layers=1, t_heads=2, samplerate=44_100, segment=2).eval()

    monkeypatch.setattr(pretrained, "get_model", small)
    melody = _debug_model()
    listener = conditioners.ChromaStemConditioner(
        16, sample_rate=32_000, n_chroma=12, radix2_exp=12, duration=4, match_len_on_eval=True, device="cpu"
    )
    text = melody.lm.condition_provider.conditioners["description"]
    melody.lm.condition_provider = conditioners.ConditioningProvider({"description": text, "self_wav": listener})
    melody.lm.fuser = conditioners.ConditionFuser(
        {"cross": [], "prepend": ["self_wav", "description"], "sum": [], "input_interpolate": []}
    )
    for layer in melody.lm.transformer.layers:
        layer.cross_attention = None
    melody.lm.eval()
    return melody


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_keeps_the_promises_of_a_generator(model: Any, batch_size: int) -> None:
    check_generator(Audiocraft(model, batch_size=batch_size))


@pytest.mark.parametrize("batch_size", [1, 2])
def test_with_a_melody_too(melody_model: Any, batch_size: int) -> None:
    generator = Audiocraft(melody_model, batch_size=batch_size)
    assert generator.info.conditions == {"text", "reference"}
    check_generator(generator)


def test_a_melody_changes_the_music(melody_model: Any) -> None:
    generator = Audiocraft(melody_model)
    time = np.arange(3 * 44_100) / 44_100
    made = []
    for frequency in (220.0, 330.0, None):
        tone = None if frequency is None else (np.sin(2 * np.pi * frequency * time).astype(np.float32), 44_100)
        made.append(codes(next(generator.generate(rerank.Prompt(TEXT, reference=tone), [3], 2.0))))
    assert not np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])
    surround = (np.tile(np.sin(2 * np.pi * 220.0 * time).astype(np.float32), (6, 1)), 44_100)
    again = codes(next(generator.generate(rerank.Prompt(TEXT, reference=surround), [3], 2.0)))
    np.testing.assert_array_equal(again, made[0])


def test_every_candidate_hears_the_same_of_a_melody(melody_model: Any) -> None:
    """Demucs listens from a random moment on."""
    heard = []
    listener = melody_model.lm.condition_provider.conditioners["self_wav"]
    listener.register_forward_hook(lambda module, inputs, made: heard.append(made[0].clone()))
    noise = np.random.default_rng(0).standard_normal((1, 2 * 44_100)).astype(np.float32) * 0.1
    for state in (1, 2):
        random.seed(state)
        list(Audiocraft(melody_model).generate(rerank.Prompt(TEXT, reference=(noise, 44_100)), [state], 1.0))
    assert len(heard) == 2 and torch.equal(heard[0], heard[1])


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("parameters", [{}, {"top_k": 0}, {"top_k": 0, "top_p": 0.9}, {"two_step_cfg": True}])
def test_a_candidate_is_what_the_library_makes_of_its_seed(
    model: Any, batch_size: int, parameters: dict[str, Any]
) -> None:
    model.set_generation_params(duration=1.52, **parameters)
    torch.manual_seed(7)
    expected, expected_codes = model.generate([TEXT], return_tokens=True)
    generator = Audiocraft(model, batch_size=batch_size)
    candidate = list(generator.generate(rerank.Prompt(TEXT), [4, 5, 6, 7], 1.52))[3]
    kept = codes(candidate)
    assert kept.dtype == np.int16 and kept.shape == (4, 38)  # 25 frames a second
    np.testing.assert_array_equal(kept, expected_codes[0].numpy())
    assert candidate.audio is not None and candidate.audio.sample_rate == 32_000
    np.testing.assert_allclose(candidate.audio.waveform, expected[0].detach().numpy(), atol=1e-6)


@pytest.mark.parametrize(("duration", "frames"), [(2.3, 58), (1.234, 31), (1.2, 30)])
def test_a_duration_is_held_by_whole_frames(model: Any, duration: float, frames: int) -> None:
    (made,) = Audiocraft(model).generate(rerank.Prompt(TEXT), [1], duration)
    assert codes(made).shape == (4, frames)  # 25 a second
    assert made.audio is not None and made.audio.waveform.shape[1] == round(duration * 32_000)


def test_the_model_is_left_as_it_was(model: Any) -> None:
    model.set_generation_params(duration=3.5, top_k=17, temperature=0.8)
    parameters, reports = dict(model.generation_params), []

    def callback(done: int, total: int) -> None:
        reports.append(done)

    model.set_custom_progress_callback(callback)
    torch.manual_seed(11)
    random.seed(11)
    before = torch.get_rng_state(), random.getstate()
    list(Audiocraft(model).generate(rerank.Prompt(TEXT), [1], 1.0))
    assert model.duration == 3.5 and model.generation_params == parameters and model._progress_callback is callback
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    assert not reports and not model.lm._forward_hooks and not model.lm._forward_pre_hooks
    model.set_custom_progress_callback(None)


def test_stops_at_once_when_the_callback_raises(model: Any) -> None:
    model.set_generation_params(duration=3.5)
    plain = codes(next(Audiocraft(model).generate(rerank.Prompt(TEXT), [1], 2.0)))
    reports: list[Progress] = []

    def stop(progress: Progress) -> None:
        reports.append(progress)
        if len(reports) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Audiocraft(model).generate(rerank.Prompt(TEXT), [1, 2], 2.0, on_progress=stop))
    assert len(reports) == 5 and 0 < reports[-1].done < reports[-1].total / 5
    assert model.duration == 3.5 and model._progress_callback is None
    np.testing.assert_array_equal(plain, codes(next(Audiocraft(model).generate(rerank.Prompt(TEXT), [1], 2.0))))


def test_longer_than_the_window_of_the_model(model: Any) -> None:
    model.set_generation_params(duration=3.5, extend_stride=18)
    reports: list[Progress] = []
    generator = Audiocraft(model, max_duration=60, batch_size=2)
    together = list(generator.generate(rerank.Prompt(TEXT), [1, 2], 32.0, on_progress=reports.append))
    audio = together[0].audio
    assert audio is not None and audio.duration == pytest.approx(32.0, abs=0.1)
    shares = [report.done / report.total for report in reports]
    assert shares == sorted(shares) and shares[-1] == 1
    alone = next(generator.generate(rerank.Prompt(TEXT), [2], 32.0))
    np.testing.assert_array_equal(codes(together[1]), codes(alone))


def test_a_run(model: Any, tmp_path: Path) -> None:
    model.set_generation_params(duration=3.5)
    audiogen = AudioGen("debug", builders.get_debug_compression_model("cpu", 16_000), model.lm, max_duration=10)
    # random weights make noise that the filters need not like: here it is about the way through
    for made_by, sample_rate in ((model, 32_000), (audiogen, 16_000)):
        ranking = rerank.generate(
            TEXT,
            n=3,
            duration=2.0,
            generator=Audiocraft(made_by, licence="mine"),
            reward="cmi-mini",
            filters=rerank.Filters.off(),
        )
        assert len(ranking) == 3 and ranking.settings.generator == "audiocraft/debug"
        assert ranking.best.licence == "mine" and ranking.best.codes is not None
        assert ranking.best.audio is not None and ranking.best.audio.sample_rate == sample_rate


def test_refuses_a_model_that_does_not_sample(model: Any) -> None:
    model.set_generation_params(use_sampling=False)
    with pytest.raises(RerankError, match="use_sampling=True"):
        list(Audiocraft(model).generate(rerank.Prompt(TEXT), [1], 1.0))


def codes(candidate: Candidate) -> Any:
    """Return the codes of a candidate, which it must have."""
    assert candidate.codes is not None
    return candidate.codes
