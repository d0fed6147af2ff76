"""Resampling: equal to torchaudio, a slow direct sum, and what a resampler must do to tones and silence."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rerank.errors import InvalidInput
from rerank.models.resample import _filters, sinc_resample
from tests.conftest import ROOT

# `waveform`, what `torchaudio.transforms.Resample(rate, 24000)` of torchaudio 2.11.0 makes of it (by the rate), and in
# `lengths` rows of rate, samples, and how many samples it makes of so many; on CPU. The waveform is noise:
# 0.3 * numpy.random.default_rng(0).standard_normal((2, 500)), as float32.
GOLDEN = Path(__file__).parent / "data" / "torchaudio_resample.npz"

PAIRS = [
    (44100, 24000),
    (48000, 24000),
    (32000, 24000),
    (16000, 24000),
    (22050, 24000),
    (44056, 24000),
    (24001, 24000),
    (24000, 44100),
    (7, 3),
    (3, 7),
    (1, 5),
    (5, 1),
]


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def direct_sum(waveform: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Each output sample by itself: all input samples, times a sinc with a Hann window of six zero crossings a side."""
    cutoff = 0.99 * min(rate, new_rate)  # zero crossings a second
    made = []
    for index in range(math.ceil(new_rate * len(waveform) / rate)):
        crossings = (np.arange(len(waveform)) / rate - index / new_rate) * cutoff
        window = np.where(np.abs(crossings) < 6, np.cos(np.pi * crossings / 12) ** 2, 0)
        made.append((waveform * np.sinc(crossings) * window).sum() * cutoff / rate)
    return np.array(made)


@pytest.mark.parametrize("rate", [44100, 48000, 32000, 16000, 22050])
def test_equals_torchaudio(rate: int) -> None:
    with np.load(GOLDEN) as golden:
        waveform, expected = torch.from_numpy(golden["waveform"]), golden[str(rate)]
    made = sinc_resample(waveform, rate, 24000)
    assert made.dtype == torch.float32
    # the products are summed up in another order
    np.testing.assert_allclose(made.numpy(), expected, atol=5e-7, rtol=0)


def test_lengths_equal_torchaudio() -> None:
    with np.load(GOLDEN) as golden:
        lengths = golden["lengths"]
    short = 0
    for rate, time, expected in lengths.tolist():
        made = sinc_resample(torch.zeros(time), rate, 24000)
        assert made.shape == (expected,)
        short += expected < -(-24000 * time // rate)
    assert short > 0  # recorded where float32 loses the last sample, too


@pytest.mark.parametrize(("rate", "new_rate"), PAIRS)
@pytest.mark.parametrize("time", [1, 2, 100, 333])
def test_equals_direct_sum(rate: int, new_rate: int, time: int) -> None:
    waveform = noise(time)
    expected = direct_sum(waveform.double().numpy(), rate, new_rate)
    made = sinc_resample(waveform, rate, new_rate)
    assert made.shape == expected.shape == (math.ceil(new_rate * time / rate),)
    # places of output samples are float32, as in torchaudio: off by up to a ten-millionth of the period of the filters
    period = rate // math.gcd(rate, new_rate)
    np.testing.assert_allclose(made.numpy(), expected, atol=1e-6 + 2e-7 * period)


@pytest.mark.parametrize(("rate", "new_rate"), PAIRS)
@pytest.mark.parametrize("row", [1, 7, 1000])
def test_how_filters_are_grouped_does_not_show(
    rate: int, new_rate: int, row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waveform = noise(2, 1234)
    expected = sinc_resample(waveform, rate, new_rate)
    monkeypatch.setattr("rerank.models.resample._ROW", row)
    _filters.cache_clear()
    made = sinc_resample(waveform, rate, new_rate)
    _filters.cache_clear()
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=1e-6)


def tone(hertz: float, rate: int) -> Tensor:
    """Return one second."""
    return torch.sin(2 * torch.pi * hertz * torch.arange(rate, dtype=torch.float64) / rate).float()


INSIDE = slice(200, -200)  # the silence around a waveform shows at its ends


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000])
def test_tone_stays_the_same_tone(rate: int) -> None:
    difference = sinc_resample(tone(440, rate), rate, 24000) - tone(440, 24000)
    assert float(difference[INSIDE].abs().max()) < 3e-3


@pytest.mark.parametrize("rate", [44100, 48000])
def test_tone_above_the_new_band_vanishes(rate: int) -> None:
    assert float(sinc_resample(tone(17000, rate), rate, 24000)[INSIDE].abs().max()) < 1e-3


def test_same_rate_is_the_waveform_itself() -> None:
    waveform = noise(2, 10)
    assert sinc_resample(waveform, 24000, 24000) is waveform


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 10), (0, 0)])
def test_empty_waveform(shape: tuple[int, ...]) -> None:
    made = sinc_resample(torch.zeros(shape), 48000, 24000)
    assert made.shape == (*shape[:-1], shape[-1] // 2)


def test_leading_axes_are_independent() -> None:
    waveform = noise(2, 3, 1000)
    made = sinc_resample(waveform, 44100, 24000)
    assert made.shape == (2, 3, 545)
    for first in range(2):
        for second in range(3):
            alone = sinc_resample(waveform[first, second], 44100, 24000)
            torch.testing.assert_close(made[first, second], alone, atol=1e-6, rtol=1e-6)


def test_views_are_fine() -> None:
    waveform = noise(1000, 2)
    expected = sinc_resample(waveform.T.contiguous(), 44100, 24000)
    torch.testing.assert_close(sinc_resample(waveform.T, 44100, 24000), expected, atol=0, rtol=0)


def test_other_precisions() -> None:
    waveform = noise(400).double()
    made = sinc_resample(waveform, 48000, 24000)
    assert made.dtype == torch.float64
    # both rates are multiples of 24000, so no place is rounded
    np.testing.assert_allclose(made.numpy(), direct_sum(waveform.numpy(), 48000, 24000), atol=1e-12)
    assert sinc_resample(waveform.bfloat16(), 48000, 24000).dtype == torch.bfloat16


def test_autocast_changes_nothing() -> None:
    waveform = noise(1000)
    expected = sinc_resample(waveform, 44100, 24000)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sinc_resample(waveform, 44100, 24000), expected)


def test_gradient_flows_also_after_inference_mode() -> None:
    with torch.inference_mode():
        sinc_resample(noise(100), 11025, 24000)
    waveform = noise(100).requires_grad_()
    (gradient,) = torch.autograd.grad(sinc_resample(waveform, 11025, 24000).square().sum(), waveform)
    assert bool(gradient.isfinite().all()) and bool(gradient.any())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold a process to a limit of memory")
def test_two_minutes_take_little_memory() -> None:
    program = """
import resource
import torch
from rerank.models.resample import sinc_resample
torch.set_num_threads(1)
_, hard = resource.getrlimit(resource.RLIMIT_AS)
for rate in (44100, 48000, 44101):
    waveform = torch.zeros(2, 120 * rate)  # 42 to 46 MB
    sinc_resample(waveform[:, :rate], rate, 24000)
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = pages * resource.getpagesize() + 250 * 10**6
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    sinc_resample(waveform, rate, 24000)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("bad", [0, -1, 24000.0, True, "24000", None])
def test_rates_are_whole_numbers_above_zero(bad: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^rate must be a whole number of Hz above 0, got {bad!r}$"):
        sinc_resample(noise(10), bad, 24000)
    with pytest.raises(InvalidInput, match=f"^new_rate must be a whole number of Hz above 0, got {bad!r}$"):
        sinc_resample(noise(10), 24000, bad)


def test_waveforms_are_floats_with_a_time_axis() -> None:
    with pytest.raises(InvalidInput, match=r"must be floats in \[-1, 1\], got torch.int16; convert it first"):
        sinc_resample(torch.zeros(10, dtype=torch.int16), 44100, 24000)
    with pytest.raises(InvalidInput, match=r"must be \[..., time\], got a single number"):
        sinc_resample(torch.tensor(0.5), 44100, 24000)
