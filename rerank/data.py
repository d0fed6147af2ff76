"""What goes in and what is made of it: `Prompt` and `Candidate`.

**Conventions**: rewards are floats, higher is better, None where one does not apply; rank 1 is best.
"""

import math
import numbers
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from rerank.audio import MAX_REFERENCE_DURATION, Audio, AudioLike, as_audio, short_fault
from rerank.errors import InvalidInput, RerankError

MAX_TEXT_LENGTH = 4_000
"""Of the text and of the lyrics of a prompt, in characters."""


@dataclass(frozen=True, eq=False, init=False)
class Prompt:
    """What the candidates are made for: text, and optionally lyrics and a reference audio.

    Args:
        text: in free English, at most 4,000 characters.
        lyrics: to be sung, at most 4,000 characters.
        reference: audio to follow, 0.1 to 600 s: a path, an `Audio` or `(waveform, sample_rate)`.

    Raises:
        InvalidInput: there is no text, no lyrics and no reference, or a part cannot be used.
        UnreadableAudio: the reference is a file that cannot be used.

    >>> Prompt("slow piano").lyrics is None
    True
    """

    text: str
    lyrics: str | None
    reference: Audio | None

    def __init__(self, text: str = "", lyrics: str | None = None, reference: AudioLike | None = None) -> None:
        _check_text("text", text)
        if lyrics is not None:
            _check_text("lyrics", lyrics)
            lyrics = lyrics if lyrics.strip() else None
        if not text.strip() and lyrics is None and reference is None:
            raise InvalidInput(f"the prompt is empty ({text!r}); give it a text, lyrics or a reference")
        audio = None if reference is None else _reference(reference)
        for name, part in (("text", text), ("lyrics", lyrics), ("reference", audio)):
            object.__setattr__(self, name, part)

    @classmethod
    def of(
        cls, prompt: "str | Prompt | None", lyrics: str | None = None, reference: AudioLike | None = None
    ) -> "Prompt":
        """Return the prompt that the arguments of `generate`, `rank` and `score` stand for.

        Where nothing is given, it has no part: there is then nothing that audio should fit.

        Raises:
            InvalidInput: as the class does; or a part is given twice, in the `Prompt` and beside it.

        >>> Prompt.of(None).conditions()
        []
        """
        if prompt is None and lyrics is None and reference is None:
            return cls.recalled("", None, None)
        if not isinstance(prompt, Prompt):
            return cls("" if prompt is None else prompt, lyrics, reference)
        for name, part in (("lyrics", lyrics), ("reference", reference)):
            if part is not None:
                raise InvalidInput(f"{name} given beside a Prompt; put it inside: Prompt(text, {name}=...)")
        return prompt

    @classmethod
    def recalled(cls, text: str, lyrics: str | None, reference: Audio | None) -> "Prompt":
        """Return a prompt that was checked when it was given, without reading its reference again."""
        prompt = object.__new__(cls)
        for name, part in (("text", text), ("lyrics", lyrics), ("reference", reference)):
            object.__setattr__(prompt, name, part)
        return prompt

    def conditions(self) -> list[str]:
        """Return which of "text", "lyrics" and "reference" it has."""
        present = {
            "text": bool(self.text.strip()),
            "lyrics": self.lyrics is not None,
            "reference": self.reference is not None,
        }
        return [name for name, here in present.items() if here]


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidate:
    """One piece of audio made for a prompt.

    Attributes:
        index: position in generation order, from 0.
        seed: that it was made with; together with prompt, duration and options it makes the same audio again. None
            for audio made elsewhere.
        audio: None where generation failed.
        rewards: by axis name; empty until scored.
        combined: weighted mean of the rewards.
        rank: 1 is best; None where it was set aside.
        set_aside: why it is not ranked, in plain words; None where it is ranked, or waits for its rewards.
        reasons: what speaks for and against it, one sentence each, made from numbers.
        faults: name of a reward model that gave it no reward -> why.
        path: the file of its run that holds it, if any.
        sha256: of that file, in hexadecimal digits.
        source: the file it came from, for audio made elsewhere.
        truth: for generators that know what they made (`synth`): what was asked and rendered. Reward models never
            see it; training and evaluation may.
        codes: for generators that sample codes of a neural codec (MusicGen): those that `audio` was decoded from, int16
            `[codebooks, frames]`; with them it can be decoded again or gone on with.
        licence: of the weights that made it, and so of what may be done with it; None for audio made elsewhere.
    """

    index: int
    seed: int | None
    audio: Audio | None
    rewards: Mapping[str, float | None] = field(default_factory=dict)
    combined: float | None = None
    rank: int | None = None
    set_aside: str | None = None
    reasons: tuple[str, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None
    sha256: str | None = None
    source: Path | None = None
    truth: Mapping[str, Any] | None = field(default=None, repr=False)
    codes: NDArray[np.int16] | None = field(default=None, repr=False)
    licence: str | None = None

    @property
    def set_aside_kind(self) -> str | None:
        """The kind of `set_aside`, as a word that code can test, such as "silent" or "failed"; None where it is None."""
        return None if self.set_aside is None else kind_of(self.set_aside)

    @property
    def name(self) -> str:
        """What to call it: by its seed, or by the file it came from."""
        if self.seed is not None:
            return f"seed {self.seed}"
        return f"candidate {self.index}" if self.source is None else self.source.name

    @property
    def is_removed(self) -> bool:
        """Whether its file was stored and removed again."""
        return self.path is None and self.sha256 is not None

    def save(self, path: str | Path) -> Path:
        """Write its audio to a `.wav`, `.flac`, `.ogg` or `.mp3` file and return the path.

        Raises:
            RerankError: it has no audio, because its generation failed.
            InvalidInput, OutputError: as `rerank.audio.write`.
        """
        if self.audio is None:
            raise RerankError(f"candidate {self.index} has no audio to save: {self.set_aside}")
        return self.audio.save(path)

    def to_dict(self, folder: Path | None = None) -> dict[str, Any]:
        """Return its entry in `ranking.json`, with paths relative to `folder` if one is given.

        The truth is in it where the generator knows it.
        """
        document: dict[str, Any] = {
            "rank": self.rank,
            "index": self.index,
            "seed": self.seed,
            "path": path_text(self.path, folder),
            "sha256": self.sha256,
            "source": path_text(self.source, folder),
            "duration": self.audio.duration if self.audio else None,
            "sample_rate": self.audio.sample_rate if self.audio else None,
            "channels": self.audio.channels if self.audio else None,
            "rewards": dict(self.rewards),
            "combined": self.combined,
            "reasons": list(self.reasons),
            "faults": dict(self.faults),
            "set_aside": self.set_aside,
            "set_aside_kind": self.set_aside_kind,
            "licence": self.licence,
        }
        return document if self.truth is None else document | {"truth": dict(self.truth)}


KINDS = {
    "generation failed": "failed",
    "cannot be read": "unreadable",
    "not finite": "not_finite",
    "silent": "silent",
    "clipped": "clipped",
    "DC offset": "dc_offset",
    "too short": "too_short",
    "short": "short",
    "near-duplicate": "duplicate",
    "below the floor": "floor",
    "reward failed": "reward_failed",
    "reward not finite": "reward_not_finite",
    "not scored": "not_scored",
    "no axis": "no_axis",
}
"""How a reason for setting aside begins, and the word for its kind."""


def kind_of(reason: str) -> str:
    """Return the kind of a reason for setting aside; "generator" for what a generator says in words of its own.

    >>> kind_of("DC offset: the mean of a channel is 0.123, at most 0.05 is allowed")
    'dc_offset'
    """
    return next((kind for start, kind in KINDS.items() if reason.startswith(start)), "generator")


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Refuse what is not a whole number from `low` to `high`.

    Raises:
        InvalidInput: naming the value and the range.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= int(value) <= high:
        raise InvalidInput(f"{name} must be a whole number from {low} to {high}, got {value!r}")


def is_number(value: object) -> TypeGuard[float]:
    """Return whether it is a finite number that a float can hold."""
    try:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise InvalidInput(f"{name} must be a str, got {type(text).__name__}; pass it in quotes")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput(f"{name} is not valid Unicode ({text[:40]!r}); write it in UTF-8")
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidInput(f"{name} has {len(text)} characters, the limit is {MAX_TEXT_LENGTH}; shorten it")


def _reference(reference: AudioLike) -> Audio:
    try:
        audio = as_audio(reference, max_duration=MAX_REFERENCE_DURATION)
    except InvalidInput as error:
        raise type(error)(f"reference: {error}") from error
    if fault := short_fault(audio):
        raise InvalidInput(f"reference: {audio.path or 'the audio'} is too short: {fault}; give a longer one")
    return audio


def path_text(path: Path | None, folder: Path | None) -> str | None:
    """Return a path as it stands in `ranking.json`: relative to `folder` if one is given."""
    if path is None:
        return None
    return path.as_posix() if folder is None else Path(os.path.relpath(path, folder)).as_posix()
