"""Audio files from strangers: what lies, never ends or is no file is refused at once, in a line that names it."""

import inspect as inspect_
import os
import re
import resource
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import rerank
from rerank.audio import MAX_DURATION, Audio, inspect, read
from rerank.cli.root import app
from rerank.errors import InvalidInput, UnreadableAudio
from rerank.files import open_file, read_file, write_bytes
from rerank.records import read_lines
from rerank.takes import read_object
from tests.conftest import ROOT, ToyReward, notes

SECONDS = 60  # that an attack may take in a process of its own, on a busy machine too
MIB = 2**20


def tried(script: str, *arguments: object, address_space: int = 6 * 2**30) -> str:
    """Return what a script prints that runs in a process with little time and memory."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        preexec_fn=limited,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


READ = """
    import resource, sys
    from rerank.audio import inspect, read
    from rerank.errors import UnreadableAudio
    for how in (inspect, read):
        try:
            print(how(sys.argv[1]))
        except UnreadableAudio as error:
            print(f"refused: {error}")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def flac_of(frames: int, channels: int = 1) -> Callable[[Path], None]:
    """Return what writes a FLAC file of a fifth of a second whose header tells another length."""

    def write(path: Path) -> None:
        waveform = np.random.default_rng(0).uniform(-0.3, 0.3, (channels, 9_000)).astype(np.float32)
        content = bytearray(Audio(waveform, 44_100).save(path.with_suffix(".flac")).read_bytes())
        content[21] = content[21] & 0xF0 | frames >> 32  # the number of samples has 36 bits
        content[22:26] = (frames & 2**32 - 1).to_bytes(4)
        path.write_bytes(content)

    return write


def wav_of(size: int, before: bytes = b"") -> Callable[[Path], None]:
    """Return what writes a WAV file of zeros that take no room on the disk."""

    def write(path: Path) -> None:
        form = b"fmt " + np.array([16], "<u4").tobytes() + np.array([1, 2], "<u2").tobytes()
        form += np.array([44_100, 176_400], "<u4").tobytes() + np.array([4, 16], "<u2").tobytes()
        length = np.array([size], "<u4").tobytes()
        with path.open("wb") as file:
            file.write(b"RIFF" + length + b"WAVE" + (before or form + b"data" + length))
            file.truncate(size + 44)

    return write


def mp3_of(pattern: bytes, count: int) -> Callable[[Path], None]:
    return lambda path: void(path.write_bytes(pattern * count))


def zeros(size: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC), size)


def void(_: object) -> None:
    return None


LIARS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no-length.flac": (flac_of(0), "does not say how long it is; convert it to WAV"),
    "longest.flac": (flac_of(2**36 - 1), "which need 256.0 GiB, the limit is 2 GiB"),
    "day.flac": (flac_of(24 * 3_600 * 44_100), "which need 14.2 GiB, the limit is 2 GiB"),
    "ten-hours.flac": (flac_of(10 * 3_600 * 44_100, 8), "which need 47.3 GiB, the limit is 2 GiB"),
    "hour.flac": (flac_of(3_600 * 44_100), "is damaged: not all of its 158760000 samples can be decoded"),
    "sparse.wav": (wav_of(3_000_000_000), "the limit is 2 GiB"),
    "parts.wav": (wav_of(3_000_000_000, b"junk\0\0\0\0"), "no sound in the first 1000 parts"),
    "zeros.mp3": (zeros(3_000_000_000), "the limit for an MP3 is 256 MiB"),
    "ones.mp3": (mp3_of(b"\xff", 50_000_000), "no MP3 frames in it"),
    "headers.mp3": (mp3_of(b"\xff\xfb\x90\x00", 5_000_000), "no MP3 frames in it"),
    "frames.mp3": (mp3_of(b"\xff\xf3\x14\xc0" + bytes(20), 1_000_100), "more than 1000000 MP3 frames"),
    "form.aiff": (lambda path: void(path.write_bytes(b"FORM" + bytes(9_999))), "give a WAV, FLAC, MP3 or OGG file"),
}
SLOW = {"frames.mp3", "ones.mp3", "headers.mp3"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.attack] if name in SLOW else []) for name in LIARS]
)
def test_a_file_that_lies_costs_neither_time_nor_memory(tmp_path: Path, name: str) -> None:
    write, message = LIARS[name]
    write(tmp_path / name)
    *lines, most = tried(READ, tmp_path / name).splitlines()
    assert len(lines) == 2, lines
    assert lines[1].startswith("refused: ") and message in lines[1] and name in lines[1]
    assert int(most) < 700


def test_channels_beyond_the_limit_are_told_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "many.wav"
    soundfile.write(path, np.zeros((999, 80), np.float32), 44_100)
    for how in (inspect, read):
        with pytest.raises(UnreadableAudio, match=r"many\.wav has 80 channels, the limit is 64"):
            how(path)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999])
def test_an_ogg_file_that_was_cut_is_not_a_shorter_one(tmp_path: Path, share: float) -> None:
    path = notes(np.random.default_rng(0), 5.0, 44_100).save(tmp_path / "a.ogg")
    assert read(path).duration == 5.0
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    for how in (inspect, read):
        with pytest.raises(UnreadableAudio, match=r"a\.ogg is damaged: its OGG stream has no end, so the file was cut"):
            how(path)


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_no_mp3(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(np.random.default_rng(seed).bytes(99_999))
    with pytest.raises(UnreadableAudio, match=r"a\.mp3 as audio \(no MP3 frames in it\)"):
        read(path)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_two_minutes_are_written_and_read_again(tmp_path: Path, suffix: str) -> None:
    script = """
        import sys, numpy as np
        from rerank.audio import Audio, read
        made = Audio(np.random.default_rng(0).uniform(-0.3, 0.3, (2, 120 * 44_100)).astype(np.float32), 44_100)
        back = read(made.save(sys.argv[1]))
        print(back.waveform.shape == made.waveform.shape)
    """
    assert tried(script, tmp_path / f"a.{suffix}") == "True\n"


def strange(folder: Path, kind: str) -> Path:
    """Return the path of what is no regular file, or a link to it."""
    path = folder / "a.wav"
    target = folder / "target" if kind.startswith("link") else path
    if kind.endswith("pipe"):
        os.mkfifo(target)
    elif kind.endswith("socket"):
        with socket.socket(socket.AF_UNIX) as server:
            here = os.getcwd()
            os.chdir(folder)  # the path of a socket may not be long
            try:
                server.bind(target.name)
            finally:
                os.chdir(here)
    elif kind.endswith("folder"):
        target.mkdir()
    elif kind.endswith("device"):
        target = Path("/dev/zero")
    if kind.startswith("link"):
        path.symlink_to(target)
    return path if kind.startswith("link") else target


STRANGE = ["pipe", "socket", "folder", "device", "link to pipe", "link to socket", "link to folder", "link to device"]


@pytest.mark.parametrize("kind", STRANGE)
def test_only_files_are_opened(tmp_path: Path, kind: str) -> None:
    path = strange(tmp_path, kind)
    with pytest.raises(UnreadableAudio, match=r"is a folder|is a pipe or a device") as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(OSError, match="not a file"):
        read_file(path)
    with pytest.raises(UnreadableAudio, match=r"not a file|is a folder|is a pipe"):
        _ = Audio.stored(path, sample_rate=8_000, channels=1, frames=9, sha256="0").waveform
    with pytest.raises(InvalidInput, match="not a file"):
        read_lines(path)
    assert read_object(path) == {}


def test_what_becomes_a_pipe_after_it_was_looked_at_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    was = os.stat(tmp_path / "a.wav")
    (tmp_path / "a.wav").unlink()
    os.mkfifo(tmp_path / "a.wav")
    monkeypatch.setattr(os, "stat", lambda path: was)
    with pytest.raises(OSError, match="not a file"):
        open_file(tmp_path / "a.wav")


def test_standard_input_that_is_a_pipe_is_no_file() -> None:
    script = "import rerank.audio as a\ntry: a.read('/dev/stdin')\nexcept a.UnreadableAudio as error: print(error)"
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        # while nobody closes the other end
        assert process.stdout.readline() == "/dev/stdin is a pipe or a device; write the audio to a file first\n"


@pytest.mark.parametrize("name", ["a" * 249, "é" * 124, "音" * 83, "\N{MUSICAL SCORE}" * 62])
def test_a_name_as_long_as_names_may_be_can_be_saved(tmp_path: Path, name: str) -> None:
    made = notes(np.random.default_rng(0), 0.2)
    assert read(made.save(tmp_path / f"{name}.wav")).frames == made.frames
    write_bytes(tmp_path / (name + "\N{LATIN SMALL LETTER A}" * (255 - len(name.encode()))), b"content", synced=True)
    assert len(list(tmp_path.iterdir())) == 2


LONG = """
    import dataclasses, resource, sys
    import rerank
    from tests.conftest import ToyReward
    path, how, count, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    reward = ToyReward()
    reward.info = dataclasses.replace(reward.info, batch_size=size)
    if how == "score":
        found = rerank.score([path] * count, reward=reward)
    else:
        found = rerank.rank([path] * count, reward=reward, filters=rerank.Filters.off())
    assert len(found) == count
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.attack
@pytest.mark.parametrize("how", ["rank", "score"])
@pytest.mark.parametrize("size", [1, 4, 1024])
def test_many_songs_are_not_held_at_once(tmp_path: Path, how: str, size: int) -> None:
    wav_of(240 * 176_400)(tmp_path / "song.wav")  # 81 MiB in memory
    few, many = (int(tried(LONG, tmp_path / "song.wav", how, count, size)) for count in (20, 40))
    assert many < 1_600 and many - few < 100


@pytest.mark.attack
@pytest.mark.parametrize("how", ["rank", "score"])
def test_hours_of_silence_in_a_small_file_are_not_decoded(tmp_path: Path, how: str) -> None:
    path = tmp_path / "silence.flac"
    with soundfile.SoundFile(path, "w", 8_000, 1, "PCM_16") as file:
        for _ in range(10):
            file.write(np.zeros(3_600 * 8_000, np.int16))
    assert path.stat().st_size < MIB
    script = """
        import resource, sys
        import rerank
        from tests.conftest import ToyReward
        try:
            getattr(rerank, sys.argv[2])([sys.argv[1]], reward=ToyReward())
        except rerank.RerankError as error:
            print(error)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    """
    message, most = tried(script, path, how).splitlines()
    assert "silence.flac is 36000.0 s long, the limit is 1200 s" in message and int(most) < 500


def test_longer_audio_is_set_aside_and_the_limit_can_be_raised(tmp_path: Path) -> None:
    long, short = (notes(np.random.default_rng(count), count).save(tmp_path / f"{count}.wav") for count in (6, 2))
    limit = r"6\.0 s long, the limit is 5 s; .* --max-duration S \(in Python: max_duration=S\)"
    held = Audio(read(long).waveform, 16_000)
    ranking = rerank.rank([long, short, held], reward=ToyReward(), max_duration=5)
    assert [one.index for one in ranking] == [1]
    for one in ranking.set_aside:
        assert one.set_aside_kind == "unreadable" and re.search(limit, one.set_aside or "")
    with pytest.raises(UnreadableAudio, match=limit):
        rerank.score(long, reward=ToyReward(), max_duration=5)
    assert rerank.score([long, short], reward=ToyReward(), max_duration=5)[0] == {"musicality": None, "alignment": None}
    assert len(rerank.rank([long, short], reward=ToyReward(), filters=rerank.Filters.off(), max_duration=6.5)) == 2


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf"), "5", None, True])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, limit: Any) -> None:
    for how in (rerank.rank, rerank.score):
        with pytest.raises(InvalidInput, match="max_duration must be a number of seconds above 0"):
            how([tmp_path / "a.wav"], reward=ToyReward(), max_duration=limit)


def test_the_command_line_has_the_limit_of_the_python_interface(
    tmp_path: Path, plugged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = notes(np.random.default_rng(0), 3).save(tmp_path / "a.wav")
    for command in ("rank", "score"):
        default = inspect_.signature(getattr(import_module(f"rerank.cli.{command}"), command)).parameters[
            "max_duration"
        ]
        assert default.default == MAX_DURATION
        with pytest.raises(SystemExit) as end:
            app([command, str(path), "--reward", "toy", "--max-duration", "2"])
        assert end.value.code == 1
        assert "3.0 s long, the limit is 2 s" in capsys.readouterr().err


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\nerror: forged\u202e\u2028\x00"


def test_no_control_character_reaches_a_terminal_or_a_log(
    tmp_path: Path, plugged: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = HOSTILE.replace("\0", "")
    good = notes(np.random.default_rng(0), 1).save(tmp_path / f"good{name}.wav")
    other = notes(np.random.default_rng(1), 1).save(tmp_path / f"other{name}.wav")
    bad = tmp_path / f"bad{name}.wav"
    bad.write_bytes(b"no audio")
    (plugged / "toy_package.py").write_text(
        "from dataclasses import replace\n"
        "from tests.conftest import ToyGenerator, ToyReward as Toy\n"
        "class ToyReward(Toy):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        f"        self.info = replace(self.info, axes={{'musicality': {HOSTILE!r}, 'ax[red]is' + {HOSTILE!r}: 'it'}},\n"
        f"            licence={HOSTILE!r}, version={HOSTILE!r})\n"
        "    def score(self, prepared, audio):\n"
        f"        if audio[0].path and 'other' in audio[0].path.name: raise RuntimeError({HOSTILE!r})\n"
        f"        return [{{'musicality': 1.0, 'ax[red]is' + {HOSTILE!r}: 0.5}} for _ in audio]\n"
    )
    run = tmp_path / f"run{name}"
    files = list(map(str, (good, other, bad)))
    prompt = HOSTILE.replace("\0", "") + "piano"
    commands = [
        ["rank", *files, "--reward", "toy", "--prompt", prompt, "-o", str(run), "--report", "--verbose"],
        ["score", *files, "--reward", "toy", "--prompt", prompt, "--verbose"],
        ["show", str(run)],
        ["export", str(run)],
        ["rank", str(bad)],
        ["rank", f"missing{name}"],
        ["rank", files[0], "--weight", f"{name}=1"],
        ["rank", files[0], "--filter", name],
        ["rank", files[0], "--reward", name],
        ["rank", files[0], f"--{name}"],
        ["rank", files[0], "--top-k", name],
        [name],
        ["models", "toy"],
        ["plugins"],
    ]
    for columns in ("", "80"):
        monkeypatch.setenv("COLUMNS", columns)
        for command in commands:
            with pytest.raises(SystemExit):
                app(command)
            out, err = capsys.readouterr()
            assert out + err
            found = re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]", out + err)
            assert found is None, (command, found, out + err)
            assert not re.search(r"^error: forged", out + err, re.MULTILINE), (command, out + err)
