"""What a take looks like: its waveform as a path of SVG, its mel spectrogram as a small WebP image.

**Conventions**: levels in dB, where a sine at full scale has 0; mel bands (HTK) from low to high. All takes of a page are
drawn to one scale, so that the quieter one looks quieter.
"""

import base64
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rerank.audio import Audio

WAVE_COLUMNS, MEL_COLUMNS, BANDS = 400, 800, 112
RANGE = 70.0
"""In dB: what is so far below the loudest cell of the page, or further, has the colour of silence."""

LOWEST, HIGHEST = 30.0, 16_000.0
"""In Hz: between which the mel bands lie; up to half of the sample rate where that is less."""

_WINDOW = 0.04  # s
_WINDOWS = 16  # at most for one column: an hour takes no longer than ten minutes
_AT_ONCE = 512  # windows, so that memory stays flat
_FLOOR, _STEP = -120.0, 0.5  # dB: of the levels that are kept
_HALF = 100  # units from the middle of a waveform to full height
_COLOURS = ((0.0, "f6f1e7"), (0.25, "efce9d"), (0.5, "dd8550"), (0.75, "9d2f49"), (1.0, "26102f"))
"""Share of the range -> colour: lightness falls evenly, so that it can be turned round for a dark page."""


@dataclass(frozen=True)
class Drawing:
    """What is measured of a take, not yet drawn to the scale of a page.

    Attributes:
        lows, highs: the lowest and the highest sample of each column, over all channels; at most 400 columns.
        levels: `[bands, columns]`, of each mel band, in steps of 0.5 dB from -120 dB on; at most 800 columns.
    """

    lows: NDArray[np.float32]
    highs: NDArray[np.float32]
    levels: NDArray[np.uint8]

    @property
    def peak(self) -> float:
        """The highest absolute sample."""
        return float(max(-self.lows.min(), self.highs.max(), 0.0))


def drawing_of(audio: Audio) -> Drawing:
    """Measure what a picture of the audio shows.

    Args:
        audio: at least one sample, all of them finite.
    """
    waveform = audio.waveform
    edges = _edges(audio.frames, WAVE_COLUMNS)
    return Drawing(
        lows=np.minimum.reduceat(waveform.min(axis=0), edges),
        highs=np.maximum.reduceat(waveform.max(axis=0), edges),
        levels=_levels(waveform, audio.sample_rate),
    )


def scale_of(drawings: Sequence[Drawing]) -> tuple[float, float]:
    """Return the peak that has full height on a page with these, and the level that has the darkest colour."""
    peak = max((one.peak for one in drawings), default=0.0)
    loudest = max((int(one.levels.max()) for one in drawings), default=0) * _STEP + _FLOOR
    return peak or 1.0, loudest


def waveform_path(drawing: Drawing, peak: float) -> str:
    """Return the data of a path in a box as wide as there are columns and 200 high, where `peak` has full height."""
    tops = np.rint(_HALF - drawing.highs / peak * _HALF).astype(int)
    bottoms = np.rint(_HALF - drawing.lows / peak * _HALF).astype(int)
    there = " ".join(f"1 {step}" for step in np.diff(tops))
    back = " ".join(f"-1 {step}" for step in np.diff(bottoms[::-1]))
    return f"M0 {tops[0]}l{there or '1 0'}V{bottoms[-1]}l{back or '-1 0'}z"


def spectrogram(drawing: Drawing, loudest: float) -> str:
    """Return a mel spectrogram as the data: address of an image, low bands at the bottom."""
    from PIL import Image

    levels = drawing.levels.astype(np.float32) * _STEP + _FLOOR
    shares = ((levels - loudest) / RANGE + 1).clip(0, 1)
    pixels = _palette()[np.rint(shares[::-1] * 255).astype(np.uint8)]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=70, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def _palette() -> NDArray[np.uint8]:
    places = [place for place, _ in _COLOURS]
    colours = np.array([list(bytes.fromhex(colour)) for _, colour in _COLOURS])
    steps = np.linspace(0, 1, 256)
    return np.stack([np.interp(steps, places, channel) for channel in colours.T], axis=1).round().astype(np.uint8)


def _edges(count: int, columns: int) -> NDArray[np.int64]:
    """Return where each column begins; there are no more columns than there is to put into them."""
    columns = min(columns, count)
    return np.arange(columns, dtype=np.int64) * count // columns


def _levels(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.uint8]:
    """Return `Drawing.levels`: powers are averaged over channels and windows, so that none cancels another."""
    size = 2 ** math.ceil(math.log2(_WINDOW * sample_rate))
    frames = waveform.shape[1]
    hop = max(1, min(size // 2, frames // MEL_COLUMNS), frames // (MEL_COLUMNS * _WINDOWS))
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    bands = _bands(sample_rate, size)
    each = [np.concatenate(list(_powers(channel, hop, window, bands))) for channel in waveform]
    power: NDArray[np.float64] = np.stack(each).mean(axis=0, dtype=np.float64)
    edges = _edges(len(power), MEL_COLUMNS)
    mean = np.add.reduceat(power, edges, axis=0) / np.diff(np.append(edges, len(power)))[:, None]
    decibels = 10 * np.log10(mean.T / (window.sum() / 2) ** 2 + 1e-30)
    steps: NDArray[np.float64] = np.rint((decibels - _FLOOR) / _STEP).clip(0, 255)
    return steps.astype(np.uint8)


def _powers(
    channel: NDArray[np.float32], hop: int, window: NDArray[np.float32], bands: NDArray[np.float32]
) -> Iterator[NDArray[np.float32]]:
    half = len(window) // 2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(channel, (half, half)), len(window))[::hop]
    for start in range(0, len(windows), _AT_ONCE):
        spectrum = np.fft.rfft(windows[start : start + _AT_ONCE] * window)
        yield (spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ bands.T


def _bands(sample_rate: int, size: int) -> NDArray[np.float32]:
    """Return triangles of height 1, equally spaced on the mel scale, each over one bin at least: `[bands, bins]`.

    Of our own, since those of the libraries that are here take a second to import.
    """
    mels = np.linspace(_mel(LOWEST), _mel(min(HIGHEST, sample_rate / 2)), BANDS + 2)
    corners = 700 * (10 ** (mels / 2595) - 1)
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    hertz = np.fft.rfftfreq(size, 1 / sample_rate)
    triangles = np.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre)).clip(min=0)
    nearest = np.abs(hertz - centre).argmin(axis=1)
    triangles[np.arange(BANDS), nearest] = np.maximum(triangles[np.arange(BANDS), nearest], 1e-3)
    return triangles.astype(np.float32)


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)
