"""What goes in and what comes out: `Prompt`, `Candidate`, `Settings` and `Ranking`.

**Conventions**: rewards are floats, higher is better, None where one does not apply; rank 1 is best.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from rerank.audio import MAX_REFERENCE_DURATION, Audio, AudioLike, as_audio
from rerank.errors import InvalidInput, RerankError
from rerank.ranking import best_first, combine, normalise_weights
from rerank.run_folder import RunFolder

MAX_TEXT_LENGTH = 4_000
"""Of the text and of the lyrics of a prompt, in characters."""

Status = Literal["done", "interrupted"]

_NO_AXIS = "no axis that has a weight applies to it"


@dataclass(frozen=True, eq=False, init=False)
class Prompt:
    """What the candidates are made for: text, and optionally lyrics and a reference audio.

    Args:
        text: in free English, at most 4,000 characters.
        lyrics: to be sung, at most 4,000 characters.
        reference: audio to follow, at most 600 s: a path, an `Audio` or `(waveform, sample_rate)`.

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
    def of(cls, prompt: "str | Prompt", lyrics: str | None = None, reference: AudioLike | None = None) -> "Prompt":
        """Return the prompt that the arguments of `generate`, `rank` and `score` stand for.

        Raises:
            InvalidInput: as the class does; or a part is given twice, in the `Prompt` and beside it.
        """
        if not isinstance(prompt, Prompt):
            return cls(prompt, lyrics, reference)
        for name, part in (("lyrics", lyrics), ("reference", reference)):
            if part is not None:
                raise InvalidInput(f"{name} given beside a Prompt; put it inside: Prompt(text, {name}=...)")
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
        set_aside: why it is not ranked, in plain words; None where it is ranked.
        path: the file that holds it, if any.
        truth: for generators that know what they made (`synth`): what was asked and rendered. Reward models never
            see it; training and evaluation may.
    """

    index: int
    seed: int | None
    audio: Audio | None
    rewards: Mapping[str, float | None] = field(default_factory=dict)
    combined: float | None = None
    rank: int | None = None
    set_aside: str | None = None
    path: Path | None = None
    truth: Mapping[str, Any] | None = field(default=None, repr=False)

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
        source = self.audio.path if self.audio else None
        document: dict[str, Any] = {
            "rank": self.rank,
            "index": self.index,
            "seed": self.seed,
            "path": _path_text(self.path, folder),
            "source": _path_text(source, folder),
            "duration": self.audio.duration if self.audio else None,
            "sample_rate": self.audio.sample_rate if self.audio else None,
            "rewards": dict(self.rewards),
            "combined": self.combined,
            "set_aside": self.set_aside,
        }
        return document if self.truth is None else document | {"truth": dict(self.truth)}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a ranking was made with; stored in `ranking.json`.

    Attributes:
        n: how many candidates were asked for.
        top_k: how many of the best the ranking gives back.
        duration: asked of each candidate, in seconds; None for audio made elsewhere.
        seed: of candidate 0; candidate i has `seed + i`. None for audio made elsewhere.
        generator: its name; None for audio made elsewhere.
        reward: name of the reward model.
        reward_version: of its weights.
        weights: of the axes, with the sum 1.
        filters: the thresholds of `rerank.filters.Filters`.
        not_followed: the parts of the prompt that the generator does not follow.
        not_read: the parts of the prompt that the reward model does not read.
        generator_licence: of the generator's weights.
        reward_licence: of the reward model's weights.
        rerank_version: of this package.
    """

    n: int
    top_k: int
    duration: float | None = None
    seed: int | None = None
    generator: str | None = None
    reward: str
    reward_version: str = ""
    weights: Mapping[str, float]
    filters: Mapping[str, Any]
    not_followed: tuple[str, ...] = ()
    not_read: tuple[str, ...] = ()
    generator_licence: str | None = None
    reward_licence: str | None = None
    rerank_version: str


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Sequence[Candidate]):
    """The candidates of one prompt in order; as a sequence, the `top_k` best ones, best first.

    Attributes:
        prompt: they were made for.
        candidates: all of them: those ranked, best first, then those set aside, in generation order.
        settings: they were made with.
        status: "interrupted" where it holds what was finished when the user stopped.
    """

    prompt: Prompt
    candidates: tuple[Candidate, ...]
    settings: Settings
    status: Status = "done"

    @classmethod
    def of(
        cls, prompt: Prompt, candidates: Iterable[Candidate], settings: Settings, status: Status = "done"
    ) -> "Ranking":
        """Order scored candidates by the weights in `settings`; ties go to the lower index."""
        ranked: list[tuple[float, Candidate]] = []
        aside: list[Candidate] = []
        for candidate in sorted(candidates, key=lambda candidate: candidate.index):
            combined = None
            reason = None if candidate.set_aside == _NO_AXIS else candidate.set_aside
            if reason is None:
                combined = combine(candidate.rewards, settings.weights)
                reason = _NO_AXIS if combined is None else None
            candidate = replace(candidate, combined=combined, rank=None, set_aside=reason)
            if combined is None:
                aside.append(candidate)
            else:
                ranked.append((combined, candidate))
        order = best_first([combined for combined, _ in ranked])
        best = (replace(ranked[index][1], rank=place) for place, index in enumerate(order, start=1))
        return cls(prompt, (*best, *aside), settings, status)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Candidate]: ...
    def __getitem__(self, index: int | slice) -> Candidate | Sequence[Candidate]:
        return self._ranked()[: self.settings.top_k][index]

    def __len__(self) -> int:
        return min(len(self._ranked()), self.settings.top_k)

    def __repr__(self) -> str:
        title = self.prompt.text if len(self.prompt.text) <= 60 else self.prompt.text[:57] + "..."
        state = "" if self.status == "done" else f", {self.status}"
        ranked, aside = len(self._ranked()), len(self.set_aside)
        lines = [f"<Ranking for {title!r}: {ranked} ranked, {aside} set aside{state}"]
        for candidate in self[:10]:
            rewards = ", ".join(f"{axis} {_short(reward)}" for axis, reward in candidate.rewards.items())
            name = f"seed {candidate.seed}" if candidate.seed is not None else str(candidate.path or candidate.index)
            lines.append(f"  {candidate.rank}. {name}: {_short(candidate.combined)} ({rewards})")
        return "\n".join(lines) + ">"

    @property
    def best(self) -> Candidate:
        """The candidate of rank 1.

        Raises:
            RerankError: every candidate was set aside; the message says why.
        """
        ranked = self._ranked()
        if not ranked:
            raise RerankError(self._why_empty())
        return ranked[0]

    @property
    def set_aside(self) -> tuple[Candidate, ...]:
        """The candidates that are not ranked; each says why in its own `set_aside`."""
        return tuple(candidate for candidate in self.candidates if candidate.rank is None)

    def top(self, k: int) -> list[Candidate]:
        """Return the `k` best candidates, best first; fewer if fewer are ranked.

        Raises:
            InvalidInput: `k` is not 1 to n.
        """
        check_whole("k", k, 1, self.settings.n)
        return list(self._ranked()[:k])

    def reweight(self, weights: Mapping[str, float]) -> "Ranking":
        """Return the ranking under other weights of the axes; nothing is scored again.

        Raises:
            InvalidInput: a weight is negative or not finite, or all are zero.
            UnknownName: a weight is for an axis the reward model does not have.
        """
        settings = replace(self.settings, weights=normalise_weights(weights, self.settings.weights))
        return Ranking.of(self.prompt, self.candidates, settings, self.status)

    def to_dict(self, folder: str | Path | None = None) -> dict[str, Any]:
        """Return the document of `ranking.json`, with paths relative to `folder` if one is given."""
        place = None if folder is None else Path(folder)
        reference = self.prompt.reference
        prompt: dict[str, Any] = {
            "text": self.prompt.text,
            "lyrics": self.prompt.lyrics,
            "reference": _path_text(reference.path, place) if reference else None,
        }
        if reference and not reference.path:
            prompt["reference_in_memory"] = f"{reference.duration:.2f} s at {reference.sample_rate} Hz"
        return {
            "version": 1,
            "prompt": prompt,
            "settings": asdict(self.settings),
            "candidates": [candidate.to_dict(place) for candidate in self.candidates],
            "status": self.status,
        }

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write `FOLDER/ranking.json` and every candidate to `FOLDER/candidates/`; return the path of the former.

        Raises:
            OutputError: the folder holds a run and `overwrite` is False, the disk is full, or it may not be written.
        """
        run = RunFolder(folder, overwrite=overwrite)
        stored = tuple(
            replace(one, path=run.write_candidate(one.audio, one.index, one.seed)) if one.audio else one
            for one in self.candidates
        )
        return run.write_document(replace(self, candidates=stored).to_dict(run.path))

    def _ranked(self) -> tuple[Candidate, ...]:
        return tuple(candidate for candidate in self.candidates if candidate.rank is not None)

    def _why_empty(self) -> str:
        if not self.candidates:
            return "there are no candidates, so there is no best one"
        reasons = Counter((candidate.set_aside or "").split(":")[0] for candidate in self.candidates)
        told = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
        return f"all {len(self.candidates)} candidates were set aside: {told}; try other seeds, or tune the filters"


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Refuse what is not a whole number from `low` to `high`.

    Raises:
        InvalidInput: naming the value and the range.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= int(value) <= high:
        raise InvalidInput(f"{name} must be a whole number from {low} to {high}, got {value!r}")


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise InvalidInput(f"{name} must be a str, got {type(text).__name__}; pass it in quotes")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput(f"{name} is not valid Unicode ({text[:40]!r}); write it in UTF-8")
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidInput(f"{name} has {len(text)} characters, the limit is {MAX_TEXT_LENGTH}; shorten it")


def _reference(reference: AudioLike) -> Audio:
    try:
        return as_audio(reference, max_duration=MAX_REFERENCE_DURATION)
    except InvalidInput as error:
        raise type(error)(f"reference: {error}") from error


def _path_text(path: Path | None, folder: Path | None) -> str | None:
    if path is None:
        return None
    return path.as_posix() if folder is None else Path(os.path.relpath(path, folder)).as_posix()


def _short(reward: float | None) -> str:
    return "-" if reward is None else f"{reward:.3f}"
