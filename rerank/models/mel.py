"""Log-mel spectrogram, as MuQ and the small audio tower read it.

**Conventions**: waveforms are mono float32 in [-1, 1]; mel bands run from low to high; the result is in dB, normalised
by two constants.

**Source**: the front end of MuQ (Zhu et al. 2025, arXiv:2501.01108), written from its published settings.
"""

import math

import torch
from torch import Tensor, nn

SHORTEST = 1025
"""Samples: reflect padding of 1024 on each side needs one more than that."""

MUSIC_MEAN = 6.768444971712967
MUSIC_STD = 18.417922652295623
"""In dB: mean and standard deviation over the music that MuQ was trained on."""

FLOOR = 1e-10


def hertz_to_mel(hertz: float) -> float:
    """Return `hertz` on the HTK mel scale."""
    return 2595.0 * math.log10(1.0 + hertz / 700.0)


def mel_filters(sample_rate: int, n_fft: int, n_mels: int, f_max: float) -> Tensor:
    """Return triangles of height 1 (no area normalisation), equally spaced on the HTK mel scale from 0 to `f_max`.

    Computed in float32, as where the recorded numbers come from: in float64 a quiet band differs by 1e-3 dB.

    Shape:
        `[mels, bins]`, where bins = n_fft // 2 + 1.
    """
    bins = torch.linspace(0, sample_rate // 2, n_fft // 2 + 1)
    mels = torch.linspace(0, hertz_to_mel(f_max), n_mels + 2)
    corners = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    return torch.minimum(rising, falling).clamp(min=0.0)


class LogMel(nn.Module):
    """Waveform to normalised log-mel spectrogram.

    Centred frames with reflect padding and a periodic Hann window, power spectrum, mel bands, dB with a floor of -100
    and no other limit. The last frame is dropped, so there are `time // hop` frames. It has no weights: nothing of it
    is in a state dict.

    Attributes:
        product_dtype: of the product with the mel bands; half precision there moves quiet bands by up to 0.03 dB.

    Args:
        sample_rate: in Hz.
        n_fft: length of window and FFT, in samples.
        hop: samples between frames.
        n_mels: number of bands.
        f_max: upper end of the highest band, in Hz.
        mean: in dB, becomes 0.
        std: in dB, becomes 1.

    Shape:
        `[batch, time]` -> `[batch, mels, frames]`; time is at least n_fft // 2 + 1.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        sample_rate: int = 24000,
        n_fft: int = 2048,
        hop: int = 240,
        n_mels: int = 128,
        f_max: float = 12000.0,
        mean: float = MUSIC_MEAN,
        std: float = MUSIC_STD,
    ) -> None:
        super().__init__()
        self.n_fft, self.hop, self.mean, self.std = n_fft, hop, mean, std
        self.product_dtype = torch.float32
        # a model that is built on the meta device, to take its weights from a file, would find no constants there
        with torch.device("cpu"):
            self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
            self.register_buffer("filters", mel_filters(sample_rate, n_fft, n_mels, f_max), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Shape: `[batch, time]` -> `[batch, mels, frames]`."""
        spectrum = torch.stft(
            waveform, self.n_fft, self.hop, window=self.window, center=True, pad_mode="reflect", return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()
        with torch.autocast(waveform.device.type, enabled=False):
            bands = self.filters.to(self.product_dtype) @ power[..., :-1].to(self.product_dtype)
        decibels = 10.0 * torch.log10(torch.clamp(bands.float(), min=FLOOR))
        return (decibels - self.mean) / self.std
