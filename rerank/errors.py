"""Every error that `rerank` raises on purpose, so that one `except RerankError` catches them all.

RerankError
├── InvalidInput (also ValueError)   an argument, option, prompt or file content that cannot be used
│   ├── UnknownName                  a name that is in no registry; the message says "did you mean"
│   └── UnreadableAudio              a file that is missing, empty, corrupt or not audio
├── MissingDependency                an optional package is needed; the message says what to install
├── WeightsError                     model weights are missing, or do not fit the network
├── GenerationFailed                 a generator failed on every candidate
├── RewardFailed                     a reward model gave something that is no reward, or failed on every candidate
├── OutputError                      the result could not be written (folder in use, disk full)
└── ConformanceError (also AssertionError)   a plugin breaks a promise of its protocol (`rerank.testing`)
"""

import contextlib
import difflib
from collections.abc import Iterable
from typing import Self

_LONGEST = 300  # characters of a foreign text


def one_line(error: BaseException) -> str:
    """Return an exception as one line: by its text where it is ours, else with its type before it."""
    name = type(error).__name__
    text = None
    with contextlib.suppress(Exception, SystemExit):  # the text of a foreign exception is made by foreign code, too
        text = plain(str(error))
    if text is None:
        return f"{name}, whose text cannot be made"
    if isinstance(error, RerankError):
        return text or name
    return f"{name}: {text}" if text else name


def plain(text: str) -> str:
    """Return a text of foreign code as one line of what can be printed, cut where it is long.

    >>> plain("red \\x1b[31m\\n alert")
    'red \\\\x1b[31m alert'
    """
    line = " ".join(text[: 10 * _LONGEST].split())[:_LONGEST]
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)


class RerankError(Exception):
    """Something `rerank` refuses or cannot do; the message is one line that names the way out."""


class InvalidInput(RerankError, ValueError):
    """An argument, option, prompt or file content cannot be used."""


class UnknownName(InvalidInput):
    """A generator, reward, axis or filter name is not known."""

    @classmethod
    def among(cls, kind: str, name: object, known: Iterable[str]) -> Self:
        """Make the error that names what was meant, if anything is near, and everything that is known.

        >>> print(UnknownName.among("axis", "musicalty", ["musicality", "alignment"]))
        unknown axis 'musicalty'; did you mean 'musicality'? Known: alignment, musicality
        >>> print(UnknownName.among("rule", "best", ["mean"]))
        unknown rule 'best'. Known: mean
        """
        names = sorted(known)
        near = difflib.get_close_matches(str(name), names, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else "."
        return cls(f"unknown {kind} {name!r}{guess} Known: {', '.join(names) or 'none'}")


class UnreadableAudio(InvalidInput):
    """An audio file is missing, empty, corrupt or not audio."""


class MissingDependency(RerankError):
    """An optional package is needed and not installed."""


class WeightsError(RerankError):
    """Model weights are missing or do not fit the network they are for."""


class GenerationFailed(RerankError):
    """A generator failed on every candidate."""


class RewardFailed(RerankError):
    """A reward model gave something that is no reward, or failed on every candidate."""


class OutputError(RerankError):
    """A result could not be written."""


class ConformanceError(RerankError, AssertionError):
    """A generator or reward model breaks a promise of its protocol."""
