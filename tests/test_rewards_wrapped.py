"""`wrap_reward`: functions as reward models."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

import rerank
from rerank.audio import Audio
from rerank.data import Prompt
from rerank.errors import InvalidInput
from rerank.protocols import Axis, Condition
from rerank.scoring import Scorer
from rerank.testing import check_reward
from tests.conftest import ROOT, SAMPLE_RATE, ToyGenerator, notes

AXES = {"bright": "how bright it is", "fitting": "how loud it is, for the prompt"}
PIECES = [notes(np.random.default_rng(seed), 1.0) for seed in range(5)]


def loud(prompt: str, audio: Audio) -> float:
    return float(np.abs(audio.waveform).mean())


def judge(prompt: str, audio: Audio, **parts: Any) -> dict[str, float | None]:
    told = len(prompt) + len(parts.get("lyrics") or "")
    heard = parts.get("reference")
    like = 0.0 if heard is None else float(np.abs(heard.waveform[0, 1:9]).sum())
    return {"bright": float(np.abs(np.diff(audio.waveform)).mean()), "fitting": loud(prompt, audio) * (told + like)}


def score(reward: rerank.Reward, prompt: Prompt, pieces: Sequence[Audio] = PIECES) -> list[Any]:
    return list(Scorer(reward, prompt)(pieces))


@pytest.mark.parametrize("conditions", [(), ("text",), ("reference",), ("text", "lyrics", "reference")])
def test_a_function_keeps_the_promises_of_a_reward_model(conditions: list[Condition]) -> None:
    check_reward(rerank.wrap_reward(judge, axes=AXES, sample_rate=SAMPLE_RATE, conditions=conditions))


@pytest.mark.parametrize("size", [1, 2, 8])
def test_a_function_of_several_pieces_too(size: int) -> None:
    taken = []

    def judge_all(prompt: str, audio: list[Audio]) -> list[dict[str, float | None]]:
        taken.append(len(audio))
        return [judge(prompt, piece) for piece in audio]

    several = rerank.wrap_reward(judge_all, axes=AXES, sample_rate=SAMPLE_RATE, batch_size=size)
    check_reward(several)
    assert max(taken) == min(size, 3)  # the check has three pieces
    one = rerank.wrap_reward(judge, axes=AXES, sample_rate=SAMPLE_RATE)
    assert score(several, Prompt("hum")) == score(one, Prompt("hum"))
    assert max(taken) == min(size, 5)


def test_it_ranks() -> None:
    reward = rerank.wrap_reward(loud, axes={"loud": "how loud it is"}, sample_rate=SAMPLE_RATE, version="of May")
    assert (reward.info.name, reward.info.version, reward.info.batch_size) == ("loud", "of May", 1)
    ranking = rerank.generate("a hum", n=3, generator=ToyGenerator(), reward=reward, duration=1.0)
    values = [candidate.rewards["loud"] for candidate in ranking]
    assert values == sorted(values, reverse=True) and len(set(values)) == 3  # type: ignore[type-var]


def test_audio_comes_at_the_rate_asked_for_and_may_be_changed() -> None:
    def spoil(prompt: str, audio: Audio) -> float:
        assert audio.sample_rate == 8000 and audio.waveform.shape == (2, 8000)
        audio.waveform[:] = 0
        return 1.0

    check_reward(rerank.wrap_reward(spoil, axes={"one": "always 1"}, sample_rate=8000, conditions=()), audio=PIECES)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5), {"loud": 0.5}])
def test_numbers_of_all_kinds_are_taken(value: Any) -> None:
    reward = rerank.wrap_reward(lambda prompt, audio: value, axes={"loud": "how loud"}, sample_rate=SAMPLE_RATE)
    assert score(reward, Prompt("hum"), PIECES[:1]) == [{"loud": 0.5}]


@pytest.mark.parametrize("needs", [{"needs": frozenset({"lyrics"})}, {"needs_any": frozenset({"lyrics"})}])
def test_an_axis_is_none_without_what_it_needs(needs: dict[str, Any]) -> None:
    fitting = Axis(meaning="how well it fits", **needs)
    parts: list[Condition] = ["text", "lyrics"]
    reward = rerank.wrap_reward(judge, axes={**AXES, "fitting": fitting}, sample_rate=SAMPLE_RATE, conditions=parts)
    check_reward(reward)
    assert score(reward, Prompt("hum"))[0]["fitting"] is None
    assert score(reward, Prompt("hum", "la"))[0]["fitting"] is not None

    def never(prompt: str, audio: Audio, lyrics: str) -> float:
        raise AssertionError("there are no lyrics to judge by")

    either = Axis(meaning="how well it fits", needs_any=frozenset({"text", "lyrics"}))
    reward = rerank.wrap_reward(judge, axes={**AXES, "fitting": either}, sample_rate=SAMPLE_RATE, conditions=parts)
    assert score(reward, Prompt("hum"))[0]["fitting"] is not None
    assert score(reward, Prompt.of(None))[0]["fitting"] is None
    alone = rerank.wrap_reward(never, axes={"fitting": fitting}, sample_rate=SAMPLE_RATE, conditions=parts)
    assert score(alone, Prompt("hum")) == [{"fitting": None}] * 5


def test_a_failure_costs_one_piece() -> None:
    def fussy(prompt: str, audio: list[Audio]) -> list[float]:
        if any(np.array_equal(piece.waveform, PIECES[2].waveform) for piece in audio):
            raise ValueError("not this one")
        return [loud(prompt, piece) for piece in audio]

    reward = rerank.wrap_reward(fussy, axes={"loud": "how loud"}, sample_rate=SAMPLE_RATE, batch_size=4)
    found = score(reward, Prompt("hum"))
    assert found[2] == "reward failed: ValueError: not this one"
    assert [one["loud"] for one in found if isinstance(one, dict)] == [loud("", PIECES[i]) for i in (0, 1, 3, 4)]


@pytest.mark.parametrize(
    ("value", "options", "told"),
    [
        ("good", {}, "returned a str for loud; return a float or None"),
        (True, {}, "returned a bool for loud"),
        (np.zeros(2), {}, r"returned a ndarray of shape \(2,\) for loud"),
        ({"laud": 1.0}, {}, "returned a dict with laud; return one with: loud"),
        ({}, {}, "returned a dict with nothing; return one with: loud"),
        (1.0, {"axes": AXES}, "returned a float; return a dict with: bright, fitting"),
        (1.0, {"batch_size": 2}, "returned float for 1 pieces of audio; return a list with one for each, or leave out"),
        ([1.0, 2.0], {"batch_size": 2}, "returned 2 results for 1 pieces of audio"),
    ],
)
def test_what_is_no_reward_is_told(value: Any, options: dict[str, Any], told: str) -> None:
    options = {"axes": {"loud": "how loud"}, "sample_rate": SAMPLE_RATE, "name": "mine", **options}
    reward = rerank.wrap_reward(lambda prompt, audio: value, **options)
    with pytest.raises(InvalidInput, match=f"^mine {told}"):
        reward.score(reward.prepare(Prompt("hum")), PIECES[:1])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"axes": {}}, r"axes must be a dict of names and meanings, got \{\}; pass \{'groove'"),
        ({"axes": "loud"}, "axes must be a dict of names and meanings, got 'loud'"),
        ({"axes": {"loud": 3}}, "axes holds 'loud': 3; expected a name and its meaning"),
        (
            {"axes": {"loud": Axis(meaning="?", needs=frozenset({"lyrics"}))}},
            "need of axis 'loud', which is no condition",
        ),
        (
            {"axes": {"loud": Axis(meaning="?", needs_any=frozenset({"text", "lyrics"}))}},
            "need of axis 'loud', which is no condition of the reward model: 'lyrics'",
        ),
        ({"sample_rate": 4}, "sample_rate must be a whole number from 8000"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1"),
        ({"conditions": "text"}, "conditions must be a collection of names"),
        ({"conditions": ["melody"]}, "unknown condition 'melody'"),
        ({"conditions": ["lyrics"]}, r"with \(prompt, audio, lyrics=\), and it takes \(prompt: str, audio"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        rerank.wrap_reward(loud, **{"axes": {"loud": "how loud"}, "sample_rate": SAMPLE_RATE, **options})


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda audio: 1.0, "too many positional"),
        (Audio, r"a function \(prompt, audio\), got the class Audio"),
        (3, "int"),
    ],
)
def test_what_is_no_function_of_these(function: Any, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        rerank.wrap_reward(function, axes={"loud": "how loud"}, sample_rate=SAMPLE_RATE)


def test_it_loads_nothing_heavy() -> None:
    code = """
import sys, rerank
rerank.wrap_reward(lambda prompt, audio: 0.0, axes={"zero": "always 0"}, sample_rate=16000)
print(sorted({"torch", "scipy", "soxr"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
