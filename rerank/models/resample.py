"""Resampling to the rate of a published audio tower, sample for sample as torchaudio does it by default.

Published scores were made with this filter. `rerank.audio.resample` is the better one, for everything else.

**Conventions**: waveforms are floats `[..., time]`, with silence before and after; sample rates are in Hz.

**Source**: bandlimited interpolation (Smith, https://ccrma.stanford.edu/~jos/resample); constants, length and precision
are those of `torchaudio.transforms.Resample` 2.11, written from what it computes.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rerank.errors import InvalidInput

CROSSINGS = 6
"""Zero crossings of the sinc on each side of its centre, over which the window falls to 0."""

ROLLOFF = 0.99
"""Where the filter cuts off, as a fraction of half the lower of both sample rates."""

_ROW = 32
"""Output samples to one filter matrix: with fewer, more of the waveform is copied; with more, more taps are 0."""


def sinc_resample(waveform: Tensor, rate: int, new_rate: int) -> Tensor:
    """Return the waveform at another sample rate; itself where the rates are equal.

    The filters are those of the transform of torchaudio: computed in float64, but for the place of each output sample
    between two input samples, which is a float32 there, and then rounded to the type of the waveform. (Its function
    computes all of it in float32: that makes differences of 2e-5 at common rates.) The length, too, passes through a
    float32 before it is rounded up, so a result of some seconds or more may lack its last sample.

    Args:
        waveform: float samples.
        rate: of the waveform, in Hz.
        new_rate: of the result, in Hz.

    Shape:
        `[..., time]` -> `[..., ceil(new_rate * time / rate)]`

    Raises:
        InvalidInput: a rate is not a whole number above 0, or the waveform is not of floats or has no time axis.
    """
    for name, value in (("rate", rate), ("new_rate", new_rate)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InvalidInput(f"{name} must be a whole number of Hz above 0, got {value!r}")
    if not waveform.is_floating_point():
        raise InvalidInput(f"waveform must be floats in [-1, 1], got {waveform.dtype}; convert it first")
    if waveform.ndim == 0:
        raise InvalidInput("waveform must be [..., time], got a single number; pass waveform[None]")
    if rate == new_rate:
        return waveform
    common = math.gcd(rate, new_rate)
    rate, new_rate = rate // common, new_rate // common
    *leading, time = waveform.shape
    if waveform.numel() == 0:
        return waveform.new_zeros(*leading, _length(time, rate, new_rate))
    length, bank = _length(time, rate, new_rate), _filters(rate, new_rate)
    rows = -(-length // bank.outputs)
    padding = (bank.before, max(0, rows * bank.step + bank.after - time))
    padded = F.pad(waveform.reshape(math.prod(leading), time), padding)
    made = padded.new_empty(len(padded), rows, bank.outputs)
    with torch.autocast(waveform.device.type, enabled=False):
        for part in bank.parts:
            taps = torch.from_numpy(part.taps).to(made.dtype).to(made.device)
            windows = padded[:, part.start :].unfold(1, len(taps), bank.step)[:, :rows]
            made[:, :, part.first : part.first + taps.shape[1]] = windows @ taps
    return made.flatten(1)[:, :length].reshape(*leading, length)


def _length(time: int, rate: int, new_rate: int) -> int:
    """Return how many samples torchaudio makes: those within the waveform, as far as float32 can count them."""
    counted = math.ceil(float(np.float32(new_rate * time / rate)))
    return min(counted, (time // rate + 1) * new_rate)


class _Part(NamedTuple):
    """Filters of some neighbouring output samples of a row.

    Attributes:
        first: output sample within the row.
        start: padded input sample, relative to that of the row, at which the taps begin.
        taps: `[input samples, output samples]`, float64.
    """

    first: int
    start: int
    taps: np.ndarray


class _Bank(NamedTuple):
    """Filters of a row of output samples; all rows have the same.

    Attributes:
        outputs: samples of a row.
        step: input samples from one row to the next.
        before, after: silent input samples that the first and the last row need around them.
        parts: of the row, so that few taps are 0 however long it is.
    """

    outputs: int
    step: int
    before: int
    after: int
    parts: tuple[_Part, ...]


@lru_cache(maxsize=16)
def _filters(rate: int, new_rate: int) -> _Bank:
    """Return the filters for two rates without a common divisor.

    Output sample j lies at j * rate / new_rate of the input. Its filter is a sinc around that place, so sample
    j + new_rate has the filter of sample j, moved by `rate` input samples: a row holds a multiple of new_rate.
    """
    repeats = max(1, _ROW // new_rate)
    outputs, step = new_rate * repeats, rate * repeats
    lower = min(rate, new_rate) * ROLLOFF
    reach = math.ceil(CROSSINGS * rate / lower)
    parts = []
    for first in range(0, outputs, _ROW):
        produced = np.arange(first, min(first + _ROW, outputs))
        begin, end = first * rate // new_rate - reach, int(produced[-1]) * rate // new_rate + reach + 1
        period, phase = np.divmod(produced, new_rate)
        places = phase.astype(np.float32) / np.float32(new_rate)
        # how far each input sample is from each output sample, in zero crossings of the sinc
        distance = ((np.arange(begin, end + 1)[:, None] - period * rate) / rate - places.astype(np.float64)) * lower
        window = np.cos(np.clip(distance / CROSSINGS, -1, 1) * (math.pi / 2)) ** 2
        parts.append(_Part(first, begin + reach, lower / rate * np.sinc(distance) * window))
    return _Bank(outputs, step, reach, reach + 1, tuple(parts))
