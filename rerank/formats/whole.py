"""Whether a WAV or OGG file is all there, told from its own bytes: the decoder takes what is left for all of it."""

import io
import os
from pathlib import Path

from rerank.errors import UnreadableAudio

WAV = (b"RIFF", b"RF64")
_UNKNOWN_LENGTH = 0x7FFF_0000  # from here on, the length in a WAV header is what a program writes that cannot know it
_MOST_CHUNKS = 1_000  # of a WAV file before its sound: a file of zeros has millions, which nobody waits for
_LONGEST_PAGE = 27 + 255 + 255 * 255  # bytes of an OGG page
_LAST = 4  # in the flags of an OGG page


def check_whole(file: io.FileIO, path: Path) -> None:
    """Refuse a WAV or OGG file, open at its begin, that ends early.

    Raises:
        UnreadableAudio: it does; or it is a WAV file in which no sound is found.
    """
    begin = file.read(12)
    if begin[:4] in WAV and begin[8:] == b"WAVE":
        if missing := _missing_bytes(file, path):
            raise UnreadableAudio(
                f"{path} is damaged: {missing} bytes of its sound are missing at its end; get it again"
            )
    elif begin[:4] == b"OggS" and not _has_last_page(file):
        raise UnreadableAudio(f"{path} is damaged: its OGG stream has no end, so the file was cut; get it again")


def _missing_bytes(file: io.FileIO, path: Path) -> int:
    """Return how many bytes the header of a WAV file promises beyond its end."""
    for _ in range(_MOST_CHUNKS):
        chunk = file.read(8)
        if len(chunk) < 8:
            return 0
        length = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            present = os.fstat(file.fileno()).st_size - file.tell()
            return max(0, length - present) if length < _UNKNOWN_LENGTH else 0
        file.seek(length + length % 2, os.SEEK_CUR)
    raise UnreadableAudio(f"{path} is damaged: no sound in the first {_MOST_CHUNKS} parts of this WAV; get it again")


def _has_last_page(file: io.FileIO) -> bool:
    """Return whether an OGG file ends with a page that says it is the last one, and is all there."""
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - 2 * _LONGEST_PAGE))
    end = file.readall()
    at = end.rfind(b"OggS")
    while at >= 0:
        page = end[at:]
        segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
        if len(page) > 26 and page[5] & _LAST and len(page) >= 27 + page[26] + sum(segments):
            return True
        at = end.rfind(b"OggS", 0, at)
    return False
