"""The two towers of MuQ-MuLan: music and text to tokens of one width.

They are parts of the published reward model, and by themselves say how similar a text and a piece of audio are. Names
of sub-modules give the state-dict keys of the published checkpoints (weights CC BY-NC 4.0). Inference only.

**Conventions**: mono waveforms at 24 kHz in [-1, 1]; 25 audio tokens per second; texts in English or Chinese.

**Source**: MuQ-MuLan (Zhu et al. 2025, arXiv:2501.01108), written from its published settings and layout.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from rerank.errors import WeightsError
from rerank.models.config import DEPTH, HEADS, WIDTH, Config
from rerank.models.muq import Muq, MuqConfig
from rerank.models.transformer import Tokens, Transformer
from rerank.models.xlm_roberta import PADDING, XlmRoberta, XlmRobertaConfig

log = logging.getLogger("rerank")

UNUSED = ("contrast.*",)
"""Weights of the published checkpoint of both towers that only training used, beside those of the encoders."""

LONGEST_TEXT = 512
"""Tokens that a text encoder with 514 positions takes, with those at start and end."""


@dataclass(frozen=True, kw_only=True)
class TransformerSizes:
    """Sizes of the `Transformer` after an encoder."""

    dim: int = 768
    depth: int = 0
    heads: int = 8
    dim_head: int = 64
    ff_mult: int = 4

    @classmethod
    def of(cls, config: Config) -> "TransformerSizes":
        """Return the sizes that a part of the published `config.json` says."""
        return cls(
            dim=config.whole("dim", 1, WIDTH),
            depth=config.whole("tf_depth", 0, DEPTH),
            heads=config.whole("heads", 1, HEADS),
            dim_head=config.whole("dim_head", 1, WIDTH),
            ff_mult=config.whole("ff_mult", 1, 64),
        )

    def build(self) -> Transformer:
        """Return the transformer with fresh weights."""
        return Transformer(self.dim, self.depth, self.heads, self.dim_head, self.ff_mult)


@dataclass(frozen=True, kw_only=True)
class MulanConfig:
    """Sizes of both towers; the defaults are those of the published model.

    Attributes:
        muq: of the audio encoder.
        text: of the text encoder.
        audio_transformer, text_transformer: of what follows them.
        dim_latent: width of the space in which text and audio are compared.
        clip_duration: seconds of audio that are compared at a time.
    """

    muq: MuqConfig = field(default_factory=MuqConfig)
    text: XlmRobertaConfig = field(default_factory=XlmRobertaConfig)
    audio_transformer: TransformerSizes = field(default_factory=TransformerSizes)
    text_transformer: TransformerSizes = field(default_factory=lambda: TransformerSizes(depth=8))
    dim_latent: int = 512
    clip_duration: float = 10.0

    @classmethod
    def of(cls, mulan: Mapping[str, Any], muq: Mapping[str, Any], text: Mapping[str, Any]) -> "MulanConfig":
        """Return the sizes that the published `config.json` of MuQ-MuLan, MuQ and the text encoder say.

        Raises:
            WeightsError: they lack one, or ask for something that these classes are not.
        """
        muq_config, text_config = MuqConfig.of(muq), XlmRobertaConfig.of(text)
        config = Config(mulan, "MuQ-MuLan")
        both, audio = config.part("mulan"), TransformerSizes.of(config.part("audio_transformer"))
        words = TransformerSizes.of(config.part("text_transformer"))
        both.only("sr", 24000)
        config.part("audio_model").only("model_dim", muq_config.dim)
        config.part("text_model").only("model_dim", None)
        if words.dim != text_config.dim:
            raise WeightsError(f"the text transformer is {words.dim} wide and its encoder {text_config.dim}")
        return cls(
            muq=muq_config,
            text=text_config,
            audio_transformer=audio,
            text_transformer=words,
            dim_latent=both.whole("dim_latent", 1, WIDTH),
            clip_duration=both.number("clip_secs", 0.1, 600.0),
        )


class MulanAudioTower(nn.Module):
    """MuQ, a linear layer, and a transformer of depth 0 in the published model.

    Shape:
        `[batch, time]` at 24 kHz -> `[batch, tokens, dim]`
    """

    def __init__(self, config: MulanConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Muq(config.muq)
        self.proj = nn.Linear(config.muq.dim, config.audio_transformer.dim)
        self.transformer = config.audio_transformer.build()

    def forward(self, waveform: Tensor) -> Tensor:
        """Shape: `[batch, time]` -> `[batch, tokens, dim]`."""
        return self.project(self.model(waveform))

    def project(self, states: Tensor) -> Tensor:
        """Return the tokens of what MuQ gives.

        Shape:
            `[batch, tokens, dim of MuQ]` -> `[batch, tokens, dim]`
        """
        tokens: Tensor = self.transformer(self.proj(states))
        return tokens


class MulanTextTower(nn.Module):
    """XLM-RoBERTa and a transformer; an empty text has two tokens, its start and its end.

    A text of more than 512 tokens is cut there, as the encoder has no more positions, and a warning is logged.

    Args:
        config: sizes.
        tokenizer: of the encoder.

    Shape:
        texts -> values `[texts, longest, dim]`, mask `[texts, longest]`
    """

    def __init__(self, config: MulanConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.longest = min(LONGEST_TEXT, config.text.positions - 2)
        self.model = XlmRoberta(config.text)
        self.transformer = config.text_transformer.build()

    def tokenize(self, text: str) -> list[int]:
        """Return the ids of a text, with those of its start and end."""
        ids: list[int] = self.tokenizer.encode(text).ids
        if len(ids) > self.longest:
            log.warning("a text of %d tokens is cut: the text encoder reads the first %d", len(ids), self.longest)
            ids = [*ids[: self.longest - 1], ids[-1]]
        return ids

    def forward(self, texts: list[str]) -> Tokens:
        """Shape: values `[texts, longest, dim]`, mask `[texts, longest]`."""
        rows = [self.tokenize(text) for text in texts]
        longest = max(len(row) for row in rows)
        device = self.model.embeddings.word_embeddings.weight.device
        ids = torch.tensor([row + [PADDING] * (longest - len(row)) for row in rows], device=device)
        # by length: a text may itself say <pad>
        mask = torch.tensor([[place < len(row) for place in range(longest)] for row in rows], device=device)
        return Tokens(self.transformer(self.model(ids, mask), mask), mask)


class Mulan(nn.Module):
    """Both towers, each with its mean taken to one space.

    Args:
        config: sizes.
        tokenizer: of the text encoder.
    """

    def __init__(self, config: MulanConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config = config
        self.audio, self.text = MulanAudioTower(config), MulanTextTower(config, tokenizer)
        self.audio_to_latents = nn.Linear(config.audio_transformer.dim, config.dim_latent)
        self.text_to_latents = nn.Linear(config.text_transformer.dim, config.dim_latent)

    def encode_audio(self, waveform: Tensor) -> Tensor:
        """Return vectors of length 1.

        Shape:
            `[batch, time]` at 24 kHz -> `[batch, dim_latent]`
        """
        return self.vectors(self.audio.model(waveform))

    def vectors(self, states: Tensor) -> Tensor:
        """Return vectors of length 1 of what MuQ gives.

        Shape:
            `[batch, tokens, dim of MuQ]` -> `[batch, dim_latent]`
        """
        return _direction(self.audio.project(states), self.audio_to_latents)

    def encode_text(self, text: str) -> Tensor:
        """Return the vector of length 1 of one text: the original reads padding as text, so texts go one by one.

        Shape:
            `[1, dim_latent]`
        """
        return _direction(self.text([text]).values, self.text_to_latents)


def _direction(tokens: Tensor, to_latents: nn.Linear) -> Tensor:
    """Return the mean of tokens as a vector of length 1, in float32 also where autocast made the tokens bfloat16.

    Shape:
        `[batch, tokens, dim]` -> `[batch, dim_latent]`
    """
    with torch.autocast(tokens.device.type, enabled=False):
        return nn.functional.normalize(to_latents(tokens.float().mean(1)), dim=-1)
