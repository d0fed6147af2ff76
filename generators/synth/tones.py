"""The two ways every note of `synth` is made: damped sines, and a looped wave read along a bent time.

A plucked or struck thing is a sum of damped sines: the poles of the Karplus-Strong loop, or the modes of a bar.
`damped_sines` sums them exactly, at any frequency, as one matrix product. A blown, bowed or sung tone repeats one
period: `looped_wave` reads it from a table along a time that vibrato has bent, morphing from a soft to a bright wave.

Conventions:
    Sounds are float32 `[time]`, mono, at `SAMPLE_RATE`. Frequencies are in Hz, times in seconds, pitches in MIDI
    numbers (69 is 440 Hz, fractions allowed). Cached arrays are read-only.

Source:
    Plucked strings: Karplus and Strong 1983; Jaffe and Smith 1983 (the losses and the pluck position as filters).
    Loudness weighting: the two filters of K-weighting, ITU-R BS.1770-4, as one smooth formula.
"""

from functools import lru_cache
from typing import TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft

Sound: TypeAlias = NDArray[np.float32]
Numbers: TypeAlias = NDArray[np.float64]
Spectrum: TypeAlias = NDArray[np.complex128]
Wave: TypeAlias = NDArray[np.complex64]

SAMPLE_RATE = 32_000
LEVEL = 0.1  # loudness of a note at velocity 0.8: K-weighted RMS of its first 0.4 s
TABLE = 16_384
HIGHEST = 15_000.0  # no partial lies above this, in Hz
_COLUMNS = 128
_ONE_THREAD = 1 << 18  # multiplications below which OpenBLAS stays in its caller's thread
_HOP = 32
_NOISE = 1 << 18


def frequency_of(pitch: float) -> float:
    """Return the frequency in Hz of a MIDI pitch."""
    return float(440.0 * 2.0 ** ((pitch - 69.0) / 12.0))


def samples_of(seconds: float) -> int:
    """Return how many samples last `seconds`."""
    return round(seconds * SAMPLE_RATE)


def seed_of(*parts: object) -> int:
    """Return a number that depends on `parts` only, the same on every machine."""
    return crc32(repr(parts).encode())


def damped_sines(
    frequencies: Numbers, amplitudes: Spectrum | Numbers, decays: Numbers, samples: int, rate: int = SAMPLE_RATE
) -> Sound:
    """Sum damped sines, exactly, as a product of two small matrices.

    The product is taken in slices, each too small for BLAS to wake other threads: on a busy machine, waiting for
    those costs a hundred times what they save.

    Args:
        frequencies: of each partial, in Hz, below half of `rate`.
        amplitudes: of each partial at time 0; the angle of a complex one is its phase (0: a sine).
        decays: time constant of each partial, in seconds.
        samples: length of the result.
        rate: sampling rate in Hz.

    Shape:
        three times `[partials]` -> `[samples]`

    >>> damped_sines(np.array([8000.0]), np.array([1.0]), np.array([1e9]), 5).round(3).tolist()
    [0.0, 1.0, 0.0, -1.0, -0.0]
    """
    step = np.exp((2j * np.pi * frequencies - 1.0 / decays) / rate)
    slices = max(1, _ONE_THREAD // (_COLUMNS * 2 * frequencies.size))
    rows = -(-samples // (_COLUMNS * slices)) * slices
    fast = _powers(step, _COLUMNS)
    slow = _powers(fast[-1] * step, rows) * (-1j * amplitudes)
    slow[np.abs(slow) < 1e-9] = 0.0
    left = np.concatenate([slow.real, -slow.imag], axis=1).astype(np.float32)
    right = np.concatenate([fast.real, fast.imag], axis=1).astype(np.float32)
    sound: Sound = np.matmul(left.reshape(-1, slices, left.shape[1]), right.T).reshape(-1)[:samples]
    return sound


def _powers(base: Spectrum, count: int) -> Spectrum:
    """Return `base` to the powers 0..count-1, `[count, partials]`, by doubling."""
    powers = np.empty((count, base.size), np.complex128)
    powers[0] = 1.0
    filled, factor = 1, base
    while filled < count:
        more = min(filled, count - filled)
        np.multiply(powers[:more], factor, out=powers[filled : filled + more])
        filled, factor = filled + more, factor * factor
    return powers


def loudness(frequencies: Numbers, amplitudes: Numbers, decays: Numbers | float = 1e9, seconds: float = 0.4) -> float:
    """Return the K-weighted RMS of the first `seconds` of a sum of damped sines."""
    squares = frequencies**2
    weight = squares / (squares + 50.0**2) * (1.0 + 0.58 * squares / (squares + 1500.0**2))
    span = 2.0 * seconds / np.asarray(decays)
    power = 0.5 * (weight * amplitudes) ** 2 * -np.expm1(-span) / span
    return float(np.sqrt(power.sum())) + 1e-9


def resonances(frequencies: Numbers, bodies: tuple[tuple[float, float, float], ...], floor: float = 1.0) -> Spectrum:
    """Return the response of a body: `floor` plus one resonance per (centre Hz, bandwidth Hz, gain at the centre)."""
    response = np.full(frequencies.shape, floor, np.complex128)
    for centre, width, gain in bodies:
        response += gain * width * 1j * frequencies / (centre**2 - frequencies**2 + width * 1j * frequencies)
    return response


def tabulate(soft: Spectrum, bright: Spectrum) -> Wave:
    """Turn the harmonics of a soft and a bright wave, each `[harmonics]` from the first on, into one table.

    Returns:
        Complex `[TABLE]`: the soft wave is real, what the bright one adds is imaginary.
    """
    spectrum = np.zeros((2, TABLE // 2 + 1), np.complex128)
    spectrum[0, 1 : soft.size + 1] = -0.5j * TABLE * soft
    spectrum[1, 1 : bright.size + 1] = -0.5j * TABLE * (bright - soft)
    waves = np.fft.irfft(spectrum)
    table: Wave = (waves[0] + 1j * waves[1]).astype(np.complex64)
    table.flags.writeable = False
    return table


def looped_wave(table: Wave, frequency: float, times: Numbers, phase: float = 0.0) -> Wave:
    """Read a table at `times`, in seconds, from a phase in turns on; real and imaginary part as in `tabulate`."""
    index = (times * (frequency * TABLE)).astype(np.intp)
    if phase:
        index += round(phase * TABLE)
    index &= TABLE - 1
    wave: Wave = table.take(index)
    return wave


@lru_cache(maxsize=256)
def _bent(seconds: int, rate: float, cents: float, delay: float, drift: float, variant: int) -> Numbers:
    time = np.arange(seconds * SAMPLE_RATE // _HOP + 1) * (_HOP / SAMPLE_RATE)
    random = np.random.default_rng(variant)
    rising = np.clip((time - delay) / 0.35, 0.0, 1.0)
    angle = 2.0 * np.pi * rate * (1.0 + random.uniform(-0.04, 0.04)) * time + random.uniform(0.0, 2.0 * np.pi)
    bend = cents * rising * np.sin(angle)
    for slow in (0.7, 1.3, 2.9):
        bend += drift * np.sin(2.0 * np.pi * slow * random.uniform(0.8, 1.2) * time + random.uniform(0.0, 2.0 * np.pi))
    speed = np.exp2(bend / 1200.0) / SAMPLE_RATE
    lines = speed[:-1, None] + np.diff(speed)[:, None] * (np.arange(_HOP) / _HOP)
    times: Numbers = np.cumsum(lines.reshape(-1))
    times.flags.writeable = False
    return times


def bent_time(
    samples: int, rate: float, cents: float, delay: float = 0.2, drift: float = 0.0, variant: int = 0
) -> Numbers:
    """Return times in seconds, `[samples]`, that run faster and slower as vibrato and drift bend the pitch.

    Args:
        samples: how many.
        rate: of the vibrato, in Hz.
        cents: depth of the vibrato, each way.
        delay: seconds until the vibrato begins.
        drift: depth of a slow wander, in cents.
        variant: players of an ensemble differ by this number.
    """
    seconds = 2
    while seconds * SAMPLE_RATE < samples:
        seconds *= 2
    return _bent(seconds, rate, cents, delay, drift, variant)[:samples]


@lru_cache(maxsize=1)
def _white() -> Wave:
    return np.asarray(rfft(np.random.default_rng(1).standard_normal(_NOISE, np.float32)))


@lru_cache(maxsize=256)
def noise_band(low: float, high: float) -> Sound:
    """Return about 8 s of noise of RMS 1 between two frequencies in Hz, with soft edges; end and start join."""
    frequencies = np.fft.rfftfreq(_NOISE, 1.0 / SAMPLE_RATE).astype(np.float32)
    ratio = (frequencies / np.float32(low)) ** 2
    band: Sound = irfft(_white() * (ratio / (1.0 + ratio) / (1.0 + (frequencies / np.float32(high)) ** 4)), _NOISE)
    band /= band.std()
    band.flags.writeable = False
    return band


def noise(samples: int, low: float, high: float, seed: int) -> Sound:
    """Return a stretch of band noise of RMS 1, `[samples]`; `seed` chooses which."""
    band = noise_band(low, high)
    start = seed * 7919 % _NOISE
    if start + samples <= _NOISE:
        return band[start : start + samples]
    return np.resize(np.roll(band, -start), samples)


@lru_cache(maxsize=1024)
def ramp(samples: int) -> Sound:
    """Return a raised-cosine rise from 0 up to almost 1, `[samples]`."""
    rise = (0.5 - 0.5 * np.cos(np.pi * np.arange(samples) / max(samples, 1))).astype(np.float32)
    rise.flags.writeable = False
    return rise


def shape(sound: Sound, attack: float, release: float) -> Sound:
    """Fade the two ends of a sound in place, in seconds, so that it starts and ends at exactly zero."""
    rising = min(samples_of(attack), sound.size)
    falling = min(samples_of(release), sound.size)
    sound[:rising] *= ramp(rising)
    if falling:
        sound[-falling:] *= ramp(falling)[::-1]
    sound[:1] = 0.0
    sound[-1:] = 0.0
    return sound
