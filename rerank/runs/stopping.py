"""Stopping a run: by Ctrl-C, by a flag, or by a callback, once or again and again.

A signal may arrive anywhere, also where Python cannot raise (in a destructor, or a callback of a C library). So a signal
is noted first, and raised only while a generator or a reward model works, where nothing of ours can be torn apart;
everything else asks.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from rerank.errors import InvalidInput

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(BaseException):
    """Raised within a generator or a reward model where the run is to stop.

    It is no Exception: a stop is no failure, and nobody may take it for one.
    """


STOPS = (Stopped, KeyboardInterrupt)
"""What ends the step that a run is at."""


class CallbackFailed(BaseException):
    """Carries what a callable of the user raised through a generator, which must not take it for a failure of its own."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class Stop:
    """Whether a run is to stop.

    Args:
        asked: a callable of the user, asked often.

    Raises:
        InvalidInput: `asked` cannot be called.
    """

    def __init__(self, asked: Callable[[], bool] | None = None) -> None:
        if asked is not None and not callable(asked):
            raise InvalidInput(f"stop must be a function without arguments, got {asked!r:.40}; pass event.is_set")
        self._asked = asked
        self._pressed = False
        self._heeded = False
        self._raising = False

    def ask(self) -> None:
        """Ask for a stop, as a callback does by KeyboardInterrupt; without effect once one was heeded."""
        if not self._heeded:
            self._pressed = True

    def check(self) -> None:
        """Raise `Stopped` if the run is to stop."""
        if self._pressed or (not self._heeded and self._is_asked()):
            raise Stopped

    def _is_asked(self) -> bool:
        try:
            return self._asked is not None and bool(self._asked())
        except Exception as error:
            raise CallbackFailed(error) from error

    def by_flag(self, stop: BaseException) -> bool:
        """Return whether a stop was asked for by the callable of the user, and by nothing else."""
        return isinstance(stop, Stopped) and not self._pressed

    def heed(self) -> None:
        """Take what was asked for as done: from now on only another signal counts."""
        self._pressed, self._heeded = False, True

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Note the signals that would raise KeyboardInterrupt while the block runs; only the main thread can."""
        before = {}
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is signal.default_int_handler:
                    before[number] = signal.signal(number, self._press)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a signal raise KeyboardInterrupt while the block runs."""
        self._raising = True
        try:
            self.check()
            yield
        finally:
            self._raising = False

    def _press(self, number: int, frame: FrameType | None) -> None:
        self._pressed = True
        if self._raising:
            raise KeyboardInterrupt
