"""What a run knows by now, in memory and on disk."""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rerank.data import Candidate, Prompt
from rerank.ranking import Ranking
from rerank.run_folder import RunFolder, without_file
from rerank.settings import Settings, Status

_SHARE = 0.1  # of the time of a run that may go into rewriting its document

logger = logging.getLogger("rerank")


class RunMemory:
    """The candidates of a run, those known before it among them, and its document.

    Args:
        prompt: of the run.
        settings: of the run, as they will be stored.
        folder: to store to; None keeps everything in memory.
        known: candidates of an earlier session of the run, or of another ranking of it, by index.
        before: the ranking of a run that is ranked again; until that is done, its document changes by new rewards only.
        until_done: the settings that it has when there are some.
        known_of: gives the rewards of a known candidate that hold in this run, by the names that their axes have there.

    Attributes:
        status: of the run.
        candidates: that were collected, in the order of their indices.
        known: candidates that are known and not collected yet, by index.
    """

    def __init__(
        self,
        prompt: Prompt,
        settings: Settings,
        folder: RunFolder | None,
        known: Mapping[int, Candidate],
        before: Ranking | None,
        until_done: Settings | None,
        known_of: Callable[[Candidate], dict[str, float | None]],
    ) -> None:
        self.status: Status = "running"
        self.candidates: list[Candidate] = []
        self.known = {index: replace(one, rewards=known_of(one)) for index, one in known.items()}
        self._prompt, self._settings, self._folder = prompt, settings, folder
        self._before, self._until_done, self._known_of = before, until_done, known_of
        self._stored_here: set[int] = set()  # places of candidates whose files this session wrote
        self._stored = 0  # how many of the candidates are on disk, if they go there
        self._written, self._took = 0.0, 0.0  # when the document was written last, and how long that took

    @property
    def is_stored(self) -> bool:
        """Whether candidates go to a folder."""
        return self._folder is not None

    def has_audio(self) -> bool:
        """Return whether one candidate at least has audio."""
        return any(candidate.audio for candidate in (*self.candidates, *self.known.values()))

    def update(self, place: int, **changes: Any) -> Candidate:
        """Change what is known of a candidate, and return it."""
        self.candidates[place] = replace(self.candidates[place], **changes)
        return self.candidates[place]

    def store(self) -> None:
        """Write every candidate that no file of the run holds yet.

        Raises:
            OutputError: one cannot be written.
        """
        for place in range(self._stored, len(self.candidates)):
            candidate = self.candidates[place]
            if self._folder is not None and not candidate.is_removed and candidate.set_aside_kind != "unreadable":
                stored = self.candidates[place] = self._folder.stored(candidate)
                if stored is not candidate and stored.path is not None:
                    self._stored_here.add(place)
            self._stored = place + 1

    def write(self, *, at_once: bool = False) -> None:
        """Store the document of the run, as often as that takes little of its time.

        Raises:
            OutputError: it cannot be written.
        """
        started = time.monotonic()
        if self._folder is None or not (at_once or started - self._written >= self._took * (1 / _SHARE - 1)):
            return
        if self._before is not None and not self._new_rewards():
            return
        self._folder.write(self.ranking().to_dict(self._folder.place))
        self._written = time.monotonic()
        self._took = self._written - started

    def ranking(self) -> Ranking:
        """Return the ranking of what there is by now."""
        everything = [*self.candidates, *self.known.values()]
        if self._before is None:
            return Ranking.of(self._prompt, everything, self._settings, self.status)
        # nobody works on a run that this one has claimed
        status: Status = "interrupted" if self._before.status == "running" else self._before.status
        if self.status == "done":
            return Ranking.of(self._prompt, everything, self._settings, status)
        new = self._new_rewards()
        if not new or self._until_done is None:
            return replace(self._before, status=status)
        as_before = (
            replace(one, rewards={**self._known_of(one), **new.get(one.index, {})}) for one in self._before.candidates
        )
        return Ranking.of(self._prompt, as_before, self._until_done, status)

    def _new_rewards(self) -> dict[int, dict[str, float | None]]:
        """Return the rewards that a run which is ranked again got in this session, by candidate."""
        if self._before is None:
            return {}
        before = {one.index: self._known_of(one) for one in self._before.candidates}
        new = {
            one.index: {axis: reward for axis, reward in one.rewards.items() if axis not in before[one.index]}
            for one in self.candidates
        }
        return {index: rewards for index, rewards in new.items() if rewards}

    def end(self, status: Status, reason: str) -> Ranking:
        """Store the document of a run that is over and return its ranking.

        Args:
            status: that it ends with; only one that is done takes the place of an earlier run.
            reason: why what has no reward yet gets none.

        Raises:
            OutputError: it cannot be written.
        """
        self.status = status
        for place, candidate in enumerate(self.candidates):
            if candidate.set_aside is None and not candidate.rewards:
                self.update(place, set_aside=f"not scored: {reason}")
        folder = self._folder
        if folder is None:
            return self.ranking()
        for place in self._stored_here:
            self.candidates[place] = _still_there(self.candidates[place])
        ranking = self.ranking()
        ranking = ranking.stored_in(folder, complete=status == "done")
        if folder.place != folder.path:
            logger.warning("%s keeps its earlier run; what the new one made is in %s", folder.path, folder.place)
        return ranking

    def keep(self, status: Status, reason: str) -> None:
        """Store what there is of a run that cannot go on, as far as that is possible, or leave no trace of nothing."""
        if self._folder is not None and self._before is None and not self.has_audio():
            self._folder.abandon()
            return
        if self._before is not None:
            with contextlib.suppress(Exception):
                self.status = status
                self.write(at_once=True)
            return
        # the disk may be what failed: then the first error tells more than the second
        with contextlib.suppress(Exception):
            self.end(status, reason)


def _still_there(candidate: Candidate) -> Candidate:
    """Return a candidate, without its path where somebody has deleted the file while the run went on."""
    if candidate.path is None or candidate.path.is_file():
        return candidate
    logger.warning("%s is gone: its rewards are kept, and it is listed without a file", candidate.path)
    return replace(without_file(candidate), sha256=None)  # as if it had never been stored: resuming makes it again
