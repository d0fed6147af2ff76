"""Hubs that hang, break off or answer nonsense: each download ends soon, in one clear line, and leaves no broken file."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import get_session

from rerank.errors import WeightsError
from rerank.models.hub import Source
from rerank.models.patience import GaveUp, _Tries
from rerank.names import entry
from tests.conftest import ROOT

COMMIT = "c0ffee" * 6 + "beef"
CONTENT = b"w" * 1000


class Hub(BaseHTTPRequestHandler):
    """Says of every file that it is there, and then does what its server is told to."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        if self._does("HEAD"):
            self._answer(200, CONTENT)

    def do_GET(self) -> None:
        listing = self.path.startswith("/api/models/")
        if not self._does("LIST" if listing else "GET"):
            return
        if "/tree/" in self.path:
            self._answer(200, json.dumps([{"type": "file", "path": "a.bin", "size": 1000, "oid": "e" * 40}]).encode())
        elif listing:
            told = {"id": "some/model", "sha": COMMIT, "siblings": [{"rfilename": "a.bin"}]}
            self._answer(200, json.dumps(told).encode())
        else:
            self._answer(200, CONTENT)

    def _does(self, step: str) -> bool:
        """Return whether this step goes well; do what else the server is told to."""
        at, what = self.server.told  # type: ignore[attr-defined]
        if at != step:
            return True
        self.server.asked += 1  # type: ignore[attr-defined]
        self.close_connection = True
        if what == "silent":
            self.server.over.wait(20)  # type: ignore[attr-defined]
        elif what == "half":
            self._answer(200, CONTENT[:500], length=1000)
        elif what == "page":
            self._answer(200, b"<html>log in</html>", known=False)
        elif what != "close":
            self._answer(int(what), b"<html>no</html>", known=False)
        return False

    def _answer(self, status: int, content: bytes, *, length: int | None = None, known: bool = True) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(content)))
        if known:
            self.send_header("ETag", f'"{"e" * 40}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.told, server.asked, server.over = ("", ""), 0, threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DOWNLOAD_TIMEOUT": 0.3,
        "ENDPOINT": address,
        "HUGGINGFACE_CO_URL_TEMPLATE": f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    }.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setattr(entry, "_PATIENCE", 0.3)
    yield server
    server.over.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


WAYS = {"file": lambda source: source.file("a.bin"), "folder": lambda source: source.folder(["*.bin"])}

TOLD = {
    ("HEAD", "silent"): "no answer from {hub}",
    ("HEAD", "close"): "RemoteProtocolError: ",
    ("HEAD", "404"): "{hub} answers 404 Not Found",
    ("HEAD", "500"): "{hub} answers 500 Internal Server Error",
    ("HEAD", "page"): "{hub} does not answer as a hub does",
    ("GET", "silent"): "{hub} broke off or did not answer, twice",
    ("GET", "close"): "{hub} broke off or did not answer, twice",
    ("GET", "half"): "{hub} broke off or did not answer, twice",
    ("GET", "404"): "{hub} answers 404 Not Found",
    ("GET", "500"): "{hub} answers 500 Internal Server Error",
    ("GET", "page"): "what came is not the whole file",
    ("LIST", "silent"): "no answer from {hub}",
    ("LIST", "close"): "RemoteProtocolError: ",
    ("LIST", "500"): "{hub} answers 500 Internal Server Error",
    ("LIST", "page"): "JSONDecodeError: ",
}


@pytest.mark.parametrize("at, what", TOLD)
def test_a_download_that_fails_ends_soon_and_leaves_no_broken_file(
    at: str, what: str, hub: ThreadingHTTPServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.told = (at, what)  # type: ignore[attr-defined]
    address = f"http://127.0.0.1:{hub.server_port}"
    for way in ("file",) if at == "HEAD" else ("folder",) if at == "LIST" else ("file", "folder"):
        hub.asked, started = 0, time.perf_counter()  # type: ignore[attr-defined]
        with pytest.raises(WeightsError) as caught:
            WAYS[way](Source("some/model"))
        assert time.perf_counter() - started < 60  # a hang, not a busy machine
        assert hub.asked <= 2  # type: ignore[attr-defined]
        text = str(caught.value)
        told = [TOLD[at, what].format(hub=address)]
        # a body where none belongs may be met, or the end of the connection that it spoils
        told += ["RemoteProtocolError: "] if (at, what) == ("HEAD", "page") else []
        begin = "of some/model is not on this machine and cannot be downloaded"
        assert any(f"{begin} ({one}" in text for one in told), text
        assert text.endswith("; go online, or give a local folder") and text.isprintable() and len(text) < 300
        assert capfd.readouterr() == ("", "")
        assert [path for path in (tmp_path / "cache").rglob("a.bin") if path.exists()] == []
        assert [path for path in (tmp_path / "cache").rglob("blobs/*") if path.stat().st_size] == []
    hub.told = ("", "")  # type: ignore[attr-defined]
    assert Source("some/model").file("a.bin").read_bytes() == CONTENT


def test_a_connection_that_gets_on_may_break_off_often() -> None:
    session: Any = get_session()

    def asking(start: int) -> Any:
        headers = {"Range": f"bytes={start}-"} if start else {}
        return session.build_request("GET", "http://hub/a.bin", headers=headers)

    tries = _Tries()
    for start in (0, 0, 2**20, 2**20, 2**21, 2**22):
        tries(asking(start))
    tries(asking(2**22 + 5))
    with pytest.raises(GaveUp):
        tries(asking(2**22 + 9))


@pytest.mark.attack
@pytest.mark.parametrize("at", ["HEAD", "GET"])
def test_the_command_ends_in_one_line_where_the_hub_is_silent(
    at: str, hub: ThreadingHTTPServer, tmp_path: Path
) -> None:
    hub.told = (at, "silent")  # type: ignore[attr-defined]
    (tmp_path / "a.wav").write_bytes(b"")
    told = {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(ROOT),
    }
    code = (
        "import sys; from rerank.models.hub import Source; from rerank.errors import RerankError\n"
        "try: Source('some/model').file('a.bin')\n"
        "except RerankError as error: sys.exit(str(error))"
    )
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | told,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert time.perf_counter() - started < 40
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "a.bin of some/model is not on this machine and cannot be downloaded" in done.stderr
