"""A ranking: the candidates of one prompt in order, with what they were made with.

**Conventions**: as in `rerank.rules`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, overload

from rerank.audio import Audio
from rerank.data import Candidate, Prompt, check_whole, path_text
from rerank.errors import RerankError
from rerank.files import as_path
from rerank.reasons import reasons_aside, reasons_of
from rerank.rules import Rule, best_first, by_rule, check_rule, combine, normalise_weights
from rerank.run_folder import RunFolder
from rerank.settings import Settings, Status
from rerank.verdict import Verdict, axes_of, verdict_of

_NO_AXIS = "no axis that has a weight applies to it"


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Sequence[Candidate]):
    """The candidates of one prompt in order; as a sequence, the `top_k` best ones, best first.

    Attributes:
        prompt: they were made for.
        candidates: all of them: those ranked, best first, then those that wait for their rewards or were set aside, in
            generation order.
        settings: they were made with.
        status: "running" while more is to come, "interrupted" where it holds what was finished when the user stopped,
            "failed" what was finished when the run failed.
    """

    prompt: Prompt
    candidates: tuple[Candidate, ...]
    settings: Settings
    status: Status = "done"

    @classmethod
    def of(
        cls, prompt: Prompt, candidates: Iterable[Candidate], settings: Settings, status: Status = "done"
    ) -> "Ranking":
        """Order scored candidates by the weights and the rule in `settings`; ties go to the lower index."""
        known = sorted(candidates, key=lambda candidate: candidate.index)
        known = [replace(one, set_aside=None) if one.set_aside == _NO_AXIS else one for one in known]
        scored = [one for one in known if one.set_aside is None and one.rewards]
        columns = by_rule([one.rewards for one in scored], settings.rule)
        ranked: list[tuple[float, int]] = []  # combined reward and place in `scored`
        rest = [one for one in known if one.set_aside is not None or not one.rewards]
        for place, (candidate, rewards) in enumerate(zip(scored, columns, strict=True)):
            combined = combine(rewards, settings.weights)
            if combined is None:
                rest.append(replace(candidate, set_aside=_NO_AXIS))
            else:
                ranked.append((combined, place))
        order = [ranked[index] for index in best_first([combined for combined, _ in ranked])]
        best = [
            replace(scored[place], rewards=_whole(scored[place], settings), combined=combined, rank=rank)
            for rank, (combined, place) in enumerate(order, start=1)
        ]
        rest = [replace(one, combined=None, rank=None) for one in sorted(rest, key=lambda candidate: candidate.index)]
        return cls(prompt, (*best, *rest), settings, status).explained()

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
        lines = [f"<Ranking{f' for {title!r}' if title else ''}: {ranked} ranked, {aside} set aside{state}"]
        for candidate in self[:10]:
            rewards = ", ".join(f"{axis} {_short(reward)}" for axis, reward in candidate.rewards.items())
            lines.append(f"  {candidate.rank}. {candidate.name}: {_short(candidate.combined)} ({rewards})")
        if self.verdict is not None:
            lines.append(f"  verdict: {self.verdict}")
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
        return tuple(candidate for candidate in self.candidates if candidate.set_aside is not None)

    @property
    def verdict(self) -> Verdict | None:
        """How sure it is of its first against its second; None where nobody measured what a gap between them means."""
        return verdict_of(self._ranked(), self.settings)

    def top(self, k: int) -> list[Candidate]:
        """Return the `k` best candidates, best first; fewer if fewer are ranked.

        Raises:
            InvalidInput: `k` is not 1 to n.
        """
        check_whole("k", k, 1, self.settings.n)
        return list(self._ranked()[:k])

    def first(self, n: int) -> "Ranking":
        """Return the ranking of the first `n` candidates, as a run of `n` would have given it.

        Raises:
            InvalidInput: `n` is not 1 to the n of this ranking.
        """
        check_whole("n", n, 1, self.settings.n)
        settings = replace(self.settings, n=int(n), top_k=min(self.settings.top_k, int(n)))
        return Ranking.of(self.prompt, (one for one in self.candidates if one.index < n), settings, self.status)

    def reweight(self, weights: Mapping[str, float] | None = None, *, rule: Rule | None = None) -> "Ranking":
        """Return the ranking under other weights of the axes, or another rule; nothing is scored again.

        Args:
            weights: axis -> weight, 0 for an axis that is not named; the present ones by default. Where there are
                several reward models an axis is `model.axis`, or its own name where only one of them has it.
            rule: "mean", "zscore" or "rank"; the present one by default.

        Raises:
            InvalidInput: a weight is negative or not finite, or all are zero; or there is no such rule.
            UnknownName: a weight is for an axis that no reward model has.
        """
        if rule is not None:
            check_rule(rule)
        known = self.settings.weights
        settings = replace(
            self.settings,
            weights=known
            if weights is None
            else normalise_weights(weights, known, [record["name"] for record in self.settings.rewards]),
            rule=rule or self.settings.rule,
        )
        return Ranking.of(self.prompt, self.candidates, settings, self.status)

    def explained(self) -> "Ranking":
        """Return the same ranking with the reasons of each candidate made from what it holds."""
        ranked = self._ranked()
        weighed = by_rule([one.rewards for one in ranked], self.settings.rule)
        found = dict(zip((one.index for one in ranked), reasons_of(ranked, weighed, self.settings), strict=True))
        candidates = [replace(one, reasons=found.get(one.index) or reasons_aside(one)) for one in self.candidates]
        return replace(self, candidates=tuple(candidates))

    def to_records(self) -> list[dict[str, Any]]:
        """Return one flat record per candidate, in the order of `candidates`, such as a data frame is made from.

        Its keys are rank, combined, each axis, index, seed, duration, path, source, set_aside_kind and set_aside.
        """
        axes = self.settings.weights
        return [
            {
                "rank": one.rank,
                "combined": one.combined,
                **{axis: one.rewards.get(axis) for axis in axes},
                "index": one.index,
                "seed": one.seed,
                "duration": one.audio.duration if one.audio else None,
                "path": path_text(one.path, None),
                "source": path_text(one.source, None),
                "set_aside_kind": one.set_aside_kind,
                "set_aside": one.set_aside,
            }
            for one in self.candidates
        ]

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        axes = list(self.settings.weights)
        made = self.settings.generator is not None
        head = ["rank", "combined", *axes, "seed" if made else "source", "set aside"]
        rows = [
            [
                "" if one.rank is None else str(one.rank),
                _short(one.combined),
                *(_short(one.rewards.get(axis)) for axis in axes),
                str(one.seed if made else one.source or one.index),
                one.set_aside or "",
            ]
            for one in self.candidates
        ]
        body = "".join(_html_row("td", row) for row in rows)
        state = "" if self.status == "done" else f" ({self.status})"
        caption = f"<caption>{escape(self.prompt.text)}{state}</caption>"
        table = f"<table>{caption}<thead>{_html_row('th', head)}</thead><tbody>{body}</tbody></table>"
        told = [*(self.best.reasons if len(self) else ()), *self.settings.notes]
        told += [] if self.verdict is None else [f"verdict: {self.verdict}"]
        return table + "".join(f"<li>{escape(sentence)}</li>" for sentence in told).join(("<ul>", "</ul>"))

    def to_dict(self, folder: str | Path | None = None) -> dict[str, Any]:
        """Return the document of `ranking.json`, with paths relative to `folder` if one is given."""
        place = None if folder is None else as_path("folder", folder)
        reference = self.prompt.reference
        prompt: dict[str, Any] = {"text": self.prompt.text, "lyrics": self.prompt.lyrics, "reference": None}
        if reference is not None:
            prompt["reference"] = {
                "path": path_text(reference.path, place),
                "sha256": reference.sha256,
                "duration": reference.duration,
                "sample_rate": reference.sample_rate,
                "channels": reference.channels,
            }
        return {
            "version": 2,
            "prompt": prompt,
            "settings": asdict(self.settings),
            "candidates": [candidate.to_dict(place) for candidate in self.candidates],
            "verdict": None if self.verdict is None else self.verdict.to_dict(),
            "status": self.status,
        }

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write `FOLDER/ranking.json` and every candidate to `FOLDER/candidates/`; return the path of the former.

        Raises:
            OutputError: the folder holds a run and `overwrite` is False, the disk is full, or it may not be written.
            UnreadableAudio: the file of a candidate is gone or is another one now.
        """
        heard = [one.audio for one in self.candidates if one.audio] + [self.prompt.reference]
        sources = [audio.path for audio in heard if audio and audio.path]
        sources += [one.source for one in self.candidates if one.source]
        with RunFolder.opened(folder, overwrite=overwrite, sources=sources) as run:
            stored = tuple(run.stored(one) for one in self.candidates)
            replace(self, candidates=stored).stored_in(run, complete=True)
        return run.path / "ranking.json"

    def report(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write one HTML page that shows and plays the takes, and return its path; see `rerank.report.write_report`."""
        from rerank.report import write_report

        return write_report(self, path, overwrite=overwrite)

    def stored_in(self, run: RunFolder, *, complete: bool) -> "Ranking":
        """Write the document to the folder of its run, which takes the place of an earlier one if it is `complete`.

        Returns:
            The ranking with the paths that its files have then.

        Raises:
            OutputError: it cannot be written; what was there stays.
        """
        run.write(self.to_dict(run.place))
        if not complete or run.place == run.path:
            return self
        moved = run.take_place(self.to_dict(run.path))
        candidates = [replace(one, path=moved.get(one.path, one.path)) if one.path else one for one in self.candidates]
        return replace(self, candidates=tuple(_read_from_path(one) for one in candidates))

    def _ranked(self) -> tuple[Candidate, ...]:
        return tuple(candidate for candidate in self.candidates if candidate.rank is not None)

    def _why_empty(self) -> str:
        if not self.candidates:
            return "there are no candidates, so there is no best one"
        reasons = Counter((candidate.set_aside or "").split(":")[0] for candidate in self.candidates)
        told = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
        return f"all {len(self.candidates)} candidates were set aside: {told}; try other seeds, or tune the filters"


def _read_from_path(candidate: Candidate) -> Candidate:
    """Return a candidate whose audio is read from where its file is now."""
    audio = candidate.audio
    if audio is None or candidate.path is None:
        return candidate
    stored = Audio.stored(
        candidate.path,
        sample_rate=audio.sample_rate,
        channels=audio.channels,
        frames=audio.frames,
        sha256=candidate.sha256,
    )
    return replace(candidate, audio=stored)


def _whole(candidate: Candidate, settings: Settings) -> Mapping[str, float | None]:
    """Return the rewards of a candidate with None on the axes of reward models that failed on it."""
    failed = [record for record in settings.rewards if record["name"] in candidate.faults]
    lost = {axis: None for record in failed for axis in axes_of(record, settings.rewards, settings.weights)}
    return {**lost, **candidate.rewards} if lost else candidate.rewards


def _short(reward: float | None) -> str:
    return "-" if reward is None else f"{reward:.3f}"


def _html_row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
