"""`Audiocraft`: a model of Meta's audiocraft that the user has loaded (MusicGen, AudioGen) as a generator.

The library draws all its random numbers from one stream, so it has no seed for each of several candidates made
together. Here each candidate has a stream of its own: when the library draws codes for all of them by
`torch.multinomial`, that is done candidate by candidate, each with its own random number generator. It is done from
outside, by a function mode and hooks of torch: nothing in the library or the model is replaced. A candidate made so is
what `torch.manual_seed(seed)` and `model.generate([text])` give, for a duration of whole frames; another, which the library
rounds down, is held by one frame more and cut.

**Conventions**: durations in seconds, sample rates in Hz; codes int16 `[codebooks, frames]`.

**Source**: audiocraft 1.3.0 (PyPI) and 1.4.0a2 (main, 896ec7c), `models/genmodel.py`, `models/musicgen.py`,
`models/lm.py`, `utils/utils.py`; its code is under MIT, the published weights are under CC BY-NC 4.0.
"""

import contextlib
import functools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rerank.audio import Audio, to_mono
from rerank.batching import OnStep, Passing, in_batches
from rerank.data import Candidate, Prompt, check_whole, is_number
from rerank.errors import InvalidInput, RerankError
from rerank.models.weights import fingerprint_loaded
from rerank.names.option import plain
from rerank.protocols import Condition, GeneratorInfo, Progress

_MODELS = ("MusicGen", "AudioGen")
_PUBLISHED = "facebook/"
_LICENCE = "CC BY-NC 4.0 (not for commercial use)"
_MAX_BATCH_SIZE = 1024


class Audiocraft:
    """A loaded MusicGen or AudioGen of audiocraft as a generator.

    It follows text, and a reference audio where the model has melody or style conditioning. Temperature, top-k,
    guidance and the like are those of the model (`model.set_generation_params`); its duration, its progress callback
    and the state of Python's and torch's random numbers are afterwards what they were. The codes are kept.

    One candidate is made at a time, so n of them take n times as long. With a `batch_size` that many are made together,
    which is faster, above all on a GPU, that one candidate leaves mostly idle; it takes memory in proportion. Every
    batch is filled up to that size, since on a GPU the size of a batch changes the last digits and so, in the end, the
    notes. A batch that does not fit the memory is made in smaller ones, with that effect. A reference audio is read again for
    each candidate.

    Args:
        model: from `audiocraft.models.MusicGen.get_pretrained` or alike, on the device where it is to run.
        batch_size: how many candidates are made together, 1 to 1,024.
        max_duration: the longest candidate, in seconds; what the model was trained on by default. Beyond it the library
            goes on in overlapping windows.
        licence: of the weights; known by default for the published ones.

    Raises:
        InvalidInput: the model is another one, or an option cannot be used.
    """

    def __init__(
        self, model: Any, *, batch_size: int = 1, max_duration: float | None = None, licence: str | None = None
    ) -> None:
        if not {kind.__name__ for kind in type(model).__mro__} & set(_MODELS):
            raise InvalidInput(
                f"Audiocraft takes a loaded {' or '.join(_MODELS)} of audiocraft, got {type(model).__name__}; for "
                "others there is rerank.wrap"
            )
        check_whole("batch_size", batch_size, 1, _MAX_BATCH_SIZE)
        longest = model.max_duration if max_duration is None else max_duration
        if not (is_number(longest) and longest >= 1):
            raise InvalidInput(f"max_duration must be a number of seconds from 1 on, got {max_duration!r}")
        self._model, self._batch_size = model, int(batch_size)
        conditions: set[Condition] = {"text"}
        if self._listener() is not None:
            conditions.add("reference")
        published = str(model.name).startswith(_PUBLISHED)
        self._info = GeneratorInfo(
            name=f"audiocraft/{PurePath(str(model.name)).name}",
            sample_rate=int(model.sample_rate),
            channels=int(model.audio_channels),
            max_duration=float(longest),
            conditions=frozenset(conditions),
            licence=licence or (_LICENCE if published else "unknown"),
            version=fingerprint_loaded(model.lm, model.compression_model),
        )

    @property
    def info(self) -> GeneratorInfo:
        """What this generator is and can do, with the options of the model as they are now."""
        return replace(self._info, options={**plain(self._model.generation_params), "batch_size": self._batch_size})

    def generate(
        self,
        prompt: Prompt,
        seeds: Sequence[int],
        duration: float,
        *,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Iterator[Candidate]:
        """Yield one candidate per seed; see `rerank.protocols.Generator`.

        Raises:
            InvalidInput: the model does not sample, or cannot use the reference audio.
        """
        self._check_sampling()
        reference = self._reference(prompt)
        make = functools.partial(self._make, prompt.text, reference, duration)
        made = in_batches(seeds, self._batch_size, make, on_progress, filled=True)
        for index, (seed, (audio, codes)) in enumerate(zip(seeds, made, strict=True)):
            yield Candidate(index=index, seed=seed, audio=audio, codes=codes, licence=self.info.licence)

    def _make(
        self, text: str, reference: Audio | None, duration: float, seeds: Sequence[int], on_step: OnStep
    ) -> list[tuple[Audio, NDArray[np.int16]]]:
        model = self._model
        samples = round(duration * self.info.sample_rate)
        frames = math.ceil(samples * model.frame_rate / self.info.sample_rate)
        # the library rounds down
        whole = frames / model.frame_rate
        while int(whole * model.frame_rate) < frames:
            whole = math.nextafter(whole, math.inf)

        # it counts steps, a few more than frames, and in windows only those of the window
        def step(done: int, _: int) -> None:
            on_step(min(done, frames), frames)

        # None is how the library calls a prompt without text
        texts = [text if text.strip() else None] * len(seeds)
        with _borrowed(model, whole, step), _drawing_by_seed(model.lm, seeds, model.device) as drawing:
            if reference is None:
                made, codes = model.generate(texts, progress=True, return_tokens=True)
            else:
                heard = [torch.from_numpy(reference.waveform)] * len(seeds)
                made, codes = model.generate_with_chroma(
                    texts, heard, reference.sample_rate, progress=True, return_tokens=True
                )
        if drawing.draws == 0:
            unknown = RerankError(
                "this model draws its codes in a way that is not known here, so they do not depend on the seed; "
                "use audiocraft 1.3 or 1.4, or rerank.wrap"
            )
            raise Passing(unknown)  # a smaller batch would not help
        on_step(frames, frames)
        # copies: what is kept of one candidate is not the batch it was made in
        waveforms = [one[:, :samples].float().cpu().numpy().copy() for one in made]
        audio = [Audio(waveform, self.info.sample_rate) for waveform in waveforms]
        kept = [one.to(torch.int16).cpu().numpy().copy() for one in codes]
        return list(zip(audio, kept, strict=True))

    def _listener(self) -> Any:
        """Return the part of the model that hears a reference audio; None where it has none."""
        conditioners = self._model.lm.condition_provider.conditioners
        return dict(conditioners.items()).get("self_wav")  # a ModuleDict has no get

    def _check_sampling(self) -> None:
        parameters: Mapping[str, Any] = self._model.generation_params
        if not parameters.get("use_sampling", True) or parameters.get("temp", 1.0) <= 0:
            raise InvalidInput(
                "the model does not sample, so every candidate would be the same; call "
                "model.set_generation_params(use_sampling=True) with a temperature above 0"
            )

    def _reference(self, prompt: Prompt) -> Audio | None:
        listener = self._listener()
        if prompt.reference is None or listener is None:
            return None
        excerpt = getattr(listener, "length_subwav", 0) / self.info.sample_rate  # of a style model
        if prompt.reference.duration < excerpt:
            raise InvalidInput(
                f"the reference is {prompt.reference.duration:.1f} s long, this model listens to {excerpt:.1f} s; give "
                "it a longer one, or call model.set_style_conditioner_params(excerpt_length=...)"
            )
        # the library takes one or two channels
        return prompt.reference if prompt.reference.channels <= 2 else to_mono(prompt.reference)


class _DrawBySeed(TorchFunctionMode):
    """While it is entered, `torch.multinomial` draws for each candidate from a stream that starts with its seed.

    Shape:
        the probabilities are `[candidates * rows, choices]`, as many rows for each candidate, in the order of the seeds.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        super().__init__()
        self.draws = 0
        self._generators = [torch.Generator(device).manual_seed(int(seed)) for seed in seeds]

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func is not torch.multinomial:
            return func(*args, **options)
        probabilities, *rest = args or (options.pop("input"),)
        if len(probabilities) % len(self._generators):
            raise RerankError(
                f"the model draws {len(probabilities)} codes at once for {len(self._generators)} candidates; make one "
                "at a time: Audiocraft(model)"
            )
        self.draws += 1
        parts: list[Tensor] = [
            func(part, *rest, **{**options, "generator": generator})
            for part, generator in zip(probabilities.chunk(len(self._generators)), self._generators, strict=True)
        ]
        return torch.cat(parts)


@contextlib.contextmanager
def _drawing_by_seed(network: nn.Module, seeds: Sequence[int], device: torch.device) -> Iterator[_DrawBySeed]:
    """Have what is drawn after each step of the network drawn by seed.

    Within a step the mode is left: it costs some microseconds for each of a thousand operations, half as much time
    again where these are small.
    """
    mode = _DrawBySeed(seeds, device)
    entered = contextlib.ExitStack()

    def leave(*_: object) -> None:
        entered.close()

    def enter(*_: object) -> None:
        entered.enter_context(mode)

    hooks = [network.register_forward_pre_hook(leave), network.register_forward_hook(enter)]
    try:
        yield mode
    finally:
        entered.close()
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _borrowed(model: Any, duration: float, on_step: Callable[[int, int], None]) -> Iterator[None]:
    """Set the duration and the progress callback of a model, and put back what was there, whatever happens.

    `set_generation_params(duration=...)` would not do: it also resets all that is not named.
    """
    before = model.duration, model._progress_callback, random.getstate()
    model.duration = float(duration)
    model.set_custom_progress_callback(on_step)
    # demucs shifts what it separates, and a style model chooses its excerpt, by Python's random numbers: the same for
    # every candidate
    random.seed(0)
    try:
        yield
    finally:
        model.duration = before[0]
        model.set_custom_progress_callback(before[1])
        random.setstate(before[2])
