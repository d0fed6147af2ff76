"""Agreement with the truth: cases that differ in one part, and a report that follows what the reward model says."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

import rerank
from rerank.audio import Audio
from rerank.data import Prompt
from rerank.errors import InvalidInput
from rerank.eval.agreement import AgreementOptions, _damage, _lyrics, _reference, _text, evaluate
from rerank.generators.synth import Synth, read
from rerank.generators.synth.truth import Facts, alignment
from rerank.protocols import Progress, Reward
from tests.conftest import ToyReward


def test_options_are_checked() -> None:
    with pytest.raises(InvalidInput, match="needs 2 to 2711 prompts"):
        AgreementOptions(prompts=1)


OPTIONS = AgreementOptions(prompts=2, n=2, duration=2.0)


def test_cases_differ_in_one_part_only() -> None:
    rng = np.random.default_rng(0)
    lyrics, reference, text, damage = (case(rng, OPTIONS) for case in (_lyrics, _reference, _text, _damage))
    for case in (lyrics, reference, text):
        assert case.right[1] is case.wrong[1]
    right, wrong = lyrics.right[0], lyrics.wrong[0]
    assert right.text == wrong.text and right.lyrics != wrong.lyrics
    right, wrong = reference.right[0], reference.wrong[0]
    assert right.text == wrong.text and right.reference is not wrong.reference
    assert read(text.right[0]).mood != read(text.wrong[0]).mood
    assert damage.right[0] is damage.wrong[0]
    assert damage.right[1].waveform.shape == damage.wrong[1].waveform.shape
    assert not np.array_equal(damage.right[1].waveform, damage.wrong[1].waveform)


def test_evaluates_a_reward_model() -> None:
    seen: list[Progress] = []
    report = evaluate(rerank.load_reward("cmi-mini"), OPTIONS, seen.append)
    assert report["reward"] == "cmi-mini" and report["options"]["prompts"] == 2
    expected = {"pair accuracy, musicality", "best-of-n gain, combined", "lyrics, combined", "reference, combined"}
    assert expected | {"text, combined", "damage, combined"} <= set(report["metrics"])
    assert {progress.phase for progress in seen} == {"best of n", "lyrics", "reference", "text", "damage"}


def test_the_shipped_reward_model_hears_damage() -> None:
    """A floor far below what the benchmark reports: it fails if weights and code do not belong together."""
    rng = np.random.default_rng(1)
    reward = rerank.load_reward("cmi-mini")
    options = AgreementOptions(prompts=12, n=2, duration=5.0)
    right = 0
    for _ in range(12):
        case = _damage(rng, options)
        sound, damaged = (
            reward.score(reward.prepare(prompt), [audio])[0] for prompt, audio in (case.right, case.wrong)
        )
        right += (sound["musicality"] or 0) > (damaged["musicality"] or 0)
    assert right >= 9


def test_generator_and_truth_read_a_prompt_the_same() -> None:
    """The benchmark judges prompts by `read`; what `synth` aimed at must be just that, part by part."""
    (techno,) = Synth().generate(Prompt("fast bright techno at 150 bpm in A minor"), [3], 2.0)
    for prompt in (
        Prompt("slow sad piano at 70 bpm, male vocals, no drums"),
        Prompt("jazz", lyrics="oh my love"),
        Prompt("", reference=techno.audio),
        Prompt("quiet strings", lyrics="down the road", reference=techno.audio),
    ):
        asked = read(prompt)
        assert bool(asked.vowels) == bool(prompt.lyrics) and (asked.reference is None) == (prompt.reference is None)
        for candidate in Synth().generate(prompt, range(4), 2.0):
            truth = candidate.truth
            assert truth and json.dumps(truth["asked"]) == json.dumps(asdict(asked), default=sorted)
            assert truth["alignment"] == pytest.approx(alignment(asked, Facts(**truth["rendered"])))


class Contrary:
    """Says of everything the opposite of what a reward model says."""

    def __init__(self, reward: Reward) -> None:
        self.reward, self.info = reward, reward.info

    def prepare(self, prompt: Prompt) -> Any:
        return self.reward.prepare(prompt)

    def score(self, prepared: Any, audio: Sequence[Audio]) -> list[dict[str, float | None]]:
        found = self.reward.score(prepared, audio)
        return [{axis: -value for axis, value in one.items() if value is not None} for one in found]


def test_the_report_follows_what_the_reward_model_says() -> None:
    reward = ToyReward()
    metrics, opposite = (evaluate(one, OPTIONS)["metrics"] for one in (reward, Contrary(reward)))
    assert metrics.keys() == opposite.keys()
    told = {name: value for name, value in metrics.items() if "gain" not in name and not name.startswith("pairs")}
    assert any(value not in (None, 0.5) for value in told.values())
    for name, value in told.items():
        assert opposite[name] == (None if value is None else pytest.approx(1 - value)), name


def test_a_reward_model_that_hears_nothing_is_as_good_as_a_coin() -> None:
    metrics = evaluate(ToyReward(override=lambda audio: {"musicality": 1.0, "alignment": 1.0}), OPTIONS)["metrics"]
    told = {name: value for name, value in metrics.items() if "gain" not in name and not name.startswith("pairs")}
    assert set(told.values()) - {None} == {0.5}
