"""MusicGen: what we compute is what transformers computes, and a candidate depends on its seed alone.

The models are small, with random weights, saved as the published ones are and loaded in the same way.
"""

import dataclasses
import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import stats
from torch import Tensor
from transformers import (
    AutoTokenizer,
    LogitsProcessorList,
    MusicgenForConditionalGeneration,
    MusicgenMelodyForConditionalGeneration,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
)
from transformers.modeling_outputs import BaseModelOutput

import rerank
from rerank.audio import Audio
from rerank.data import Candidate, Prompt
from rerank.errors import InvalidInput, UnknownName, WeightsError
from rerank.eval.speed.random_musicgen import TINY, save_random_musicgen
from rerank.generators.musicgen import MusicGen
from rerank.generators.musicgen.codec import _GROUP, Codec
from rerank.generators.musicgen.engine import BUCKET, Engine, _State
from rerank.generators.musicgen.melody import melody_of, no_melody
from rerank.generators.musicgen.pattern import TO_DRAW, codes_of, columns_of, delays
from rerank.generators.musicgen.sampling import draw, guide, keep_top, numbers_of
from rerank.protocols import Progress
from rerank.testing import check_generator

KINDS = {
    "mono": TINY,
    "stereo": dataclasses.replace(TINY, channels=2),
    "melody": dataclasses.replace(TINY, melody=True),
}
TEXT = "slow warm piano with vinyl crackle"

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_random_musicgen(tmp_path_factory.mktemp(kind), sizes) for kind, sizes in KINDS.items()}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, MusicGen]:
    return {kind: MusicGen(path=folder, device="cpu", dtype="float32") for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def originals(folders: dict[str, Path]) -> dict[str, Any]:
    classes: dict[str, Any] = {"melody": MusicgenMelodyForConditionalGeneration}
    return {
        kind: classes.get(kind, MusicgenForConditionalGeneration).from_pretrained(folder).eval()
        for kind, folder in folders.items()
    }


def _tone(frequency: float, seconds: float = 3.0) -> Audio:
    time = np.arange(int(seconds * 32_000)) / 32_000
    return Audio((0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)[None], 32_000)


def _prompt(kind: str) -> Prompt:
    return Prompt(TEXT, reference=_tone(330.0) if kind == "melody" else None)


def _made(generator: MusicGen, seeds: Sequence[int], duration: float = 1.0, prompt: Prompt | None = None) -> list[Any]:
    return list(generator.generate(prompt or Prompt(TEXT), seeds, duration))


def _codes(candidates: Sequence[Candidate]) -> Any:
    codes = [candidate.codes for candidate in candidates]
    assert all(one is not None for one in codes)
    return np.stack(codes)  # type: ignore[arg-type]


def _inputs(folder: Path, kind: str) -> dict[str, Tensor]:
    """Return what the original is given for the prompt of a kind."""
    tokens = AutoTokenizer.from_pretrained(folder)([TEXT], return_tensors="pt")
    inputs = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
    if kind == "melody":
        inputs["input_features"] = melody_of(_tone(330.0), 32_000, 12)[None]
    return inputs


def _original_codes(model: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Tensor:
    """Return the codes that the original's `generate` decodes, `[codebooks, frames]`."""
    seen: list[Tensor] = []
    decode = model.audio_encoder.decode

    def keep(codes: Tensor, **more: Any) -> Any:
        seen.append(codes[0, 0])
        return decode(codes, **more)

    with monkeypatch.context() as patch:
        patch.setattr(model.audio_encoder, "decode", keep)
        model.generate(do_sample=False, **options)
    return torch.stack(seen, dim=1).flatten(0, 1)


# The pattern


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("known", [0, 7])
def test_columns_are_those_of_the_original(originals: dict[str, Any], channels: int, known: int) -> None:
    codebooks, frames = 4 * channels, 20
    codes = torch.arange(codebooks * known).reshape(codebooks, known) % 100
    original = originals["mono" if channels == 1 else "stereo"].decoder
    begin = torch.cat([torch.full((codebooks, 1), 128), codes], dim=1)
    _, mask = original.build_delay_pattern_mask(begin, pad_token_id=128, max_length=1 + frames + 3)
    delay = delays(codebooks, channels)
    columns = columns_of(codes, frames, delay, special=128)
    assert torch.equal(columns, mask)
    assert torch.equal(codes_of(columns, delay)[:, :known], codes)
    assert (codes_of(columns, delay)[:, known:] == TO_DRAW).all()


# Drawing


def test_numbers_depend_on_the_seed_alone() -> None:
    short, long, other = numbers_of(3, 10, 4), numbers_of(3, 500, 4), numbers_of(4, 500, 4)
    assert torch.equal(short, long[:10])
    assert not torch.equal(long, other)
    assert 0 <= long.min() and long.max() < 1
    assert stats.kstest(long.flatten().numpy(), "uniform").pvalue > 0.01
    # recorded: takes that were made once can be made again
    assert numbers_of(0, 1, 2).flatten().tolist() == pytest.approx(
        [0.011546754286331562, 0.24154919656271812], abs=1e-12
    )


def test_guidance() -> None:
    mine, other = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 4.0])
    assert guide(mine, other, 3.0).tolist() == [2.0, -2.0]
    assert guide(mine, other, 1.0).tolist() == mine.tolist()


@pytest.mark.parametrize("top_k", [1, 5, 250, 0])
def test_top_k_is_that_of_transformers(top_k: int) -> None:
    logits = torch.randn(6, 2048, generator=torch.Generator().manual_seed(0)).round(decimals=1)  # with ties
    expected = TopKLogitsWarper(top_k)(None, logits) if top_k else logits
    assert torch.equal(keep_top(logits, top_k), expected)


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 250), (0.7, 10), (1.3, 0)])
def test_draws_are_as_frequent_as_those_of_transformers(temperature: float, top_k: int) -> None:
    random = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(1, 300, generator=random)
    warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    likely = warpers(torch.zeros(1, 1, dtype=torch.long), logits).softmax(-1)  # type: ignore[arg-type]
    theirs = torch.multinomial(likely[0], 200_000, replacement=True, generator=random)
    numbers = numbers_of(5, 200_000, 1)[:, 0]
    ours = draw(logits.expand(len(numbers), -1), numbers, temperature, top_k)
    counts = np.stack([torch.bincount(drawn, minlength=300).numpy() for drawn in (ours, theirs)])
    assert counts[:, (likely[0] == 0).numpy()].sum() == 0
    often = counts.sum(0) >= 20
    assert often.sum() >= min(top_k or 100, 10)
    assert stats.chi2_contingency(counts[:, often]).pvalue > 0.001


def test_draws_at_the_ends() -> None:
    logits = torch.tensor([[-torch.inf, 1.0, 0.0, -torch.inf]])
    assert draw(logits, torch.tensor([0.0]), 1.0, 0).tolist() == [1]
    assert draw(logits, torch.tensor([1 - 2.0**-53], dtype=torch.float64), 1.0, 0).tolist() == [2]
    assert draw(torch.tensor([[0.0, 3.0, 1.0]]), torch.tensor([0.99]), 0, 2).tolist() == [1]


# The engine against the original


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_original(
    kind: str, folders: dict[str, Path], models: dict[str, MusicGen], originals: dict[str, Any]
) -> None:
    codebooks = 4 * KINDS[kind].channels
    columns = torch.randint(0, 128, (codebooks, 30), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = originals[kind](**_inputs(folders[kind], kind), decoder_input_ids=columns).logits
    expected = logits.reshape(codebooks, -1, 128)[:, -30:].transpose(0, 1)
    prompt = _prompt(kind)
    found = models[kind]._engine.logits(models[kind]._checkpoint.side(prompt.text, prompt.reference), columns)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("guidance", [3.0, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_codes_are_those_of_generate(
    kind: str, guidance: float, folders: dict[str, Path], originals: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _original_codes(
        originals[kind],
        monkeypatch,
        guidance_scale=guidance if guidance > 1 else None,
        max_new_tokens=53,
        **_inputs(folders[kind], kind),
    )
    generator = MusicGen(path=folders[kind], device="cpu", dtype="float32", temperature=0, guidance=guidance)
    (candidate,) = _made(generator, [0], prompt=_prompt(kind))
    assert expected.shape == (4 * KINDS[kind].channels, 50)
    assert np.array_equal(candidate.codes, expected.numpy())
    assert len(np.unique(candidate.codes)) > 5


def test_a_negative_prompt_is_the_other_side(
    folders: dict[str, Path], originals: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = originals["mono"], folders["mono"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    both = tokenizer([TEXT, "loud rock drums and"], padding=True, return_tensors="pt")
    assert both.attention_mask[1].sum() < both.attention_mask[0].sum()
    with torch.inference_mode():
        states = model.text_encoder(**both).last_hidden_state
    expected = _original_codes(
        model,
        monkeypatch,
        input_ids=both.input_ids[:1],
        encoder_outputs=BaseModelOutput(last_hidden_state=states),
        attention_mask=both.attention_mask,
        guidance_scale=3.0,
        max_new_tokens=53,
    )
    generator = MusicGen(
        path=folder, device="cpu", dtype="float32", temperature=0, negative_prompt="loud rock drums and"
    )
    (candidate,) = _made(generator, [0])
    assert np.array_equal(candidate.codes, expected.numpy())
    assert not np.array_equal(candidate.codes, _codes(_made(generator_without(folder), [0]))[0])


def generator_without(folder: Path) -> MusicGen:
    return MusicGen(path=folder, device="cpu", dtype="float32", temperature=0)


def test_continuation_is_that_of_generate(
    folders: dict[str, Path], models: dict[str, MusicGen], originals: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (begin,) = _made(models["mono"], [9], 0.4)
    expected = _original_codes(
        originals["mono"],
        monkeypatch,
        decoder_input_ids=torch.from_numpy(begin.codes.astype(np.int64)),
        guidance_scale=3.0,
        max_new_tokens=53 - begin.codes.shape[1],
        **_inputs(folders["mono"], "mono"),
    )
    generator = MusicGen(path=folders["mono"], device="cpu", dtype="float32", temperature=0, start=begin)
    (candidate,) = _made(generator, [0])
    assert np.array_equal(candidate.codes, expected.numpy())
    assert np.array_equal(candidate.codes[:, :20], begin.codes)


def test_steps_over_buckets_are_the_plain_steps(models: dict[str, MusicGen], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is captured on a GPU attends to a whole bucket under a mask; run here as it is, it gives the same tokens."""

    class _Replayed:
        def __init__(self, state: _State, length: int) -> None:
            self.state, self.length = state, length
            lengths.append(length)

        def replay(self) -> None:
            generator._engine._step(self.state, self.length)

    lengths: list[int] = []
    generator = models["mono"]
    plain = _codes(_made(generator, [1, 2], 4.0))
    monkeypatch.setattr(generator._engine, "captures", True)
    monkeypatch.setattr(generator._engine, "bucket", BUCKET)
    monkeypatch.setattr(generator._engine, "_capture", _Replayed)
    assert np.array_equal(_codes(_made(generator, [1, 2], 4.0)), plain)
    assert lengths == [BUCKET, 2 * BUCKET]


def test_a_step_that_cannot_be_captured_is_run_plainly(
    models: dict[str, MusicGen], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no capture here")

    generator = models["mono"]
    plain = _codes(_made(generator, [1]))
    monkeypatch.setattr(generator._engine, "captures", True)
    monkeypatch.setattr(generator._engine, "bucket", BUCKET)
    monkeypatch.setattr(Engine, "_capture", refuse)
    with caplog.at_level(logging.WARNING, "rerank"):
        assert np.array_equal(_codes(_made(generator, [1])), plain)
    assert "no capture here" in caplog.text


# The codec


@pytest.mark.parametrize("kind", ["mono", "stereo"])
def test_codec_is_that_of_the_original(kind: str, models: dict[str, MusicGen], originals: dict[str, Any]) -> None:
    codec, channels = models[kind]._codec, KINDS[kind].channels
    codes = torch.randint(0, 128, (3, 4 * channels, 40), generator=torch.Generator().manual_seed(2))
    together = torch.stack([*codec.decode(codes)])
    assert together.shape == (3, channels, 40 * 640)
    for clip, waveform in zip(codes, together, strict=True):
        torch.testing.assert_close(next(codec.decode(clip[None])), waveform, atol=1e-5, rtol=0)
        for channel in range(channels):
            with torch.inference_mode():
                alone = originals[kind].audio_encoder.decode(clip[None, None, channel::channels], [None]).audio_values
            torch.testing.assert_close(alone[0, 0], waveform[channel], atol=1e-5, rtol=0)
    with torch.inference_mode():
        encoded = originals[kind].audio_encoder.encode(together[0][:, None]).audio_codes[0]
    assert torch.equal(codec.encode(together[0]), encoded.transpose(0, 1).flatten(0, 1))


# The generator


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_contract(kind: str, dtype: str, folders: dict[str, Path]) -> None:
    generator = MusicGen(path=folders[kind], device="cpu", dtype=dtype, batch_size=2)
    check_generator(generator, duration=1.0)
    assert generator.info.channels == KINDS[kind].channels
    assert generator.info.conditions == ({"text", "reference"} if kind == "melody" else {"text"})
    assert "CC BY-NC" in generator.info.licence


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_codes_are_the_same_to_the_bit_in_any_batch(folders: dict[str, Path], dtype: str) -> None:
    seeds = list(range(10))
    made = {
        size: _codes(_made(MusicGen(path=folders["mono"], device="cpu", dtype=dtype, batch_size=size), seeds, 2.0))
        for size in (1, 3, 10)
    }
    assert np.array_equal(made[1], made[10]) and np.array_equal(made[3], made[10])
    assert len({codes.tobytes() for codes in made[10]}) == 10
    assert made[10].dtype == np.int16


def test_the_first_frames_of_a_longer_candidate_are_those_of_a_shorter(models: dict[str, MusicGen]) -> None:
    short, long = (_codes(_made(models["mono"], [4], duration))[0] for duration in (1.0, 2.0))
    # at the end of a clip the later codebooks no longer hear what the first ones would go on with
    assert np.array_equal(short[:, :-3], long[:, : short.shape[1] - 3])


def test_durations_are_exact(models: dict[str, MusicGen]) -> None:
    for duration, frames in ((10.0, 500), (1.234, 62)):
        (candidate,) = _made(models["mono"], [0], duration)
        assert candidate.codes.shape == (4, frames)
        assert candidate.audio.waveform.shape == (1, round(duration * 32_000))


def test_the_prompt_has_an_effect(models: dict[str, MusicGen]) -> None:
    one, other = (_codes(_made(models["mono"], [0], prompt=Prompt(text))) for text in (TEXT, "fast happy rock drums"))
    assert not np.array_equal(one, other)


def test_codes_can_be_decoded_again(models: dict[str, MusicGen]) -> None:
    for kind in ("mono", "stereo"):
        (candidate,) = _made(models[kind], [0])
        again = models[kind].decode(candidate.codes)
        np.testing.assert_allclose(again.waveform, candidate.audio.waveform, atol=1e-5)
    for wrong in (np.zeros((3, 5), np.int16), np.full((4, 5), 128, np.int16), np.zeros((4, 0), np.int16)):
        with pytest.raises(InvalidInput, match=r"codes must be whole numbers below 128, \[4, frames\]"):
            models["mono"].decode(wrong)


@pytest.mark.parametrize("kind", ["mono", "stereo"])
def test_candidates_can_go_on_from_audio(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    path = Audio(np.tile(_tone(220.0, 0.5).waveform, (2, 1)), 32_000).save(tmp_path / "clip.wav")
    generator = MusicGen(path=folders[kind], device="cpu", dtype="float32", start=path)
    one, other = _made(generator, [0, 1])
    assert one.audio.duration == 1.0
    assert np.array_equal(one.codes[:, :25], other.codes[:, :25])
    assert not np.array_equal(one.codes, other.codes)
    with pytest.raises(InvalidInput, match=r"the clip to start from has 0.5 s and the candidates 0.5 s"):
        _made(generator, [0], 0.5)


def test_melodies_have_an_effect(models: dict[str, MusicGen]) -> None:
    generator = models["melody"]
    made = [_codes(_made(generator, [0], prompt=Prompt(TEXT, reference=_tone(f)))) for f in (330.0, 370.0)]
    made.append(_codes(_made(generator, [0])))
    assert len({codes.tobytes() for codes in made}) == 3
    without_text = Prompt(reference=_tone(330.0))
    assert not np.array_equal(_codes(_made(generator, [0], prompt=without_text)), made[0])


def test_a_model_that_is_deaf_to_melodies_is_refused(folders: dict[str, Path]) -> None:
    generator = MusicGen(path=folders["melody"], device="cpu", dtype="float32")
    melody_out: Any = generator._checkpoint._melody_out
    melody_out.weight.data.zero_()
    _made(generator, [0])
    with pytest.raises(WeightsError, match="hears no difference between two melodies"):
        _made(generator, [0], prompt=_prompt("melody"))


def test_melody_is_the_strongest_pitch_class(caplog: pytest.LogCaptureFixture) -> None:
    for frequency, pitch_class in ((440.0, 9), (261.63, 0), (740.0, 6)):
        melody = melody_of(_tone(frequency), 32_000, 12)
        assert melody.shape == (1 + 96_000 // 4096, 12)
        assert set(melody[2:-2].argmax(1).tolist()) == {pitch_class}
    assert torch.equal(melody_of(Audio(np.zeros((2, 100), np.float32), 44_100), 32_000, 12)[:1], no_melody(12))
    assert not caplog.records
    assert len(melody_of(_tone(440.0, 40.0), 32_000, 12)) == 1 + 30 * 32_000 // 4096
    assert "only the first 30 s of the reference are heard" in caplog.text


def test_batches_halve_without_changing_a_candidate(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    generator = MusicGen(path=folders["mono"], device="cpu", dtype="float32", batch_size=8)
    expected = _codes(_made(generator, range(5)))
    decode, sizes = Engine.decode, []

    def short_of_memory(self: Engine, sides: Any, columns: Tensor, numbers: Tensor, *rest: Any) -> Tensor:
        sizes.append(len(numbers))
        if len(numbers) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return decode(self, sides, columns, numbers, *rest)

    monkeypatch.setattr(Engine, "decode", short_of_memory)
    reports: list[Progress] = []
    made = list(generator.generate(Prompt(TEXT), range(5), 1.0, on_progress=reports.append))
    assert np.array_equal(_codes(made), expected)
    assert sizes == [5, 2, 2, 1]
    assert "5 candidates at once do not fit the memory: going on with 2" in caplog.text
    assert [report.done for report in reports] == sorted(report.done for report in reports)
    assert reports[-1].done == reports[-1].total


def test_a_failure_costs_one_candidate(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    generator = MusicGen(path=folders["mono"], device="cpu", dtype="float32", batch_size=4)
    expected, decode = _codes(_made(generator, range(8))), Engine.decode
    bad = numbers_of(2, 100, generator._engine.codebooks)

    def fail(self: Engine, sides: Any, columns: Tensor, numbers: Tensor, *rest: Any) -> Tensor:
        if any(torch.equal(one[:50], bad[:50]) for one in numbers):
            raise RuntimeError("no ideas")
        return decode(self, sides, columns, numbers, *rest)

    monkeypatch.setattr(Engine, "decode", fail)
    made = generator.generate(Prompt(TEXT), range(8), 1.0)
    assert np.array_equal(_codes([next(made), next(made)]), expected[:2])
    with pytest.raises(RuntimeError, match="no ideas"):
        next(made)
    assert np.array_equal(_codes(_made(generator, range(3, 8))), expected[3:])


def test_a_clip_that_cannot_be_decoded_leaves_those_before_it(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = MusicGen(path=folders["mono"], device="cpu", dtype="float32", batch_size=4)
    decode, end, made, clips = Engine.decode, Codec._end, [], []

    def count(self: Engine, sides: Any, columns: Tensor, numbers: Tensor, *rest: Any) -> Tensor:
        made.append(len(numbers))
        return decode(self, sides, columns, numbers, *rest)

    def fail_on_the_third(self: Codec, group: Sequence[Tensor]) -> Any:
        clips.append(len(group))
        if len(clips) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return end(self, group)

    monkeypatch.setattr(Engine, "decode", count)
    monkeypatch.setattr(Codec, "_end", fail_on_the_third)
    assert len(_made(generator, range(4))) == 4
    assert made == [4, 2] and len(clips) == 5


def test_groups_of_clips_halve_without_making_the_codes_again(
    models: dict[str, MusicGen], monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, end, sizes = models["stereo"]._codec, Codec._end, []
    codes = torch.randint(0, 128, (3, 8, 40), generator=torch.Generator().manual_seed(2))
    expected = torch.stack([*codec.decode(codes)])

    def short_of_memory(self: Codec, group: Sequence[Tensor]) -> Any:
        sizes.append(len(group))
        if len(group) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return end(self, group)

    monkeypatch.setattr(Codec, "_end", short_of_memory)
    monkeypatch.setitem(_GROUP, "cpu", 5)
    torch.testing.assert_close(torch.stack([*codec.decode(codes)]), expected, atol=1e-5, rtol=0)
    assert sizes == [5, 2, 2, 2]


def test_each_clip_comes_as_soon_as_it_is_decoded(folders: dict[str, Path]) -> None:
    generator = MusicGen(path=folders["mono"], device="cpu", dtype="float32", batch_size=4)
    reports: list[Progress] = []
    made = generator.generate(Prompt(TEXT), range(4), 1.0, on_progress=reports.append)
    next(made)
    assert reports[-1].done < 0.9 * reports[-1].total


def test_what_is_kept_of_a_candidate_is_not_its_batch(folders: dict[str, Path]) -> None:
    candidate = _made(MusicGen(path=folders["mono"], device="cpu", dtype="float32", batch_size=4), range(4))[1]
    assert candidate.audio.waveform.base is None and candidate.codes.base is None


def test_a_stop_keeps_what_is_finished(folders: dict[str, Path]) -> None:
    generator = MusicGen(path=folders["mono"], device="cpu", dtype="float32", batch_size=2)

    def stop(progress: Progress) -> None:
        if progress.done > 0.6 * progress.total:
            raise KeyboardInterrupt

    finished = []
    with pytest.raises(KeyboardInterrupt):
        for candidate in generator.generate(Prompt(TEXT), range(4), 1.0, on_progress=stop):
            finished.append(candidate.seed)
    assert finished == [0, 1]


def test_a_run_end_to_end(folders: dict[str, Path], tmp_path: Path) -> None:
    ranking = rerank.generate(
        TEXT, n=3, duration=1.0, lyrics="la la la", generator=str(folders["mono"]), output=tmp_path / "run"
    )
    assert len(ranking.candidates) == 3
    assert ranking.settings.not_followed == ("lyrics",)
    assert {candidate.licence for candidate in ranking.candidates} == {"CC BY-NC 4.0 (not for commercial use)"}
    assert all(candidate.codes is not None for candidate in ranking.candidates)


def test_options_are_checked(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = folders["mono"]
    for options, message in (
        ({"temperature": -1}, "temperature must be a number from 0"),
        ({"guidance": 0.5}, "guidance must be a number from 1"),
        ({"top_k": -1}, "top_k must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"negative_prompt": 3}, "negative_prompt must be a str, got int"),
        ({"guidance": 1, "negative_prompt": "noise"}, "negative_prompt needs guidance above 1"),
        ({"start": Candidate(index=2, seed=1, audio=None, set_aside="failed")}, "candidate 2 has no audio to start"),
        ({"revision": "main"}, "a folder has none"),
    ):
        with pytest.raises(InvalidInput, match=message):
            MusicGen(path=folder, **{"device": "cpu", **options})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="generator 'musicgen' needs path="):
        rerank.load_generator("musicgen")
    with pytest.raises(UnknownName, match="unknown option of generator 'musicgen-small': 'repository'"):
        rerank.load_generator("musicgen-small", repository="somebody/else")
    with pytest.raises(WeightsError, match=r"there is no file .*config.json; a MusicGen model is a folder"):
        MusicGen(path=tmp_path, device="cpu")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(WeightsError, match="holds a model of type 'bert'"):
        MusicGen(path=tmp_path, device="cpu")


def test_broken_weights_are_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    for file in folders["mono"].iterdir():
        content = file.read_bytes()
        (tmp_path / file.name).write_bytes(content[:2000] if file.suffix == ".safetensors" else content)
    with pytest.raises(WeightsError, match="cannot read the MusicGen model in") as caught:
        MusicGen(path=tmp_path, device="cpu")
    assert "\n" not in str(caught.value)


def test_missing_weights_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["mono"], tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    del weights["decoder.model.decoder.layers.1.fc1.weight"]
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"are missing or do not fit it: decoder.model.decoder.layers.1.fc1.weight"):
        MusicGen(path=tmp_path / "model", device="cpu")


def test_precision(folders: dict[str, Path]) -> None:
    """bfloat16 is near float32: it moves no logit by more than a small part of their spread."""
    columns = torch.randint(0, 128, (4, 40), generator=torch.Generator().manual_seed(0))
    logits = {}
    for dtype in ("float32", "bfloat16"):
        generator = MusicGen(path=folders["mono"], device="cpu", dtype=dtype)
        logits[dtype] = generator._engine.logits(generator._checkpoint.side(TEXT), columns)
    error = (logits["bfloat16"] - logits["float32"]).abs().max()
    assert 0 < error < 0.05 * logits["float32"].std()


def test_batches_of_a_given_size_are_filled_up_on_a_gpu(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = MusicGen(path=folders["mono"], device="cpu", dtype="float32", batch_size=4)
    decode, sizes = Engine.decode, []

    def counted(self: Engine, sides: Any, columns: Tensor, numbers: Tensor, *rest: Any) -> Tensor:
        sizes.append(len(numbers))
        return decode(self, sides, columns, numbers, *rest)

    monkeypatch.setattr(Engine, "decode", counted)
    expected = _codes(_made(generator, range(6)))
    assert sizes == [4, 2]
    monkeypatch.setattr(generator, "_device", torch.device("cuda"))
    assert np.array_equal(_codes(_made(generator, range(6))), expected)
    assert sizes == [4, 2, 4, 4]


def test_a_batch_leaves_memory_for_decoding(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    generator = MusicGen(path=folders["mono"], device="cpu", dtype="float32")
    columns, sides = 103, generator._sides(Prompt(TEXT))
    tables = generator._engine.bytes_per_candidate(columns, len(sides))
    decoding = generator._codec.bytes_to_decode(columns)
    assert decoding == 103 * generator._codec.hop * 1000
    for free, fitting in ((0, 1), (decoding + 3 * tables, 3), (decoding + 1000 * tables, 16)):
        monkeypatch.setattr("rerank.generators.musicgen._free_memory", lambda _, free=free: 2 * free)
        assert generator._fitting(columns, sides) == fitting


def test_says_its_weights_and_its_options(folders: dict[str, Path], models: dict[str, MusicGen]) -> None:
    plain = models["mono"].info
    assert len(plain.version) == 12 and plain.version != models["stereo"].info.version
    assert plain.options == {
        "temperature": 1.0,
        "top_k": 250,
        "guidance": 3.0,
        "negative_prompt": None,
        "start": None,
        "dtype": "float32",
    }
    [clip] = models["mono"].generate(Prompt(TEXT), [1], 1.0)
    other = MusicGen(path=folders["mono"], device="cpu", dtype="bfloat16", start=clip, negative_prompt="noise").info
    assert other.version == plain.version
    assert (other.options["dtype"], other.options["negative_prompt"]) == ("bfloat16", "noise")
    assert re.fullmatch("sha256:[0-9a-f]{64}", other.options["start"])
