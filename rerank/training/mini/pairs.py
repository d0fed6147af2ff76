"""Put prompts and candidates together, each pair of one and one with its truth.

True alignment can be computed for any prompt and any clip, so beside each prompt with its own candidates there are the
same candidates under another text, other lyrics or another reference, and grids: a few texts, lyrics or references by
themselves, each with the candidates of all of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rerank.corpus.lyrics import lyrics, respelled
from rerank.generators.synth.truth import alignment, musicality
from rerank.training.mini.clips import Clip, Clips, Parts, Row
from rerank.training.mini.dataset import CANDIDATES
from rerank.training.mini.facts import MATCHES, match_targets

GRID_PROMPTS, GRID_CLIPS = 4, 2
"""Prompts in a grid, and candidates of its own that each of them brings."""

DAMAGE_COST = (0.75, 0.3)
"""What a damage of full severity takes of musicality and of alignment."""


@dataclass(frozen=True)
class Pairs:
    """Prompts, candidates, and the truth of every pair of one and one.

    Attributes:
        prompts: the different prompts.
        clips: candidates of all pairs.
        prompt_of, clip_of: for each pair, its prompt and its candidate, rows of the above.
        truth: `[pairs, 2]`: true alignment and true musicality.
        matches: `[pairs, matches]`: how far each attribute was met, NaN where it was not asked or the clip is damaged.
        twins: `[twins, 2]`: pairs with the same candidate under two prompts.
    """

    prompts: list[Parts]
    clips: list[Clip]
    prompt_of: Tensor
    clip_of: Tensor
    truth: Tensor
    matches: Tensor
    twins: Tensor

    def differences(self, values: Tensor) -> Tensor:
        """Return how far, in each comparison, the values of the first pair are above those of the second.

        Candidates under one prompt are compared on both axes, twins on alignment.

        Shape:
            values of the pairs `[pairs, 2]` -> `[comparisons]`
        """
        same = self.prompt_of[:, None] == self.prompt_of[None, :]
        first, second = torch.nonzero(torch.triu(same, diagonal=1), as_tuple=True)
        found = (values[first] - values[second]).flatten()
        if not len(self.twins):
            return found
        one, two = self.twins.T
        return torch.cat([found, (values[one] - values[two])[:, 0]])


class PairBuilder:
    """Collects the prompts, candidates and pairs of one batch.

    Args:
        data: to choose from.
        rng: of all choices.
    """

    def __init__(self, data: Clips, rng: np.random.Generator) -> None:
        self.data, self.rng = data, rng
        self.clips: dict[Clip, int] = {}
        self.prompts: dict[Parts, int] = {}
        self.pairs: list[tuple[int, int]] = []
        self.twins: list[tuple[int, int]] = []

    def add(self, parts: Parts, clip: Clip) -> int:
        """Add one pair, and return its number."""
        row = self.clips.setdefault(clip, len(self.clips))
        self.pairs.append((self.prompts.setdefault(parts, len(self.prompts)), row))
        return len(self.pairs) - 1

    def add_prompt(self, row: Row, other: Row) -> None:
        """Add a prompt with its candidates, one of them damaged, and two of them under wrong prompts.

        Args:
            row: the prompt.
            other: the one whose text is a wrong one here.
        """
        rng, data, (shard, prompt) = self.rng, self.data, row
        words = data.lyrics(row)
        if words and rng.random() < 0.75:
            words = respelled(rng, words)
        own = self.drop(Parts(data.text(row), words, data.reference(row)))
        clips = [Clip(shard, prompt * CANDIDATES + candidate) for candidate in range(CANDIDATES)]
        right = [self.add(own, clip) for clip in clips]
        self.add(own, clips[int(rng.integers(CANDIDATES))]._replace(damaged=True))
        for parts in self._wrong(own, shard, data.text(other)):
            for candidate in rng.permutation(CANDIDATES)[:2]:
                self.twins.append((right[candidate], self.add(parts, clips[candidate])))

    def _wrong(self, own: Parts, shard: int, text: str) -> list[Parts]:
        """Return a prompt with another text, with other lyrics and with another reference, where it has one."""
        found = []
        if own.text and text:
            found.append(own._replace(text=text))
        if own.lyrics:
            found.append(own._replace(lyrics=lyrics(self.rng, "train")))
        if own.reference:
            clips = len(self.data.shards[shard].heard)
            found.append(own._replace(reference=Clip(shard, int(self.rng.integers(clips)))))
        return found

    def add_grid(
        self,
        rows: Sequence[Row],
        parts_of: Callable[[Row, Row], Parts],
        candidates_of: Callable[[Row], Sequence[int]] = lambda row: range(CANDIDATES),
    ) -> None:
        """Add prompts made from some of `rows` and the first of them, each with candidates of all of them."""
        if not rows:
            return
        chosen = [rows[int(self.rng.integers(len(rows)))] for _ in range(GRID_PROMPTS)]
        clips = [
            Clip(row[0], row[1] * CANDIDATES + int(candidate))
            for row in chosen
            for candidate in self.rng.permutation(candidates_of(row))[:GRID_CLIPS]
        ]
        prompts = [parts_of(row, chosen[0]) for row in chosen]
        for clip in clips:
            pairs = [self.add(parts, clip) for parts in prompts]
            self.twins += [(one, other) for place, one in enumerate(pairs) for other in pairs[:place]]

    def drop(self, parts: Parts) -> Parts:
        """Modality dropout: leave out parts of a prompt at random, never all of them."""
        kept = Parts(
            "" if self.rng.random() < 0.12 else parts.text,
            "" if self.rng.random() < 0.15 else parts.lyrics,
            None if self.rng.random() < 0.15 else parts.reference,
        )
        return kept if any(kept) else parts

    def finish(self) -> Pairs:
        """Return the pairs with their truth."""
        requests = [self.data.request(parts) for parts in self.prompts]
        truth, matches = [], []
        clips = list(self.clips)
        for prompt, row in self.pairs:
            number, clip, damaged = clips[row]
            shard = self.data.shards[number]
            facts, faults = shard.facts[clip], shard.faults[clip]
            severity = shard.damages[clip][1] if damaged else 0.0
            met = alignment(requests[prompt], facts) * (1 - DAMAGE_COST[1] * severity)
            truth.append((met, musicality(faults) * (1 - DAMAGE_COST[0] * severity)))
            matches.append([math.nan] * len(MATCHES) if damaged else match_targets(requests[prompt], facts))
        return Pairs(
            prompts=list(self.prompts),
            clips=clips,
            prompt_of=torch.tensor([prompt for prompt, _ in self.pairs]),
            clip_of=torch.tensor([row for _, row in self.pairs]),
            truth=torch.tensor(truth),
            matches=torch.tensor(matches),
            twins=torch.tensor(self.twins, dtype=torch.long).reshape(-1, 2),
        )
