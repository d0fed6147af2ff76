"""Telling how far a run is, and asking at each report whether it is to stop."""

from collections.abc import Callable
from typing import Literal

from rerank.protocols import Progress
from rerank.runs.stopping import CallbackFailed, Stop

ProgressCallback = Callable[[Progress], None]

Phase = Literal["generating", "reading", "rewarding"]

_STEPS = 100  # of progress per candidate


class Reporter:
    """Passes progress on, in steps that only go up in each phase, whatever a generator reports.

    Args:
        callback: of the user; KeyboardInterrupt from it asks for a stop.
        stop: checked at each report.
        total: candidates of the run.
        known: of these, which are there already.

    Attributes:
        ready: how many of the others are finished, as far as the reports of the generator tell.
    """

    def __init__(self, callback: ProgressCallback | None, stop: Stop, total: int, known: int = 0) -> None:
        self._callback, self._stop, self._total, self._known = callback, stop, total, known
        self._done: dict[Phase, int] = {}
        self.ready = 0

    def begin(self, phase: Phase) -> None:
        """Start a phase, once."""
        if phase not in self._done:
            self._send(phase, 0)

    def finished(self, phase: Phase, count: int) -> None:
        """Report that `count` candidates have gone through a phase."""
        self._send(phase, count * _STEPS)

    def within(self, start: int, count: int) -> ProgressCallback:
        """Return the callback for a generator that makes `count` candidates after it made `start`."""

        def passed_on(progress: Progress) -> None:
            share = min(1.0, progress.done / progress.total) if progress.total else 0.0
            self.ready = max(self.ready, start + int(share * count + 1e-9))
            self._send("generating", (self._known + start) * _STEPS + int(share * count * _STEPS))

        return passed_on

    def _send(self, phase: Phase, done: int) -> None:
        self._done[phase] = min(max(done, self._done.get(phase, 0)), self._total * _STEPS)
        if self._callback is not None:
            try:
                self._callback(Progress(phase, self._done[phase], self._total * _STEPS))
            except KeyboardInterrupt:
                self._stop.ask()
            except Exception as error:
                raise CallbackFailed(error) from error
        self._stop.check()
