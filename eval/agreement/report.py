"""All questions of agreement in one report, and what of it is stored with the weights."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rerank.corpus.captions import captions
from rerank.errors import InvalidInput
from rerank.eval.agreement.cases import preferences
from rerank.eval.agreement.sure import how_sure
from rerank.eval.agreement.takes import AXES, AgreementOptions, agreement, choices, make_takes, norms
from rerank.files import check_place
from rerank.protocols import Norms, Progress, Reward, RewardInfo
from rerank.rewards.calibration import CALIBRATION, Calibration, write_calibration
from rerank.rewards.mini import version_of

_SMALL = 3
"""Candidates of the smaller runs in which rules choose."""


def evaluate(
    reward: Reward, options: AgreementOptions, on_progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Return all that is measured of a reward model, with the options it was measured with.

    Returns:
        `metrics`, flat; `rules`, what each rule chooses, by the number of candidates; `calibration`, as `how_sure`
        tells it; `norms`, where rewards lie.

    Raises:
        InvalidInput: it lacks the axis musicality or alignment.
        RewardFailed: it fails on a candidate, or a reward is None or not finite.
    """
    missing = {*AXES} - {*reward.info.axes}
    if missing:
        raise InvalidInput(f"agreement needs the axes musicality and alignment; {reward.info.name} lacks {missing}")
    report = on_progress or (lambda progress: None)
    rng = np.random.default_rng([options.seed, 101])
    held_out = captions("test")
    texts = [held_out[i] for i in rng.permutation(len(held_out))[: options.prompts]]
    takes = make_takes(reward, texts, options, report)
    metrics = agreement(takes) | preferences(reward, rng, options, report)
    return {
        "reward": reward.info.name,
        "version": reward.info.version,
        "options": asdict(options),
        "metrics": metrics,
        "rules": {str(n): choices(takes, n) for n in dict.fromkeys((options.n, min(_SMALL, options.n)))},
        "calibration": how_sure(takes),
        "norms": asdict(norms(takes, options)),
    }


def calibration_of(report: Mapping[str, Any]) -> Calibration:
    """Return what of a report belongs with the weights.

    Raises:
        InvalidInput: higher rewards are not better, or there are too few takes to tell.
    """
    found = report["calibration"]
    slope, interval, judged = found["slope"], found["interval"], found["told"][found["fitted to"]]
    if slope is not None and not slope > 0:
        raise InvalidInput(f"there is nothing to calibrate: a higher reward is no better (slope {slope:.3g})")
    if slope is None or interval is None or judged is None:
        raise InvalidInput("there is nothing to calibrate by: too few takes, or no gaps; take more prompts")
    return Calibration(
        version=report["version"],
        slope=slope,
        interval=tuple(interval),
        error=judged["error"],
        pairs=found["pairs"],
        fitted_to=found["fitted to"],
        norms=Norms(**report["norms"]),
        options=report["options"],
    )


def check_folder(folder: Path, info: RewardInfo) -> None:
    """Refuse, before anything is measured, a folder in which a calibration cannot be stored, or would not be found.

    Raises:
        WeightsError: it is no folder of a small reward model.
        InvalidInput: it is that of another one.
        OutputError: it may not be written.
    """
    version = version_of(folder)
    if version != info.version:
        raise InvalidInput(
            f"{folder} holds the weights {version}, but {info.name} {info.version} would be measured; "
            f"name the folder twice: --reward-path {folder} --calibrate {folder}"
        )
    check_place(folder / CALIBRATION)


def calibrate(report: Mapping[str, Any], folder: Path) -> Path:
    """Store in the folder of a reward model what `calibration_of` takes from its report, and return the file."""
    return write_calibration(folder, calibration_of(report))
