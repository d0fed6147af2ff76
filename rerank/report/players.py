"""The sound of a page: how good the copies can be that fit into it, and for how many takes there is room.

**Conventions**: bit rates in kbit/s per channel; sizes in bytes of the page, where a copy stands as base64.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rerank.audio import Audio, resample, to_mono
from rerank.formats import codec

_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # that MP3 knows
_OVERHEAD = 2_000  # bytes: the first and the last frame, and the tag before them


@dataclass(frozen=True)
class Quality:
    """What a copy is like.

    Attributes:
        bitrate: in kbit/s per channel.
        sample_rate: in Hz, at most.
        channels: at most.
    """

    bitrate: int
    sample_rate: int
    channels: int

    def __str__(self) -> str:
        """Say it in words."""
        kind = "stereo" if self.channels > 1 else "mono"
        return f"MP3 in {kind} at {self.bitrate * self.channels} kbit/s and up to {self.sample_rate / 1000:g} kHz"

    def channels_of(self, audio: Audio) -> int:
        """Return how many channels the copy has."""
        return audio.channels if audio.channels <= self.channels else 1

    def size_of(self, audio: Audio) -> int:
        """Return how many bytes of a page a copy takes."""
        content = audio.duration * self.bitrate * self.channels_of(audio) * 1000 / 8
        return round((content * 1.01 + _OVERHEAD) * 4 / 3)


QUALITIES = (
    Quality(64, 48_000, 2),
    Quality(48, 48_000, 2),
    Quality(32, 24_000, 2),
    Quality(24, 24_000, 2),
    Quality(32, 24_000, 1),
)
"""From the best on: the first is used with which all takes fit, or the last for as many of the best as fit."""


def fitting(pieces: Sequence[Audio], room: int) -> tuple[Quality, int]:
    """Return the quality at which copies of these fit into a page, and of how many, from the first on.

    Args:
        pieces: in the order in which they matter.
        room: in bytes.
    """
    for quality in QUALITIES:
        if sum(map(quality.size_of, pieces)) <= room:
            return quality, len(pieces)
    sizes = np.cumsum([QUALITIES[-1].size_of(piece) for piece in pieces])
    return QUALITIES[-1], int(np.searchsorted(sizes, room, "right"))


def player(audio: Audio, quality: Quality) -> str:
    """Return a copy as the data: address of an MP3; what goes beyond full scale is cut there, as it is when played."""
    copy = audio if quality.channels_of(audio) == audio.channels else to_mono(audio)
    wanted = min(copy.sample_rate, quality.sample_rate)
    copy = resample(copy, max(rate for rate in _RATES if rate <= wanted))
    content = codec.encode(
        copy.waveform.clip(-1, 1), copy.sample_rate, ".mp3", "a player", bitrate=quality.bitrate * copy.channels
    )
    return "data:audio/mpeg;base64," + base64.b64encode(content).decode()
