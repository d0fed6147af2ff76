"""Tokenizers of text encoders: all of their files are there, and words are told apart.

A library that finds no files of a tokenizer may make an empty one, for which every word is the same unknown one: a
prompt would mean nothing, and nobody would be told.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from rerank.errors import WeightsError, one_line

TEXTS = ("slow sad piano", "fast happy drums")
"""Texts that every tokenizer must tell apart: as many words each, and no word of both."""

FILES = (("tokenizer.json",), ("spiece.model",), ("tokenizer.model",), ("vocab.json", "merges.txt"))
"""Ways in which the vocabulary of a published tokenizer is stored; one of them must be whole."""

_MOST_BYTES = 256 * 1024**2


def read_tokenizer(path: Path, vocabulary: int, ends: Sequence[int]) -> Tokenizer:
    """Return a tokenizer that neither pads nor cuts.

    Args:
        path: of its `tokenizer.json`.
        vocabulary: number of ids that its text encoder knows.
        ends: ids of an empty text, which stand around every other.

    Raises:
        WeightsError: the file cannot be read, is of another text encoder, or knows no words.
    """
    tokenizer = _opened(path)
    empty = tokenizer.encode("").ids
    if empty != list(ends):
        raise WeightsError(f"the tokenizer {path} makes {empty!r:.60} of an empty text, expected {list(ends)}")
    check_ids(lambda text: tokenizer.encode(text).ids, vocabulary, str(path))
    if tokenizer.get_vocab_size() > vocabulary:
        raise WeightsError(f"the tokenizer {path} has {tokenizer.get_vocab_size()} ids, its text encoder {vocabulary}")
    return tokenizer


def _opened(path: Path) -> Tokenizer:
    """Return a tokenizer that neither pads nor cuts and has read a text.

    Raises:
        WeightsError: it cannot be read, or reads nothing.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        for text in ("", *TEXTS):
            tokenizer.encode(text)
    except BaseException as error:
        # it raises plain Exceptions, and a panic of its Rust is not even one
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise WeightsError(f"cannot read the tokenizer {path}: {one_line(error)}") from error
        raise
    return tokenizer


def check_files(folder: Path, *, also: Sequence[str] = ()) -> None:
    """Refuse a folder without the files of a tokenizer.

    Args:
        folder: that a library reads a tokenizer from.
        also: further files that must be there.

    Raises:
        WeightsError: naming what is missing.
    """
    if not any(all((folder / name).is_file() for name in way) for way in FILES):
        ways = ", ".join(" with ".join(way) for way in FILES)
        raise WeightsError(f"the tokenizer in {folder} has no vocabulary; expected one of: {ways}")
    missing = [name for name in also if not (folder / name).is_file()]
    if missing:
        raise WeightsError(f"the tokenizer in {folder} is not complete; missing: {', '.join(missing)}")
    # by whatever a library reads it later, it is the same file
    if (folder / FILES[0][0]).is_file():
        _opened(folder / FILES[0][0])


def check_ids(encode: Callable[[str], Sequence[int]], vocabulary: int, where: str) -> None:
    """Refuse a tokenizer for which different words are the same.

    Args:
        encode: gives the ids of a text.
        vocabulary: number of ids that its text encoder knows.
        where: it comes from.

    Raises:
        WeightsError: of two texts without a common word one has no id that the other lacks, or an id is too large.
    """
    try:
        one, other = (set(encode(text)) for text in TEXTS)
    # a tokenizer of a library may raise anything
    except Exception as error:
        raise WeightsError(f"the tokenizer {where} cannot read a text: {one_line(error)}") from error
    if not one - other or not other - one:
        raise WeightsError(
            f"the tokenizer {where} tells no words apart: {TEXTS[0]!r} and {TEXTS[1]!r} are the same to it; "
            "get all of its files again"
        )
    if not all(0 <= number < vocabulary for number in one | other):
        raise WeightsError(f"the tokenizer {where} has ids beyond the {vocabulary} of its text encoder")


@torch.inference_mode()
def check_states(read: Callable[[str], Tensor], where: str) -> None:
    """Refuse a text encoder to which two different texts are the same, or that gives numbers that are not finite.

    Args:
        read: gives what the encoder makes of a text, `[tokens, dim]`.
        where: it comes from.

    Raises:
        WeightsError: it cannot be used.
    """
    try:
        one, other = (read(text).float().mean(0) for text in TEXTS)
    # so may a network, of sizes that fit its weights and nothing else
    except Exception as error:
        raise WeightsError(f"the text encoder in {where} cannot read a text: {one_line(error)}") from error
    if not bool((one.isfinite() & other.isfinite()).all()):
        raise WeightsError(f"the text encoder in {where} gives numbers that are not finite; its weights are damaged")
    if torch.equal(one, other):
        raise WeightsError(
            f"the text encoder in {where} tells no texts apart: {TEXTS[0]!r} and {TEXTS[1]!r} are the same to it"
        )
