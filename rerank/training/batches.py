"""Put training batches together: clips with their facts for the towers, then prompts right and wrong with candidates.

True alignment can be computed for any prompt and any clip, so beside each prompt with its own candidates a batch holds
the same candidates under another text, other lyrics or another reference, and grids: a few texts, lyrics or references
by themselves, each with the candidates of all of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rerank.corpus.captions import captions, pick
from rerank.corpus.lyrics import lyrics, respelled
from rerank.corpus.prompts import sentence
from rerank.generators.synth.truth import Facts, alignment, musicality
from rerank.generators.synth.voice import vowels_of
from rerank.generators.synth.words import Heard, Request, read_text
from rerank.models.mini import FRAMES_PER_SECOND, TOKENS_PER_SECOND
from rerank.models.vocabulary import split_words
from rerank.training.dataset import CANDIDATES, DURATION, Shard
from rerank.training.facts import MATCHES, followed_targets, match_targets, spelling_targets

TEXTS, LYRICS = 48, 24
"""Texts and lyrics that the text tower reads by themselves in each step."""

GRID_PROMPTS, GRID_CLIPS = 4, 2
"""Prompts in a grid, and candidates of its own that each of them brings."""

LYRICS_GRIDS = 6
"""Grids in a batch of lyrics; in one of all kinds there is one of each kind."""

SHORTEST = 3.0
"""Seconds of the shortest window that is cut out of the clips."""

DAMAGE_COST = (0.75, 0.3)
"""What a damage of full severity takes of musicality and of alignment."""


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


@dataclass(frozen=True)
class TowerBatch:
    """What the towers learn from in one step.

    Attributes:
        spectrograms: `[clips, mels, frames]`.
        start, duration: where they were cut out of the clips, in seconds.
        facts, faults, damages: of each spectrogram.
        syllables: of each that is not damaged; none are told of others.
        texts, lyrics: for the text tower, they belong to no clip.
    """

    spectrograms: Tensor
    start: float
    duration: float
    facts: list[Facts]
    faults: list[dict[str, float]]
    syllables: list[list[tuple[float, str]]]
    damages: list[str | None]
    texts: list[str]
    lyrics: list[str]


@dataclass(frozen=True)
class PairBatch:
    """Prompts, candidates, and the truth of every pair of one and one.

    Attributes:
        prompts: the different prompts.
        clips: candidates of all pairs.
        window: of the clips' tokens: first one, and number.
        prompt_of, clip_of: for each pair, its prompt and its candidate, rows of the above.
        truth: `[pairs, 2]`: true alignment and true musicality.
        matches: `[pairs, matches]`: how far each attribute was met, NaN where it was not asked or the clip is damaged.
        twins: `[twins, 2]`: pairs with the same candidate under two prompts.
        texts, lyrics: for the text tower, they belong to no clip.
    """

    prompts: list[Parts]
    clips: list[Clip]
    window: tuple[int, int]
    prompt_of: Tensor
    clip_of: Tensor
    truth: Tensor
    matches: Tensor
    twins: Tensor
    texts: list[str]
    lyrics: list[str]


@dataclass(frozen=True)
class LyricsBatch(PairBatch):
    """Prompts with lyrics, and candidates that sing.

    Attributes:
        followed: `[pairs, tokens]`, see `followed_targets`.
        asked: `[prompts, 1 + vowels]`: how often each vowel comes in the lyrics, see `spelling_targets`.
    """

    followed: Tensor
    asked: Tensor


@lru_cache(maxsize=20_000)
def read_cached(text: str) -> Request:
    """Return what a text asks for; the same texts come back in each pass over the data."""
    return read_text(text)


@lru_cache(maxsize=20_000)
def _vowels(lyrics: str) -> tuple[str, ...]:
    return tuple(vowels_of(lyrics))


class Batches:
    """Draws the batch of a step, the same one each time, from rendered shards.

    Args:
        shards: to draw from.
        seed: of the order and of all choices.
        prompts: for each batch; each brings its `CANDIDATES`.
        sung: more shards, for grids of lyrics.
    """

    def __init__(self, shards: Sequence[Shard], seed: int, prompts: int = 8, sung: Sequence[Shard] = ()) -> None:
        self.shards, self.seed, self.prompts = [*shards, *sung], seed, prompts
        self.rows = [(s, p) for s, shard in enumerate(shards) for p in range(len(shard.texts))]
        self.with_text = [(s, p) for s, p in self.rows if shards[s].texts[p]]
        self.with_reference = [(s, p) for s, p in self.rows if shards[s].references[p] >= 0]
        with_lyrics = [(s, p) for s, shard in enumerate(self.shards) for p, words in enumerate(shard.lyrics) if words]
        self.sung = [row for row in with_lyrics if len(self.singing(row)) >= GRID_CLIPS]

    def __len__(self) -> int:
        """Return the number of batches in one pass over the data."""
        return len(self.rows) // self.prompts

    def _chosen(self, step: int) -> list[tuple[int, int]]:
        """Return shard and prompt of the prompts of a step; each comes once in each pass."""
        epoch, place = divmod(step, len(self))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
        return [self.rows[i] for i in order[place * self.prompts : (place + 1) * self.prompts]]

    def for_towers(self, step: int) -> TowerBatch:
        """Return all candidates of some prompts, one of each prompt also damaged, and texts to read."""
        rng = np.random.default_rng([self.seed, 1, step])
        clips: list[Clip] = []
        for shard, prompt in self._chosen(step):
            rows = range(prompt * CANDIDATES, (prompt + 1) * CANDIDATES)
            clips += [Clip(shard, row) for row in rows] + [Clip(shard, int(rng.choice(rows)), damaged=True)]
        shards = self.shards
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
            texts=_fresh_texts(rng),
            lyrics=_fresh_lyrics(rng),
        )

    def for_reward(self, step: int) -> PairBatch:
        """Return prompts with their own candidates and in grids."""
        rng = np.random.default_rng([self.seed, 2, step])
        builder = _Builder(self, rng)
        chosen = self._chosen(step)
        for index, (shard, prompt) in enumerate(chosen):
            builder.add_prompt(shard, prompt, chosen[(index + 1) % len(chosen)])
        builder.add_grid(self.with_text, lambda row, first: Parts(text=self.shards[row[0]].texts[row[1]]))
        builder.add_grid(self.with_text, lambda row, first: Parts(text=_fresh_text(rng)))
        builder.add_grid(self.with_reference, lambda row, first: Parts(reference=self.reference(*row)))
        builder.add_grid(self.sung, lambda row, first: self._lyrics_of(row, rng), self.singing)
        return builder.finish()

    def for_lyrics(self, step: int) -> LyricsBatch:
        """Return grids of lyrics: alone, or all with the same text."""
        rng = np.random.default_rng([self.seed, 4, step])
        builder = _Builder(self, rng)
        for grid in range(LYRICS_GRIDS):

            def parts(row: tuple[int, int], first: tuple[int, int], with_text: bool = grid % 2 == 1) -> Parts:
                text = self.shards[first[0]].texts[first[1]] if with_text else ""
                return self._lyrics_of(row, rng)._replace(text=text)

            builder.add_grid(self.sung, parts, self.singing)
        pairs = builder.finish()
        first, tokens = pairs.window
        followed = [
            followed_targets(_vowels(pairs.prompts[p].lyrics), self.syllables(pairs.clips[c]), first, tokens)
            for p, c in zip(pairs.prompt_of.tolist(), pairs.clip_of.tolist(), strict=True)
        ]
        asked = [spelling_targets([parts.lyrics], len(split_words(parts.lyrics)))[0].mean(0) for parts in pairs.prompts]
        return LyricsBatch(**vars(pairs), followed=torch.tensor(followed), asked=torch.stack(asked))

    def _lyrics_of(self, row: tuple[int, int], rng: np.random.Generator) -> Parts:
        """Return lyrics of the data, in other words, as a prompt."""
        return Parts(lyrics=respelled(rng, self.shards[row[0]].lyrics[row[1]]))

    def singing(self, row: tuple[int, int]) -> list[int]:
        """Return which candidates of a prompt of the data sing."""
        shard, prompt = row
        facts = self.shards[shard].facts[prompt * CANDIDATES : (prompt + 1) * CANDIDATES]
        return [candidate for candidate, known in enumerate(facts) if known.vowels]

    def syllables(self, clip: Clip) -> list[tuple[float, str]]:
        """Return what a clip sings: start in seconds, and vowel."""
        return self.shards[clip.shard].syllables[clip.row]

    def reference(self, shard: int, prompt: int) -> Clip | None:
        """Return the reference of a prompt of the data."""
        row = self.shards[shard].references[prompt]
        return Clip(shard, row) if row >= 0 else None

    def request(self, parts: Parts) -> Request:
        """Return what a prompt asks for."""
        heard: Heard | None = None
        if parts.reference:
            heard = self.shards[parts.reference.shard].heard[parts.reference.row]
        return replace(read_cached(parts.text), vowels=_vowels(parts.lyrics), reference=heard)


class _Builder:
    """Collects the prompts, candidates and pairs of one batch."""

    def __init__(self, batches: Batches, rng: np.random.Generator) -> None:
        self.batches, self.rng = batches, rng
        self.clips: dict[Clip, int] = {}
        self.prompts: dict[Parts, int] = {}
        self.pairs: list[tuple[int, int]] = []
        self.twins: list[tuple[int, int]] = []

    def pair(self, parts: Parts, clip: Clip) -> int:
        row = self.clips.setdefault(clip, len(self.clips))
        self.pairs.append((self.prompts.setdefault(parts, len(self.prompts)), row))
        return len(self.pairs) - 1

    def add_prompt(self, shard: int, prompt: int, other: tuple[int, int]) -> None:
        """Add a prompt with its candidates, one of them damaged, and two of them under wrong prompts."""
        rng, batches = self.rng, self.batches
        data = batches.shards[shard]
        words = data.lyrics[prompt]
        if words and rng.random() < 0.75:
            words = respelled(rng, words)
        own = self.drop(Parts(data.texts[prompt], words, batches.reference(shard, prompt)))
        clips = [Clip(shard, prompt * CANDIDATES + candidate) for candidate in range(CANDIDATES)]
        right = [self.pair(own, clip) for clip in clips]
        self.pair(own, clips[int(rng.integers(CANDIDATES))]._replace(damaged=True))
        wrong: list[Parts] = []
        if own.text and (other_text := batches.shards[other[0]].texts[other[1]]):
            wrong.append(own._replace(text=other_text))
        if own.lyrics:
            wrong.append(own._replace(lyrics=lyrics(rng, "train")))
        if own.reference:
            wrong.append(own._replace(reference=Clip(shard, int(rng.integers(len(data.heard))))))
        for parts in wrong:
            for candidate in rng.permutation(CANDIDATES)[:2]:
                self.twins.append((right[candidate], self.pair(parts, clips[candidate])))

    def add_grid(
        self,
        rows: Sequence[tuple[int, int]],
        parts_of: Callable[[tuple[int, int], tuple[int, int]], Parts],
        candidates_of: Callable[[tuple[int, int]], Sequence[int]] = lambda row: range(CANDIDATES),
    ) -> None:
        """Add prompts made from some of `rows` (shard and prompt) and the first, each with candidates of all of them."""
        if not rows:
            return
        chosen = [self.choose(rows) for _ in range(GRID_PROMPTS)]
        clips = [
            Clip(row[0], row[1] * CANDIDATES + int(candidate))
            for row in chosen
            for candidate in self.rng.permutation(candidates_of(row))[:GRID_CLIPS]
        ]
        prompts = [parts_of(row, chosen[0]) for row in chosen]
        for clip in clips:
            pairs = [self.pair(parts, clip) for parts in prompts]
            self.twins += [(one, other) for place, one in enumerate(pairs) for other in pairs[:place]]

    def choose(self, rows: Sequence[tuple[int, int]]) -> tuple[int, int]:
        return rows[int(self.rng.integers(len(rows)))]

    def drop(self, parts: Parts) -> Parts:
        """Modality dropout: leave out parts of a prompt at random, never all of them."""
        kept = Parts(
            "" if self.rng.random() < 0.12 else parts.text,
            "" if self.rng.random() < 0.15 else parts.lyrics,
            None if self.rng.random() < 0.15 else parts.reference,
        )
        return kept if any(kept) else parts

    def finish(self) -> PairBatch:
        """Return the pairs with their truth."""
        shards = self.batches.shards
        requests = [self.batches.request(parts) for parts in self.prompts]
        truth, matches = [], []
        clips = list(self.clips)
        for prompt, row in self.pairs:
            shard, clip, damaged = clips[row]
            facts, faults = shards[shard].facts[clip], shards[shard].faults[clip]
            severity = shards[shard].damages[clip][1] if damaged else 0.0
            met = alignment(requests[prompt], facts) * (1 - DAMAGE_COST[1] * severity)
            truth.append((met, musicality(faults) * (1 - DAMAGE_COST[0] * severity)))
            matches.append([math.nan] * len(MATCHES) if damaged else match_targets(requests[prompt], facts))
        return PairBatch(
            prompts=list(self.prompts),
            clips=clips,
            window=_window(self.rng, TOKENS_PER_SECOND),
            prompt_of=torch.tensor([prompt for prompt, _ in self.pairs]),
            clip_of=torch.tensor([row for _, row in self.pairs]),
            truth=torch.tensor(truth),
            matches=torch.tensor(matches),
            twins=torch.tensor(self.twins, dtype=torch.long).reshape(-1, 2),
            texts=_fresh_texts(self.rng),
            lyrics=_fresh_lyrics(self.rng),
        )


def _window(rng: np.random.Generator, per_second: float) -> tuple[int, int]:
    """Return start and length of what a batch sees of its clips: mostly all, sometimes less, in steps of a clip."""
    whole = math.ceil(DURATION * per_second)
    length = whole if rng.random() < 0.8 else int(rng.integers(round(SHORTEST * per_second), whole))
    return int(rng.integers(whole - length + 1)), length


def _fresh_texts(rng: np.random.Generator) -> list[str]:
    return [_fresh_text(rng) for _ in range(TEXTS)]


def _fresh_lyrics(rng: np.random.Generator) -> list[str]:
    return [lyrics(rng, "train") for _ in range(LYRICS)]


def _fresh_text(rng: np.random.Generator) -> str:
    """Return a caption or a sentence from a template."""
    return pick(rng, captions("train")) if rng.random() < 0.4 else sentence(rng, "train")
