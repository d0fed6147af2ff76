"""What generators that denoise with a pipeline of diffusers share: loading, batches, seeds, cropping, level.

**Conventions**: durations in seconds, sample rates in Hz, waveforms `[channels, time]` in [-1, 1]. A candidate has a
random number generator of its own, on the CPU, from which the pipeline draws its noise: so it is the same alone and
among others, as far as the hardware adds alike for other batch sizes (on a GPU in float16 not to the last digit).

**Source**: diffusers 0.42.1 (Apache-2.0), read and called, not copied.
"""

import bisect
import contextlib
import inspect
import logging
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from rerank.audio import Audio
from rerank.batching import OnStep, in_batches
from rerank.data import Candidate, Prompt, check_whole, is_number
from rerank.errors import InvalidInput, MissingDependency, WeightsError, one_line
from rerank.models.config import check_sizes, read_json, shown
from rerank.models.hub import Source, files_of
from rerank.models.tokenizer import check_files, check_ids, check_states
from rerank.models.weights import check_module, fingerprint
from rerank.protocols import GeneratorInfo, Progress


def missing(package: str) -> MissingDependency:
    """Return the error that says how to install a package of the extra `diffusion`."""
    return MissingDependency(f"{package!r} is not installed; run: pip install 'rerank-music[diffusion]'")


try:
    import diffusers
except ModuleNotFoundError as error:
    if error.name != "diffusers":
        raise
    raise missing("diffusers") from error

_FILES = (
    "*.json",
    "*.txt",
    "*.model",
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "*-of-*.safetensors",
)
"""Of a component, named so that copies in half precision and pickles of the same weights are not downloaded."""

_CONFIGS = ("config.json", "scheduler_config.json", "preprocessor_config.json")
"""Of components, as far as sizes are in them."""

_READERS = {"tokenizer": "text_encoder", "tokenizer_2": "text_encoder_2"}
"""Tokenizers of pipelines, each with the component that takes its tokens."""

_MAX_STEPS = 1000
_MAX_BATCH_SIZE = 1024

logger = logging.getLogger("rerank")


class Diffusion(ABC):
    """A generator that makes its candidates with a pipeline.

    Where a waveform goes beyond full scale, all of it is scaled down to full scale, and a log line says so: nothing is
    clipped here.

    Args:
        pipe: loaded.
        info: what it is and can do.
        steps: of denoising.
        guidance: how much the prompt weighs; none at 1.
        negative_prompt: what the audio should not be like.
        batch_size: how many candidates are made at once, at most.

    """

    def __init__(
        self,
        pipe: Any,
        info: GeneratorInfo,
        *,
        steps: int,
        guidance: float,
        negative_prompt: str | None,
        batch_size: int,
    ) -> None:
        self.info = info
        self._pipe = pipe
        self._steps, self._guidance, self._batch_size = int(steps), float(guidance), int(batch_size)
        self._negative_prompt = negative_prompt

    @abstractmethod
    def _request(self, prompt: Prompt, samples: int) -> dict[str, Any]:
        """Return the arguments of the pipeline that all candidates share, for at least so many samples."""

    @abstractmethod
    def _sample(
        self, request: Mapping[str, Any], generators: list[torch.Generator], on_step: Callable[[int], None]
    ) -> Iterable[Tensor]:
        """Return one waveform for each random number generator, as soon as it is decoded; report the steps that are done.

        Shape:
            `[channels, time]` for each
        """

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
            InvalidInput: the prompt cannot be used.
        """
        samples = round(duration * self.info.sample_rate)
        request = self._request(prompt, samples)
        total = self._steps + 1  # decoding counts as a step

        def make(batch: Sequence[int], on_step: OnStep) -> Iterable[Audio]:
            generators = [torch.Generator().manual_seed(int(seed)) for seed in batch]
            waveforms = self._sample(request, generators, lambda done: on_step(done, total))
            return (self._finished(waveform, samples) for waveform in waveforms)

        made = in_batches(seeds, self._batch_size, make, on_progress)
        for index, (seed, audio) in enumerate(zip(seeds, made, strict=True)):
            yield Candidate(index=index, seed=seed, audio=audio, licence=self.info.licence)

    def _finished(self, waveform: Tensor, samples: int) -> Audio:
        """Return a waveform as audio of exactly so many samples, within full scale."""
        assert waveform.shape[0] == self.info.channels and waveform.shape[1] >= samples, waveform.shape
        # a copy: what is kept of one candidate is not the batch it was made in
        cut = waveform[:, :samples].float().cpu().numpy().copy()
        peak = float(np.abs(cut).max())
        # what is not finite stays as it is, for the filter that looks for it
        if 1 < peak < math.inf:
            told = "a candidate of %s went beyond full scale (to %.2f) and is scaled down to it"
            logger.info(told, self.info.name, peak)
            cut /= np.float32(peak)
        return Audio(cut, self.info.sample_rate)


def check_options(
    *, steps: int | None, guidance: float | None, batch_size: int, negative_prompt: str | None = None
) -> None:
    """Refuse options that cannot be used or have no effect, before anything is loaded; None is the choice of the model.

    Raises:
        InvalidInput: naming the option.
    """
    if steps is not None:
        check_whole("steps", steps, 1, _MAX_STEPS)
    # the pipelines guide above 1 only
    if guidance is not None and not (is_number(guidance) and guidance >= 1):
        raise InvalidInput(f"guidance must be a number from 1 (none) on, got {guidance!r:.40}")
    if not isinstance(negative_prompt, str | None):
        raise InvalidInput(f"negative_prompt must be a str, got {type(negative_prompt).__name__}; pass it in quotes")
    if negative_prompt is not None and guidance is not None and guidance <= 1:
        raise InvalidInput("negative_prompt has no effect without guidance (1); pass a guidance above 1")
    check_whole("batch_size", batch_size, 1, _MAX_BATCH_SIZE)


def load(
    kind: str,
    source: Source,
    device: torch.device,
    dtype: torch.dtype,
    *,
    unused: Collection[str] = (),
    classes: Mapping[str, type[transformers.PreTrainedModel]] | None = None,
) -> tuple[Any, str]:
    """Return a pipeline with its weights, and their fingerprint with the version of diffusers, which is its code.

    Only safetensors are read, and no code comes with them but that of the installed packages.

    Args:
        kind: name of its class in diffusers.
        source: in the layout of diffusers: `model_index.json` and a folder for each component.
        device: to compute on.
        dtype: to compute in.
        unused: components to do without.
        classes: of components for which `model_index.json` names another one.

    Raises:
        WeightsError: a file is missing, broken, cannot be downloaded or is of another model.
        MissingDependency: the diffusers that is installed is older than the pipeline.
    """
    pipeline = getattr(diffusers, kind, None)
    if pipeline is None:
        raise MissingDependency(
            f"diffusers {diffusers.__version__} has no {kind}; run: pip install -U 'rerank-music[diffusion]'"
        )
    parts = [name for name in inspect.signature(pipeline).parameters if name not in unused]
    patterns = ["model_index.json", *(f"{part}/{file}" for part in parts for file in _FILES)]
    folder = source.folder(patterns)
    found = read_json(Source(folder).file("model_index.json")).get("_class_name")
    if found != kind:
        raise WeightsError(f"{folder} holds a {shown(found)} of diffusers; expected a {kind}")
    for part in parts:
        if part in _READERS:
            check_files(folder / part, also=["tokenizer_config.json"])
        for path in files_of(folder / part, _CONFIGS):
            check_sizes(read_json(path), f"the {part}")
    with _quietly():
        try:
            pipe = pipeline.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                **dict.fromkeys(unused),
                **{name: _component(folder / name, one, dtype) for name, one in (classes or {}).items()},
            )
            _check_whole(pipe, folder)
            _check_text(pipe, folder)
            pipe.to(device)
        # what a library raises on files that it cannot use is anybody's
        except Exception as error:
            if isinstance(error, WeightsError):
                raise
            raise WeightsError(f"cannot load the {kind} in {folder}: {one_line(error)}") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe, f"{fingerprint(files_of(folder, patterns))} diffusers {diffusers.__version__}"


def _component(folder: Path, kind: type[transformers.PreTrainedModel], dtype: torch.dtype) -> Any:
    return kind.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)


def _check_whole(pipe: Any, folder: Path) -> None:
    """Refuse components of which weights are missing or no finite numbers.

    diffusers leaves what is missing without data and only prints a note.
    """
    for name, part in pipe.components.items():
        if isinstance(part, nn.Module):
            if any(weight.is_meta for weight in part.parameters()):
                raise WeightsError(f"weights of the {name} in {folder} are missing")
            check_module(part, files_of(folder / name, _FILES), str(folder / name))


@torch.inference_mode()
def _check_text(pipe: Any, folder: Path) -> None:
    """Refuse text encoders that are told the same by different words."""
    for name, encoder in _READERS.items():
        tokenizer = pipe.components.get(name)
        if tokenizer is not None:
            model = pipe.components[encoder]
            # a CLAP has an encoder of audio too
            table = getattr(model, "text_model", model).get_input_embeddings()

            def ids(text: str, read: Any = tokenizer) -> list[int]:
                return list(read(text, verbose=False).input_ids)

            check_ids(ids, table.num_embeddings, str(folder / name))
            check_states(lambda text, table=table, ids=ids: table(torch.tensor(ids(text))), str(folder / encoder))  # type: ignore[misc]


def fitting(text: str, fits: Callable[[str], bool], name: str, part: str) -> str:
    """Return as much of the beginning of a text as a model reads, and warn of what is left out.

    Models read so many tokens and no more. Refusing a longer text would leave a prompt that other generators and the
    reward model take whole without any audio; leaving out its end in silence would hide why it is not followed.

    Args:
        text: to read.
        fits: whether a model reads all of a text.
        name: of the generator.
        part: of the prompt, in words.
    """
    if fits(text):
        return text
    end = max(0, bisect.bisect_left(range(len(text)), True, key=lambda end: not fits(text[:end])) - 1)
    left = len(text) - end
    logger.warning(
        "%s reads no more of the %s: its last %d characters are left out, %.60r", name, part, left, text[end:]
    )
    return text[:end]


def tokens(tokenizer: Any, text: str) -> int:
    """Return how many tokens a text is, those at its ends included."""
    return len(tokenizer(text, verbose=False).input_ids)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep diffusers and transformers from drawing progress bars while they load, and torch from warning of them."""
    libraries = (diffusers.utils.logging, transformers.utils.logging)
    shown = [library for library in libraries if library.is_progress_bar_enabled()]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Cannot (dis|en)able progress bars", UserWarning)
        # the published autoencoders are built with it
        warnings.filterwarnings("ignore", ".*weight_norm", FutureWarning)
        for library in shown:
            library.disable_progress_bar()
        try:
            yield
        finally:
            for library in shown:
                library.enable_progress_bar()
