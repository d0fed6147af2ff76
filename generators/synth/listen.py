"""Measure tempo, key and brightness of a piece of audio, so that a candidate can follow a reference.

**Source**: tempo from the autocorrelation of the onset strength (Ellis 2007, "Beat Tracking by Dynamic Programming");
key by correlating the chroma with the profiles of Krumhansl and Kessler 1982; brightness is the spectral centroid.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from rerank.audio import Audio, resample
from rerank.generators.synth.words import Heard, Mode

_RATE = 16_000
_HOP = 320
_MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
_MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])


def listen(audio: Audio) -> Heard:
    """Return what `audio` sounds like; where there is nothing to hear it is 120 beats per minute, C major and 1 kHz.

    Shape:
        waveform: `[channels, time]`
    """
    mono = resample(audio, _RATE).waveform.mean(axis=0)
    if mono.size < 4096:
        mono = np.pad(mono, (0, 4096 - mono.size))
    _, _, spectrum = signal.stft(mono, _RATE, nperseg=2048, noverlap=2048 - _HOP, boundary=None, padded=False)
    magnitude = np.abs(spectrum).astype(np.float32)
    if float(magnitude.max()) < 1e-7:
        return Heard(tempo=120.0, key=0, mode="major", brightness=1000.0)
    key, mode = _key(mono)
    return Heard(tempo=_tempo(magnitude), key=key, mode=mode, brightness=brightness(audio))


def brightness(audio: Audio) -> float:
    """Return the spectral centroid in Hz of the mean spectrum (magnitude, 50 Hz to 12 kHz); 1 kHz for silence."""
    mono = audio.waveform.mean(axis=0)
    frequencies, spectrum = signal.welch(mono, audio.sample_rate, nperseg=min(4096, mono.size))
    kept = (frequencies >= 50) & (frequencies <= 12_000)
    magnitude = np.sqrt(spectrum[kept])
    total = float(np.sum(magnitude))
    return float(np.sum(frequencies[kept] * magnitude)) / total if total > 0 else 1000.0


def _tempo(magnitude: NDArray[np.float32]) -> float:
    onset = np.maximum(np.diff(np.log1p(100 * magnitude / magnitude.max()), axis=1), 0).sum(axis=0)
    onset = onset - onset.mean()
    frame_rate = _RATE / _HOP
    correlation = signal.correlate(onset, onset, method="fft")[onset.size - 1 :]
    tempos = np.arange(50.0, 200.0, 0.5)
    lags = 60.0 * frame_rate / tempos
    usable = 4 * lags < correlation.size
    if not usable.any():
        return 120.0
    combined = sum(np.interp(k * lags, np.arange(correlation.size), correlation) / k for k in (1, 2, 4))
    weight = np.exp(-0.5 * (np.log2(tempos / 115.0) / 0.9) ** 2)
    return float(tempos[int(np.argmax(np.where(usable, combined * weight, -np.inf)))])


def _key(mono: NDArray[np.float32]) -> tuple[int, Mode]:
    frequencies, power = signal.welch(mono, _RATE, nperseg=min(8192, mono.size))
    kept = (frequencies > 60) & (frequencies < 1500)
    pitch = 69 + 12 * np.log2(frequencies[kept] / 440.0)
    near = np.exp(-0.5 * ((pitch - np.round(pitch)) / 0.2) ** 2)  # bins between two notes say little
    chroma = np.bincount(
        np.round(pitch).astype(int) % 12, weights=power[kept] ** 0.25 * near / frequencies[kept], minlength=12
    )
    if not chroma.std() > 0:
        return 0, "major"
    fits: list[tuple[float, int, Mode]] = []
    for tonic in range(12):
        fits.append((float(np.corrcoef(np.roll(_MAJOR, tonic), chroma)[0, 1]), tonic, "major"))
        fits.append((float(np.corrcoef(np.roll(_MINOR, tonic), chroma)[0, 1]), tonic, "minor"))
    _, tonic, mode = max(fits)
    return tonic, mode
