"""Audio files and waveforms: what comes back is what went in, and what cannot be used is refused in one line."""

import copy
import dataclasses
import logging
import os
import pickle
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank.audio import (
    Audio,
    as_audio,
    as_stored,
    encode,
    inspect,
    lossless_suffix,
    read,
    resample,
    to_mono,
    write,
)
from rerank.errors import InvalidInput, OutputError, UnreadableAudio
from tests.conftest import notes


def noise(channels: int = 2, time: int = 4_000, level: float = 0.2) -> np.ndarray[Any, np.dtype[np.float32]]:
    return (np.random.default_rng(0).standard_normal((channels, time)) * level).astype(np.float32).clip(-1, 1)


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("sample_rate", [8_000, 44_100, 192_000])
def test_wav_keeps_every_sample_and_flac_24_bits(tmp_path: Path, channels: int, sample_rate: int) -> None:
    audio = Audio(noise(channels), sample_rate)
    exact, close = read(audio.save(tmp_path / "a.wav")), read(audio.save(tmp_path / "a.flac"))
    assert np.array_equal(exact.waveform, audio.waveform)
    assert np.abs(close.waveform - audio.waveform).max() <= 2**-23
    assert (exact.sample_rate, close.sample_rate) == (sample_rate, sample_rate)
    assert exact.path == tmp_path / "a.wav"


@pytest.mark.parametrize("suffix", [".ogg", ".mp3"])
@pytest.mark.parametrize("channels", [1, 2])
def test_lossy_formats_keep_the_sound(tmp_path: Path, suffix: str, channels: int) -> None:
    audio = notes(np.random.default_rng(0), 1.0, 44_100)
    audio = audio if channels == 2 else to_mono(audio)
    back = read(audio.save(tmp_path / f"a{suffix}"))
    assert back.waveform.shape == audio.waveform.shape
    # lossy: they agree in shape, not in samples
    assert np.corrcoef(back.waveform[0], audio.waveform[0])[0, 1] > 0.95


def test_samples_beyond_full_scale_survive_in_wav_and_are_clamped_aloud_in_flac(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loud = Audio(noise(level=0.2) + np.float32(0.9), 16_000)
    assert np.array_equal(read(write(loud, tmp_path / "a.wav")).waveform, loud.waveform)
    assert lossless_suffix(loud) == ".wav"
    with caplog.at_level(logging.WARNING, "rerank"):
        clamped = read(write(loud, tmp_path / "a.flac")).waveform
    assert np.abs(clamped - loud.waveform.clip(-1, 1)).max() <= 2**-23
    assert "beyond full scale" in caplog.text and str((np.abs(loud.waveform) > 1).sum()) in caplog.text


def test_lossless_suffix_is_flac_only_for_what_flac_can_hold() -> None:
    assert lossless_suffix(Audio(noise(2), 16_000)) == ".flac"
    assert lossless_suffix(Audio(noise(9), 16_000)) == ".wav"
    assert lossless_suffix(Audio(np.full((1, 9), np.nan, np.float32), 16_000)) == ".wav"
    assert lossless_suffix(Audio(np.zeros((1, 0), np.float32), 16_000)) == ".wav"


@pytest.mark.parametrize("sample_rate", [1, 4_000, 44_101, 65_535, 65_536, 88_200, 96_001, 384_000, 655_350, 655_360])
def test_lossless_suffix_knows_which_sample_rates_flac_can_hold(tmp_path: Path, sample_rate: int) -> None:
    audio = as_stored(Audio(noise(), sample_rate))
    path = audio.save(tmp_path / f"a{lossless_suffix(audio)}")
    assert (path.suffix == ".flac") == (sample_rate in (1, 4_000, 44_101, 65_535, 88_200, 384_000, 655_350))
    back = Audio.stored(path, sample_rate=sample_rate, channels=2, frames=4_000)
    assert np.array_equal(back.waveform, audio.waveform)


EDGES = [1.0, -1.0, 0.0, -0.0, 1e-45, -1e-45, 1e-39, 2**-23, -(2**-24), 2**-24, 1 - 2**-24, 2**-23 - 1, -(1 - 2**-24)]
BEYOND = [float("nan"), float("inf"), 1.5, -1.0000001]


@settings(max_examples=60)
@given(
    channels=st.sampled_from([1, 2, 8, 9]),
    samples=st.lists(st.floats(-1, 1, width=32) | st.sampled_from(EDGES), max_size=50),
    beyond=st.lists(st.sampled_from(BEYOND), max_size=1),
)
def test_what_is_stored_is_read_again_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, channels: int, samples: list[float], beyond: list[float]
) -> None:
    waveform = np.resize(np.array([*samples, *beyond], np.float32), (channels, len(samples) + len(beyond)))
    audio = as_stored(Audio(waveform, 44_100))
    path = audio.save(tmp_path_factory.mktemp("stored") / f"a{lossless_suffix(audio)}")
    assert (path.suffix == ".flac") == (channels <= 8 and not beyond and waveform.size > 0)
    back = Audio.stored(path, sample_rate=44_100, channels=channels, frames=waveform.shape[1])
    assert back.waveform.tobytes() == audio.waveform.tobytes()
    assert as_stored(audio).waveform.tobytes() == audio.waveform.tobytes()
    if path.suffix == ".wav":
        assert audio.waveform is waveform
    else:
        assert np.abs(audio.waveform - waveform).max() <= (2**-23 if waveform.max() > 1 - 2**-23 else 2**-24)


def test_noise_of_every_level_is_stored_to_the_bit(tmp_path: Path) -> None:
    for channels in (1, 2, 8):
        waveform = np.concatenate([noise(channels, level=level) for level in (1e-8, 1e-3, 0.5, 9.0)], axis=1)
        audio = as_stored(Audio(waveform, 48_000))
        assert not np.array_equal(audio.waveform, waveform)
        assert read(audio.save(tmp_path / "a.flac")).waveform.tobytes() == audio.waveform.tobytes()


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])
def test_encode_returns_what_write_writes(tmp_path: Path, suffix: str) -> None:
    audio = Audio(noise(), 16_000)
    assert encode(audio, suffix.upper()) == audio.save(tmp_path / f"a{suffix}").read_bytes()
    with pytest.raises(InvalidInput, match=r"cannot write audio: unknown ending '\.aiff'"):
        encode(audio, ".aiff")


def test_equal_audio_gives_equal_files(tmp_path: Path) -> None:
    for suffix in (".wav", ".flac"):
        one, two = (write(Audio(noise(), 16_000), tmp_path / f"{name}{suffix}") for name in "ab")
        assert one.read_bytes() == two.read_bytes()


def test_write_refuses_what_a_format_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"unknown ending '\.aiff'; use \.wav"):
        write(Audio(noise(), 16_000), tmp_path / "a.aiff")
    with pytest.raises(InvalidInput, match="no MP3 with 6 channels at 16000 Hz"):
        write(Audio(noise(6), 16_000), tmp_path / "a.mp3")
    with pytest.raises(InvalidInput, match="no OGG with 2 channels at 384000 Hz"):
        write(Audio(noise(), 384_000), tmp_path / "a.ogg")
    with pytest.raises(InvalidInput, match="not finite"):
        write(Audio(np.full((1, 9), np.inf, np.float32), 16_000), tmp_path / "a.flac")
    with pytest.raises(OutputError, match="cannot write"):
        write(Audio(noise(), 16_000), tmp_path / "missing" / "a.wav")
    assert list(tmp_path.iterdir()) == []


def _bad_file(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"{kind}.wav"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("this is no audio\n" * 99)
    elif kind == "folder":
        path.mkdir()
    elif kind == "frameless":
        soundfile.write(path, np.zeros((0, 1)), 44_100)
    elif kind == "infinite":
        soundfile.write(path, np.full(99, np.inf, np.float32), 44_100, subtype="FLOAT")
    elif kind == "slow":
        soundfile.write(path, np.zeros(99), 4_000)
    elif kind == "fast":
        soundfile.write(path, np.zeros(99), 384_000)
    elif kind == "cut":
        soundfile.write(path, noise(2, 40_000).T, 44_100, format="FLAC")
        path.write_bytes(path.read_bytes()[:20_000])
    elif kind == "endless":  # as an encoder leaves it that writes to a pipe
        content = bytearray(Audio(noise(), 44_100).save(tmp_path / "a.flac").read_bytes())
        content[21] &= 0xF0  # the number of samples: the last 36 bits before the checksum of them
        content[22:26] = bytes(4)
        path.write_bytes(content)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "raw":
        path = tmp_path / "a.raw"
        path.write_bytes(bytes(99))
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such audio file"),
        ("empty", r"is empty \(0 bytes\)"),
        ("text", "give a WAV, FLAC, MP3 or OGG file"),
        ("raw", "give a WAV, FLAC, MP3 or OGG file"),
        ("folder", "is a folder"),
        ("frameless", r"holds no audio \(0 samples\)"),
        ("infinite", "not finite"),
        ("slow", "8000 to 192000 Hz, got 4000"),
        ("fast", "8000 to 192000 Hz, got 384000"),
        ("cut", "is damaged: not all of its 40000 samples"),
        ("endless", "does not say how long it is; convert it to WAV"),
        ("pipe", "is a pipe or a device; write the audio to a file first"),
    ],
)
def test_read_refuses_in_one_line_that_names_the_file(tmp_path: Path, kind: str, message: str) -> None:
    path = _bad_file(tmp_path, kind)
    with pytest.raises(UnreadableAudio, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    if kind not in ("infinite", "cut"):  # which only decoding shows
        with pytest.raises(UnreadableAudio, match=message):
            inspect(path)


def test_read_refuses_an_ogg_file_with_a_hole(tmp_path: Path) -> None:
    path = Audio(noise(2, 60_000), 44_100).save(tmp_path / "a.ogg")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2_000] = bytes(2_000)
    path.write_bytes(content)
    with pytest.raises(UnreadableAudio, match="is damaged: only"):
        read(path)


def test_read_refuses_an_mp3_that_ends_early(tmp_path: Path) -> None:
    path = Audio(noise(2, 160_000), 32_000).save(tmp_path / "a.mp3")
    content = path.read_bytes()
    assert read(path).duration == pytest.approx(5.0, abs=0.1)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableAudio, match="is damaged: only"):
        read(path)


def test_a_damaged_mp3_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(np.random.default_rng(0).bytes(9_000))
    with pytest.raises(UnreadableAudio, match="cannot read"):
        read(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", [".wav", ".mp3"])
def test_read_limits_the_duration(tmp_path: Path, suffix: str) -> None:
    path = Audio(noise(1, 48_000), 16_000).save(tmp_path / f"a{suffix}")
    assert read(path, max_duration=3.2).duration == pytest.approx(3.0, abs=0.1)
    with pytest.raises(UnreadableAudio, match=r"is 3\.\d s long, the limit is 2 s"):
        read(path, max_duration=2.0)


@settings(max_examples=25)
@given(
    time=st.integers(0, 3_000),
    source=st.sampled_from([8_000, 16_000, 44_100, 48_000]),
    target=st.sampled_from([8_000, 24_000, 32_000, 44_100]),
)
def test_resample_has_the_length_it_states(time: int, source: int, target: int) -> None:
    made = resample(Audio(np.zeros((2, time), np.float32), source), target)
    assert made.waveform.shape == (2, int(np.floor(time * target / source + 0.5)))
    assert made.sample_rate == target
    assert made.waveform.dtype == np.float32


def test_resample_keeps_a_tone_and_removes_what_the_new_rate_cannot_hold() -> None:
    time = np.arange(48_000) / 48_000
    low, high = (np.sin(2 * np.pi * hertz * time).astype(np.float32)[None] for hertz in (1_000, 20_000))
    expected = np.sin(2 * np.pi * 1_000 * np.arange(16_000) / 16_000)
    inside = slice(1_000, -1_000)  # away from the edges, where the filter runs over the end
    assert np.abs(resample(Audio(low, 48_000), 16_000).waveform[0] - expected)[inside].max() < 1e-3
    assert np.abs(resample(Audio(high, 48_000), 16_000).waveform[0])[inside].max() < 1e-3
    audio = Audio(low, 48_000)
    assert resample(audio, 48_000) is audio


def test_to_mono_is_the_mean_of_the_channels() -> None:
    audio = Audio(np.array([[1, 0], [0, 0.5]], np.float32), 16_000)
    assert to_mono(audio).waveform.tolist() == [[0.5, 0.25]]
    assert to_mono(to_mono(audio)).waveform.tolist() == [[0.5, 0.25]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_as_audio_takes_float_arrays(dtype: type) -> None:
    audio = as_audio((np.array([0.5, -0.25], dtype), 16_000))
    assert audio.waveform.dtype == np.float32
    assert audio.waveform.tolist() == [[0.5, -0.25]]


def test_as_audio_takes_torch_tensors_and_keeps_audio() -> None:
    import torch

    audio = as_audio((torch.tensor([[0.5], [1.5]], requires_grad=True), 16_000))
    assert audio.waveform.tolist() == [[0.5], [1.5]]
    assert as_audio(audio) is audio


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((np.zeros((480_000, 2)), 48_000), r"got shape \(480000, 2\); pass waveform\.T"),
        ((np.zeros((1, 2, 99)), 48_000), r"got shape \(1, 2, 99\); pass waveform\[0\]"),
        ((np.zeros((3, 2, 99)), 48_000), "one piece of audio"),
        ((np.zeros((2, 99), np.int16), 48_000), r"got int16; pass waveform\.astype\('float32'\) / 32768"),
        ((np.zeros((2, 99), bool), 48_000), "got bool"),
        ((48_000, np.zeros((2, 99))), r"got \(sample_rate, waveform\); pass \(waveform, sample_rate\)"),
        ((np.zeros((2, 99)), 4_000), "8000 to 192000 Hz, got 4000"),
        ((np.zeros((2, 99)), 44_100.5), r"whole number of Hz above 0, got 44100\.5"),
        ((np.full((2, 99), np.nan), 48_000), "not finite"),
        ((np.zeros((2, 0)), 48_000), "holds no audio"),
        (np.zeros((2, 99)), r"expected audio as a path, an Audio or \(waveform, sample_rate\), got ndarray"),
        (None, "got NoneType"),
    ],
)
def test_as_audio_says_how_to_pass_it(value: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        as_audio(value)


def test_as_audio_limits_the_duration_of_waveforms() -> None:
    with pytest.raises(InvalidInput, match=r"601\.0 s long, the limit is 600 s"):
        as_audio((np.zeros(601 * 8_000), 8_000), max_duration=600)


def test_audio_is_float32_only() -> None:
    with pytest.raises(InvalidInput, match=r"must be float32, got float64; pass waveform\.astype\('float32'\)"):
        Audio(np.zeros((2, 9)), 16_000)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"pass waveform\[None\]"):
        Audio(np.zeros(9, np.float32), 16_000)
    assert repr(Audio(np.zeros((2, 16_000), np.float32), 16_000)) == "Audio(2 channels, 1.00 s, 16000 Hz)"


@pytest.mark.parametrize("cut", [1, 4_000])
def test_a_wav_that_was_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    path = Audio(noise(), 16_000).save(tmp_path / "a.wav")
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UnreadableAudio, match=f"a.wav is damaged: {cut} bytes of its sound are missing at its end"):
        read(path)


def test_a_wav_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    path = Audio(noise(), 16_000).save(tmp_path / "a.wav")
    content = path.read_bytes()
    place = content.index(b"data") + 4
    path.write_bytes(content[:place] + b"\xff\xff\xff\xff" + content[place + 4 :])
    assert read(path).waveform.shape == (2, 4_000)


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are UTF-8")
def test_a_file_name_need_not_be_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "a\udcff.wav"
    assert read(Audio(noise(), 16_000).save(path)).path == path


def test_what_is_several_pieces_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="expected one piece of audio, got a tuple of 2; pass a list of them"):
        as_audio(("a.wav", "b.wav"))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="waveform has channels of different lengths"):
        as_audio(([[0.1], [0.1, 0.2]], 16_000))
    with pytest.raises(InvalidInput, match="path must be a path, .* got 5"):
        Audio(noise(), 16_000).save(5)  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="cannot write"):
        Audio(noise(), 16_000).save(tmp_path / "a\0.wav")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_inspect_knows_an_audio_without_holding_it(tmp_path: Path, suffix: str) -> None:
    path = Audio(noise(2, 20_000), 16_000).save(tmp_path / f"a{suffix}")
    audio, whole = inspect(path), read(path)
    assert type(audio) is Audio and audio.path == path
    assert (audio.channels, audio.frames, audio.sample_rate) == (2, whole.frames, 16_000)
    assert audio.duration == whole.duration
    assert np.array_equal(audio.waveform, whole.waveform)
    assert audio.is_finite()
    assert whole.loaded() is whole
    loaded = audio.loaded()
    assert loaded.waveform is loaded.waveform and loaded.path == path
    assert loaded.loaded() is loaded


def test_a_stored_audio_keeps_no_waveform_but_shares_one_in_use(tmp_path: Path) -> None:
    path = Audio(noise(), 16_000).save(tmp_path / "a.flac")
    audio = inspect(path)
    one = audio.waveform
    assert audio.waveform is one
    watched = weakref.ref(one)
    del one
    assert watched() is None
    assert not any(isinstance(part, np.ndarray) for part in vars(audio).values())


def test_the_header_alone_says_what_a_stored_audio_is(tmp_path: Path) -> None:
    audio = inspect(Audio(noise(), 16_000).save(tmp_path / "a.wav"))
    assert audio.path is not None
    audio.path.unlink()
    assert repr(audio) == f"Audio(2 channels, 0.25 s, 16000 Hz, path='{audio.path}')"
    assert (audio.frames, audio.channels, audio.duration) == (4_000, 2, 0.25)
    with pytest.raises(UnreadableAudio, match="no such audio file"):
        audio.loaded()


@pytest.mark.parametrize(
    "other",
    [Audio(noise(1), 16_000), Audio(noise(2, 4_001), 16_000), Audio(noise(), 8_000)],
    ids=["channels", "frames", "rate"],
)
def test_a_file_that_changed_since_is_refused(tmp_path: Path, other: Audio) -> None:
    path = Audio(noise(), 16_000).save(tmp_path / "a.wav")
    audio = inspect(path)
    other.save(path)
    message = f"a.wav has changed since: 2 channels, 4000 samples, 16000 Hz before, {other.channels} channels, .* now"
    with pytest.raises(UnreadableAudio, match=message):
        audio.waveform  # noqa: B018


def test_a_stored_audio_may_be_what_no_reader_takes(tmp_path: Path) -> None:
    """A broken candidate is stored too: without samples, at another rate, not finite."""
    for waveform in (np.zeros((1, 0), np.float32), np.full((9, 5), np.nan, np.float32)):
        path = Audio(waveform, 100).save(tmp_path / "a.wav")
        channels, frames = waveform.shape
        stored = Audio.stored(path, sample_rate=100, channels=channels, frames=frames)
        assert np.array_equal(stored.waveform, waveform, equal_nan=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample_rate": 0}, "sample_rate must be a whole number of Hz above 0, got 0"),
        ({"channels": 0}, "channels must be a whole number from 1 on, got 0"),
        ({"frames": 0.5}, r"frames must be a whole number from 0 on, got 0\.5"),
        ({"path": 5}, "path must be a path"),
    ],
)
def test_what_cannot_be_stored_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Audio.stored(**{"path": "a.wav", "sample_rate": 8_000, "channels": 1, "frames": 9, **change})


def test_audio_cannot_be_changed_but_copied(tmp_path: Path) -> None:
    held = Audio(noise(), 16_000)
    stored = inspect(held.save(tmp_path / "a.wav"))
    for audio in (held, stored):
        waveform = audio.waveform
        for name in ("waveform", "sample_rate", "frames", "path"):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(audio, name, 5)
        for other in (pickle.loads(pickle.dumps(audio)), copy.deepcopy(audio)):
            assert repr(other) == repr(audio) and np.array_equal(other.waveform, waveform)
    assert len(pickle.dumps(stored)) < 1_000


def test_a_stored_audio_works_wherever_audio_does(tmp_path: Path) -> None:
    held = Audio(noise(2, 20_000), 16_000)
    stored = inspect(held.save(tmp_path / "a.wav"))
    assert np.array_equal(to_mono(stored).waveform, to_mono(held).waveform)
    assert np.array_equal(resample(stored, 8_000).waveform, resample(held, 8_000).waveform)
    assert resample(stored, 16_000) is stored and as_audio(stored) is stored
    assert (stored.save(tmp_path / "b.flac")).read_bytes() == encode(held, ".flac")
    assert np.array_equal(as_stored(stored).waveform, as_stored(held).waveform)
