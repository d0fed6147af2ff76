"""Files from the Hugging Face hub, here a server of our own: fetched, kept, and missed quickly in one clear line."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rerank.errors import WeightsError
from rerank.models.hub import Source
from rerank.names import entry

COMMIT = "c0ffee" * 6 + "beef"
CONTENT = b'{"size": 3}'


class Hub(BaseHTTPRequestHandler):
    """Has one file, `config.json` of `some/model`."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/some/model/resolve/main/config.json" or path == f"/some/model/resolve/{COMMIT}/config.json":
            self._answer(200, CONTENT)
        elif path.startswith("/api/models/some/model/tree/"):
            entry = {"type": "file", "path": "config.json", "size": len(CONTENT), "oid": "e" * 40}
            self._answer(200, json.dumps([entry]).encode())
        elif path.startswith("/api/models/some/model"):
            told = {"id": "some/model", "sha": COMMIT, "siblings": [{"rfilename": "config.json"}]}
            self._answer(200, json.dumps(told).encode())
        elif path.startswith("/busy"):
            self._answer(503, b"")
        else:
            self.server.missed.append(path)  # type: ignore[attr-defined]
            self._answer(404, b"", code="EntryNotFound")

    def _answer(self, status: int, content: bytes, **more: str) -> None:
        self.send_response(status)
        headers = {"Content-Length": str(len(content)), "ETag": f'"{"e" * 40}"', "X-Repo-Commit": COMMIT}
        for name, value in (headers | {f"X-Error-{name.title()}": value for name, value in more.items()}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Take an address for the hub, and an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(entry, "_PATIENCE", 0.3)

    def take(address: str) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)

    return take


@pytest.fixture
def served(here: Callable[[str], None]) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.missed = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    here(f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def refused() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


WAYS = {"file": lambda source: source.file("config.json"), "folder": lambda source: source.folder(["*.json"])}


def _told(way: str, capfd: pytest.CaptureFixture[str], source: str = "some/model") -> str:
    """Return the error of what cannot be had, which takes no time and no other line."""
    started = time.perf_counter()
    with pytest.raises(WeightsError) as caught:
        WAYS[way](Source(source))
    assert time.perf_counter() - started < 5
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    return str(caught.value)


@pytest.mark.parametrize("way", WAYS)
def test_what_was_fetched_is_kept_and_found_without_the_hub(
    way: str, served: ThreadingHTTPServer, here: Callable[[str], None], refused: str, capfd: pytest.CaptureFixture[str]
) -> None:
    found = WAYS[way](Source("some/model"))
    assert (found if way == "file" else found / "config.json").read_bytes() == CONTENT
    assert capfd.readouterr() == ("", ""), "there is no terminal for the bars of the download"
    here(refused)
    started = time.perf_counter()
    assert WAYS[way](Source("some/model")) == found
    assert time.perf_counter() - started < 5
    assert capfd.readouterr().err.count("Retrying") == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_hub_that_refuses_is_told_at_once(
    way: str, here: Callable[[str], None], refused: str, capfd: pytest.CaptureFixture[str]
) -> None:
    here(refused)
    what = "config.json" if way == "file" else "model"
    told = (
        rf"{what} of some/model is not on this machine and cannot be downloaded \(ConnectError: \[Errno \d+\] "
        r"Connection refused\); go online, or give a local folder"
    )
    assert re.fullmatch(told, _told(way, capfd))


@pytest.mark.parametrize("way", WAYS)
def test_a_hub_that_hangs_is_asked_twice(
    way: str, here: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        here(address)
        assert f"cannot be downloaded (no answer from {address}); go online" in _told(way, capfd)
        silent.settimeout(0.1)
        calls = 0
        with pytest.raises(TimeoutError):
            while True:
                silent.accept()[0].close()
                calls += 1
        assert calls == 2


@pytest.mark.parametrize("way", WAYS)
def test_a_hub_that_is_down_is_told_at_once(
    way: str, served: ThreadingHTTPServer, here: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    here(f"http://127.0.0.1:{served.server_port}/busy")
    address = f"http://127.0.0.1:{served.server_port}/busy"
    assert f"cannot be downloaded ({address} answers 503 Service Unavailable); go online" in _told(way, capfd)


def test_a_file_that_the_hub_lacks_is_told(served: ThreadingHTTPServer) -> None:
    with pytest.raises(WeightsError, match="^the Hugging Face hub has no gone.json in some/model$"):
        Source("some/model").file("gone.json")
    assert served.missed == ["/some/model/resolve/main/gone.json"]  # type: ignore[attr-defined]
