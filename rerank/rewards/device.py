"""Where and how precisely a reward model computes.

Three precisions: `float32`, which every port is checked in; `bf16`, with products of matrices and convolutions in
bfloat16 and all else (spectrograms, rotary angles, norms, sums, the last layers) in float32; and `bf16-autocast`, which
also rounds what the original code rounds under autocast on a GPU: the mel bands, the rotary angles and the rewards.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from rerank.errors import InvalidInput
from rerank.models.cmi import RewardModel
from rerank.models.conformer import Conformer
from rerank.models.mel import LogMel

Precision = Literal["float32", "bf16", "bf16-autocast"]

PRECISIONS: tuple[Precision, ...] = ("float32", "bf16", "bf16-autocast")


def resolve_device(name: str) -> torch.device:
    """Return the torch device called `name`; "auto" is the GPU if there is one, else the CPU.

    Raises:
        InvalidInput: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = ["cpu"] + (["mps"] if torch.backends.mps.is_available() else [])
    available += ["cuda"] * torch.cuda.is_available() + [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if name not in available:
        raise InvalidInput(f"device {name!r} is not available here; use 'auto' or one of: {', '.join(available)}")
    return torch.device(name)


def resolve_precision(name: str, device: torch.device) -> Precision:
    """Return the precision called `name`; "auto" is bf16 on a GPU that has it, else float32.

    Raises:
        InvalidInput: there is no such precision.
    """
    if name == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    for precision in PRECISIONS:
        if name == precision:
            return precision
    raise InvalidInput(f"unknown precision {name!r}; use 'auto' or one of: {', '.join(PRECISIONS)}")


def set_precision(model: nn.Module, precision: Precision) -> None:
    """Prepare a model for a precision, once: it must then run within `autocast`."""
    if precision == "float32":
        return
    for part in model.modules():
        if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d):
            part.to(torch.bfloat16)
        if precision == "bf16-autocast":
            if isinstance(part, LogMel):
                part.product_dtype = torch.bfloat16
            elif isinstance(part, Conformer):
                part.rotary_dtype = torch.bfloat16
            elif isinstance(part, RewardModel):
                part.exact_head = False
    for part in model.modules():
        if isinstance(part, RewardModel) and part.exact_head:
            part.score_projector.float()


@contextlib.contextmanager
def autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    """Compute without gradients, at a precision."""
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision != "float32"):
        yield


def has_fast_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 matrices in hardware."""
    flags = ("avx512_bf16", "amx_bf16", "asimdbf16", "bf16")
    try:
        found = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return any(flag in found for flag in flags)
