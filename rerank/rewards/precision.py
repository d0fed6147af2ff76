"""How precisely a reward model computes.

Three precisions: `float32`, which every port is checked in; `bf16`, with products of matrices and convolutions in
bfloat16 and all else (spectrograms, rotary angles, what passes from layer to layer, the last layers) in float32; and
`bf16-autocast`, which also rounds what the original code rounds under autocast on a GPU: the mel bands, the rotary
angles, what enters the conformer, and the rewards.
"""

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch
from torch import nn

from rerank.errors import InvalidInput
from rerank.models.cmi import RewardModel
from rerank.models.conformer import Conformer
from rerank.models.linear import PackedLinear, packing_pays
from rerank.models.mel import LogMel
from rerank.models.mulan import Mulan
from rerank.models.muq import MuqEncoder

Precision = Literal["float32", "bf16", "bf16-autocast"]

PRECISIONS: tuple[Precision, ...] = ("float32", "bf16", "bf16-autocast")


def resolve_precision(name: str, device: torch.device) -> Precision:
    """Return the precision called `name`; "auto" is bf16 on a GPU that has it, else float32.

    Raises:
        InvalidInput: there is no such precision.
    """
    if name == "auto" and device.type != "cuda":
        return "float32"
    if name == "auto":
        with torch.cuda.device(device):
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    for precision in PRECISIONS:
        if name == precision:
            return precision
    raise InvalidInput(f"unknown precision {name!r}; use 'auto' or one of: {', '.join(PRECISIONS)}")


def _pack(module: nn.Module) -> None:
    for name, part in module.named_children():
        if isinstance(part, nn.Linear):
            setattr(module, name, PackedLinear(part.weight, part.bias))
        else:
            _pack(part)


def set_precision(model: nn.Module, precision: Precision) -> None:
    """Change a model for good to a precision; it must then run within `autocast` of the same precision.

    In float32 on a CPU the linear layers of the audio encoder become `PackedLinear` where that is faster.
    """
    if precision == "float32":
        for encoder in [part for part in model.modules() if isinstance(part, MuqEncoder)]:
            if next(encoder.parameters()).device.type == "cpu" and packing_pays():
                _pack(encoder)
        return
    safe = precision == "bf16"
    exact: set[nn.Module] = set()
    for part in model.modules():
        if isinstance(part, LogMel) and not safe:
            part.product_dtype = torch.bfloat16
        elif isinstance(part, Conformer):
            part.rotary_dtype = torch.float32 if safe else torch.bfloat16
            part.exact_start = safe
        elif isinstance(part, RewardModel):
            part.exact_head = safe
            exact |= set(part.score_projector.modules()) if safe else set()
        elif isinstance(part, Mulan):
            exact |= {part.audio_to_latents, part.text_to_latents}
    for part in model.modules():
        if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d) and part not in exact:
            part.to(torch.bfloat16)


@contextlib.contextmanager
def autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    """Compute without gradients, at a precision; float32 is float32 on a GPU too, also in convolutions."""
    half = precision != "float32"
    exact = device.type == "cuda" and not half
    flags = torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if exact else contextlib.nullcontext()
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half), flags:
        yield
