"""Runs for many prompts, one after the other: a folder each, and an index of what became of them.

`index.json` stands beside the folders from the first moment, and is replaced whole as runs end.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rerank.data import Prompt, path_text
from rerank.errors import InvalidInput, OutputError, RerankError, UnreadableAudio, one_line
from rerank.files import as_path, cannot_write, claimed, write_bytes
from rerank.manifest import INDEX, PromptEntry
from rerank.names.entry import Kind
from rerank.ranking import Ranking
from rerank.registry import load, resolve
from rerank.run_folder import to_json
from rerank.runs.stored import load as load_run

RankOne = Callable[[Prompt, PromptEntry, Path | None], Ranking]
"""Ranks the candidates for one prompt, which it may make first, in a folder if there is one."""


@dataclass(frozen=True)
class Outcome:
    """What became of one prompt.

    Attributes:
        entry: the prompt.
        ranking: of its candidates; None where it waits, or failed.
        error: why it failed, in one line.
    """

    entry: PromptEntry
    ranking: Ranking | None = None
    error: str | None = None

    @property
    def status(self) -> str:
        """That of its run: "waiting" before it, "failed" where there is an error."""
        if self.error is not None:
            return "failed"
        return "waiting" if self.ranking is None else self.ranking.status


@dataclass(frozen=True)
class Outcomes:
    """What became of many prompts, in their order.

    Attributes:
        each: of them.
        status: "interrupted" where the user stopped, else "failed" where one failed, else "done"; "running" before.
    """

    each: tuple[Outcome, ...]
    status: str = "running"

    def to_dict(self, folder: Path) -> dict[str, Any]:
        """Return the document of `index.json`, with paths relative to its folder."""
        return {"version": 1, "status": self.status, "prompts": [_entry(outcome, folder) for outcome in self.each]}


def for_each(
    entries: Sequence[PromptEntry],
    rank_one: RankOne,
    output: str | Path | None = None,
    *,
    again: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> Outcomes:
    """Rank the candidates of each prompt, one prompt after the other.

    A prompt that fails costs nothing but itself. Where the user stops one, those after it wait, or stay as they are stored.

    Args:
        entries: the prompts.
        rank_one: called for each.
        output: a folder for theirs; None for none.
        again: whether `output` may hold runs of these prompts already, of which `rank_one` takes care.
        on_progress: called with the number of prompts that are done.

    Raises:
        InvalidInput: the first prompt is refused, and so would all be.
        OutputError: `output` holds such runs and `again` is False, another command writes there, or it cannot be
            written.
        KeyboardInterrupt: the user stopped before anything was finished.
    """
    folder = None if output is None else as_path("output", output)
    with _claimed(folder), _index_put_back(folder, entries, again) as put_back:
        each = [_as_stored(entry, folder) for entry in entries]
        _write(Outcomes(tuple(each)), folder)
        for place, entry in enumerate(entries):
            stopped = False
            try:
                each[place] = _outcome(entry, rank_one, folder, first=place == 0)
            except KeyboardInterrupt:
                if place == 0:
                    raise
                stopped = True
            put_back.pop_all()  # something became of the first: from here on the new index counts
            stopped = stopped or each[place].status in ("waiting", "interrupted")
            status = "interrupted" if stopped else "done" if place == len(entries) - 1 else "running"
            if status == "done" and any(outcome.error for outcome in each):
                status = "failed"
            outcomes = Outcomes(tuple(each), status)
            _write(outcomes, folder)
            if stopped:
                break
            if on_progress is not None:
                on_progress(place + 1)
    return outcomes


def loaded_once(kind: Kind, choice: object, device: str, made_by: str | None = None) -> Any:
    """Return a generator or reward models by name loaded, so that each of many prompts finds them so.

    Args:
        kind: "generator" or "reward".
        choice: as `rerank.generate` takes it; of reward models also a list.
        device: as there.
        made_by: the generator whose audio reward models are for; None where it is not known, or not by one.

    Raises:
        RerankError: as `rerank.registry.load`.
    """
    if isinstance(choice, list):
        return [loaded_once(kind, one, device, made_by) for one in choice]
    chosen = resolve(kind, choice, made_by=made_by)
    return load(kind, chosen, {}, offered={} if device == "auto" else {"device": device})


def read_index(folder: str | Path) -> dict[str, Any] | None:
    """Return the document of `index.json` in a folder; None if there is none.

    Raises:
        InvalidInput: it cannot be read.
    """
    path = Path(folder) / INDEX
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_bytes())
        _ = [entry["id"] for entry in found["prompts"]]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidInput(f"{path} is no index that can be read ({one_line(error)}); restore it") from error
    return cast(dict[str, Any], found)


def _outcome(entry: PromptEntry, rank_one: RankOne, folder: Path | None, *, first: bool) -> Outcome:
    """Rank the candidates of one prompt.

    Raises:
        InvalidInput: it is refused, and the first.
        KeyboardInterrupt: the user stopped before anything was finished.
    """
    try:
        prompt = entry.prompt.read()
    except RerankError as error:
        return Outcome(entry, error=str(error))
    try:
        return Outcome(entry, rank_one(prompt, entry, None if folder is None else folder / entry.id))
    except RerankError as error:
        # what is wrong with the options is so for every prompt
        if first and isinstance(error, InvalidInput) and not isinstance(error, UnreadableAudio):
            raise
        return Outcome(entry, error=str(error))


def _as_stored(entry: PromptEntry, folder: Path | None) -> Outcome:
    """Return what became of a prompt before, where its run is stored; else it waits."""
    if folder is None or not os.path.isfile(folder / entry.id / "ranking.json"):
        return Outcome(entry)
    try:
        ranking = load_run(folder / entry.id)
    except RerankError:  # told when its turn comes
        return Outcome(entry)
    same = (ranking.prompt.text, ranking.prompt.lyrics) == (entry.prompt.text, entry.prompt.lyrics)
    return Outcome(entry, ranking if same else None)


def _write(outcomes: Outcomes, folder: Path | None) -> None:
    if folder is not None:
        write_bytes(folder / INDEX, to_json(outcomes.to_dict(folder)).encode())


def _check_free(folder: Path, entries: Sequence[PromptEntry]) -> None:
    for path in (folder / INDEX, folder / "ranking.json", *(folder / entry.id / "ranking.json" for entry in entries)):
        if os.path.lexists(path):
            raise OutputError(f"{folder} already holds runs ({path}); choose another folder, --resume or --overwrite")


@contextlib.contextmanager
def _claimed(folder: Path | None) -> Iterator[None]:
    """Make and claim a folder while the block runs; one in which nothing was stored is removed again."""
    if folder is None:
        yield
        return
    with claimed(folder, make=True):
        yield


@contextlib.contextmanager
def _index_put_back(folder: Path | None, entries: Sequence[PromptEntry], again: bool) -> Iterator[contextlib.ExitStack]:
    """Give a stack that puts the index back as it was when the block ends; nothing does once it is emptied.

    Raises:
        OutputError: there are runs, and `again` is False, or an index that cannot be read.
    """
    with contextlib.ExitStack() as stack:
        if folder is not None:
            if not again:
                _check_free(folder, entries)
            index = folder / INDEX
            try:
                stack.callback(write_bytes, index, index.read_bytes())
            except FileNotFoundError:
                stack.callback(index.unlink, missing_ok=True)
            except OSError as error:
                raise cannot_write(index, error) from error
        yield stack


def _entry(outcome: Outcome, folder: Path) -> dict[str, Any]:
    prompt, ranking = outcome.entry.prompt, outcome.ranking
    ranked = [one for one in ranking.candidates if one.rank is not None] if ranking is not None else []
    best = ranked[0] if ranked else None
    return {
        "id": outcome.entry.id,
        "prompt": {"text": prompt.text, "lyrics": prompt.lyrics, "reference": path_text(prompt.reference, folder)},
        "status": outcome.status,
        "error": outcome.error,
        "ranked": len(ranked),
        "set_aside": len(ranking.set_aside) if ranking is not None else 0,
        "best": best and {"seed": best.seed, "path": path_text(best.path, folder), "combined": best.combined},
    }
