"""What was measured of a reward model and is stored beside its weights: what a gap means, and where rewards lie."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from rerank.data import is_number
from rerank.errors import WeightsError, one_line
from rerank.files import cannot_write, write_bytes
from rerank.models.config import shown
from rerank.protocols import Norms

CALIBRATION = "calibration.json"

_MOST_BYTES = 1024**2


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was measured of a reward model.

    Attributes:
        version: of the weights that it was measured of.
        slope: of the log odds that the better one of two takes has the higher combined reward, per unit of the gap.
        interval: that holds the slope with 95 %.
        error: of the probabilities that follow, on prompts that the slope was not fitted to.
        pairs: of takes that it was fitted to.
        fitted_to: which pairs, in words.
        norms: where the rewards of the takes lie.
        options: that it was measured with.
    """

    version: str
    slope: float
    interval: tuple[float, ...]
    error: float
    pairs: int
    fitted_to: str
    norms: Norms
    options: Mapping[str, Any]


def write_calibration(folder: Path, calibration: Calibration) -> Path:
    """Write `FOLDER/calibration.json`, completely or not at all, and return its path.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = folder / CALIBRATION
    write_bytes(path, (json.dumps(asdict(calibration), indent=1, allow_nan=False) + "\n").encode())
    return path


def read_calibration(folder: Traversable, version: str, axes: Collection[str]) -> Calibration | None:
    """Return what was measured of the reward model in a folder; None where nobody measured it.

    Args:
        folder: that holds the weights.
        version: of the weights.
        axes: of the reward model.

    Raises:
        WeightsError: the file cannot be read, does not hold what it should, or is of other weights.
    """
    file = folder.joinpath(CALIBRATION)
    if not file.is_file():
        return None
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
        found = _parsed(json.loads(content), axes)
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{file} is broken ({one_line(error)}); {_again(folder)}") from error
    if found.version != version:
        raise WeightsError(f"{file} is of the weights {found.version!r:.60}, not of {version!r}; {_again(folder)}")
    return found


def remove_calibration(folder: Path) -> None:
    """Remove what was measured of the weights in a folder, if anything was.

    Raises:
        OutputError: it cannot be removed.
    """
    path = folder / CALIBRATION
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def _again(folder: Traversable) -> str:
    return f"remove it, then measure again: rerank eval agreement --reward-path {folder} --calibrate {folder}"


def _parsed(document: Any, axes: Collection[str]) -> Calibration:
    """Return a document as what it should be.

    Raises:
        ValueError: it is something else.
    """
    found = _object("it", document, {field.name for field in fields(Calibration)})
    norms = _object("norms", found["norms"], {"takes", "quantiles"})
    quantiles = _object("quantiles", norms["quantiles"], set(axes))
    for name, text in (("version", found["version"]), ("fitted_to", found["fitted_to"]), ("takes", norms["takes"])):
        _check(name, text, "a text", isinstance(text, str) and bool(text.strip()))
    _check("slope", found["slope"], "a number above 0", is_number(found["slope"]) and found["slope"] > 0)
    _check("error", found["error"], "a number from 0 to 1", is_number(found["error"]) and 0 <= found["error"] <= 1)
    _check("pairs", found["pairs"], "a whole number above 0", type(found["pairs"]) is int and found["pairs"] > 0)
    _check("options", found["options"], "an object", isinstance(found["options"], dict))
    interval = _rising("interval", found["interval"])
    _check("interval", interval, "two numbers", len(interval) == 2)
    spread = {axis: _rising(f"quantiles of {axis}", values) for axis, values in quantiles.items()}
    return Calibration(**{**found, "interval": interval, "norms": Norms(takes=norms["takes"], quantiles=spread)})


def _object(name: str, value: Any, keys: set[str]) -> dict[str, Any]:
    _check(name, value, f"an object with {', '.join(sorted(keys))}", isinstance(value, dict) and value.keys() == keys)
    return dict(value)


def _rising(name: str, values: Any) -> tuple[float, ...]:
    good = isinstance(values, list) and len(values) >= 2 and all(map(is_number, values)) and values == sorted(values)
    _check(name, values, "two or more finite numbers that do not fall", good)
    return tuple(map(float, values))


def _check(name: str, value: Any, expected: str, good: bool) -> None:
    if not good:
        raise ValueError(f"{name} must be {expected}, got {shown(value)}")
