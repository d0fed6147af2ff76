"""MP3 files: read to the last sample, whatever stands around their frames; damage is told, and nothing is printed."""

import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from rerank.audio import inspect, read
from rerank.errors import UnreadableAudio

RATE, TIME = 44_100, 60_000
ID3 = b"ID3\x03\0\0\0\0\0\x20TIT2\0\0\0\x05\0\0\0abcd" + bytes(17)
APE = b"APETAGEX\xd0\x07\0\0" + (64).to_bytes(4, "little") + bytes(16) + bytes(32) + b"APETAGEX".ljust(32, b"\0")


def encoded(
    path: Path, *, sample_rate: int = RATE, channels: int = 2, mode: str = "CONSTANT", level: float = 0
) -> bytes:
    """Write noise that fades, so that the rate of a variable stream falls, and return the content of the file."""
    noise = np.random.default_rng(0).standard_normal((TIME, channels)) * np.geomspace(0.2, 1e-5, TIME)[:, None]
    options: dict[str, Any] = {"format": "MP3", "bitrate_mode": mode, "compression_level": level}
    soundfile.write(path, noise, sample_rate, **options)
    return path.read_bytes()


def second(content: bytes) -> int:
    """Return where the second frame begins; the first only says how many follow."""
    assert content[36:40] in (b"Xing", b"Info")
    return content.index(content[:2], 4)


def mono() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return encoded(Path(folder) / "a.mp3", channels=1)


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_a_sound_file_is_decoded_as_by_the_library_alone(
    tmp_path: Path, sample_rate: int, channels: int, mode: str
) -> None:
    path = tmp_path / "a.mp3"
    encoded(path, sample_rate=sample_rate, channels=channels, mode=mode, level=0.3)
    alone, _ = soundfile.read(path, dtype="float32", always_2d=True)
    audio = inspect(path)
    assert (audio.frames, audio.channels, audio.sample_rate) == (TIME, channels, sample_rate)
    # how its memory is aligned may change the last bit
    assert np.abs(audio.waveform - alone.T).max() < 1e-6


def test_a_stream_that_does_not_say_how_long_it_is_is_read_to_its_end(tmp_path: Path) -> None:
    """Its rate varies, so that its size does not tell it either."""
    path = tmp_path / "a.mp3"
    content = encoded(path, mode="VARIABLE")
    whole = read(path).waveform
    path.write_bytes(content[second(content) :])
    assert soundfile.info(path).frames < TIME * 0.9  # the library alone drops the rest
    found = inspect(path)
    assert found.frames == read(path).frames >= TIME
    # at its begin it has what the encoder put before the sound
    delay = np.correlate(found.waveform[0, :7_000], whole[0, :5_000]).argmax()
    assert np.abs(found.waveform[:, delay:][:, :TIME] - whole).max() < 1e-6


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (ID3, b""),
        (ID3 + ID3, b"TAG".ljust(128, b"\0")),
        (b"ID3\x03\0\0\xff\xff\xff\xff", b""),  # a tag of a length that cannot be
        (b"ID3\x03\0\0\x7f\0\0\0", b""),  # a tag that would be longer than the file
        (APE, APE),
        (bytes(3_000), b"hello world\n" * 999),
        (np.random.default_rng(1).bytes(3_000), np.random.default_rng(2).bytes(9_000)),
    ],
    ids=["id3", "id3 twice", "id3 broken", "id3 too long", "ape", "zeros and text", "noise"],
)
def test_what_stands_around_the_frames_changes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], before: bytes, behind: bytes
) -> None:
    path = tmp_path / "a.mp3"
    content = encoded(path)
    whole = read(path).waveform
    path.write_bytes(before + content + behind)
    assert np.abs(read(path).waveform - whole).max() < 1e-6
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("between", [b"", ID3, b"TAG".ljust(128, b"\0") + ID3])
def test_files_one_behind_the_other_are_read_to_the_last(tmp_path: Path, between: bytes) -> None:
    path = tmp_path / "a.mp3"
    content = encoded(path)
    path.write_bytes(content + between + content)
    assert read(path).frames >= 2 * TIME


def test_an_encoder_may_count_the_first_frame_too(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    content = bytearray(encoded(path))
    content[44:48] = (int.from_bytes(content[44:48]) + 1).to_bytes(4)
    path.write_bytes(content)
    assert read(path).frames == TIME


def test_a_first_frame_of_another_kind_is_no_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    content = encoded(path)
    path.write_bytes(content[second(content) :])
    alone = read(path)
    for name, flags in ((b"VBRI", 0), (b"Xing", 0)):  # Fraunhofer's, and one that gives no number
        path.write_bytes(content[:36] + name + flags.to_bytes(4) + content[44:])
        assert np.abs(read(path).waveform - alone.waveform).max() < 1e-6


NOISE = np.random.default_rng(3).bytes(5_000)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c[: len(c) // 2], r"is damaged: only \d+ of its \d+ MP3 frames are there"),
        (lambda c: c[:-1], r"is damaged: only \d+ of its \d+ MP3 frames are there"),
        (lambda c: c[:9_000] + bytes(3_000) + c[12_000:], r"break off at byte \d+, others follow from byte 1\d+ on"),
        (lambda c: c[:9_000] + NOISE + c[9_000:], r"break off at byte \d+, others follow from byte 1\d+ on"),
        (lambda c: c[:9_000] + c[9_100:], "break off at byte"),
        (lambda c: c + mono(), "break off at byte"),
        (lambda c: c[: second(c) + 4] + b"\xff" * 32 + c[second(c) + 36 :], "is damaged: in the MP3 frame at byte"),
        (lambda c: NOISE, "no MP3 frames in it"),
        (lambda c: ID3 + NOISE, "no MP3 frames in it"),
        (lambda c: b"\xff\xfb\x90\x44" * 99, "no MP3 frames in it"),
        (lambda c: b"\xff", "no MP3 frames in it"),
    ],
    ids=["half", "cut", "hole", "inserted", "removed", "mono", "sides", "noise", "tag", "headers", "byte"],
)
def test_damage_is_told_in_one_line_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], damage: Any, message: str
) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(damage(encoded(path)))
    for use in (read, inspect):
        with pytest.raises(UnreadableAudio, match=message) as caught:
            use(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_files_of_another_format_may_be_called_mp3(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    for container in ("WAV", "FLAC", "OGG"):
        soundfile.write(path, np.zeros(9_000), RATE, format=container)
        assert read(path).frames == 9_000
    path.rename(tmp_path / "b.wav")
    encoded(path)
    path.rename(tmp_path / "b.wav")
    assert read(tmp_path / "b.wav").frames == TIME
    soundfile.write(path, np.zeros(9_000), RATE, format="FLAC")
    path.write_bytes(ID3 + path.read_bytes())
    assert read(path).frames == 9_000


def test_what_other_threads_write_to_standard_error_arrives(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sound, damaged = tmp_path / "sound.mp3", tmp_path / "damaged.mp3"
    content = encoded(sound)
    damaged.write_bytes(content[:9_000] + NOISE + content[9_000:])
    lines = [f"line {number}\n" for number in range(154)]

    def write() -> None:
        for line in lines:
            os.write(2, line.encode())
            pause.wait(0.002)

    pause, writer = threading.Event(), threading.Thread(target=write)
    writer.start()
    reads = 0
    while writer.is_alive():
        read(sound)
        with pytest.raises(UnreadableAudio):
            read(damaged)
        reads += 1
    assert reads > 5
    assert capfd.readouterr().err == "".join(lines)
