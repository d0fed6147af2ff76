"""AudioLDM 2, the checkpoint for music, through diffusers: 16 kHz mono from text.

**Conventions**: durations in seconds.

**Source**: AudioLDM 2 (arXiv:2308.05734), `cvssp/audioldm2-music`, weights under CC BY-NC-SA 4.0.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from rerank.catalogue import generator_info
from rerank.data import Prompt
from rerank.generators.diffusion import Diffusion, check_options, fitting, load, logger, tokens
from rerank.generators.dtypes import name_of, resolve_dtype
from rerank.models.device import resolve_device
from rerank.models.hub import Source
from rerank.models.weights import say_licence

NAME = "audioldm2"


class AudioLdm2(Diffusion):
    """AudioLDM 2: up to 10.24 s of music from text, the length it was trained on.

    The pipeline can rank what it makes by CLAP, across prompts and only where librosa is installed; it is called so
    that it never does.

    Args:
        path: folder in the layout of diffusers; None downloads (about 4.4 GB) to the hub's cache, once.
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
        InvalidInput: an option cannot be used.
    """

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        repository: str = "cvssp/audioldm2-music",
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        steps: int = 200,
        guidance: float = 3.5,
        negative_prompt: str | None = None,
        batch_size: int = 8,
    ) -> None:
        check_options(steps=steps, guidance=guidance, negative_prompt=negative_prompt, batch_size=batch_size)
        place = resolve_device(device)
        number = resolve_dtype(dtype, place, torch.float16)
        source = Source.given(path, repository, revision)
        known = generator_info(NAME)
        say_licence(NAME, known.licence)
        # the published index names GPT2Model, which lacks what the pipeline calls since transformers 4.50
        pipe, version = load("AudioLDM2Pipeline", source, place, number, classes={"language_model": GPT2LMHeadModel})
        pipe.vae.enable_slicing()
        self._tokenizers = (pipe.tokenizer, pipe.tokenizer_2)
        vocoder = pipe.vocoder.config
        self._hop, self._multiple = math.prod(vocoder.upsample_rates), pipe.vae_scale_factor
        if negative_prompt is not None:
            negative_prompt = fitting(negative_prompt, self._fits, NAME, "negative prompt")
        info = replace(
            known,
            sample_rate=vocoder.sampling_rate,
            max_duration=pipe.unet.config.sample_size * self._multiple * self._hop / vocoder.sampling_rate,
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
        text = fitting(prompt.text, self._fits, NAME, "text")
        self._warn_of_cut_negative(text)
        # whole latents, since the pipeline rounds the length down before it rounds it up; and down once more
        frames = math.ceil(samples / self._hop / self._multiple) * self._multiple
        return {
            "prompt": text,
            "negative_prompt": self._negative_prompt,
            "audio_length_in_s": (frames * self._hop + 0.5) / self.info.sample_rate,
            "num_inference_steps": self._steps,
            "guidance_scale": self._guidance,
        }

    def _sample(
        self, request: Mapping[str, Any], generators: list[torch.Generator], on_step: Callable[[int], None]
    ) -> Iterable[Tensor]:
        def callback(step: int, timestep: Tensor, latents: Tensor) -> None:
            on_step(step + 1)

        # a list of prompts, not several waveforms for one prompt, which the pipeline would rank
        texts = {
            name: None if request[name] is None else [request[name]] * len(generators)
            for name in ("prompt", "negative_prompt")
        }
        made: Tensor = self._pipe(
            **{**request, **texts}, generator=generators, callback=callback, output_type="pt"
        ).audios
        return made[:, None]

    def _fits(self, text: str) -> bool:
        return all(tokens(tokenizer, text) <= tokenizer.model_max_length for tokenizer in self._tokenizers)

    def _warn_of_cut_negative(self, text: str) -> None:
        """Warn where one of the two text encoders gets less of the negative prompt: as many tokens as the text has."""
        tokenizer, negative = self._tokenizers[1], self._negative_prompt
        if negative is not None and tokens(tokenizer, negative) > tokens(tokenizer, text):
            logger.warning("%s reads only the beginning of a negative prompt that is longer than the text", NAME)
