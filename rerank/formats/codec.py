"""Audio files, encoded and decoded: the only module that knows file formats.

**Conventions**: waveforms are float32 `[channels, time]`, sample rates in Hz. The codec library is given file names and
file descriptors, never Python files: those it would call back, and a KeyboardInterrupt that arrives inside such a call
is lost.
"""

import contextlib
import io
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank.errors import InvalidInput, UnreadableAudio
from rerank.files import cannot_write, open_file
from rerank.formats import mp3, whole
from rerank.formats.waveform import MAX_CHANNELS, Waveform

MAX_SAMPLES = 2**29
"""Of all channels of a file together: 2 GiB in memory, 100 minutes in stereo at 44.1 kHz."""

_FLAC_MAX_CHANNELS = 8
_FLAC_ONE = 2**23
"""Full scale of 24-bit integers."""
_VORBIS_MAX_RATE = 200_000  # the library crashes beyond it
_MPEG_1 = 32_000  # Hz: from here on MP3 has other bit rates than below
_UNKNOWN_FRAMES = 2**62  # what the library answers where a file does not say how long it is
_BLOCK = 2**16  # samples of each channel that are decoded, or encoded, at once
_BEGINS = (*whole.WAV, b"fLaC", b"OggS")  # of the files that are given to the library; MP3 is told by its frames
_SYSTEM_ERROR = 2  # of libsndfile: the system refused to write

logger = logging.getLogger("rerank")


class AudioFile:
    """An audio file that is open for reading.

    Attributes:
        path: of the file.
        sample_rate: in Hz.
        channels: how many it has.
        frames: samples of each channel.
    """

    def __init__(self, path: Path, file: Any) -> None:
        self._file = file
        self.path, self.sample_rate, self.channels, self.frames = path, file.samplerate, file.channels, file.frames
        if self.frames >= _UNKNOWN_FRAMES:
            raise UnreadableAudio(f"{path} does not say how long it is; convert it to WAV")
        if self.channels > MAX_CHANNELS:
            raise UnreadableAudio(
                f"{path} has {self.channels} channels, the limit is {MAX_CHANNELS}; mix it down first"
            )

    def decode(self) -> Waveform:
        """Return its waveform.

        Raises:
            UnreadableAudio: it is damaged, or has more than `MAX_SAMPLES`.
        """
        import soundfile

        if self.frames * self.channels > MAX_SAMPLES:
            raise UnreadableAudio(
                f"{self.path} holds {self.frames} samples in {self.channels} channels, {self.frames / self.sample_rate:.0f}"
                f" s, which need {self.frames * self.channels / 2**28:.1f} GiB, the limit is {MAX_SAMPLES / 2**28:g} GiB; "
                "cut out the part that matters"
            )
        # memory that nothing was written to is none yet: a header that lies does not cost what it promises
        waveform: Waveform = np.empty((self.channels, self.frames), np.float32)
        done = 0
        try:
            while done < self.frames and len(block := self._file.read(_BLOCK, dtype="float32", always_2d=True)):
                waveform[:, done : done + len(block)] = block.T
                done += len(block)
        except soundfile.SoundFileError as error:
            raise UnreadableAudio(
                f"{self.path} is damaged: not all of its {self.frames} samples can be decoded; get it again"
            ) from error
        if done < self.frames:
            raise UnreadableAudio(
                f"{self.path} is damaged: only {done} of its {self.frames} samples can be decoded; get it again"
            )
        return waveform


@contextlib.contextmanager
def opened(path: Path) -> Iterator[AudioFile]:
    """Open an audio file; what the library refuses, now or when it decodes, is told in one line.

    Raises:
        UnreadableAudio: the file is missing, empty, no file but a folder, a pipe or a device, not audio, a WAV or OGG
            file that ends early, has more than 64 channels, or is an MP3 file whose frames are damaged.
    """
    import soundfile

    _check_file(path)
    try:
        with _sound(path) as source, soundfile.SoundFile(source.fileno(), closefd=False) as file:
            yield AudioFile(path, file)
    except MemoryError as error:
        raise UnreadableAudio(f"cannot read {path}: there is not enough memory for it; cut out a part of it") from error
    except (soundfile.SoundFileError, OSError) as error:
        told = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
        reason = " ".join(told.split()).rstrip(".").lower()
        reason = reason.removeprefix("error : ")
        raise UnreadableAudio(f"cannot read {path} as audio ({reason}); give a WAV, FLAC, MP3 or OGG file") from error


def encode(waveform: Waveform, sample_rate: int, suffix: str, name: str | Path, *, bitrate: int | None = None) -> bytes:
    """Return the content of an audio file.

    Args:
        waveform: `[channels, time]`.
        sample_rate: in Hz.
        suffix: of the format: ".wav", ".flac", ".ogg" or ".mp3".
        name: of the audio or the file, for messages.
        bitrate: of an MP3, in kbit/s, constant; what the library chooses by default.

    Raises:
        InvalidInput: the suffix is another one, the format cannot hold this audio, or samples are not finite and the
            format cannot say so.
        OutputError: the system has no room for it.
    """
    if suffix == ".wav":
        return _encode_wav(waveform, sample_rate)
    if suffix not in (".flac", ".ogg", ".mp3"):
        raise InvalidInput(f"cannot write {name}: unknown ending {suffix!r}; use .wav, .flac, .ogg or .mp3")
    if not np.isfinite(waveform).all():
        raise InvalidInput(f"cannot write {name}: samples are not finite (NaN or infinite); only .wav can hold them")
    over = int((np.abs(waveform) > 1).sum())
    if over:
        peak = float(np.abs(waveform).max())
        logger.warning("%s: %d samples beyond full scale (peak %.3f) are clamped; .wav holds them", name, over, peak)
    return _encode_by_codec(waveform, sample_rate, suffix, name, bitrate)


def flac_holds(waveform: Waveform, sample_rate: int) -> bool:
    """Return whether a FLAC file can hold a waveform: to 24 bits, and without clamping anything.

    It holds 1 to 8 channels of finite samples within [-1, 1], at a sample rate up to 65,535 Hz, or a multiple of
    10 Hz up to 655,350 Hz.
    """
    channels, time = waveform.shape
    rate_fits = sample_rate <= 65_535 or (sample_rate % 10 == 0 and sample_rate <= 655_350)
    with np.errstate(invalid="ignore"):
        return rate_fits and channels <= _FLAC_MAX_CHANNELS and time > 0 and bool((np.abs(waveform) <= 1).all())


def flac_levels(waveform: Waveform) -> NDArray[np.int32]:
    """Return the 24-bit integers that a FLAC file holds for a waveform; divided by 2**23 they are its samples again.

    The library's own conversion from floats has another full scale, and would change what is written twice.
    """
    levels: Waveform = np.rint(waveform * np.float32(_FLAC_ONE)).clip(-_FLAC_ONE, _FLAC_ONE - 1)
    return levels.astype(np.int32)


def flac_samples(waveform: Waveform) -> Waveform:
    """Return a waveform as it is read again from a FLAC file."""
    return flac_levels(waveform).astype(np.float32) / np.float32(_FLAC_ONE)


@contextlib.contextmanager
def _sound(path: Path) -> Iterator[io.FileIO]:
    """Open what the library is to read: the file, or of an MP3 file a copy of its sound stream."""
    with open_file(path) as file:
        if mp3.is_mp3(file, path.suffix):
            if (size := os.fstat(file.fileno()).st_size) > mp3.MAX_BYTES:
                raise UnreadableAudio(
                    f"{path} has {size / 2**20:.0f} MiB, the limit for an MP3 is {mp3.MAX_BYTES / 2**20:g} MiB; cut it"
                )
            file.seek(0)
            with _nameless_file() as copy:
                copy.write(mp3.stream(file.readall(), path))
                copy.seek(0)
                yield copy
            return
        file.seek(mp3.behind_tag(file))
        if file.read(4) not in _BEGINS:
            raise UnreadableAudio(f"cannot read {path} as audio (no begin of one); give a WAV, FLAC, MP3 or OGG file")
        file.seek(0)
        whole.check_whole(file, path)
        file.seek(0)
        yield file


def _check_file(path: Path) -> None:
    if os.path.isdir(path):
        raise UnreadableAudio(f"{path} is a folder; expected an audio file (WAV, FLAC, MP3 or OGG)")
    # not Path.exists, which raises on a name that is too long to be one
    if not os.path.exists(path):
        raise UnreadableAudio(f"no such audio file: {path}; check the path")
    if not os.path.isfile(path):
        raise UnreadableAudio(f"{path} is a pipe or a device; write the audio to a file first")
    if os.path.getsize(path) == 0:
        raise UnreadableAudio(f"{path} is empty (0 bytes); record or export it again")


def _encode_wav(waveform: Waveform, sample_rate: int) -> bytes:
    # not by soundfile: libsndfile stores the time of day in float files, and equal audio must give equal files
    from scipy.io import wavfile

    buffer = io.BytesIO()
    wavfile.write(buffer, sample_rate, waveform.T)
    return buffer.getvalue()


def _encode_by_codec(waveform: Waveform, sample_rate: int, suffix: str, name: str | Path, bitrate: int | None) -> bytes:
    """Return the content of a FLAC, OGG or MP3 file."""
    import soundfile

    container, encoding = {
        ".flac": ("FLAC", "PCM_24"),
        ".ogg": ("OGG", "VORBIS"),
        ".mp3": ("MP3", "MPEG_LAYER_III"),
    }[suffix]
    channels, frames = waveform.shape
    refused = InvalidInput(
        f"cannot write {name}: no {container} with {channels} channels at {sample_rate} Hz; use .wav"
    )
    if container == "OGG" and sample_rate > _VORBIS_MAX_RATE:
        raise refused
    failure = None
    try:
        with _nameless_file() as file:
            try:
                parameters = (sample_rate, channels, encoding, None, container)
                with soundfile.SoundFile(
                    file.fileno(), "w", *parameters, closefd=False, **_constant(bitrate, sample_rate)
                ) as sound:
                    # in blocks: of an OGG, the library crashes on half a minute at once
                    for start in range(0, frames, _BLOCK):
                        block = waveform[:, start : start + _BLOCK]
                        samples = flac_levels(block) << 8 if suffix == ".flac" else block.clip(-1, 1)
                        sound.write(np.ascontiguousarray(samples.T))
            except soundfile.SoundFileError as error:
                failure = error
            # the library does not say that its last bytes found no room; then a further byte finds none either
            size = file.seek(0, os.SEEK_END)
            file.write(b"\0")
            if getattr(failure, "code", None) == _SYSTEM_ERROR:
                raise OSError("the system refused to write")
            if failure:
                raise refused from failure
            file.truncate(size)
            file.seek(0)
            return file.readall()
    except OSError as error:
        raise cannot_write(Path(name), error) from error


def _constant(bitrate: int | None, sample_rate: int) -> dict[str, Any]:
    """Return what the library wants to be told for an MP3 of a constant bit rate: a place between its most and least."""
    if bitrate is None:
        return {}
    most, least = (320, 32) if sample_rate >= _MPEG_1 else (160, 8)
    return {"bitrate_mode": "CONSTANT", "compression_level": min(max((most - bitrate) / (most - least), 0.0), 0.99)}


def _nameless_file() -> io.FileIO:
    """Return a file without a name, in memory where the system can hold one there."""
    if hasattr(os, "memfd_create"):
        return io.FileIO(os.memfd_create("rerank"), "w+")
    return tempfile.TemporaryFile(buffering=0)
