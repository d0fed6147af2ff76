"""A ranking, and its arithmetic: rewards -> combined reward -> order.

**Conventions**: rewards are floats, higher is better, None where an axis does not apply to a candidate; weights are
normalised to a sum of 1; rank 1 is best.

**Source**: combining the axes by equal weights is what CMI-RewardBench does (arXiv:2603.00610, section 5).
"""

import math
import numbers
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeGuard, overload

from rerank.data import Candidate, Prompt, check_whole, path_text
from rerank.errors import InvalidInput, RerankError, UnknownName
from rerank.files import as_path
from rerank.run_folder import RunFolder

Status = Literal["done", "interrupted", "failed"]

_NO_AXIS = "no axis that has a weight applies to it"


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
        status: "interrupted" where it holds what was finished when the user stopped, "failed" what was finished when
            the run failed.
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
        place = None if folder is None else as_path("folder", folder)
        reference = self.prompt.reference
        prompt: dict[str, Any] = {
            "text": self.prompt.text,
            "lyrics": self.prompt.lyrics,
            "reference": path_text(reference.path, place) if reference else None,
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
        heard = [one.audio for one in self.candidates if one.audio] + [self.prompt.reference]
        sources = [audio.path for audio in heard if audio and audio.path]
        run = RunFolder(folder, overwrite=overwrite, sources=sources)
        stored = tuple(
            replace(one, path=run.write_candidate(one.audio, one.index, one.seed)) if one.audio else one
            for one in self.candidates
        )
        run.write_document(replace(self, candidates=stored).to_dict(run.path))
        return run.path / "ranking.json"

    def _ranked(self) -> tuple[Candidate, ...]:
        return tuple(candidate for candidate in self.candidates if candidate.rank is not None)

    def _why_empty(self) -> str:
        if not self.candidates:
            return "there are no candidates, so there is no best one"
        reasons = Counter((candidate.set_aside or "").split(":")[0] for candidate in self.candidates)
        told = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
        return f"all {len(self.candidates)} candidates were set aside: {told}; try other seeds, or tune the filters"


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights that are wrong whatever the axes are called.

    Raises:
        InvalidInput: a weight is negative or not finite, or all are zero.
    """
    if not isinstance(weights, Mapping):
        raise InvalidInput(f'weights must be a mapping such as {{"musicality": 1, "alignment": 2}}, got {weights!r}')
    for axis, weight in weights.items():
        if not is_number(weight) or weight < 0:
            raise InvalidInput(f"weight of {axis!r} must be a finite number, 0 or more, got {weight!r:.40}")
    if not any(weights.values()):
        raise InvalidInput(f"weights {dict(weights)} are all zero; give at least one axis a weight above 0")


def normalise_weights(weights: Mapping[str, float] | None, axes: Iterable[str]) -> dict[str, float]:
    """Return one weight per axis, with the sum 1: equal ones for None, and 0 for an axis that is not named.

    Raises:
        InvalidInput: as `check_weights`.
        UnknownName: a weight is for an axis that the reward model does not have.

    >>> normalise_weights({"alignment": 3, "musicality": 1}, ["musicality", "alignment"])
    {'musicality': 0.25, 'alignment': 0.75}
    """
    names = list(axes)
    if weights is None:
        return {axis: 1 / len(names) for axis in names}
    check_weights(weights)
    for axis in weights:
        if axis not in names:
            raise UnknownName.among("axis", axis, names)
    plain = {axis: float(weights.get(axis, 0)) for axis in names}  # a numpy float is no JSON
    largest = max(plain.values())  # first divided by it, so that huge weights do not overflow
    scaled = {axis: weight / largest for axis, weight in plain.items()}
    total = sum(scaled.values())
    return {axis: weight / total for axis, weight in scaled.items()}


def combine(rewards: Mapping[str, float | None], weights: Mapping[str, float]) -> float | None:
    """Return the combined reward: the weighted mean over the axes that apply and have a weight above 0.

    An axis that is None takes no part: the weights of the others are scaled up to a sum of 1, which is the same for
    every candidate of a prompt as long as the axis applies to all of them or to none. None if no axis is left.

    >>> combine({"musicality": 1.0, "alignment": 0.0}, {"musicality": 0.25, "alignment": 0.75})
    0.25
    >>> combine({"musicality": 1.0, "alignment": None}, {"musicality": 0.25, "alignment": 0.75})
    1.0
    """
    parts = [(weights.get(axis, 0.0), reward) for axis, reward in rewards.items() if reward is not None]
    total = sum(weight for weight, _ in parts)
    if total == 0:
        return None
    return sum(weight / total * reward for weight, reward in parts)


def best_first(combined: Sequence[float]) -> list[int]:
    """Return the indices of the combined rewards, best first; ties keep their order.

    Raises:
        ValueError: a combined reward is NaN.

    >>> best_first([0.1, 0.9, 0.4, 0.9])
    [1, 3, 2, 0]
    """
    if any(math.isnan(reward) for reward in combined):
        raise ValueError("a combined reward is NaN; set the candidate aside instead of ranking it")
    return sorted(range(len(combined)), key=lambda index: -combined[index])


def is_number(value: object) -> TypeGuard[float]:
    """Return whether it is a finite number that a float can hold."""
    try:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _short(reward: float | None) -> str:
    return "-" if reward is None else f"{reward:.3f}"
