"""What the towers learn first: to tell the facts of a piece from its sound, and what a text asks for from its words.

The published model starts from towers that were trained on real music; the small ones start from nothing, so they are
first taught by `FactHeads`, small linear readers that are thrown away after training.

**Conventions**: a class of 0 in a target means "not asked" or "none"; targets that do not apply are masked.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rerank.generators.synth.drums import KITS
from rerank.generators.synth.instruments import INSTRUMENTS
from rerank.generators.synth.lexicon import FASTEST, SLOWEST
from rerank.generators.synth.styles import STYLES
from rerank.generators.synth.truth import FAULT_COSTS, WEIGHTS, Facts, attribute_alignment
from rerank.generators.synth.voice import VOWELS, vowels_of
from rerank.generators.synth.words import Request
from rerank.models.mini import TOKENS_PER_SECOND
from rerank.models.transformer import Tokens
from rerank.models.vocabulary import split_words
from rerank.training.damage import DAMAGES

GENRES = tuple(STYLES)
SOUNDS = (*INSTRUMENTS, *KITS)
FAULTS = tuple(FAULT_COSTS)
DAMAGE_NAMES = (*DAMAGES, "mix")
VOICES = (None, "male", "female", "any", "none")
DYNAMICS = (None, "quiet", "medium", "loud")
RECORDINGS = (None, "low", "high")
MATCHES = (*(name for name in WEIGHTS if name != "instrument"), *SOUNDS)
"""Attributes that a prompt can ask for, each instrument by itself."""

TEMPO_CLASSES = 24

Targets = Mapping[str, Tensor]


class FactHeads(nn.Module):
    """Linear readers on the tokens of both towers.

    Args:
        dim: width of the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        classes = {"tempo": TEMPO_CLASSES + 1, "genre": len(GENRES) + 1, "voice": 5, "dynamics": 4, "recording": 3}
        shared = {**classes, "sounds": len(SOUNDS), "mood": 2}
        self.audio = nn.ModuleDict(
            {
                name: nn.Linear(2 * dim, size)
                for name, size in {
                    **shared, "key": 24, "faults": len(FAULTS), "brightness": 1, "damage": len(DAMAGE_NAMES) + 1,
                }.items()
            }
        )  # fmt: skip
        self.vowel = nn.Linear(dim, len(VOWELS) + 1)
        self.text = nn.ModuleDict({name: nn.Linear(dim, size) for name, size in shared.items()})
        self.spelling = nn.Linear(dim, len(VOWELS))
        self.match = nn.Linear(dim, len(MATCHES))

    def audio_loss(self, tokens: Tensor, targets: Targets) -> Tensor:
        """Return the loss of reading the facts of each clip (mean and maximum over time) and the vowel of each token.

        Shape:
            tokens: `[clips, tokens, dim]`
            targets: from `audio_targets`
        """
        pooled = torch.cat([tokens.mean(1), tokens.amax(1)], 1)
        out = {name: head(pooled) for name, head in self.audio.items()}
        loss = sum(
            (F.cross_entropy(out[n], targets[n]) for n in ("tempo", "genre", "voice", "dynamics", "recording")), 0.0
        )
        loss = loss + 0.7 * F.cross_entropy(out["key"], targets["key"])
        loss = loss + F.cross_entropy(out["damage"], targets["damage"])
        loss = loss + 8 * F.binary_cross_entropy_with_logits(out["sounds"], targets["sounds"])
        loss = loss + 8 * F.binary_cross_entropy_with_logits(out["faults"], targets["faults"])
        loss = loss + 10 * F.mse_loss(out["mood"].sigmoid(), targets["mood"])
        loss = loss + F.mse_loss(out["brightness"][:, 0], targets["brightness"])
        vowels = targets["vowels"][:, : tokens.shape[1]]
        return loss + 2 * F.cross_entropy(self.vowel(tokens[:, : vowels.shape[1]]).flatten(0, 1), vowels.flatten())

    def text_loss(self, texts: Tokens, targets: Targets) -> Tensor:
        """Return the loss of reading what each text asks for.

        Shape:
            texts: values `[texts, tokens, dim]`
            targets: from `text_targets`
        """
        mask = texts.mask[..., None]
        pooled = (texts.values * mask).sum(1) / mask.sum(1).clamp(min=1)
        out = {name: head(pooled) for name, head in self.text.items()}
        loss = sum(
            (F.cross_entropy(out[n], targets[n]) for n in ("tempo", "genre", "voice", "dynamics", "recording")), 0.0
        )
        loss = loss + 8 * F.binary_cross_entropy_with_logits(out["sounds"], targets["sounds"])
        asked = targets["mood asked"][:, None]
        error: Tensor = loss + 10 * ((out["mood"].sigmoid() - targets["mood"]).square() * asked).mean()
        return error

    def match_loss(self, joined: Tensor, shares: Tensor) -> Tensor:
        """Return the loss of telling how far each asked attribute was met, from what the reward head reads.

        Shape:
            joined: `[pairs, dim]`
            shares: `[pairs, matches]`, from `match_targets`; NaN where an attribute was not asked
        """
        asked = ~shares.isnan()
        return F.binary_cross_entropy_with_logits(self.match(joined)[asked], shares[asked])

    def lyrics_loss(self, lyrics: Tokens, targets: Tensor) -> Tensor:
        """Return the loss of reading the vowels of each word.

        Shape:
            lyrics: values `[texts, tokens, dim]`
            targets: `[texts, tokens, vowels]`, counts
        """
        errors: Tensor = (self.spelling(lyrics.values) - targets).square().mean(-1)
        return (errors * lyrics.mask).sum() / lyrics.mask.sum().clamp(min=1)


def _tempo_class(tempo: float) -> int:
    place = math.log(tempo / SLOWEST) / math.log(FASTEST / SLOWEST)
    return 1 + min(max(int(place * TEMPO_CLASSES), 0), TEMPO_CLASSES - 1)


def _many_hot(names: Sequence[Sequence[str]], known: Sequence[str]) -> Tensor:
    return torch.tensor([[float(name in row) for name in known] for row in names])


def audio_targets(
    facts: Sequence[Facts],
    faults: Sequence[Mapping[str, float]],
    syllables: Sequence[Sequence[tuple[float, str]]],
    damages: Sequence[str | None],
    start: float,
    duration: float,
) -> dict[str, Tensor]:
    """Return what `FactHeads.audio_loss` should read from clips cut out from `start` (seconds) for `duration`."""
    tokens = math.ceil(duration * TOKENS_PER_SECOND)
    vowels = torch.zeros(len(facts), tokens, dtype=torch.long)
    for row, sung in enumerate(syllables):
        for k, (begin, vowel) in enumerate(sung):
            end = min(sung[k + 1][0] if k + 1 < len(sung) else begin + 1.0, begin + 1.0)
            first, last = (round((t - start) * TOKENS_PER_SECOND) for t in (begin, end))
            vowels[row, max(first, 0) : max(last, 0)] = 1 + VOWELS.index(vowel)
    return {
        "tempo": torch.tensor([_tempo_class(f.tempo) for f in facts]),
        "genre": torch.tensor([1 + GENRES.index(f.genre) for f in facts]),
        "voice": torch.tensor([VOICES.index(f.voice) for f in facts]),
        "dynamics": torch.tensor([DYNAMICS.index(f.dynamics) for f in facts]),
        "recording": torch.tensor([RECORDINGS.index(f.recording) for f in facts]),
        "key": torch.tensor([f.key + 12 * (f.mode == "minor") for f in facts]),
        "damage": torch.tensor([0 if name is None else 1 + DAMAGE_NAMES.index(name) for name in damages]),
        "sounds": _many_hot([f.instruments for f in facts], SOUNDS),
        "faults": torch.tensor([[given.get(name, 0.0) for name in FAULTS] for given in faults]),
        "mood": torch.tensor([f.mood for f in facts]),
        "brightness": torch.tensor([math.log2(max(f.brightness, 50.0) / 2000) for f in facts]),
        "vowels": vowels,
    }


def match_targets(request: Request, facts: Facts) -> list[float]:
    """Return how far each of `MATCHES` was met, in [0, 1]; NaN for what was not asked."""
    parts = attribute_alignment(request, facts)
    return [parts[name][1] if name in parts else math.nan for name in MATCHES]


def text_targets(requests: Sequence[Request]) -> dict[str, Tensor]:
    """Return what `FactHeads.text_loss` should read from the texts of these requests."""
    tempos = [0 if r.tempo is None else _tempo_class(math.sqrt(r.tempo[0] * r.tempo[1])) for r in requests]
    return {
        "tempo": torch.tensor(tempos),
        "genre": torch.tensor([0 if r.genre is None else 1 + GENRES.index(r.genre) for r in requests]),
        "voice": torch.tensor([VOICES.index(r.voice) for r in requests]),
        "dynamics": torch.tensor([DYNAMICS.index(r.dynamics) for r in requests]),
        "recording": torch.tensor([RECORDINGS.index(r.recording) for r in requests]),
        "sounds": _many_hot([r.instruments for r in requests], SOUNDS),
        "mood": torch.tensor([r.mood or (0.5, 0.5) for r in requests]),
        "mood asked": torch.tensor([float(r.mood is not None) for r in requests]),
    }


def spelling_targets(lyrics: Sequence[str], tokens: int) -> Tensor:
    """Return how often each vowel is in each word.

    Shape:
        `[texts, tokens, vowels]`
    """
    counts = torch.zeros(len(lyrics), tokens, len(VOWELS))
    for row, text in enumerate(lyrics):
        for column, word in enumerate(split_words(text)):
            for vowel in vowels_of(word):
                counts[row, column, VOWELS.index(vowel)] += 1
    return counts
