"""Waveforms: float32 arrays `[channels, time]`, full scale is 1."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank.errors import InvalidInput

Waveform = NDArray[np.float32]

MAX_CHANNELS = 64
"""More are a waveform whose axes are swapped."""


def as_waveform(value: Any) -> Waveform:
    """Return any float array or tensor as a waveform.

    Shape:
        `[channels, time]`, or `[time]` for one channel -> `[channels, time]`

    Raises:
        InvalidInput: it holds something else than floats, or channels of different lengths.
    """
    if hasattr(value, "detach"):  # a torch tensor, told without importing torch
        value = value.detach().cpu()
        # numpy has no bfloat16, which float32 holds exactly
        value = value.float() if value.is_floating_point() else value
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidInput("waveform has channels of different lengths; pass an array [channels, time]") from error
    if np.issubdtype(array.dtype, np.integer):
        scale = -int(np.iinfo(array.dtype).min) or int(np.iinfo(array.dtype).max)
        raise InvalidInput(
            f"waveform must be floats in [-1, 1], got {array.dtype}; pass waveform.astype('float32') / {scale}"
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise InvalidInput(f"waveform must be floats in [-1, 1], got {array.dtype}; pass a float array or tensor")
    if array.ndim == 1:
        array = array[np.newaxis]
    return np.ascontiguousarray(array, dtype=np.float32)


def check_waveform(waveform: object) -> None:
    """Refuse what is no float32 array `[channels, time]`.

    Raises:
        InvalidInput: naming the type or shape, and the likely way out.
    """
    if not isinstance(waveform, np.ndarray):
        kind = type(waveform).__name__
        raise InvalidInput(f"waveform must be a numpy array [channels, time], got {kind}; pass a float32 array")
    shape = waveform.shape
    if waveform.ndim == 1:
        raise InvalidInput(f"waveform must be [channels, time], got shape {shape}; pass waveform[None]")
    if waveform.ndim == 3 and shape[0] == 1:
        raise InvalidInput(f"waveform must be [channels, time], got shape {shape}; pass waveform[0]")
    if waveform.ndim != 2 or shape[0] == 0:
        raise InvalidInput(f"waveform must be [channels, time], got shape {shape}; pass one piece of audio")
    if shape[0] > MAX_CHANNELS:
        raise InvalidInput(f"waveform must be [channels, time], got shape {shape}; pass waveform.T")
    if waveform.dtype != np.float32:
        raise InvalidInput(f"waveform must be float32, got {waveform.dtype}; pass waveform.astype('float32')")
