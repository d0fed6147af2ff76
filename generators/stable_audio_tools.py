"""`StableAudioTools`: a model of Stability AI's stable-audio-tools that the user has loaded, as a generator.

The library takes one seed for a whole batch, so candidates are made one at a time: each is what its
`generate_diffusion_cond(..., seed=seed, batch_size=1)` gives on that device, cut to the duration. What the library does
beside that is undone: it seeds the random numbers of the process, sets flags of torch, and prints.

**Conventions**: durations in seconds.

**Source**: stable-audio-tools 0.0.19 (PyPI, MIT), `inference/generation.py`, `inference/sampling.py`,
`models/conditioners.py`.
"""

import contextlib
import importlib
import io
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from rerank.audio import Audio
from rerank.batching import OnStep, in_batches
from rerank.data import Candidate, Prompt, check_whole
from rerank.errors import InvalidInput, MissingDependency, UnknownName
from rerank.models.weights import fingerprint_loaded
from rerank.names.option import plain
from rerank.protocols import GeneratorInfo, Progress

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "rf_denoiser": {"steps": 8, "cfg_scale": 1.0, "sampler_type": "pingpong"},
    "rectified_flow": {"steps": 50, "cfg_scale": 6.0, "sampler_type": "euler"},
    "v": {"steps": 100, "cfg_scale": 7.0, "sampler_type": "dpmpp-3m-sde", "sigma_min": 0.3, "sigma_max": 500},
}
"""Options by what a model was trained for: those of the model cards of Stable Audio Open Small and 1.0."""

_FLOW_SAMPLERS = ("euler", "rk4", "dpmpp", "pingpong")
_SAMPLERS: Mapping[str, Sequence[str]] = {
    "rf_denoiser": _FLOW_SAMPLERS,
    "rectified_flow": _FLOW_SAMPLERS,
    "v": ("k-heun", "k-lms", "k-dpmpp-2s-ancestral", "k-dpm-2", "k-dpm-fast", "k-dpm-adaptive", "dpmpp-2m")
    + ("dpmpp-2m-sde", "dpmpp-3m-sde", "v-ddim", "v-ddim-cfgpp"),
}
"""That the library knows, by what a model was trained for; with another name it returns nothing."""

_MAX_STEPS = 1000

_OURS = ("model", "conditioning_tensors", "batch_size", "sample_size", "sample_rate", "seed", "device") + (
    "init_audio",
    "return_latents",
    "callback",
)
"""Arguments of the library that are not options here."""

logger = logging.getLogger("rerank")


class StableAudioTools:
    """A loaded text-conditioned diffusion model of stable-audio-tools as a generator.

    It follows text; audio to start from is no condition of it. A model denoises its whole length whatever the duration,
    which it is told, where it can be, and then cut to. Where a waveform goes beyond full scale, all of it is scaled
    down to full scale, and a log line says so.

    Args:
        model: from `stable_audio_tools.get_pretrained_model` or alike, on the device where it is to run.
        config: what was returned or read with it, `model_config.json`.
        name: in rankings and messages.
        licence: of the weights.
        conditioning: values of further conditions of the model, beside the text and the duration.
        options: of the library's `generate_diffusion_cond`, such as `steps`, `cfg_scale`, `sampler_type` and
            `negative_conditioning`; what is left out is as the cards of the published models say.

    Raises:
        InvalidInput: the model is of another kind or needs a condition that is not given, or an option has no such value.
        UnknownName: a sampler or a condition that the model does not know.
        MissingDependency: the library is not installed.
    """

    def __init__(
        self,
        model: Any,
        config: Mapping[str, Any],
        *,
        name: str = "stable-audio-tools",
        licence: str = "unknown",
        conditioning: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._generate = _library()
        kind = config.get("model_type") if isinstance(config, Mapping) else type(config).__name__
        objective = str(getattr(model, "diffusion_objective", None))
        if kind != "diffusion_cond" or objective not in _DEFAULTS or not hasattr(model, "conditioner"):
            raise InvalidInput(
                f"StableAudioTools takes a loaded model of the type 'diffusion_cond' and its config, got "
                f"{type(model).__name__} and {kind!r}; for others there is rerank.wrap"
            )
        for option in options:
            if option in _OURS:
                raise InvalidInput(f"{option!r} is no option of StableAudioTools, which sets it; leave it out")
        self._model, self._size = model, int(config["sample_size"])
        self._options = {**_DEFAULTS[objective], **options}
        check_whole("steps", self._options["steps"], 1, _MAX_STEPS)
        if self._options["sampler_type"] not in _SAMPLERS[objective]:
            raise UnknownName.among("sampler_type", str(self._options["sampler_type"]), _SAMPLERS[objective])
        self._steps = int(self._options["steps"])
        self._fixed = dict(conditioning or {})
        kinds = {str(one["id"]): one.get("type") for one in config["model"]["conditioning"]["configs"]}
        self._conditions = list(kinds)
        self._whole_seconds = kinds.get("seconds_total") == "int"  # an index, in older models
        self._check_conditions()
        rate = int(config["sample_rate"])
        longest = math.floor(100 * self._size / rate) / 100
        self.info = GeneratorInfo(
            name=name,
            sample_rate=rate,
            channels=int(getattr(model.pretransform, "io_channels", model.io_channels)),
            max_duration=longest,
            min_duration=min(1.0, longest),
            licence=licence,
            version=fingerprint_loaded(model),
            options=plain({**self._options, "conditioning": self._fixed}),
        )

    def generate(
        self,
        prompt: Prompt,
        seeds: Sequence[int],
        duration: float,
        *,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Iterator[Candidate]:
        """Yield one candidate per seed; see `rerank.protocols.Generator`."""
        self._say_what_is_left_out(prompt.text)
        seconds = math.ceil(duration) if self._whole_seconds else float(duration)
        told = {"prompt": prompt.text, "seconds_start": 0, "seconds_total": seconds, **self._fixed}
        with torch.no_grad(), _Undisturbed(self._device):
            conditions = self._model.conditioner([{name: told[name] for name in self._conditions}], self._device)
        samples = round(duration * self.info.sample_rate)

        def make(batch: Sequence[int], on_step: OnStep) -> list[Audio]:
            return [self._make(conditions, int(seed), samples, on_step) for seed in batch]

        for index, (seed, audio) in enumerate(zip(seeds, in_batches(seeds, 1, make, on_progress), strict=True)):
            yield Candidate(index=index, seed=seed, audio=audio, licence=self.info.licence)

    def _make(self, conditions: Any, seed: int, samples: int, on_step: OnStep) -> Audio:
        total, done = self._steps + 1, 0  # decoding counts as a step
        undisturbed = _Undisturbed(self._device)

        def callback(_: object) -> None:
            nonlocal done
            # what samplers count differs, and some call more often
            done = min(done + 1, self._steps)
            with undisturbed.heard():
                on_step(done, total)

        with torch.no_grad(), undisturbed:
            made = self._generate(
                self._model,
                conditioning_tensors=conditions,
                batch_size=1,
                sample_size=self._size,
                seed=seed,
                device=self._device,
                callback=callback,
                **self._options,
            )
        on_step(total, total)
        waveform = made[0, :, :samples].float().cpu().numpy()
        peak = float(np.abs(waveform).max())
        # what is not finite stays as it is, for the filter that looks for it
        if 1 < peak < math.inf:
            told = "a candidate of %s went beyond full scale (to %.2f) and is scaled down to it"
            logger.info(told, self.info.name, peak)
            waveform = waveform / peak
        return Audio(np.ascontiguousarray(waveform, dtype=np.float32), self.info.sample_rate)

    @property
    def _device(self) -> torch.device:
        """Where the model is now: the user may move it."""
        return next(iter(self._model.parameters())).device  # type: ignore[no-any-return]  # a model of the library

    def _check_conditions(self) -> None:
        if "prompt" not in self._conditions:
            raise InvalidInput(f"the model takes no prompt, only: {', '.join(self._conditions) or 'nothing'}")
        known = ("prompt", "seconds_start", "seconds_total")
        missing = [name for name in self._conditions if name not in {*known, *self._fixed}]
        if missing:
            raise InvalidInput(
                f"the model needs the condition {missing[0]!r}; give it a value: conditioning={{{missing[0]!r}: ...}}"
            )
        for name in self._fixed:
            if name not in self._conditions:
                raise UnknownName.among("condition", name, self._conditions)

    def _say_what_is_left_out(self, text: str) -> None:
        """Warn of the end of a text that the library would cut off in silence."""
        reader = dict(self._model.conditioner.conditioners.items())["prompt"]
        tokenizer: Any = getattr(reader, "tokenizer", None)
        most = getattr(reader, "max_length", None)
        if not getattr(tokenizer, "is_fast", False) or not isinstance(most, int):
            return
        places = tokenizer(text, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        if len(places) > most:
            # the last token that is read says that the text ends
            left = text[places[most - 1][0] :].strip()
            told = "%s reads no more of the text: its last %d characters are left out, %.60r"
            logger.warning(told, self.info.name, len(left), left)


class _Undisturbed:
    """While it is entered the library may seed, set flags and print; afterwards all is as before.

    Its seed goes to standard output, its bar to standard error.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __enter__(self) -> None:
        flags = (
            (torch.backends.cuda.matmul, "allow_tf32"),
            (torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction"),
            (torch.backends.cudnn, "allow_tf32"),
            (torch.backends.cudnn, "benchmark"),
        )
        self._spoken = sys.stdout, sys.stderr
        with contextlib.ExitStack() as stack:
            for place, name in flags:
                stack.callback(setattr, place, name, getattr(place, name))
            stack.enter_context(torch.random.fork_rng([self._device] if self._device.type == "cuda" else []))
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            self._stack = stack.pop_all()

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Let what the caller prints be heard."""
        with contextlib.redirect_stdout(self._spoken[0]), contextlib.redirect_stderr(self._spoken[1]):
            yield


def _library() -> Callable[..., torch.Tensor]:
    try:
        importlib.import_module("stable_audio_tools")
    except ModuleNotFoundError as error:
        if error.name != "stable_audio_tools":
            raise
        raise MissingDependency(
            "'stable_audio_tools' is not installed; run: pip install --no-deps stable-audio-tools k-diffusion dctorch, whose "
            "own pins ask for numpy 1, and then what they import"
        ) from error
    module = importlib.import_module("stable_audio_tools.inference.generation")
    found: Callable[..., torch.Tensor] = module.generate_diffusion_cond
    return found
