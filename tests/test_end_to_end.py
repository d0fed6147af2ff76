"""The main job with the built-in generator and reward model, as the three kinds of user meet it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rerank
from rerank.data import Prompt
from rerank.testing import check_reward

PROMPT = "warm lo-fi piano, slow, vinyl crackle"


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a fresh process."""
    command = [sys.executable, "-m", "rerank", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def test_ten_candidates_are_made_and_ranked() -> None:
    ranking = rerank.generate(PROMPT, n=10, duration=2.0)
    assert ranking.settings.generator == "synth" and ranking.settings.reward == "cmi-mini"
    assert len(ranking.candidates) == 10 and len(ranking) + len(ranking.set_aside) == 10
    combined = [candidate.combined or 0.0 for candidate in ranking]
    assert combined == sorted(combined, reverse=True)
    assert all(set(candidate.rewards) == {"musicality", "alignment"} for candidate in ranking)


def test_three_candidates_are_the_beginning_of_ten() -> None:
    few, many = (rerank.generate(PROMPT, n=n, duration=1.5) for n in (3, 6))
    by_index = {candidate.index: candidate for candidate in many.candidates}
    for candidate in few.candidates:
        other = by_index[candidate.index]
        assert candidate.audio and other.audio
        assert np.array_equal(candidate.audio.waveform, other.audio.waveform)
        assert candidate.rewards == pytest.approx(other.rewards, abs=1e-4)


def test_reweighting_scores_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ranking = rerank.generate(PROMPT, n=4, duration=1.0)
    monkeypatch.setattr("rerank.rewards.cmi.CmiReward.score", None)
    by_alignment = ranking.reweight({"alignment": 1})
    rewards = [candidate.rewards["alignment"] or 0.0 for candidate in by_alignment]
    assert rewards == sorted(rewards, reverse=True)


def test_all_parts_of_a_prompt_at_once(tmp_path: Path) -> None:
    reference = rerank.generate("bright fast techno", n=1, duration=3.0).best.save(tmp_path / "reference.wav")
    ranking = rerank.generate("dance music", n=2, duration=2.0, lyrics="feel the night", reference=reference)
    assert ranking.settings.not_followed == () and ranking.settings.not_read == ()
    truth = ranking.candidates[0].truth
    assert truth and truth["asked"]["vowels"] and truth["asked"]["reference"]


@pytest.mark.parametrize("parts", [{"lyrics": "sing with me"}, {"text": "piano"}])
def test_scores_do_not_depend_on_the_run(parts: dict[str, str]) -> None:
    ranking = rerank.generate(Prompt(**parts), n=3, duration=2.0)
    for candidate in ranking:
        assert candidate.audio
        assert rerank.score(candidate.audio, Prompt(**parts)) == pytest.approx(candidate.rewards, abs=1e-4)


def test_keeps_the_promises_of_a_reward_model() -> None:
    check_reward(rerank.load_reward("cmi-mini"))


def test_the_command_is_the_same_in_two_processes(tmp_path: Path) -> None:
    documents = []
    for name in ("one", "two"):
        done = run("generate", PROMPT, "-n", "2", "--duration", "1.5", "-o", name, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        documents.append(json.loads(done.stdout))
        assert json.loads((tmp_path / name / "ranking.json").read_text(encoding="utf-8")) == documents[-1]
    assert documents[0] == documents[1]
    for candidate in documents[0]["candidates"]:
        one, two = ((tmp_path / name / candidate["path"]).read_bytes() for name in ("one", "two"))
        assert one == two


def test_rank_and_score_take_the_files_of_a_run(tmp_path: Path) -> None:
    ranking = rerank.generate(PROMPT, n=3, duration=1.5)
    ranking.save(tmp_path / "run")
    files = sorted(str(path) for path in (tmp_path / "run" / "candidates").iterdir())
    again = rerank.rank(files, PROMPT)
    assert [c.index for c in again] == [c.index for c in ranking]
    done = run("score", *files, "--prompt", PROMPT, "--json", cwd=tmp_path)
    scores = json.loads(done.stdout)["scores"]
    assert [entry["path"] for entry in scores] == files
