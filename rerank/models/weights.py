"""Weights of published models: tensors from a file, checked name by name.

Weights are safetensors, or pickles of which torch reads nothing but tensors. They are mapped, not copied: a model takes
the memory of its weights once, and the file must stay as it is while the model lives.
"""

import contextlib
import fnmatch
import hashlib
import logging
import math
import pickle
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rerank.errors import WeightsError, one_line

log = logging.getLogger("rerank")

_SHA256 = re.compile("[0-9a-f]{64}")

_NAMED = 12
"""Weights that an error names; of more it says how many."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of a pickle of tensors, mapped from the file.

    Raises:
        WeightsError: it is neither, or is damaged.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path} {_why_no_tensors(error)}; nothing of it was run") from error
    # a damaged pickle may raise anything
    except Exception as error:
        why = one_line(error)
        raise WeightsError(f"cannot read the weights in {path}: {why}; delete the file and get it again") from error
    named = isinstance(found, dict) and all(isinstance(name, str) for name in found)
    if not named or not all(map(_is_plain, found.values())):
        raise WeightsError(f"{path} holds something other than named tensors of real numbers")
    return dict(found)


def _is_plain(value: object) -> bool:
    """Return whether something of a file is a tensor of real numbers that are all there."""
    return (
        isinstance(value, Tensor)
        and type(value) in (Tensor, nn.Parameter)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_complex()
        and not value.is_quantized
    )


class _WithoutValues(TorchFunctionMode):
    """Leaves tensors as they are where an initialisation would fill them: on the meta device that loads a compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        filled = func in (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)
        return func(*args, **given) if not filled else given["tensor"] if "tensor" in given else args[0]


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """Build modules that have shapes and no memory, for `load_strictly` to give them their weights."""
    with torch.device("meta"), _WithoutValues():
        yield


def load_strictly(
    module: nn.Module, weights: Mapping[str, Tensor], *, where: str, prefix: str = "", unused: Iterable[str] = ()
) -> None:
    """Give `module` its weights, each of them and no others; they are not copied.

    Args:
        module: on the meta device, or with weights to replace.
        weights: by name.
        where: they come from, for errors.
        prefix: of the names of all that belongs to `module`.
        unused: patterns of further names that are known and not needed.

    Raises:
        WeightsError: a weight is missing, not known, or of another shape; it lists them. Or one is not finite, or of
            another kind of number.
    """
    own = {prefix + name: value for name, value in module.state_dict().items()}
    weights = {**weights, **_shared(module, weights, prefix)}
    patterns = tuple(unused)
    problems = {
        "missing": [name for name in own if name not in weights],
        "not known": [
            name for name in weights if name not in own and not any(fnmatch.fnmatchcase(name, p) for p in patterns)
        ],
        "of another shape": [
            f"{name} {list(weights[name].shape)} instead of {list(value.shape)}"
            for name, value in own.items()
            if name in weights and weights[name].shape != value.shape
        ],
    }
    if any(problems.values()):
        told = "; ".join(f"{kind}: {_listed(names)}" for kind, names in problems.items() if names)
        raise WeightsError(f"the weights in {where} do not fit the model; {told}")
    chosen = {name.removeprefix(prefix): _checked(name, weights[name], value, where) for name, value in own.items()}
    module.load_state_dict(chosen, strict=True, assign=True)
    module.requires_grad_(False)


def check_finite(name: str, weight: Tensor, where: str) -> None:
    """Refuse numbers that are NaN or infinite.

    Least and largest of a GiB take 0.05 s on two cores of a CPU, a twentieth of what `isfinite` takes.

    Raises:
        WeightsError: naming the weight.
    """
    # on the meta device there are shapes only
    if weight.numel() and not weight.is_meta and not all(math.isfinite(end) for end in weight.aminmax()):
        raise WeightsError(f"the weight {name} in {where} is not finite everywhere; delete the file and get it again")


def check_module(module: nn.Module, files: Iterable[Path], where: str) -> None:
    """Check weights that a library has loaded as `load_strictly` does: floating point in the files, and finite.

    Raises:
        WeightsError: naming the weight.
    """
    own = dict(module.named_parameters())
    for path in files:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                stored = {name: file.get_slice(name).get_dtype() for name in file.keys() if name in own}  # noqa: SIM118
            for name, kind in stored.items():
                if not re.fullmatch("B?F[0-9].*", kind):
                    raise WeightsError(f"the weight {name} in {path} is {kind}, expected floating point")
    for name, weight in own.items():
        check_finite(name, weight.detach(), where)


def _checked(name: str, weight: Tensor, like: Tensor, where: str) -> Tensor:
    """Return a weight as the model takes it: of the same kind of numbers, in float32 where it is floating, and finite."""
    if weight.is_floating_point() != like.is_floating_point() or (weight.dtype is torch.bool) != (
        like.dtype is torch.bool
    ):
        kind = "floating point" if like.is_floating_point() else str(like.dtype).removeprefix("torch.")
        raise WeightsError(f"the weight {name} in {where} is {str(weight.dtype)[6:]}, expected {kind}")
    if not like.is_floating_point():
        return weight
    weight = weight.float()
    check_finite(name, weight, where)
    return weight


def _why_no_tensors(error: Exception) -> str:
    """Return what a pickle holds that is no tensor; what torch says beside that is advice to run it all the same."""
    wanted = re.search(r"GLOBAL (\S+)", str(error))
    if wanted:
        return f"is no file of plain tensors: it wants {wanted[1]:.100} of Python"
    return "is damaged, or no file of plain tensors"


def _shared(module: nn.Module, weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return what `weights` lack because `module` uses one weight under two names, of which a file may hold one."""
    first: dict[int, str] = {}
    found = {}
    for name, value in module.named_parameters(prefix.rstrip("."), remove_duplicate=False):
        other = first.setdefault(id(value), name)
        if name not in weights and other in weights:
            found[name] = weights[other]
    return found


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def fingerprint(files: Iterable[Path], *configs: object) -> str:
    """Return the start of a SHA-256 of weights and of all that says what they are used in.

    That of a large file is taken from the hub's cache, where a file is named by it; else the file is read once.

    Args:
        files: with the weights and what belongs to them, in an order that is always the same.
        configs: whose `repr` says all else that matters.

    Raises:
        WeightsError: a file cannot be read.
    """
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(_digest, files))
    return _start(" ".join([*digests, *map(repr, configs)]).encode())


def fingerprint_loaded(*modules: nn.Module) -> str:
    """Return the start of a SHA-256 of the weights of modules that are loaded, bit by bit."""
    found = hashlib.sha256()
    for module in modules:
        for name, value in module.state_dict().items():
            found.update(f"{name} {value.dtype} {[*value.shape]} ".encode())
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return _start(found.digest())


def _start(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    blob = path.resolve().name
    if _SHA256.fullmatch(blob):
        return blob
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {one_line(error)}") from error


@cache
def say_licence(name: str, licence: str) -> None:
    """Say once in this process under what terms weights may be used."""
    log.warning("the weights of %s are under %s", name, licence)
