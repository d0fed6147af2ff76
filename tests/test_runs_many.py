"""Runs for many prompts: each costs nothing but itself, and an index says what became of them."""

import json
import threading
from pathlib import Path

import pytest

import rerank
from rerank.data import Prompt
from rerank.errors import GenerationFailed, InvalidInput, OutputError
from rerank.manifest import PromptEntry, PromptParts
from rerank.ranking import Ranking
from rerank.runs.many import Outcomes, for_each, loaded_once, read_index
from tests.conftest import ToyGenerator, ToyReward

ENTRIES = [PromptEntry(name, PromptParts(text)) for name, text in (("a", "slow"), ("b", "fast"), ("c", "odd"))]


def made(prompt: Prompt, entry: PromptEntry, folder: Path | None) -> Ranking:
    return rerank.generate(prompt, 2, generator=ToyGenerator(), reward=ToyReward(), duration=0.5, output=folder)


def test_each_prompt_has_a_run_and_the_index_says_what_became_of_it(tmp_path: Path) -> None:
    seen: list[int] = []
    outcomes = for_each(ENTRIES, made, tmp_path / "all", on_progress=seen.append)
    assert (outcomes.status, seen) == ("done", [1, 2, 3])
    index = read_index(tmp_path / "all")
    assert index == outcomes.to_dict(tmp_path / "all") and index is not None
    assert [entry["id"] for entry in index["prompts"]] == ["a", "b", "c"]
    for entry, outcome in zip(index["prompts"], outcomes.each, strict=True):
        best = rerank.load(tmp_path / "all" / entry["id"]).best
        assert outcome.ranking is not None and outcome.ranking.best.seed == best.seed
        assert entry["best"] == {
            "seed": best.seed,
            "path": f"{entry['id']}/candidates/00{best.seed}-seed{best.seed}.flac",
            "combined": best.combined,
        }
        assert (entry["status"], entry["ranked"], entry["set_aside"], entry["error"]) == ("done", 2, 0, None)
        assert (tmp_path / "all" / entry["best"]["path"]).exists()


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [outcome.status for outcome in for_each(ENTRIES, made).each] == ["done"] * 3
    assert not list(tmp_path.iterdir())


def test_a_prompt_that_fails_costs_only_itself(tmp_path: Path) -> None:
    def failing(prompt: Prompt, entry: PromptEntry, folder: Path | None) -> Ranking:
        if entry.id == "b":
            raise GenerationFailed("no ideas")
        if entry.id == "c":
            raise InvalidInput("too odd")
        return made(prompt, entry, folder)

    broken = tmp_path / "broken.wav"
    broken.touch()
    entries = [*ENTRIES, PromptEntry("d", PromptParts("slow", None, broken)), PromptEntry("e", PromptParts("low"))]
    outcomes = for_each(entries, failing, tmp_path / "all")
    assert [outcome.status for outcome in outcomes.each] == ["done", "failed", "failed", "failed", "done"]
    assert [outcome.error for outcome in outcomes.each[:3]] == [None, "no ideas", "too odd"]
    assert "broken.wav is empty" in str(outcomes.each[3].error)
    index = json.loads((tmp_path / "all" / "index.json").read_text())
    assert (index["status"], index["prompts"][1]["error"], index["prompts"][1]["best"]) == ("failed", "no ideas", None)


def test_what_is_refused_for_the_first_is_refused_for_all(tmp_path: Path) -> None:
    def refused(prompt: Prompt, entry: PromptEntry, folder: Path | None) -> Ranking:
        return rerank.generate(prompt, 0, output=folder)

    with pytest.raises(InvalidInput, match="n must be a whole number"):
        for_each(ENTRIES, refused, tmp_path / "all")
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize("raised", [True, False])
def test_a_stop_leaves_the_prompts_after_it_waiting(tmp_path: Path, raised: bool) -> None:
    def stopped(prompt: Prompt, entry: PromptEntry, folder: Path | None) -> Ranking:
        if entry.id != "b":
            return made(prompt, entry, folder)
        if raised:
            raise KeyboardInterrupt
        return rerank.generate(
            prompt,
            9,
            generator=ToyGenerator(pause=0.02),
            reward=ToyReward(),
            duration=0.5,
            output=folder,
            stop=lambda: folder is not None and len(list(folder.glob("candidates/*.flac"))) > 1,
        )

    outcomes = for_each(ENTRIES, stopped, tmp_path / "all")
    assert outcomes.status == "interrupted"
    assert [one.status for one in outcomes.each] == ["done", "waiting" if raised else "interrupted", "waiting"]
    with pytest.raises(OutputError, match="all already holds runs .*; choose another folder, --resume or --overwrite"):
        for_each(ENTRIES, made, tmp_path / "all")

    def gone_on(prompt: Prompt, entry: PromptEntry, folder: Path | None) -> Ranking:
        return rerank.generate(
            prompt, 9, generator=ToyGenerator(), reward=ToyReward(), duration=0.5, output=folder, resume=True
        )

    assert for_each(ENTRIES, gone_on, tmp_path / "all", again=True).status == "done"
    for entry in ENTRIES:
        assert len(rerank.load(tmp_path / "all" / entry.id).candidates) == 9


def test_a_stop_before_anything_is_finished_is_passed_on(tmp_path: Path) -> None:
    def stopped(prompt: Prompt, entry: PromptEntry, folder: Path | None) -> Ranking:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        for_each(ENTRIES, stopped, tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_the_index_is_there_before_the_first_prompt_is_done(tmp_path: Path) -> None:
    seen: list[dict[str, object]] = []

    def watched(prompt: Prompt, entry: PromptEntry, folder: Path | None) -> Ranking:
        seen.append(read_index(tmp_path / "all") or {})
        return made(prompt, entry, folder)

    for_each(ENTRIES, watched, tmp_path / "all")
    statuses = [[entry["status"] for entry in index["prompts"]] for index in seen]  # type: ignore[attr-defined]
    assert [index["status"] for index in seen] == ["running"] * 3
    assert statuses == [["waiting"] * 3, ["done", "waiting", "waiting"], ["done", "done", "waiting"]]


@pytest.mark.parametrize("place", [0, 1])
def test_a_stop_of_a_later_session_forgets_nothing(tmp_path: Path, place: int) -> None:
    for_each(ENTRIES, made, tmp_path / "all")

    def stopped(prompt: Prompt, entry: PromptEntry, folder: Path | None) -> Ranking:
        if entry is ENTRIES[place]:
            raise KeyboardInterrupt
        return made(prompt, entry, None)

    if place == 0:
        with pytest.raises(KeyboardInterrupt):
            for_each(ENTRIES, stopped, tmp_path / "all", again=True)
    else:
        assert for_each(ENTRIES, stopped, tmp_path / "all", again=True).status == "interrupted"
    index = read_index(tmp_path / "all")
    assert index is not None and index["status"] == ("done" if place == 0 else "interrupted")
    assert [(entry["status"], entry["ranked"]) for entry in index["prompts"]] == [("done", 2)] * 3


def test_a_run_of_another_prompt_is_none_of_this(tmp_path: Path) -> None:
    for_each(ENTRIES, made, tmp_path / "all")
    others = [PromptEntry(entry.id, PromptParts(f"other {entry.prompt.text}")) for entry in ENTRIES]
    seen: list[str] = []

    def watched(prompt: Prompt, entry: PromptEntry, folder: Path | None) -> Ranking:
        index = read_index(tmp_path / "all")
        seen.append(index["prompts"][2]["status"] if index else "")
        return made(prompt, entry, None)

    for_each(others, watched, tmp_path / "all", again=True)
    assert seen == ["waiting"] * 3


def test_two_commands_do_not_write_into_one_folder(tmp_path: Path) -> None:
    begun, refused = threading.Event(), threading.Event()

    def slow(prompt: Prompt, entry: PromptEntry, folder: Path | None) -> Ranking:
        begun.set()
        assert refused.wait(30)
        return made(prompt, entry, folder)

    outcomes: list[Outcomes] = []
    thread = threading.Thread(target=lambda: outcomes.append(for_each(ENTRIES, slow, tmp_path / "all")))
    thread.start()
    assert begun.wait(30)
    try:
        with pytest.raises(OutputError, match="is in use by another run"):
            for_each(ENTRIES, made, tmp_path / "all")
    finally:
        refused.set()
        thread.join(30)
    assert [one.status for one in outcomes] == ["done"]


def test_an_index_that_is_none_is_told(tmp_path: Path) -> None:
    assert read_index(tmp_path) is None
    for content in ("[", "[]", '{"prompts": 3}', '{"prompts": [{}]}'):
        (tmp_path / "index.json").write_text(content)
        with pytest.raises(InvalidInput, match=r"index.json is no index that can be read \(.*\); restore it"):
            read_index(tmp_path)


def test_what_is_loaded_stays_loaded() -> None:
    toys = [ToyReward(), ToyReward()]
    assert loaded_once("reward", toys, "auto") == toys
    assert loaded_once("generator", "synth", "auto").info.name == "synth"
