"""A MusicGen model as published: read from the hub or a folder, and what it makes of a prompt.

**Source**: `facebook/musicgen-*` on the Hugging Face hub, in the format of transformers (weights CC BY-NC 4.0).
"""

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    MusicgenForConditionalGeneration,
    MusicgenMelodyForConditionalGeneration,
)
from transformers.utils import logging

from rerank.audio import Audio
from rerank.errors import WeightsError, one_line
from rerank.generators.musicgen.codec import Codec
from rerank.generators.musicgen.engine import Engine, Side
from rerank.generators.musicgen.melody import melody_of, no_melody
from rerank.models.config import VOCABULARY, Config, check_sizes, read_json, shown
from rerank.models.hub import Source, files_of
from rerank.models.tokenizer import check_files, check_ids, check_states
from rerank.models.weights import check_module, fingerprint

FILES = ("*.json", "*.safetensors", "spiece.model")
"""Of a repository; the pickles beside them are not fetched."""

_CLASSES: Mapping[str, Any] = {
    "musicgen": MusicgenForConditionalGeneration,
    "musicgen_melody": MusicgenMelodyForConditionalGeneration,
}


class Checkpoint:
    """The parts of a MusicGen model.

    Args:
        source: of its files.
        dtype: that the engine computes in; text encoder and codec are in float32.
        device: to compute on.

    Attributes:
        engine: the transformer.
        codec: EnCodec.
        follows_melody: whether it takes a reference.
        version: fingerprint of the files.

    Raises:
        WeightsError: files are missing or broken, cannot be downloaded, or hold another kind of model.
    """

    def __init__(self, source: Source, dtype: torch.dtype, device: torch.device) -> None:
        folder = source.folder(FILES)
        kind = _kind(read_json(_present(folder / "config.json")), folder)
        check_files(folder)
        try:
            with quiet():
                model, loaded = _CLASSES[kind].from_pretrained(
                    folder,
                    dtype=torch.float32,
                    use_safetensors=True,
                    local_files_only=True,
                    output_loading_info=True,
                )
                self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        # what is wrong with files is told by whatever reads them
        except Exception as error:
            raise WeightsError(f"cannot read the MusicGen model in {folder}: {one_line(error)}") from error
        # transformers fills what is missing with random numbers
        missing = [key for key in loaded["missing_keys"] if not key.endswith("embed_positions.weights")]
        if missing or loaded["mismatched_keys"]:
            wrong = ", ".join(str(key) for key in [*missing, *loaded["mismatched_keys"]][:3])
            raise WeightsError(f"weights of the MusicGen model in {folder} are missing or do not fit it: {wrong}")
        check_module(model, files_of(folder, ["*.safetensors"]), str(folder))
        self.version = fingerprint(files_of(folder, FILES))
        self._config, self.follows_melody, self.device = model.config, kind == "musicgen_melody", device
        self._text_encoder = model.text_encoder.to(device, torch.float32).eval()
        self._text_out = getattr(model, "enc_to_dec_proj", torch.nn.Identity()).to(device)
        self._melody_out = getattr(model, "audio_enc_to_dec_proj", torch.nn.Identity()).to(device)
        self.channels = int(model.config.decoder.audio_channels)
        self.codec = Codec(model.audio_encoder, self.channels, device)
        vocabulary = int(model.config.text_encoder.vocab_size)
        check_ids(lambda text: self._tokenizer(text, verbose=False).input_ids, vocabulary, f"in {folder}")
        check_states(self._read_text, str(folder))
        self.engine = Engine(model.decoder, dtype, device)

    def side(self, text: str, reference: Audio | None = None) -> Side:
        """Return what the engine is told by a text and a reference; both may be missing.

        Without a text it is what the model was trained to take for none.
        """
        states = self._read_text(text) if text.strip() else None
        if not self.follows_melody:
            return Side(text=states)
        classes = int(self._config.num_chroma)
        melody = melody_of(reference, self.codec.sample_rate, classes) if reference else no_melody(classes)
        return Side(prefix=self._prefix(states, melody))

    def hears_melodies(self) -> bool:
        """Return whether two melodies make a difference: some releases of transformers lost them without a word."""
        begin = torch.full((self.engine.codebooks, 1), self.engine.special)
        one = no_melody(int(self._config.num_chroma))
        first, second = (
            self.engine.logits(Side(prefix=self._prefix(None, melody)), begin) for melody in (one, one.roll(6, 1))
        )
        return not torch.equal(first, second)

    def sides(self, text: str, negative: str, reference: Audio | None) -> list[Side]:
        """Return both sides of the guidance; the other one is as long, so that columns stand in the same places."""
        side, other = self.side(text, reference), self.side(negative)
        if side.prefix is not None and other.prefix is not None:
            longest = max(len(side.prefix), len(other.prefix))
            side, other = (
                Side(prefix=torch.nn.functional.pad(one.prefix, (0, 0, 0, longest - len(one.prefix))))  # type: ignore[arg-type]
                for one in (side, other)
            )
        return [side, other]

    @torch.inference_mode()
    def _read_text(self, text: str) -> Tensor:
        """Return the states of a text, `[tokens, dim]`."""
        tokens = self._tokenizer(text, return_tensors="pt", verbose=False).input_ids.to(self.device)
        states: Tensor = self._text_out(self._text_encoder(tokens).last_hidden_state)[0]
        return states

    @torch.inference_mode()
    def _prefix(self, states: Tensor | None, melody: Tensor) -> Tensor:
        """Return what stands before the columns of a melody model: melody, repeated to its length, and text."""
        length = int(self._config.chroma_length)
        repeated = melody.repeat(math.ceil(length / len(melody)), 1)[:length]
        parts: list[Tensor] = [self._melody_out(repeated.to(self.device))]
        return torch.cat(parts if states is None else [*parts, states])


def _kind(config: dict[str, Any], folder: Path) -> str:
    """Return the type of a MusicGen model.

    Raises:
        WeightsError: it is none, or has sizes that none can have.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in _CLASSES:
        raise WeightsError(f"{folder} holds a model of type {shown(kind)}; expected one of: {', '.join(_CLASSES)}")
    check_sizes(config, "a MusicGen model")
    whole = Config(config, "a MusicGen model")
    decoder = whole.part("decoder")
    channels = decoder.whole("audio_channels", 1, 2, 1)
    decoder.whole("num_codebooks", channels, 64, 4)
    # what fills the columns follows the codes, of which the codec knows as many
    codes = decoder.whole("vocab_size", 1, VOCABULARY, 2048)
    decoder.only("pad_token_id", codes, default=2048)
    whole.part("audio_encoder").only("codebook_size", codes, default=1024)
    whole.whole("num_chroma", 1, 128, 12)
    whole.whole("chroma_length", 1, 10_000, 235)
    return kind


def _present(path: Path) -> Path:
    if not path.is_file():
        raise WeightsError(f"there is no file {path}; a MusicGen model is a folder as `save_pretrained` writes it")
    return path


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the bars and warnings of transformers to itself: it warns of the special token of every MusicGen."""
    told: Any = logging  # not all of it is annotated
    before, bars = told.get_verbosity(), told.is_progress_bar_enabled()
    told.set_verbosity_error()
    told.disable_progress_bar()
    try:
        yield
    finally:
        told.set_verbosity(before)
        if bars:
            told.enable_progress_bar()
