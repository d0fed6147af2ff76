"""`FrontEnd`: which samples a tower gets."""

from typing import Any

import numpy as np
import pytest

from rerank.audio import Audio, resample
from rerank.errors import InvalidInput
from rerank.models.mel import SHORTEST
from rerank.rewards.front_end import FrontEnd

CHUNKS = FrontEnd(duration=10.0, shortest=SHORTEST)
CLIPS = FrontEnd(duration=10.0, shortest=SHORTEST, rest="completed")


def ramp(samples: int, sample_rate: int = 24_000) -> Audio:
    return Audio(np.linspace(0, 1, samples, dtype=np.float32)[None], sample_rate)


@pytest.mark.parametrize(
    ("samples", "lengths"),
    [
        (240_000, [240_000]),
        (240_000 + 1024, [240_000]),
        (480_000 + 1025, [240_000, 240_000, 1025]),
        (1, [1025]),
        (1025, [1025]),
    ],
)
def test_chunks_end_with_a_shorter_one(samples: int, lengths: list[int]) -> None:
    audio = ramp(samples)
    windows = CHUNKS(audio)
    assert [len(window) for window in windows] == lengths
    heard = np.concatenate(windows)
    kept = min(samples, len(heard))
    assert np.array_equal(heard[:kept], audio.waveform[0, :kept]) and not heard[kept:].any()


@pytest.mark.parametrize("samples", [10, 24_000, 130_000, 240_000, 600_000])
def test_clips_are_completed_from_the_start(samples: int) -> None:
    audio = ramp(samples)
    windows = CLIPS(audio)
    wave = audio.waveform[0]
    assert [len(window) for window in windows[:-1]] == [240_000] * ((samples - 1) // 240_000)
    missing = -samples % 240_000
    expected = np.concatenate([wave, wave[:missing]])
    found = np.concatenate(windows)
    assert len(found) == max(len(expected), SHORTEST)
    assert np.array_equal(found[: len(expected)], expected) and not found[len(expected) :].any()


@pytest.mark.parametrize("samples", [5, 1025, 700_000])
def test_without_a_duration_all_is_one_window(samples: int) -> None:
    (window,) = FrontEnd(shortest=SHORTEST)(ramp(samples))
    assert len(window) == max(samples, SHORTEST)


@pytest.mark.parametrize("resampler", ["soxr", "sinc"])
def test_a_cut_does_not_change_what_is_kept(resampler: Any, caplog: pytest.LogCaptureFixture) -> None:
    noise = np.random.default_rng(0).standard_normal((2, 5 * 44_100), dtype=np.float32) * 0.1
    whole = FrontEnd(resampler=resampler).mono(Audio(noise, 44_100))
    front_end = FrontEnd(resampler=resampler, max_duration=2.0)
    (cut,) = front_end(Audio(noise, 44_100))
    assert len(cut) == 48_000 and np.abs(cut - whole[:48_000]).max() < 1e-6
    assert caplog.messages == ["audio of 5.0 s is cut: its first 2 s are heard"]
    rate = FrontEnd(sample_rate=16_000).mono(Audio(noise, 44_100))
    assert np.array_equal(rate, resample(Audio(noise.mean(0, keepdims=True), 44_100), 16_000).waveform[0])


def test_the_first_windows_are_no_cut_worth_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    audio = ramp(35 * 24_000)
    first = FrontEnd(duration=10.0, first=1, max_duration=30.0)
    (window,) = first(audio)
    assert np.array_equal(window, audio.waveform[0, :240_000]) and not caplog.messages
    (window,) = FrontEnd(duration=10.0, first=1, max_duration=5.0)(audio)
    assert len(window) == 120_000 and "its first 5 s are heard" in caplog.text


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_duration": 0}, "max_duration must be a positive number of seconds, got 0"),
        ({"resampler": "linear"}, "unknown resampler 'linear'; use one of: soxr, sinc"),
    ],
)
def test_options_are_checked(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        FrontEnd(**options)
