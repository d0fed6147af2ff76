"""Filters: each finds its fault and names it, none finds one in sound audio, each can be switched off."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank.audio import Audio, resample, to_mono
from rerank.errors import InvalidInput, UnknownName
from rerank.filters import Duplicates, Filters, fingerprint, loudest_tenth, reward_fault, sound_fault
from tests.conftest import notes

DURATION = 2.0


def take(seed: int) -> Audio:
    return notes(np.random.default_rng(seed), DURATION)


def changed(change: Callable[[Any], Any], seed: int = 0) -> Audio:
    audio = take(seed)
    return Audio(np.asarray(change(audio.waveform), np.float32), audio.sample_rate)


def click(waveform: Any) -> Any:
    made = np.zeros_like(waveform)
    made[:, 500] = 1
    return made


FAULTS: dict[str, tuple[Audio, str]] = {
    "not_finite": (
        changed(lambda w: np.where(np.arange(w.shape[1]) == 7, np.nan, w)),
        "not finite: 2 of 64000 samples are NaN or infinite",
    ),
    "silent": (changed(lambda w: w * 1e-5), "silent: -1"),
    "clipped": (changed(lambda w: (w * 20).clip(-1, 1)), "clipped: "),
    "dc_offset": (changed(lambda w: w * 0.5 + 0.2), "DC offset: the mean of a channel is 0.2"),
    "short": (changed(lambda w: w[:, : w.shape[1] // 2]), "short: 1.00 s of the 2.00 s asked for"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_filter_names_its_fault_and_can_be_switched_off(name: str) -> None:
    audio, reason = FAULTS[name]
    assert (sound_fault(audio, Filters(), DURATION) or "").startswith(reason)
    assert sound_fault(audio, Filters.named({name: None}), DURATION) is None
    assert sound_fault(audio, Filters.off(), DURATION) is None


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20)
def test_sound_audio_passes(seed: int) -> None:
    assert sound_fault(take(seed), Filters(), DURATION) is None


@pytest.mark.parametrize(
    ("change", "told"), [(np.zeros_like, "no sound at all"), (click, "silent"), (lambda w: w * 0 + 0.01, "silent")]
)
def test_silence_a_click_and_a_constant_are_silent(change: Callable[[Any], Any], told: str) -> None:
    assert told in (sound_fault(changed(change), Filters(), DURATION) or "")


def test_level_is_that_of_a_full_scale_sine() -> None:
    sine = np.sin(2 * np.pi * 100 * np.arange(16_000) / 16_000).astype(np.float32)[None]
    assert loudest_tenth(Audio(sine, 16_000)) == pytest.approx(-3.01, abs=0.01)


def test_short_needs_a_duration_that_was_asked_for_and_an_empty_candidate_is_short() -> None:
    audio, _ = FAULTS["short"]
    assert sound_fault(audio, Filters(), None) is None
    assert "short: 0.00 s" in (sound_fault(Audio(np.zeros((1, 0), np.float32), 16_000), Filters(), 1.0) or "")


def duplicates(audio: list[Audio], threshold: float | None = Filters().duplicate) -> list[int]:
    found = Duplicates(threshold)
    return [index for index, piece in enumerate(audio) if found.fault(index, piece)]


def test_a_copy_is_found_at_any_level_with_noise_in_mono_and_at_another_rate() -> None:
    copies = [
        changed(lambda w: w * 0.1),
        changed(lambda w: w + 1e-4 * np.random.default_rng(1).standard_normal(w.shape)),
        to_mono(take(0)),
        resample(take(0), 44_100),
    ]
    assert duplicates([take(0), *copies]) == [1, 2, 3, 4]
    assert duplicates([take(0), *copies], None) == []
    assert "of candidate 0" in (_second_fault(take(0), take(0)) or "")


def _second_fault(one: Audio, two: Audio) -> str | None:
    found = Duplicates(0.97)
    assert found.fault(0, one) is None
    return found.fault(1, two)


def test_different_takes_are_no_duplicates() -> None:
    assert duplicates([take(seed) for seed in range(40)]) == []


def test_sound_that_does_not_move_has_no_fingerprint() -> None:
    assert fingerprint(Audio(np.zeros((1, 16_000), np.float32), 16_000)) is None
    assert fingerprint(Audio(np.zeros((1, 9), np.float32), 16_000)) is None
    assert fingerprint(FAULTS["not_finite"][0]) is None


def test_floors() -> None:
    filters = Filters(floors={"musicality": 0.5, "alignment": 0.0})
    assert reward_fault({"musicality": 0.5, "alignment": None}, filters) is None
    assert reward_fault({"musicality": 0.4, "alignment": 1.0}, filters) == (
        "below the floor: musicality 0.400, at least 0.5 is needed"
    )
    with pytest.raises(UnknownName, match="did you mean 'musicality'"):
        Filters(floors={"musicalty": 0.5}).check_axes({"musicality": ""})


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({"silent": 3}, r"filter 'silent' must be -200 to 0 \(dBFS\), or off \(in Python: None\); got 3"),
        ({"clipped": float("nan")}, "filter 'clipped' must be 0 to 1"),
        ({"duplicate": "much"}, "filter 'duplicate' must be 0 to 1"),
        ({"clipped": True}, "got True"),
        ({"clipped": 10**400}, "filter 'clipped' must be 0 to 1 .*; got 1000"),
        ({"silence": -50}, "unknown filter 'silence'; did you mean 'silent'"),
    ],
)
def test_thresholds_out_of_range_are_refused(thresholds: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Filters.named(thresholds)
    with pytest.raises(InvalidInput, match="floor of 'musicality' must be a finite number, got nan"):
        Filters(floors={"musicality": float("nan")})
    with pytest.raises(InvalidInput, match=r"floors must be a mapping such as .*, got \[1\]"):
        Filters(floors=[1])  # type: ignore[arg-type]


def test_thresholds_from_numpy_are_stored_as_plain_numbers() -> None:
    half: Any = np.float32(0.5)
    assert json.loads(json.dumps(Filters(dc_offset=half, floors={"musicality": half}).to_dict()))["dc_offset"] == 0.5
