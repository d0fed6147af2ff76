"""Audio in memory and on disk: resampling, channels, and what stands for audio.

**Conventions**: waveforms are float32 `[channels, time]` in [-1, 1], sample rates in Hz, durations in seconds.
Nothing here changes a level: a waveform beyond full scale stays so in memory and in WAV files (32-bit floats).
"""

import hashlib
import itertools
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rerank.errors import InvalidInput, UnreadableAudio
from rerank.files import as_path, sha256_of, write_bytes
from rerank.formats import codec
from rerank.formats.waveform import Waveform, as_waveform, check_waveform

MIN_SAMPLE_RATE = 8_000
MAX_SAMPLE_RATE = 192_000
MAX_REFERENCE_DURATION = 600.0
"""Of a reference audio, in seconds."""
MAX_DURATION = 1_200.0
"""Of audio made elsewhere that is ranked or scored, in seconds, where no other limit is given."""
MOST_HELD = 2**27
"""Samples of all channels that a batch may be held in memory of, 512 MiB, before its last piece comes."""
MIN_DURATION = 0.1
"""Of a reference and of a take, in seconds: in less there is nothing to hear."""


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Audio:
    """A piece of audio: it holds its waveform, or stands for a file that is read whenever its waveform is used.

    Attributes:
        sample_rate: in Hz.
        channels: how many it has.
        frames: samples of each channel.
        path: the file it was read from, if any.
        sha256: of its file, or of its samples and rate where it has none; worked out when it is first asked for.

    Shape:
        waveform: `[channels, time]`, float32, full scale is 1.

    Raises:
        InvalidInput: the waveform has another type or shape, or the sample rate is no positive whole number.

    >>> Audio(np.zeros((2, 24000), np.float32), 48000).duration
    0.5
    """

    sample_rate: int
    channels: int
    frames: int
    path: Path | None
    _held: Waveform | None
    _in_use: "weakref.ref[Waveform] | None"
    _sha256: str | None

    def __init__(self, waveform: Waveform, sample_rate: int, path: Path | None = None) -> None:
        check_waveform(waveform)
        channels, frames = waveform.shape
        self._set(waveform, sample_rate, channels, frames, path)

    @classmethod
    def stored(
        cls, path: str | Path | None, *, sample_rate: int, channels: int, frames: int, sha256: str | None = None
    ) -> "Audio":
        """Return the audio that a file holds, without reading it: that happens each time its waveform is asked for.

        `inspect` finds the numbers out. With None for the path it stands for audio of which no file is left.

        Raises:
            InvalidInput: `path` is no path, or a number is no whole number that can be one.
        """
        audio = object.__new__(cls)
        for name, value, low in (("channels", channels, 1), ("frames", frames, 0)):
            if not isinstance(value, int | np.integer) or value < low:
                raise InvalidInput(f"{name} must be a whole number from {low} on, got {value!r}")
        place = None if path is None else as_path("path", path)
        audio._set(None, sample_rate, int(channels), int(frames), place, sha256)
        return audio

    def _set(
        self,
        held: Waveform | None,
        sample_rate: int,
        channels: int,
        frames: int,
        path: Path | None,
        sha256: str | None = None,
    ) -> None:
        if not isinstance(sample_rate, int | np.integer) or sample_rate <= 0:
            raise InvalidInput(f"sample_rate must be a whole number of Hz above 0, got {sample_rate!r}")
        parts = {"sample_rate": int(sample_rate), "channels": channels, "frames": frames, "path": path}
        for name, value in (*parts.items(), ("_held", held), ("_in_use", None), ("_sha256", sha256)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        origin = f", path={str(self.path)!r}" if self.path else ""
        return f"Audio({self.channels} channels, {self.duration:.2f} s, {self.sample_rate} Hz{origin})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_in_use": None}  # pickle takes no weak reference

    @property
    def waveform(self) -> Waveform:
        """The samples. Where the audio stands for a file they are read from it now, and only the caller keeps them.

        Raises:
            UnreadableAudio: the file cannot be read any more, or is another one now: where its hash is known, one byte
                is enough; else its rate, length and number of channels are compared.
        """
        if self._held is not None:
            return self._held
        shared = self._in_use() if self._in_use else None
        if shared is not None:
            return shared
        if self.path is None:
            raise UnreadableAudio("this audio is in no file any more: it was removed, or never stored")
        if self._sha256 is not None and self._sha256 != self._digest():
            raise UnreadableAudio(f"{self.path} has changed since it was stored: its SHA-256 differs; restore it")
        with codec.opened(self.path) as file:
            before, now = (
                f"{one.channels} channels, {one.frames} samples, {one.sample_rate} Hz" for one in (self, file)
            )
            if before != now:
                raise UnreadableAudio(f"{self.path} has changed since: {before} before, {now} now; restore it")
            waveform = file.decode()
        # whoever asks while another still uses it shares the array
        object.__setattr__(self, "_in_use", weakref.ref(waveform))
        return waveform

    def loaded(self) -> "Audio":
        """Return this audio with its waveform held in memory; itself where it is already.

        Raises:
            UnreadableAudio: as `waveform`.
        """
        return self if self._held is not None else Audio(self.waveform, self.sample_rate, self.path)

    @property
    def sha256(self) -> str:
        """SHA-256 in hexadecimal digits: of its file, or of its samples and rate where it has none.

        Raises:
            UnreadableAudio: the file cannot be read any more.
        """
        if self._sha256 is None:
            object.__setattr__(self, "_sha256", self._digest())
        assert self._sha256 is not None
        return self._sha256

    def _digest(self) -> str:
        if self.path is not None:
            try:
                return sha256_of(self.path)
            except OSError as error:
                raise UnreadableAudio(f"cannot read {self.path}: {(error.strerror or str(error)).lower()}") from error
        digest = hashlib.sha256(f"{self.sample_rate} {self.waveform.shape}".encode())
        digest.update(np.ascontiguousarray(self.waveform).data)
        return digest.hexdigest()

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate

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
    path = as_path("audio", path)
    with codec.opened(path) as file:
        _check_usable(file)
        duration = file.frames / file.sample_rate
        if max_duration is not None and duration > max_duration:
            raise UnreadableAudio(_long_message(str(path), duration, max_duration))
        audio = Audio(file.decode(), file.sample_rate, path)
    if finite and not audio.is_finite():
        raise UnreadableAudio(f"{path} holds samples that are not finite (NaN or infinite); export it again")
    return audio


def inspect(path: str | Path) -> Audio:
    """Return the audio of a file as one that is read when it is used: only its header is read now.

    Whether its samples are finite, and whether one is damaged further on, shows when it is used.

    Raises:
        UnreadableAudio: the file is missing, empty, not audio, without samples, a WAV file that ends early, or its
            sample rate is outside 8 to 192 kHz.
    """
    path = as_path("audio", path)
    with codec.opened(path) as file:
        _check_usable(file)
        return Audio.stored(path, sample_rate=file.sample_rate, channels=file.channels, frames=file.frames)


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
    write_bytes(path, encode(audio, path.suffix, name=path))
    return path


def encode(audio: Audio, suffix: str, *, name: str | Path = "audio") -> bytes:
    """Return what `write` puts into a file of this ending.

    Args:
        audio: to be encoded.
        suffix: ".wav", ".flac", ".ogg" or ".mp3".
        name: what messages call it.

    Raises:
        InvalidInput, OutputError: as `write`.
    """
    return codec.encode(audio.waveform, audio.sample_rate, suffix.lower(), name)


def lossless_suffix(audio: Audio) -> str:
    """Return the ending under which `write` keeps the audio as it is: `.flac` where it can hold it, else `.wav`.

    FLAC holds up to 8 channels of finite samples within [-1, 1], to 24 bits: those of `as_stored` exactly.
    """
    return ".flac" if codec.flac_holds(audio.waveform, audio.sample_rate) else ".wav"


def as_stored(audio: Audio) -> Audio:
    """Return the audio with the samples that a file of its `lossless_suffix` holds: what is read again is the same.

    Samples of a FLAC file are rounded to 24 bits, and 1.0 is the level below it; where the file is a WAV of floats, it
    is the audio itself.
    """
    waveform = audio.waveform
    if not codec.flac_holds(waveform, audio.sample_rate):
        return audio
    return Audio(codec.flac_samples(waveform), audio.sample_rate, audio.path)


def resample(audio: Audio, sample_rate: int) -> Audio:
    """Return the audio at another sample rate (soxr, quality HQ); itself where it has that rate already.

    Shape:
        `[channels, time]` -> `[channels, round(time * sample_rate / audio.sample_rate)]`, halves rounded up.
    """
    if sample_rate == audio.sample_rate:
        return audio
    import soxr

    length = (2 * audio.frames * sample_rate + audio.sample_rate) // (2 * audio.sample_rate)
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
    if audio.frames == 0:
        raise InvalidInput(f"waveform holds no audio, its shape is {(audio.channels, 0)}; pass at least one sample")
    if max_duration is not None and audio.duration > max_duration:
        raise InvalidInput(_long_message("audio", audio.duration, max_duration))
    if finite and not audio.is_finite():
        raise InvalidInput("waveform holds samples that are not finite (NaN or infinite); replace or remove them first")
    return audio


def held_together(pieces: Iterable[Audio], most: int) -> int:
    """Return how many of the first pieces make a batch: up to `most`, fewer where they are long, and one at least."""
    held = 0
    for count, piece in enumerate(itertools.islice(pieces, most), start=1):
        held += piece.frames * piece.channels
        if held >= MOST_HELD:
            return count
    return most


def short_fault(audio: Audio) -> str | None:
    """Return why audio is too short for anything to be heard in it, in words; None where it is not."""
    # half a sample of tolerance: a duration is seldom a whole number of samples
    if audio.frames + 0.5 >= MIN_DURATION * audio.sample_rate:
        return None
    return f"{audio.duration:.4g} s, at least {MIN_DURATION:g} s are needed to be judged"


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
    return Audio(as_waveform(waveform), sample_rate)


def _check_usable(file: codec.AudioFile) -> None:
    _check_sample_rate(f"{file.path}: sample rate", file.sample_rate, UnreadableAudio)
    if file.frames == 0:
        raise UnreadableAudio(f"{file.path} holds no audio (0 samples); record or export it again")


def _check_sample_rate(name: str, sample_rate: int, error: type[InvalidInput]) -> None:
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise error(
            f"{name} must be {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz, got {sample_rate}; convert it to 44100 Hz first"
        )


def _long_message(name: str, duration: float, max_duration: float) -> str:
    return f"{name} is {duration:.1f} s long, the limit is {max_duration:g} s; cut out the part that matters"
