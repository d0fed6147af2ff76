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
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rerank.errors import InvalidInput, UnreadableAudio
from rerank.files import cannot_write

Waveform = NDArray[np.float32]

_FLAC_MAX_CHANNELS = 8
_FLAC_ONE = 2**23
"""Full scale of 24-bit integers."""
_VORBIS_MAX_RATE = 200_000  # the library crashes beyond it
_UNKNOWN_LENGTH = 0x7FFF_0000  # from here on, the length in a WAV header is what a program writes that cannot know it
_UNKNOWN_FRAMES = 2**62  # likewise in the answer of the library
_SYSTEM_ERROR = 2  # of libsndfile: the system refused to write

_descriptor_lock = threading.Lock()

logger = logging.getLogger("rerank")


class Header(NamedTuple):
    """What the header of an audio file says.

    Attributes:
        sample_rate: in Hz.
        channels: how many.
        frames: samples of each channel.
        estimated: whether decoding may give a few frames more or fewer: MP3 encoders do not agree on which of the
            padding counts.
    """

    sample_rate: int
    channels: int
    frames: int
    estimated: bool


def header(path: Path) -> Header:
    """Return what the header of an audio file says, without decoding its samples.

    Raises:
        UnreadableAudio: the file is missing, empty, not audio, or a WAV file that ends early.
    """
    with _opened(path) as file:
        return _header(file, path)


def decode(path: Path, limit: int | None = None) -> tuple[Waveform, int]:
    """Return the waveform and the sample rate of an audio file.

    Args:
        path: of the file.
        limit: how many frames to decode at most.

    Raises:
        UnreadableAudio: as `header`; or the file is damaged.
    """
    with _opened(path) as file:
        told = _header(file, path)
        samples = file.read(-1 if limit is None else limit, dtype="float32", always_2d=True)
    least = told.frames if limit is None else min(told.frames, limit)
    if told.estimated:
        least = max(least - told.sample_rate // 2, 1)
    if len(samples) < least:
        raise UnreadableAudio(
            f"{path} is damaged: only {len(samples)} of its {told.frames} samples can be decoded; get it again"
        )
    return np.ascontiguousarray(samples.T), told.sample_rate


def encode(waveform: Waveform, sample_rate: int, suffix: str, name: str | Path) -> bytes:
    """Return the content of an audio file.

    Args:
        waveform: `[channels, time]`.
        sample_rate: in Hz.
        suffix: of the format: ".wav", ".flac", ".ogg" or ".mp3".
        name: of the audio or the file, for messages.

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
    samples = flac_levels(waveform) << 8 if suffix == ".flac" else waveform.clip(-1, 1)
    return _encode_by_codec(np.ascontiguousarray(samples.T), sample_rate, suffix, name)


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
def _opened(path: Path) -> Iterator[Any]:
    """Open an audio file; what the library then refuses is told in one line."""
    import soundfile

    _check_file(path)
    try:
        if missing := _missing_bytes(path):
            raise UnreadableAudio(
                f"{path} is damaged: {missing} bytes of its sound are missing at its end; get it again"
            )
        # as bytes: a file name need not be UTF-8
        with _quiet_codec(), soundfile.SoundFile(os.fsencode(path)) as file:
            yield file
    # soundfile asks for the missing parameters of headerless formats (.raw) by a TypeError
    except (soundfile.SoundFileError, TypeError, OSError, MemoryError) as error:
        # without the name, which the library repeats as bytes
        reason = " ".join(getattr(error, "error_string", str(error)).split()).rstrip(".").lower()
        reason = reason.removeprefix("error : ")
        raise UnreadableAudio(f"cannot read {path} as audio ({reason}); give a WAV, FLAC, MP3 or OGG file") from error


def _header(file: Any, path: Path) -> Header:
    if file.frames >= _UNKNOWN_FRAMES:
        raise UnreadableAudio(f"{path} does not say how long it is; convert it to WAV")
    return Header(int(file.samplerate), int(file.channels), int(file.frames), file.format == "MP3")


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


def _missing_bytes(path: Path) -> int:
    """Return how many bytes the header of a WAV file promises beyond its end; 0 for files of other formats."""
    with open(path, "rb") as file:
        header = file.read(12)
        if header[:4] != b"RIFF" or header[8:] != b"WAVE":
            return 0
        while len(chunk := file.read(8)) == 8:
            length = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"data":
                present = os.fstat(file.fileno()).st_size - file.tell()
                return max(0, length - present) if length < _UNKNOWN_LENGTH else 0
            file.seek(length + length % 2, os.SEEK_CUR)
    return 0


@contextlib.contextmanager
def _quiet_codec() -> Iterator[None]:
    """Keep the MP3 codec from printing to standard error: what it has to say, the exception says in one line.

    It writes to the file descriptor itself, past `sys.stderr`; the lock keeps two threads from undoing each other.
    """
    with _descriptor_lock:
        try:
            kept = os.dup(2)
        except OSError:  # standard error is closed: nothing to keep clean
            yield
            return
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _encode_wav(waveform: Waveform, sample_rate: int) -> bytes:
    # not by soundfile: libsndfile stores the time of day in float files, and equal audio must give equal files
    from scipy.io import wavfile

    buffer = io.BytesIO()
    wavfile.write(buffer, sample_rate, waveform.T)
    return buffer.getvalue()


def _encode_by_codec(samples: NDArray[Any], sample_rate: int, suffix: str, name: str | Path) -> bytes:
    """Return the content of a FLAC, OGG or MP3 file.

    Shape:
        samples: `[time, channels]`
    """
    import soundfile

    container, encoding = {
        ".flac": ("FLAC", "PCM_24"),
        ".ogg": ("OGG", "VORBIS"),
        ".mp3": ("MP3", "MPEG_LAYER_III"),
    }[suffix]
    channels = samples.shape[1]
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
                with soundfile.SoundFile(file.fileno(), "w", *parameters, closefd=False) as sound:
                    sound.write(samples)
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


def _nameless_file() -> io.FileIO:
    """Return a file without a name, in memory where the system can hold one there."""
    if hasattr(os, "memfd_create"):
        return io.FileIO(os.memfd_create("rerank"), "w+")
    return tempfile.TemporaryFile(buffering=0)
