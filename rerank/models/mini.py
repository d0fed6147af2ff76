"""The small towers of `cmi-mini`: an audio tower on log-mel spectrograms and a text tower that learns its own words.

**Conventions**: mono waveforms at 24 kHz in [-1, 1]; 6.25 audio tokens per second; one text token per word or number.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rerank.errors import WeightsError
from rerank.models.cmi import CmiConfig, RewardModel
from rerank.models.config import DEPTH, HEADS, WIDTH, Config, shown
from rerank.models.mel import LogMel
from rerank.models.transformer import Tokens, Transformer, positions
from rerank.models.vocabulary import Vocabulary, split_words, word_ngrams

SAMPLE_RATE = 24000
_HOP = 480
FRAMES_PER_SECOND = SAMPLE_RATE / _HOP
"""Of the spectrogram."""

TOKENS_PER_SECOND = FRAMES_PER_SECOND / 8
"""Of audio: two strides of 2 in the convolutions, and pairs of what comes out are averaged."""

POSITION_SCALE = 0.3
"""Size of the position signal beside token vectors of about unit size."""

UNKNOWN, NUMBER = 0, 1
"""Word ids that stand for words outside the vocabulary and for numbers; the vocabulary's words follow."""

_OCTAVE_RATES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
_CACHE_SIZE = 100_000


class WordIds(NamedTuple):
    """What the text tower looks up for one word: its id, those of its n-grams, and its value if it is a number."""

    word: int
    ngrams: tuple[int, ...]
    value: float


TokenIds = tuple[WordIds, ...]


class MiniTextTower(nn.Module):
    """Free English about music, or lyrics, to tokens; nothing is ever cut off, an empty text has no tokens.

    A token is the embedding of its word plus the mean embedding of its n-grams, so that words it never saw are near
    similar ones; numbers are instead read by their logarithm, so that 120 and 121 are near.

    Args:
        vocabulary: learnt from real texts.
        dim: width of a token.
        depth: layers of the transformer.
        heads: of attention.
        dim_head: width of a head.
        ff_mult: see `Transformer`.
        dropout: in training only.
        word_dropout: share of words that are taken for unknown, in training only.

    Shape:
        texts -> values `[texts, longest, dim]`, mask `[texts, longest]`
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        dim: int = 192,
        depth: int = 2,
        heads: int = 6,
        dim_head: int = 32,
        ff_mult: int = 4,
        dropout: float = 0.0,
        word_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.vocabulary, self.dim, self.word_dropout = vocabulary, dim, word_dropout
        self._word_ids = {word: index for index, word in enumerate(vocabulary.words, start=NUMBER + 1)}
        self._ngram_ids = {gram: index for index, gram in enumerate(vocabulary.ngrams)}
        self._known: dict[str, WordIds] = {}
        self.word_embedding = nn.Embedding(len(vocabulary.words) + NUMBER + 1, dim)
        self.ngram_embedding = nn.EmbeddingBag(max(len(vocabulary.ngrams), 1), dim, mode="mean")
        self.number = nn.Linear(2 * len(_OCTAVE_RATES), dim)
        self.transformer = Transformer(dim, depth, heads, dim_head, ff_mult, dropout)
        nn.init.normal_(self.word_embedding.weight, std=0.5)
        nn.init.normal_(self.ngram_embedding.weight, std=1.0)

    def tokenize(self, text: str) -> TokenIds:
        """Return what is looked up for each word and number of `text`."""
        return tuple(self._known.get(word) or self._look_up(word) for word in split_words(text))

    def _look_up(self, word: str) -> WordIds:
        """Return the ids of one word, and remember them."""
        if len(self._known) >= _CACHE_SIZE:
            self._known.clear()
        if word[0].isdecimal():
            found = WordIds(NUMBER, (), min(float(word), 1e12))
        else:
            grams = (self._ngram_ids.get(gram) for gram in word_ngrams(word))
            found = WordIds(self._word_ids.get(word, UNKNOWN), tuple(g for g in grams if g is not None), 0.0)
        self._known[word] = found
        return found

    def _vectors(self, words: list[WordIds]) -> Tensor:
        """Return one vector for each word, before any context.

        Shape:
            `[words, dim]`
        """
        device = self.word_embedding.weight.device
        ids = torch.tensor([word.word for word in words], device=device)
        if self.training and self.word_dropout > 0:
            unknown = (torch.rand(ids.shape, device=device) < self.word_dropout) & (ids != NUMBER)
            ids = ids.masked_fill(unknown, UNKNOWN)
        lengths = torch.tensor([0] + [len(word.ngrams) for word in words[:-1]], device=device)
        grams = torch.tensor([gram for word in words for gram in word.ngrams], dtype=torch.long, device=device)
        vectors: Tensor = self.word_embedding(ids) + self.ngram_embedding(grams, lengths.cumsum(0))
        values = torch.tensor([word.value for word in words], device=device)
        octaves = values.clamp(min=2.0**-4).log2()[:, None] * (2 * math.pi * values.new_tensor(_OCTAVE_RATES))
        numbers: Tensor = self.number(torch.cat([octaves.sin(), octaves.cos()], 1))
        return vectors + numbers * (ids == NUMBER)[:, None]

    def forward(self, texts: list[str]) -> Tokens:
        """Shape: values `[texts, longest, dim]`, mask `[texts, longest]`."""
        tokenized = [self.tokenize(text) for text in texts]
        rows: dict[WordIds, int] = {word: 0 for tokens in tokenized for word in tokens}
        rows = {word: row for row, word in enumerate(rows)}
        device = self.word_embedding.weight.device
        longest = max((len(tokens) for tokens in tokenized), default=0)
        if longest == 0:
            return Tokens.of(self.word_embedding.weight.new_zeros(len(texts), 0, self.dim))
        padded = [[rows[word] for word in tokens] + [0] * (longest - len(tokens)) for tokens in tokenized]
        mask = torch.arange(longest) < torch.tensor([len(tokens) for tokens in tokenized])[:, None]
        mask = mask.to(device)
        values = nn.functional.embedding(torch.tensor(padded, device=device), self._vectors(list(rows)))
        values = values + POSITION_SCALE * positions(longest, self.dim, device)
        return Tokens(self.transformer(values, mask) * mask[..., None], mask)


def _convolution(inputs: int, outputs: int, stride: tuple[int, int]) -> nn.Sequential:
    """Return a 3x3 convolution with (frequency, time) stride, normalised within each item."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.GroupNorm(8, outputs), nn.GELU())


class MiniAudioTower(nn.Module):
    """Log-mel spectrogram, three convolutions that keep 16 steps of frequency, and a transformer.

    The transformer works on 12.5 steps a second; pairs of them are averaged, which halves what comes after.

    An item does not depend on the others in its batch.

    Args:
        dim: width of a token.
        depth: layers of the transformer.
        heads: of attention.
        dim_head: width of a head.
        ff_mult: see `Transformer`.
        dropout: in training only.

    Shape:
        `[batch, time]` at 24 kHz -> `[batch, tokens, dim]`, 6.25 tokens per second
    """

    def __init__(
        self,
        dim: int = 192,
        depth: int = 4,
        heads: int = 6,
        dim_head: int = 32,
        ff_mult: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.mel = LogMel(SAMPLE_RATE, hop=_HOP)
        self.stem = nn.Sequential(
            _convolution(1, 32, (2, 2)), _convolution(32, 64, (2, 2)), _convolution(64, 96, (2, 1))
        )
        self.project = nn.Linear(96 * 16, dim)
        self.transformer = Transformer(dim, depth, heads, dim_head, ff_mult, dropout)

    def encode(self, mel: Tensor) -> Tensor:
        """Return the tokens of spectrograms from `self.mel`.

        Shape:
            `[batch, 128, frames]` -> `[batch, ceil(frames / 8), dim]`
        """
        features: Tensor = self.stem(mel[:, None])
        tokens: Tensor = self.project(features.permute(0, 3, 1, 2).flatten(2))
        tokens = tokens + POSITION_SCALE * positions(tokens.shape[1], self.dim, tokens.device)
        tokens = self.transformer(tokens)
        pooled: Tensor = nn.functional.avg_pool1d(tokens.transpose(1, 2), 2, ceil_mode=True).transpose(1, 2)
        return pooled

    def forward(self, waveform: Tensor) -> Tensor:
        """Shape: `[batch, time]` -> `[batch, tokens, dim]`."""
        return self.encode(self.mel(waveform))


@dataclass(frozen=True, kw_only=True)
class MiniConfig:
    """Sizes of `cmi-mini`; both towers and the transformers share width, heads and dropout."""

    dim: int = 192
    heads: int = 6
    dim_head: int = 32
    ff_mult: int = 4
    audio_depth: int = 4
    text_depth: int = 2
    prompt_tf_depth: int = 1
    joint_tf_depth: int = 2
    mlp_dim: int = 192
    dropout: float = 0.0

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "MiniConfig":
        """Return the sizes that a stored `config.json` says, which are those of `asdict`.

        Raises:
            WeightsError: it lacks one, has another, or one that it cannot have.
        """
        config, most = Config(stored, "a small reward model"), {"heads": HEADS, "ff_mult": 64}
        names = [one.name for one in fields(cls) if one.name != "dropout"]
        unknown = stored.keys() - {*names, "dropout"}
        if unknown:
            raise WeightsError(f"a small reward model with the setting {shown(min(unknown))} is not supported")
        depths = {name: config.whole(name, 0, DEPTH) for name in names if name.endswith("depth")}
        sizes = {name: config.whole(name, 1, most.get(name, WIDTH)) for name in names if name not in depths}
        return cls(**depths, **sizes, dropout=config.number("dropout", 0.0, 1.0))


def build_mini(vocabulary: Vocabulary, config: MiniConfig = MiniConfig()) -> RewardModel:
    """Return the small reward model with fresh weights."""
    sizes = (config.heads, config.dim_head, config.ff_mult, config.dropout)
    text = MiniTextTower(vocabulary, config.dim, config.text_depth, *sizes)
    audio = MiniAudioTower(config.dim, config.audio_depth, *sizes)
    reward = CmiConfig(
        dim=config.dim,
        heads=config.heads,
        dim_head=config.dim_head,
        ff_mult=config.ff_mult,
        prompt_tf_depth=config.prompt_tf_depth,
        joint_tf_depth=config.joint_tf_depth,
        mlp_dim=config.mlp_dim,
        category_embeddings=True,
        dropout=config.dropout,
    )
    return RewardModel(reward, text, audio)


def mini_vocabulary(model: RewardModel) -> Vocabulary:
    """Return the vocabulary of a small reward model."""
    assert isinstance(model.text_module, MiniTextTower)
    return model.text_module.vocabulary


def mini_config(model: RewardModel) -> MiniConfig:
    """Return the sizes that `build_mini` made a small reward model with."""
    assert isinstance(model.text_module, MiniTextTower) and isinstance(model.audio_module, MiniAudioTower)
    config = model.config
    return MiniConfig(
        dim=config.dim,
        heads=config.heads,
        dim_head=config.dim_head,
        ff_mult=config.ff_mult,
        audio_depth=len(model.audio_module.transformer.layers),
        text_depth=len(model.text_module.transformer.layers),
        prompt_tf_depth=config.prompt_tf_depth,
        joint_tf_depth=config.joint_tf_depth,
        mlp_dim=config.mlp_dim,
        dropout=config.dropout,
    )
