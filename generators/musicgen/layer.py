"""One layer of MusicGen's transformer, over tables of what is past.

**Conventions**: keys and values of all rows lie in tables that are filled in place: values
`[rows, heads, places, width]`, keys the same, but on a CPU `[rows, heads, width, places]`. What passes from layer to
layer is float32; products are in the layer's own dtype.

**Source**: MusicGen (arXiv:2306.05284); modules of transformers' `MusicgenDecoderLayer` and `MusicgenMelodyDecoderLayer`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rerank.models.linear import RowLinear

_FEW = 64
"""Places of the past, or tokens of a text, that are multiplied one by one on a CPU."""


class Layer(nn.Module):
    """One layer: attention to what is past, attention to a text (in models that have it), and the wide part."""

    def __init__(self, source: Any, heads: int, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()

        def linear(*parts: nn.Linear) -> RowLinear:
            return RowLinear(torch.cat([part.weight.detach() for part in parts]).to(device, dtype))

        def norm(part: nn.LayerNorm) -> nn.LayerNorm:
            return part.to(device, torch.float32)

        self.heads, self.dtype, self.activation = heads, dtype, source.activation_fn
        past, text = source.self_attn, getattr(source, "encoder_attn", None)
        self.past_norm, self.wide_norm = norm(source.self_attn_layer_norm), norm(source.final_layer_norm)
        self.past_in, self.past_out = linear(past.q_proj, past.k_proj, past.v_proj), linear(past.out_proj)
        self.wide_in, self.wide_out = linear(source.fc1), linear(source.fc2)
        if text is not None:
            self.text_norm = norm(source.encoder_attn_layer_norm)
            self.text_in, self.text_out = linear(text.q_proj), linear(text.out_proj)
            self.text_read = linear(text.k_proj, text.v_proj)

    def attend_past(
        self, hidden: Tensor, keys: Tensor, values: Tensor, places: Tensor, length: int, mask: Tensor | None
    ) -> Tensor:
        """Put keys and values of new states in their `places`, and return what attention to the first `length` adds.

        Shape:
            `[rows, new, dim]` -> `[rows, new, dim]`; mask `[new, length]`, True where there is attention
        """
        query, key, value = self._split(self.past_in(self.past_norm(hidden).to(self.dtype)), 3)
        values.index_copy_(2, places, value)
        values = values[:, :, :length]
        if hidden.device.type == "cpu":
            keys.index_copy_(3, places, key.transpose(2, 3))
            found = attend(query, keys[..., :length], values, mask)
        else:
            keys.index_copy_(2, places, key)
            found = F.scaled_dot_product_attention(query, keys[:, :, :length], values, attn_mask=mask)
        out: Tensor = self.past_out(found.transpose(1, 2).flatten(2))
        return out.float()

    def attend_text(self, hidden: Tensor, texts: Sequence[tuple[Tensor, Tensor] | None]) -> None:
        """Add to the rows of each side what attention to its text gives; without a text that is 0.

        Shape:
            hidden `[rows, new, dim]`, changed in place
        """
        for rows, text in zip(hidden.chunk(len(texts)), texts, strict=True):
            if text is None:
                continue
            (query,) = self._split(self.text_in(self.text_norm(rows).to(self.dtype)), 1)
            if hidden.device.type == "cpu":
                found = attend(query, *text, mask=None)
            else:
                keys, values = (part.expand(len(rows), -1, -1, -1) for part in text)
                found = F.scaled_dot_product_attention(query, keys, values)
            rows += self.text_out(found.transpose(1, 2).flatten(2)).float()

    def read_text(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Shape: `[tokens, dim]` -> keys and values `[1, heads, tokens, width]`, keys on a CPU `[1, heads, width, tokens]`."""
        keys, values = self._split(self.text_read(text[None].to(self.dtype)), 2)
        return (keys.transpose(2, 3).contiguous() if text.device.type == "cpu" else keys), values

    def widen(self, hidden: Tensor) -> Tensor:
        """Shape: `[rows, new, dim]` -> `[rows, new, dim]`."""
        out: Tensor = self.wide_out(self.activation(self.wide_in(self.wide_norm(hidden).to(self.dtype))))
        return out.float()

    def _split(self, joined: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Shape: `[rows, new, parts * dim]` -> parts times `[rows, heads, new, width]`."""
        rows, new, _ = joined.shape
        return torch.unbind(joined.reshape(rows, new, parts, self.heads, -1).permute(2, 0, 3, 1, 4))


def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Return scaled dot-product attention, on a CPU.

    torch's own is slow there for one query, in bfloat16 four times; products with keys that lie with their places last
    read them in one go. Few places are multiplied one by one: for small products it depends on how many rows there are
    which way torch takes, and with it the last bits.

    Shape:
        query `[rows, heads, new, width]`, keys `[1 or rows, heads, width, length]`, values
        `[1 or rows, heads, length, width]`, mask `[new, length]` -> `[rows, heads, new, width]`
    """
    rows, heads, new, width = query.shape
    query, length = query * width**-0.5, values.shape[2]
    if new == 1 and length <= _FEW:
        scores = (query.float().transpose(2, 3) * keys).sum(2)
        likely = (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(-1)
        return (likely[..., None] * values).sum(2, keepdim=True).to(query.dtype)
    scores = torch.bmm(query.flatten(0, 1), keys.expand(rows, -1, -1, -1).flatten(0, 1)).float()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    likely = scores.softmax(-1).to(values.dtype)
    return torch.bmm(likely, values.expand(rows, -1, -1, -1).flatten(0, 1)).reshape(rows, heads, new, width)
