"""Limits for what is downloaded from the Hugging Face hub: time, tries, and what its library prints meanwhile.

By itself the library waits for ever for a list of files, and asks six times and more for a file that breaks off.

**Conventions**: limits hold for each wait on the connection, not for a whole download, which may take hours.
"""

import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

from huggingface_hub import constants, get_session
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

_TRIES = 2
_ADVANCE = 2**20  # bytes that a try must have brought for the next one to be the first again


class GaveUp(Exception):
    """Raised where another try would begin."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Have the library wait at most so long, try everything at most twice, and print nothing but bars on a terminal.

    Args:
        seconds: for each answer that the library sets no limit for itself.

    Raises:
        GaveUp: within the block, in place of a third try.
    """
    session: Any = get_session()
    library = logging.getLogger("huggingface_hub")
    count, before, loud = _Tries(), session.timeout, library.level
    hide = not (sys.stderr.isatty() or are_progress_bars_disabled() or constants.HF_HUB_DISABLE_PROGRESS_BARS is False)
    session.event_hooks = {**session.event_hooks, "request": [*session.event_hooks["request"], count]}
    session.timeout = seconds
    library.setLevel(logging.ERROR)
    if hide:
        disable_progress_bars()
    try:
        yield
    finally:
        others = [hook for hook in session.event_hooks["request"] if hook is not count]
        session.event_hooks = {**session.event_hooks, "request": others}
        session.timeout = before
        library.setLevel(loud)
        if hide:
            enable_progress_bars()


class _Tries:
    """Counts the requests for each address that do not begin where the last one got to."""

    def __init__(self) -> None:
        self._reached: dict[tuple[str, str], tuple[int, int]] = {}

    def __call__(self, request: Any) -> None:
        """Take note of a request that is about to be sent."""
        begins = re.match(r"bytes=(\d+)-", request.headers.get("range", ""))
        start = int(begins[1]) if begins else 0
        asked = (request.method, str(request.url))
        furthest, tries = self._reached.get(asked, (0, 0))
        if start >= furthest + _ADVANCE:
            furthest, tries = start, 0
        if tries == _TRIES:
            raise GaveUp(f"{request.url} was tried {_TRIES} times")
        self._reached[asked] = furthest, tries + 1
