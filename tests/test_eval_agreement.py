"""Agreement with the truth: cases that differ in one part, and a report that follows what the reward model says."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rerank
from rerank.audio import Audio
from rerank.data import Prompt
from rerank.errors import InvalidInput, MissingDependency, WeightsError
from rerank.eval.agreement.cases import CASES
from rerank.eval.agreement.plot import check_plot, write_plot
from rerank.eval.agreement.report import calibration_of, check_folder, evaluate
from rerank.eval.agreement.sure import ALL, how_sure
from rerank.eval.agreement.takes import AXES, AgreementOptions, Takes, choices, norms
from rerank.eval.metrics import best_of_n_gain
from rerank.generators.synth import Synth, read
from rerank.generators.synth.truth import Facts, alignment
from rerank.protocols import Progress, Reward
from rerank.rewards.calibration import read_calibration, write_calibration
from rerank.rewards.mini import load_mini, save_mini, version_of
from tests.conftest import ToyReward
from tests.test_rewards_cmi import build


def test_options_are_checked() -> None:
    with pytest.raises(InvalidInput, match="needs 2 to 2711 prompts"):
        AgreementOptions(prompts=1)


OPTIONS = AgreementOptions(prompts=2, n=2, duration=2.0)


def test_cases_differ_in_one_part_only() -> None:
    rng = np.random.default_rng(0)
    lyrics, reference, text, damage = (CASES[name](rng, OPTIONS) for name in ("lyrics", "reference", "text", "damage"))
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
        case = CASES["damage"](rng, options)
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


TAKES_OPTIONS = AgreementOptions(prompts=30, n=6)


def takes(slope: float = 4.0, prompts: int = 30, n: int = 6) -> Takes:
    """Return takes whose rewards follow their truth more or less."""
    rng = np.random.default_rng(0)
    truths = {axis: rng.random((prompts, n)) for axis in AXES}
    return Takes({axis: slope * truth + rng.normal(size=truth.shape) for axis, truth in truths.items()}, truths)


def test_combined_rewards_and_truths_are_weighted_the_same() -> None:
    made = takes()
    rewards, truth = made.combined({"musicality": 0.25, "alignment": 0.75})
    assert np.allclose(rewards, 0.25 * made.rewards["musicality"] + 0.75 * made.rewards["alignment"])
    assert np.allclose(truth, 0.25 * made.truths["musicality"] + 0.75 * made.truths["alignment"])
    assert np.array_equal(made.combined()[0], np.mean([*made.rewards.values()], axis=0))


def test_each_rule_chooses_for_itself() -> None:
    """By hand: the mean prefers the first take (4), z-scores the second (0.17), ranks the third (-2.25)."""
    rewards = {"musicality": np.array([[7.0, 2.0, 4.0, 3.0]]), "alignment": np.array([[1.0, 3.0, 2.0, 2.0]])}
    truth = np.array([[0.2, 0.4, 1.0, 0.0]])
    found = choices(Takes(rewards, {axis: truth for axis in AXES}), 4)
    gains = {rule: one["gain"]["value"] for rule, one in found.items()}
    assert gains == pytest.approx({"mean": -1 / 3, "zscore": 0.0, "rank": 1.0})
    assert {rule: one["same choice"]["value"] for rule, one in found.items()} == {
        "mean": 1.0,
        "zscore": 0.0,
        "rank": 0.0,
    }
    assert found["rank"]["more than mean"]["value"] == pytest.approx(4 / 3)


def test_smaller_runs_are_cut_from_the_takes() -> None:
    made = takes(n=7)
    found = choices(made, 3)
    rewards, truth = (of[:, :6].reshape(-1, 3) for of in made.combined())
    gain, _ = best_of_n_gain(rewards, truth)
    assert found["mean"]["gain"]["value"] == pytest.approx(gain)


def test_norms_are_quantiles_of_all_takes() -> None:
    made = takes()
    found = norms(made, TAKES_OPTIONS)
    assert found.takes == "180 takes of 10 s by synth"
    for axis, values in made.rewards.items():
        steps = found.quantiles[axis]
        assert len(steps) == 21 and steps[0] == pytest.approx(values.min(), abs=1e-4)
        assert steps[10] == pytest.approx(np.median(values), abs=1e-4)


def report_on(made: Takes) -> dict[str, Any]:
    return {
        "version": "abc",
        "options": {"prompts": 30, "n": 6},
        "rules": {"6": choices(made, 6)},
        "calibration": how_sure(made),
        "norms": asdict(norms(made, TAKES_OPTIONS)),
    }


def test_how_sure_tells_of_every_kind_of_pairs_and_of_other_weights() -> None:
    found = how_sure(takes(prompts=200))
    kinds = [ALL, "first against the others of 6, 5 and 3", *(f"first against second of {n}" for n in (6, 5, 3))]
    assert list(found["told"]) == kinds and found["fitted to"] == kinds[1]
    assert found["interval"][0] < found["slope"] < found["interval"][1]
    judged = found["told"][ALL]
    assert judged["pairs"] == 200 * 15 and judged["error"] < 0.05 and len(judged["bins"]) == 10
    assert sum(word["pairs"] for word in judged["words"].values()) == judged["pairs"]
    clear = judged["words"]["clear"]
    assert clear["said"] > 0.75 and clear["right"]["low"] < clear["right"]["value"] < clear["right"]["high"]
    assert judged["words"]["too close to call"]["said"] < 0.6 <= judged["words"]["leans"]["said"]
    assert found["other weights"]["musicality only"][ALL]["error"] is not None
    json.dumps(found, allow_nan=False)


def test_rewards_that_tell_nothing_are_not_calibrated() -> None:
    with pytest.raises(InvalidInput, match=r"a higher reward is no better \(slope -"):
        calibration_of(report_on(takes(slope=-2.0)))
    with pytest.raises(InvalidInput, match="nothing to calibrate by: too few takes, or no gaps"):
        calibration_of(report_on(same_everywhere()))
    report = report_on(takes())
    report["calibration"]["told"]["first against the others of 6, 5 and 3"] = None
    with pytest.raises(InvalidInput, match="too few takes"):
        calibration_of(report)


def same_everywhere() -> Takes:
    truths = takes().truths
    return Takes({axis: np.zeros_like(truth) for axis, truth in truths.items()}, truths)


def test_rewards_without_gaps_have_no_slope_and_no_verdicts() -> None:
    found = how_sure(same_everywhere())
    assert found["slope"] is None and found["interval"] is None and set(found["told"].values()) == {None}


def test_what_is_stored_is_what_was_reported(tmp_path: Path) -> None:
    report = report_on(takes())
    write_calibration(tmp_path, calibration_of(report))
    stored = read_calibration(tmp_path, "abc", AXES)
    assert stored is not None and stored.slope == report["calibration"]["slope"]
    assert stored.error == report["calibration"]["told"][stored.fitted_to]["error"]
    assert asdict(stored.norms) == report["norms"] and stored.options == report["options"]


def test_the_folder_must_hold_what_is_measured(tmp_path: Path) -> None:
    info = rerank.load_reward("cmi-mini").info
    with pytest.raises(WeightsError, match="a reward model is a folder with"):
        check_folder(tmp_path, info)
    other = save_mini(build(), tmp_path)
    with pytest.raises(InvalidInput, match=f"holds the weights {version_of(other)}, but cmi-mini {info.version}"):
        check_folder(other, info)
    check_folder(other, load_mini(path=other).info)


@pytest.mark.parametrize("ending", [".png", ".SVG"])
def test_plot(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"plot{ending}"
    check_plot(path)
    write_plot(report_on(takes()), path)
    assert path.read_bytes().startswith(b"\x89PNG" if ending == ".png" else b"<?xml")
    with pytest.raises(InvalidInput, match="nothing to draw"):
        write_plot(report_on(same_everywhere()), path)


@pytest.mark.parametrize("name", ["plot", "plot.wav"])
def test_a_picture_has_an_ending_that_is_known(tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(InvalidInput, match="a picture must be a file such as"):
        check_plot(tmp_path / name)


def test_without_matplotlib_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency, match=r"pip install 'rerank-music\[eval\]'"):
        check_plot(tmp_path / "plot.png")
