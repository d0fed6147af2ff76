"""Generators that others bring: any function through `wrap`, and models of audiocraft, here one made of a few lines."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import rerank
from rerank.data import Candidate, Prompt
from rerank.errors import InvalidInput, RerankError
from rerank.generators import Audiocraft
from rerank.protocols import Condition, Generator, Progress
from rerank.testing import check_generator
from tests.conftest import ROOT, SAMPLE_RATE, ToyReward, notes

PROMPT = Prompt("slow sad piano")


def words(*parts: object) -> list[int]:
    return list("\n".join(map(str, parts)).encode())


def play(prompt: str, seed: int, duration: float) -> Any:
    return notes(np.random.default_rng([seed, *words(prompt)]), duration).waveform


def returning(made: Any, **options: Any) -> Candidate:
    """Return what becomes of a function that returns this."""
    generator = rerank.wrap(lambda prompt, seed, duration: made, sample_rate=SAMPLE_RATE, name="mine", **options)
    return next(generator.generate(PROMPT, [3], 1.0))


# wrap: what the function is given


@pytest.mark.parametrize("conditions", [["text"], ["lyrics"], ["text", "reference"], ["text", "lyrics", "reference"]])
def test_a_function_keeps_the_promises_of_a_generator(conditions: list[Condition]) -> None:
    def follow(prompt: str, seed: int, duration: float, **parts: Any) -> Any:
        assert set(parts) == set(conditions) - {"text"} and type(seed) is int and type(duration) is float
        heard = parts.get("reference")
        level = None if heard is None else heard.waveform.mean()
        return play(f"{prompt} {parts.get('lyrics')} {level}", seed, duration)

    check_generator(rerank.wrap(follow, sample_rate=SAMPLE_RATE, channels=2, conditions=conditions))


@pytest.mark.parametrize("form", [list, tuple, np.stack, lambda made: torch.from_numpy(np.stack(made))])
def test_a_function_of_several_seeds_too(form: Callable[[list[Any]], Any]) -> None:
    sizes = []

    def play_all(prompt: str, seeds: list[int], duration: float) -> Any:
        sizes.append(len(seeds))
        return form([play(prompt, seed, duration) for seed in seeds])

    check_generator(rerank.wrap(play_all, sample_rate=SAMPLE_RATE, channels=2, batch_size=2))
    assert sizes[:2] == [2, 1]


def test_a_batch_that_does_not_fit_the_memory_comes_in_halves() -> None:
    def at_most_two(prompt: str, seeds: list[int], duration: float) -> Any:
        if len(seeds) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return np.stack([play(prompt, seed, duration) for seed in seeds])

    generator = rerank.wrap(at_most_two, sample_rate=SAMPLE_RATE, channels=2, batch_size=8)
    reports: list[Progress] = []
    made = list(generator.generate(PROMPT, range(8), 1.0, on_progress=reports.append))
    assert [candidate.seed for candidate in made] == list(range(8))
    assert reports[-1].done == reports[-1].total


def test_anything_that_can_be_called_is_a_function() -> None:
    class Player:
        def __call__(self, prompt: str, seed: int, duration: float) -> Any:
            return play(prompt, seed, duration)

    for function in (Player(), Player().__call__):
        (made,) = rerank.wrap(function, sample_rate=SAMPLE_RATE, channels=2).generate(PROMPT, [1], 1.0)
        assert made.audio is not None
        np.testing.assert_array_equal(made.audio.waveform, play(PROMPT.text, 1, 1.0))
    assert rerank.wrap(Player(), sample_rate=SAMPLE_RATE).info.name == "Player"
    assert rerank.wrap(play, sample_rate=SAMPLE_RATE).info.name == "play"
    info = rerank.wrap(play, sample_rate=SAMPLE_RATE, version="of May", batch_size=4).info
    assert (info.version, info.options) == ("of May", {"batch_size": 4})


def test_a_run_names_the_generator_and_its_licence() -> None:
    generator = rerank.wrap(play, sample_rate=SAMPLE_RATE, channels=2, name="mine", licence="MIT", max_duration=3)
    ranking = rerank.generate("piano", n=3, duration=2.0, generator=generator, reward="cmi-mini")
    assert ranking.settings.generator == "mine" and {candidate.licence for candidate in ranking} == {"MIT"}
    with pytest.raises(InvalidInput, match="3"):
        rerank.generate("piano", n=3, duration=4.0, generator=generator, reward="cmi-mini")


def test_a_function_that_fails_costs_one_candidate() -> None:
    def fails_on_one(prompt: str, seed: int, duration: float) -> Any:
        if seed == 1:
            raise RuntimeError("no ideas")
        return play(prompt, seed, duration)

    generator = rerank.wrap(fails_on_one, sample_rate=SAMPLE_RATE, channels=2)
    ranking = rerank.generate("piano", n=3, duration=1.0, generator=generator, reward="cmi-mini")
    assert len(ranking) == 2 and ranking.set_aside[0].set_aside == "generation failed: RuntimeError: no ideas"


# wrap: what the function returns

TONE = np.sin(np.arange(SAMPLE_RATE)).astype(np.float32) / 2


@pytest.mark.parametrize(
    "made",
    [
        TONE,
        TONE[None],
        TONE.astype(np.float64),
        torch.from_numpy(TONE),
        torch.from_numpy(TONE)[None].requires_grad_(),
        TONE[::-1].copy()[::-1],
    ],
)
def test_floats_of_any_kind_are_taken_as_they_are(made: Any) -> None:
    audio = returning(made).audio
    assert audio is not None and audio.waveform.dtype == np.float32 and audio.sample_rate == SAMPLE_RATE
    np.testing.assert_array_equal(audio.waveform, TONE[None])


def test_half_precision_too() -> None:
    for made in (TONE.astype(np.float16), torch.from_numpy(TONE).bfloat16()):
        audio = returning(made).audio
        assert audio is not None
        np.testing.assert_allclose(audio.waveform, TONE[None], atol=4e-3)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ((TONE * 32767).astype(np.int16), r"got int16; pass waveform.astype\('float32'\) / 32768"),
        (torch.zeros(1, 9, dtype=torch.int32), "got int32"),
        (TONE * 32767, "up to 16383 where full scale is 1; divide by 32768"),
        (TONE > 0, "got bool"),
        (TONE.astype(np.complex64), "got complex64"),
        (np.where(TONE > 0.4, np.nan, TONE), "not finite"),
        (TONE.astype(np.float64) * 1e300, "not finite"),
        (TONE[:, None], r"shape \(16000, 1\), which looks like \[time, channels\]; return waveform.T"),
        (np.stack([TONE, TONE], 1), r"\[time, channels\]; return waveform.T"),
        (np.stack([TONE, TONE]), r"2 channels where wrap was told channels=1; .* pass channels=2"),
        (TONE[None, None], r"shape \(1, 1, 16000\), expected \[channels, time\]; return waveform\[0\]$"),
        (np.stack([TONE[None]] * 3), "return one waveform, or pass batch_size to wrap"),
        (np.float32(0.5), r"shape \(\), expected"),
        (TONE[:0], r"shape \(0,\), which is no audio"),
        (np.zeros((1, 0), np.float32), "which is no audio"),
        (None, "a NoneType; return the waveform alone"),
        ((TONE, SAMPLE_RATE), "a tuple; return the waveform alone"),
        ([0.0, 0.5], "a list; return"),
    ],
)
def test_what_is_no_audio_is_told_in_one_line(made: Any, told: str) -> None:
    candidate = returning(made)
    assert candidate.audio is None and candidate.set_aside is not None and "\n" not in candidate.set_aside
    with pytest.raises(InvalidInput, match=told):
        raise InvalidInput(candidate.set_aside.removeprefix("generation failed: mine returned "))


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ([], "returned 0 waveforms for 1 seed;"),
        (np.stack([TONE] * 3), "returned 3 waveforms for 1 seed;"),
        (TONE, r"returned shape \(16000,\) for 1 seed; return a list of waveforms"),
        (None, "returned NoneType for 1 seed;"),
    ],
)
def test_a_batch_has_one_waveform_for_each_seed(made: Any, told: str) -> None:
    generator = rerank.wrap(lambda prompt, seeds, duration: made, sample_rate=SAMPLE_RATE, batch_size=2)
    with pytest.raises(InvalidInput, match=told):
        next(generator.generate(PROMPT, [1, 2], 1.0))


def test_a_seed_that_fails_costs_only_itself() -> None:
    def fails_on_two(prompt: str, seeds: list[int], duration: float) -> Any:
        if 2 in seeds:
            raise RuntimeError("no ideas")
        return [play(prompt, seed, duration) for seed in seeds]

    generator = rerank.wrap(fails_on_two, sample_rate=SAMPLE_RATE, channels=2, batch_size=4)
    rankings = [rerank.generate("piano", n=n, duration=1.0, generator=generator, reward=ToyReward()) for n in (3, 8)]
    fewer, more = ({one.seed: one.audio.waveform for one in ranking if one.audio} for ranking in rankings)
    assert fewer.keys() == {0, 1} and more.keys() == {0, 1, 3, 4, 5, 6, 7}
    for seed, waveform in fewer.items():
        np.testing.assert_array_equal(waveform, more[seed])
    assert rankings[1].set_aside[0].set_aside == "generation failed: RuntimeError: no ideas"


def test_a_bad_waveform_costs_only_itself() -> None:
    calls = []

    def one_bad(prompt: str, seeds: list[int], duration: float) -> Any:
        calls.append(seeds)
        return [TONE[:0] if seed == 1 else TONE * 0.1 * (1 + seed) for seed in seeds]

    generator = rerank.wrap(one_bad, sample_rate=SAMPLE_RATE, batch_size=4)
    made = list(generator.generate(PROMPT, range(4), 1.0))
    assert [candidate.audio is None for candidate in made] == [False, True, False, False]
    assert calls == [[0, 1, 2, 3]]


def test_a_function_may_use_its_array_again() -> None:
    buffer = np.zeros((2, SAMPLE_RATE), np.float32)

    def refill(prompt: str, seed: int, duration: float) -> Any:
        buffer[:] = play(prompt, seed, duration)
        return buffer

    first, second = rerank.wrap(refill, sample_rate=SAMPLE_RATE, channels=2).generate(PROMPT, [1, 2], 1.0)
    assert first.audio and second.audio and not np.array_equal(first.audio.waveform, second.audio.waveform)


@pytest.mark.parametrize("form", [list, np.stack, lambda made: torch.from_numpy(np.stack(made))])
def test_a_function_of_several_seeds_may_use_its_array_again(form: Callable[[list[Any]], Any]) -> None:
    buffer = form([np.zeros((2, SAMPLE_RATE), np.float32)] * 2)

    def refill(prompt: str, seeds: list[int], duration: float) -> Any:
        for place, seed in enumerate(seeds):
            buffer[place][:] = torch.from_numpy(play(prompt, seed, duration))
        return buffer[: len(seeds)]

    # a list holds the same array twice: that of the last seed would stand for both
    made = rerank.wrap(refill, sample_rate=SAMPLE_RATE, channels=2, batch_size=2).generate(PROMPT, range(4), 1.0)
    for seed, candidate in enumerate(made):
        assert candidate.audio is not None
        np.testing.assert_array_equal(candidate.audio.waveform, play(PROMPT.text, seed, 1.0))


# wrap: its options


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sample_rate": 44.1}, "sample_rate must be a whole number from 8000 to 192000"),
        ({"sample_rate": 44}, "sample_rate"),
        ({"channels": 0}, "channels must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"max_duration": 0.5}, "min_duration and max_duration must be .* got 1.0 and 0.5"),
        ({"min_duration": 0}, "got 0 and 30.0"),
        ({"max_duration": "long"}, "got 1.0 and 'long'"),
        ({"conditions": "text"}, "must be a collection of names, got 'text'"),
        ({"conditions": ()}, "conditions is empty"),
        ({"conditions": ("text", "lyric")}, "unknown condition 'lyric'; did you mean 'lyrics'"),
        ({"conditions": ("text", "lyrics")}, r"with \(prompt, seed, duration, lyrics=\), and it takes \(prompt: str"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        rerank.wrap(play, **{"sample_rate": SAMPLE_RATE, **options})


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda prompt: None, r"with \(prompt, seed, duration\), and it takes \(prompt\): too many positional"),
        (lambda: None, "too many positional"),
        (np.random.Generator, "got the class Generator"),
        ("musicgen", "got str"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_function_of_these(function: Any, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        rerank.wrap(function, sample_rate=SAMPLE_RATE)


def test_wrap_and_the_names_of_generators_load_nothing_heavy() -> None:
    code = """
import sys, rerank, rerank.generators
rerank.wrap(lambda prompt, seed, duration: None, sample_rate=32000)
assert {"Audiocraft", "StableAudioTools"} <= set(dir(rerank.generators))
print(sorted({"torch", "scipy", "accelerate"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'Musicgen'"):
        _ = rerank.generators.Musicgen  # type: ignore[attr-defined]


# Audiocraft: on the real library by `make integration`


class Network(torch.nn.Module):
    """Of a codebook of 8 codes: the text and the codes so far make the next ones likely."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weights = torch.randn(9, 8)
        self.condition_provider = torch.nn.Module()
        self.condition_provider.conditioners = torch.nn.ModuleDict()

    def forward(self, codes: torch.Tensor, texts: Sequence[str | None]) -> torch.Tensor:
        text = torch.tensor([len(text or "") / 20 for text in texts])
        return torch.softmax(self.weights[codes] + text[:, None, None] * self.weights[8], -1)


class MusicGen:
    """What `Audiocraft` uses of `audiocraft.models.MusicGen`: two codebooks, 50 frames a second, at 16 kHz."""

    name, sample_rate, audio_channels, frame_rate, max_duration = "facebook/musicgen-small", SAMPLE_RATE, 1, 50, 30
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.lm = Network()
        self.compression_model = torch.nn.Linear(1, 1)
        self.duration = 15.0
        self.generation_params: dict[str, Any] = {"use_sampling": True, "temp": 1.0}
        self._progress_callback: Any = None
        self.batches: list[int] = []

    def set_custom_progress_callback(self, callback: Any) -> None:
        self._progress_callback = callback

    def generate(self, texts: Sequence[str | None], progress: bool, return_tokens: bool) -> Any:
        assert progress and return_tokens
        self.batches.append(len(texts))
        frames, codes = int(self.duration * self.frame_rate), torch.zeros(len(texts), 2, 1, dtype=torch.long)
        for frame in range(frames):
            likely = self.lm(codes[..., -1], texts).reshape(-1, 8)
            drawn = torch.multinomial(likely, num_samples=1).reshape(len(texts), 2, 1)
            codes = torch.cat([codes, drawn], -1)
            self._progress_callback(frame + 1, frames + 1)
        return codes[..., 1:].sum(1, keepdim=True).repeat_interleave(320, -1) / 16, codes[..., 1:]


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_model_of_audiocraft_keeps_the_promises_of_a_generator(batch_size: int) -> None:
    model = MusicGen()
    check_generator(Audiocraft(model, batch_size=batch_size))
    assert set(model.batches) == {batch_size}  # every batch is full, whatever the number of seeds


def test_it_draws_what_the_library_draws_from_that_seed() -> None:
    model = MusicGen()
    model.duration = 1.0
    model.set_custom_progress_callback(lambda done, total: None)
    torch.manual_seed(7)
    _, expected = model.generate([PROMPT.text], True, True)
    candidate = list(Audiocraft(model, batch_size=3).generate(PROMPT, [5, 6, 7], 1.0))[2]
    assert candidate.codes is not None and candidate.codes.dtype == np.int16
    np.testing.assert_array_equal(candidate.codes, expected[0].numpy())
    assert candidate.licence == "CC BY-NC 4.0 (not for commercial use)"
    assert Audiocraft(model, licence="mine").info.licence == "mine"
    assert Audiocraft(model).info.name == "audiocraft/musicgen-small"


def test_a_seed_that_fails_costs_only_itself_and_every_batch_is_full() -> None:
    expected = [one.codes for one in Audiocraft(MusicGen(), batch_size=4).generate(PROMPT, range(8), 1.0)]
    bad: Any = expected[2]

    class Failing(MusicGen):
        def generate(self, texts: Sequence[str | None], progress: bool, return_tokens: bool) -> Any:
            made = super().generate(texts, progress, return_tokens)
            if any(np.array_equal(codes.numpy(), bad) for codes in made[1]):
                raise RuntimeError("no ideas")
            return made

    model = Failing()
    made = Audiocraft(model, batch_size=4).generate(PROMPT, range(8), 1.0)
    for seed in (0, 1):
        np.testing.assert_equal(next(made).codes, expected[seed])
    with pytest.raises(RuntimeError, match="no ideas"):
        next(made)
    assert model.batches == [4, 4, 4, 4]


def test_it_leaves_the_model_as_it_was_even_when_stopped() -> None:
    model = MusicGen()
    state = torch.get_rng_state()

    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Audiocraft(model).generate(PROMPT, [1], 2.0, on_progress=stop))
    assert model.duration == 15.0 and model._progress_callback is None and torch.equal(torch.get_rng_state(), state)
    assert not model.lm._forward_hooks and not model.lm._forward_pre_hooks
    assert torch.multinomial(torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]), 1).tolist() == [[1], [0], [1]]


def refused(change: Callable[[MusicGen], None], prompt: Prompt = PROMPT) -> str:
    """Return what it says to a model that is changed so."""
    model = MusicGen()
    change(model)
    with pytest.raises(RerankError) as caught:
        list(Audiocraft(model).generate(prompt, [1], 1.0))
    return str(caught.value)


def test_it_refuses_what_would_make_every_candidate_the_same() -> None:
    assert "use_sampling=True" in refused(lambda model: model.generation_params.update(use_sampling=False))
    assert "temperature above 0" in refused(lambda model: model.generation_params.update(temp=0.0))
    # a network that is never called by its own name: then nothing says when the codes are drawn
    assert "not known here" in refused(lambda model: setattr(model, "lm", Hidden()))


class Hidden(Network):
    def __call__(self, codes: torch.Tensor, texts: Sequence[str | None]) -> torch.Tensor:
        return self.forward(codes, texts)


def test_it_refuses_a_reference_that_is_shorter_than_what_the_model_hears() -> None:
    def add_style(model: MusicGen) -> None:
        listener = torch.nn.Module()
        listener.length_subwav = 3 * SAMPLE_RATE  # type: ignore[assignment]
        conditioners: Any = model.lm.condition_provider.conditioners
        conditioners["self_wav"] = listener

    short = Prompt("piano", reference=(np.zeros(2 * SAMPLE_RATE, np.float32), SAMPLE_RATE))
    assert "2.0 s long, this model listens to 3.0 s" in refused(add_style, short)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Audiocraft("musicgen-small"), "takes a loaded MusicGen or AudioGen of audiocraft, got str"),
        (lambda: Audiocraft(Network()), "got Network; for others there is rerank.wrap"),
        (lambda: Audiocraft(MusicGen(), batch_size=0), "batch_size must be"),
        (lambda: Audiocraft(MusicGen(), max_duration=0.5), "max_duration must be a number of seconds .* got 0.5"),
    ],
)
def test_what_is_no_model_or_option_of_audiocraft(make: Callable[[], Generator], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        make()


def test_it_says_its_weights_and_the_options_that_the_model_has_now() -> None:
    model = MusicGen()
    generator = Audiocraft(model, batch_size=2)
    before = generator.info
    assert before.options == {"use_sampling": True, "temp": 1.0, "batch_size": 2}
    model.generation_params["temp"] = 0.5
    assert generator.info == replace(before, options={**before.options, "temp": 0.5})
    with torch.no_grad():
        model.compression_model.weight += 1
    assert Audiocraft(model).info.version != before.version
