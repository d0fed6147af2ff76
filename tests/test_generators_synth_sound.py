"""The sound engine of `synth`: in tune, without clicks, distinct, repeatable, and effects that keep their promises."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from rerank.generators.synth import effects, instruments
from rerank.generators.synth.drums import KITS, PIECES, hit
from rerank.generators.synth.instruments import INSTRUMENTS, SAMPLE_RATE, play, play_chord
from rerank.generators.synth.tones import damped_sines, frequency_of
from rerank.generators.synth.voice import VOWELS, Voice, formants, sing, vowels_of

Sound = NDArray[np.float32]


def power(sound: Sound, size: int = 1 << 18) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the frequencies in Hz and the power spectrum of a sound."""
    spectrum = np.fft.rfft(sound * np.hanning(sound.size), size)
    frequencies = np.arange(spectrum.size, dtype=np.float64) * (SAMPLE_RATE / size)
    return frequencies, np.asarray(np.abs(spectrum) ** 2, np.float64)


def cents_off(sound: Sound, pitch: float) -> float:
    """Return how far the mean of the first harmonic lies from `pitch`, in cents; vibrato leaves the mean alone."""
    frequencies, powers = power(sound)
    cents = 1200.0 * np.log2(np.maximum(frequencies, 1.0) / frequency_of(pitch))
    near = np.abs(cents) < 50.0
    return float(np.average(cents[near], weights=powers[near]))


def mel(sound: Sound, bands: int = 48) -> NDArray[np.float64]:
    """Return the levels of a sound in mel bands of 80..5500 Hz, in dB."""
    frequencies, powers = power(sound, 1 << 15)
    place = np.log1p(frequencies / 700.0)
    centres = np.linspace(np.log1p(80.0 / 700.0), np.log1p(5500.0 / 700.0), bands)
    windows = np.exp(-0.5 * ((place - centres[:, None]) / (centres[1] - centres[0])) ** 2)
    levels = 10.0 * np.log10(windows @ powers + 1e-9)
    return np.asarray(np.maximum(levels - levels.max(), -60.0))


def level_db(sound: Sound) -> float:
    """Return the greatest loudness of any 0.4 s of a mono sound, in dB, K-weighted."""
    weighted = effects.shelf(effects.highpass(sound[None], 38.0), 1500.0, 4.0, "high")[0]
    block = int(0.4 * SAMPLE_RATE)
    sums = np.cumsum(np.pad(weighted.astype(np.float64) ** 2, (1, block)))
    return float(10.0 * np.log10(np.max(sums[block:] - sums[:-block]) / block))


def noise(seconds: float, level: float = 0.2, seed: int = 0) -> Sound:
    random = np.random.default_rng(seed)
    return (level * random.standard_normal((2, int(seconds * SAMPLE_RATE)))).astype(np.float32)


def sine(frequency: float, seconds: float = 1.0, level: float = 0.5) -> Sound:
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return np.stack([level * np.sin(2.0 * np.pi * frequency * time)] * 2).astype(np.float32)


def gain_db(before: Sound, after: Sound) -> float:
    middle = slice(before.shape[1] // 4, None)
    return float(10.0 * np.log10(np.mean(after[:, middle] ** 2) / np.mean(before[:, middle] ** 2)))


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_every_instrument_is_in_tune_over_its_range(name: str) -> None:
    instrument = INSTRUMENTS[name]
    for pitch in np.linspace(instrument.low, instrument.high, 9).round(2):
        held = play(name, float(pitch), 2.0)[3000 : 2 * SAMPLE_RATE]
        assert abs(cents_off(held, float(pitch))) < 5.0, pitch


@pytest.mark.parametrize("name", INSTRUMENTS)
@pytest.mark.parametrize("duration", [0.02, 0.3, 1.7])
def test_notes_start_and_end_in_silence(name: str, duration: float) -> None:
    for pitch in (INSTRUMENTS[name].low, INSTRUMENTS[name].high):
        note = play(name, pitch, duration)
        assert note.dtype == np.float32 and note.ndim == 1 and np.isfinite(note).all()
        assert note.size >= int(duration * SAMPLE_RATE)
        assert note[0] == note[-1] == 0.0
        peak = np.abs(note).max()
        assert 0.01 < peak < 1.0
        assert max(np.abs(note[:3]).max(), np.abs(note[-32:]).max()) < 0.1 * peak


@pytest.mark.parametrize("name", ["flute", "violin", "organ", "clarinet", "harp", "piano", "pad"])
def test_a_held_note_has_no_clicks(name: str) -> None:
    note = play(name, 60, 2.0)
    steps = np.abs(np.diff(note[4000:], 2))
    assert steps.max() < 12.0 * np.sqrt(np.mean(steps**2))


def test_instruments_are_about_equally_loud() -> None:
    levels = {
        name: np.mean([level_db(play(name, pitch, 0.6)) for pitch in range(each.low, each.high + 1, 6)])
        for name, each in INSTRUMENTS.items()
    }
    assert max(levels.values()) - min(levels.values()) < 5.0


def test_instruments_sound_different() -> None:
    profiles = {}
    for name, instrument in INSTRUMENTS.items():
        pitch = 45 if instrument.family == "bass" else 60
        note = np.pad(play(name, pitch, 0.6), (0, SAMPLE_RATE))
        profiles[name] = np.concatenate([mel(note[1000:6000]), mel(note[12000:17000])])
    for one, other in itertools.combinations(INSTRUMENTS, 2):
        assert np.abs(profiles[one] - profiles[other]).mean() > 2.0, (one, other)


def test_louder_is_louder_and_brighter() -> None:
    for name in ("piano", "trumpet", "acoustic guitar"):
        soft, loud = (play(name, 60, 0.5, velocity) for velocity in (0.3, 1.0))
        assert level_db(loud) > level_db(soft) + 6.0
        centroids = [np.average(power(note)[0], weights=power(note)[1]) for note in (soft, loud)]
        assert centroids[1] > centroids[0]
    assert not play("organ", 60, 0.5, 0.0).any()


def test_notes_are_the_same_every_time_and_read_only() -> None:
    first = play("flute", 72, 0.5)
    assert play("flute", 72.001, 0.501) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1.0
    instruments._note.cache_clear()
    again = play("flute", 72, 0.5)
    assert again is not first
    np.testing.assert_array_equal(again, first)


def test_nothing_folds_back_from_above_half_the_sampling_rate() -> None:
    for name in ("synth lead", "violin", "distorted guitar"):
        pitch = INSTRUMENTS[name].high
        frequencies, powers = power(play(name, pitch, 1.0)[8000:24000])
        below = powers[(frequencies > 60.0) & (frequencies < 0.85 * frequency_of(pitch))].max()
        assert 10.0 * np.log10(below / powers.max()) < -40.0, name


def test_chords() -> None:
    pitches = (52.0, 59.0, 64.0)
    plain = play_chord("piano", pitches, 0.5)
    np.testing.assert_allclose(plain, sum(play("piano", pitch, 0.5) for pitch in pitches), atol=1e-6)
    strummed = play_chord("acoustic guitar", pitches, 0.5)
    assert strummed.size > play("acoustic guitar", 52, 0.5).size
    powered = play_chord("distorted guitar", (40.0, 47.0), 0.8)
    assert powered[0] == powered[-1] == 0.0
    single = play("distorted guitar", 40.0, 0.8)
    assert abs(level_db(powered) - level_db(single)) < 3.0  # saturation: not twice the power
    frequencies, powers = power(powered[4000:24000])
    difference = powers[np.abs(frequencies - (frequency_of(47.0) - frequency_of(40.0))) < 3.0].max()
    assert difference > 10.0 * np.median(powers[frequencies < 500.0])  # only a distorted sum has it


def test_wrong_notes_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown instrument 'kazoo'; known: accordion"):
        play("kazoo", 60, 1.0)
    with pytest.raises(ValueError, match="duration"):
        play("piano", 60, 0.0)
    with pytest.raises(ValueError, match="velocity"):
        play("piano", 60, 1.0, 1.5)
    with pytest.raises(ValueError, match="pitch"):
        play_chord("distorted guitar", [60, 260], 1.0)
    with pytest.raises(ValueError, match="at least one"):
        play_chord("piano", [], 1.0)


def test_damped_sines_are_what_they_say() -> None:
    frequencies, amplitudes, decays = np.array([220.0, 1234.5]), np.array([0.7, 0.2j]), np.array([0.3, 0.05])
    time = np.arange(40_000) / SAMPLE_RATE
    phases = 2.0 * np.pi * frequencies * time[:, None] + np.angle(amplitudes)
    expected = (np.abs(amplitudes) * np.sin(phases) * np.exp(-time[:, None] / decays)).sum(axis=1)
    np.testing.assert_allclose(damped_sines(frequencies, amplitudes, decays, time.size), expected, atol=1e-5)


@pytest.mark.parametrize(("voice", "pitches"), [("male", (45, 51, 57)), ("female", (57, 63, 69))])
def test_vowels_are_distinct_and_in_tune(voice: Voice, pitches: tuple[int, ...]) -> None:
    for pitch in pitches:
        sung = {vowel: sing(vowel, pitch, 1.5, voice=voice) for vowel in VOWELS}
        for vowel, sound in sung.items():
            assert sound[0] == sound[-1] == 0.0 and np.isfinite(sound).all()
            assert abs(cents_off(sound[6000:48_000], pitch)) < 5.0, (vowel, pitch)
        profiles = {vowel: mel(sound[12_000:40_000]) for vowel, sound in sung.items()}
        for one, other in itertools.combinations(VOWELS, 2):
            assert np.abs(profiles[one] - profiles[other]).mean() > 3.0, (one, other, pitch)


@pytest.mark.parametrize("voice", ["male", "female"])
@pytest.mark.parametrize("vowel", VOWELS)
def test_vowels_have_their_formants(voice: Voice, vowel: str) -> None:
    sound = sing(vowel, 36, 1.0, voice=voice)[8000:30_000]
    first, second, third = formants(vowel, voice)
    for formant, weight in ((first, 1.0), (second, 1.0), (third, 1.0)):
        frequencies, powers = power(np.asarray(lfilter([1.0, -0.9], [1.0], sound), np.float32), 1 << 16)
        around = np.abs(frequencies - formant) < 0.35 * min(formant, 1000.0)
        smooth = np.convolve(powers, np.hanning(240), "same")  # wider than a harmonic is from the next
        centre = np.abs(frequencies - formant) < 90.0
        assert smooth[centre].max() >= 0.5 * weight * np.median(smooth[around]), formant


def test_syllables_begin_softly_and_differ_by_arguments() -> None:
    assert sing("ah", 60, 0.4) is sing("ah", 60, 0.4)
    assert not np.array_equal(sing("ah", 60, 0.4), sing("ah", 60, 0.4, voice="male"))
    onset, vowel = sing("ah", 60, 0.5)[:1200], sing("ah", 60, 0.5)[8000:12_000]
    assert np.sqrt(np.mean(onset**2)) < np.sqrt(np.mean(vowel**2))
    assert sing("oo", 60, 0.02).size >= 640
    with pytest.raises(ValueError, match="unknown vowel 'xy'"):
        sing("xy", 60, 1.0)
    with pytest.raises(ValueError, match="voice must be"):
        sing("ah", 60, 1.0, voice="child")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see moon night day", "ee oo ah eh"),
        ("hope made time", "oh eh ah"),
        ("happy baby", "ah ee ah ee"),
        ("I'm walking, don't cry!", "ah aw ih oh ah"),
        ("the little table", "uh ih uh eh uh"),
        ("jumped wanted loved roses", "uh ah eh uh oh eh"),
        ("together tonight in the rain", "oo eh uh oo ah ih uh eh"),
        ("déjà vu, señor", "eh uh oo eh aw"),
        ("rhythm of the station", "ih uh uh uh eh aw"),
        ("hmm shh 42 ♪ 音楽", ""),
        ("", ""),
    ],
)
def test_vowels_of_lyrics(text: str, expected: str) -> None:
    assert vowels_of(text) == expected.split()


@pytest.mark.parametrize(("kit", "piece"), [(kit, piece) for kit in KITS for piece in PIECES[kit]])
def test_drums(kit: str, piece: str) -> None:
    loud, soft = hit(kit, piece, 0.9), hit(kit, piece, 0.4)
    for sound in (loud, soft):
        assert sound.dtype == np.float32 and np.isfinite(sound).all() and not sound.flags.writeable
        assert sound[0] == sound[-1] == 0.0 and np.abs(sound[-32:]).max() < 0.01
    assert 1.3 > np.abs(loud).max() > 2.0 * np.abs(soft).max()
    assert hit(kit, piece, 0.9) is loud


def test_unknown_drums_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown kit"):
        hit("kitchen", "kick")
    with pytest.raises(ValueError, match="unknown piece 'kick' of the hand percussion"):
        hit("hand percussion", "kick")


def test_pan_keeps_the_power() -> None:
    mono = noise(0.5)[0]
    for position in (-1.0, -0.3, 0.0, 0.8):
        stereo = effects.pan(mono, position)
        assert stereo.shape == (2, mono.size) and stereo.dtype == np.float32
        assert np.sum(stereo**2) == pytest.approx(np.sum(mono**2), rel=1e-4)
    assert not effects.pan(mono, -1.0)[1].any()
    with pytest.raises(ValueError, match="position"):
        effects.pan(mono, 2.0)


def test_reverb_rings_on_and_decays() -> None:
    dry = np.zeros((2, 3 * SAMPLE_RATE), np.float32)
    dry[:, 100] = 1.0
    wet = effects.reverb(dry, 1.5, 0.5, seed=3)
    assert wet.shape == dry.shape and wet.dtype == np.float32
    assert np.abs(wet[:, :100]).max() < 1e-5 and wet[0, 100] == pytest.approx(1.0, abs=1e-4)
    assert np.abs(wet[:, 101:400]).max() < 1e-5  # the pre-delay
    energies = (wet[:, 400:] ** 2).sum(axis=0)[: 5 * 8000].reshape(5, 8000).sum(axis=1)
    assert (np.diff(energies) < 0.0).all()
    assert abs(np.asarray(np.corrcoef(wet[:, 400:20_000]))[0, 1]) < 0.3  # wide
    assert not np.array_equal(wet, effects.reverb(dry, 1.5, 0.5, seed=4))
    np.testing.assert_array_equal(wet, effects.reverb(dry, 1.5, 0.5, seed=3))
    np.testing.assert_array_equal(dry, effects.reverb(dry, 1.5, 0.0))


def test_filters_do_what_they_say() -> None:
    low, high = sine(60.0), sine(9000.0)
    assert gain_db(low, effects.shelf(low, 400.0, 6.0, "low")) == pytest.approx(6.0, abs=0.3)
    assert gain_db(high, effects.shelf(high, 400.0, 6.0, "low")) == pytest.approx(0.0, abs=0.3)
    assert gain_db(high, effects.shelf(high, 2000.0, -9.0, "high")) == pytest.approx(-9.0, abs=0.3)
    assert gain_db(low, effects.shelf(low, 2000.0, -9.0, "high")) == pytest.approx(0.0, abs=0.3)
    assert (
        gain_db(high, effects.lowpass(high, 1000.0)) < -35.0 and abs(gain_db(low, effects.lowpass(low, 1000.0))) < 0.3
    )
    assert gain_db(low, effects.highpass(low, 1000.0)) < -40.0
    assert gain_db(low, effects.highpass(low, 1000.0, order=1)) > -28.0
    with pytest.raises(ValueError, match="frequency"):
        effects.lowpass(low, 20_000.0)
    with pytest.raises(ValueError, match="kind"):
        effects.shelf(low, 400.0, 6.0, "middle")  # type: ignore[arg-type]


def test_compress_narrows_the_dynamics() -> None:
    quiet, loud = sine(440.0, level=0.05), sine(440.0, level=0.8)
    assert gain_db(quiet, effects.compress(quiet, -18.0, 4.0)) == pytest.approx(0.0, abs=0.1)
    expected = -(18.0 + 20.0 * np.log10(0.8)) * 0.75
    assert gain_db(loud, effects.compress(loud, -18.0, 4.0)) == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("samples", [1, 63, 64, 65, 50_000])
def test_limit_holds_the_ceiling(samples: int) -> None:
    loud = noise(2.0, 1.5)[:, :samples]
    loud[0, samples // 2] = 9.0
    limited = effects.limit(loud, 0.95)
    assert limited.shape == loud.shape and np.abs(limited).max() <= 0.95
    soft = noise(1.0, 0.05)
    np.testing.assert_array_equal(effects.limit(soft), soft)


def test_limit_bends_gently() -> None:
    tone = sine(200.0, level=0.5)
    tone[:, 16_000] = 2.0
    ratio = effects.limit(tone, 0.9)[0] / np.where(np.abs(tone[0]) > 0.1, tone[0], np.nan)
    assert np.nanmax(np.abs(np.diff(ratio))) < 0.01 and np.nanmin(ratio) < 0.5 and np.nanmax(ratio) <= 1.0 + 1e-6


@pytest.mark.parametrize("target", [-23.0, -16.0, -9.0])
def test_normalise_loudness_reaches_its_target(target: float) -> None:
    tone = np.concatenate([sine(1000.0, 3.0, 0.02), np.zeros((2, 3 * SAMPLE_RATE), np.float32)], axis=1)
    levelled = effects.normalise_loudness(tone, target)
    assert 20.0 * np.log10(np.abs(levelled).max()) == pytest.approx(target, abs=1.0)  # 0 LUFS is a sine at full scale
    np.testing.assert_allclose(effects.normalise_loudness(levelled * 0.1, target), levelled, rtol=1e-3, atol=1e-6)
    silence = np.zeros((2, 1000), np.float32)
    assert not effects.normalise_loudness(silence).any()


def test_fade() -> None:
    faded = effects.fade(np.ones((2, SAMPLE_RATE), np.float32), 0.1, 0.3)
    assert faded[0, 0] == 0.0 == faded[1, -1] and (faded[:, 5000:20_000] == 1.0).all()
    assert (np.diff(faded[0, :3200]) > 0.0).all() and (np.diff(faded[0, -9600:]) < 0.0).all()


def test_tape_is_narrower_noisier_and_mild() -> None:
    music = sine(440.0, 2.0, 0.3) + sine(9000.0, 2.0, 0.1)
    worn = effects.tape_lofi(music, 1.0, seed=1)
    assert worn.shape == music.shape and worn.dtype == np.float32 and np.isfinite(worn).all()
    frequencies, powers = power(worn[0])
    _, before = power(music[0])
    treble = frequencies > 8000.0
    assert powers[treble].sum() < 0.2 * before[treble].sum()
    gap = (frequencies > 2000.0) & (frequencies < 4000.0)
    assert 10.0 * np.log10(powers[gap].sum() / powers.sum()) == pytest.approx(-40.0, abs=12.0)
    assert abs(gain_db(music, worn)) < 4.0
    np.testing.assert_array_equal(worn, effects.tape_lofi(music, 1.0, seed=1))
    np.testing.assert_array_equal(music, effects.tape_lofi(music, 0.0, seed=1))


def test_effects_leave_their_input_alone() -> None:
    music = noise(0.5)
    kept = music.copy()
    effects.limit(effects.compress(effects.reverb(music, 0.5, 0.5), -20.0, 3.0))
    effects.tape_lofi(effects.fade(effects.normalise_loudness(music), 0.1, 0.1), 0.5, seed=0)
    effects.shelf(effects.lowpass(effects.highpass(music, 50.0), 5000.0), 100.0, 3.0, "low")
    np.testing.assert_array_equal(music, kept)
