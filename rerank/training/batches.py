"""Put training batches together: prompts right and wrong, candidates clean and damaged, and the truth of every pair.

True alignment can be computed for any prompt and any clip, so beside each prompt with its own candidates a batch holds
the same candidates under another text, other lyrics or another reference.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from rerank.generators.synth.truth import Facts, alignment, musicality
from rerank.generators.synth.voice import vowels_of
from rerank.generators.synth.words import Heard, Request, read_text
from rerank.models.mini import FRAMES_PER_SECOND
from rerank.training.dataset import CANDIDATES, DURATION, Shard
from rerank.training.facts import MATCHES, match_targets
from rerank.training.prompts import captions, lyrics, sentence

MORE_TEXTS, MORE_LYRICS = 40, 12
"""Texts and lyrics of a batch that belong to no candidate: reading is cheap beside listening."""

DAMAGE_COST = (0.75, 0.3)
"""What a damage of full severity takes of musicality and of alignment."""

Parts = tuple[str, str, int]
"""Text, lyrics and the row of the reference among the batch's spectrograms (-1 for none)."""


@dataclass(frozen=True)
class Pairs:
    """Prompts, candidates, and the truth of every pair of one and one.

    Attributes:
        prompts: the different prompts.
        prompt_of, clip_of: for each pair, its prompt and its candidate, a row of the batch's spectrograms.
        truth: `[pairs, 2]`: true alignment and true musicality.
        matches: `[pairs, matches]`: how far each attribute was met, NaN where it was not asked or the clip is damaged.
        twins: `[twins, 2]`: pairs with the same candidate under two prompts.
    """

    prompts: list[Parts]
    prompt_of: Tensor
    clip_of: Tensor
    truth: Tensor
    matches: Tensor
    twins: Tensor


@dataclass(frozen=True)
class Batch:
    """One training step.

    Attributes:
        spectrograms: `[clips, mels, frames]`: candidates, damaged ones, references.
        start, duration: where they were cut out of the clips, in seconds.
        facts, faults, syllables, damages: of each spectrogram.
        pairs: prompts with their own candidates, and with wrong prompts.
        more: other texts, and lyrics and references by themselves, with a few candidates each.
        texts, lyrics: that belong to no candidate.
    """

    spectrograms: Tensor
    start: float
    duration: float
    facts: list[Facts]
    faults: list[dict[str, float]]
    syllables: list[list[tuple[float, str]]]
    damages: list[str | None]
    pairs: Pairs
    more: Pairs
    texts: list[str]
    lyrics: list[str]


@lru_cache(maxsize=20_000)
def read_cached(text: str) -> Request:
    """Return what a text asks for; the same texts come back in each pass over the data."""
    return read_text(text)


@lru_cache(maxsize=20_000)
def _vowels(lyrics: str) -> tuple[str, ...]:
    return tuple(vowels_of(lyrics))


class Batches:
    """Draws batch number `step`, the same one each time, from rendered shards.

    Args:
        shards: to draw from.
        seed: of the order and of all choices.
        prompts: for each batch; each brings its `CANDIDATES`.
    """

    def __init__(self, shards: Sequence[Shard], seed: int, prompts: int = 8) -> None:
        self.shards, self.seed, self.prompts = shards, seed, prompts
        self.rows = [(s, p) for s, shard in enumerate(shards) for p in range(len(shard.texts))]
        self.lyrics = [words for shard in shards for words in shard.lyrics if words]

    def __len__(self) -> int:
        """Return the number of batches in one pass over the data."""
        return len(self.rows) // self.prompts

    def __getitem__(self, step: int) -> Batch:
        epoch, place = divmod(step, len(self))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
        chosen = [self.rows[i] for i in order[place * self.prompts : (place + 1) * self.prompts]]
        return _Builder(self, np.random.default_rng([self.seed, 1, step])).build(chosen)


class _Builder:
    """Collects the spectrograms, prompts and pairs of one batch."""

    def __init__(self, batches: Batches, rng: np.random.Generator) -> None:
        self.batches, self.rng = batches, rng
        self.clips: dict[tuple[int, int, bool], int] = {}
        self.prompts: dict[Parts, int] = {}
        self.pairs: list[tuple[int, int]] = []
        self.twins: list[tuple[int, int]] = []

    def build(self, chosen: list[tuple[int, int]]) -> Batch:
        for shard, prompt in chosen:
            for candidate in range(CANDIDATES):
                self.clip(shard, prompt * CANDIDATES + candidate)
        for index, (shard, prompt) in enumerate(chosen):
            self.add_prompt(shard, prompt, chosen[(index + 1) % len(chosen)])
        return self.finish(chosen)

    def clip(self, shard: int, clip: int, damaged: bool = False) -> int:
        return self.clips.setdefault((shard, clip, damaged), len(self.clips))

    def pair(self, parts: Parts, clip: int) -> int:
        self.pairs.append((self.prompts.setdefault(parts, len(self.prompts)), clip))
        return len(self.pairs) - 1

    def add_prompt(self, shard: int, prompt: int, other: tuple[int, int]) -> None:
        """Add a prompt with its candidates, one of them damaged, and two of them under wrong prompts."""
        rng, data = self.rng, self.batches.shards[shard]
        reference = data.references[prompt]
        own = self.drop(data.texts[prompt], data.lyrics[prompt], self.clip(shard, reference) if reference >= 0 else -1)
        clips = [self.clip(shard, prompt * CANDIDATES + candidate) for candidate in range(CANDIDATES)]
        right = [self.pair(own, clip) for clip in clips]
        unlucky = int(rng.integers(CANDIDATES))
        self.pair(own, self.clip(shard, prompt * CANDIDATES + unlucky, damaged=True))
        text, words, heard = own
        wrong: list[Parts] = []
        if text and (other_text := self.batches.shards[other[0]].texts[other[1]]):
            wrong.append((other_text, words, heard))
        if words:
            wrong.append((text, self.batches.lyrics[int(rng.integers(len(self.batches.lyrics)))], heard))
        if heard >= 0:
            stranger = int(rng.integers(len(data.heard)))
            wrong.append((text, words, self.clip(shard, stranger)))
        for parts in wrong:
            for candidate in rng.permutation(CANDIDATES)[:2]:
                self.twins.append((right[candidate], self.pair(parts, clips[candidate])))

    def drop(self, text: str, words: str, reference: int) -> Parts:
        """Modality dropout: leave out parts of a prompt at random, never all of them."""
        kept: Parts = (
            "" if self.rng.random() < 0.12 else text,
            "" if self.rng.random() < 0.15 else words,
            -1 if self.rng.random() < 0.15 else reference,
        )
        return kept if kept[0] or kept[1] or kept[2] >= 0 else (text, words, reference)

    def text(self) -> str:
        """Return a caption or a sentence from a template."""
        known = captions("train")
        return known[int(self.rng.integers(len(known)))] if self.rng.random() < 0.4 else sentence(self.rng, "train")

    def finish(self, chosen: list[tuple[int, int]]) -> Batch:
        where = list(self.clips)
        shards = self.batches.shards
        whole = round(DURATION * FRAMES_PER_SECOND)
        frames = whole if self.rng.random() < 0.8 else int(self.rng.integers(round(3 * FRAMES_PER_SECOND), whole))
        start = int(self.rng.integers(whole - frames + 1))
        cut = [(shards[s].damaged if d else shards[s].clean)[c][:, start : start + frames] for s, c, d in where]
        spectrograms = torch.from_numpy(np.stack(cut)).float()
        spectrograms += torch.from_numpy(self.rng.normal(0, 0.05, (len(cut), 1, 1)).astype(np.float32))  # about 1 dB
        texts = [self.text() for _ in range(MORE_TEXTS)]
        return Batch(
            spectrograms=spectrograms,
            start=start / FRAMES_PER_SECOND,
            duration=frames / FRAMES_PER_SECOND,
            facts=[shards[s].facts[c] for s, c, _ in where],
            faults=[shards[s].faults[c] for s, c, _ in where],
            syllables=[[] if d else shards[s].syllables[c] for s, c, d in where],
            damages=[shards[s].damages[c][0] if d else None for s, c, d in where],
            pairs=self.judged(list(self.prompts), self.pairs),
            texts=texts,
            lyrics=[lyrics(self.rng, "train") for _ in range(MORE_LYRICS)],
            more=self.more(chosen, texts),
        )

    def more(self, chosen: list[tuple[int, int]], texts: list[str]) -> Pairs:
        """Pair each text with two candidates, and lyrics and references with their own candidates and two others."""
        count = len(chosen) * CANDIDATES
        prompts: list[Parts] = [(text, "", -1) for text in texts]
        pairs = [(row, int(clip)) for row in range(len(texts)) for clip in self.rng.choice(count, 2, replace=False)]
        for place, (shard, prompt) in enumerate(chosen):
            data = self.batches.shards[shard]
            alone: list[Parts] = [("", data.lyrics[prompt], -1)] if data.lyrics[prompt] else []
            if data.references[prompt] >= 0:
                alone.append(("", "", self.clips[shard, data.references[prompt], False]))
            for parts in alone:
                own = range(place * CANDIDATES, (place + 1) * CANDIDATES)
                pairs += [(len(prompts), int(clip)) for clip in (*own, *self.rng.choice(count, 2, replace=False))]
                prompts.append(parts)
        return self.judged(prompts, pairs)

    def judged(self, prompts: list[Parts], pairs: list[tuple[int, int]]) -> Pairs:
        """Return the pairs with their truth."""
        shards, where = self.batches.shards, list(self.clips)
        heard = [shards[s].heard[c] for s, c, _ in where]
        facts = [shards[s].facts[c] for s, c, _ in where]
        faults = [shards[s].faults[c] for s, c, _ in where]
        damages = [shards[s].damages[c] if d else None for s, c, d in where]
        requests = [request_of(parts, heard) for parts in prompts]
        unknown = [math.nan] * len(MATCHES)
        matches = [unknown if damages[c] else match_targets(requests[p], facts[c]) for p, c in pairs]
        return Pairs(
            prompts=prompts,
            prompt_of=torch.tensor([prompt for prompt, _ in pairs]),
            clip_of=torch.tensor([clip for _, clip in pairs]),
            truth=torch.tensor([_truth(requests[p], facts[c], faults[c], damages[c]) for p, c in pairs]),
            matches=torch.tensor(matches),
            twins=torch.tensor(self.twins if pairs is self.pairs else [], dtype=torch.long).reshape(-1, 2),
        )


def request_of(parts: Parts, heard: Sequence[Heard]) -> Request:
    """Return what a prompt of these parts asks for."""
    text, words, reference = parts
    return replace(read_cached(text), vowels=_vowels(words), reference=heard[reference] if reference >= 0 else None)


def _truth(
    request: Request, facts: Facts, faults: dict[str, float], damage: tuple[str, float] | None
) -> tuple[float, float]:
    severity = damage[1] if damage else 0.0
    return (
        alignment(request, facts) * (1 - DAMAGE_COST[1] * severity),
        musicality(faults) * (1 - DAMAGE_COST[0] * severity),
    )
