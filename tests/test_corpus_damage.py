"""Damages keep the length, are reproducible, and can be heard."""

import numpy as np
import pytest

from rerank.corpus.damage import DAMAGES, mix_with
from rerank.corpus.held_out_damage import HELD_OUT_DAMAGES
from rerank.corpus.waveforms import Damage, Mono

SAMPLE_RATE = 24000


def music(seconds: float = 4.0) -> Mono:
    """Plucked chords with a noisy beat, so that every damage has something to damage."""
    rng, time = np.random.default_rng(0), np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = [
        np.sin(2 * np.pi * hertz * 2 ** ((time // 1) * 2 / 12) * time) * np.exp(-3 * ((time * 2 + shift) % 1))
        for shift, hertz in enumerate((110, 165, 220, 277, 330, 440, 1320, 2640))
    ]
    beat = rng.standard_normal(len(time)) * np.exp(-40 * ((time * 4) % 1))
    return (0.05 * sum(tones) + 0.05 * beat).astype(np.float32)


def everything() -> dict[str, Damage]:
    return {**DAMAGES, **HELD_OUT_DAMAGES, "mix": mix_with(music()[::-1].copy())}


def change(damaged: Mono, clean: Mono) -> float:
    """Distance of the magnitude spectrograms, relative to the clean one: 0 is none, 1 is as large as the music."""
    one, other = (
        np.abs(np.fft.rfft(x[: len(x) // 512 * 512].reshape(-1, 512) * np.hanning(512))) for x in (damaged, clean)
    )
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def test_held_out_damages_are_others() -> None:
    assert len(DAMAGES) >= 15 and len(HELD_OUT_DAMAGES) >= 6
    assert not set(DAMAGES) & set(HELD_OUT_DAMAGES)
    assert not set(DAMAGES.values()) & set(HELD_OUT_DAMAGES.values())


@pytest.mark.parametrize("name", everything())
@pytest.mark.parametrize("severity", [0.0, 0.5, 1.0])
def test_shape_range_and_reproducibility(name: str, severity: float) -> None:
    damage, clean = everything()[name], music()
    before = clean.copy()
    damaged = damage(clean, SAMPLE_RATE, severity, np.random.default_rng(1))
    assert damaged.shape == clean.shape and damaged.dtype == np.float32
    assert bool(np.isfinite(damaged).all()) and float(np.abs(damaged).max()) <= 1.0
    assert np.array_equal(damage(clean, SAMPLE_RATE, severity, np.random.default_rng(1)), damaged)
    assert np.array_equal(clean, before), "the input was changed"


@pytest.mark.parametrize("name", everything())
def test_medium_severity_is_audible_and_more_than_mild(name: str) -> None:
    damage, clean = everything()[name], music()
    mild, medium = (
        np.mean([change(damage(clean, SAMPLE_RATE, severity, np.random.default_rng(i)), clean) for i in range(5)])
        for severity in (0.05, 0.5)
    )
    assert medium > 0.15
    # a piece in another order, or at another speed, is as far from the clean one as it can be
    assert medium > mild or (name in {"cuts", "speed up"} and medium > 0.8)


@pytest.mark.parametrize("name", everything())
@pytest.mark.parametrize("length", [1, 2, 100, 1025])
def test_short_and_silent_audio(name: str, length: int) -> None:
    for clean in (music()[:length], np.zeros(length, np.float32)):
        for severity in (0.0, 0.5, 1.0):
            damaged = everything()[name](clean, SAMPLE_RATE, severity, np.random.default_rng(0))
            assert damaged.shape == clean.shape and bool(np.isfinite(damaged).all())


def test_other_sample_rates() -> None:
    for name, damage in everything().items():
        for sample_rate in (8000, 48000):
            damaged = damage(music(), sample_rate, 0.5, np.random.default_rng(0))
            assert damaged.shape == music().shape and bool(np.isfinite(damaged).all()), name


def test_filters_take_away_their_band() -> None:
    clean, hertz = music(), np.fft.rfftfreq(len(music()), 1 / SAMPLE_RATE)

    def share_above_2500(waveform: Mono) -> float:
        power = np.abs(np.fft.rfft(waveform)) ** 2
        return float(power[hertz > 2500].sum() / power.sum())

    low, high = (DAMAGES[name](clean, SAMPLE_RATE, 0.5, np.random.default_rng(0)) for name in ("low pass", "high pass"))
    assert share_above_2500(low) < 0.2 * share_above_2500(clean) < share_above_2500(clean) < share_above_2500(high)


def test_mix_takes_pieces_of_any_length() -> None:
    for other in (music(0.3), music(9.0), np.ones(1, np.float32)):
        assert mix_with(other)(music(), SAMPLE_RATE, 0.5, np.random.default_rng(0)).shape == music().shape


def test_silence_mutes_half() -> None:
    damaged = DAMAGES["silence"](np.ones(1000, np.float32), SAMPLE_RATE, 0.5, np.random.default_rng(0))
    assert np.count_nonzero(damaged == 0) == 500
