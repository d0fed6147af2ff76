"""Audio in memory and on disk: the only module that knows file formats, resampling and channels.

**Conventions**: waveforms are float32 `[channels, time]` in [-1, 1], sample rates in Hz, durations in seconds.
Nothing here changes a level: a waveform beyond full scale stays so in memory and in WAV files (32-bit floats).
"""

import contextlib
import io
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank.errors import InvalidInput, UnreadableAudio
from rerank.files import as_path, write_bytes

Waveform = NDArray[np.float32]

MIN_SAMPLE_RATE = 8_000
MAX_SAMPLE_RATE = 192_000
MAX_REFERENCE_DURATION = 600.0
"""Of a reference audio, in seconds."""

_MAX_CHANNELS = 64  # more is a waveform whose axes are swapped
_FLAC_MAX_CHANNELS = 8
_UNKNOWN_LENGTH = 0x7FFF_0000  # from here on, the length in a WAV header is what a program writes that cannot know it
_FIXED_POINT = {".flac": ("FLAC", "PCM_24"), ".ogg": ("OGG", "VORBIS"), ".mp3": ("MP3", "MPEG_LAYER_III")}

_descriptor_lock = threading.Lock()

logger = logging.getLogger("rerank")


@dataclass(frozen=True, eq=False)
class Audio:
    """A piece of audio.

    Attributes:
        waveform: float32, full scale is 1.
        sample_rate: in Hz.
        path: the file it was read from, if any.

    Shape:
        waveform: `[channels, time]`

    Raises:
        InvalidInput: the waveform has another type or shape, or the sample rate is no positive whole number.

    >>> Audio(np.zeros((2, 24000), np.float32), 48000).duration
    0.5
    """

    waveform: Waveform
    sample_rate: int
    path: Path | None = None

    def __post_init__(self) -> None:
        _check_waveform(self.waveform)
        if not isinstance(self.sample_rate, int | np.integer) or self.sample_rate <= 0:
            raise InvalidInput(f"sample_rate must be a whole number of Hz above 0, got {self.sample_rate!r}")
        object.__setattr__(self, "sample_rate", int(self.sample_rate))

    def __repr__(self) -> str:
        origin = f", path={str(self.path)!r}" if self.path else ""
        return f"Audio({self.channels} channels, {self.duration:.2f} s, {self.sample_rate} Hz{origin})"

    @property
    def channels(self) -> int:
        """How many channels it has."""
        return int(self.waveform.shape[0])

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return float(self.waveform.shape[1] / self.sample_rate)

    def is_finite(self) -> bool:
        """Return whether no sample is NaN or infinite."""
        return bool(np.isfinite(self.waveform).all())

    def save(self, path: str | Path) -> Path:
        """Write it to a file, as `write` does, and return the path."""
        return write(self, path)


AudioLike = str | Path | Audio | tuple[Any, int]
"""What stands for audio in the Python API: a path, an `Audio`, or `(waveform, sample_rate)`."""


def read(path: str | Path, *, max_duration: float | None = None, finite: bool = True) -> Audio:
    """Read a WAV, FLAC, MP3 or OGG file, with its channels and sample rate as they are.

    Args:
        path: of the file.
        max_duration: refuse longer ones, in seconds.
        finite: refuse samples that are NaN or infinite.

    Raises:
        UnreadableAudio: the file is missing, empty, damaged, not audio, without samples, not finite, too long, or its
            sample rate is outside 8 to 192 kHz.
    """
    import soundfile

    path = as_path("audio", path)
    _check_file(path)
    try:
        if path.is_file() and (missing := _missing_bytes(path)):
            raise UnreadableAudio(
                f"{path} is damaged: {missing} bytes of its sound are missing at its end; get it again"
            )
        # as bytes: a file name need not be UTF-8
        with _quiet_codec(), soundfile.SoundFile(os.fsencode(path)) as file:
            sample_rate, frames = int(file.samplerate), int(file.frames)
            _check_sample_rate(f"{path}: sample rate", sample_rate, UnreadableAudio)
            limit = -1 if max_duration is None else int(max_duration * sample_rate) + 1
            samples = file.read(limit, dtype="float32", always_2d=True)
            # encoders of MP3 do not agree on which of its padding counts
            padding = sample_rate // 2 if file.format == "MP3" else 0
    # soundfile asks for the missing parameters of headerless formats (.raw) by a TypeError
    except (soundfile.SoundFileError, TypeError, OSError) as error:
        # without the name, which the library repeats as bytes
        reason = " ".join(getattr(error, "error_string", str(error)).split()).rstrip(".").lower()
        reason = reason.removeprefix("error : ")
        raise UnreadableAudio(f"cannot read {path} as audio ({reason}); give a WAV, FLAC, MP3 or OGG file") from error
    if len(samples) == limit:
        raise UnreadableAudio(_long_message(str(path), frames / sample_rate, max_duration))
    if len(samples) < frames - padding:
        raise UnreadableAudio(
            f"{path} is damaged: only {len(samples)} of its {frames} samples can be decoded; get it again"
        )
    if len(samples) == 0:
        raise UnreadableAudio(f"{path} holds no audio (0 samples); record or export it again")
    audio = Audio(np.ascontiguousarray(samples.T), sample_rate, path)
    if finite and not audio.is_finite():
        raise UnreadableAudio(f"{path} holds samples that are not finite (NaN or infinite); export it again")
    return audio


def write(audio: Audio, path: str | Path) -> Path:
    """Write audio to a file whose name says the format, and return its path.

    `.wav` holds 32-bit floats: every sample exactly, also beyond full scale. `.flac` holds 24-bit integers, and `.ogg`
    and `.mp3` are lossy: these cannot hold samples beyond full scale, so such samples are clamped to it and a warning
    is logged. A file of that name is replaced; a failed write leaves no half file.

    Raises:
        InvalidInput: the ending is another one, the format cannot hold this audio, or samples are not finite and the
            format cannot say so.
        OutputError: the disk is full, or the folder is missing or may not be written.
    """
    path = as_path("path", path)
    suffix = path.suffix.lower()
    if suffix == ".wav":
        content = _encode_wav(audio)
    elif suffix in _FIXED_POINT:
        content = _encode_fixed_point(audio, path, *_FIXED_POINT[suffix])
    else:
        raise InvalidInput(f"cannot write {path}: unknown ending {path.suffix!r}; use .wav, .flac, .ogg or .mp3")
    write_bytes(path, content)
    return path


def lossless_suffix(audio: Audio) -> str:
    """Return the ending under which `write` keeps the audio as it is: `.flac` where it can hold it, else `.wav`.

    FLAC holds up to 8 channels of finite samples within [-1, 1], to 24 bits.
    """
    with np.errstate(invalid="ignore"):
        fits = audio.channels <= _FLAC_MAX_CHANNELS and bool((np.abs(audio.waveform) <= 1).all())
    return ".flac" if fits and audio.duration > 0 else ".wav"


def resample(audio: Audio, sample_rate: int) -> Audio:
    """Return the audio at another sample rate (soxr, quality HQ); itself where it has that rate already.

    Shape:
        `[channels, time]` -> `[channels, round(time * sample_rate / audio.sample_rate)]`, halves rounded up.
    """
    if sample_rate == audio.sample_rate:
        return audio
    import soxr

    time = audio.waveform.shape[1]
    length = (2 * time * sample_rate + audio.sample_rate) // (2 * audio.sample_rate)
    made = soxr.resample(audio.waveform.T, audio.sample_rate, sample_rate, quality="HQ").T[:, :length]
    # soxr rounds halves either way: one sample of silence makes up for it
    made = np.pad(made, ((0, 0), (0, length - made.shape[1])))
    return Audio(np.ascontiguousarray(made, dtype=np.float32), sample_rate, audio.path)


def to_mono(audio: Audio) -> Audio:
    """Return the mean of the channels; itself where there is only one.

    Shape:
        `[channels, time]` -> `[1, time]`
    """
    if audio.channels == 1:
        return audio
    return Audio(audio.waveform.mean(axis=0, keepdims=True, dtype=np.float32), audio.sample_rate, audio.path)


def as_audio(value: AudioLike, *, max_duration: float | None = None, finite: bool = True) -> Audio:
    """Return the audio that a path, an `Audio` or `(waveform, sample_rate)` stands for.

    A waveform may be any float array or tensor `[channels, time]`, or `[time]` for one channel.

    Args:
        value: what stands for audio.
        max_duration: refuse longer ones, in seconds.
        finite: refuse samples that are NaN or infinite.

    Raises:
        UnreadableAudio: it is a file that cannot be used.
        InvalidInput: it is something else that cannot be used; the message says how to pass it.
    """
    if isinstance(value, str | Path):
        return read(value, max_duration=max_duration, finite=finite)
    audio = value if isinstance(value, Audio) else _from_pair(value)
    _check_sample_rate("sample_rate", audio.sample_rate, InvalidInput)
    if audio.waveform.shape[1] == 0:
        raise InvalidInput(f"waveform holds no audio, its shape is {audio.waveform.shape}; pass at least one sample")
    if finite and not audio.is_finite():
        raise InvalidInput("waveform holds samples that are not finite (NaN or infinite); replace or remove them first")
    if max_duration is not None and audio.duration > max_duration:
        raise InvalidInput(_long_message("audio", audio.duration, max_duration))
    return audio


def _from_pair(value: object) -> Audio:
    """Return the audio of `(waveform, sample_rate)`; refuse everything else with the likely cause."""
    if isinstance(value, tuple | list) and value and all(isinstance(part, str | Path | Audio) for part in value):
        raise InvalidInput(
            f"expected one piece of audio, got a {type(value).__name__} of {len(value)}; pass a list of them"
        )
    if not isinstance(value, tuple | list) or len(value) != 2:
        kind = type(value).__name__
        raise InvalidInput(f"expected audio as a path, an Audio or (waveform, sample_rate), got {kind}")
    waveform, sample_rate = value
    if isinstance(waveform, int) and not isinstance(sample_rate, int):
        raise InvalidInput("got (sample_rate, waveform); pass (waveform, sample_rate)")
    if hasattr(waveform, "detach"):  # a torch tensor, told without importing torch
        waveform = waveform.detach().cpu().numpy()
    try:
        array = np.asarray(waveform)
    except ValueError as error:
        raise InvalidInput("waveform has channels of different lengths; pass an array [channels, time]") from error
    if np.issubdtype(array.dtype, np.integer):
        scale = -int(np.iinfo(array.dtype).min) or int(np.iinfo(array.dtype).max)
        raise InvalidInput(
            f"waveform must be floats in [-1, 1], got {array.dtype}; pass waveform.astype('float32') / {scale}"
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise InvalidInput(f"waveform must be floats in [-1, 1], got {array.dtype}; pass a float array or tensor")
    if array.ndim == 1:
        array = array[np.newaxis]
    return Audio(np.ascontiguousarray(array, dtype=np.float32), sample_rate)


def _check_waveform(waveform: object) -> None:
    if not isinstance(waveform, np.ndarray):
        kind = type(waveform).__name__
        raise InvalidInput(f"waveform must be a numpy array [channels, time], got {kind}; pass a float32 array")
    shape = waveform.shape
    if waveform.ndim == 1:
        raise InvalidInput(f"waveform must be [channels, time], got shape {shape}; pass waveform[None]")
    if waveform.ndim == 3 and shape[0] == 1:
        raise InvalidInput(f"waveform must be [channels, time], got shape {shape}; pass waveform[0]")
    if waveform.ndim != 2 or shape[0] == 0:
        raise InvalidInput(f"waveform must be [channels, time], got shape {shape}; pass one piece of audio")
    if shape[0] > _MAX_CHANNELS:
        raise InvalidInput(f"waveform must be [channels, time], got shape {shape}; pass waveform.T")
    if waveform.dtype != np.float32:
        raise InvalidInput(f"waveform must be float32, got {waveform.dtype}; pass waveform.astype('float32')")


def _check_file(path: Path) -> None:
    if os.path.isdir(path):
        raise UnreadableAudio(f"{path} is a folder; expected an audio file (WAV, FLAC, MP3 or OGG)")
    # not Path.exists, which raises on a name that is too long to be one
    if not os.path.exists(path):
        raise UnreadableAudio(f"no such audio file: {path}; check the path")
    if path.is_file() and path.stat().st_size == 0:
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


def _check_sample_rate(name: str, sample_rate: int, error: type[InvalidInput]) -> None:
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise error(
            f"{name} must be {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz, got {sample_rate}; convert it to 44100 Hz first"
        )


def _long_message(name: str, duration: float, max_duration: float | None) -> str:
    return f"{name} is {duration:.1f} s long, the limit is {max_duration:g} s; cut out the part that matters"


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


def _encode_wav(audio: Audio) -> bytes:
    # not by soundfile: libsndfile stores the time of day in float files, and equal audio must give equal files
    from scipy.io import wavfile

    buffer = io.BytesIO()
    wavfile.write(buffer, audio.sample_rate, audio.waveform.T)
    return buffer.getvalue()


def _encode_fixed_point(audio: Audio, path: Path, container: str, encoding: str) -> bytes:
    import soundfile

    if not audio.is_finite():
        raise InvalidInput(f"cannot write {path}: samples are not finite (NaN or infinite); only .wav can hold them")
    over = np.abs(audio.waveform) > 1
    if over.any():
        peak = float(np.abs(audio.waveform).max())
        logger.warning(
            "%s: %d samples beyond full scale (peak %.3f) are clamped; .wav holds them", path, over.sum(), peak
        )
    samples = np.clip(audio.waveform, -1, 1).T
    buffer = io.BytesIO()
    try:
        with _quiet_codec():
            soundfile.write(buffer, samples, audio.sample_rate, format=container, subtype=encoding)
    except soundfile.SoundFileError as error:
        raise InvalidInput(
            f"cannot write {path}: no {container} with {audio.channels} channels at {audio.sample_rate} Hz; use .wav"
        ) from error
    return buffer.getvalue()
