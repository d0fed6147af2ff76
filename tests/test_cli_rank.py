"""`rerank rank` and `rerank score` on folders, manifests and runs; what cannot be read costs only itself."""

import csv
import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import rerank
from tests.conftest import install, notes
from tests.test_cli import MAKE, TOYS, call, in_process, refused, takes

pytestmark = pytest.mark.usefixtures("plugged")


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def folder() -> Path:
    """Four takes, and two files that are none."""
    place = Path("takes")
    place.mkdir()
    for i in range(4):
        notes(np.random.default_rng(i), 1.0).save(place / f"take{i}.wav")
    (place / "empty.wav").touch()
    (place / "text.flac").write_text("no audio at all, but some text that is long enough")
    return place


@pytest.fixture
def manifest(folder: Path) -> str:
    Path("list.csv").write_text(
        "path,prompt\ntakes/take0.wav,slow\ntakes/take1.wav,fast\ntakes/take2.wav,slow\ntakes/text.flac,fast\n"
    )
    return "list.csv"


def rows(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rank_takes_a_folder_and_names_what_cannot_be_read(folder: Path) -> None:
    result = call("rank", str(folder), "--prompt", "piano", *TOYS, "--csv", "out.csv")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == ("error: 2 of 6 files cannot be read: takes/empty.wav, takes/text.flac")
    assert [line.split()[-1] for line in result.stdout.splitlines()[1:5]] == [
        Path(str(one.source)).name for one in rerank.rank(takes_in(folder), "piano", reward="toy")
    ]
    assert "set aside: takes/empty.wav: cannot be read: takes/empty.wav is empty" in result.stdout
    written = rows("out.csv")
    assert [row["rank"] for row in written] == ["1", "2", "3", "4", "", ""]
    assert [row["set_aside_kind"] for row in written] == [""] * 4 + ["unreadable"] * 2
    assert all(float(row["musicality"]) and row["source"] == row["path"] for row in written[:4])


def takes_in(folder: Path) -> list[str]:
    return [str(folder / f"take{i}.wav") for i in range(4)]


def test_score_takes_a_folder_and_names_what_cannot_be_read(folder: Path) -> None:
    result = call("score", str(folder), "--prompt", "piano", *TOYS, "--csv", "out.csv")
    assert result.exit_code == 1
    names = [Path(take).name for take in takes_in(folder)]
    assert [line.split()[-1] for line in result.stdout.split("the numbers:")[0].splitlines()] == [
        "file",
        *names,
        "takes",
    ]
    lines = result.stderr.splitlines()
    assert lines[0].startswith("not scored: takes/empty.wav is empty")
    assert lines[1].startswith("not scored: cannot read takes/text.flac")
    assert lines[2:] == ["error: 2 of 6 files have no rewards"]
    document = json.loads(call("score", str(folder), "--prompt", "piano", *TOYS, "--json").stdout)
    good = [entry for entry in document["scores"] if "error" not in entry]
    assert [entry["rewards"] for entry in good] == rerank.score(takes_in(folder), "piano", reward="toy")
    assert document["scores"][0] == {
        "path": "takes/empty.wav",
        "rewards": {"musicality": None, "alignment": None},
        "error": "takes/empty.wav is empty (0 bytes); record or export it again",
    }
    written = {row["path"]: row for row in rows("out.csv")}
    assert float(written["takes/take1.wav"]["musicality"]) == good[1]["rewards"]["musicality"]
    assert written["takes/empty.wav"]["musicality"] == "" and "is empty" in written["takes/empty.wav"]["error"]


def test_where_nothing_can_be_read_there_is_one_line(folder: Path) -> None:
    for path in folder.glob("take*"):
        path.unlink()
    assert "takes/empty.wav is empty" in refused("rank", str(folder), "--prompt", "piano", *TOYS)
    assert "takes/empty.wav is empty" in refused("score", str(folder), "--prompt", "piano", *TOYS)


def test_a_manifest_with_one_prompt_is_one_ranking(folder: Path) -> None:
    lines = [json.dumps({"path": f"takes/take{i}.wav", "text": "piano", "lyrics": "la"}) for i in range(4)]
    Path("list.jsonl").write_text("\n".join(lines))
    document = json.loads(call("rank", "list.jsonl", *TOYS, "--json").stdout)
    assert document["prompt"] == {"text": "piano", "lyrics": "la", "reference": None}
    expected = rerank.rank(takes_in(folder), "piano", lyrics="la", reward="toy")
    assert [entry["source"] for entry in document["candidates"]] == [str(one.source) for one in expected]


def test_a_manifest_with_several_prompts_is_a_ranking_for_each(manifest: str) -> None:
    result = call("rank", manifest, *TOYS, "--json", "--csv", "out.csv", "--top-k", "2")
    assert result.exit_code == 1 and "1 of 4 files cannot be read: takes/text.flac" in result.stderr
    rankings = json.loads(result.stdout)["rankings"]
    assert [one["prompt"]["text"] for one in rankings] == ["slow", "fast"]
    assert [len(one["candidates"]) for one in rankings] == [2, 2]
    slow = rerank.rank(["takes/take0.wav", "takes/take2.wav"], "slow", reward="toy")
    assert [entry["combined"] for entry in rankings[0]["candidates"]] == [one.combined for one in slow]
    assert [row["prompt"] for row in rows("out.csv")] == ["001", "001", "002", "002"]
    told = call("rank", manifest, *TOYS).stdout.splitlines()
    assert "001: slow" in told and "002: fast" in told


def test_such_rankings_are_written_to_a_folder_each(manifest: str) -> None:
    result = call("rank", manifest, *TOYS, "-o", "all", "--json")
    assert json.loads(result.stdout) == json.loads(Path("all/index.json").read_text())
    assert [rerank.load(f"all/{name}").prompt.text for name in ("001", "002")] == ["slow", "fast"]
    assert "all already holds runs" in refused("rank", manifest, *TOYS, "-o", "all")
    again = call("rank", manifest, *TOYS, "-o", "all", "--overwrite")
    assert again.stdout.splitlines()[0].split() == ["prompt", "status", "ranked", "set", "aside", "best", "its", "file"]
    assert again.stdout.endswith("written to all\n")


def test_score_asks_for_each_file_by_its_own_prompt(manifest: str) -> None:
    document = json.loads(call("score", manifest, *TOYS, "--json").stdout)
    assert [entry["path"] for entry in document["scores"]] == [
        f"takes/{name}" for name in ("take0.wav", "take1.wav", "take2.wav", "text.flac")
    ]
    for entry, prompt in zip(document["scores"][:3], ("slow", "fast", "slow"), strict=True):
        assert entry["rewards"] == rerank.score(entry["path"], prompt, reward="toy")
    assert "error" in document["scores"][3]


def test_the_reward_model_is_loaded_once_for_many_prompts(manifest: str, plugged: Path) -> None:
    install(plugged, "counted-package", rewards="counted = counted_package:counted")
    (plugged / "counted_package.py").write_text(
        "from tests.conftest import ToyReward\n"
        "def counted():\n    with open('loads', 'a') as file: file.write('x')\n    return ToyReward()\n"
    )
    call("rank", manifest, "--reward", "counted")
    call("score", manifest, "--reward", "counted")
    assert Path("loads").read_text() == "xx"


@pytest.mark.parametrize("command", ["rank", "score"])
def test_a_wrong_manifest_is_refused_before_any_work(command: str, manifest: str) -> None:
    Path("bad.csv").write_text("path,prompt,reference\ntakes/take0.wav,slow,\ntakes/take1.wav,slow,takes/gone.wav\n")
    assert "bad.csv:3: no such audio file: takes/gone.wav" in refused(command, manifest, "bad.csv", *TOYS)
    told = refused(command, manifest, "--prompt", "mine", *TOYS)
    assert "takes/take0.wav has a prompt of its own in its manifest" in told
    assert "the prompt is empty" in refused(command, "takes/take0.wav", "--prompt", "", *TOYS)


@pytest.mark.parametrize("command", ["rank", "score"])
def test_a_prompt_may_be_left_out(command: str, folder: Path) -> None:
    result = call(command, "takes/take0.wav", "takes/take1.wav", *TOYS)
    listed = [line for line in result.stdout.splitlines() if line.endswith(".wav")]
    assert result.exit_code == 0 and len([line for line in listed if "ahead" not in line and "behind" not in line]) == 2
    Path("some.csv").write_text("path,prompt\ntakes/take0.wav,slow\ntakes/take1.wav,\ntakes/take2.wav,\n")
    result = call(command, "some.csv", *TOYS, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    if command == "rank":
        assert [(one["prompt"]["text"], one["settings"]["n"]) for one in found["rankings"]] == [("slow", 1), ("", 2)]
    else:
        assert all(one["rewards"]["musicality"] for one in found["scores"])


def test_a_ranking_without_a_prompt_is_shown_and_exported(folder: Path) -> None:
    assert call("rank", "takes/take0.wav", "takes/take1.wav", *TOYS, "-o", "run").exit_code == 0
    shown = call("show", "run")
    assert shown.exit_code == 0 and "prompt" not in shown.stdout
    assert call("export", "run", "--top", "1").exit_code == 0
    assert call("rank", "run", "--weight", "musicality=1").exit_code == 0
    assert "the prompt is empty" in refused("rank", "run", "--prompt", "")
    assert "a run is ranked again for its own prompt" in refused("rank", "run", "--prompt", "slow")


def test_what_is_missing_beside_others_is_named_at_the_end(folder: Path) -> None:
    Path("list.csv").write_text("path\ntakes/take1.wav\ntakes/gone.wav\n")
    given = ("takes/take0.wav", "lost.wav", "list.csv", "--prompt", "piano", *TOYS)
    result = call("rank", *given)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["error: 2 of 4 files cannot be read: lost.wav, takes/gone.wav"]
    assert "set aside: lost.wav: cannot be read: no such audio file: lost.wav" in result.stdout
    assert [line.split()[0] for line in result.stdout.splitlines()[:3]] == ["rank", "1", "2"]
    result = call("score", *given)
    assert result.exit_code == 1
    first, second, last = result.stderr.splitlines()
    assert first.startswith("not scored: no such audio file: lost.wav")
    assert second.startswith("not scored: no such audio file: takes/gone.wav")
    assert last == "error: 2 of 4 files have no rewards" and "take0.wav" in result.stdout
    for command in ("rank", "score"):
        told = refused(command, "lost.wav", "gone.wav", "--prompt", "piano", *TOYS)
        assert told == (
            "error: none of the 2 files is there; the first: no such audio file: lost.wav; check the path\n"
        )


def test_a_prompt_whose_files_are_all_missing_costs_only_itself(folder: Path) -> None:
    Path("list.csv").write_text("path,prompt\ntakes/gone.wav,slow\ntakes/take0.wav,fast\n")
    result = call("rank", "list.csv", *TOYS, "-o", "all")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["error: 001: no such audio file: takes/gone.wav; check the path"]
    index = json.loads(Path("all/index.json").read_text())
    assert [entry["status"] for entry in index["prompts"]] == ["failed", "done"]
    result = call("score", "list.csv", *TOYS, "--json")
    assert result.exit_code == 1 and "error" in json.loads(result.stdout)["scores"][0]


@pytest.mark.parametrize("command", ["rank", "score"])
def test_a_table_that_is_there_is_not_replaced_silently(command: str) -> None:
    file = takes(1)[0]
    Path("out.csv").write_text("mine")
    given = (command, file, "--prompt", "p", *TOYS, "--csv")
    assert "out.csv is there already; choose another file, or --overwrite" in refused(*given, "out.csv")
    assert Path("out.csv").read_text() == "mine"
    assert call(*given, "out.csv", "--overwrite").exit_code == 0
    assert len(rows("out.csv")) == 1
    assert "cannot write gone/out.csv: it must be a file in a folder that exists" in refused(*given, "gone/out.csv")


@pytest.mark.skipif("sys.platform == 'darwin'", reason="its file names are UTF-8")
def test_a_table_holds_names_that_are_no_text() -> None:
    notes(np.random.default_rng(0), 1.0).save("a,\udcff.wav")
    call("score", "a,\udcff.wav", "--prompt", "p", *TOYS, "--csv", "out.csv")
    assert Path("out.csv").read_bytes().splitlines()[1].startswith(b'"a,\xff.wav",')


def test_a_run_is_ranked_again_for_its_own_prompt() -> None:
    call(*MAKE, "-n", "4", "-o", "run")
    expected = rerank.load("run").reweight({"alignment": 1})
    result = call("rank", "run", "--weight", "alignment=1", "--json")
    document = json.loads(result.stdout)
    assert [entry["index"] for entry in document["candidates"]] == [one.index for one in expected]
    assert document["settings"]["weights"] == {"musicality": 0.0, "alignment": 1.0}
    assert Path("run/ranking.json").read_text(encoding="utf-8") == result.stdout
    assert "leave out prompt" in refused("rank", "run", "--prompt", "other")
    table = call("rank", "run", "--rule", "rank", "-o", "copy").stdout
    assert table.endswith("written to copy\n") and "files in copy/candidates" in table
    rules = [json.loads(Path(name, "ranking.json").read_text())["settings"]["rule"] for name in ("run", "copy")]
    assert rules == ["mean", "rank"] and rerank.load("copy").best.path == Path("copy/candidates/000-seed0.flac")


def test_a_run_is_named_by_its_document_too(monkeypatch: pytest.MonkeyPatch) -> None:
    call(*MAKE, "-n", "3", "-o", "run")
    assert call("rank", "run/ranking.json", "--weight", "alignment=1").stdout.endswith("written to run\n")
    assert rerank.load("run").settings.weights == {"musicality": 0, "alignment": 1}
    monkeypatch.chdir("run")
    assert call("rank", "ranking.json", "--weight", "musicality=1").exit_code == 0
    assert rerank.load(".").settings.weights == {"musicality": 1, "alignment": 0}


def test_an_interrupted_run_that_is_ranked_again_is_no_failure(plugged: Path) -> None:
    call(*MAKE, "-n", "3", "-o", "run")
    document = json.loads(Path("run/ranking.json").read_text())
    Path("run/ranking.json").write_text(json.dumps({**document, "status": "interrupted"}))
    for output in ([], ["-o", "copy"]):
        result = call("rank", "run", "--weight", "alignment=1", *output)
        assert (result.exit_code, result.stderr) == (0, "")
    assert rerank.load("run").status == "interrupted"
    none = call("rank", "run", "--filter", "silent=0", "--json")
    assert none.exit_code == 1 and "all 3 candidates were set aside" in none.stderr
    install(plugged, "stopped-package", rewards="stopped = stopped_package:stopped")
    (plugged / "stopped_package.py").write_text("def stopped():\n    raise KeyboardInterrupt\n")
    before = Path("run/ranking.json").read_bytes()
    result = call("rank", "run", "--reward", "stopped")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "error: interrupted; run keeps the ranking that it had, and rewards that are new\n"
    assert Path("run/ranking.json").read_bytes() == before


def test_another_reward_model_adds_its_axes_to_a_run(plugged: Path) -> None:
    install(plugged, "second-package", rewards="second = second_package:second")
    (plugged / "second_package.py").write_text(
        "from dataclasses import replace\nfrom tests.conftest import ToyReward\n"
        "def second():\n    toy = ToyReward()\n    toy.info = replace(toy.info, name='second')\n    return toy\n"
    )
    call(*MAKE, "-n", "3", "-o", "run")
    result = call("rank", "run", "--reward", "second")
    axes = [f"{model}.{axis}" for model in ("toy", "second") for axis in ("musicality", "alignment")]
    assert result.stdout.splitlines()[0].split() == ["rank", "combined", *axes, "seed", "file"]
    both = call("score", "run/candidates/000-seed0.flac", "--prompt", "slow piano", *TOYS, "--reward", "second")
    assert both.stdout.splitlines()[0].split() == [*axes, "file"]


def test_score_that_is_interrupted_gives_what_it_has(plugged: Path) -> None:
    install(plugged, "slow-package", rewards="slow = slow_package:slow")
    (plugged / "slow_package.py").write_text(
        "import time\nfrom dataclasses import replace\nfrom pathlib import Path\nfrom tests.conftest import ToyReward\n"
        "class Slow(ToyReward):\n"
        "    def score(self, prepared, audio):\n"
        "        time.sleep(0.2)\n        with open('asked', 'a') as file: file.write('x')\n        return super().score(prepared, audio)\n"
        "def slow():\n    model = Slow()\n    model.info = replace(model.info, batch_size=1)\n    return model\n"
    )
    files = takes(60)
    process = in_process(plugged, "score", *files, "--prompt", "p", "--reward", "slow", "--json")
    deadline = time.monotonic() + 60
    while (not Path("asked").exists() or len(Path("asked").read_text()) < 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    scores = json.loads(stdout)["scores"]
    assert 2 <= len(scores) < 60 and [entry["path"] for entry in scores] == files[: len(scores)]
    assert stderr.splitlines()[-1] == f"error: interrupted: {60 - len(scores)} of 60 files have no rewards"


def test_names_of_folders_are_shown_and_linked_whatever_is_in_them(folder: Path) -> None:
    Path("here").mkdir()
    result = call("rank", *takes_in(folder), *TOYS, "-o", "here/../a\x1b[31m\nrun", "--report")
    assert result.exit_code == 0, result.stderr
    last = result.stdout.splitlines()[-2:]
    page = Path("a\x1b[31m\nrun", "report.html")
    assert last == ["written to here/../a?[31m?run", f"page: {page.resolve().as_uri()}"]
    assert rerank.load(page.parent).reweight({"alignment": 1}) is not None
    again = call("rank", str(page.parent), "--weight", "alignment=1")
    assert "a?[31m?run/report.html shows an earlier state" in again.stderr and "\x1b" not in again.stderr
