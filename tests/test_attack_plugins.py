"""Generators and reward models that break what they promise: each costs its candidate, or is refused in one clear line."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rerank
from rerank.audio import Audio
from rerank.data import Candidate, Prompt
from rerank.errors import GenerationFailed, InvalidInput, RerankError, RewardFailed
from rerank.protocols import GeneratorInfo, Progress
from tests.conftest import SAMPLE_RATE, ToyGenerator, ToyReward

HOSTILE = 1
"""The seed that something is wrong with."""


class Mute(Exception):
    """An exception whose text cannot be made."""

    def __str__(self) -> str:
        raise ValueError("no words")


class Odd:
    """An object that no document can hold, and no message can show."""

    def __repr__(self) -> str:
        raise Mute


def raising(error: BaseException) -> Callable[[Candidate], Any]:
    def fail(_: Candidate) -> Any:
        raise error

    return fail


def sounding(waveform: Any, sample_rate: int = SAMPLE_RATE) -> Callable[[Candidate], Any]:
    return lambda candidate: replace(candidate, audio=Audio(waveform, sample_rate))


def holding(**parts: Any) -> Callable[[Candidate], Any]:
    return lambda candidate: replace(candidate, **parts)


def bfloat16(_: Candidate) -> Any:
    import torch

    return Audio(torch.zeros(2, SAMPLE_RATE, dtype=torch.bfloat16), SAMPLE_RATE)  # type: ignore[arg-type]


SECOND = np.full((2, SAMPLE_RATE), 0.1, np.float32)

CANDIDATES: dict[str, tuple[Callable[[Candidate], Any], str]] = {
    "rate too low": (sounding(SECOND, 50), "its audio has 50 Hz, expected 8000 to 192000 Hz"),
    "rate too high": (sounding(SECOND, 10**9), "its audio has 1000000000 Hz, expected"),
    "rate of 0": (sounding(SECOND, 0), "sample_rate must be a whole number of Hz above 0"),
    "one channel": (sounding(SECOND[:1]), "its audio has 1 channels; its generator declares 2"),
    "swapped axes": (sounding(SECOND.T), "pass waveform.T"),
    "float64": (sounding(SECOND.astype(float)), "waveform must be float32, got float64"),
    "objects": (sounding(SECOND[:, :9].astype(object)), "waveform must be float32, got object"),
    "bfloat16": (bfloat16, "waveform must be a numpy array [channels, time], got Tensor"),
    "a waveform": (lambda _: SECOND, "it yielded a ndarray; expected a rerank.Candidate"),
    "a waveform in a candidate": (holding(audio=SECOND), "its audio is a ndarray"),
    "nothing": (lambda _: None, "it yielded a NoneType"),
    "another seed": (holding(seed=7), "it yielded seed 7 where 1 was due"),
    "a seed that is none": (holding(seed=np.zeros(3)), "ValueError: "),
    "a truth of objects": (holding(truth={"a": Odd()}), "JSON cannot hold its truth"),
    "a truth in itself": (lambda one: replace(one, truth=endless()), "JSON cannot hold its truth"),
    "a reason without words": (holding(set_aside=Mute()), "ValueError: no words"),
    "an error without words": (raising(Mute()), "Mute, whose text cannot be made"),
    "an error of many lines": (raising(OSError("a\n\x1b[31mb" + 9999 * "c")), r"OSError: a \x1b[31mbcc"),
    "an end": (raising(SystemExit(3)), "SystemExit: 3"),
    "an end of iterations": (raising(StopIteration()), "RuntimeError: generator raised StopIteration"),
}


def endless() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["again"] = found
    return found


class Hostile(ToyGenerator):
    """Yields something else in the place of one candidate, or of all."""

    def __init__(self, change: Callable[[Candidate], Any], seeds: Sequence[int] = (HOSTILE,)) -> None:
        super().__init__()
        self.hostile, self.seeds = change, seeds

    def generate(self, *args: Any, **options: Any) -> Iterator[Any]:
        for candidate in super().generate(*args, **options):
            yield self.hostile(candidate) if candidate.seed in self.seeds else candidate


def document(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "ranking.json").read_bytes())
    return found


def one_clear_line(text: str) -> bool:
    return text.isprintable() and len(text) < 600


@pytest.mark.parametrize("case", CANDIDATES)
def test_a_candidate_that_is_none_costs_itself_alone(case: str, tmp_path: Path) -> None:
    change, told = CANDIDATES[case]
    ranking = rerank.generate(
        "slow", n=3, duration=1.0, generator=Hostile(change), reward=ToyReward(), output=tmp_path / "run"
    )
    assert sorted(candidate.seed for candidate in ranking if candidate.seed is not None) == [0, 2]
    (lost,) = [one for one in document(tmp_path / "run")["candidates"] if one["rank"] is None]
    assert (lost["seed"], lost["set_aside_kind"]) == (HOSTILE, "failed")
    assert lost["set_aside"].startswith(f"generation failed: {told}") or told in lost["set_aside"]
    assert one_clear_line(lost["set_aside"])


@pytest.mark.parametrize("case", CANDIDATES)
def test_where_each_is_none_the_run_fails_in_one_line(case: str) -> None:
    generator = Hostile(CANDIDATES[case][0], range(2))
    with pytest.raises(GenerationFailed, match="failed on all 2 candidates; the first: generation failed: ") as caught:
        rerank.generate("slow", n=2, duration=1.0, generator=generator, reward=ToyReward())
    assert one_clear_line(str(caught.value))


@pytest.mark.parametrize("made", [None, 3, object()])
def test_a_generator_that_returns_no_iterator_is_told(made: Any) -> None:
    class Returning(ToyGenerator):
        def generate(self, *args: Any, **options: Any) -> Any:
            return made

    with pytest.raises(GenerationFailed, match=f"generate returned a {type(made).__name__}; expected an iterator"):
        rerank.generate("slow", n=2, duration=1.0, generator=Returning(), reward=ToyReward())


class Failing(ToyReward):
    """Answers with something else where it hears one candidate, or always."""

    def __init__(self, answer: Callable[[list[dict[str, Any]]], Any], always: bool = False) -> None:
        super().__init__()
        self.answer, self.always, self.first = answer, always, b""

    def score(self, prepared: float, audio: Sequence[Audio]) -> Any:
        self.first = self.first or audio[0].sha256.encode()
        found = super().score(prepared, audio)
        hostile = self.always or any(piece.sha256.encode() == self.first for piece in audio)
        return self.answer(list(found)) if hostile else found


def failing(error: BaseException) -> Callable[[Any], Any]:
    def fail(_: Any) -> Any:
        raise error

    return fail


ANSWERS: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], str]] = {
    "nothing": (lambda found: None, "it gave a NoneType; expected a list of dicts"),
    "a generator": (lambda found: iter(found), "it gave a list_iterator; expected a list of dicts"),
    "too few": (lambda found: found[1:], "it gave 0 results for 1 candidates"),
    "too many": (lambda found: found * 2, "it gave 2 results for 1 candidates"),
    "other axes": (lambda found: [{"groove": 1.0}, *found[1:]], "it gave the axes groove; it declares alignment"),
    "no axes": (lambda found: [{}, *found[1:]], "it gave the axes none; it declares alignment, musicality"),
    "a million axes": (lambda found: [dict.fromkeys(range(10**6)), *found[1:]], "it gave the axes 0, 1, 10, "),
    "axes of no kind": (lambda found: [{Mute(): 1.0}, *found[1:]], "ValueError: no words"),
    "a text": (lambda found: [{**found[0], "musicality": "high"}, *found[1:]], "it gave 'high' on axis 'musicality'"),
    "no text": (lambda found: [{**found[0], "musicality": Odd()}, *found[1:]], "Mute, whose text cannot be made"),
    "too large": (lambda found: [{**found[0], "musicality": 10**400}, *found[1:]], "it gave a number on axis"),
    "too long": (lambda found: [{**found[0], "musicality": 10**5000}, *found[1:]], "it gave a number on axis"),
    "an array": (lambda found: [{**found[0], "musicality": np.ones((9, 9))}, *found[1:]], "it gave array([[1."),
    "an error": (failing(TypeError("no\nsound")), "TypeError: no sound"),
    "an error of ours": (failing(InvalidInput("not\n\x1b[2Jthis")), r"not \x1b[2Jthis"),
    "an error without words": (failing(Mute()), "Mute, whose text cannot be made"),
    "an end": (failing(SystemExit(0)), "it tried to end the process: SystemExit: 0"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_that_is_none_costs_its_candidate(case: str, tmp_path: Path) -> None:
    answer, told = ANSWERS[case]
    ranking = rerank.generate(
        "slow", n=3, duration=1.0, generator=ToyGenerator(), reward=Failing(answer), output=tmp_path / "run"
    )
    assert len(ranking) == 2
    (lost,) = [one for one in document(tmp_path / "run")["candidates"] if one["rank"] is None]
    assert lost["set_aside"].startswith(f"reward failed: {told}") and lost["set_aside_kind"] == "reward_failed"
    assert one_clear_line(lost["set_aside"])


@pytest.mark.parametrize("case", ANSWERS)
def test_where_each_answer_is_none_the_run_fails_and_is_stored(case: str, tmp_path: Path) -> None:
    answer, told = ANSWERS[case]

    def all_of(found: list[dict[str, Any]]) -> Any:
        return answer(found) if len(found) == 1 else None

    with pytest.raises(RewardFailed, match="'toy' failed on all 2 candidates; the first: reward failed: ") as caught:
        rerank.generate(
            "slow",
            n=2,
            duration=1.0,
            generator=ToyGenerator(),
            reward=Failing(all_of, always=True),
            output=tmp_path / "run",
        )
    assert told in str(caught.value) and one_clear_line(str(caught.value))
    stored = document(tmp_path / "run")
    assert stored["status"] == "failed"
    assert all(told in one["set_aside"] for one in stored["candidates"])
    with pytest.raises(RewardFailed, match="reward failed") as caught:
        rerank.score(Audio(SECOND, SAMPLE_RATE), "slow", reward=Failing(all_of, always=True))
    assert one_clear_line(str(caught.value))


@pytest.mark.parametrize("error", [Mute(), SystemExit(3), TypeError("a\nb"), RecursionError()])
def test_a_prompt_that_cannot_be_prepared_ends_the_run_in_one_line(error: BaseException, tmp_path: Path) -> None:
    class Deaf(ToyReward):
        def prepare(self, prompt: Prompt) -> float:
            raise error

    with pytest.raises(RewardFailed, match="reward model 'toy' cannot read the prompt: ") as caught:
        rerank.generate("slow", n=2, duration=1.0, generator=ToyGenerator(), reward=Deaf(), output=tmp_path / "run")
    assert one_clear_line(str(caught.value))
    stored = document(tmp_path / "run")
    assert stored["status"] == "failed"
    assert {one["set_aside"] for one in stored["candidates"]} == {f"not scored: {caught.value}"}


FACTS: dict[str, Any] = {
    "licence": object(),
    "version": 3,
    "name": None,
    "device": b"cpu",
    "sample_rate": "16000",
    "channels": 2.0,
    "options": [1],
}


@pytest.mark.parametrize("fact", FACTS)
def test_an_info_that_no_document_can_hold_is_refused_before_any_work(fact: str, tmp_path: Path) -> None:
    generator, reward = ToyGenerator(), ToyReward()
    kinds: list[tuple[Any, str]] = [(generator, "ToyGenerator")]
    kinds += [(reward, "ToyReward")] if hasattr(reward.info, fact) else []
    for hostile, name in kinds:
        known = hostile.info
        hostile.info = replace(known, **{fact: FACTS[fact]})
        with pytest.raises(InvalidInput, match=f"got {name}, whose info.{fact} is a .*; expected a") as caught:
            rerank.generate("slow", n=2, duration=1.0, generator=generator, reward=reward, output=tmp_path / "run")
        assert one_clear_line(str(caught.value)) and not (tmp_path / "run").exists()
        hostile.info = known


@pytest.mark.parametrize("options", [{"a": Odd()}, {"a": float("nan")}, {(1, 2): 3}, endless()])
def test_options_that_no_document_can_hold_are_refused_before_any_work(options: Any, tmp_path: Path) -> None:
    generator, reward = ToyGenerator(), ToyReward()
    for hostile in (generator, reward):
        known: Any = hostile.info
        hostile.info = replace(known, options=options)
        with pytest.raises(InvalidInput, match="what 'toy' says of itself cannot be stored") as caught:
            rerank.generate("slow", n=2, duration=1.0, generator=generator, reward=reward, output=tmp_path / "run")
        assert one_clear_line(str(caught.value)) and not (tmp_path / "run").exists()
        hostile.info = known


def test_an_info_that_fails_is_refused() -> None:
    class Broken:
        generate = ToyGenerator.generate

        @property
        def info(self) -> GeneratorInfo:
            raise Mute

    with pytest.raises(RerankError, match="got Broken, whose info fails: Mute, whose text cannot be made"):
        rerank.generate("slow", n=2, duration=1.0, generator=Broken(), reward=ToyReward())


def test_a_tensor_of_a_type_that_numpy_lacks_is_heard_as_it_is() -> None:
    import torch

    tensor = torch.linspace(-0.5, 0.5, 2 * SAMPLE_RATE).reshape(2, -1).to(torch.bfloat16)
    same = tensor.float().numpy()
    reward = ToyReward()
    assert rerank.score((tensor, SAMPLE_RATE), "slow", reward=reward) == rerank.score(
        (same, SAMPLE_RATE), "slow", reward=reward
    )


class Slow(ToyGenerator):
    """Takes for ever on one seed, in steps that it reports, all seeds at once or one after the other."""

    def __init__(self, together: bool) -> None:
        super().__init__()
        self.together = together

    def generate(self, prompt: Prompt, seeds: Sequence[int], duration: float, *, on_progress: Any = None) -> Any:
        made = super().generate(prompt, seeds, duration)
        if self.together:
            self._work(seeds, 0, len(seeds), on_progress)
            yield from made
            return
        for place, seed in enumerate(seeds):
            self._work([seed], place, len(seeds), on_progress)
            yield next(made)

    def _work(self, seeds: Sequence[int], place: int, count: int, on_progress: Any) -> None:
        step = 0
        for _ in range(10_000 if HOSTILE in seeds else 10 * len(seeds)):
            time.sleep(0.0005)
            step = min(step + 10, 100 * len(seeds) - (HOSTILE in seeds))
            with contextlib.suppress(Exception):  # a generator may take everything for a failure of its own
                on_progress(Progress("generating", 100 * place + step, 100 * count))


@pytest.mark.parametrize("together", [True, False])
def test_a_candidate_that_takes_for_ever_costs_itself_alone(together: bool, tmp_path: Path) -> None:
    ranking = rerank.generate(
        "slow",
        n=4,
        duration=1.0,
        generator=Slow(together),
        reward=ToyReward(),
        candidate_timeout=0.2,
        output=tmp_path / "run",
    )
    assert sorted(candidate.seed for candidate in ranking if candidate.seed is not None) == [0, 2, 3]
    assert [one.set_aside for one in ranking.set_aside] == [
        "generation failed: it took longer than 0.2 s; allow more, or ask for a shorter one"
    ]


def test_time_that_others_take_is_not_the_generators() -> None:
    class Listening(ToyReward):
        def score(self, prepared: float, audio: Sequence[Audio]) -> Any:
            time.sleep(0.5)
            return super().score(prepared, audio)

    reward = Listening()
    reward.info = replace(reward.info, batch_size=1)
    generator = ToyGenerator(pause=0.26)  # longer than a candidate waits for its rewards
    ranking = rerank.generate("slow", n=3, duration=1.0, generator=generator, reward=reward, candidate_timeout=0.45)
    assert len(ranking) == 3


@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), float("inf"), "5", True])
def test_a_limit_of_time_that_is_none_is_refused(limit: Any) -> None:
    with pytest.raises(InvalidInput, match="candidate_timeout must be seconds above 0, or None for no limit, got"):
        rerank.generate("slow", generator=ToyGenerator(), reward=ToyReward(), candidate_timeout=limit)
