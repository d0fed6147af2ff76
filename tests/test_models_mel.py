"""The log-mel spectrogram against a plain numpy implementation, and its conventions."""

import numpy as np
import pytest
import torch

from rerank.models.mel import MUSIC_MEAN, MUSIC_STD, SHORTEST, LogMel, mel_filters


def plain_log_mel(waveform: np.ndarray, hop: int) -> np.ndarray:
    """Frame by frame and band by band, in float64."""
    padded = np.pad(waveform.astype(np.float64), 1024, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    frames = len(waveform) // hop
    power = np.stack([np.abs(np.fft.rfft(padded[i * hop : i * hop + 2048] * window)) ** 2 for i in range(frames)])
    corners = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 12000 / 700), 130) / 2595) - 1)
    hertz = np.linspace(0, 12000, 1025)
    bands = np.stack([np.interp(hertz, corners[band : band + 3], [0, 1, 0], left=0, right=0) for band in range(128)])
    decibels = 10 * np.log10(np.maximum(power @ bands.T, 1e-10))
    return ((decibels - MUSIC_MEAN) / MUSIC_STD).T


@pytest.mark.parametrize("hop", [240, 480])
@pytest.mark.parametrize("length", [SHORTEST, 24000, 25001])
def test_equals_plain_implementation(hop: int, length: int) -> None:
    waveform = np.random.default_rng(length).standard_normal(length).astype(np.float32) * 0.1
    made = LogMel(hop=hop)(torch.from_numpy(waveform)[None])[0].numpy()
    assert made.shape == (128, length // hop)
    # float32 filters and FFT: 1e-4 of a standard deviation is 2e-3 dB
    np.testing.assert_allclose(made, plain_log_mel(waveform, hop), atol=1e-4)


def test_silence_is_the_floor() -> None:
    made = LogMel()(torch.zeros(1, 2400))
    torch.testing.assert_close(made, torch.full_like(made, (-100 - MUSIC_MEAN) / MUSIC_STD))


def test_filters_are_triangles_of_height_one() -> None:
    filters = mel_filters(24000, 2048, 128, 12000.0)
    assert filters.shape == (128, 1025)
    assert float(filters.min()) == 0.0
    assert float(filters.max()) <= 1.0
    wide = filters[64:].max(1).values
    assert bool((wide > 0.85).all())


def test_nothing_is_in_the_state_dict() -> None:
    assert LogMel().state_dict() == {}


def test_higher_tone_is_in_a_higher_band() -> None:
    time = torch.arange(24000) / 24000
    tones = torch.stack([torch.sin(2 * torch.pi * hertz * time) for hertz in (200.0, 800.0, 3200.0)])
    bands = LogMel()(tones).mean(-1).argmax(-1).tolist()
    assert bands == sorted(bands) and len(set(bands)) == 3
