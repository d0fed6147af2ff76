"""MP3 streams: cut out of a file, checked frame by frame, led by a frame that says truly how long they are.

The decoder prints what it finds wrong to standard error and goes on behind it, and where no first frame says how long
the stream is, it guesses. So it is given sound streams only; what is wrong with others is told here.

**Source**: frames and side information as in ISO/IEC 11172-3 and 13818-3, Layer III; the first frame as LAME writes it.
"""

import io
import re
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from rerank.errors import UnreadableAudio

_OTHERS = (b"RIFF", b"fLaC", b"OggS", b"FORM")  # how files of other formats begin, whatever they are called
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBPS_LOW = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_NEIGHBOURS = 3  # so many frames in a row are no coincidence
_RATES_BYTES = bytes(byte for byte in range(256) if byte >> 4 not in (0, 15) and byte >> 2 & 3 != 3)
# what may be the header of a frame, as `_frame` sees it
_HEADER = re.compile(rb"\xff(?=[\xe2\xe3\xf2\xf3\xfa\xfb][" + re.escape(_RATES_BYTES) + rb"])")
_MOST_TRIES = 200_000  # of finding the first frames: a hostile file looks like millions
_MOST_FRAMES = 1_000_000  # hours of sound
MAX_BYTES = 2**28
"""Of a file, which is read as a whole."""
_MOST_BIG_VALUES = 288


class _Frame(NamedTuple):
    """A frame.

    Attributes:
        at: where it begins.
        end: where it ends.
        kind: what all frames of a stream have in common: version, sample rate, mono or not.
        side: where its side information begins.
        main: where its side information ends.
    """

    at: int
    end: int
    kind: tuple[int, int, bool]
    side: int
    main: int


def is_mp3(file: io.FileIO, suffix: str) -> bool:
    """Return whether a file, open at its begin, is MP3 as far as its first bytes and its name tell."""
    begin = file.read(10)
    if tag := _tag_length(begin):
        file.seek(tag)
        return file.read(4) not in _OTHERS
    return begin[:4] not in _OTHERS and (suffix.lower() == ".mp3" or (begin[0] == 0xFF and begin[1:2] >= b"\xe0"))


def behind_tag(file: io.FileIO) -> int:
    """Return where the tag ends that a file begins with; 0 where there is none."""
    file.seek(0)
    return _tag_length(file.read(10))


def stream(content: bytes, path: Path) -> bytes:
    """Return the frames in the content of an MP3 file, led by one that says how many they are.

    Tags are left out, and whatever else stands before the first frame or behind the last one. Damage to the coded
    samples inside of a frame does not show before they are decoded: the decoder leaves such a frame silent, and may
    print a line.

    Raises:
        UnreadableAudio: there are no frames, or some are missing or damaged.
    """
    start = _find(content, _behind_tags(content, 0))
    start = _find(content, 0) if start is None else start
    if start is None:
        raise UnreadableAudio(f"cannot read {path} as audio (no MP3 frames in it); give a WAV, FLAC, MP3 or OGG file")
    frames = _frames(content, start, path)
    lead, frames = _split(content, frames, path)
    for frame in frames:
        if not _is_sound(content, frame):
            raise UnreadableAudio(f"{path} is damaged: in the MP3 frame at byte {frame.at}; get it again")
    return lead + b"".join(content[frame.at : frame.end] for frame in frames)


def _find(content: bytes, start: int) -> int | None:
    """Return where the first frames in a row are, from `start` on."""
    tries = islice(_HEADER.finditer(content, start), _MOST_TRIES)
    return next((found.start() for found in tries if _is_run(content, found.start())), None)


def _is_run(content: bytes, at: int) -> bool:
    kinds = set()
    for _ in range(_NEIGHBOURS):
        frame = _frame(content, at)
        if frame is None:
            return False
        kinds.add(frame.kind)
        at = frame.end
        if at == len(content):
            break
    return len(kinds) == 1


def _frame(content: bytes, at: int) -> _Frame | None:
    """Return the frame whose header is at `at`; None if none is. It may end beyond the content."""
    header = content[at : at + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:  # the sync, and Layer III
        return None
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return None
    first, mono, checksum = version == 3, header[3] >> 6 == 3, not header[1] & 1
    padding = header[2] >> 1 & 1
    kbps, slots = (_KBPS, 144_000) if first else (_KBPS_LOW, 72_000)
    side = at + 4 + 2 * checksum
    return _Frame(
        at=at,
        end=at + slots * kbps[bitrate] // _RATES[version][rate] + padding,
        kind=(version, rate, mono),
        side=side,
        main=side + ((17 if mono else 32) if first else (9 if mono else 17)),
    )


def _frames(content: bytes, start: int, path: Path) -> list[_Frame]:
    """Return the whole frames from `start` on, one behind the other; tags may stand between them."""
    frames: list[_Frame] = []
    at = start
    while True:
        frame = _frame(content, at)
        if frame and frame.end <= len(content) and (not frames or frame.kind == frames[0].kind):
            frames.append(frame)
            at = frame.end
            if len(frames) > _MOST_FRAMES:
                raise UnreadableAudio(f"{path} has more than {_MOST_FRAMES} MP3 frames; cut out the part that matters")
        elif (behind := _behind_tags(content, at)) > at:
            at = behind
        else:
            break
    if (more := _find(content, at)) is not None:
        raise UnreadableAudio(
            f"{path} is damaged: its MP3 frames break off at byte {at}, others follow from byte {more} on; get it again"
        )
    return frames


def _split(content: bytes, frames: list[_Frame], path: Path) -> tuple[bytes, list[_Frame]]:
    """Return the frame that leads the stream, with the true numbers in it, and those that hold sound."""
    first, others = frames[0], frames[1:]
    tag = first.main - first.at
    lead = bytearray(content[first.at : first.end])
    told = bytes(lead[tag : tag + 4]) in (b"Xing", b"Info")
    if told and lead[tag + 7] & 1:
        stated = int.from_bytes(lead[tag + 8 : tag + 12])
        # some encoders count the first frame too; but where one more begins at the end, the file was cut there
        if stated > len(others) + (_frame(content, frames[-1].end) is None):
            raise UnreadableAudio(
                f"{path} is damaged: only {len(others)} of its {stated} MP3 frames are there; get it again"
            )
    else:
        others = others if told or lead[36:40] == b"VBRI" else frames
        lead, tag = _empty_lead(content[first.at : first.at + 4])
    numbers = [len(others), len(lead) + sum(frame.end - frame.at for frame in others)]
    for place, number in enumerate(numbers[: 1 + (lead[tag + 7] >> 1 & 1)]):
        lead[tag + 8 + 4 * place : tag + 12 + 4 * place] = number.to_bytes(4)
    return bytes(lead), others


def _empty_lead(header: bytes) -> tuple[bytearray, int]:
    """Return a frame without sound that can hold the numbers of a stream whose frames begin so, and their place in it.

    Raises:
        AssertionError: never: a frame of the highest rate has room.
    """
    for bitrate in range(1, len(_KBPS)):
        header = bytes((0xFF, header[1] | 1, bitrate << 4 | header[2] & 0x0C, header[3]))
        frame = _frame(header, 0)
        assert frame is not None
        if frame.end >= frame.main + 16:
            lead = bytearray(header.ljust(frame.end, b"\0"))
            lead[frame.main : frame.main + 8] = b"Xing\0\0\0\3"  # both numbers are there
            return lead, frame.main
    raise AssertionError


def _is_sound(content: bytes, frame: _Frame) -> bool:
    """Return whether the side information of a frame is one that can be."""
    version, _, mono = frame.kind
    bits = int.from_bytes(content[frame.side : frame.main])
    # a record of each granule and channel, from its first bit on: 12 for the length of its data, 9 for its big values,
    # others; where `window` is: whether there is one, and 2 bits for which
    parts, width, window = (4, 59, 25) if version == 3 else (2, 63, 24)
    lengths = 0
    for part in range(parts // 2 if mono else parts):
        record = bits >> width * part & (1 << width) - 1
        lengths += record >> width - 12
        if record >> width - 21 & 511 > _MOST_BIG_VALUES or record >> window - 2 & 7 == 4:
            return False
    reservoir = bits >> 8 * (frame.main - frame.side) - (9 if version == 3 else 8)
    return lengths <= 8 * (reservoir + frame.end - frame.main)


def _behind_tags(content: bytes, at: int) -> int:
    """Return where the tags (ID3, APE) end that stand at `at`, one behind the other; `at` if none does."""
    while length := _tag_length(content[at : at + 32]):
        at += length
    return min(at, len(content))


def _tag_length(begin: bytes) -> int:
    """Return how many bytes a tag is long that begins so; 0 if none does."""
    if begin[:3] == b"TAG":
        return 128
    if begin[:8] == b"APETAGEX" and len(begin) == 32:
        return 32 + int.from_bytes(begin[12:16], "little")
    if begin[:3] == b"ID3" and len(begin) >= 10 and max(begin[6:10]) < 128:
        size = sum(byte << 7 * place for place, byte in enumerate(begin[9:5:-1]))
        return 10 + size + (10 if begin[5] & 0x10 else 0)
    return 0
