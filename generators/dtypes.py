"""The types of number that a generator can compute in."""

import torch

from rerank.errors import InvalidInput

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def name_of(dtype: torch.dtype) -> str:
    """Return what a type of number is called in options."""
    return str(dtype).removeprefix("torch.")


def resolve_dtype(
    name: str, device: torch.device, half: torch.dtype, on_cpu: torch.dtype = torch.float32
) -> torch.dtype:
    """Return the type of number called `name`; "auto" is `half` on a GPU that has it, and `on_cpu` on a CPU.

    Raises:
        InvalidInput: there is no such type.
    """
    if name in DTYPES:
        return DTYPES[name]
    if name != "auto":
        raise InvalidInput(f"unknown dtype {name!r}; use 'auto' or one of: {', '.join(DTYPES)}")
    if device.type != "cuda":
        return on_cpu if device.type == "cpu" else torch.float32
    with torch.cuda.device(device):
        known = half != torch.bfloat16 or torch.cuda.is_bf16_supported(including_emulation=False)
    return half if known else torch.float32
