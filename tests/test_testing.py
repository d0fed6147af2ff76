"""The conformance checks pass what keeps its promises and catch each broken one."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rerank.audio import Audio
from rerank.data import Candidate, Prompt
from rerank.errors import ConformanceError
from rerank.protocols import Axis, Progress, Reading, RewardInfo
from rerank.testing import check_generator, check_reward
from tests.conftest import ToyGenerator, ToyReward


def test_toys_conform() -> None:
    check_generator(ToyGenerator(conditions=("text", "lyrics", "reference")))
    check_generator(_Filtered(), duration=1.0)
    check_reward(ToyReward())


class _Filtered(ToyGenerator):
    """Follows the text alone, as it declares."""

    def generate(self, prompt: Prompt, *args: Any, **options: Any) -> Iterator[Candidate]:
        return super().generate(Prompt(prompt.text), *args, **options)


class _Spoilt(_Filtered):
    """Yields candidates that are changed on their way out."""

    def __init__(self, spoil: Callable[[Candidate, int], Candidate]) -> None:
        super().__init__()
        self.spoil = spoil

    def generate(self, prompt: Prompt, seeds: Sequence[int], *args: Any, **options: Any) -> Iterator[Candidate]:
        for candidate in super().generate(prompt, seeds, *args, **options):
            yield self.spoil(candidate, len(seeds))


def _audio(candidate: Candidate, change: Callable[[Any], Any], sample_rate: int = 16_000) -> Candidate:
    assert candidate.audio
    waveform = np.ascontiguousarray(change(candidate.audio.waveform), np.float32)
    return replace(candidate, audio=Audio(waveform, sample_rate))


def _louder(candidate: Candidate, count: int) -> Candidate:
    return _audio(candidate, lambda waveform: waveform / count)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c, n: replace(c, index=c.index + 1), "candidate 0 has index 1"),
        (lambda c, n: replace(c, seed=9), "candidate 0 has seed 9; expected 3"),
        (lambda c, n: replace(c, audio=None, set_aside="lost"), "has no audio: lost"),
        (lambda c, n: _audio(c, np.asarray, 8_000), "has 8000 Hz"),
        (lambda c, n: _audio(c, lambda w: w[:1]), "has 1 channels; info says 2"),
        (lambda c, n: _audio(c, lambda w: w * np.nan), "not finite"),
        (lambda c, n: _audio(c, lambda w: w[:, :9_000]), r"is 0\.56 s long; asked were 2\.00 s"),
        (lambda c, n: _audio(c, lambda w: np.full_like(w, 0.1)), "two seeds give the same audio"),
        (_louder, "candidate 0 differs when fewer are made with it"),
    ],
)
def test_a_generator_that_breaks_a_promise_is_caught(
    spoil: Callable[[Candidate, int], Candidate], message: str
) -> None:
    with pytest.raises(ConformanceError, match=message):
        check_generator(_Spoilt(spoil))


def test_a_generator_that_follows_more_than_it_declares_is_caught() -> None:
    with pytest.raises(ConformanceError, match="does not declare 'lyrics', yet lyrics changes the audio"):
        check_generator(ToyGenerator(conditions=("text",)))


def test_a_generator_that_follows_less_than_it_declares_is_caught() -> None:
    deaf = _Filtered(conditions=("text", "lyrics"))
    with pytest.raises(ConformanceError, match="declares 'lyrics', yet the audio does not depend on it"):
        check_generator(deaf)


def test_a_generator_that_cannot_be_stopped_is_caught() -> None:
    class Unstoppable(_Filtered):
        def generate(self, prompt: Prompt, *args: Any, **options: Any) -> Iterator[Candidate]:
            report = options.pop("on_progress", None)
            for candidate in super().generate(prompt, *args, **options):
                yield candidate
                with contextlib.suppress(Exception):
                    report(Progress("generating", candidate.index + 1, 3))

    with pytest.raises(ConformanceError, match="what on_progress raises does not stop the generator"):
        check_generator(Unstoppable())


def test_progress_that_goes_back_is_caught() -> None:
    class Backwards(_Filtered):
        def generate(self, prompt: Prompt, *args: Any, **options: Any) -> Iterator[Candidate]:
            report = options.get("on_progress")
            if report:
                report(Progress("generating", 2, 3))
            return super().generate(prompt, *args, **options)

    with pytest.raises(ConformanceError, match="progress goes back, from 2 to 1"):
        check_generator(Backwards())


def test_a_declaration_that_makes_no_sense_is_caught() -> None:
    generator, reward = ToyGenerator(), ToyReward()
    generator.info = replace(generator.info, sample_rate=0)
    reward.info = replace(reward.info, axes={})
    with pytest.raises(ConformanceError, match=r"info\.sample_rate is 0"):
        check_generator(generator)
    with pytest.raises(ConformanceError, match=r"info\.axes is empty"):
        check_reward(reward)
    with pytest.raises(ConformanceError, match="lacks info or generate"):
        check_generator(object())  # type: ignore[arg-type]
    reward.info = replace(ToyReward().info, batch_size=0)
    with pytest.raises(ConformanceError, match=r"info\.batch_size is 0"):
        check_reward(reward)
    reward.info = _axis(low=1.0, high=-1.0)
    with pytest.raises(ConformanceError, match=r"info\.axes\['alignment'\]: low 1.0, high -1.0 is no range"):
        check_reward(reward)
    reward.info = replace(_axis(needs=frozenset({"lyrics"})), conditions=frozenset({"text"}))
    with pytest.raises(ConformanceError, match=r"needs holds \['lyrics'\], which info.conditions lacks"):
        check_reward(reward)
    reward.info = replace(_axis(needs_any=frozenset({"lyrics", "text"})), conditions=frozenset({"text"}))
    with pytest.raises(ConformanceError, match=r"needs_any holds \['lyrics'\], which info.conditions lacks"):
        check_reward(reward)


def _axis(**changed: Any) -> RewardInfo:
    """Return what the toy says it is, with another axis alignment."""
    info = ToyReward().info
    return replace(info, axes={**info.axes, "alignment": replace(info.axes["alignment"], **changed)})


def test_an_axis_that_breaks_what_it_declares_is_caught() -> None:
    reward = ToyReward()
    reward.info = _axis(needs=frozenset({"text"}))
    with pytest.raises(ConformanceError, match=r"alignment is 0\.\d+ without text, which it needs"):
        check_reward(reward)
    reward.info = _axis(low=0.0, high=1e-6)
    with pytest.raises(ConformanceError, match=r"alignment is 0\.\d+; its range is 0.0 to 1e-06"):
        check_reward(reward)


def test_an_axis_that_needs_one_part_of_several_is_held_to_it() -> None:
    reward = ToyReward()
    reward.info = _axis(needs_any=frozenset({"text", "lyrics"}))
    with pytest.raises(ConformanceError, match=r"alignment is 0\.\d+ without lyrics, text, which it needs"):
        check_reward(reward)
    # a model of that axis alone is never asked by a run, but whoever calls it directly must get None too
    reward = _One()
    reward.info = replace(reward.info, axes={"alignment": Axis(meaning="", needs_any=frozenset({"text", "lyrics"}))})
    with pytest.raises(ConformanceError, match=r"alignment is 0\.\d+ without lyrics, text, which it needs"):
        check_reward(reward)


class _One(ToyReward):
    def score(self, prepared: float, audio: Any) -> list[dict[str, float | None]]:
        return [{"alignment": one["alignment"]} for one in super().score(prepared, audio)]


def test_a_reward_model_that_cannot_do_without_a_prompt_is_caught() -> None:
    class Strict(ToyReward):
        def prepare(self, prompt: Prompt) -> float:
            assert prompt.conditions(), "nothing to read"
            return super().prepare(prompt)

    with pytest.raises(ConformanceError, match="cannot read the prompt: AssertionError: nothing to read"):
        check_reward(Strict())


def test_a_reward_model_that_reads_more_than_it_declares_is_caught() -> None:
    reward = ToyReward()
    reward.info = replace(reward.info, conditions=frozenset({"text"}))
    with pytest.raises(ConformanceError, match="info does not declare 'lyrics', yet lyrics changes a reward"):
        check_reward(reward)


def test_a_reward_model_that_reads_no_prompt_passes() -> None:
    class Listener(ToyReward):
        def prepare(self, prompt: Prompt) -> float:
            return 1.0

    reward = Listener()
    axes: Any = {"musicality": "how bright it is", "alignment": "how loud it is"}
    reward.info = replace(reward.info, conditions=frozenset(), axes=axes)
    assert reward.info.axes["alignment"] == Axis(meaning="how loud it is")
    check_reward(reward)


class _Batched(ToyReward):
    def score(self, prepared: float, audio: Any) -> list[dict[str, float | None]]:
        return [{**one, "musicality": float(len(audio))} for one in super().score(prepared, audio)]


class _Ordered(ToyReward):
    def score(self, prepared: float, audio: Any) -> list[dict[str, float | None]]:
        first = float(audio[0].waveform.std()) if len(audio) > 1 else None
        return [{**one, "musicality": first or one["musicality"]} for one in super().score(prepared, audio)]


class _Forgetful(ToyReward):
    def prepare(self, prompt: Prompt) -> float:
        self.kept = super().prepare(prompt)
        return self.kept

    def score(self, prepared: float, audio: Any) -> list[dict[str, float | None]]:
        return super().score(self.kept, audio)


class _Rough(ToyReward):
    def score(self, prepared: float, audio: Any) -> list[dict[str, float | None]]:
        for piece in audio:
            piece.waveform[:] = 0
        return super().score(prepared, audio)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (_Batched(), "depends on its batch: musicality is 3.0, then 1.0"),
        (_Ordered(), "depends on"),
        (_Forgetful(), "other rewards after another one was used"),
        (_Rough(), "score changes the waveforms"),
        (ToyReward(override=lambda _: {"musicality": float("nan")}), "musicality is nan"),
        (ToyReward(override=lambda _: {"groove": 1.0}), "gave the axes"),
    ],
)
def test_a_reward_model_that_breaks_a_promise_is_caught(reward: ToyReward, message: str) -> None:
    with pytest.raises(ConformanceError, match=message):
        check_reward(reward)


@pytest.mark.parametrize(
    ("reading", "told"),
    [
        (None, "reading returns a NoneType"),
        (Reading(understood=["slow"]), "reading gives understood as"),  # type: ignore[arg-type]
        (Reading(not_followed=("reference",)), "does not follow .'reference'., which info.conditions or the prompt"),
    ],
)
def test_a_reading_that_is_none_is_caught(reading: Any, told: str) -> None:
    class Teller(ToyGenerator):
        def reading(self, prompt: Prompt) -> Any:
            return reading

    with pytest.raises(ConformanceError, match=told):
        check_generator(Teller())
