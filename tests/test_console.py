"""Progress goes to a terminal only; messages go to standard error."""

import io
import logging
import sys

import pytest

from rerank.cli.console import progress_bar, start_logging
from rerank.protocols import Progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_terminal_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as on_progress:
        assert on_progress is None
    assert capsys.readouterr().err == ""


def test_a_terminal_sees_each_phase(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar() as on_progress:
        assert on_progress is not None
        for phase in ("generating", "rewarding"):
            on_progress(Progress(phase, 50, 100))
            on_progress(Progress(phase, 100, 100))
    assert "generating" in terminal.getvalue() and "rewarding" in terminal.getvalue()
    assert "100%" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_messages_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("rerank")
    start_logging(verbose=False)
    logger.info("not shown")
    logger.warning("shown")
    start_logging(verbose=True)
    logger.info("shown too")
    assert capsys.readouterr() == ("", "warning: shown\nshown too\n")
