"""A run that is ranked again: under other weights, filters or another rule, or with the axes of another reward model."""

import logging
import os
from dataclasses import replace
from pathlib import Path

from rerank.errors import InvalidInput, RerankError
from rerank.filters import Filters
from rerank.ranking import Ranking
from rerank.registry import Choice, resolve
from rerank.request import Request
from rerank.run_folder import RunFolder, opened
from rerank.runs.events import EventCallback, drained
from rerank.runs.panel import Panel, RewardChoice, load_rewards, resolve_rewards
from rerank.runs.provenance import renamed, settings_of
from rerank.runs.reporting import ProgressCallback
from rerank.runs.stopping import Stop
from rerank.runs.stream import Run

logger = logging.getLogger("rerank")


def rank_again(
    stored: Ranking,
    request: Request,
    reward: RewardChoice | None,
    output: str | Path | None,
    overwrite: bool,
    stop: Stop,
    on_progress: ProgressCallback | None,
    on_event: EventCallback | None,
) -> Ranking:
    """Rank a run again; see `rerank.rank`.

    Where a candidate has no reward yet, because the run was stopped, or other filters let it in now, the reward models of
    the run are asked, if their names can be loaded.

    Raises:
        KeyboardInterrupt: it was stopped.
        InvalidInput, RewardFailed, OutputError: as `rerank.rank`.
    """
    own = output is not None and any(
        one.path is not None and os.path.realpath(one.path.parent.parent) == os.path.realpath(output)
        for one in stored.candidates
    )
    sources = [one.audio for one in stored.candidates if one.audio] + [stored.prompt.reference]
    with opened(output, overwrite=overwrite and not own, resume=own, made_from=sources) as folder:
        if own and folder is not None:
            _check_whole(stored, folder)
        same_filters = request.filters is None or request.filters.to_dict() == dict(stored.settings.filters)
        panel = _panel(stored, request, reward, same_filters)
        settings = settings_of(request, panel, stored.prompt, stored, made_by=stored.settings.generator)
        before = {axis: weight or 0.0 for axis, weight in panel.named(stored.settings.weights).items()}
        run = Run(
            stored.prompt,
            settings,
            panel,
            Filters.of(settings.filters),
            folder=folder,
            known={candidate.index: candidate for candidate in stored.candidates},
            heard_before=same_filters,
            before=stored,
            until_done=replace(
                settings,
                weights={**dict.fromkeys(panel.axes, 0.0), **before},
                rule=stored.settings.rule,
                filters=renamed(stored.settings.filters, panel),
                top_k=stored.settings.top_k,
            ),
            stop=stop,
            on_progress=on_progress,
        )
        return drained(run.stream((), stored.settings.duration), on_event, run.stop)


def _check_whole(stored: Ranking, folder: RunFolder) -> None:
    """Refuse to replace the document of a run by the ranking of a part of it, or of what it was some time ago."""
    there = {entry["index"] for entry in (folder.earlier or {}).get("candidates", [])}
    if there != {one.index for one in stored.candidates}:
        raise InvalidInput(
            f"{folder.path} has other candidates than this ranking; load it again, or choose another output"
        )


def _panel(stored: Ranking, request: Request, reward: RewardChoice | None, same_filters: bool) -> Panel:
    made_by = stored.settings.generator
    if reward is not None:
        return Panel(load_rewards(resolve_rewards(reward, made_by), request), stored.settings, made_by=made_by)
    waiting = any(one.set_aside_kind in (None, "not_scored") and not one.rewards for one in stored.candidates)
    let_in = not same_filters and any(one.set_aside is not None and not one.rewards for one in stored.candidates)
    if waiting or let_in:
        try:
            named = [Choice(record["name"], dict(record.get("options", {}))) for record in stored.settings.rewards]
            models = load_rewards([resolve("reward", choice) for choice in named], request)
            return Panel(models, stored.settings, made_by=made_by)
        except RerankError as error:
            logger.warning("what has no reward yet gets none: %s", error)
    return Panel([], stored.settings)
