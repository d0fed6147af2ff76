"""A run that was stopped goes on as the same run, longer if asked, and as no other."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rerank
from rerank.data import Prompt
from rerank.errors import GenerationFailed, InvalidInput, OutputError
from rerank.filters import Filters
from rerank.protocols import GeneratorInfo, Progress
from tests.conftest import ToyGenerator, ToyReward, notes
from tests.killing import contents


def generate(folder: Path, n: int = 4, **options: Any) -> rerank.Ranking:
    chosen: dict[str, Any] = {"generator": ToyGenerator(), "reward": ToyReward(), "duration": 0.5, **options}
    return rerank.generate(chosen.pop("prompt", "piano"), n, output=folder, **chosen)


def interrupted(folder: Path, n: int = 6, at: int = 300, **options: Any) -> rerank.Ranking:
    def press(progress: Progress) -> None:
        if progress.phase == "generating" and progress.done >= at:
            raise KeyboardInterrupt

    return generate(folder, n, on_progress=press, **options)


class Counting(ToyGenerator):
    """Remembers the seeds that it was asked for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked: list[int] = []

    def generate(self, prompt: Prompt, seeds: Any, *args: Any, **options: Any) -> Any:
        for candidate in super().generate(prompt, seeds, *args, **options):
            self.asked.append(candidate.seed or 0)
            yield candidate


def document(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "ranking.json").read_text(encoding="utf-8"))
    return found


def test_the_document_is_there_from_the_first_moment(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    class Watching(ToyGenerator):
        def generate(self, *args: Any, **options: Any) -> Any:
            for candidate in super().generate(*args, **options):
                found = document(tmp_path / "run")
                assert all((tmp_path / "run" / one["path"]).is_file() for one in found["candidates"])
                seen.append((found["status"], len(found["candidates"])))
                yield candidate

    generate(tmp_path / "run", 8, generator=Watching(pause=0.15))
    assert seen[0] == ("running", 0)
    assert {status for status, _ in seen} == {"running"} and seen[-1][1] >= 1
    assert document(tmp_path / "run")["status"] == "done"


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    generate(tmp_path / "whole", 6)
    assert interrupted(tmp_path / "run").status == "interrupted"
    there = {entry["seed"] for entry in document(tmp_path / "run")["candidates"]}
    generator, reward = Counting(), ToyReward()
    found = generate(tmp_path / "run", 6, generator=generator, reward=reward, resume=True)
    assert found.status == "done" and 0 < len(there) < 6
    assert set(generator.asked) == set(range(6)) - there
    assert reward.scored == len(generator.asked), "known rewards are kept"
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_a_finished_run_grows(tmp_path: Path) -> None:
    generate(tmp_path / "long", 9)
    generate(tmp_path / "run", 4)
    generator = Counting()
    generate(tmp_path / "run", 9, generator=generator, resume=True)
    assert generator.asked == [4, 5, 6, 7, 8]
    assert contents(tmp_path / "run") == contents(tmp_path / "long")
    again = generate(tmp_path / "run", 9, generator=Counting(failing=range(9)), resume=True)
    assert again.status == "done" and len(again) == 9
    assert contents(tmp_path / "run") == contents(tmp_path / "long")


def test_where_there_is_no_run_one_begins(tmp_path: Path) -> None:
    assert generate(tmp_path / "run", 2, resume=True).status == "done"
    with pytest.raises(InvalidInput, match="resume needs an output"):
        rerank.generate("piano", 2, resume=True)
    with pytest.raises(InvalidInput, match="resume goes on with a run and overwrite replaces it"):
        generate(tmp_path / "run", 2, resume=True, overwrite=True)


def test_what_is_damaged_missing_or_failed_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    generate(tmp_path / "whole", 5)
    generate(tmp_path / "run", 5, generator=ToyGenerator(failing={4}))
    takes = tmp_path / "run" / "candidates"
    (takes / "001-seed1.flac").unlink()
    (takes / "002-seed2.flac").write_bytes(b"edited by hand")
    generator = Counting()
    with caplog.at_level(logging.WARNING, "rerank"):
        found = generate(tmp_path / "run", 5, generator=generator, resume=True)
    assert generator.asked == [1, 2, 4] and len(found) == 5
    assert "002-seed2.flac is not what was stored; its candidate is made again" in caplog.text
    assert (takes / "002-seed2.flac").read_bytes() == b"edited by hand", "what is not of the run stays"
    by_index = {entry["index"]: entry for entry in document(tmp_path / "run")["candidates"]}
    assert by_index[2]["path"] == "candidates/002-seed2-2.flac"
    expected = {entry["index"]: entry["sha256"] for entry in document(tmp_path / "whole")["candidates"]}
    assert {index: entry["sha256"] for index, entry in by_index.items()} == expected


def changed(**changes: Any) -> ToyGenerator:
    generator = ToyGenerator()
    generator.info = replace(generator.info, **changes)
    return generator


def other_reward(**changes: Any) -> ToyReward:
    reward = ToyReward()
    reward.info = replace(reward.info, **changes)
    return reward


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"prompt": "drums"}, 'text "piano", and now it is "drums"'),
        ({"lyrics": "la"}, 'lyrics null, and now it is "la"'),
        ({"reference": notes(np.random.default_rng(0), 0.1)}, "reference null, and now it is"),
        ({"seed": 1}, "seed 0, and now it is 1"),
        ({"duration": 0.6}, "duration 0.5, and now it is 0.6"),
        ({"n": 3}, "the run is of n=4, and now n is 3; a run can only grow"),
        ({"generator": changed(name="other")}, 'generator "toy", and now it is "other"'),
        ({"generator": changed(version="2")}, 'generator version "", and now it is "2"'),
        ({"generator": changed(options={"guidance": 3})}, 'generator options {}, and now it is {"guidance": 3}'),
        ({"generator": changed(device="cuda")}, 'generator device "", and now it is "cuda"'),
        ({"reward": other_reward(name="other")}, 'reward "toy", and now it is "other"'),
        ({"reward": other_reward(version="2")}, 'version of toy "", and now it is "2"'),
        ({"weights": {"musicality": 1}}, "weights .* and now it is"),
        ({"rule": "rank"}, 'rule "mean", and now it is "rank"'),
        ({"filters": Filters(silent=None)}, "filters .* and now it is"),
    ],
)
def test_another_run_is_refused_in_one_line_that_names_what_differs(
    tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    generate(tmp_path / "run", 4)
    before = contents(tmp_path / "run")
    with pytest.raises(InvalidInput, match=f"cannot resume: .*{told}") as refused:
        generate(tmp_path / "run", resume=True, **options)
    assert "\n" not in str(refused.value)
    assert contents(tmp_path / "run") == before


def test_weights_filters_and_rule_that_are_not_given_are_those_of_the_run(tmp_path: Path) -> None:
    given: dict[str, Any] = {"weights": {"musicality": 3}, "filters": Filters(silent=-50), "rule": "rank"}
    generate(tmp_path / "run", 4, **given)
    found = generate(tmp_path / "run", 6, resume=True).settings
    assert (found.weights, found.filters["silent"], found.rule) == ({"musicality": 1, "alignment": 0}, -50, "rank")


def test_a_reference_is_known_by_its_content(tmp_path: Path) -> None:
    one, two = (notes(np.random.default_rng(seed), 0.1).save(tmp_path / f"{seed}.wav") for seed in range(2))
    generate(tmp_path / "run", 2, reference=one)
    moved = one.rename(tmp_path / "moved.wav")
    assert generate(tmp_path / "run", 3, reference=moved, resume=True).status == "done"
    with pytest.raises(InvalidInput, match="cannot resume: the run was made with reference"):
        generate(tmp_path / "run", 4, reference=two, resume=True)


def test_duplicates_are_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    """Seed 1 sounds as seed 3 does: whichever is made later, the lower index stays."""

    def same(seed: int, audio: rerank.Audio) -> rerank.Audio:
        return notes(np.random.default_rng(7), 0.5) if seed in (1, 3) else audio

    generate(tmp_path / "whole", 5, generator=ToyGenerator(change=same))
    generate(tmp_path / "run", 5, generator=ToyGenerator(change=same, failing={1}))
    found = generate(tmp_path / "run", 5, generator=ToyGenerator(change=same), resume=True)
    assert [(one.index, one.set_aside_kind) for one in found.set_aside] == [(3, "duplicate")]
    one, two = (document(tmp_path / name)["candidates"] for name in ("run", "whole"))
    facts = ("rank", "index", "combined", "sha256", "set_aside")
    assert [[entry[fact] for fact in facts] for entry in one] == [[entry[fact] for fact in facts] for entry in two]


def test_a_run_that_fails_for_good_leaves_what_there_was(tmp_path: Path) -> None:
    with pytest.raises(GenerationFailed):
        generate(tmp_path / "run", 3, generator=ToyGenerator(failing=range(3)))
    assert not (tmp_path / "run").exists()
    generate(tmp_path / "run", 3)
    found = generate(tmp_path / "run", 5, generator=ToyGenerator(failing={3, 4}), resume=True)
    assert [one.set_aside_kind for one in found.set_aside] == ["failed", "failed"] and len(found) == 3


def test_a_stop_while_going_on_keeps_all_that_is_known(tmp_path: Path) -> None:
    generate(tmp_path / "run", 6)
    (tmp_path / "run" / "candidates" / "001-seed1.flac").unlink()

    def press(progress: Progress) -> None:
        raise KeyboardInterrupt

    found = generate(tmp_path / "run", 6, on_progress=press, resume=True)
    assert found.status == "interrupted" and sorted(one.index for one in found) == [0, 2, 3, 4, 5]
    assert generate(tmp_path / "run", 6, resume=True).status == "done"


def test_a_document_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    generate(tmp_path / "run", 2)
    (tmp_path / "run" / "ranking.json").write_text('{"version": 2}')
    with pytest.raises(InvalidInput, match=r"ranking\.json is no ranking that can be read"):
        generate(tmp_path / "run", 2, resume=True)


def test_options_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    generator = ToyGenerator()
    info: GeneratorInfo = replace(generator.info, options={"what": object()})
    generator.info = info
    with pytest.raises(InvalidInput, match="what 'toy' says of itself cannot be stored"):
        generate(tmp_path / "run", 2, generator=generator)
    assert not (tmp_path / "run").exists()


def test_only_the_best_keep_their_files(tmp_path: Path) -> None:
    (tmp_path / "run" / "candidates").mkdir(parents=True)
    mine = tmp_path / "run" / "candidates" / "my take.wav"
    mine.write_bytes(b"mine")
    found = generate(tmp_path / "run", 5, keep=2)
    assert len(found) == 5 and [one.path is not None for one in found] == [True, True, False, False, False]
    assert len(list(mine.parent.iterdir())) == 3 and mine.read_bytes() == b"mine"
    stored = document(tmp_path / "run")["candidates"]
    assert [entry["path"] is not None for entry in stored] == [True, True, False, False, False]
    assert all(entry["sha256"] and entry["duration"] == 0.5 and entry["rewards"] for entry in stored)
    generator = Counting()
    longer = generate(tmp_path / "run", 7, generator=generator, resume=True)
    assert generator.asked == [5, 6] and len(longer) == 7, "what was removed is known, and not made again"
    for keep in (0, 6, 1.5):
        with pytest.raises(InvalidInput, match="keep must be a whole number"):
            generate(tmp_path / "other", 5, keep=keep)
    with pytest.raises(InvalidInput, match="keep needs an output"):
        rerank.generate("piano", 5, keep=1)


def test_a_take_that_is_deleted_while_the_run_goes_on_is_not_listed_as_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Deleted(ToyGenerator):
        def generate(self, *args: Any, **options: Any) -> Any:
            for candidate in super().generate(*args, **options):
                if candidate.seed == 4:
                    (tmp_path / "run" / "candidates" / "001-seed1.flac").unlink()
                yield candidate

    found = generate(tmp_path / "run", 6, generator=Deleted())
    assert {one.index for one in found.candidates if one.path is None} == {1} and len(found) == 6
    assert "001-seed1.flac is gone" in caplog.text
    assert {one["index"] for one in document(tmp_path / "run")["candidates"] if one["path"] is None} == {1}


def test_a_generator_that_uses_its_buffer_again_gives_different_takes(tmp_path: Path) -> None:
    class Reusing(ToyGenerator):
        def generate(self, *args: Any, **options: Any) -> Any:
            buffer = np.empty((2, 8000), np.float32)
            for candidate in super().generate(*args, **options):
                assert candidate.audio is not None
                buffer[:] = candidate.audio.waveform * (1 if candidate.seed else 9)  # one beyond full scale, too
                yield replace(candidate, audio=rerank.Audio(buffer, 16_000))

    for options in ({}, {"output": tmp_path / "run"}):
        chosen: dict[str, Any] = {"filters": Filters.off(), **options}
        found = rerank.generate("piano", 4, generator=Reusing(), reward=ToyReward(), duration=0.5, **chosen)
        assert len({one.rewards["musicality"] for one in found}) == 4
        heard = {one.index: one.audio.waveform.tobytes() for one in found if one.audio}
        assert len(set(heard.values())) == 4


def test_two_runs_at_once_do_not_share_a_folder(tmp_path: Path) -> None:
    class Meanwhile(ToyGenerator):
        def generate(self, *args: Any, **options: Any) -> Any:
            for again in ({}, {"resume": True}, {"overwrite": True}):
                with pytest.raises(OutputError, match="in use by another run"):
                    generate(tmp_path / "run", 2, **again)
            yield from super().generate(*args, **options)

    assert generate(tmp_path / "run", 2, generator=Meanwhile()).status == "done"


def first_version(folder: Path) -> None:
    """Write the document as rerank 0.1.0 did."""
    new = document(folder)
    dropped = {"rewards", "rule", "versions", "generator_version", "generator_options", "generator_device"}
    entries = [
        {name: value for name, value in one.items() if name not in ("sha256", "channels", "reasons", "set_aside_kind")}
        for one in new["candidates"]
    ]
    settings = {name: value for name, value in new["settings"].items() if name not in dropped}
    if new["prompt"]["reference"] is not None:
        new["prompt"]["reference"] = new["prompt"]["reference"]["path"]
    old = {"version": 1, "prompt": new["prompt"], "settings": settings, "candidates": entries, "status": new["status"]}
    (folder / "ranking.json").write_text(json.dumps(old))


def test_what_version_1_did_not_record_is_no_reason_to_refuse(tmp_path: Path) -> None:
    reference = notes(np.random.default_rng(0), 0.1).save(tmp_path / "ref.wav")
    generate(tmp_path / "run", 3, reference=reference)
    first_version(tmp_path / "run")
    facts: dict[str, Any] = {"options": {"guidance": 3}, "device": "cpu"}
    chosen: dict[str, Any] = {
        "generator": changed(version="2", **facts),
        "reward": other_reward(precision="float32", **facts),
        "reference": reference,
    }
    with pytest.raises(InvalidInput, match='version of toy "", and now it is "2"'):
        generate(tmp_path / "run", 5, resume=True, **{**chosen, "reward": other_reward(version="2")})
    with pytest.raises(InvalidInput, match="seed 0, and now it is 1"):
        generate(tmp_path / "run", 5, resume=True, seed=1, **chosen)
    found = generate(tmp_path / "run", 5, resume=True, **chosen)
    assert len(found) == 5 and document(tmp_path / "run")["version"] == 2
    assert found.settings.generator_version == "2" and found.settings.filters["silent"] == -60


def test_the_reward_models_may_come_in_another_order_and_must_all_come(tmp_path: Path) -> None:
    generate(tmp_path / "run", 3)
    other = other_reward(name="other")
    rerank.rank(tmp_path / "run", reward=other, output=tmp_path / "run")
    assert document(tmp_path / "run")["settings"]["reward"] == "toy, other"
    for subset, missing in (([ToyReward()], "other"), ([other], "toy")):
        with pytest.raises(InvalidInput) as refused:
            generate(tmp_path / "run", 4, reward=subset, resume=True)
        assert str(refused.value) == (
            f"cannot resume: the run has rewards of {missing} too; give all of its reward models: --reward toy "
            "--reward other (in Python: reward=['toy', 'other'])"
        )
    with pytest.raises(InvalidInput, match='reward "toy, other", and now it is "toy, third"'):
        generate(tmp_path / "run", 4, reward=[ToyReward(), other_reward(name="third")], resume=True)
    with pytest.raises(InvalidInput, match='version of other "", and now it is "2"'):
        generate(tmp_path / "run", 4, reward=[other_reward(name="other", version="2"), ToyReward()], resume=True)
    toy = ToyReward()
    found = generate(tmp_path / "run", 4, reward=[other, toy], resume=True)
    assert len(found) == 4 and toy.scored == 1, "known rewards are kept"
    assert all(len(one.rewards) == 4 for one in found)
