"""The captions of MusicCaps, real descriptions of music: those of its evaluation split are for testing only.

**Source**: MusicCaps (Google, CC BY-SA 4.0), in `musiccaps.csv`; the rows of its AudioSet train split are for training.
"""

import csv
import io
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np

Split = Literal["train", "test"]


@cache
def captions(split: Split) -> tuple[str, ...]:
    """Return the captions of a split, in file order."""
    text = resources.files("rerank.corpus").joinpath("musiccaps.csv").read_text(encoding="utf-8")
    wanted = "True" if split == "test" else "False"
    return tuple(row["caption"].strip() for row in csv.DictReader(io.StringIO(text)) if row["is_eval"] == wanted)


@cache
def english(split: Split) -> tuple[str, ...]:
    """Return the words of the captions of a split, in alphabetical order."""
    words = re.findall(r"[a-z]{2,}", " ".join(captions(split)).lower())
    return tuple(sorted(set(words)))


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """Return one of several at random, each as likely."""
    return options[int(rng.integers(len(options)))]
