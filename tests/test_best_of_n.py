"""`generate`, `rank`, `score`: what they promise about seeds, failures, interruptions and files."""

import errno
import json
import logging
import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rerank
from rerank.audio import Audio, read
from rerank.data import Candidate, Prompt
from rerank.errors import (
    GenerationFailed,
    InvalidInput,
    OutputError,
    RerankError,
    RewardFailed,
    UnknownName,
    UnreadableAudio,
)
from rerank.filters import Filters
from rerank.names.entry import Entry
from rerank.protocols import Progress
from rerank.ranking import Ranking
from rerank.runs.events import Event, Made, Scored
from tests.conftest import ROOT, ToyGenerator, ToyReward, notes


def generate(n: int = 4, prompt: str | Prompt = "piano", **options: Any) -> Ranking:
    chosen: dict[str, Any] = {"generator": ToyGenerator(), "reward": ToyReward(), "duration": 0.5, **options}
    return rerank.generate(prompt, n, **chosen)


def facts(candidate: Candidate) -> tuple[Any, ...]:
    assert candidate.audio is not None
    return candidate.index, candidate.seed, candidate.audio.waveform.tobytes(), dict(candidate.rewards)


@given(n=st.integers(1, 6), more=st.integers(0, 4), seed=st.integers(0, 2**40))
@settings(max_examples=15)
def test_a_run_is_the_beginning_of_a_longer_one(n: int, more: int, seed: int) -> None:
    short, long = generate(n, seed=seed), generate(n + more, seed=seed)
    by_index = {candidate.index: facts(candidate) for candidate in long.candidates}
    assert all(by_index[candidate.index] == facts(candidate) for candidate in short.candidates)
    assert (long.best.combined or 0) >= (short.best.combined or 0), "more candidates never make the best one worse"


def test_best_of_one_is_the_candidate() -> None:
    found = generate(1, seed=7)
    assert (found.best.seed, found.best.rank, len(found)) == (7, 1, 1)


def test_a_candidate_can_be_made_again_alone() -> None:
    best = generate(5, seed=3).best
    again = generate(1, seed=best.seed).best
    assert facts(again)[1:] == facts(best)[1:]


def test_the_same_call_in_another_process_gives_the_same(tmp_path: Path) -> None:
    code = (
        "import sys, rerank\nfrom tests.conftest import ToyGenerator, ToyReward\n"
        "rerank.generate('piano', 3, generator=ToyGenerator(), reward=ToyReward(), duration=0.5, output=sys.argv[1])\n"
    )
    for name in ("one", "two"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], cwd=ROOT, check=True)
    one, two = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("one", "two")
    )
    assert one == two
    assert len(one) == 4


def test_the_prompt_is_encoded_once_and_each_candidate_scored_once() -> None:
    reward = ToyReward()
    generate(11, reward=reward)
    assert (reward.prepared, reward.scored) == (1, 11)


def test_settings_tell_what_was_done() -> None:
    found = generate(3, seed=5, top_k=2, weights={"alignment": 2}, filters=Filters(silent=None)).settings
    assert (found.n, found.top_k, found.seed, found.duration) == (3, 2, 5, 0.5)
    assert (found.generator, found.reward, found.rerank_version) == ("toy", "toy", rerank.__version__)
    assert found.weights == {"musicality": 0, "alignment": 1}
    assert found.filters["silent"] is None


def test_names_are_loaded_and_the_device_offered_to_those_that_take_one(plugged: Path) -> None:
    found = rerank.generate("piano", 2, generator="toy", reward="toy", duration=0.5, device="cpu")
    assert found.settings.generator == "toy"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be a whole number from 1 to 1024, got 0"),
        ({"n": 1025}, "from 1 to 1024, got 1025"),
        ({"n": 2.0}, r"got 2\.0"),
        ({"n": True}, "got True"),
        ({"top_k": 5}, "top_k must be a whole number from 1 to 4, got 5"),
        ({"top_k": 0}, "top_k must be a whole number from 1 to 4, got 0"),
        ({"seed": -1}, "seed must be a whole number from 0 to .*, got -1"),
        ({"duration": 31}, r"duration must be 0\.5 to 30 s for generator 'toy', got 31"),
        ({"duration": math.nan}, "got nan"),
        ({"duration": "ten"}, "got 'ten'"),
        ({"weights": {"musicality": 0}}, "are all zero"),
        ({"weights": {"musicality": math.inf}}, "must be a finite number"),
        ({"prompt": "  "}, "the prompt is empty"),
        ({"prompt": "a" * 4_001}, "text has 4001 characters"),
        ({"prompt": "", "lyrics": "la"}, "generator 'toy' follows only text, and the prompt has only lyrics"),
        ({"generator": 3}, "expected a generator by name or as a loaded object, got int"),
    ],
)
def test_options_are_refused_before_anything_is_made(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        generate(**options, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generator": "musicgem"}, "unknown generator 'musicgem'"),
        ({"reward": "cmi-min"}, "unknown reward 'cmi-min'; did you mean 'cmi-mini'"),
        ({"weights": {"musicalty": 1}}, "unknown axis 'musicalty'; did you mean 'musicality'"),
        ({"filters": Filters(floors={"groove": 1})}, "unknown axis 'groove'"),
    ],
)
def test_unknown_names_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        generate(**options)


def test_parts_that_a_generator_does_not_follow_reach_the_reward_only(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "rerank"):
        sung = generate(3, lyrics="la la")
    plain = generate(3)
    assert sung.settings.not_followed == ("lyrics",)
    assert "generator toy does not follow lyrics" in caplog.text
    by_seed = {candidate.seed: candidate for candidate in plain.candidates}
    for candidate in sung.candidates:
        same = by_seed[candidate.seed]
        assert facts(candidate)[2] == facts(same)[2]
        assert candidate.rewards["alignment"] != same.rewards["alignment"]


def spoil(seed: int, audio: Audio) -> Audio:
    waveform = audio.waveform * {1: 0.0, 2: np.nan, 3: 50.0}.get(seed, 1.0)
    return Audio(waveform.astype(np.float32), audio.sample_rate)


def test_candidates_with_faults_are_set_aside_kept_and_stored(tmp_path: Path) -> None:
    found = generate(5, generator=ToyGenerator(change=spoil), output=tmp_path / "run")
    assert sorted(candidate.index for candidate in found) == [0, 4]
    reasons = {candidate.index: candidate.set_aside or "" for candidate in found.set_aside}
    assert [reasons[index].split(":")[0] for index in (1, 2, 3)] == ["silent", "not finite", "clipped"]
    stored = json.loads((tmp_path / "run" / "ranking.json").read_text())["candidates"]
    assert [entry["index"] for entry in stored[2:]] == [1, 2, 3]
    assert all((tmp_path / "run" / entry["path"]).exists() for entry in stored)


def test_a_repeated_take_is_set_aside_and_the_earlier_one_stays() -> None:
    first = notes(np.random.default_rng(0), 0.5)
    found = generate(4, generator=ToyGenerator(change=lambda seed, audio: audio if seed == 2 else first))
    assert sorted(candidate.index for candidate in found) == [0, 2]
    assert {candidate.index for candidate in found.set_aside} == {1, 3}
    assert "near-duplicate: of candidate 0" in (found.set_aside[0].set_aside or "")


def test_a_generator_that_fails_on_some_seeds_goes_on(tmp_path: Path) -> None:
    found = generate(6, generator=ToyGenerator(failing={0, 3, 5}), output=tmp_path / "run")
    whole = {candidate.index: facts(candidate) for candidate in generate(6).candidates}
    assert {candidate.index: facts(candidate) for candidate in found} == {index: whole[index] for index in (1, 2, 4)}
    assert [candidate.set_aside for candidate in found.set_aside] == [
        f"generation failed: RuntimeError: no ideas for seed {seed}" for seed in (0, 3, 5)
    ]
    assert found.status == "done"
    assert len(list((tmp_path / "run" / "candidates").iterdir())) == 3


def test_a_generator_that_fails_on_all_is_an_error() -> None:
    with pytest.raises(GenerationFailed, match="'toy' failed on all 3 candidates; the first: .*no ideas for seed 0"):
        generate(3, generator=ToyGenerator(failing=range(3)))


def test_a_generator_that_stops_early_or_mixes_seeds_up() -> None:
    class Short(ToyGenerator):
        def generate(self, prompt: Prompt, seeds: Any, *args: Any, **options: Any) -> Any:
            return super().generate(prompt, seeds[:1] if seeds[0] == 0 else [], *args, **options)

    class Mixed(ToyGenerator):
        def generate(self, prompt: Prompt, seeds: Any, *args: Any, **options: Any) -> Any:
            return super().generate(prompt, seeds[::-1], *args, **options)

    found = generate(3, generator=Short())
    assert [candidate.set_aside for candidate in found.set_aside] == [
        "generation failed: the generator ended before it"
    ] * 2
    # each alone cannot be mixed up, and the rest is asked for together again
    assert [one.seed for one in sorted(generate(3, generator=Mixed()), key=lambda one: one.index)] == [0, 1, 2]


def test_a_reward_that_is_nan_is_never_ranked() -> None:
    loud = generate(4).candidates[0].index

    def broken(audio: Audio) -> dict[str, float | None]:
        same = np.array_equal(audio.waveform, whole[loud])
        return {"musicality": math.nan} if same else {}

    whole = {candidate.index: candidate.audio.waveform for candidate in generate(4).candidates if candidate.audio}
    found = generate(4, reward=ToyReward(override=broken))
    assert [candidate.index for candidate in found.set_aside] == [loud]
    assert found.set_aside[0].set_aside == "reward not finite: musicality is nan"
    assert found.set_aside[0].rewards["musicality"] is None
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_reward_model_that_fails_on_all_is_an_error(tmp_path: Path) -> None:
    def fail(_: Audio) -> dict[str, float | None]:
        raise ZeroDivisionError

    with pytest.raises(RewardFailed, match="'toy' failed on all 4 candidates; the first: reward failed: ZeroDivision"):
        generate(4, reward=ToyReward(override=fail), output=tmp_path / "run")
    assert len(list((tmp_path / "run" / "candidates").iterdir())) == 4, "what was generated must stay"


def test_floors_set_aside_and_reweighting_keeps_them_so() -> None:
    levels = sorted(candidate.rewards["musicality"] or 0.0 for candidate in generate(4).candidates)
    found = generate(4, filters=Filters(floors={"musicality": levels[2]}))
    assert len(found) == 2
    assert len(found.reweight({"alignment": 1}).set_aside) == 2


def test_the_reward_sees_audio_only() -> None:
    class Curious(ToyReward):
        def score(self, prepared: float, audio: Any) -> list[dict[str, float | None]]:
            assert all(type(piece) is Audio for piece in audio)
            return super().score(prepared, audio)

    assert len(generate(3, reward=Curious())) == 3


def interrupt(on: str, at: float) -> Any:
    """Return a progress callback that presses Ctrl-C once a phase has come so far."""

    def callback(progress: Progress) -> None:
        if progress.phase == on and progress.done / progress.total >= at:
            raise KeyboardInterrupt

    return callback


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duration": 31}, "duration must be 1 to 30 s for generator 'musicgen-small', got 31"),
        ({"weights": {"musicalty": 1}}, "musicalty"),
        ({"filters": Filters(floors={"musicalty": 1})}, "musicalty"),
        ({"output": "."}, "already holds a run"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    def load(entry: Entry, *_: object) -> None:
        raise AssertionError(f"{entry.name} is loaded")

    monkeypatch.setattr(Entry, "make", load)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ranking.json").touch()
    with pytest.raises(RerankError, match=message):
        rerank.generate("piano", generator="musicgen-small", reward="cmi-rm", **options)
    with pytest.raises(AssertionError, match="musicgen-small is loaded"):
        rerank.generate("piano", generator="musicgen-small", reward="cmi-rm")


def test_ctrl_c_while_generating_keeps_and_ranks_what_is_finished(tmp_path: Path) -> None:
    found = generate(10, on_progress=interrupt("generating", 0.4), output=tmp_path / "run")
    assert found.status == "interrupted"
    finished = sorted(candidate.index for candidate in found)
    assert finished == list(range(len(finished))) and 3 <= len(finished) <= 4
    document = json.loads((tmp_path / "run" / "ranking.json").read_text())
    assert (document["status"], document["settings"]["n"]) == ("interrupted", 10)
    assert all((tmp_path / "run" / entry["path"]).exists() for entry in document["candidates"])


def test_ctrl_c_while_a_candidate_is_written_does_not_lose_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = Path.write_bytes, 0

    def press(path: Path, content: bytes) -> int:
        nonlocal written
        written += 1
        if written == 3:
            raise KeyboardInterrupt
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", press)
    found = generate(10, output=tmp_path / "run")
    assert (found.status, sorted(candidate.index for candidate in found)) == ("interrupted", [0, 1, 2])
    assert all(candidate.path is not None and candidate.path.exists() for candidate in found)


def test_ctrl_c_while_scoring_keeps_what_is_scored() -> None:
    found = generate(10, on_progress=interrupt("rewarding", 0.5))
    assert found.status == "interrupted"
    assert 5 <= len(found) < 10
    assert {candidate.set_aside for candidate in found.set_aside} == {"not scored: interrupted before it"}


@pytest.mark.parametrize("after", [200, 201, 350, 500])
def test_a_callback_that_keeps_asking_to_stop_gets_a_ranking(after: int) -> None:
    def always(progress: Progress) -> None:
        if progress.phase == "rewarding" or progress.done >= after:
            raise KeyboardInterrupt

    found = generate(5, on_progress=always)
    assert found.status == "interrupted" and found.best.rank == 1
    assert len(found) == len(found.candidates) >= min(after // 100 - 1, 4)


def test_a_flag_that_stays_set_gets_a_ranking_and_stops_at_once() -> None:
    stop = threading.Event()
    asked = time.monotonic()

    def later(progress: Progress) -> None:
        nonlocal asked
        if progress.done >= 300 and not stop.is_set():
            asked = time.monotonic()
            stop.set()

    found = generate(1000, generator=ToyGenerator(pause=0.05), stop=stop.is_set, on_progress=later)
    assert time.monotonic() - asked < 1
    assert found.status == "interrupted" and 2 <= len(found) <= 4


def test_a_flag_is_asked_while_a_batch_is_made() -> None:
    """The generator would take minutes for its first candidate, and reports how far it is."""

    class Slow(ToyGenerator):
        def generate(self, *args: Any, **options: Any) -> Any:
            for step in range(10_000):
                time.sleep(0.01)
                options["on_progress"](Progress("generating", step, 10_000))
            yield from super().generate(*args, **options)

    begun = time.monotonic()
    found = generate(3, generator=Slow(), stop=lambda: time.monotonic() - begun > 0.2)
    assert time.monotonic() - begun < 1
    assert (found.status, found.candidates) == ("interrupted", ())


def test_a_stop_before_anything_is_finished_is_a_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt):
        generate(5, on_progress=interrupt("generating", 0))


def test_an_error_of_the_flag_is_the_callers() -> None:
    def broken() -> bool:
        raise ZeroDivisionError("in the flag")

    with pytest.raises(ZeroDivisionError, match="in the flag"):
        generate(2, stop=broken)


def test_what_a_generator_has_finished_is_taken_before_anything_is_scored() -> None:
    """A generator that finishes all at once would lose the rest to a stop while the first are scored."""

    class AtOnce(ToyGenerator):
        def generate(self, *args: Any, **options: Any) -> Any:
            made = list(super().generate(*args))
            options["on_progress"](Progress("generating", 1, 1))
            yield from made

    found = generate(12, generator=AtOnce(), on_progress=interrupt("rewarding", 0.01))
    assert len(found.candidates) == 12 and found.status == "interrupted"
    found = generate(12, generator=ToyGenerator(pause=0.1), on_progress=interrupt("rewarding", 0.01))
    assert len(found.candidates) == len(found) == 4, "one by one, the first group is scored as soon as it is there"


def test_what_is_made_does_not_wait_in_memory_for_a_generator_that_promises_more() -> None:
    class Promising(ToyGenerator):
        def generate(self, *args: Any, **options: Any) -> Any:
            for candidate in super().generate(*args):
                options["on_progress"](Progress("generating", 1, 1))
                yield candidate

    events: list[Event] = []
    generate(200, generator=Promising(), reward=ToyReward(), on_event=events.append)
    waits = [
        sum(isinstance(one, Made) for one in events[:place])
        for place, one in enumerate(events)
        if isinstance(one, Scored)
    ]
    assert waits[0] <= 70, "the first is scored long before the last is made"


def test_a_callback_for_events_may_ask_to_stop_and_an_error_of_it_is_the_callers() -> None:
    def press(event: Event) -> None:
        if isinstance(event, Made) and event.candidate.index == 3:
            raise KeyboardInterrupt

    found = generate(9, on_event=press)
    assert found.status == "interrupted" and len(found) == 4

    def broken(event: Event) -> None:
        raise ZeroDivisionError("in the callback")

    with pytest.raises(ZeroDivisionError, match="in the callback"):
        generate(9, on_event=broken)


def test_a_generator_that_batches_by_itself_loses_one_seed_for_one_failure() -> None:
    class Batching(ToyGenerator):
        def generate(self, prompt: Prompt, seeds: Any, *args: Any, **options: Any) -> Any:
            if 2 in seeds[:4]:
                raise RuntimeError("no ideas")
            return super().generate(prompt, seeds[:4], *args, **options)

    found = generate(8, generator=Batching())
    assert [one.index for one in found.set_aside] == [2] and len(found) == 7


def test_a_generator_that_wants_to_end_the_program_costs_its_candidate() -> None:
    class Ending(ToyGenerator):
        def generate(self, prompt: Prompt, seeds: Any, *args: Any, **options: Any) -> Any:
            for candidate in super().generate(prompt, seeds, *args, **options):
                if candidate.seed == 1:
                    raise SystemExit(3)
                yield candidate

    found = generate(3, generator=Ending())
    assert [one.set_aside for one in found.set_aside] == ["generation failed: SystemExit: 3"]


def test_a_reward_model_that_wants_to_end_the_program_costs_its_candidate(tmp_path: Path) -> None:
    class Ending(ToyReward):
        def score(self, prepared: float, audio: Any) -> list[dict[str, float | None]]:
            if self.scored or len(audio) > 1:
                raise SystemExit(3)
            return super().score(prepared, audio)

    found = generate(3, reward=Ending(), output=tmp_path / "run")
    assert [one.set_aside for one in found.set_aside] == [
        "reward failed: it tried to end the process: SystemExit: 3"
    ] * 2
    assert document(tmp_path / "run")["status"] == "done"


def test_progress_only_goes_up_through_failures() -> None:
    reports: list[Progress] = []
    generate(6, generator=ToyGenerator(failing={2}), on_progress=reports.append)
    for phase in ("generating", "rewarding"):
        shares = [report.done / report.total for report in reports if report.phase == phase]
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0, 1)


def test_an_error_in_the_callback_is_the_callers() -> None:
    def broken(progress: Progress) -> None:
        if progress.done > 150:
            raise ZeroDivisionError("in the callback")

    with pytest.raises(ZeroDivisionError, match="in the callback"):
        generate(4, on_progress=broken)


def test_a_full_disk_stops_in_one_line_and_keeps_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = Path.write_bytes, 0

    def fill(path: Path, content: bytes) -> int:
        nonlocal written
        written += 1
        if written <= 3:
            return write(path, content)
        write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(OutputError, match=r"cannot write .*003-seed3\.flac: no space left on device"):
        generate(6, output=tmp_path / "run")
    files = sorted((tmp_path / "run" / "candidates").iterdir())
    assert [path.name for path in files] == [f"00{index}-seed{index}.flac" for index in range(3)]
    assert all(read(path).duration == 0.5 for path in files)


def test_a_file_size_limit_is_met_in_one_line(tmp_path: Path) -> None:
    code = (
        "import resource, sys, rerank\nfrom tests.conftest import ToyGenerator, ToyReward\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))\n"
        "try:\n    rerank.generate('piano', 3, generator=ToyGenerator(), reward=ToyReward(), output=sys.argv[1])\n"
        "except rerank.RerankError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "cannot write" in done.stdout and "file too large" in done.stdout
    assert done.stdout.count("\n") == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["ranking.json"]


def test_a_run_is_refused_before_it_is_made_where_there_is_one(tmp_path: Path) -> None:
    generate(2, output=tmp_path / "run")
    generator = ToyGenerator(failing=range(9))
    with pytest.raises(OutputError, match="already holds a run"):
        generate(2, generator=generator, output=tmp_path / "run")
    with pytest.raises(GenerationFailed):
        generate(2, generator=generator, output=tmp_path / "run", overwrite=True)
    assert len(list((tmp_path / "run" / "candidates").iterdir())) == 2, "a run that made nothing replaces nothing"
    generate(1, output=tmp_path / "run", overwrite=True)
    assert len(list((tmp_path / "run" / "candidates").iterdir())) == 1


def files(tmp_path: Path, count: int = 3) -> list[Path]:
    suffixes = (".wav", ".flac", ".ogg")
    return [
        notes(np.random.default_rng(index), 1.0, 22_050).save(tmp_path / f"take {index}{suffixes[index % 3]}")
        for index in range(count)
    ]


def test_rank_orders_files_and_names_them(tmp_path: Path) -> None:
    paths = files(tmp_path)
    found = rerank.rank([str(path) for path in paths], "piano", reward=ToyReward(), output=tmp_path / "run")
    assert {candidate.index for candidate in found} == {0, 1, 2}
    document = json.loads((tmp_path / "run" / "ranking.json").read_text())
    assert document["settings"]["generator"] is None and document["settings"]["seed"] is None
    for entry in document["candidates"]:
        assert entry["source"] == f"../{paths[entry['index']].name}"
        assert entry["path"].startswith(f"candidates/00{entry['index']}-take-{entry['index']}.")
    assert found.candidates[0].seed is None


def test_rank_does_not_depend_on_the_order_of_files(tmp_path: Path) -> None:
    paths = files(tmp_path)
    one = rerank.rank(paths, "piano", reward=ToyReward())
    two = rerank.rank(paths[::-1], "piano", reward=ToyReward())
    assert [c.path for c in one] == [c.path for c in two]


def test_rank_sets_a_file_with_nan_aside_and_refuses_a_missing_one(tmp_path: Path) -> None:
    broken = Audio(np.full((1, 9_000), np.nan, np.float32), 16_000)
    found = rerank.rank([broken, *files(tmp_path)], "piano", reward=ToyReward())
    assert [candidate.index for candidate in found.set_aside] == [0]
    with pytest.raises(UnreadableAudio, match="no such audio file"):
        rerank.rank([tmp_path / "gone.wav"], "piano", reward=ToyReward())
    with pytest.raises(InvalidInput, match="rank takes a list of audio, got one str"):
        rerank.rank("a.wav", "piano", reward=ToyReward())
    with pytest.raises(InvalidInput, match="the number of audio files must be a whole number from 1 to 1024, got 0"):
        rerank.rank([], "piano", reward=ToyReward())


def test_score_gives_the_rewards_of_one_or_many(tmp_path: Path) -> None:
    paths = files(tmp_path)
    reward = ToyReward()
    many = rerank.score(paths, "piano", reward=reward)
    assert reward.prepared == 1
    assert many == [rerank.score(path, "piano", reward=reward) for path in paths]
    ranked = rerank.rank(paths, "piano", reward=reward)
    assert many == [dict(one.rewards) for one in sorted(ranked.candidates, key=lambda one: one.index)]


def test_score_reports_how_far_it_is() -> None:
    pieces = [notes(np.random.default_rng(seed), 0.5) for seed in range(6)]
    reports: list[Progress] = []
    rerank.score(pieces, "piano", reward=ToyReward(), on_progress=reports.append)
    assert {report.phase for report in reports} == {"rewarding"}
    shares = [report.done / report.total for report in reports]
    assert shares == sorted(shares) and (shares[0], shares[-1], len(shares)) == (0, 1, 7)


def test_a_piece_that_a_reward_model_refuses_costs_only_itself() -> None:
    odd = next(candidate.audio for candidate in generate(6) if candidate.index == 4)
    assert odd is not None

    def refuse(audio: Audio) -> dict[str, float | None]:
        if np.array_equal(audio.waveform, odd.waveform):
            raise InvalidInput("this piece is too odd")
        return {}

    found = generate(6, reward=ToyReward(override=refuse))
    assert [(one.index, one.set_aside) for one in found.set_aside] == [(4, "reward failed: this piece is too odd")]


def test_score_refuses_nan() -> None:
    reward = ToyReward(override=lambda _: {"alignment": math.nan})
    with pytest.raises(RewardFailed, match="'toy' on Audio.*: reward not finite: alignment is nan"):
        rerank.score(notes(np.random.default_rng(0), 0.5), "piano", reward=reward)


def test_an_axis_that_never_applies_leaves_the_others() -> None:
    found = generate(3, reward=ToyReward(override=lambda _: {"alignment": None}))
    assert [one.combined for one in found] == [one.rewards["musicality"] for one in found]


def test_one_log_line_per_phase(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "rerank"):
        generate(3)
    lines = [record.message for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith("generated 3 candidates with toy in ")
    assert lines[1].startswith("rewarded 3 candidates with toy in ")


def test_truth_is_kept_and_generators_cannot_rank() -> None:
    class Knowing(ToyGenerator):
        def generate(self, *args: Any, **options: Any) -> Any:
            for candidate in super().generate(*args, **options):
                yield replace(candidate, truth={"musicality": 0.5}, rank=1, rewards={"musicality": 9.0})

    best = generate(2, generator=Knowing()).best
    assert best.truth == {"musicality": 0.5}
    assert best.rewards["musicality"] != 9.0


def document(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "ranking.json").read_text())
    return found


class Pressing(ToyReward):
    """Presses Ctrl-C while it prepares, or while it scores for the first time."""

    def __init__(self, *, preparing: bool) -> None:
        super().__init__()
        self.preparing = preparing

    def prepare(self, prompt: Prompt) -> float:
        if self.preparing:
            raise KeyboardInterrupt
        return super().prepare(prompt)

    def score(self, prepared: float, audio: Any) -> list[dict[str, float | None]]:
        raise KeyboardInterrupt


@pytest.mark.parametrize("preparing", [True, False])
def test_ctrl_c_before_the_first_reward_keeps_what_is_made(tmp_path: Path, preparing: bool) -> None:
    found = generate(3, reward=Pressing(preparing=preparing), output=tmp_path / "run")
    assert (found.status, len(found)) == ("interrupted", 0)
    stored = document(tmp_path / "run")
    assert stored["status"] == "interrupted"
    assert [one["set_aside"] for one in stored["candidates"]] == ["not scored: interrupted before it"] * 3
    assert all((tmp_path / "run" / one["path"]).exists() for one in stored["candidates"])


def yielding(change: Any) -> ToyGenerator:
    """Return a generator whose candidate of seed 1 is another one."""

    class Changed(ToyGenerator):
        def generate(self, *args: Any, **options: Any) -> Any:
            for candidate in super().generate(*args, **options):
                yield change(candidate) if candidate.seed == 1 else candidate

    return Changed()


@pytest.mark.parametrize(
    ("truth", "told"),
    [
        ({"level": np.float32(1)}, "float32 is not JSON serializable"),
        ({"level": math.nan}, "Out of range float values"),
        ({"what": object()}, "object is not JSON serializable"),
        (3, "its truth is a int"),
    ],
)
def test_a_truth_that_json_cannot_hold_costs_its_candidate(tmp_path: Path, truth: Any, told: str) -> None:
    generator = yielding(lambda candidate: replace(candidate, truth=truth))
    generate(3, generator=generator, output=tmp_path / "run")
    stored = document(tmp_path / "run")
    (lost,) = [one for one in stored["candidates"] if one["set_aside"]]
    assert (stored["status"], lost["seed"]) == ("done", 1)
    assert lost["set_aside"].startswith("generation failed: ") and told in lost["set_aside"]


def test_a_candidate_whose_audio_is_none_of_ours_is_set_aside(tmp_path: Path) -> None:
    generator = yielding(lambda candidate: replace(candidate, audio=candidate.audio.waveform))
    found = generate(3, generator=generator, output=tmp_path / "run")
    assert [(one.index, one.set_aside) for one in found.set_aside] == [
        (1, "generation failed: its audio is a ndarray, expected a rerank.Audio")
    ]
    assert len(found) == 2


def test_a_reward_model_that_gives_too_few_leaves_a_document_with_the_reasons(tmp_path: Path) -> None:
    class Breaking(ToyReward):
        def score(self, prepared: float, audio: Any) -> list[dict[str, float | None]]:
            found = super().score(prepared, audio)
            return found if self.scored <= 4 else found[1:]

    generate(6, reward=Breaking(), output=tmp_path / "run")
    stored = document(tmp_path / "run")
    assert (stored["status"], len(stored["candidates"])) == ("done", 6)
    assert [one["rank"] for one in stored["candidates"]] == [1, 2, 3, 4, None, None]
    assert {one["set_aside"] for one in stored["candidates"][4:]} == {
        "reward failed: it gave 0 results for 1 candidates"
    }


def test_a_run_that_fails_keeps_the_earlier_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Audio) -> dict[str, float | None]:
        raise ZeroDivisionError

    generate(2, output=tmp_path / "run")
    before = document(tmp_path / "run")
    with pytest.raises(RewardFailed):
        generate(3, seed=9, reward=ToyReward(override=fail), output=tmp_path / "run", overwrite=True)
    assert document(tmp_path / "run") == before
    unfinished = document(tmp_path / "run" / "unfinished")
    assert (unfinished["status"], len(unfinished["candidates"])) == ("failed", 3)
    assert all((tmp_path / "run" / "unfinished" / one["path"]).exists() for one in unfinished["candidates"])
    assert "keeps its earlier run; what the new one made is in" in caplog.text
    found = generate(1, seed=9, output=tmp_path / "run", overwrite=True)
    assert found.best.path is not None and found.best.path.exists()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["candidates", "ranking.json"]


@pytest.mark.parametrize("phase", ["generating", "rewarding"])
def test_a_run_that_is_interrupted_keeps_the_earlier_one(tmp_path: Path, phase: str) -> None:
    generate(2, output=tmp_path / "run")
    before = document(tmp_path / "run")
    found = generate(6, seed=9, output=tmp_path / "run", overwrite=True, on_progress=interrupt(phase, 0.5))
    assert found.status == "interrupted" and document(tmp_path / "run") == before
    assert all(candidate.path is not None and candidate.path.exists() for candidate in found)
    unfinished = document(tmp_path / "run" / "unfinished")
    assert unfinished["status"] == "interrupted"
    assert all((tmp_path / "run" / "unfinished" / one["path"]).exists() for one in unfinished["candidates"])


def test_a_run_without_a_single_candidate_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        generate(5, on_progress=interrupt("generating", 0), output=tmp_path / "run")
    with pytest.raises(GenerationFailed):
        generate(2, generator=ToyGenerator(failing={0, 1}), output=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_a_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def fill(path: Path, content: bytes) -> int:
        if "002-" in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(OutputError, match=r"002-seed2\.flac: no space left on device"):
        generate(6, output=tmp_path / "run")
    stored = document(tmp_path / "run")
    assert [(one["index"], one["path"]) for one in stored["candidates"]] == [
        (0, "candidates/000-seed0.flac"),
        (1, "candidates/001-seed1.flac"),
        (2, None),
    ]
    assert all("no space left" in one["set_aside"] for one in stored["candidates"])


def test_a_reward_model_without_axes_is_refused() -> None:
    reward = ToyReward()
    reward.info = replace(reward.info, axes={})
    with pytest.raises(InvalidInput, match="reward model 'toy' has no axes, so it gives no rewards; choose another"):
        generate(2, reward=reward)


def test_rank_does_not_overwrite_its_own_files(tmp_path: Path) -> None:
    generate(3, output=tmp_path / "run")
    own = sorted((tmp_path / "run" / "candidates").iterdir())
    with pytest.raises(OutputError, match=r"cannot overwrite .*: it holds the input .*000-seed0\.flac; choose another"):
        rerank.rank(own, "piano", reward=ToyReward(), output=tmp_path / "run", overwrite=True)
    with pytest.raises(OutputError, match="it holds the input"):
        generate(1, prompt=Prompt("piano", reference=own[1]), output=tmp_path / "run", overwrite=True)
    ranking = rerank.rank(own, "piano", reward=ToyReward(), output=tmp_path / "other")
    with pytest.raises(OutputError, match="it holds the input"):
        ranking.save(tmp_path / "run", overwrite=True)
    assert all(path.exists() for path in own)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": {"silent": None}}, "filters must be a rerank.Filters, got dict"),
        ({"weights": {"musicality": 10**400}}, "must be a finite number"),
        ({"duration": 10**400}, "duration must be 0.5 to 30 s"),
        ({"output": 5}, "output must be a path, .* got 5"),
        ({"output": ""}, "output must be a path, .* got ''"),
    ],
)
def test_what_is_of_another_type_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        generate(**options)


def test_what_is_no_list_of_audio_is_refused() -> None:
    values: list[tuple[Any, str]] = [
        (None, "rank takes a list of audio, got NoneType; pass a list of paths or waveforms"),
        (("a.wav", "b.wav"), r"got a tuple of 2; pass a list: list\(audio\)"),
        ((np.zeros((1, 99)), 16_000), r"got one tuple; pass \[audio\]"),
    ]
    for value, message in values:
        with pytest.raises(InvalidInput, match=message):
            rerank.rank(value, "piano", reward=ToyReward())
    several: Any = ("a.wav", "b.wav")
    with pytest.raises(InvalidInput, match="got a tuple of 2; pass a list of them"):
        rerank.score(several, "piano", reward=ToyReward())


def test_numbers_from_numpy_can_be_stored(tmp_path: Path) -> None:
    weights: Any = {"musicality": np.float32(1)}
    generate(np.int64(2), top_k=np.int64(1), weights=weights, output=tmp_path / "run")  # type: ignore[arg-type]
    assert document(tmp_path / "run")["settings"]["top_k"] == 1
