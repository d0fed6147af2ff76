"""Prompts that are refused, and rankings that keep their promises."""

import hashlib
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.audio import Audio, read
from rerank.data import Candidate, Prompt
from rerank.errors import InvalidInput, OutputError, RerankError, UnknownName, UnreadableAudio
from rerank.ranking import Ranking
from rerank.settings import Settings
from tests.conftest import notes

SETTINGS = Settings(
    n=4,
    top_k=4,
    seed=0,
    duration=0.5,
    generator="toy",
    reward="toy",
    weights={"musicality": 0.5, "alignment": 0.5},
    filters={},
    rerank_version="0",
)
REWARDS = st.floats(-100, 100)
SCORED = st.lists(st.tuples(REWARDS, st.none() | REWARDS), min_size=1, max_size=8)


def candidates(rewards: list[tuple[float, float | None]]) -> list[Candidate]:
    audio = notes(np.random.default_rng(0), 0.1)
    return [
        Candidate(index=index, seed=index, audio=audio, rewards={"musicality": one, "alignment": two})
        for index, (one, two) in enumerate(rewards)
    ]


def ranking(rewards: list[tuple[float, float | None]], **changes: Any) -> Ranking:
    return Ranking.of(Prompt("piano"), candidates(rewards), replace(SETTINGS, **changes))


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_prompt_is_refused_unless_it_has_another_part(text: str) -> None:
    with pytest.raises(InvalidInput, match="the prompt is empty"):
        Prompt(text)
    with pytest.raises(InvalidInput, match="the prompt is empty"):
        Prompt(text, lyrics="  ")
    assert Prompt(text, lyrics="la").conditions() == ["lyrics"]
    assert Prompt(text, reference=notes(np.random.default_rng(0), 0.1)).conditions() == ["reference"]


def test_text_and_lyrics_have_a_limit() -> None:
    assert len(Prompt("a" * 4_000, "b" * 4_000).text) == 4_000
    with pytest.raises(InvalidInput, match="text has 4001 characters, the limit is 4000"):
        Prompt("a" * 4_001)
    with pytest.raises(InvalidInput, match="lyrics has 4001 characters"):
        Prompt("a", "b" * 4_001)
    with pytest.raises(InvalidInput, match="text must be a str, got int"):
        Prompt(3)  # type: ignore[arg-type]


def test_a_reference_may_be_a_path_an_audio_or_a_waveform(tmp_path: Path) -> None:
    audio = notes(np.random.default_rng(0), 0.1)
    path = audio.save(tmp_path / "a.wav")
    for reference in (path, str(path), audio, (audio.waveform, audio.sample_rate)):
        found = Prompt("piano", reference=reference).reference
        assert found is not None and np.array_equal(found.waveform, audio.waveform)


def test_a_reference_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableAudio, match=r"reference: no such audio file: .*a\.wav"):
        Prompt("piano", reference=tmp_path / "a.wav")
    path = Audio(np.zeros((1, 601 * 8_000), np.float32), 8_000).save(tmp_path / "long.flac")
    with pytest.raises(UnreadableAudio, match=r"reference: .* is 601\.0 s long, the limit is 600 s"):
        Prompt("piano", reference=path)
    with pytest.raises(InvalidInput, match="reference: waveform holds samples that are not finite"):
        Prompt("piano", reference=(np.full((1, 99), np.nan), 16_000))


def test_a_part_is_given_once() -> None:
    prompt = Prompt("piano", "la")
    assert Prompt.of(prompt) is prompt
    assert Prompt.of("piano", "la").lyrics == "la"
    with pytest.raises(InvalidInput, match="lyrics given beside a Prompt"):
        Prompt.of(prompt, lyrics="la")


@given(rewards=SCORED)
def test_ranks_follow_the_combined_reward(rewards: list[tuple[float, float | None]]) -> None:
    found = ranking(rewards, top_k=len(rewards), n=len(rewards))
    combined = [candidate.combined for candidate in found]
    assert [candidate.rank for candidate in found] == list(range(1, len(rewards) + 1))
    assert combined == sorted(combined, key=lambda value: -(value or 0.0))
    assert found.best is found[0]
    for one, two in itertools.pairwise(found):
        assert one.combined != two.combined or one.index < two.index


@given(rewards=SCORED, seed=st.randoms())
def test_the_order_of_candidates_does_not_matter(rewards: list[tuple[float, float | None]], seed: Any) -> None:
    shuffled = candidates(rewards)
    seed.shuffle(shuffled)
    again = Ranking.of(Prompt("piano"), shuffled, SETTINGS)
    assert [c.index for c in again.candidates] == [c.index for c in ranking(rewards).candidates]


@given(rewards=SCORED, weight=st.floats(0, 1))
def test_reweight_equals_ranking_with_those_weights(rewards: list[tuple[float, float | None]], weight: float) -> None:
    weights = {"musicality": weight, "alignment": 1 - weight}
    again = ranking(rewards).reweight({"alignment": 1}).reweight(weights)
    direct = ranking(rewards, weights=again.settings.weights)
    assert again.to_dict() == direct.to_dict()


def test_reweight_brings_back_what_only_the_weights_set_aside() -> None:
    found = ranking([(0.1, None), (0.2, 0.3)])
    only = found.reweight({"alignment": 1})
    assert [candidate.index for candidate in only.set_aside] == [0]
    assert only.set_aside[0].set_aside == "no axis that has a weight applies to it"
    assert len(only.reweight({"musicality": 1})) == 2
    with pytest.raises(UnknownName, match="did you mean 'alignment'"):
        found.reweight({"alignmnt": 1})


def test_top_k_limits_the_sequence_and_top_does_not() -> None:
    found = ranking([(0.1, 0.1), (0.3, 0.3), (0.2, 0.2)], top_k=2)
    assert [candidate.index for candidate in found] == [1, 2]
    assert len(found.candidates) == 3
    assert [candidate.index for candidate in found.top(3)] == [1, 2, 0]
    assert found[-1].index == 2
    for k in (0, 5, 1.5):
        with pytest.raises(InvalidInput, match=f"k must be a whole number from 1 to 4, got {k}"):
            found.top(k)  # type: ignore[arg-type]


def test_best_says_why_there_is_none() -> None:
    made = [
        replace(one, set_aside=reason)
        for one, reason in zip(
            candidates([(0.1, 0.1)] * 3), ["silent: -90", "clipped: 9 %", "silent: -80"], strict=True
        )
    ]
    with pytest.raises(RerankError, match=r"all 3 candidates were set aside: silent \(2\), clipped \(1\); try"):
        _ = Ranking.of(Prompt("piano"), made, SETTINGS).best


def test_saved_run(tmp_path: Path) -> None:
    lost = Candidate(index=3, seed=3, audio=None, set_aside="generation failed: no ideas")
    scored = candidates([(0.1, None), (0.3, 0.3), (0.2, 0.2)])
    found = Ranking.of(Prompt("pïano", "la"), [*scored, lost], SETTINGS)
    document = json.loads(found.save(tmp_path / "run").read_text(encoding="utf-8"))
    assert (document["version"], document["verdict"]) == (2, None)
    assert document["prompt"] == {"text": "pïano", "lyrics": "la", "reference": None}
    assert document["status"] == "done"
    assert [entry["rank"] for entry in document["candidates"]] == [1, 2, 3, None]
    assert document["candidates"][0]["path"] == "candidates/001-seed1.flac"
    assert document["candidates"][-1]["path"] is None
    for entry in document["candidates"][:3]:
        back = read(tmp_path / "run" / entry["path"])
        assert (back.duration, back.sample_rate) == (entry["duration"], entry["sample_rate"])
    with pytest.raises(OutputError, match="already holds a run; choose another folder"):
        found.save(tmp_path / "run")
    assert found.save(tmp_path / "run", overwrite=True).exists()
    with pytest.raises(InvalidInput, match="output must be a path, .* got 5"):
        found.save(5)  # type: ignore[arg-type]


def test_paths_in_the_document_are_relative_to_its_folder(tmp_path: Path) -> None:
    reference = notes(np.random.default_rng(0), 0.1).save(tmp_path / "ref.wav")
    prompt = Prompt("piano", reference=reference)
    found = Ranking.of(prompt, candidates([(0.1, 0.1)]), SETTINGS)
    assert found.to_dict()["prompt"]["reference"]["path"] == reference.as_posix()
    told = found.to_dict(tmp_path / "run")["prompt"]["reference"]
    assert (told["path"], told["duration"]) == ("../ref.wav", 0.1)
    assert told["sha256"] == hashlib.sha256(reference.read_bytes()).hexdigest()


def test_a_candidate_without_audio_cannot_be_saved(tmp_path: Path) -> None:
    lost = Candidate(index=3, seed=3, audio=None, set_aside="generation failed: no ideas")
    with pytest.raises(RerankError, match="candidate 3 has no audio to save: generation failed"):
        lost.save(tmp_path / "a.wav")
    assert candidates([(0.1, 0.1)])[0].save(tmp_path / "a.wav").exists()


def test_repr_says_what_came_out() -> None:
    text = repr(ranking([(0.1, None), (0.3, 0.3)]))
    assert text.startswith("<Ranking for 'piano': 2 ranked, 0 set aside\n  1. seed 1: 0.300 (musicality 0.300")
    assert math.isclose(ranking([(0.1, None)]).best.combined or 0, 0.1)
