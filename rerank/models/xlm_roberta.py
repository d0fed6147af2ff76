"""XLM-RoBERTa, the text encoder under MuQ-MuLan and the published reward model.

Names of sub-modules give the state-dict keys of `xlm-roberta-base` and of checkpoints that hold it. Inference only.

**Conventions**: token ids with 0 at the start, 2 at the end and 1 for padding.

**Source**: Conneau et al. 2020, arXiv:1911.02116.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from rerank.models.config import DEPTH, HEADS, HIGHEST_EPSILON, VOCABULARY, WIDTH, Config
from rerank.models.transformer import masked_bias, split_heads

START, PADDING, END = 0, 1, 2
"""Ids of the tokens at the start of a text, in place of none, and at its end."""


@dataclass(frozen=True, kw_only=True)
class XlmRobertaConfig:
    """Sizes of `XlmRoberta`; the defaults are those of the base model.

    Attributes:
        vocabulary: number of token ids.
        dim: width of a token.
        depth: layers.
        heads: of attention.
        hidden: width of the feed-forward parts.
        positions: length of the position table; two less is the longest text.
        epsilon: of the layer norms.
    """

    vocabulary: int = 250002
    dim: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    positions: int = 514
    epsilon: float = 1e-5

    @classmethod
    def of(cls, published: Mapping[str, Any]) -> "XlmRobertaConfig":
        """Return the sizes that a published `config.json` says.

        Raises:
            WeightsError: it lacks one, or asks for something that this class is not.
        """
        config = Config(published, "a text encoder")
        config.only("model_type", "xlm-roberta", default=None)
        config.only("hidden_act", "gelu", default=None)
        config.only("pad_token_id", PADDING, default=None)
        config.only("type_vocab_size", 1, default=None)
        dim, heads = config.whole("hidden_size", 1, WIDTH), config.whole("num_attention_heads", 1, HEADS)
        config.check("num_attention_heads", heads, f"a part of hidden_size {dim}", dim % heads == 0)
        return cls(
            vocabulary=config.whole("vocab_size", END + 1, VOCABULARY),
            dim=dim,
            depth=config.whole("num_hidden_layers", 0, DEPTH),
            heads=heads,
            hidden=config.whole("intermediate_size", 1, WIDTH),
            # two are for padding, and a text has a start and an end
            positions=config.whole("max_position_embeddings", 4, WIDTH),
            epsilon=config.number("layer_norm_eps", 0.0, HIGHEST_EPSILON),
        )


class _Embeddings(nn.Module):
    def __init__(self, config: XlmRobertaConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocabulary, config.dim)
        self.position_embeddings = nn.Embedding(config.positions, config.dim)
        self.token_type_embeddings = nn.Embedding(1, config.dim)
        self.LayerNorm = nn.LayerNorm(config.dim, config.epsilon)

    def forward(self, ids: Tensor) -> Tensor:
        """Shape: `[texts, tokens]` -> `[texts, tokens, dim]`."""
        counts = ids != PADDING
        places = counts.cumsum(1) * counts + PADDING
        vectors = self.word_embeddings(ids) + self.position_embeddings(places) + self.token_type_embeddings.weight[0]
        embedded: Tensor = self.LayerNorm(vectors)
        return embedded


class _SelfAttention(nn.Module):
    def __init__(self, config: XlmRobertaConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query, self.key, self.value = (nn.Linear(config.dim, config.dim) for _ in range(3))

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Shape: `[texts, tokens, dim]` -> same."""
        q, k, v = (split_heads(projected(x), self.heads) for projected in (self.query, self.key, self.value))
        mask = None if bias is None else bias.to(v.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class _Output(nn.Module):
    """Project, add what came in, normalise."""

    def __init__(self, inputs: int, config: XlmRobertaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config.dim)
        self.LayerNorm = nn.LayerNorm(config.dim, config.epsilon)

    def forward(self, update: Tensor, x: Tensor) -> Tensor:
        """Shape: `[texts, tokens, inputs]`, `[texts, tokens, dim]` -> `[texts, tokens, dim]`."""
        out: Tensor = self.LayerNorm(self.dense(update) + x)
        return out


class _Layer(nn.Module):
    def __init__(self, config: XlmRobertaConfig) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": _SelfAttention(config), "output": _Output(config.dim, config)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.dim, config.hidden)})
        self.output = _Output(config.hidden, config)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Shape: `[texts, tokens, dim]` -> same."""
        x = self.attention["output"](self.attention["self"](x, bias), x)
        out: Tensor = self.output(F.gelu(self.intermediate["dense"](x)), x)
        return out


class XlmRoberta(nn.Module):
    """Token ids to vectors with context.

    Shape:
        `[texts, tokens]` -> `[texts, tokens, dim]`
    """

    def __init__(self, config: XlmRobertaConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_Layer(config) for _ in range(config.depth))})

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return a vector per token; where `mask` (bool) is False it means nothing, and no other attends to it.

        Shape:
            both `[texts, tokens]` -> `[texts, tokens, dim]`
        """
        bias = masked_bias(mask)
        layers = self.encoder["layer"]
        assert isinstance(layers, nn.ModuleList)
        x: Tensor = self.embeddings(ids)
        for layer in layers:
            x = layer(x, bias)
        return x
