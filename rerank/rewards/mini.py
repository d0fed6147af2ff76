"""`cmi-mini`, the small reward model that is part of the package: its weights on disk.

A saved one is a folder with the weights (float16), the sizes of the network and the vocabulary of its text tower; and,
once that was measured, what a gap between two of its rewards means (`rerank.rewards.calibration`).
"""

import hashlib
import json
from dataclasses import asdict, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from rerank.catalogue import reward_info
from rerank.errors import WeightsError, one_line
from rerank.files import make_folder, write_bytes
from rerank.models.cmi import RewardModel
from rerank.models.device import resolve_device
from rerank.models.mini import MiniConfig, build_mini, mini_config, mini_vocabulary
from rerank.models.vocabulary import Vocabulary
from rerank.models.weights import load_strictly, without_values
from rerank.rewards.calibration import read_calibration, remove_calibration
from rerank.rewards.cmi import CmiReward

_WEIGHTS, _CONFIG, _VOCABULARY = "model.safetensors", "config.json", "vocabulary.json"
_FILES = (_CONFIG, _VOCABULARY, _WEIGHTS)
_MOST_BYTES = {_CONFIG: 64 * 1024, _VOCABULARY: 64 * 1024**2, _WEIGHTS: 1024**3}
"""Of each file, which is read whole."""


def save_mini(model: RewardModel, folder: str | Path) -> Path:
    """Write the weights (float16), sizes and vocabulary of a small reward model to a folder, and return it.

    Each file is written completely or not at all. What was measured of weights that were there before is removed.

    Raises:
        WeightsError: a weight is not finite, or too large for float16.
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    weights = {key: value.detach().cpu().half().contiguous() for key, value in model.state_dict().items()}
    broken = [key for key, value in weights.items() if not bool(value.isfinite().all())]
    if broken:
        raise WeightsError(f"weights that are not finite in float16 cannot be saved: {', '.join(broken)}")
    make_folder(folder)
    remove_calibration(folder)
    write_bytes(folder / _VOCABULARY, mini_vocabulary(model).to_json().encode())
    write_bytes(folder / _CONFIG, (json.dumps(asdict(mini_config(model)), indent=2) + "\n").encode())
    write_bytes(folder / _WEIGHTS, save_tensors(weights))
    return folder


def load_mini(*, path: str | Path | None = None, device: str = "auto") -> CmiReward:
    """Return `cmi-mini`, or another small reward model from a folder that `save_mini` wrote.

    Its info has a calibration and norms where they were measured and stored in the folder.

    Args:
        path: folder with its weights, sizes and vocabulary; None for those in the package.
        device: to compute on: "auto" (the GPU if there is one), "cpu", "cuda".

    Raises:
        WeightsError: a file is missing or broken, the weights are not those of this network, or what was measured is
            not of these weights.
        InvalidInput: there is no such device.
    """
    resolve_device(device)
    folder = _folder(path)
    config, vocabulary, weights = (_read(folder, name) for name in _FILES)
    try:
        known, sizes = Vocabulary.from_json(vocabulary.decode()), json.loads(config)
        tensors = load_tensors(weights)
    except (ValueError, TypeError, RecursionError, RuntimeError, SafetensorError) as error:
        why = one_line(error)
        raise WeightsError(f"the reward model in {folder} is broken ({why}); copy or train it again") from error
    # without memory for weights, which come from the file: sizes that do not fit it cost nothing
    with without_values():
        model = build_mini(known, MiniConfig.of(sizes))
    load_strictly(model, tensors, where=str(folder))
    info = replace(reward_info("cmi-mini"), version=_version(config, vocabulary, weights))
    measured = read_calibration(folder, info.version, info.axes)
    if measured is not None:
        info = replace(info, calibration=measured.slope, norms=measured.norms)
    return CmiReward(model, info=info, device=device)


def version_of(path: str | Path | None = None) -> str:
    """Return the version of the weights in a folder, or of those in the package, without loading them.

    Raises:
        WeightsError: a file is missing or cannot be read.
    """
    folder = _folder(path)
    return _version(*(_read(folder, name) for name in _FILES))


def _version(config: bytes, vocabulary: bytes, weights: bytes) -> str:
    digests = [hashlib.sha256(part).hexdigest() for part in (weights, config, vocabulary)]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:12]


def _folder(path: str | Path | None) -> Traversable:
    return resources.files("rerank.rewards") / "cmi-mini" if path is None else Path(path)


def _read(folder: Traversable, name: str) -> bytes:
    """Return the content of one file of a saved reward model."""
    try:
        with folder.joinpath(name).open("rb") as file:
            content: bytes = file.read(_MOST_BYTES[name] + 1)
    except OSError as error:
        raise WeightsError(
            f"cannot read {folder.joinpath(name)}; a reward model is a folder with "
            f"{_WEIGHTS}, {_CONFIG} and {_VOCABULARY}, as `rerank train mini` writes it"
        ) from error
    if len(content) > _MOST_BYTES[name]:
        raise WeightsError(f"{folder.joinpath(name)} has more than {_MOST_BYTES[name]:,} bytes, as no small model has")
    return content
