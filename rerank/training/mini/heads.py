"""Small linear readers that teach the towers, and are thrown away after training.

The published model starts from towers that were trained on real music, whose texts and sounds lie in one space; the
small ones start from nothing. What a sound can be and a text can ask for is read by one and the same reader, so that
the two towers come to say it in the same way.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rerank.generators.synth.voice import VOWELS
from rerank.models.transformer import Tokens
from rerank.training.mini.facts import BRIGHTNESS_PLACES, DAMAGE_NAMES, FAULTS, MATCHES, SHARED, SOUNDS, Targets


class FactHeads(nn.Module):
    """Linear readers on the tokens of both towers.

    Args:
        dim: width of the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        shared = {**SHARED, "sounds": len(SOUNDS)}
        heard = {"key": 24, "brightness": BRIGHTNESS_PLACES, "damage": 1 + len(DAMAGE_NAMES), "faults": len(FAULTS)}
        self.shared = nn.ModuleDict({name: nn.Linear(dim, size) for name, size in shared.items()})
        self.audio = nn.ModuleDict({name: nn.Linear(2 * dim, size) for name, size in heard.items()})
        self.excluded = nn.Linear(dim, len(SOUNDS))
        self.vowel = nn.Linear(dim, 1 + len(VOWELS))
        self.match = nn.Linear(dim, len(MATCHES))
        self.followed = nn.Linear(dim, 1)

    def audio_loss(self, tokens: Tensor, targets: Targets) -> Tensor:
        """Return the loss of reading the facts of each clip, and the vowel that is sung in each token.

        What a text can ask for is read from the mean over time, the rest from mean and maximum.

        Shape:
            tokens: `[clips, tokens, dim]`
            targets: from `audio_targets`
        """
        mean = tokens.mean(1)
        both = torch.cat([mean, tokens.amax(1)], 1)
        out = {name: head(both) for name, head in self.audio.items()}
        loss = self._shared_loss(mean, targets)
        loss = loss + sum(F.cross_entropy(out[name], targets[name]) for name in ("key", "brightness", "damage"))
        loss = loss + 8 * F.binary_cross_entropy_with_logits(out["faults"], targets["faults"])
        vowels = targets["vowels"][:, : tokens.shape[1]]
        return loss + 2 * F.cross_entropy(self.vowel(tokens[:, : vowels.shape[1]]).flatten(0, 1), vowels.flatten())

    def text_loss(self, texts: Tokens, targets: Targets) -> Tensor:
        """Return the loss of reading what each text asks for, and what it rules out.

        Shape:
            texts: values `[texts, tokens, dim]`
            targets: from `text_targets`
        """
        mask = texts.mask[..., None]
        mean = (texts.values * mask).sum(1) / mask.sum(1).clamp(min=1)
        excluded = F.binary_cross_entropy_with_logits(self.excluded(mean), targets["excluded"])
        return self._shared_loss(mean, targets) + 4 * excluded

    def _shared_loss(self, mean: Tensor, targets: Targets) -> Tensor:
        out = {name: head(mean) for name, head in self.shared.items()}
        loss = 8 * F.binary_cross_entropy_with_logits(out["sounds"], targets["sounds"])
        for name in SHARED:
            loss = loss + F.cross_entropy(out[name], targets[name])
        return loss

    def match_loss(self, joined: Tensor, shares: Tensor) -> Tensor:
        """Return the loss of telling how far each asked attribute was met, from what the reward head reads.

        Shape:
            joined: `[pairs, dim]`
            shares: `[pairs, matches]`, from `match_targets`; NaN where an attribute was not asked
        """
        asked = ~shares.isnan()
        return F.binary_cross_entropy_with_logits(self.match(joined)[asked], shares[asked])

    def lyrics_loss(self, lyrics: Tokens, targets: Tensor) -> Tensor:
        """Return the loss of reading the vowels of each word, with the reader of what is sung.

        Shape:
            lyrics: values `[texts, tokens, dim]`
            targets: `[texts, tokens, 1 + vowels]`, from `spelling_targets`
        """
        return F.cross_entropy(self.vowel(lyrics.values[lyrics.mask]), targets[lyrics.mask])

    def following_losses(self, joined: Tensor, followed: Tensor, asked: Tensor) -> dict[str, Tensor]:
        """Return the losses of telling, in each token of a candidate, what the lyrics are and whether they are followed.

        The reward itself is one number for a whole piece, from which it takes far longer to learn what counts.

        Shape:
            joined: `[pairs, tokens, dim]`, what the reward head reads the mean of
            followed: `[pairs, tokens]`, of each pair's clip, from `followed_targets`
            asked: `[pairs, 1 + vowels]`, how often each vowel comes in each pair's lyrics
        """
        known = ~followed.isnan()
        told, logits = self.vowel(joined), self.followed(joined)[..., 0][known]
        following = F.binary_cross_entropy_with_logits(logits, followed[known]) if known.any() else logits.sum()
        return {
            "following": following,
            "asked": F.cross_entropy(told.flatten(0, 1), asked[:, None].expand_as(told).flatten(0, 1)),
        }
