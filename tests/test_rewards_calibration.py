"""What is stored beside the weights: it comes back as it was, and what is wrong with it is said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rerank
from rerank.catalogue import reward_info
from rerank.errors import OutputError, WeightsError
from rerank.protocols import Norms
from rerank.reasons import clear_gap
from rerank.rewards.calibration import CALIBRATION, Calibration, read_calibration, write_calibration
from rerank.rewards.mini import load_mini, save_mini, version_of
from tests.conftest import ROOT
from tests.test_rewards_cmi import build

AXES = ("musicality", "alignment")


def example(version: str = "abc") -> Calibration:
    return Calibration(
        version=version,
        slope=1.5,
        interval=(1.25, 1.75),
        error=0.02,
        pairs=4000,
        fitted_to="all pairs",
        norms=Norms(takes="20 takes", quantiles={axis: (-1.0, 0.0, 0.0, 2.5) for axis in AXES}),
        options={"prompts": 2, "n": 10},
    )


def test_round_trip(tmp_path: Path) -> None:
    assert read_calibration(tmp_path, "abc", AXES) is None
    assert write_calibration(tmp_path, example()) == tmp_path / "calibration.json"
    assert read_calibration(tmp_path, "abc", AXES) == example()


def test_a_reward_model_has_a_calibration_once_it_was_measured(tmp_path: Path) -> None:
    folder = save_mini(build(), tmp_path)
    info = load_mini(path=folder).info
    assert info.calibration is None and info.norms is None and info.version == version_of(folder)
    write_calibration(folder, example(info.version))
    measured = load_mini(path=folder).info
    assert measured.calibration == 1.5 and measured.norms == example().norms and measured.version == info.version
    save_mini(build(), folder)
    assert load_mini(path=folder).info.calibration is None


def test_the_built_in_one_was_measured() -> None:
    info = rerank.load_reward("cmi-mini").info
    assert info.version == "46790ae714ba" == version_of()
    assert info.calibration is not None and 0.8 < info.calibration < 1.8
    assert info.norms is not None and info.norms.quantiles.keys() == info.axes.keys()
    assert info.norms.takes == "2,000 takes of 10 s by synth"
    middle = info.norms.quantiles["musicality"][len(info.norms.quantiles["musicality"]) // 2]
    assert info.norms.share_below("musicality", middle) == pytest.approx(0.5)


def test_a_gap_of_bradley_terry_is_log_odds_and_a_cosine_is_none() -> None:
    assert reward_info("cmi-rm").calibration == 1.0 and reward_info("mulan").calibration is None
    assert reward_info("cmi-mini").calibration is None  # only loading tells which weights it is of


def test_the_docs_say_what_was_measured() -> None:
    info = rerank.load_reward("cmi-mini").info
    text = " ".join((ROOT / "docs" / "rewards.md").read_text(encoding="utf-8").split())
    assert info.calibration is not None and info.norms is not None
    assert f"measured: {clear_gap(info.calibration):.2f} more of the combined reward" in text
    assert f"are {info.calibration:.2f} times the gap" in text
    for axis, values in info.norms.quantiles.items():
        low, high = np.quantile(values, [0.25, 0.75])
        assert f"{axis} between {low:.2f} and {high:.2f}" in text


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"slope": 0}, "slope must be a number above 0, got 0"),
    ({"slope": -1.5}, "slope must be"),
    ({"slope": "1.5"}, "slope must be a number above 0, got '1.5'"),
    ({"slope": True}, "slope must be"),
    ({"slope": None}, "slope must be"),
    ({"interval": [1, 2, 3]}, "interval must be two numbers"),
    ({"interval": [2, 1]}, "interval must be two or more finite numbers that do not fall"),
    ({"interval": 1}, "interval must be"),
    ({"error": 1.5}, "error must be a number from 0 to 1"),
    ({"pairs": 0}, "pairs must be a whole number above 0"),
    ({"pairs": 1.5}, "pairs must be"),
    ({"version": 7}, "version must be a text"),
    ({"fitted_to": " "}, "fitted_to must be a text"),
    ({"options": []}, "options must be an object"),
    ({"norms": None}, "norms must be an object with quantiles, takes"),
    ({"norms": {"takes": "", "quantiles": {axis: [0, 1] for axis in AXES}}}, "takes must be a text"),
    ({"norms": {"takes": "a", "quantiles": {"musicality": [0, 1]}}}, "quantiles must be an object with alignment, mus"),
    ({"norms": {"takes": "a", "quantiles": {axis: [1, 0] for axis in AXES}}}, "quantiles of musicality must be"),
    ({"norms": {"takes": "a", "quantiles": {axis: [0, None] for axis in AXES}}}, "quantiles of musicality must be"),
    ({"norms": {"takes": "a", "quantiles": {axis: [0] for axis in AXES}}}, "quantiles of musicality must be"),
    ({"more": 1}, "it must be an object with error, fitted_to"),
    ({"version": "abd"}, "is of the weights 'abd', not of 'abc'"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    document = json.loads(write_calibration(tmp_path, example()).read_text())
    (tmp_path / CALIBRATION).write_text(json.dumps({**document, **change}))
    with pytest.raises(WeightsError) as caught:
        read_calibration(tmp_path, "abc", AXES)
    told = str(caught.value)
    assert message in told and "\n" not in told and f"--calibrate {tmp_path}" in told


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"slope": NaN}', b'{"slope": 1}']
)
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CALIBRATION).write_bytes(content)
    with pytest.raises(WeightsError, match="calibration.json is broken") as caught:
        read_calibration(tmp_path, "abc", AXES)
    assert "\n" not in str(caught.value)


def test_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    path = write_calibration(tmp_path, example())
    path.write_text(path.read_text().replace("1.5", "NaN"))
    with pytest.raises(WeightsError, match="slope must be a number above 0, got nan"):
        read_calibration(tmp_path, "abc", AXES)


def test_a_calibration_of_other_weights_is_refused_when_they_are_loaded(tmp_path: Path) -> None:
    folder = save_mini(build(), tmp_path)
    write_calibration(folder, example())
    with pytest.raises(WeightsError, match="is of the weights 'abc'; remove it|is of the weights 'abc', not of"):
        load_mini(path=folder)


def test_one_that_cannot_be_written_or_removed(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_calibration(tmp_path / "nowhere", example())
    (tmp_path / CALIBRATION).mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        save_mini(build(), tmp_path)
