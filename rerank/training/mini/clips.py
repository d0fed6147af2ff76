"""The clips of a training run and what is known of them, so that the truth of any prompt with any clip is known."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from rerank.generators.synth.voice import vowels_of
from rerank.generators.synth.words import Request, read_text
from rerank.training.mini.dataset import CANDIDATES, Shard


class Clip(NamedTuple):
    """A clip of the data: its shard, its row there, and whether the damaged version is meant."""

    shard: int
    row: int
    damaged: bool = False


class Parts(NamedTuple):
    """A prompt; empty, or None, for parts that it lacks. The reference is a clip."""

    text: str = ""
    lyrics: str = ""
    reference: Clip | None = None


Row = tuple[int, int]
"""A prompt of the data: its shard, and its place there."""


@lru_cache(maxsize=20_000)
def read_cached(text: str) -> Request:
    """Return what a text asks for; the same texts come back in each pass over the data."""
    return read_text(text)


@lru_cache(maxsize=20_000)
def vowels_cached(lyrics: str) -> tuple[str, ...]:
    """Return the vowels of lyrics, one for each syllable."""
    return tuple(vowels_of(lyrics))


class Clips:
    """All clips of a run, and the prompts they were made for.

    Args:
        shards: whose prompts are of every kind.
        sung: more shards, whose prompts all have lyrics.
        singers: how many candidates of a prompt must sing for its lyrics to be used.

    Attributes:
        shards: both.
        rows: prompts of every kind.
        with_text, with_reference: those of `rows` that have one.
        with_lyrics: prompts of all shards that have lyrics, of which enough candidates sing.
    """

    def __init__(self, shards: Sequence[Shard], sung: Sequence[Shard], singers: int) -> None:
        self.shards = [*shards, *sung]
        self.rows = [(s, p) for s, shard in enumerate(shards) for p in range(len(shard.texts))]
        self.with_text = [(s, p) for s, p in self.rows if shards[s].texts[p]]
        self.with_reference = [(s, p) for s, p in self.rows if shards[s].references[p] >= 0]
        asked = [(s, p) for s, shard in enumerate(self.shards) for p, words in enumerate(shard.lyrics) if words]
        self.with_lyrics = [row for row in asked if len(self.singing(row)) >= singers]

    def singing(self, row: Row) -> list[int]:
        """Return which candidates of a prompt sing."""
        shard, prompt = row
        facts = self.shards[shard].facts[prompt * CANDIDATES : (prompt + 1) * CANDIDATES]
        return [candidate for candidate, known in enumerate(facts) if known.vowels]

    def syllables(self, clip: Clip) -> list[tuple[float, str]]:
        """Return what a clip sings: start in seconds, and vowel."""
        return self.shards[clip.shard].syllables[clip.row]

    def text(self, row: Row) -> str:
        """Return the text of a prompt, which may be empty."""
        return self.shards[row[0]].texts[row[1]]

    def lyrics(self, row: Row) -> str:
        """Return the lyrics of a prompt, which may be empty."""
        return self.shards[row[0]].lyrics[row[1]]

    def reference(self, row: Row) -> Clip | None:
        """Return the reference of a prompt."""
        shard, prompt = row
        found = self.shards[shard].references[prompt]
        return Clip(shard, found) if found >= 0 else None

    def request(self, parts: Parts) -> Request:
        """Return what a prompt asks for."""
        heard = self.shards[parts.reference.shard].heard[parts.reference.row] if parts.reference else None
        return replace(read_cached(parts.text), vowels=vowels_cached(parts.lyrics), reference=heard)
