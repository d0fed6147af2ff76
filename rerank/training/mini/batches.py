"""What a step learns from: clips with their facts for the towers, or prompts with candidates; the same each time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rerank.corpus.captions import captions, pick
from rerank.corpus.lyrics import lyrics, respelled
from rerank.corpus.prompts import sentence
from rerank.generators.synth.truth import Facts
from rerank.models.mini import FRAMES_PER_SECOND, TOKENS_PER_SECOND
from rerank.models.vocabulary import split_words
from rerank.training.mini.clips import Clip, Clips, Parts, Row, vowels_cached
from rerank.training.mini.dataset import CANDIDATES, DURATION, Shard
from rerank.training.mini.facts import followed_targets, spelling_targets
from rerank.training.mini.pairs import GRID_CLIPS, PairBuilder, Pairs

TEXTS, LYRICS = 48, 24
"""Texts and lyrics that the text tower reads by themselves in each step."""

LYRICS_GRIDS = 6
"""Grids in a batch of lyrics; in one of all kinds there is one of each kind."""

SHORTEST = 3.0
"""Seconds of the shortest window that is cut out of the clips."""


@dataclass(frozen=True)
class Lessons:
    """Texts and lyrics for the text tower to read by themselves; they belong to no clip."""

    texts: list[str]
    lyrics: list[str]


@dataclass(frozen=True)
class TowerBatch:
    """What the towers learn from in one step.

    Attributes:
        spectrograms: `[clips, mels, frames]`.
        start, duration: where they were cut out of the clips, in seconds.
        facts, faults, damages: of each spectrogram.
        syllables: of each that is not damaged; none are told of others.
        lessons: for the text tower.
    """

    spectrograms: Tensor
    start: float
    duration: float
    facts: list[Facts]
    faults: list[dict[str, float]]
    syllables: list[list[tuple[float, str]]]
    damages: list[str | None]
    lessons: Lessons


@dataclass(frozen=True)
class PairBatch:
    """Prompts with candidates.

    Attributes:
        pairs: with their truth.
        window: of the clips' tokens: first one, and number.
        lessons: for the text tower.
    """

    pairs: Pairs
    window: tuple[int, int]
    lessons: Lessons


@dataclass(frozen=True)
class LyricsBatch(PairBatch):
    """Prompts with lyrics, and candidates that sing.

    Attributes:
        followed: `[pairs, tokens]`, see `followed_targets`.
        asked: `[prompts, 1 + vowels]`: how often each vowel comes in the lyrics, see `spelling_targets`.
    """

    followed: Tensor
    asked: Tensor


class Batches:
    """Draws the batch of a step, the same one each time, from rendered shards.

    Args:
        shards: to draw from.
        seed: of the order and of all choices.
        prompts: for each batch; each brings its `CANDIDATES`.
        sung: more shards, for grids of lyrics.
    """

    def __init__(self, shards: Sequence[Shard], seed: int, prompts: int = 8, sung: Sequence[Shard] = ()) -> None:
        self.data, self.seed, self.prompts = Clips(shards, sung, GRID_CLIPS), seed, prompts

    def __len__(self) -> int:
        """Return the number of batches in one pass over the data."""
        return len(self.data.rows) // self.prompts

    def _chosen(self, step: int) -> list[Row]:
        """Return the prompts of a step; each comes once in each pass."""
        epoch, place = divmod(step, len(self))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.data.rows))
        return [self.data.rows[i] for i in order[place * self.prompts : (place + 1) * self.prompts]]

    def for_towers(self, step: int) -> TowerBatch:
        """Return all candidates of some prompts, one of each prompt also damaged, and texts to read."""
        rng = np.random.default_rng([self.seed, 1, step])
        clips: list[Clip] = []
        for shard, prompt in self._chosen(step):
            rows = range(prompt * CANDIDATES, (prompt + 1) * CANDIDATES)
            clips += [Clip(shard, row) for row in rows] + [Clip(shard, int(rng.choice(rows)), damaged=True)]
        shards = self.data.shards
        first, frames = _window(rng, FRAMES_PER_SECOND)
        cut = [(shards[s].damaged if d else shards[s].clean)[c][:, first : first + frames] for s, c, d in clips]
        spectrograms = torch.from_numpy(np.stack(cut)).float()
        spectrograms += torch.from_numpy(rng.normal(0, 0.05, (len(cut), 1, 1)).astype(np.float32))  # about 1 dB
        return TowerBatch(
            spectrograms=spectrograms,
            start=first / FRAMES_PER_SECOND,
            duration=frames / FRAMES_PER_SECOND,
            facts=[shards[s].facts[c] for s, c, _ in clips],
            faults=[shards[s].faults[c] for s, c, _ in clips],
            syllables=[[] if d else shards[s].syllables[c] for s, c, d in clips],
            damages=[shards[s].damages[c][0] if d else None for s, c, d in clips],
            lessons=_lessons(rng),
        )

    def for_reward(self, step: int) -> PairBatch:
        """Return prompts with their own candidates and in grids."""
        rng, data = np.random.default_rng([self.seed, 2, step]), self.data
        builder = PairBuilder(data, rng)
        chosen = self._chosen(step)
        for index, row in enumerate(chosen):
            builder.add_prompt(row, chosen[(index + 1) % len(chosen)])
        builder.add_grid(data.with_text, lambda row, first: Parts(text=data.text(row)))
        builder.add_grid(data.with_text, lambda row, first: Parts(text=_fresh_text(rng)))
        builder.add_grid(data.with_reference, lambda row, first: Parts(reference=data.reference(row)))
        builder.add_grid(data.with_lyrics, lambda row, first: Parts(lyrics=self._sung_alike(row, rng)), data.singing)
        return PairBatch(builder.finish(), _window(rng, TOKENS_PER_SECOND), _lessons(rng))

    def for_lyrics(self, step: int) -> LyricsBatch:
        """Return grids of lyrics: alone, or all with the same text."""
        rng, data = np.random.default_rng([self.seed, 4, step]), self.data
        builder = PairBuilder(data, rng)
        for grid in range(LYRICS_GRIDS):

            def parts(row: Row, first: Row, with_text: bool = grid % 2 == 1) -> Parts:
                return Parts(text=data.text(first) if with_text else "", lyrics=self._sung_alike(row, rng))

            builder.add_grid(data.with_lyrics, parts, data.singing)
        pairs, window, lessons = builder.finish(), _window(rng, TOKENS_PER_SECOND), _lessons(rng)
        followed = [
            followed_targets(vowels_cached(pairs.prompts[p].lyrics), data.syllables(pairs.clips[c]), *window)
            for p, c in zip(pairs.prompt_of.tolist(), pairs.clip_of.tolist(), strict=True)
        ]
        asked = [spelling_targets([parts.lyrics], len(split_words(parts.lyrics)))[0].mean(0) for parts in pairs.prompts]
        return LyricsBatch(pairs, window, lessons, followed=torch.tensor(followed), asked=torch.stack(asked))

    def _sung_alike(self, row: Row, rng: np.random.Generator) -> str:
        """Return the lyrics of a prompt in other words."""
        return respelled(rng, self.data.lyrics(row))


def _window(rng: np.random.Generator, per_second: float) -> tuple[int, int]:
    """Return start and length of what a batch sees of its clips: mostly all, sometimes less, in steps of a clip."""
    whole = math.ceil(DURATION * per_second)
    length = whole if rng.random() < 0.8 else int(rng.integers(round(SHORTEST * per_second), whole))
    return int(rng.integers(whole - length + 1)), length


def _lessons(rng: np.random.Generator) -> Lessons:
    return Lessons([_fresh_text(rng) for _ in range(TEXTS)], [lyrics(rng, "train") for _ in range(LYRICS)])


def _fresh_text(rng: np.random.Generator) -> str:
    """Return a caption or a sentence from a template."""
    return pick(rng, captions("train")) if rng.random() < 0.4 else sentence(rng, "train")
