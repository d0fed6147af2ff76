"""The transformer of MusicGen, one column of tokens at a time, for many candidates of one prompt.

The weights are those of `transformers`; the loop is ours:

- what all candidates share (a prefix, the clip they go on from) is computed once and then spread;
- keys and values lie in tables of fixed size that are filled in place, those of the text are computed once per prompt;
- rows without a prompt, for guidance, skip the attention to the text, whose result would be exactly 0;
- on a GPU a whole step, drawing included, is one captured graph.

**Conventions**: a row is one candidate on one side of the guidance: first all candidates with the prompt, then, where
there is guidance, all of them with the other side. What passes from layer to layer is float32; products are in `dtype`.

**Source**: MusicGen (arXiv:2306.05284); the modules it takes are those of transformers' `MusicgenForCausalLM` and
`MusicgenMelodyForCausalLM`.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rerank.batching import is_out_of_memory
from rerank.errors import one_line
from rerank.generators.musicgen.layer import Layer
from rerank.generators.musicgen.pattern import TO_DRAW
from rerank.generators.musicgen.sampling import draw, guide
from rerank.models.linear import RowLinear

BUCKET = 128
"""Places by which the attention of a step grows on a GPU, where there is one graph for each multiple, and on a CPU in
bfloat16, where each new shape is compiled first; what is not filled yet is masked."""

_REPORTED = 25
"""Steps on a GPU between two reports."""

logger = logging.getLogger("rerank")

OnStep = Callable[[int, int], None]

Texts = list[tuple[Tensor, Tensor]]
"""Keys and values of a text for each layer, as in `Tables` with one row."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: that logits are divided by; 0 takes the likeliest token each time.
        top_k: how many of the likeliest tokens can be drawn; 0 for all.
        guidance: how far logits are moved away from those of the other side, where there is one.
    """

    temperature: float = 1.0
    top_k: int = 250
    guidance: float = 3.0


class Side(NamedTuple):
    """What one side of the guidance is told.

    Attributes:
        text: states that every layer attends to, `[tokens, dim]`; None for nothing.
        prefix: states that stand before the first column, `[places, dim]`, of the same length on both sides.
    """

    text: Tensor | None = None
    prefix: Tensor | None = None


class Tables(NamedTuple):
    """Values of what is past, for each layer `[rows, heads, places, width]`, and keys: on a CPU `[.., width, places]`."""

    keys: list[Tensor]
    values: list[Tensor]


@dataclass
class _State:
    """A batch on its way.

    Attributes:
        past: its tables.
        texts: of each side.
        tokens: `[candidates, codebooks, columns]`, filled up to `column`.
        numbers: `[candidates, columns - 1, codebooks]`.
        column, place: the last column that is filled, and where its keys go; `[1]` each.
        sampling: how to draw.
        positions: signal of each place, `[places, dim]`.
        graphs: captured steps, by the length of their attention.
    """

    past: Tables
    texts: list[Texts | None]
    tokens: Tensor
    numbers: Tensor
    column: Tensor
    place: Tensor
    sampling: Sampling
    positions: Tensor
    graphs: dict[int, Any] = field(default_factory=dict)


class Engine(nn.Module):
    """A MusicGen decoder with a loop of its own.

    Args:
        decoder: `MusicgenForCausalLM` or `MusicgenMelodyForCausalLM`; its layers are taken out of it.
        dtype: of products and of keys and values.
        device: to compute on.
    """

    def __init__(self, decoder: Any, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        inner, config = decoder.model.decoder, decoder.config
        self.dtype, self.device, self.captures = dtype, device, device.type == "cuda"
        self.bucket = BUCKET if device.type == "cuda" or dtype != torch.float32 else 1
        self.codebooks, self.special = int(decoder.num_codebooks), int(config.pad_token_id)
        self.heads, self.dim = int(config.num_attention_heads), int(config.hidden_size)
        self.positions_of = inner.embed_positions.get_embedding
        tables = torch.cat([part.weight.detach() for part in inner.embed_tokens])
        self.embeddings = tables.to(device, torch.float32)
        self.first_rows = (torch.arange(self.codebooks, device=device) * (config.vocab_size + 1))[:, None]
        self.norm = inner.layer_norm.to(device, torch.float32)
        self.heads_out = RowLinear(torch.cat([head.weight.detach() for head in decoder.lm_heads]).to(device, dtype))
        self.layers = nn.ModuleList()
        while len(inner.layers):
            self.layers.append(Layer(inner.layers[0], self.heads, dtype, device))
            del inner.layers[0]  # layer by layer, so that the weights are never there twice

    @torch.inference_mode()
    def decode(
        self,
        sides: Sequence[Side],
        columns: Tensor,
        numbers: Tensor,
        sampling: Sampling,
        on_step: OnStep = lambda done, steps: None,
    ) -> Tensor:
        """Fill the columns of each candidate.

        Args:
            sides: the prompt, and what it is guided away from; the prompt alone for no guidance.
            columns: known tokens, from some column on `TO_DRAW`, as `pattern.columns_of` gives them.
            numbers: of each candidate, from `sampling.numbers_of`.
            sampling: how to draw.
            on_step: told (steps done, all steps) again and again; what it raises ends the work.

        Shape:
            columns `[codebooks, columns]`, numbers `[candidates, columns - 1, codebooks]` ->
            `[candidates, codebooks, columns]`
        """
        known = int((columns[0] != TO_DRAW).long().cumprod(0).sum())
        steps = columns.shape[1] - known
        state, logits = self._begin(sides, columns.to(self.device), known, numbers.to(self.device), sampling)
        self._fill(state, logits)
        past = self._prefix(sides) + known
        for done in range(1, steps):
            self._next(state, past + done)
            if self.device.type != "cuda":
                on_step(done, steps)
            elif done % _REPORTED == 0:
                # wait for what is queued: else progress runs ahead, and a stop would come late
                torch.cuda.synchronize(self.device)
                on_step(done, steps)
        on_step(steps, steps)
        return state.tokens.cpu()

    @torch.inference_mode()
    def logits(self, side: Side, columns: Tensor) -> Tensor:
        """Return what follows each of some known columns.

        Shape:
            `[codebooks, columns]` -> `[columns, codebooks, vocabulary]`, float32
        """
        count = columns.shape[1]
        past = self._tables(1, self._prefix([side]) + count)
        return self._logits(self._read([side], columns.to(self.device), past, [self._text(side)])[0, -count:])

    def bytes_per_candidate(self, places: int, sides: int) -> int:
        """Return the memory that one more candidate takes in the tables."""
        return 2 * len(self.layers) * sides * places * self.dim * self.dtype.itemsize

    def products(self) -> Iterator[tuple[str, RowLinear]]:
        """Yield the name of every product with weights, and what computes it."""
        return ((name, part) for name, part in self.named_modules() if isinstance(part, RowLinear))

    def _begin(
        self, sides: Sequence[Side], columns: Tensor, known: int, numbers: Tensor, sampling: Sampling
    ) -> tuple[_State, Tensor]:
        """Compute what all candidates share; return their state, and the logits after it for every row."""
        texts, shared = [self._text(side) for side in sides], self._prefix(sides) + known
        first = self._tables(len(sides), shared)
        hidden = self._read(sides, columns[:, :known], first, texts)
        candidates, places = len(numbers), shared + columns.shape[1] - known
        places = self._whole(places)
        past = self._tables(candidates * len(sides), places)
        for tables, parts in zip(past, first, strict=True):
            for table, part in zip(tables, parts, strict=True):
                table[tuple(slice(length) for length in (None, *part.shape[1:]))] = part.repeat_interleave(
                    candidates, dim=0
                )
        state = _State(
            past=past,
            texts=texts,
            tokens=columns.repeat(candidates, 1, 1),
            numbers=numbers,
            column=torch.tensor([known - 1], device=self.device),
            place=torch.tensor([shared - 1], device=self.device),
            sampling=sampling,
            positions=self._positions(places),
        )
        return state, self._logits(hidden[:, -1]).repeat_interleave(candidates, dim=0)

    def _next(self, state: _State, length: int) -> None:
        """Compute one more column; `length` is that of the past with it."""
        length = self._whole(length)
        if self.captures:
            try:
                if length not in state.graphs:
                    state.graphs[length] = self._capture(state, length)
                state.graphs[length].replay()
                return
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                logger.warning("steps cannot be captured on this GPU (%s): slower, one by one", one_line(error))
                self.captures = False
        self._step(state, length)

    def _capture(self, state: _State, length: int) -> Any:
        """Return a graph of one step; the state is as before."""
        column, place = state.column.clone(), state.place.clone()
        with torch.cuda.device(self.device):
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch does not annotate it
            aside.wait_stream(torch.cuda.current_stream())
            try:
                with torch.cuda.stream(aside):
                    self._step(state, length)  # libraries set themselves up in the first call, which no graph can hold
            finally:
                torch.cuda.current_stream().wait_stream(aside)
                state.column.copy_(column)
                state.place.copy_(place)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._step(state, length)
        return graph

    def _step(self, state: _State, length: int) -> None:
        """Compute one more column, with attention over the first `length` places."""
        state.place += 1
        hidden = self._embed(state.tokens.index_select(2, state.column))
        hidden = hidden + state.positions.index_select(0, state.place)
        hidden = hidden.repeat(len(state.texts), 1, 1)
        mask = torch.arange(length, device=self.device)[None] <= state.place if self.bucket > 1 else None
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            keys, values = state.past.keys[index], state.past.values[index]
            hidden = hidden + layer.attend_past(hidden, keys, values, state.place, length, mask)
            layer.attend_text(hidden, [None if text is None else text[index] for text in state.texts])
            hidden = hidden + layer.widen(hidden)
        self._fill(state, self._logits(hidden[:, 0]))

    def _fill(self, state: _State, logits: Tensor) -> None:
        """Draw the next column and fill it in, but for what is known of it."""
        if len(state.texts) == 2:
            mine, other = logits.chunk(2)
            logits = guide(mine, other, state.sampling.guidance)
        numbers = state.numbers.index_select(1, state.column)[:, 0]
        drawn = draw(logits, numbers, state.sampling.temperature, state.sampling.top_k)[..., None]
        state.column += 1
        wanted = state.tokens.index_select(2, state.column)
        state.tokens.index_copy_(2, state.column, torch.where(wanted == TO_DRAW, drawn, wanted))

    def _read(self, sides: Sequence[Side], columns: Tensor, past: Tables, texts: list[Texts | None]) -> Tensor:
        """Return what the last layer makes of the prefix and known columns, one row per side, and fill the tables.

        Shape:
            `[codebooks, columns]` -> `[sides, places, dim]`
        """
        hidden = self._embed(columns[None]).expand(len(sides), -1, -1)
        prefixes = [side.prefix for side in sides if side.prefix is not None]
        if prefixes:
            hidden = torch.cat([torch.stack(prefixes).to(hidden), hidden], dim=1)
        length = hidden.shape[1]
        hidden = hidden + self._positions(length)
        places = torch.arange(length, device=self.device)
        mask = places[None] <= places[:, None]
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            hidden = hidden + layer.attend_past(hidden, past.keys[index], past.values[index], places, length, mask)
            layer.attend_text(hidden, [None if text is None else text[index] for text in texts])
            hidden = hidden + layer.widen(hidden)
        return hidden

    def _text(self, side: Side) -> Texts | None:
        """Return the keys and values of a side's text; None where it has none, or the model does not attend to it."""
        if side.text is None:
            return None
        text = side.text.to(self.device)
        return [layer.read_text(text) for layer in self.layers if isinstance(layer, Layer)]

    def _embed(self, tokens: Tensor) -> Tensor:
        """Shape: `[batch, codebooks, columns]` -> `[batch, columns, dim]`."""
        return F.embedding(tokens + self.first_rows, self.embeddings).sum(1)

    def _logits(self, hidden: Tensor) -> Tensor:
        """Shape: `[..., dim]` -> `[..., codebooks, vocabulary]`, float32."""
        out: Tensor = self.heads_out(self.norm(hidden).to(self.dtype))
        return out.float().reshape(*out.shape[:-1], self.codebooks, -1)

    def _whole(self, places: int) -> int:
        """Return the next multiple of a bucket."""
        return -(-places // self.bucket) * self.bucket

    def _positions(self, places: int) -> Tensor:
        found: Tensor = self.positions_of(places, self.dim)
        return found.to(self.device, torch.float32)

    def _tables(self, rows: int, places: int) -> Tables:
        def table(*shape: int) -> list[Tensor]:
            return [torch.zeros(rows, self.heads, *shape, dtype=self.dtype, device=self.device) for _ in self.layers]

        width = self.dim // self.heads
        keys = table(width, places) if self.device.type == "cpu" else table(places, width)
        return Tables(keys, table(places, width))

    @staticmethod
    def _prefix(sides: Sequence[Side]) -> int:
        return 0 if sides[0].prefix is None else len(sides[0].prefix)
