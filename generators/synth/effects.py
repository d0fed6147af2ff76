"""Mixing: panning, rooms, tone, dynamics, loudness and the charm of bad tape.

Conventions:
    Stereo is float32 `[2, time]` at 32 kHz, in [-1, 1] when it is done. Nothing is changed in place; every function
    is pure and the same for the same arguments. Frequencies are in Hz, levels in dB, times in seconds.

Source:
    Shelves: R. Bristow-Johnson, Audio EQ Cookbook. Loudness: ITU-R BS.1770-4, with the gates left out but one.
"""

from typing import Literal

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.ndimage import minimum_filter1d, uniform_filter1d
from scipy.signal import butter, sosfilt

from rerank.generators.synth.tones import SAMPLE_RATE, Numbers, Sound, noise, ramp, samples_of, seed_of

_HOP = 64


def pan(mono: Sound, position: float) -> Sound:
    """Place a mono sound between left (-1) and right (1) with equal power: `[time]` -> `[2, time]`."""
    if not -1.0 <= position <= 1.0:
        raise ValueError(f"position must be from -1 (left) to 1 (right), got {position}")
    angle = (position + 1.0) * np.pi / 4.0
    gains = np.array([[np.cos(angle)], [np.sin(angle)]], np.float32)
    return gains * mono


def _room(seconds: float, seed: int) -> Sound:
    """Return the response of a room, `[2, time]`: 12 ms of silence, then noise that decays, the highs faster."""
    samples = samples_of(seconds)
    time = np.arange(samples, dtype=np.float32) / SAMPLE_RATE
    response = np.zeros((2, samples), np.float32)
    for low, high, share in ((120.0, 900.0, 1.0), (900.0, 3500.0, 0.8), (3500.0, 9000.0, 0.4)):
        height = (1.0, 0.75, 0.35)[(120.0, 900.0, 3500.0).index(low)]
        envelope = np.exp(-6.9 * time / (seconds * share)) * height
        for channel in (0, 1):
            response[channel] += noise(samples, low, high, seed_of(seed, channel, low)) * envelope
    rising = min(samples_of(0.015), samples)
    falling = min(samples_of(0.1 * seconds), samples)
    response[:, :rising] *= ramp(rising)
    response[:, -falling:] *= ramp(falling)[::-1]
    response /= np.sqrt((response**2).sum(axis=1, keepdims=True))
    response = np.concatenate([np.zeros((2, samples_of(0.012)), np.float32), response], axis=1)
    return response


def reverb(stereo: Sound, seconds: float, amount: float, seed: int = 0) -> Sound:
    """Add the sound of a room; its tail is cut where the sound ends.

    Args:
        stereo: the dry sound.
        seconds: until the room has fallen by 60 dB, 0.1..10.
        amount: level of the room relative to the dry sound, 0..1.
        seed: chooses the room.

    Shape:
        `[2, time]` -> `[2, time]`
    """
    if not 0.1 <= seconds <= 10.0 or not 0.0 <= amount <= 1.0:
        raise ValueError(f"expected seconds of 0.1..10 and an amount of 0..1, got {seconds} and {amount}")
    if amount == 0.0:
        return stereo.copy()
    response = _room(seconds, seed)
    size = next_fast_len(stereo.shape[1] + response.shape[1], real=True)
    spectrum = rfft(stereo, size, axis=1)
    spectrum *= rfft(response, size, axis=1)
    wet: Sound = irfft(spectrum, size, axis=1)[:, : stereo.shape[1]]
    wet *= np.float32(amount)
    wet += stereo
    return wet


def shelf(stereo: Sound, frequency: float, gain_db: float, kind: Literal["low", "high"]) -> Sound:
    """Raise or lower everything below (low) or above (high) a frequency by `gain_db`."""
    if kind not in ("low", "high"):
        raise ValueError(f"kind must be 'low' or 'high', got {kind!r}")
    gain = 10.0 ** (gain_db / 40.0)
    angle = 2.0 * np.pi * frequency / SAMPLE_RATE
    sign = 1.0 if kind == "low" else -1.0
    cosine, slope = sign * np.cos(angle), np.sin(angle) * np.sqrt(2.0 * gain)
    numerator = gain * np.array(
        [
            gain + 1.0 - (gain - 1.0) * cosine + slope,
            sign * 2.0 * (gain - 1.0 - (gain + 1.0) * cosine),
            gain + 1.0 - (gain - 1.0) * cosine - slope,
        ]
    )
    denominator = np.array(
        [
            gain + 1.0 + (gain - 1.0) * cosine + slope,
            sign * -2.0 * (gain - 1.0 + (gain + 1.0) * cosine),
            gain + 1.0 + (gain - 1.0) * cosine - slope,
        ]
    )
    filtered = sosfilt(np.concatenate([numerator, denominator])[None] / denominator[0], stereo)
    return np.asarray(filtered, np.float32)


def lowpass(stereo: Sound, frequency: float, order: int = 2) -> Sound:
    """Keep what lies below a frequency (Butterworth)."""
    return _butterworth(stereo, frequency, order, "lowpass")


def highpass(stereo: Sound, frequency: float, order: int = 2) -> Sound:
    """Keep what lies above a frequency (Butterworth)."""
    return _butterworth(stereo, frequency, order, "highpass")


def _butterworth(stereo: Sound, frequency: float, order: int, kind: str) -> Sound:
    if not 0.0 < frequency < SAMPLE_RATE / 2:
        raise ValueError(f"frequency must lie between 0 and {SAMPLE_RATE // 2} Hz, got {frequency}")
    filtered = sosfilt(butter(order, frequency, kind, fs=SAMPLE_RATE, output="sos"), stereo)
    return np.asarray(filtered, np.float32)


def _peaks(stereo: Sound) -> Sound:
    """Return the greatest magnitude of each hop of 64 samples over both channels, `[hops]`."""
    hops = -(-stereo.shape[1] // _HOP)
    both = np.zeros(hops * _HOP, np.float32)
    np.maximum(np.abs(stereo[0]), np.abs(stereo[1]), out=both[: stereo.shape[1]])
    peaks: Sound = both.reshape(hops, _HOP).max(axis=1)
    return peaks


def _spread(nodes: Numbers, samples: int) -> Sound:
    """Return gains between nodes at the edges of the hops, `[hops + 1]` -> `[samples]`, along straight lines."""
    steps = np.arange(_HOP, dtype=np.float32) / _HOP
    coarse = nodes.astype(np.float32)
    gains = (coarse[:-1, None] + np.diff(coarse)[:, None] * steps).reshape(-1)[:samples]
    return np.asarray(gains, np.float32)


def _recover(gains: Numbers, seconds: float) -> Numbers:
    """Let gains fall at once and rise slowly: time constant in seconds; `[hops]` -> `[hops]`."""
    share = 1.0 - float(np.exp(-_HOP / (seconds * SAMPLE_RATE)))
    slow = []
    last = 1.0
    for gain in gains.tolist():
        last = min(gain, last + share * (1.0 - last))
        slow.append(last)
    return np.array(slow)


def compress(stereo: Sound, threshold_db: float, ratio: float) -> Sound:
    """Turn down what is above a threshold: `ratio` dB more going in come out as 1 dB more; 5 ms, 120 ms."""
    if ratio < 1.0:
        raise ValueError(f"ratio must be at least 1, got {ratio}")
    if not stereo.size:
        return stereo.copy()
    levels = 20.0 * np.log10(np.maximum(_peaks(stereo), 1e-6)).astype(np.float64)
    gains = 10.0 ** (np.minimum(0.0, (threshold_db - levels) * (1.0 - 1.0 / ratio)) / 20.0)
    smooth = uniform_filter1d(_recover(gains, 0.12), 5, mode="nearest")
    return stereo * _spread(np.append(smooth, smooth[-1]), stereo.shape[1])


def limit(stereo: Sound, ceiling: float = 0.95) -> Sound:
    """Keep every sample within `ceiling` by turning down ahead of peaks (10 ms) and up again after them (80 ms)."""
    if not stereo.size:
        return stereo.copy()
    peaks = _peaks(stereo)
    if float(peaks.max()) <= ceiling:
        return stereo.copy()
    needed = np.minimum(1.0, 0.9999 * ceiling / np.maximum(peaks, 1e-9)).astype(np.float64)
    nodes = np.minimum(np.append(needed, needed[-1]), np.append(needed[:1], needed))
    ahead: Numbers = minimum_filter1d(nodes, 5, mode="nearest")
    smooth = uniform_filter1d(_recover(ahead, 0.08), 5, mode="nearest")
    return stereo * _spread(smooth, stereo.shape[1])


def normalise_loudness(stereo: Sound, target_db: float = -16.0) -> Sound:
    """Bring a piece to a loudness: K-weighted power of both channels, blocks of 0.4 s, the quiet ones left out.

    Args:
        stereo: the piece; silence is returned as it is.
        target_db: loudness to reach, close to LUFS. Peaks may pass 1 then: `limit` comes after.

    Shape:
        `[2, time]` -> `[2, time]`
    """
    block = samples_of(0.4)
    weighted = shelf(highpass(stereo, 38.0), 1500.0, 4.0, "high")
    power = np.einsum("ct,ct->t", weighted, weighted)
    blocks = -(-power.size // block)
    padded = np.pad(power, (0, blocks * block - power.size)).reshape(blocks, block).sum(axis=1) / block
    if not blocks or padded.max() < 1e-10:
        return stereo.copy()
    heard = padded[padded > 1e-7] if padded.max() > 1e-7 else padded
    heard = heard[heard >= 0.1 * heard.mean()]
    gain = np.sqrt(10.0 ** ((target_db + 0.691) / 10.0) / heard.mean())
    return stereo * np.float32(gain)


def fade(stereo: Sound, fade_in: float, fade_out: float) -> Sound:
    """Fade both ends along a raised cosine, in seconds."""
    faded = stereo.copy()
    rising = min(samples_of(fade_in), stereo.shape[1])
    falling = min(samples_of(fade_out), stereo.shape[1])
    faded[:, :rising] *= ramp(rising)
    if falling:
        faded[:, -falling:] *= ramp(falling)[::-1]
    return faded


def tape_lofi(stereo: Sound, amount: float, seed: int) -> Sound:
    """Give a piece the sound of an old tape: narrower band, a little hiss, crackle and wow; mild and musical.

    Args:
        stereo: the piece.
        amount: 0 (as it is) .. 1 (a worn cassette).
        seed: chooses hiss, crackle and wow.

    Shape:
        `[2, time]` -> `[2, time]`
    """
    if not 0.0 <= amount <= 1.0:
        raise ValueError(f"amount must be from 0 to 1, got {amount}")
    samples = stereo.shape[1]
    if amount == 0.0 or not samples:
        return stereo.copy()
    random = np.random.default_rng(seed)
    time = np.arange(samples) / SAMPLE_RATE
    depth = 0.0006 * amount * SAMPLE_RATE  # in samples; at 0.6 Hz about 4 cents each way
    angles = random.uniform(0.0, 2.0 * np.pi, 2)
    places = np.arange(samples) + depth * np.sin(2.0 * np.pi * 0.6 * time + angles[0])
    places += 0.04 * depth * np.sin(2.0 * np.pi * 7.0 * time + angles[1])
    worn = np.empty_like(stereo)
    for channel in (0, 1):
        worn[channel] = np.interp(places, np.arange(samples), stereo[channel])
    worn = np.tanh(worn * np.float32(1.0 + 0.4 * amount)) / np.float32(1.0 + 0.2 * amount)
    worn = highpass(lowpass(worn, 12_000.0 * (1.0 - amount) + 4500.0 * amount), 30.0 + 130.0 * amount, 1)
    hiss = np.stack([noise(samples, 1500.0, 9000.0, seed_of(seed, channel)) for channel in (0, 1)])
    crackle = np.zeros(samples, np.float32)
    pops = random.integers(0, samples, int(12.0 * amount * samples / SAMPLE_RATE))
    crackle[pops] = random.choice([-1.0, 1.0], pops.size) * random.uniform(0.01, 0.1, pops.size)
    crackle = lowpass(crackle, 5000.0, 1)
    return np.asarray(worn + np.float32(0.0025 * amount) * hiss + np.float32(amount) * crackle, np.float32)
