"""The audio of a page: for each piece its pictures and its player.

**Conventions**: a piece is read once, a few at a time, and only what is drawn and played of it is kept.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rerank.audio import Audio
from rerank.errors import UnreadableAudio
from rerank.report.pictures import HIGHEST, LOWEST, Drawing, drawing_of, scale_of, spectrogram, waveform_path
from rerank.report.players import Quality, fitting, player
from rerank.report.words import decibels, relative

_TOGETHER = 4  # pieces that are read at a time, at most


@dataclass(frozen=True)
class Sound:
    """A piece of audio as a page shows it.

    Attributes:
        wave: data of a path; empty where there is no picture.
        columns: of the path.
        mel: data: address of an image; empty where there is no picture.
        player: data: address of an MP3; empty where there is no player.
        level: its peak, in words.
        hertz: from where to where the spectrogram goes, in words.
        fault: why it can be neither seen nor heard; empty where it can, or where there is no audio.
    """

    wave: str = ""
    columns: int = 1
    mel: str = ""
    player: str = ""
    level: str = ""
    hertz: str = ""
    fault: str = ""


@dataclass(frozen=True)
class Sounds:
    """All that a page shows and plays.

    Attributes:
        each: in the order in which they were given.
        quality: of the players; None where there are none.
        peak: that has full height in the waveforms.
        mute: how many have pictures, and for want of room no player.
    """

    each: Sequence[Sound]
    quality: Quality | None
    peak: float
    mute: int


@dataclass(frozen=True)
class _Heard:
    drawing: Drawing | None = None
    player: str = ""
    fault: str = ""


@contextlib.contextmanager
def listening(
    pieces: Sequence[Audio | None], folder: Path, room: int
) -> Iterator[Callable[[Callable[[int], None]], Sounds]]:
    """Read pieces of audio while the block runs, draw them to one scale and copy them, as far as there is room.

    Gives a function that waits for them, is told how many are done, and returns what a page shows and plays.

    Args:
        pieces: in the order in which they matter; None where there is no audio.
        folder: of the page.
        room: for players, in bytes of the page.
    """
    there = [place for place, audio in enumerate(pieces) if audio is not None]
    quality, count = fitting([audio for audio in pieces if audio is not None], room)
    played = set(there[:count])

    def heard(place: int) -> _Heard:
        return _heard(pieces[place], folder, quality if place in played else None)

    with ThreadPoolExecutor(min(_TOGETHER, os.cpu_count() or 1)) as pool:
        answers = pool.map(heard, range(len(pieces)))

        def sounds(on_piece: Callable[[int], None]) -> Sounds:
            found = []
            for one in answers:
                found.append(one)
                on_piece(len(found))
            return _together(pieces, found, quality)

        try:
            yield sounds
        except BaseException:  # after a Ctrl-C, too, nothing more is begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _together(pieces: Sequence[Audio | None], found: Sequence[_Heard], quality: Quality) -> Sounds:
    peak, loudest = scale_of([one.drawing for one in found if one.drawing])
    each = [_drawn(audio, one, peak, loudest) for audio, one in zip(pieces, found, strict=True)]
    mute = sum(bool(one.mel) and not one.player for one in each)
    return Sounds(each, quality if any(one.player for one in each) else None, peak, mute)


def _heard(audio: Audio | None, folder: Path, quality: Quality | None) -> _Heard:
    if audio is None:
        return _Heard()
    try:
        audio = audio.loaded()
    except UnreadableAudio as error:
        told = str(error)
        # a page says where a file is as seen from there
        return _Heard(fault=told.replace(str(audio.path), relative(audio.path, folder)) if audio.path else told)
    if not audio.frames:
        return _Heard(fault="it has no samples")
    if not audio.is_finite():
        return _Heard(fault="some of its samples are not finite")
    return _Heard(drawing_of(audio), player(audio, quality) if quality else "")


def _drawn(audio: Audio | None, heard: _Heard, peak: float, loudest: float) -> Sound:
    drawing = heard.drawing
    if audio is None or drawing is None:
        return Sound(fault=heard.fault)
    return Sound(
        wave=waveform_path(drawing, peak),
        columns=len(drawing.lows),
        mel=spectrogram(drawing, loudest),
        player=heard.player,
        level=f"peak {decibels(drawing.peak)}",
        hertz=f"{LOWEST:g} Hz to {min(HIGHEST, audio.sample_rate / 2) / 1000:g} kHz",
    )
