"""Stable Audio Open 1.0 and Stable Audio 3 of Stability AI, through diffusers: 44.1 kHz stereo from text.

**Conventions**: durations in seconds.

**Source**: Stable Audio Open (arXiv:2407.14358), `stabilityai/stable-audio-open-1.0`; Stable Audio 3
(arXiv:2605.17991), `Stability-AI/stable-audio-3` (636f906) for SAME-S. Weights: Stability AI Community License.
"""

import importlib.util
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rerank.catalogue import generator_info
from rerank.data import Prompt
from rerank.errors import InvalidInput, WeightsError
from rerank.generators.diffusion import (
    Diffusion,
    check_options,
    fitting,
    load,
    missing,
    tokens,
)
from rerank.generators.dtypes import name_of, resolve_dtype
from rerank.models.device import resolve_device
from rerank.models.hub import Source
from rerank.models.weights import say_licence

OPEN = "stable-audio-open-1.0"
THREE = "stable-audio-3"

_THREE_TOKENS = 256  # that the pipeline reads, whatever the tokenizer says
_SMALL_CHANNELS = 128  # of SAME-S, the autoencoder of the small models


class StableAudioOpen(Diffusion):
    """Stable Audio Open 1.0: up to 47.55 s from text.

    It denoises its whole length whatever the duration, which it is told and then cut to: a short candidate takes as
    long as a long one. The weights are gated: accept their licence on the hub once, and log in.

    Args:
        path: folder in the layout of diffusers; None downloads (5.3 GB) to the hub's cache, once.
        repository: on the hub, in that layout.
        revision: branch, tag or commit on the hub; None for its main branch. A folder has none.
        device: "auto", "cpu", "cuda".
        dtype: "float32", "float16", "bfloat16"; "auto" is float16 on a GPU, else float32.
        steps: of denoising, 1 to 1,000.
        guidance: how much the prompt weighs; none at 1.
        negative_prompt: what the audio should not be like, such as "Low quality."; it needs guidance.
        batch_size: how many candidates are made at once, at most, 1 to 1,024.

    Raises:
        WeightsError: a file is missing, broken, cannot be downloaded or is of another model.
        MissingDependency: torchsde is not installed, which diffusers needs and does not declare.
        InvalidInput: an option cannot be used.
    """

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        repository: str = "stabilityai/stable-audio-open-1.0",
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        steps: int = 100,
        guidance: float = 7.0,
        negative_prompt: str | None = None,
        batch_size: int = 4,
    ) -> None:
        check_options(steps=steps, guidance=guidance, negative_prompt=negative_prompt, batch_size=batch_size)
        place = resolve_device(device)
        number = resolve_dtype(dtype, place, torch.float16)
        source = Source.given(path, repository, revision)
        if importlib.util.find_spec("torchsde") is None:
            raise missing("torchsde")
        known = generator_info(OPEN)
        say_licence(OPEN, known.licence)
        pipe, version = load("StableAudioPipeline", source, place, number)
        # decoding all candidates at once, each in one piece, would be the peak of memory
        pipe.vae.enable_slicing()
        pipe.vae.enable_tiling()
        self._tokenizer, rate = pipe.tokenizer, pipe.vae.config.sampling_rate
        longest = pipe.transformer.config.sample_size * pipe.vae.hop_length / rate
        if negative_prompt is not None:
            negative_prompt = fitting(negative_prompt, self._fits, OPEN, "negative prompt")
        info = replace(
            known,
            sample_rate=rate,
            channels=pipe.vae.config.audio_channels,
            max_duration=math.floor(100 * (longest - 1 / rate)) / 100,  # a sample is for rounding
            version=version,
            options={
                "steps": steps,
                "guidance": guidance,
                "negative_prompt": negative_prompt,
                "dtype": name_of(number),
                "batch_size": batch_size,
            },
        )
        super().__init__(
            pipe, info, steps=steps, guidance=guidance, negative_prompt=negative_prompt, batch_size=batch_size
        )

    def _request(self, prompt: Prompt, samples: int) -> dict[str, Any]:
        return {
            "prompt": fitting(prompt.text, self._fits, OPEN, "text"),
            "negative_prompt": self._negative_prompt,
            # the pipeline rounds down
            "audio_end_in_s": (samples + 0.5) / self.info.sample_rate,
            "num_inference_steps": self._steps,
            "guidance_scale": self._guidance,
        }

    def _sample(
        self, request: Mapping[str, Any], generators: list[torch.Generator], on_step: Callable[[int], None]
    ) -> Iterable[Tensor]:
        def callback(step: int, timestep: Tensor, latents: Tensor) -> None:
            on_step(step + 1)

        with warnings.catch_warnings():
            # torchsde takes the ends of its interval, which float32 rounds, to lie outside of it
            warnings.filterwarnings("ignore", "Should have t[0-9a-z]*[<>]=t", UserWarning)
            made: Tensor = self._pipe(
                **request, num_waveforms_per_prompt=len(generators), generator=generators, callback=callback
            ).audios
        return made

    def _fits(self, text: str) -> bool:
        return tokens(self._tokenizer, text) <= int(self._tokenizer.model_max_length)


class StableAudio3(Diffusion):
    """Stable Audio 3 medium: up to 380 s from text.

    Stability AI publishes the weights in another layout than that of diffusers: convert `stable-audio-3-medium` or
    `stable-audio-3-medium-base` (both gated) with `scripts/convert_stable_audio_3_to_diffusers.py` of the repository of
    diffusers and give the folder. The small models have another autoencoder, SAME-S, whose attention diffusers does not
    compute (blocks of 32, not a sliding window): they are refused.

    The pipeline clips samples beyond full scale. It holds a mask that grows with the square of the duration: 10 GB in
    float16 for 380 s.

    Args:
        path: folder in the layout of diffusers.
        repository: on the hub, in that layout.
        revision: branch, tag or commit of that repository; None for its main branch.
        device: "auto", "cpu", "cuda".
        dtype: "float32", "float16", "bfloat16"; "auto" is float16 on a GPU, else float32.
        steps: of denoising, 1 to 1,000; None is 8 for a distilled model and 100 for a base model.
        guidance: how much the prompt weighs; none at 1, as a distilled model wants it.
        negative_prompt: what the audio should not be like; it needs guidance.
        batch_size: how many candidates are made at once, at most, 1 to 1,024.

    Raises:
        WeightsError: a file is missing, broken, cannot be downloaded or is of another model.
        InvalidInput: an option cannot be used, or neither `path` nor `repository` is given.
    """

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        repository: str | None = None,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        steps: int | None = None,
        guidance: float = 1.0,
        negative_prompt: str | None = None,
        batch_size: int = 8,
    ) -> None:
        check_options(steps=steps, guidance=guidance, negative_prompt=negative_prompt, batch_size=batch_size)
        if path is None and repository is None:
            raise InvalidInput(
                f"{THREE} is not published in the layout of diffusers; convert stable-audio-3-medium with diffusers' "
                "scripts/convert_stable_audio_3_to_diffusers.py and pass path='the folder'"
            )
        place = resolve_device(device)
        number = resolve_dtype(dtype, place, torch.float16)
        source = Source.given(path, repository or THREE, revision)
        known = generator_info(THREE)
        say_licence(THREE, known.licence)
        pipe, version = load("StableAudio3Pipeline", source, place, number)
        vae = pipe.vae.config
        if vae.encoder_channels == _SMALL_CHANNELS:
            raise WeightsError(
                f"{source.place} holds a small model of {THREE}, whose autoencoder diffusers does not decode rightly; "
                "use stable-audio-3-medium"
            )
        self._tokenizer = pipe.tokenizer
        if negative_prompt is not None:
            negative_prompt = fitting(negative_prompt, self._fits, THREE, "negative prompt")
        distilled = pipe.scheduler.config.stochastic_sampling
        steps = steps or (8 if distilled else 100)
        info = replace(
            known,
            sample_rate=vae.sampling_rate,
            channels=vae.audio_channels,
            max_duration=min(pipe.duration_embedder.config.max_val, known.max_duration),
            version=version,
            options={
                "steps": steps,
                "guidance": guidance,
                "negative_prompt": negative_prompt,
                "dtype": name_of(number),
                "batch_size": batch_size,
            },
        )
        super().__init__(
            pipe,
            info,
            steps=steps,
            guidance=guidance,
            negative_prompt=negative_prompt,
            batch_size=batch_size,
        )

    def _request(self, prompt: Prompt, samples: int) -> dict[str, Any]:
        return {
            "prompt": fitting(prompt.text, self._fits, THREE, "text"),
            "negative_prompt": self._negative_prompt,
            "duration": samples / self.info.sample_rate,
            "num_inference_steps": self._steps,
            "guidance_scale": self._guidance,
        }

    def _sample(
        self, request: Mapping[str, Any], generators: list[torch.Generator], on_step: Callable[[int], None]
    ) -> Iterable[Tensor]:
        def callback(pipe: object, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            on_step(step + 1)
            return tensors

        latents = self._pipe(
            **request,
            num_waveforms_per_prompt=len(generators),
            generator=generators,
            callback_on_step_end=callback,
            output_type="latent",
        ).audios
        # one by one, since this autoencoder has no slicing of its own
        return map(self._decoded, latents)

    @torch.no_grad()
    def _decoded(self, latents: Tensor) -> Tensor:
        """Return the audio of one candidate, clipped as the pipeline does.

        Shape:
            `[channels, frames]` -> `[channels, time]`
        """
        made: Tensor = self._pipe.vae.decode(latents[None]).sample[0].clamp(-1, 1)
        return made

    def _fits(self, text: str) -> bool:
        return tokens(self._tokenizer, text) <= min(int(self._tokenizer.model_max_length), _THREE_TOKENS)
