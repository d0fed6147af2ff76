"""Stored runs are read again, checked, and ranked again without losing anything."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rerank
from rerank.audio import Audio
from rerank.data import Candidate, Prompt
from rerank.errors import InvalidInput, RewardFailed, UnreadableAudio
from rerank.filters import Filters
from rerank.protocols import Progress, RewardInfo
from rerank.runs.stored import verify
from tests.conftest import ToyGenerator, ToyReward, notes
from tests.killing import contents


def spoil(seed: int, audio: Audio) -> Audio:
    return Audio(audio.waveform * np.float32(0.0 if seed == 2 else 1.0), audio.sample_rate)


def stored(folder: Path, n: int = 5, **options: Any) -> rerank.Ranking:
    chosen: dict[str, Any] = {
        "generator": ToyGenerator(change=spoil),
        "reward": ToyReward(),
        "duration": 0.5,
        **options,
    }
    return rerank.generate("piano", n, output=folder, **chosen)


class Loud(ToyReward):
    """Another reward model: `loudness`, and one axis of the same name as the toy has."""

    def __init__(self, name: str = "loud") -> None:
        super().__init__()
        axes = {"loudness": "how loud it is", "musicality": "how quiet it is"}
        self.info = RewardInfo(name=name, axes=axes, sample_rate=16_000)  # type: ignore[arg-type]

    def _score(self, prepared: float, audio: Audio) -> dict[str, float | None]:
        level = float(np.abs(audio.waveform).mean())
        return {"loudness": level, "musicality": -level}


def test_a_stored_run_comes_back_as_it_was(tmp_path: Path) -> None:
    reference = notes(np.random.default_rng(0), 0.2).save(tmp_path / "ref.wav")
    made = stored(tmp_path / "run", top_k=3, weights={"alignment": 2}, reference=reference, lyrics="la")
    for folder in (tmp_path / "run", str(tmp_path / "run"), tmp_path / "run" / "ranking.json"):
        found = rerank.load(folder)
        assert found.to_dict(tmp_path / "run") == made.to_dict(tmp_path / "run")
        assert len(found) == 3 and [one.seed for one in found] == [one.seed for one in made]
        for one, other in zip(found.candidates, made.candidates, strict=True):
            assert one.audio is not None and other.audio is not None
            assert np.array_equal(one.audio.waveform, other.audio.waveform)
    again, direct = (one.reweight({"musicality": 1}) for one in (found, made))
    assert again.to_dict(tmp_path / "run") == direct.to_dict(tmp_path / "run")


def test_a_run_can_be_moved(tmp_path: Path) -> None:
    stored(tmp_path / "run")
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    best = rerank.load(tmp_path / "elsewhere").best
    assert best.audio is not None and best.audio.is_finite()
    assert verify(tmp_path / "elsewhere") == []


def test_the_first_of_a_run_are_a_run_of_that_many(tmp_path: Path) -> None:
    long = stored(tmp_path / "long", 8)
    for n in range(1, 9):
        short = stored(tmp_path / f"{n}", n)
        facts = [
            [(one.rank, one.index, one.combined, one.set_aside) for one in found.candidates]
            for found in (long.first(n), short)
        ]
        assert facts[0] == facts[1]
        assert long.first(n).settings.n == n
    wrong: list[Any] = [0, 9, 1.5]
    for n in wrong:
        with pytest.raises(InvalidInput, match="n must be a whole number from 1 to 8"):
            long.first(n)


def test_what_is_wrong_with_the_files_is_told(tmp_path: Path) -> None:
    stored(tmp_path)
    assert verify(tmp_path) == []
    (tmp_path / "candidates" / "001-seed1.flac").unlink()
    (tmp_path / "candidates" / "003-seed3.flac").write_bytes(b"else")
    missing, other = verify(tmp_path)
    assert missing.endswith("001-seed1.flac is missing") and "003-seed3.flac is not what was stored" in other


def test_version_1_is_still_read(tmp_path: Path) -> None:
    made = stored(tmp_path)
    document = json.loads((tmp_path / "ranking.json").read_text())
    new = ("rewards", "rule", "versions", "generator_version", "generator_options", "generator_device")
    settings = {name: value for name, value in document["settings"].items() if name not in new}
    entries = [
        {
            name: value
            for name, value in entry.items()
            if name not in ("sha256", "channels", "reasons", "set_aside_kind")
        }
        for entry in document["candidates"]
    ]
    old = {"version": 1, "prompt": document["prompt"], "settings": settings, "candidates": entries, "status": "done"}
    (tmp_path / "ranking.json").write_text(json.dumps(old))
    found = rerank.load(tmp_path)
    assert [(one.index, one.rank, one.rewards, one.set_aside_kind) for one in found.candidates] == [
        (one.index, one.rank, one.rewards, one.set_aside_kind) for one in made.candidates
    ]
    assert found.best.audio is not None and made.best.audio is not None
    assert np.array_equal(found.best.audio.waveform, made.best.audio.waveform)
    assert all("records no hashes" in fault for fault in verify(tmp_path))
    ranked = rerank.rank(found, reward=Loud(), output=tmp_path)
    assert set(ranked.settings.weights) == {"toy.musicality", "toy.alignment", "loud.loudness", "loud.musicality"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"version": 3}', "has version 3; this rerank reads versions 1 and 2"),
        ("{}", "has version None"),
        ('{"version": 2}', r"is no ranking that can be read \(KeyError"),
        (
            '{"version": 2, "prompt": {"text": "a", "lyrics": null, "reference": null}, "settings": 3}',
            "no ranking that can",
        ),
        ("nonsense", "is no ranking that can be read"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match="there is no run in .*: it has no ranking.json"):
        rerank.load(tmp_path)
    (tmp_path / "ranking.json").write_text(text)
    with pytest.raises(InvalidInput, match=told):
        rerank.load(tmp_path)


def test_ranked_again_under_other_weights_nothing_is_scored(tmp_path: Path) -> None:
    made = stored(tmp_path)
    assert rerank.rank(made, weights={"toy.alignment": 1}).settings.weights == {"musicality": 0, "alignment": 1}
    found = rerank.rank(made, weights={"alignment": 1}, rule="rank")
    assert found.to_dict() == made.reweight({"alignment": 1}, rule="rank").to_dict()
    floor = sorted(one.rewards["musicality"] or 0.0 for one in made)[2]
    found = rerank.rank(tmp_path, filters=Filters(floors={"musicality": floor}))
    assert [one.set_aside_kind for one in found.set_aside].count("floor") == 2


def test_other_filters_let_in_and_keep_out(tmp_path: Path) -> None:
    """Only what is let in now has to be scored, by the reward model of the run where that can be named."""
    made = stored(tmp_path)
    assert [one.set_aside_kind for one in made.set_aside] == ["silent"]
    found = rerank.rank(made, filters=Filters(silent=None, duplicate=None))
    assert [one.set_aside for one in found.set_aside] == ["not scored: its reward model was not asked"]
    reward = ToyReward()
    found = rerank.rank(made, reward=reward, filters=Filters(silent=None, duplicate=None))
    assert (reward.scored, len(found)) == (1, 5)
    none = rerank.rank(made, filters=Filters(silent=0))
    assert len(none) == 0 and len(none.set_aside) == 5
    back = rerank.rank(none, filters=Filters())
    assert [one.index for one in back] == [one.index for one in made]


def test_another_reward_model_adds_its_axes(tmp_path: Path) -> None:
    made = stored(tmp_path)
    before = contents(tmp_path)
    toy, loud = ToyReward(), Loud()
    found = rerank.rank(made, reward=[toy, loud])
    assert (toy.scored, loud.scored) == (0, 4), "known rewards are kept"
    assert found.settings.rule == "zscore" and found.settings.reward == "toy, loud"
    for one, other in zip(sorted(found, key=lambda c: c.index), sorted(made, key=lambda c: c.index), strict=True):
        assert one.rewards["toy.musicality"] == other.rewards["musicality"]
        assert one.rewards["loud.musicality"] == -(one.rewards["loud.loudness"] or 0.0)
    assert contents(tmp_path) == before
    rerank.rank(tmp_path, reward=loud, output=tmp_path)
    document = json.loads((tmp_path / "ranking.json").read_text())
    assert [record["name"] for record in document["settings"]["rewards"]] == ["toy", "loud"]
    assert document["status"] == "done" and document["settings"]["generator"] == "toy"
    assert {name: content for name, content in contents(tmp_path).items() if name != "ranking.json"} == {
        name: content for name, content in before.items() if name != "ranking.json"
    }
    again = rerank.rank(rerank.load(tmp_path), weights={"loudness": 1})
    assert again.best.rewards["loud.loudness"] == max(one.rewards["loud.loudness"] or 0.0 for one in again)
    with pytest.raises(InvalidInput, match="axis 'musicality' is one of several reward models; name it as one of"):
        rerank.rank(rerank.load(tmp_path), weights={"musicality": 1})


def test_a_stop_or_a_failure_half_way_loses_nothing(tmp_path: Path) -> None:
    stored(tmp_path, 9)
    before = json.loads((tmp_path / "ranking.json").read_text())

    def ranks(document: dict[str, Any]) -> list[Any]:
        return [(one["index"], one["rank"], one["set_aside"]) for one in document["candidates"]]

    def press(progress: Progress) -> None:
        if progress.phase == "rewarding" and progress.done >= 300:
            raise KeyboardInterrupt

    loud = Loud()
    with pytest.raises(KeyboardInterrupt):
        rerank.rank(tmp_path, reward=loud, output=tmp_path, on_progress=press)
    after = json.loads((tmp_path / "ranking.json").read_text())
    assert ranks(after) == ranks(before) and after["status"] == "done", "the ranking stays until it is complete"
    asked, known = loud.scored, sum("loud.loudness" in one["rewards"] for one in after["candidates"])
    assert 0 < known == asked < 8, "what was answered is kept"
    rerank.rank(tmp_path, reward=loud, output=tmp_path)
    assert loud.scored - asked == 8 - known, "what was scored before the stop is not scored again"

    class Broken(Loud):
        def score(self, prepared: float, audio: Any) -> list[dict[str, float | None]]:
            raise ZeroDivisionError

    whole = (tmp_path / "ranking.json").read_bytes()
    with pytest.raises(RewardFailed, match="failed on all 8 candidates"):
        rerank.rank(tmp_path, reward=Broken("broken"), output=tmp_path)
    assert (tmp_path / "ranking.json").read_bytes() == whole

    class Stopping(Loud):
        def score(self, prepared: float, audio: Any) -> list[dict[str, float | None]]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rerank.rank(
            tmp_path, reward=Stopping("stopping"), filters=Filters(floors={"stopping.loudness": 9}), output=tmp_path
        )
    assert (tmp_path / "ranking.json").read_bytes() == whole
    assert generate_again(tmp_path).status == "done"


def generate_again(folder: Path) -> rerank.Ranking:
    chosen: dict[str, Any] = {"generator": ToyGenerator(change=spoil), "duration": 0.5}
    return rerank.generate("piano", 10, reward=[ToyReward(), Loud()], output=folder, resume=True, **chosen)


def test_candidates_without_their_first_reward_do_not_mix_with_those_that_have_it(tmp_path: Path) -> None:
    class Picky(ToyReward):
        def __init__(self, failing: bool) -> None:
            super().__init__()
            self.failing = failing

        def _score(self, prepared: float, audio: Audio) -> dict[str, float | None]:
            rewards = super()._score(prepared, audio)
            if self.failing and round(rewards["musicality"] or 0.0, 6) in odd:
                raise ValueError("odd")
            return rewards

    odd: set[float] = set()
    whole = stored(tmp_path / "whole", 6, reward=Picky(False))
    odd.add(round(whole.best.rewards["musicality"] or 0.0, 6))
    made = stored(tmp_path / "run", 6, reward=Picky(True))
    failed = [one for one in made.set_aside if one.set_aside_kind == "reward_failed"]
    assert [one.index for one in failed] == [whole.best.index]
    for again in (rerank.rank(made, weights={"alignment": 1}), rerank.rank(made, reward=Loud())):
        assert {one.index: one.set_aside for one in again.set_aside}[failed[0].index] == failed[0].set_aside
    mended = rerank.rank(made, reward=Picky(False))
    assert [(one.index, one.combined) for one in mended] == [(one.index, one.combined) for one in whole]
    resumed: dict[str, Any] = {
        "generator": ToyGenerator(change=spoil),
        "reward": Picky(True),
        "duration": 0.5,
        "resume": True,
    }
    assert rerank.generate("piano", 6, output=tmp_path / "run", **resumed).status == "done", "one failure is not all"


def test_a_killed_run_is_scored_when_it_is_ranked(tmp_path: Path, plugged: Path) -> None:
    stored(tmp_path, generator="toy", reward="toy")
    document = json.loads((tmp_path / "ranking.json").read_text())
    document["status"] = "running"
    for entry in document["candidates"][2:]:
        entry |= {"rewards": {}, "rank": None, "combined": None, "set_aside": None, "set_aside_kind": None}
    (tmp_path / "ranking.json").write_text(json.dumps(document))
    found = rerank.rank(tmp_path, output=tmp_path)
    assert len(found) == 5 and found.status == "interrupted"


def test_a_take_that_was_changed_is_not_judged_as_what_it_was(tmp_path: Path) -> None:
    made = stored(tmp_path)
    changed = made.best
    assert changed.path is not None
    notes(np.random.default_rng(99), 0.5).save(changed.path)
    found = rerank.rank(tmp_path, reward=Loud())
    assert {one.index: one.set_aside_kind for one in found.set_aside}[changed.index] == "unreadable"
    with pytest.raises(UnreadableAudio, match="has changed since it was stored"):
        rerank.load(tmp_path).best.save(tmp_path / "copy.wav")


def test_a_run_of_which_nothing_was_ranked_stays_what_it_is(tmp_path: Path) -> None:
    stored(tmp_path, filters=Filters(floors={"musicality": 99}))
    found = rerank.rank(tmp_path, filters=Filters(), output=tmp_path)
    assert len(found) == 4 and (found.settings.generator, found.settings.seed) == ("toy", 0)
    chosen: dict[str, Any] = {"generator": ToyGenerator(change=spoil), "reward": ToyReward(), "duration": 0.5}
    assert rerank.generate("piano", 6, output=tmp_path, resume=True, **chosen).status == "done"


def test_weights_of_a_run_stay_when_axes_are_added(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = stored(tmp_path, weights={"musicality": 3, "alignment": 1}, lyrics="la")
    found = rerank.rank(made, reward=Loud()).settings
    assert found.weights == pytest.approx(
        {"toy.musicality": 0.375, "toy.alignment": 0.125, "loud.loudness": 0.25, "loud.musicality": 0.25}
    )
    assert found.not_read == () and "does not read" not in caplog.text, "the toy reads lyrics, if Loud does not"


def test_a_part_of_a_run_does_not_replace_it(tmp_path: Path) -> None:
    stored(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(InvalidInput, match="has other candidates than this ranking; load it again"):
        rerank.rank(rerank.load(tmp_path).first(2), output=tmp_path)
    assert contents(tmp_path) == before


def test_a_reward_model_of_the_same_name_must_be_the_same(tmp_path: Path) -> None:
    made = stored(tmp_path)
    other = ToyReward()
    other.info = replace(other.info, version="2")
    with pytest.raises(InvalidInput, match="the run has rewards of 'toy' with version '', and this one has '2'"):
        rerank.rank(made, reward=other)
    with pytest.raises(InvalidInput, match="two reward models are called 'toy'"):
        rerank.rank([made.best.path or ""], "piano", reward=[ToyReward(), ToyReward()])
    with pytest.raises(InvalidInput, match="ranked again for its own prompt; leave out prompt"):
        rerank.rank(made, "drums")


def test_a_take_that_is_gone_costs_itself(tmp_path: Path) -> None:
    made = stored(tmp_path)
    gone = made[1]
    assert gone.path is not None
    gone.path.unlink()
    found = rerank.rank(tmp_path, reward=Loud())
    assert [(one.index, one.set_aside_kind) for one in found.set_aside if one.set_aside_kind != "silent"] == [
        (gone.index, "unreadable")
    ]
    assert "no such file" in (next(one.set_aside for one in found.set_aside if one.index == gone.index) or "")


def test_audio_that_was_only_in_memory_is_said_to_be_gone(tmp_path: Path) -> None:
    reference = notes(np.random.default_rng(0), 0.2)
    stored(tmp_path, reference=reference)
    found = rerank.load(tmp_path).prompt.reference
    assert found is not None and found.duration == 0.2 and found.sha256 == reference.sha256
    with pytest.raises(UnreadableAudio, match="in no file any more"):
        _ = found.waveform


def test_a_run_of_several_reward_models(tmp_path: Path) -> None:
    found = stored(tmp_path, reward=[ToyReward(), Loud()], weights={"loudness": 1, "toy.musicality": 1})
    assert found.settings.rule == "zscore"
    assert [axis for axis, weight in found.settings.weights.items() if weight] == ["toy.musicality", "loud.loudness"]

    class Deaf(Loud):
        def score(self, prepared: float, audio: Any) -> list[dict[str, float | None]]:
            raise ZeroDivisionError("deaf")

    found = rerank.generate("piano", 3, generator=ToyGenerator(), reward=[ToyReward(), Deaf("deaf")], duration=0.5)
    assert len(found) == 3 and all("deaf gave no reward: ZeroDivisionError: deaf" in one.reasons for one in found)
    judged = [{axis for axis, reward in one.rewards.items() if reward is not None} for one in found]
    assert judged == [{"toy.musicality", "toy.alignment"}] * 3
    assert all(one.rewards["deaf.musicality"] is None for one in found)


def test_records_and_the_table_of_a_notebook() -> None:
    lost = Candidate(index=1, seed=1, audio=None, set_aside="generation failed: <b>no</b>")
    found = rerank.generate("<i>piano</i>", 1, generator=ToyGenerator(), reward=ToyReward(), duration=0.5)
    both = replace(found, candidates=(*found.candidates, lost), prompt=Prompt("<i>piano</i>"))
    one, two = both.to_records()
    assert (one["rank"], one["seed"], one["duration"], one["set_aside"]) == (1, 0, 0.5, None)
    assert one["musicality"] == found.best.rewards["musicality"] and two["musicality"] is None
    assert (two["rank"], two["set_aside_kind"]) == (None, "failed")
    assert one.keys() == two.keys()
    html = both._repr_html_()
    assert "&lt;i&gt;piano" in html and "<b>" not in html and html.count("<tr>") == 3


def test_version_1_as_it_was_first_published_is_read(tmp_path: Path) -> None:
    made = stored(tmp_path, 3)
    document = {
        "version": 1,
        "prompt": {"text": "piano", "lyrics": None, "reference": None},
        "settings": {
            "n": 3,
            "duration": 0.5,
            "seed": 0,
            "generator": "toy",
            "reward": "toy",
            "weights": {"musicality": 0.5, "alignment": 0.5},
        },
        "candidates": [
            {
                "rank": one.rank,
                "index": one.index,
                "seed": one.seed,
                "path": f"candidates/{one.path.name}",
                "duration": 0.5,
                "sample_rate": 16000,
                "rewards": dict(one.rewards),
                "combined": one.combined,
                "set_aside": one.set_aside,
            }
            for one in made.candidates
            if one.path is not None
        ],
        "status": "done",
    }
    (tmp_path / "ranking.json").write_text(json.dumps(document))
    found = rerank.load(tmp_path)
    assert (found.settings.top_k, found.settings.filters, found.settings.rerank_version) == (3, {}, "")
    assert [one.seed for one in found] == [one.seed for one in made]
    assert [one.reasons for one in found] == [one.reasons for one in made] and found.best.reasons
    assert rerank.rank(tmp_path, weights={"alignment": 1}).settings.weights == {"musicality": 0, "alignment": 1}


def test_what_was_stored_before_there_were_reasons_has_them(tmp_path: Path) -> None:
    made = rerank.generate(
        "piano", 3, duration=0.5, generator=ToyGenerator(), reward=[ToyReward(), Loud()], rule="rank", output=tmp_path
    )
    document = json.loads((tmp_path / "ranking.json").read_text())
    for entry in document["candidates"]:
        entry["reasons"] = [f"loud gave no reward: {entry['seed']}"]
        del entry["faults"]
    (tmp_path / "ranking.json").write_text(json.dumps(document))
    found = rerank.load(tmp_path)
    assert [(one.rank, one.combined) for one in found] == [(one.rank, one.combined) for one in made]
    for one, before in zip(found, made, strict=True):
        assert one.reasons == (*before.reasons, f"loud gave no reward: {one.seed}")


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("settings", "top_k"), None, "top_k must be a whole number from 1 to 3, got None"),
        (("settings", "top_k"), 4, "top_k must be a whole number from 1 to 3, got 4"),
        (("settings", "n"), "3", "n must be a whole number"),
        (("settings", "rule"), "foo", "unknown rule 'foo'"),
        (("settings", "weights"), {"musicality": "much"}, "weight of 'musicality' must be a finite number"),
        (("settings", "filters", "silent"), "very", "filter 'silent' must be -200 to 0"),
        (("settings", "filters"), [], r"filters \[\]"),
        (("settings", "seed"), "0", "seed '0'"),
        (("settings", "duration"), "long", "duration 'long'"),
        (("settings", "generator"), 3, "generator 3"),
        (("settings", "versions"), [], r"versions \[\]"),
        (("settings", "rewards"), [{"version": "1"}], "KeyError: 'name'"),
        (("settings", "rewards"), ["toy"], "a reward model 'toy'"),
        (("prompt", "text"), 3, "text 3"),
        (("candidates", 0, "combined"), "x", "combined 'x'"),
        (("candidates", 0, "combined"), float("nan"), "combined nan"),
        (("candidates", 0, "combined"), None, "candidate . is ranked, and has no combined reward"),
        (("candidates", 0, "rank"), 2, "the ranks are not 1 to 2, in this order"),
        (("candidates", 0, "rank"), "1", "rank '1'"),
        (("candidates", 0, "index"), "0", "index must be a whole number from 0 to 2"),
        (("candidates", 0, "index"), 2, "two candidates have one index"),
        (("candidates", 0, "rewards", "musicality"), "good", "the reward 'musicality' 'good'"),
        (("candidates", 0, "duration"), float("inf"), "OverflowError"),
        (("candidates", 0, "path"), 3, "TypeError"),
        (("candidates", 0, "set_aside"), ["silent"], r"set_aside \['silent'\]"),
        (("candidates", 0, "reasons"), [3], "reasons 3"),
    ],
)
def test_a_document_that_was_edited_into_what_no_run_writes_is_refused_when_it_is_read(
    tmp_path: Path, place: tuple[str | int, ...], value: object, told: str
) -> None:
    stored(tmp_path, 3)
    document = json.loads((tmp_path / "ranking.json").read_text())
    part = document
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    (tmp_path / "ranking.json").write_text(json.dumps(document))
    with pytest.raises(
        InvalidInput, match=f"ranking.json is no ranking that can be read .*{told}.*; restore it"
    ) as error:
        rerank.load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.skipif("sys.platform != 'linux'", reason="it needs a file that even root cannot read")
def test_a_take_that_may_not_be_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stored(tmp_path, 3)
    take = tmp_path / "candidates" / "001-seed1.flac"
    take.unlink()
    take.symlink_to("/proc/self/mem")
    (fault,) = verify(tmp_path)
    assert fault.startswith(f"{take} cannot be read: ")
    found = stored(tmp_path, 3, resume=True)
    assert f"{take} cannot be read (" in caplog.text and "its candidate is made again" in caplog.text
    assert found.status == "done" and verify(tmp_path) == []


def test_how_many_are_given_back_stays_unless_it_is_given(tmp_path: Path) -> None:
    stored(tmp_path, 4, top_k=2)
    assert rerank.rank(tmp_path, weights={"alignment": 1}).settings.top_k == 2
    assert stored(tmp_path, 8, resume=True).settings.top_k == 2
    assert stored(tmp_path, 8, resume=True, top_k=8).settings.top_k == 8
    assert stored(tmp_path, 9, resume=True).settings.top_k == 9, "all of them stays all of them"


def test_floors_follow_their_axes(tmp_path: Path) -> None:
    plain = stored(tmp_path / "plain", 5)
    floor = sorted(one.rewards["musicality"] or 0.0 for one in plain)[2]
    made = stored(tmp_path / "run", 5, filters=Filters(floors={"musicality": floor}))
    found = rerank.rank(made, reward=Loud())
    assert found.settings.filters["floors"] == {"toy.musicality": floor}
    assert sorted(one.index for one in found) == sorted(one.index for one in made)
    again = rerank.rank(found, weights={"loudness": 1})
    assert again.settings.filters["floors"] == {"toy.musicality": floor}


def test_options_of_a_reward_model_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    reward = ToyReward()
    reward.info = replace(reward.info, options={"what": object()})
    with pytest.raises(InvalidInput, match="what 'toy' says of itself cannot be stored"):
        stored(tmp_path / "run", reward=reward)
    assert not (tmp_path / "run").exists()
