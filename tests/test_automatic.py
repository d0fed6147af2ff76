"""What "auto" takes: for the audio that is to be judged, on this machine, with the hub as it is."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import rerank
from rerank import automatic
from rerank.audio import Audio
from rerank.names import entry
from rerank.ranking import Ranking
from rerank.registry import Choice, entries, resolve
from tests.conftest import ToyGenerator, notes

LIMITS = "cmi-mini was trained on music by synth only: its rewards mean little for other music"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def takes(tmp_path: Path) -> list[str]:
    return [str(notes(np.random.default_rng(seed), 1.0).save(tmp_path / f"take{seed}.wav")) for seed in range(2)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by synth, of which cmi-mini knows all."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    rerank.generate("slow piano", n=2, duration=1.0, generator="synth", output=folder)
    return folder


def test_what_synth_made_is_judged_by_what_knows_it(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ranking = rerank.load(run)
    known = ("synth understood: slow, piano",)
    assert (ranking.settings.reward, ranking.settings.notes) == ("cmi-mini", known)
    assert rerank.rank(ranking, reward="auto").settings.notes == known
    files = sorted(str(path) for path in (run / "candidates").iterdir())
    again = rerank.rank(files, "slow piano")
    assert (again.settings.reward, again.settings.notes) == ("cmi-mini", ())
    assert [one.rewards for one in again] == [one.rewards for one in ranking]
    rerank.score(files, "slow piano")
    monkeypatch.chdir(run / "candidates")
    rerank.score(sorted(path.name for path in Path().iterdir()), "slow piano")
    assert warnings(caplog) == []


@pytest.mark.parametrize("way", ["files", "with one of a run", "memory", "generator", "score"])
def test_other_audio_is_judged_by_it_with_one_warning_only(
    way: str, takes: list[str], run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given: list[str] | list[Audio] = takes
    if way == "with one of a run":
        given = [takes[0], str(next((run / "candidates").iterdir()))]
    elif way == "memory":
        given = [notes(np.random.default_rng(3), 1.0)]
    ranking: Ranking | None = None
    if way == "generator":
        ranking = rerank.generate("slow", n=2, duration=1.0, generator=ToyGenerator())
    elif way == "score":
        rerank.score(takes, "slow")
    else:
        ranking = rerank.rank(given, "slow")
    assert ranking is None or (ranking.settings.reward, ranking.settings.notes) == ("cmi-mini", (LIMITS,))
    (told,) = warnings(caplog)
    assert told == (
        f"{LIMITS}; cmi-rm, which knows music of all kinds, cannot be had (it is not on this machine, and HF_HUB_OFFLINE "
        "is set)"
    )


def test_a_file_beside_those_of_a_run_is_none_of_it(run: Path, tmp_path: Path) -> None:
    mine = notes(np.random.default_rng(3), 1.0).save(run / "candidates" / "mine.wav")
    assert rerank.rank([mine], "slow").settings.notes == (LIMITS,)
    mine.unlink()


def test_the_small_one_may_be_named_for_anything(takes: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "rerank"):
        ranking = rerank.rank(takes, "slow", reward="cmi-mini")
    assert ranking.settings.notes == (LIMITS,) and warnings(caplog) == []
    assert [record.getMessage() for record in caplog.records].count(LIMITS) == 1


def test_notes_of_a_run_stay_when_it_is_ranked_again(takes: list[str], tmp_path: Path) -> None:
    rerank.rank(takes, "slow", output=tmp_path / "run")
    again = rerank.rank(tmp_path / "run", weights={"musicality": 1}, output=tmp_path / "run")
    assert again.settings.notes == rerank.load(tmp_path / "run").settings.notes == (LIMITS,)


def test_one_line_says_what_is_taken_and_why(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "rerank"):
        chosen = resolve("reward", "auto", made_by="synth")
    assert isinstance(chosen, Choice) and chosen.entry is not None and chosen.entry.name == "cmi-mini"
    assert [record.getMessage() for record in caplog.records] == [
        "reward cmi-mini: trained on music by synth; built in, needs no download and no GPU"
    ]


class Listing(BaseHTTPRequestHandler):
    """A hub that knows every file, and gives none."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.send_response(200)
        for name, value in {"Content-Length": "9", "ETag": f'"{"e" * 40}"', "X-Repo-Commit": "c" * 40}.items():
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Take an address for the hub, and an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def take(address: str) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)

    return take


@pytest.fixture
def listing(hub: Callable[[str], None]) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listing)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub(f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_hub_that_hangs_does_not_hold_the_ranking_up(
    hub: Callable[[str], None], takes: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(entry, "_PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        hub(address)
        started = time.perf_counter()
        chosen = resolve("reward", "auto")
        assert time.perf_counter() - started < 3
    assert isinstance(chosen, Choice) and chosen.entry is not None and chosen.entry.name == "cmi-mini"
    (told,) = warnings(caplog)
    assert told.startswith(f"{LIMITS}; cmi-rm") and f"it is not on this machine, and {address} does not answer" in told


@pytest.mark.usefixtures("listing")
def test_a_download_that_fails_is_told_and_the_small_one_taken(
    takes: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    ranking = rerank.rank(takes, "slow")
    assert (ranking.settings.reward, ranking.settings.notes) == ("cmi-mini", (LIMITS,))
    said, *_, failed = warnings(caplog)
    assert said == "reward cmi-rm is downloaded, 2.8 GB; name another one to do without"
    assert failed.startswith(f"{LIMITS}; cmi-rm, which knows music of all kinds, cannot be had (")
    assert "\n" not in failed


@pytest.mark.usefixtures("listing")
def test_what_is_named_is_not_replaced(takes: list[str]) -> None:
    with pytest.raises(rerank.RerankError, match="cannot be downloaded"):
        rerank.rank(takes, "slow", reward="cmi-rm")


def test_what_is_on_this_machine_is_taken_without_asking_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    download = entries("reward")["cmi-rm"].download
    assert download is not None
    for repository, files in download.files.items():
        place = tmp_path / f"models--{repository.replace('/', '--')}"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text("c0ffee")
        for name in files:
            path = place / "snapshots" / "c0ffee" / name.split("|")[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    with caplog.at_level(logging.INFO, "rerank"):
        assert automatic.reward(entries("reward"), None) == ("cmi-rm", "cmi-mini")
        assert automatic.reward(entries("reward"), "synth") == ("cmi-mini", None)
    assert warnings(caplog) == [] and len(caplog.records) == 2
