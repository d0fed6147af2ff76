"""Where a model computes, and what a processor is fast at."""

from pathlib import Path

import torch

from rerank.errors import InvalidInput


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


def has_fast_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 matrices in hardware."""
    flags = ("avx512_bf16", "amx_bf16", "asimdbf16", "bf16")
    try:
        found = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return any(flag in found for flag in flags)
