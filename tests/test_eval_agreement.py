"""Agreement with the truth: the metrics on cases that can be worked out by hand, and a run on the real parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rerank
from rerank.data import Prompt
from rerank.errors import InvalidInput
from rerank.eval.agreement import (
    AgreementOptions,
    _damage,
    _lyrics,
    _reference,
    _text,
    best_of_n_gain,
    evaluate,
    pair_accuracy,
    preference,
)
from rerank.generators.synth import read
from rerank.protocols import Progress

rows = st.lists(st.floats(-5, 5), min_size=4, max_size=4)
tables = st.lists(rows, min_size=1, max_size=5).map(lambda table: np.array(table))


@given(tables)
def test_truth_itself_agrees_fully(truth: np.ndarray) -> None:
    accuracy, pairs = pair_accuracy(truth, truth)
    assert accuracy == (1.0 if pairs else None)
    if np.ptp(truth, axis=1).max() > 1e-6:
        assert best_of_n_gain(truth, truth) == pytest.approx((1.0, 1.0))


@given(tables)
def test_the_opposite_of_truth_never_agrees(truth: np.ndarray) -> None:
    accuracy, pairs = pair_accuracy(-truth, truth)
    assert accuracy == (0.0 if pairs else None)


def test_ties_count_half() -> None:
    assert pair_accuracy(np.zeros((1, 3)), np.array([[0.0, 0.5, 1.0]])) == (0.5, 3)
    assert preference(np.zeros(4), np.zeros(4)) == 0.5


def test_pairs_that_hardly_differ_are_left_out() -> None:
    assert pair_accuracy(np.array([[0.0, 1.0, 2.0]]), np.array([[0.5, 0.6, 1.0]]))[1] == 2


def test_choosing_the_mean_candidate_gains_nothing() -> None:
    assert best_of_n_gain(np.array([[0.0, 9.0, 1.0]]), np.array([[0.0, 0.5, 1.0]])) == (0.0, 0.0)


def test_there_is_nothing_to_choose_among_equals() -> None:
    assert best_of_n_gain(np.array([[1.0, 2.0]]), np.zeros((1, 2))) == (None, None)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 2)), r"got \(2, 3\) and \(2, 2\)"),
        (np.zeros(3), np.zeros(3), "need two arrays"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "need two arrays"),
        (np.array([[np.nan]]), np.zeros((1, 1)), "must be finite"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(first: np.ndarray, second: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        pair_accuracy(first, second)


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


def test_a_prompt_is_read_the_same_by_generator_and_truth() -> None:
    assert read(Prompt("slow piano", lyrics="oh my love")).vowels
