"""MusicGen models of any size with random weights, saved as the published ones are, for timing and for tests.

Timings with them are true: the number of steps is fixed, and no kernel's time depends on the values.

**Source**: sizes of the published models from their `config.json` (facebook/musicgen-*).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    MusicgenMelodyConfig,
    MusicgenMelodyDecoderConfig,
    MusicgenMelodyForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
)

_WORDS = [
    "a",
    "the",
    "and",
    "with",
    "of",
    "slow",
    "fast",
    "warm",
    "sad",
    "happy",
    "piano",
    "drums",
    "bass",
    "guitar",
    "vinyl",
    "crackle",
    "rock",
    "jazz",
    "quiet",
    "loud",
]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of a MusicGen model; the defaults are those of `musicgen-small`.

    Attributes:
        layers, dim, heads: of the decoder.
        vocabulary: tokens of a codebook.
        text_layers, text_dim, text_wide: of the text encoder, T5-base.
        filters: of the first layer of EnCodec; its other layers have multiples of it.
        ratios: by which EnCodec's layers shorten time.
        channels: 2 for the stereo models.
        melody: whether it is conditioned on chroma, as the melody models are.
    """

    layers: int = 24
    dim: int = 1024
    heads: int = 16
    vocabulary: int = 2048
    text_layers: int = 12
    text_dim: int = 768
    text_wide: int = 3072
    filters: int = 64
    ratios: tuple[int, ...] = (8, 5, 4, 4)
    channels: int = 1
    melody: bool = False


TINY = Sizes(
    layers=2, dim=64, heads=4, vocabulary=128, text_layers=1, text_dim=32, text_wide=64, filters=4, ratios=(8, 5, 4, 4)
)
"""Sizes for tests."""


def save_random_musicgen(folder: Path, sizes: Sizes, seed: int = 0) -> Path:
    """Make a model with random weights, save it with its tokenizer to a folder, and return the folder."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        text = T5Config(
            vocab_size=len(_WORDS) + 3,
            d_model=sizes.text_dim,
            d_ff=sizes.text_wide,
            num_layers=sizes.text_layers,
            num_heads=max(1, sizes.text_dim // 64),
            d_kv=min(64, sizes.text_dim),
        )
        audio = EncodecConfig(
            sampling_rate=32_000,
            audio_channels=1,
            target_bandwidths=[2.2],
            upsampling_ratios=list(sizes.ratios),
            num_filters=sizes.filters,
            hidden_size=2 * sizes.filters,
            codebook_size=sizes.vocabulary,
            codebook_dim=2 * sizes.filters,
            use_causal_conv=False,
            use_conv_shortcut=False,
            norm_type="weight_norm",
        )
        options: dict[str, Any] = {
            "vocab_size": sizes.vocabulary,
            "num_hidden_layers": sizes.layers,
            "hidden_size": sizes.dim,
            "ffn_dim": 4 * sizes.dim,
            "num_attention_heads": sizes.heads,
            "num_codebooks": 4 * sizes.channels,
            "audio_channels": sizes.channels,
            "pad_token_id": sizes.vocabulary,
            "bos_token_id": sizes.vocabulary,
            "dropout": 0.0,
        }
        model: Any
        if sizes.melody:
            decoder = MusicgenMelodyDecoderConfig(**options)
            model = MusicgenMelodyForConditionalGeneration(
                MusicgenMelodyConfig(text_encoder=text, audio_encoder=audio, decoder=decoder)
            )
        else:
            model = MusicgenForConditionalGeneration(
                MusicgenConfig(text_encoder=text, audio_encoder=audio, decoder=MusicgenDecoderConfig(**options))
            )
        with torch.no_grad():
            for parameter in model.decoder.parameters():
                if parameter.ndim == 2:
                    # random weights of the usual size would give nearly the same logits for every token
                    parameter.mul_(4.0)
            for layer in model.audio_encoder.quantizer.layers:
                layer.codebook.embed.normal_()  # transformers makes empty codebooks: they come with the weights
    generation = model.generation_config
    generation.decoder_start_token_id = generation.pad_token_id = generation.bos_token_id = sizes.vocabulary
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    vocabulary = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *_WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast: Any = PreTrainedTokenizerFast  # its constructor is not annotated
    return fast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
