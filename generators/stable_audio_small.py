"""Stable Audio Open Small of Stability AI: 11 s of 44.1 kHz stereo from text, in eight steps.

A text encoder reads the prompt; a transformer turns noise into latents of audio, told the text and the length; a
decoder makes them audio. The weights come in the layout of stable-audio-tools, which is not needed.

**Conventions**: durations in seconds. What a candidate is made of is drawn on the CPU by a random number generator of
its own: its first noise, then that of each step but the last. On a CPU, in float32, it is what stable-audio-tools makes
of `seed=seed, batch_size=1`, but that the library rounds the text encoder and, so published, the decoder to float16.

**Source**: Novack et al. 2025, arXiv:2505.08175; `stabilityai/stable-audio-open-small`, weights under the Stability AI
Community License; sampler and conditions after stable-audio-tools 0.0.19 (code MIT), by whose outputs they were checked.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

from rerank.catalogue import generator_info
from rerank.data import Prompt
from rerank.errors import WeightsError, one_line
from rerank.generators.diffusion import Diffusion, check_options
from rerank.generators.dtypes import name_of, resolve_dtype
from rerank.generators.ping_pong import ping_pong
from rerank.models import stable_audio_dit
from rerank.models.config import DEPTH, HEADS, VOCABULARY, WIDTH, Config, check_sizes, read_json, shown
from rerank.models.device import resolve_device
from rerank.models.hub import Source
from rerank.models.oobleck import PREFIX, OobleckConfig, read_decoder
from rerank.models.stable_audio_dit import Dit, DitConfig, NumberEmbedding
from rerank.models.tokenizer import check_states, read_tokenizer
from rerank.models.weights import fingerprint, load_strictly, read_weights, say_licence

NAME = "stable-audio-open-small"
REPOSITORY = "stabilityai/stable-audio-open-small"
TEXT_FILES = ("config.json", "model.safetensors", "tokenizer.json")
"""Of the text encoder."""

_END = 1
"""Id of the token that T5 has at the end of a text."""

_T5 = {
    "d_model": WIDTH,
    "d_ff": WIDTH,
    "d_kv": WIDTH,
    "num_layers": DEPTH,
    "num_heads": HEADS,
    "vocab_size": VOCABULARY,
}
"""Sizes of a text encoder, and the most that each can be."""

_MOST_SAMPLES = 2**26

_DIT = "model.model."
_SECONDS = "conditioner.conditioners.seconds_total.embedder."
_KNOWN = (f"{_DIT}*", f"{_SECONDS}*", f"{PREFIX}*", "pretransform.model.encoder.*")
"""Weights of the published file; those of the encoder of audio are not used."""

logger = logging.getLogger("rerank")


class StableAudioSmall(Diffusion):
    """Stable Audio Open Small: up to 11.88 s from text.

    It denoises its whole length whatever the duration, which it is told and then cut to; only what is kept is decoded.
    The weights are gated: accept their licence on the hub once, and log in. On a CPU candidates are made one by one and
    are the same to the last digit however many are asked for; with a larger `batch_size`, or on a GPU, they are so to
    what the hardware adds otherwise for another batch size.

    Args:
        path: folder with `model_config.json` and `model.safetensors`; None downloads (2.0 GB) to the hub's cache, once.
        repository: on the hub, in that layout.
        revision: branch, tag or commit on the hub; None for its main branch. A folder has none.
        text_encoder: folder with `config.json`, `model.safetensors` and `tokenizer.json` of T5; None downloads the one
            that the config names, `t5-base` (0.9 GB), once.
        device: "auto", "cpu", "cuda".
        dtype: "float32", "float16", "bfloat16", of products within the transformer; "auto" is bfloat16 on a GPU, else
            float32. Text encoder, decoder and all that is added up stay in float32.
        steps: of denoising, 1 to 1,000; it is made for 8.
        batch_size: how many candidates are made at once, at most, 1 to 1,024; None is 1 on a CPU and 16 elsewhere.

    Raises:
        WeightsError: a file is missing, broken, cannot be downloaded or is of another model.
        InvalidInput: an option cannot be used.
    """

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        repository: str = REPOSITORY,
        revision: str | None = None,
        text_encoder: str | Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
        steps: int = 8,
        batch_size: int | None = None,
    ) -> None:
        self._device = resolve_device(device)
        if batch_size is None:
            batch_size = 1 if self._device.type == "cpu" else 16
        check_options(steps=steps, guidance=None, batch_size=batch_size)
        number = resolve_dtype(dtype, self._device, torch.bfloat16)
        source = Source.given(path, repository, revision)
        described = source.file("model_config.json")
        self._config = config = SmallConfig.of(read_json(described))
        encoder = Source.named(config.text_encoder, described)
        if text_encoder is not None:
            encoder = Source.given(text_encoder, config.text_encoder, None)
        known = generator_info(NAME)
        say_licence(NAME, known.licence)
        self._tokenizer, text_model = read_text_encoder(encoder, config.dit.token_dim)
        weights = source.file("model.safetensors")
        dit, seconds, decoder = build_small(config, read_weights(weights), str(weights))
        dit.compute_in(number)
        self._text_model, self._dit = text_model.to(self._device), dit.to(self._device)
        self._seconds, self._decoder = seconds.to(self._device), decoder.to(self._device)
        check_states(lambda text: self._read(text)[0], str(encoder.place))
        info = replace(
            known,
            sample_rate=config.sample_rate,
            channels=config.decoder.channels,
            max_duration=math.floor(100 * config.samples / config.sample_rate) / 100,
            version=fingerprint([weights, *(encoder.file(name) for name in TEXT_FILES)], config),
            options={"steps": steps, "dtype": name_of(number), "batch_size": batch_size},
        )
        super().__init__(None, info, steps=steps, guidance=1.0, negative_prompt=None, batch_size=batch_size)

    @torch.inference_mode()
    def _request(self, prompt: Prompt, samples: int) -> dict[str, Any]:
        config = self._config
        text = self._read(prompt.text)
        span = config.longest - config.shortest
        seconds = min(max(samples / config.sample_rate, config.shortest), config.longest)
        length = self._seconds(torch.tensor([(seconds - config.shortest) / span], device=self._device))
        # the length is a token of the text as well
        frames = min(config.frames, math.ceil(samples / config.decoder.hop) + config.decoder.reach)
        return {"text": torch.cat([text, length[:, None]], 1), "length": length, "frames": frames}

    def _read(self, text: str) -> Tensor:
        """Return the tokens of a text; where there are fewer than the model reads, the others are zeros and count too.

        Shape:
            -> `[1, tokens, token_dim]`
        """
        encoding, most = self._tokenizer.encode(text), self._config.tokens
        ids = encoding.ids
        if len(ids) > most:
            # models read so many tokens and no more; the last one says that the text ends
            left = text[encoding.offsets[most - 1][0] :].strip()
            told = "%s reads no more of the text: its last %d characters are left out, %.60r"
            logger.warning(told, NAME, len(left), left)
            ids = [*ids[: most - 1], ids[-1]]
        read = self._text_model(input_ids=torch.tensor([ids], device=self._device)).last_hidden_state
        tokens: Tensor = nn.functional.pad(read, (0, 0, 0, most - len(ids)))
        return tokens

    @torch.inference_mode()
    def _sample(
        self, request: Mapping[str, Any], generators: list[torch.Generator], on_step: Callable[[int], None]
    ) -> Iterable[Tensor]:
        shape = (self._config.dit.channels, self._config.frames)

        def noise() -> Tensor:
            return torch.stack([torch.randn(shape, generator=one) for one in generators]).to(self._device)

        def velocity(latents: Tensor, time: float) -> Tensor:
            moment = torch.tensor([time], device=self._device)
            found: Tensor = self._dit(latents, moment, request["text"], request["length"])
            return found

        latents = ping_pong(velocity, noise, self._steps, on_step)[..., : request["frames"]]
        # one by one: the same for any batch, and the peak of memory is that of one
        return map(self._decoded, latents)

    @torch.inference_mode()
    def _decoded(self, latents: Tensor) -> Tensor:
        """Shape: `[channels, frames]` -> `[channels, time]`."""
        made: Tensor = self._decoder(latents[None])[0]
        return made


@dataclass(frozen=True, kw_only=True)
class SmallConfig:
    """What a published `model_config.json` says.

    Attributes:
        dit: of the transformer.
        decoder: of the autoencoder.
        sample_rate: of the audio, in Hz.
        samples: of audio that it makes.
        text_encoder: a repository on the hub, or a folder beside the config.
        tokens: of the text that it reads.
        shortest, longest: durations that it can be told, in seconds.
    """

    dit: DitConfig
    decoder: OobleckConfig
    sample_rate: int
    samples: int
    text_encoder: str
    tokens: int
    shortest: float
    longest: float

    @property
    def frames(self) -> int:
        """Of the latents."""
        return self.samples // self.decoder.hop

    @classmethod
    def of(cls, published: Mapping[str, Any]) -> "SmallConfig":
        """Return what it says.

        Raises:
            WeightsError: it lacks something, or is that of another model.
        """
        config = Config(published, NAME)
        model = config.part("model")
        diffusion, conditioning = model.part("diffusion"), model.part("conditioning")
        config.only("model_type", "diffusion_cond")
        diffusion.only("type", "dit")
        diffusion.only("diffusion_objective", "rf_denoiser", default="v")
        diffusion.only("cross_attention_cond_ids", ["prompt", "seconds_total"])
        diffusion.only("global_cond_ids", ["seconds_total"])
        listed = conditioning.values.get("configs")
        conditions = [Config(one, f"a condition of {NAME}") for one in (listed if isinstance(listed, list) else [])]
        known = {one.text("id"): one for one in conditions}
        if sorted(known) != ["prompt", "seconds_total"] or len(conditions) > 2:
            raise WeightsError(f"a model that is told {shown(sorted(known))} is not supported; expected {NAME}")
        known["prompt"].only("type", "t5")
        known["seconds_total"].only("type", "number")
        text, seconds = known["prompt"].part("config"), known["seconds_total"].part("config")
        text.only("project_out", False, None, default=False)
        found = cls(
            dit=DitConfig.of(diffusion.part("config").values),
            decoder=OobleckConfig.of(model.part("pretransform").values),
            sample_rate=config.whole("sample_rate", 1000, 384_000),
            samples=config.whole("sample_size", 1, _MOST_SAMPLES),
            text_encoder=text.text("t5_model_name"),
            tokens=text.whole("max_length", 2, 4096, 128),
            shortest=float(seconds.number("min_val", 0.0, 86_400.0)),
            longest=float(seconds.number("max_val", 0.0, 86_400.0)),
        )
        seconds.check("max_val", found.longest, f"above min_val {found.shortest:g}", found.longest > found.shortest)
        config.check("sample_size", found.samples, f"a frame of {found.decoder.hop} or more", found.frames > 0)
        for width in (found.dit.token_dim, found.dit.global_dim):
            conditioning.only("cond_dim", width)
        if found.decoder.latent_channels != found.dit.channels:
            raise WeightsError(
                f"latents of {found.dit.channels} channels do not fit a decoder of {found.decoder.latent_channels}"
            )
        return found


def build_small(
    config: SmallConfig, weights: Mapping[str, Tensor], where: str
) -> tuple[Dit, NumberEmbedding, nn.Module]:
    """Return transformer, embedding of the duration and decoder, with their weights; these come from `where`.

    Raises:
        MissingDependency: diffusers is not installed.
        WeightsError: a weight is missing, not known, or of another shape.
    """
    with torch.device("meta"):
        dit, seconds = Dit(config.dit).eval(), NumberEmbedding(config.dit.global_dim).eval()
    formulas = [_DIT + name for name in stable_audio_dit.UNUSED]
    for part, prefix in ((dit, _DIT), (seconds, _SECONDS)):
        others = [pattern for pattern in _KNOWN if not pattern.startswith(prefix)]
        load_strictly(part, weights, where=where, prefix=prefix, unused=[*others, *formulas])
    return dit, seconds, read_decoder(config.decoder, weights, where)


def read_text_encoder(source: Source, width: int) -> tuple[Tokenizer, nn.Module]:
    """Return the tokenizer and the encoder of a T5, whose tokens are to be of this width.

    Raises:
        WeightsError: a file is missing, broken, cannot be downloaded or does not fit.
    """
    config_file, weights, tokenizer = TEXT_FILES
    described = read_json(source.file(config_file))
    sizes = Config(described, "the text encoder")
    sizes.only("model_type", "t5")
    for name, most in _T5.items():
        sizes.whole(name, 1, most)
    check_sizes(described, "the text encoder")
    if described["d_model"] != width:
        raise WeightsError(f"the text encoder is {described['d_model']} wide, and the model takes text {width} wide")
    try:
        config = T5Config.from_dict(described)
        with torch.device("meta"):
            model: nn.Module = T5EncoderModel(config)
    # what a library raises on settings that it does not take is anybody's
    except Exception as error:
        raise WeightsError(f"the config of the text encoder cannot be used: {one_line(error)}") from error
    path = source.file(weights)
    load_strictly(model, read_weights(path), where=str(path), unused=["decoder.*", "lm_head.weight"])
    # one table, which moves to the device once
    model.get_submodule("encoder").embed_tokens = model.shared
    return read_tokenizer(source.file(tokenizer), config.vocab_size, [_END]), model.eval()
