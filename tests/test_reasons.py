"""Verdicts and reasons: every number in a sentence is one that can be computed again."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rerank
from rerank.audio import Audio
from rerank.data import Candidate, Prompt
from rerank.errors import InvalidInput
from rerank.filters import Filters
from rerank.protocols import Axis, Norms
from rerank.ranking import Ranking
from rerank.reasons import clear_gap, scales_of
from rerank.rules import RULES
from rerank.settings import Settings
from rerank.verdict import Verdict, chance
from tests.conftest import ToyGenerator, ToyReward

AXES = ("musicality", "alignment")
NORMS = {"takes": "4 takes by synth", "quantiles": {"musicality": [0.0, 1.0, 2.0, 3.0, 4.0]}}


def settings(calibration: float | None = 2.0, **changes: Any) -> Settings:
    record = {"name": "cmi-mini", "calibration": calibration, "norms": NORMS}
    return replace(
        Settings(
            n=9,
            top_k=9,
            generator="synth",
            reward="cmi-mini",
            rewards=(record,),
            weights={"musicality": 0.5, "alignment": 0.5},
            filters={},
            rerank_version="0",
        ),
        **changes,
    )


def ranking(rows: list[tuple[float | None, float | None]], made_with: Settings | None = None) -> Ranking:
    candidates = [
        Candidate(index=index, seed=10 + index, audio=None, rewards=dict(zip(AXES, row, strict=True)))
        for index, row in enumerate(rows)
    ]
    return Ranking.of(Prompt("piano"), candidates, made_with or settings())


def test_a_verdict_is_the_logistic_function_of_the_calibrated_gap() -> None:
    found = ranking([(1.0, 1.0), (2.0, 1.5), (0.0, 0.0)]).verdict
    assert found is not None and found == Verdict("clear", found.probability, 1, 0)
    assert found.probability == pytest.approx(1 / (1 + math.exp(-2.0 * 0.75)))
    assert found.to_dict() == {"word": "clear", "probability": found.probability, "first": 1, "second": 0}


@pytest.mark.parametrize(
    "gap, word",
    [(0.0, "too close to call"), (0.2, "too close to call"), (0.3, "leans"), (0.5, "leans"), (0.6, "clear")],
)
def test_a_verdict_has_three_words(gap: float, word: str) -> None:
    found = ranking([(1.0, 1.0), (1.0 + gap, 1.0 + gap)]).verdict
    assert found is not None and found.word == word


def test_a_chance_below_a_limit_is_not_shown_at_it() -> None:
    just_below = math.log(0.7499 / 0.2501) / 2.0  # what makes 74.99 % by the calibration of 2
    found = ranking([(0.0, 0.0), (just_below, just_below)])
    assert found.verdict is not None and found.verdict.word == "leans"
    assert found.best.reasons[0].endswith("with a probability of 74%: leans")
    assert "verdict: leans (74%)" in repr(found) and "verdict: leans (74%)" in found._repr_html_()
    assert "with a probability of 99%: clear" in ranking([(0.0, 0.0), (5.0, 5.0)]).best.reasons[0]


def test_there_is_no_verdict_without_calibration_or_a_second() -> None:
    assert ranking([(1.0, 1.0), (2.0, 2.0)], settings(None)).verdict is None
    assert ranking([(1.0, 1.0)]).verdict is None
    assert ranking([]).verdict is None
    without = settings(rewards=({"name": "cmi-mini"},))  # as an earlier document has it
    assert ranking([(1.0, 1.0), (2.0, 2.0)], without).verdict is None


def test_what_has_no_weight_needs_no_calibration() -> None:
    two = ({"name": "a", "calibration": 1.0}, {"name": "b"})
    made_with = settings(rewards=two, weights={"a.x": 1.0, "b.y": 0.0})
    assert chance({"a.x": 2.0, "b.y": 0.0}, {"a.x": 1.0, "b.y": 9.0}, made_with) == pytest.approx(
        1 / (1 + math.exp(-1))
    )
    weighted = replace(made_with, weights={"a.x": 0.5, "b.y": 0.5})
    assert chance({"a.x": 2.0, "b.y": 0.0}, {"a.x": 1.0, "b.y": 9.0}, weighted) is None


def test_the_odds_of_several_reward_models_are_averaged_by_weight() -> None:
    two = ({"name": "a", "calibration": 1.0}, {"name": "a.b", "calibration": 3.0})
    made_with = settings(rewards=two, weights={"a.x": 0.25, "a.b.y": 0.75})
    odds = 0.25 * 1.0 * (2.0 - 1.0) + 0.75 * 3.0 * (0.5 - 0.6)
    found = chance({"a.x": 2.0, "a.b.y": 0.5}, {"a.x": 1.0, "a.b.y": 0.6}, made_with)
    assert found == pytest.approx(1 / (1 + math.exp(-odds)))
    # an axis that one of the two lacks takes no part
    assert chance({"a.x": 2.0, "a.b.y": None}, {"a.x": 1.0, "a.b.y": 0.6}, made_with) == pytest.approx(0.7310586)


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
def test_a_chance_never_overflows(one: float, other: float) -> None:
    found = chance({"musicality": one}, {"musicality": other}, settings(weights={"musicality": 1.0}))
    assert found is not None and 0 <= found <= 1


def test_a_rule_that_turns_the_order_round_is_too_close_to_call() -> None:
    rows: list[tuple[float | None, float | None]] = [(0.0, 1.0), (10.0, 0.99), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)]
    found = ranking(rows, settings(rule="rank"))
    assert found.best.index == 0 or found.best.index == 1
    both = ranking(
        [(0.0, 1.0), (10.0, 0.0), (9.0, 0.5)], settings(rule="rank", weights={"musicality": 0.4, "alignment": 0.6})
    )
    assert both.best.index == 0 and both.verdict is not None
    assert both.verdict.word == "too close to call" and both.verdict.probability < 0.5


def test_reasons_say_where_a_candidate_stands() -> None:
    found = ranking([(1.0, 1.0), (2.5, 1.5), (1.0, 0.5)])
    first, second, third = found
    assert first.reasons == (
        "1.000 ahead of seed 10, and better than it with a probability of 88%: clear",
        "musicality 2.500: 1st of 3, above 62% of 4 takes by synth",
        "alignment 1.500: 1st of 3",
        "combined 2.000 = 0.5 × 2.500 (musicality) + 0.5 × 1.500 (alignment)",
    )
    assert second.reasons[:2] == (
        "1.000 behind seed 11, which is better with a probability of 88%",
        "musicality 1.000: shares the 2nd of 3 with 1 more, above 25% of 4 takes by synth",
    )
    assert third.reasons[2] == "alignment 0.500: 3rd of 3"


def test_what_is_set_aside_says_which_filter_did_it(tmp_path: Path) -> None:
    silent = ToyGenerator(change=lambda seed, audio: Audio(audio.waveform * (seed != 1), audio.sample_rate))
    floors = {"musicality": 0.095}
    found = rerank.generate(
        "piano", 4, duration=0.5, generator=silent, reward=ToyReward(), filters=Filters(floors=floors)
    )
    by_kind = {one.set_aside_kind: one.reasons for one in found.set_aside}
    assert by_kind["silent"][0].startswith("the filter 'silent' set it aside: silent: no sound at all")
    lost = rerank.generate("piano", 2, duration=0.5, generator=ToyGenerator(failing=[1]), reward=ToyReward())
    assert lost.set_aside[0].reasons == ("generation failed: RuntimeError: no ideas for seed 1",)
    assert by_kind["floor"][0].startswith("the filter 'floors' set it aside: below the floor: musicality")


def test_a_part_that_is_not_followed_is_a_reason() -> None:
    found = rerank.generate("piano", 2, lyrics="la la", duration=0.5, generator=ToyGenerator(), reward=ToyReward())
    assert all("toy did not follow the lyrics of the prompt" in one.reasons for one in found)


@pytest.mark.parametrize("rule", RULES)
@given(st.lists(st.tuples(st.floats(-9, 9), st.none() | st.floats(-9, 9)), min_size=1, max_size=6), st.floats(0.01, 1))
def test_the_parts_of_a_combined_reward_add_up(
    rule: Any, rows: list[tuple[float, float | None]], weight: float
) -> None:
    made_with = settings(rule=rule, weights={"musicality": weight, "alignment": 1 - weight + 0.01})
    for candidate in ranking([*rows], made_with):
        for reason in candidate.reasons:
            if reason.startswith("combined"):
                told, *terms = (float(text) for text in re.findall(r"(?:= |\+ |combined |× )(-?[\d.e-]+)", reason))
                parts = [weight * value for weight, value in zip(terms[::2], terms[1::2], strict=True)]
                assert sum(parts) == pytest.approx(told, abs=0.001 * (2 + sum(map(abs, terms))))


def test_what_a_prompt_and_a_notebook_show_has_the_verdict() -> None:
    found = ranking([(1.0, 3.0), (2.0, 1.0)], settings(notes=("synth ignored: <vinyl>",)))
    assert repr(found).endswith("\n  verdict: leans (73%)>")
    assert repr(replace(found, prompt=Prompt.of(None))).startswith("<Ranking: 2 ranked")
    html = found._repr_html_()
    assert "<li>verdict: leans (73%)</li>" in html and "<li>synth ignored: &lt;vinyl&gt;</li>" in html
    assert "<li>0.500 ahead of seed 11, and better" in html


def test_reasons_and_verdict_follow_the_weights() -> None:
    found = ranking([(1.0, 3.0), (2.0, 1.0)])
    other = found.reweight({"musicality": 1})
    assert found.best.index == 0 and other.best.index == 1
    assert not any(reason.startswith("combined") for reason in other.best.reasons)
    assert found.verdict is not None and other.verdict is not None
    assert (found.verdict.first, other.verdict.first) == (0, 1)


def test_a_document_holds_the_verdict_and_what_it_is_made_from(tmp_path: Path) -> None:
    reward = ToyReward()
    norms = Norms(takes="2 toys", quantiles={"musicality": (0.0, 0.1, 0.2)})
    axes = {**reward.info.axes, "musicality": Axis(meaning="how bright it is", low=0.0, high=2.0)}
    reward.info = replace(reward.info, axes=axes, calibration=30.0, norms=norms, trained_on=("tones",))
    found = rerank.generate("piano", 4, duration=0.5, generator=ToyGenerator(), reward=reward, output=tmp_path / "run")
    document = json.loads((tmp_path / "run/ranking.json").read_text())
    assert found.verdict is not None and document["verdict"] == found.verdict.to_dict()
    assert set(document["verdict"]) == {"word", "probability", "first", "second"}
    record = document["settings"]["rewards"][0]
    assert record["calibration"] == 30.0 and record["trained_on"] == ["tones"]
    assert record["axes"]["musicality"] == {"meaning": "how bright it is", "weight": 1.0, "low": 0.0, "high": 2.0}
    again = rerank.load(tmp_path / "run")
    assert again.verdict == found.verdict
    assert [one.reasons for one in again] == [one.reasons for one in found]
    assert [one.reasons for one in again.reweight()] == [one.reasons for one in found]


@pytest.mark.parametrize(
    "change",
    [
        {"calibration": "2"},
        {"norms": {"takes": 3, "quantiles": {}}},
        {"norms": {"takes": "toys", "quantiles": {"musicality": [1.0]}}},
        {"norms": {"takes": "toys", "quantiles": {"musicality": [2.0, 1.0]}}},
        {"axes": {"musicality": {"meaning": 3}}},
    ],
)
def test_a_document_with_another_meaning_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    rerank.generate("piano", 2, duration=0.5, generator=ToyGenerator(), reward=ToyReward(), output=tmp_path / "run")
    path = tmp_path / "run/ranking.json"
    document = json.loads(path.read_text())
    document["settings"]["rewards"][0].update(change)
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidInput, match="is no ranking that can be read"):
        rerank.load(tmp_path / "run")


def test_norms_tell_the_share_below() -> None:
    norms = Norms(takes="toys", quantiles={"x": (0.0, 1.0, 1.0, 3.0)})
    found = [norms.share_below("x", value) for value in (-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0)]
    assert found == pytest.approx([0, 0, 1 / 6, 2 / 3, 5 / 6, 1, 1])
    assert norms.share_below("y", 0.0) is None


def test_scales_say_what_the_numbers_mean() -> None:
    given = [{axis: 1.0 for axis in AXES}]
    told = scales_of(settings(2.0), given)
    assert told == [
        "musicality: half of 4 takes by synth have 1.00 to 3.00, the middle one 2.00",
        "cmi-mini: 0.55 more in the mean of its axes is a clear win, better in three of four cases",
    ]
    bounded = {"name": "cmi-mini", "axes": {"musicality": {"meaning": "x", "low": -1.0, "high": 1.0}}}
    assert scales_of(settings(rewards=(bounded,)), given)[0] == "musicality lies between -1 and 1"
    assert "nobody measured" in scales_of(settings(rewards=(bounded,)), given)[-1]
    assert scales_of(settings(rule="rank"), given)[0].startswith("combined: minus the weighted mean of the ranks")
    known = {axis: {"meaning": "x", "weight": 1.0} for axis in AXES}
    weighed = {"name": "cmi-mini", "calibration": 2.0, "axes": known}
    assert "less sure" not in " ".join(scales_of(settings(rewards=(weighed,)), given))
    other = settings(rewards=(weighed,), weights={"musicality": 0.75, "alignment": 0.25})
    assert (
        scales_of(other, given)[-1] == "cmi-mini: that was measured for its usual weights, and is less sure for others"
    )
    assert scales_of(settings(2.0), [{"musicality": None, "alignment": 1.0}]) == told[1:]
    assert scales_of(settings(2.0), [{}]) == []
    assert clear_gap(1.0) == pytest.approx(np.log(3))


def test_a_reward_model_that_answers_later_is_no_longer_named_as_a_fault(tmp_path: Path) -> None:
    class Moody(ToyReward):
        def __init__(self) -> None:
            super().__init__()
            self.awake = False
            self.info = replace(self.info, name="moody")

        def score(self, prepared: float, audio: Any) -> Any:
            if not self.awake:
                raise RuntimeError("asleep")
            return super().score(prepared, audio)

    moody, folder = Moody(), tmp_path / "run"
    found = rerank.generate(
        "piano", 2, duration=0.5, generator=ToyGenerator(), reward=[ToyReward(), moody], output=folder
    )
    assert all("moody gave no reward: RuntimeError: asleep" in one.reasons for one in found)
    assert all(one.rewards["moody.musicality"] is None for one in found)
    assert all(one.rewards == other.rewards for one, other in zip(rerank.load(folder), found, strict=True))
    moody.awake = True
    again = rerank.rank(folder, reward=moody, output=folder)
    assert not any("gave no reward" in reason for one in again for reason in one.reasons)
    assert all(one.faults == {} and one.rewards["moody.musicality"] is not None for one in again)


def test_what_a_gap_means_was_measured_for_music_that_the_reward_model_knows(tmp_path: Path) -> None:
    mini = rerank.load_reward("cmi-mini")
    assert mini.info.calibration is not None
    made = rerank.generate("slow piano", 2, duration=1.0, generator="synth", reward=mini, output=tmp_path / "run")
    assert made.verdict is not None
    again = rerank.rank([one.path for one in made if one.path], "slow piano", reward=mini)
    assert again.verdict == made.verdict  # files of a run by synth
    for candidate in made:
        candidate.save(tmp_path / f"{candidate.index}.wav")
    unknown = rerank.rank([tmp_path / "0.wav", tmp_path / "1.wav"], "slow piano", reward=mini)
    assert unknown.verdict is None
    assert "nobody measured" in scales_of(unknown.settings, [one.rewards for one in unknown])[-1]
    assert "above" in unknown.best.reasons[1]  # where it stands among takes by synth is a fact


def test_a_prompt_that_the_reward_model_cannot_read_gets_no_verdict(tmp_path: Path) -> None:
    mini = rerank.load_reward("cmi-mini")
    unread = rerank.generate("traurige langsame Musik mit Klavier", 2, duration=1.0, generator="synth", reward=mini)
    assert unread.verdict is None
    assert rerank.generate("xyzzy qwrtp", 2, duration=1.0, generator="synth", reward=mini).verdict is None
    assert any("seems to be German" in note for note in unread.settings.notes)
