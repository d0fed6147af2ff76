"""ACE-Step 1.5, through diffusers: songs at 48 kHz in stereo from text, lyrics and a reference audio.

**Conventions**: durations in seconds.

**Source**: ACE-Step 1.5 (arXiv:2602.00744), `ace-step/ACE-Step-1.5` (f30aee4, MIT) for what the model was trained with;
weights under the MIT licence.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rerank.audio import Audio, resample, to_mono
from rerank.catalogue import generator_info
from rerank.data import Prompt
from rerank.errors import InvalidInput
from rerank.generators.diffusion import Diffusion, check_options, fitting, load, tokens
from rerank.generators.dtypes import name_of, resolve_dtype
from rerank.models.device import resolve_device
from rerank.models.hub import Source

NAME = "ace-step"

_TEXT_TOKENS, _LYRICS_TOKENS = 256, 2048  # that the model was trained with
_NO_LYRICS = "[Instrumental]"  # what training had in the place of lyrics where a song has none
_TURBO_STEPS, _BASE_STEPS = 8, 50
_BASE_GUIDANCE = 7.0


class AceStep(Diffusion):
    """ACE-Step 1.5: 10 to 600 s from text, lyrics and the timbre of a reference audio, any of them alone too.

    Lyrics may have tags such as `[verse]` and `[chorus]`; without lyrics the song is instrumental. Of the reference it
    hears 10 s from each third; it follows its sound, not its melody.

    The pipeline scales every candidate to a peak of -1 dBFS, before it is cut to the duration, by at most 40 ms.

    Args:
        path: folder in the layout of diffusers; None downloads (about 11 GB) to the hub's cache, once.
        repository: on the hub, in that layout: a turbo, base or sft model.
        revision: branch, tag or commit on the hub; None for its main branch. A folder has none.
        device: "auto", "cpu", "cuda".
        dtype: "float32", "float16", "bfloat16"; "auto" is bfloat16 on a GPU that has it, else float32.
        steps: of denoising, 1 to 1,000; None is 8 for a turbo model and 50 for others.
        guidance: how much the prompt weighs; None is 7, and none for a turbo model, which has it built in.
        language: of the lyrics: a code such as "en", "zh", "yue", or "unknown".
        batch_size: how many candidates are made at once, at most, 1 to 1,024.

    Raises:
        WeightsError: a file is missing, broken, cannot be downloaded or is of another model.
        InvalidInput: an option cannot be used.
    """

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        repository: str = "ACE-Step/acestep-v15-xl-turbo-diffusers",
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        steps: int | None = None,
        guidance: float | None = None,
        language: str = "en",
        batch_size: int = 4,
    ) -> None:
        check_options(steps=steps, guidance=guidance, batch_size=batch_size)
        if not isinstance(language, str) or not language.isalpha():
            raise InvalidInput(f"language must be a code such as 'en' or 'zh', got {language!r:.40}")
        place = resolve_device(device)
        number = resolve_dtype(dtype, place, torch.bfloat16)
        source = Source.given(path, repository, revision)
        # these two are for covers only
        pipe, version = load(
            "AceStepPipeline", source, place, number, unused=("audio_tokenizer", "audio_token_detokenizer")
        )
        pipe.vae.enable_slicing()
        pipe.vae.enable_tiling()
        if guidance is not None and guidance > 1 and pipe.is_turbo:
            raise InvalidInput(f"guidance {guidance:g} has no effect on a turbo model of {NAME}; leave it out")
        steps = steps or (_TURBO_STEPS if pipe.is_turbo else _BASE_STEPS)
        if guidance is None:
            guidance = 1.0 if pipe.is_turbo else _BASE_GUIDANCE
        info = replace(
            generator_info(NAME),
            sample_rate=pipe.sample_rate,
            channels=pipe.vae.config.audio_channels,
            version=version,
            options={
                "steps": steps,
                "guidance": guidance,
                "language": language,
                "dtype": name_of(number),
                "batch_size": batch_size,
            },
        )
        super().__init__(pipe, info, steps=steps, guidance=guidance, negative_prompt=None, batch_size=batch_size)
        self._device, self._language = place, language

    def _request(self, prompt: Prompt, samples: int) -> dict[str, Any]:
        duration = samples / self.info.sample_rate

        def formatted(text: str, lyrics: str) -> tuple[int, int]:
            # the pipeline would cut off the end of its template, with the duration in it, to keep all of the text
            whole = self._pipe._format_prompt(text, lyrics, self._language, duration)
            return tokens(self._pipe.tokenizer, whole[0]), tokens(self._pipe.tokenizer, whole[1])

        lyrics = prompt.lyrics or _NO_LYRICS
        return {
            "prompt": fitting(prompt.text, lambda text: formatted(text, "")[0] <= _TEXT_TOKENS, NAME, "text"),
            "lyrics": fitting(lyrics, lambda words: formatted("", words)[1] <= _LYRICS_TOKENS, NAME, "lyrics"),
            "vocal_language": self._language,
            "reference_audio": None if prompt.reference is None else self._heard(prompt.reference),
            "audio_duration": duration,
            "num_inference_steps": self._steps,
            "guidance_scale": self._guidance,
            "max_text_length": _TEXT_TOKENS,
            "max_lyric_length": _LYRICS_TOKENS,
        }

    def _sample(
        self, request: Mapping[str, Any], generators: list[torch.Generator], on_step: Callable[[int], None]
    ) -> Iterable[Tensor]:
        def callback(pipe: object, step: int, timestep: float, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            on_step(step + 1)
            return tensors

        texts = {name: [request[name]] * len(generators) for name in ("prompt", "lyrics")}
        # the pipeline encodes the reference with noise of the global stream: here the same for all candidates
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(0)
            made: Tensor = self._pipe(
                **{**request, **texts}, generator=generators, callback_on_step_end=callback
            ).audios
        return made

    def _heard(self, reference: Audio) -> Tensor:
        """Return a reference as the autoencoder takes it.

        Shape:
            `[channels, time]`
        """
        if reference.channels != self.info.channels:
            reference = to_mono(reference)
        waveform = resample(reference, self.info.sample_rate).waveform
        return torch.from_numpy(np.repeat(waveform, self.info.channels // len(waveform), axis=0))
