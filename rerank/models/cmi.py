"""The compositional reward model: one network for the published weights and for the small one.

A text tower reads the prompt text and the lyrics, an audio tower the reference and the candidate. The prompt
transformer works on the concatenated tokens of the prompt, the joint transformer on prompt and candidate; the mean of
the candidate's tokens goes to a head with two outputs. Parts of a prompt that are absent contribute no tokens.

**Conventions**: column 0 of the output is alignment, column 1 is musicality; raw numbers, higher is better.

Where a published model is configured so, its downsamplers shorten the tokens of text, lyrics, reference and candidate.

**Source**: CMI-RewardBench (arXiv:2603.00610), section 3.3; key names as in `HaiwenXia/CMI-RM` (weights CC BY-NC).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rerank.errors import WeightsError
from rerank.models.config import DEPTH, HEADS, WIDTH, Config, shown
from rerank.models.downsample import build_downsampler
from rerank.models.transformer import DecoderLayer, Tokens, Transformer, concatenate

AXES = ("alignment", "musicality")
"""The columns of the output."""

ROLES = ("text", "lyrics", "reference", "candidate")
"""The rows of the category embedding."""

UNUSED = (
    "null_text_embedding",
    "null_lyrics_embedding",
    "null_audio_embedding",
    "single_score_projector.*",
    "alignment_head.*",
    "quality_head.*",
)
"""Weights of published checkpoints that only training used, beside those of the towers."""


@dataclass(frozen=True, kw_only=True)
class CmiConfig:
    """Sizes of a `RewardModel`; the defaults are those of the published one.

    Attributes:
        dim: width of the tokens of both towers.
        heads: of attention.
        dim_head: width of a head.
        ff_mult: hidden width of feed-forward parts is int(dim * ff_mult * 2 / 3).
        prompt_tf_depth: layers of the prompt transformer.
        joint_tf_depth: layers of the joint transformer.
        attention_mode: SA: self-attention over prompt and candidate; CA: candidate attends to prompt.
        mlp_dim: hidden width of the head.
        reads_lyrics: False leaves lyrics out of every prompt (the published mode "text_only").
        downsamplers: settings of `build_downsampler` for each of `ROLES`; none for those that are not named.
        category_embeddings: add one learned vector per role to the tokens (not in the published model).
        dropout: in training only.
    """

    dim: int = 768
    heads: int = 8
    dim_head: int = 64
    ff_mult: int = 4
    prompt_tf_depth: int = 4
    joint_tf_depth: int = 1
    attention_mode: Literal["SA", "CA"] = "SA"
    mlp_dim: int = 512
    reads_lyrics: bool = True
    downsamplers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    category_embeddings: bool = False
    dropout: float = 0.0

    @classmethod
    def of(cls, published: Mapping[str, Any]) -> "CmiConfig":
        """Return the sizes that a published `config.yaml` says; what it leaves out is as in the original code.

        Raises:
            WeightsError: it asks for something that `RewardModel` is not.
        """
        settings = Config(settings_of(published), "a reward model")
        values = settings.values
        encoder = values.get("text_encoder") or {}
        encoder = encoder.get("name") if isinstance(encoder, Mapping) else encoder
        if values.get("name") == "sanity" or _part(settings, "text_lora_config").values.get("use_lora"):
            raise WeightsError("a reward model with name 'sanity' or with text_lora_config.use_lora is not supported")
        settings.only("sr", 24000, default=24000)
        settings.only("output_dim", len(AXES), default=len(AXES))
        settings.only("category_embeddings", None, default=None)
        if encoder not in (None, "muqmulan"):
            raise WeightsError(
                f"a reward model with text_encoder {shown(encoder)} is not supported; expected 'muqmulan'"
            )
        return cls(
            dim=settings.whole("dim", 1, WIDTH, 768),
            heads=settings.whole("heads", 1, HEADS, 8),
            dim_head=settings.whole("dim_head", 1, WIDTH, 64),
            ff_mult=settings.whole("ff_mult", 1, 64, 4),
            prompt_tf_depth=settings.whole("prompt_tf_depth", 0, DEPTH, 1),
            joint_tf_depth=settings.whole("joint_tf_depth", 0, DEPTH, 4),
            attention_mode=settings.only("attention_mode", "SA", "CA", default="SA"),
            mlp_dim=settings.whole("mlp_dim", 1, WIDTH, 512),
            reads_lyrics=values.get("mode", "concat_text_late") != "text_only",
            downsamplers=_downsamplers(_part(settings, "downsample")),
        )


def settings_of(published: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a published `config.yaml`, which stand at its top or under "model"."""
    return {**published, **_part(Config(published, "a reward model"), "model").values}


def _part(settings: Config, name: str) -> Config:
    """Return a part that may be missing or empty."""
    return settings.part(name) if settings.values.get(name) else Config({}, settings.of)


def _downsamplers(published: Config) -> dict[str, Mapping[str, Any]]:
    """Return the settings of each role's downsampler."""
    configs = _part(published, "configs").values
    if not configs:
        return {}
    values = published.values
    candidate, text = values.get("eval", "none"), values.get("text", "none")
    names = {"text": text, "lyrics": text, "reference": values.get("ref") or candidate, "candidate": candidate}
    for name in names.values():
        if not isinstance(name, str) or name not in configs:
            raise WeightsError(f"a reward model has no downsampler {shown(name)}; its configs are: {shown([*configs])}")
    return {role: configs[name] for role, name in names.items()}


class RewardModel(nn.Module):
    """Tokens of a prompt and of candidates in, alignment and musicality of each candidate out.

    Args:
        config: sizes.
        text_tower: maps a list of strings to `Tokens`.
        audio_tower: maps waveforms `[batch, time]` to `[batch, tokens, dim]`.

    Attributes:
        exact_head: compute the last layers in float32 where autocast makes the rest bfloat16; else two near candidates
            may tie.
    """

    def __init__(self, config: CmiConfig, text_tower: nn.Module, audio_tower: nn.Module) -> None:
        super().__init__()
        self.config, self.exact_head = config, True
        self.text_module, self.audio_module = text_tower, audio_tower
        text, lyrics, reference, candidate = (
            build_downsampler(config.downsamplers.get(role, {}), config.dim) for role in ROLES
        )
        self.text_downsampler, self.lyrics_downsampler = text, lyrics
        self.ref_downsampler, self.eval_downsampler = reference, candidate
        sizes = (config.heads, config.dim_head, config.ff_mult, config.dropout)
        self.prompt_transformer = Transformer(config.dim, config.prompt_tf_depth, *sizes)
        self.joint_transformer: nn.Module
        if config.attention_mode == "SA":
            self.joint_transformer = Transformer(config.dim, config.joint_tf_depth, *sizes)
        else:
            layers = (DecoderLayer(config.dim, *sizes) for _ in range(config.joint_tf_depth))
            self.joint_transformer = nn.ModuleList(layers)
        self.score_projector = nn.Sequential(
            nn.LayerNorm(config.dim),
            nn.Linear(config.dim, config.mlp_dim),
            nn.ReLU(),
            nn.Linear(config.mlp_dim, len(AXES)),
        )
        self.category_embedding = nn.Embedding(len(ROLES), config.dim) if config.category_embeddings else None
        if self.category_embedding is not None:
            nn.init.normal_(self.category_embedding.weight, std=0.1)

    def encode_text(self, texts: list[str]) -> Tokens:
        """Return the tokens of prompt texts or of lyrics, one item per string."""
        tokens: Tokens = self.text_module(texts)
        return tokens

    def encode_audio(self, waveform: Tensor) -> Tokens:
        """Return the tokens of references or of candidates of one length.

        Shape:
            `[batch, time]` -> values `[batch, tokens, dim]`
        """
        return Tokens.of(self.audio_module(waveform))

    def _in_role(self, tokens: Tokens, role: str) -> Tokens:
        """Return `tokens` shortened and marked with what they are."""
        shorten = {
            "text": self.text_downsampler,
            "lyrics": self.lyrics_downsampler,
            "reference": self.ref_downsampler,
            "candidate": self.eval_downsampler,
        }
        tokens = shorten[role](tokens)
        tokens = tokens._replace(values=tokens.values.float())
        if self.category_embedding is None:
            return tokens
        return tokens._replace(values=tokens.values + self.category_embedding.weight[ROLES.index(role)])

    def encode_prompt(
        self, text: Tokens | None = None, lyrics: Tokens | None = None, reference: Tokens | None = None
    ) -> Tokens:
        """Run the prompt transformer over all parts of a prompt; this is all that depends on the prompt alone.

        A part is None where no item has it. In a batch, items without a part have mask False there. With no part at
        all the result is one item without tokens, which `score_tokens` takes for any number of candidates.

        Shape:
            parts `[batch, tokens_i, dim]` -> `[batch, sum of tokens_i, dim]`
        """
        parts = {"text": text, "lyrics": lyrics if self.config.reads_lyrics else None, "reference": reference}
        present = [self._in_role(tokens, role) for role, tokens in parts.items() if tokens is not None]
        if not present:
            return Tokens.of(self._one_weight().new_zeros(1, 0, self.config.dim))
        tokens = concatenate(present)
        return tokens._replace(values=self.prompt_transformer(tokens.values, tokens.mask))

    def score_tokens(self, prompt: Tokens, candidate: Tokens) -> Tensor:
        """Return alignment and musicality of each candidate; one prompt serves for all where its batch is 1.

        Shape:
            prompt: `[1 or batch, prompt tokens, dim]`, from `encode_prompt`
            candidate: `[batch, tokens, dim]`, from the audio tower
            returns: `[batch, 2]`
        """
        joined = self.join(prompt, candidate)
        if not self.exact_head:
            rounded: Tensor = self.score_projector(joined)
            return rounded
        with torch.autocast(joined.device.type, enabled=False):
            scores: Tensor = self.score_projector(joined.float())
        return scores

    def join(self, prompt: Tokens, candidate: Tokens) -> Tensor:
        """Run the joint transformer and return the mean of each candidate's tokens, which the head reads.

        It is NaN where a candidate has no token, as when a downsampler's window is longer than all of it.

        Shape:
            as `score_tokens`; returns: `[batch, dim]`
        """
        return self.attend(prompt, candidate).mean()

    def attend(self, prompt: Tokens, candidate: Tokens) -> Tokens:
        """Run the joint transformer and return each candidate's tokens.

        Shape:
            as `score_tokens`; returns: `[batch, tokens, dim]`
        """
        candidate = self._in_role(candidate, "candidate")
        prompt = prompt.expand(candidate.values.shape[0])
        if isinstance(self.joint_transformer, nn.ModuleList):
            tokens = candidate
            for layer in self.joint_transformer:
                tokens = layer(tokens, prompt)
            return candidate._replace(values=tokens.values)
        joint = concatenate([prompt, candidate])
        values = self.joint_transformer(joint.values, joint.mask, keep=candidate.values.shape[1])
        return candidate._replace(values=values)

    def _one_weight(self) -> Tensor:
        """Return a weight, for its device and dtype."""
        weight = self.score_projector[0].weight
        assert isinstance(weight, Tensor)
        return weight
