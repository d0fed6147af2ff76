"""`wrap`: any function that makes audio becomes a generator.

**Conventions**: durations in seconds, sample rates in Hz, waveforms floats `[channels, time]` in [-1, 1]. What the
function returns is checked and never repaired: nothing is resampled, rescaled, transposed or mixed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank.audio import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, Audio, as_audio
from rerank.batching import OnStep, in_batches
from rerank.data import Candidate, Prompt, check_whole, is_number
from rerank.errors import InvalidInput
from rerank.names.function import PARTS, check_function, checked_conditions, keywords_of, name_of
from rerank.protocols import Condition, Generator, GeneratorInfo, Progress

_MAX_CHANNELS = 64
_MAX_BATCH_SIZE = 1024
_LOUDEST = 100.0  # full scale is 1: no music is beyond this, and samples of 16-bit integers are


def wrap(
    function: Callable[..., Any],
    *,
    sample_rate: int,
    name: str | None = None,
    channels: int = 1,
    max_duration: float = 30.0,
    min_duration: float = 1.0,
    conditions: Iterable[Condition] = ("text",),
    licence: str = "unknown",
    version: str = "",
    batch_size: int | None = None,
) -> Generator:
    """Return a generator that makes each candidate by a function of yours.

    The function is called as `function(prompt, seed, duration)`: the text of the prompt (a str), the seed of the
    candidate (an int) and its length in seconds (a float). With "lyrics" or "reference" among the `conditions` it also
    gets `lyrics=` (a str) or `reference=` (a `rerank.Audio`), None where the prompt has none. It must return the same
    audio for the same arguments; the seed is there to start its random numbers with. What it raises costs the
    candidate, not the run; so does a result that is no audio.

    With a `batch_size` it is called as `function(prompt, seeds, duration)` with a list of up to that many seeds, and
    returns one waveform for each, in their order. Where that fails, the batch comes again in halves, down to one seed, so
    that only the seed is lost that fails by itself.

    `rerank.testing.check_generator` tells whether the result keeps the promises of a generator.

    Args:
        function: makes the audio: a function, a method, or any object that can be called.
        sample_rate: of what it returns, 8,000 to 192,000 Hz.
        name: of the generator, in rankings and messages; that of the function by default.
        channels: of what it returns.
        max_duration: the longest candidate it makes, in seconds.
        min_duration: the shortest candidate it makes, in seconds.
        conditions: the parts of a prompt that it follows: "text", "lyrics", "reference".
        licence: of its weights.
        version: tells it from others of the same name: change it with everything that changes the audio, so that a run
            that was made before is not gone on with.
        batch_size: how many seeds it takes at once; left out, it takes one seed.

    Shape:
        It returns a numpy array or torch tensor of floats, `[channels, time]`, or `[time]` for one channel. With a
        `batch_size`, a list of these, or one array `[seeds, channels, time]` or `[seeds, time]`.

    Raises:
        InvalidInput: an option cannot be used, or the function does not take these arguments.

    >>> def hum(prompt, seed, duration):
    ...     return 0.2 * np.sin(2 * np.pi * (200 + seed) * np.arange(int(duration * 32000)) / 32000)
    >>> [candidate] = wrap(hum, sample_rate=32000).generate(Prompt("a hum"), [7], 2.0)
    >>> candidate.audio
    Audio(1 channels, 2.00 s, 32000 Hz)
    """
    parts = checked_conditions(conditions)
    if not parts:
        raise InvalidInput(f"conditions is empty; name at least one of: {', '.join(PARTS)}")
    keywords = keywords_of(parts)
    seed: dict[str, Any] = {"seed": 0} if batch_size is None else {"seeds": [0]}
    check_function("wrap", function, {"prompt": "", **seed, "duration": 1.0}, keywords)
    check_whole("sample_rate", sample_rate, MIN_SAMPLE_RATE, MAX_SAMPLE_RATE)
    check_whole("channels", channels, 1, _MAX_CHANNELS)
    if batch_size is not None:
        check_whole("batch_size", batch_size, 1, _MAX_BATCH_SIZE)
    if not (is_number(min_duration) and is_number(max_duration) and 0 < min_duration <= max_duration):
        raise InvalidInput(
            f"min_duration and max_duration must be seconds above 0, the longer one last; got {min_duration!r} and "
            f"{max_duration!r}"
        )
    info = GeneratorInfo(
        name=name or name_of(function),
        sample_rate=int(sample_rate),
        channels=int(channels),
        max_duration=float(max_duration),
        min_duration=float(min_duration),
        conditions=parts,
        licence=licence,
        version=version,
        options={} if batch_size is None else {"batch_size": int(batch_size)},
    )
    return _Wrapped(function, info, keywords, batch_size)


class _Wrapped:
    """The generator that `wrap` returns."""

    def __init__(
        self, function: Callable[..., Any], info: GeneratorInfo, keywords: Sequence[str], batch_size: int | None
    ) -> None:
        self.info = info
        self._function, self._keywords, self._batch_size = function, keywords, batch_size

    def generate(
        self,
        prompt: Prompt,
        seeds: Sequence[int],
        duration: float,
        *,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Iterator[Candidate]:
        """Yield one candidate per seed; see `rerank.protocols.Generator`."""
        text = prompt.text if "text" in self.info.conditions else ""
        extra = {keyword: getattr(prompt, keyword) for keyword in self._keywords}

        def make(batch: Sequence[int], on_step: OnStep) -> Sequence[Any]:
            numbers = [int(seed) for seed in batch]
            if self._batch_size is None:
                waveforms = [self._function(text, numbers[0], float(duration), **extra)]
            else:
                waveforms = _one_each(self._function(text, numbers, float(duration), **extra), len(numbers))
            on_step(1, 1)
            return waveforms

        made = in_batches(seeds, self._batch_size or 1, make, on_progress)
        for index, (seed, waveform) in enumerate(zip(seeds, made, strict=True)):
            yield self._candidate(index, seed, waveform)

    def _candidate(self, index: int, seed: int, waveform: object) -> Candidate:
        licence = self.info.licence
        try:
            audio = _checked(waveform, self.info)
        except InvalidInput as error:
            # not raised: that would have the other candidates of its batch made again
            reason = f"generation failed: {self.info.name} returned {error}"
            return Candidate(index=index, seed=seed, audio=None, set_aside=reason, licence=licence)
        return Candidate(index=index, seed=seed, audio=audio, licence=licence)


def _one_each(made: Any, count: int) -> list[Any]:
    """Return the waveforms of a batch; they are looked into one by one, so that a bad one costs only itself."""
    shape, seeds = tuple(getattr(made, "shape", ())), "1 seed" if count == 1 else f"{count} seeds"
    if not isinstance(made, list | tuple) and len(shape) not in (2, 3):
        came = f"shape {shape}" if hasattr(made, "shape") else type(made).__name__
        raise InvalidInput(
            f"the function returned {came} for {seeds}; return a list of waveforms, or an array [seeds, "
            "channels, time], or leave out batch_size"
        )
    if len(made) != count:
        raise InvalidInput(f"the function returned {len(made)} waveforms for {seeds}; return one for each seed")
    waveforms = list(made)
    if len({_place(waveform) for waveform in waveforms}) < count:
        raise InvalidInput("the function returned one array for several seeds; return a copy for each: waveform.copy()")
    return waveforms


def _place(waveform: Any) -> int:
    """Return where in memory a waveform is: a function that fills one array again and again has only the last left."""
    if isinstance(waveform, np.ndarray):
        return waveform.ctypes.data
    return int(waveform.data_ptr()) if hasattr(waveform, "data_ptr") else id(waveform)


def _checked(made: Any, info: GeneratorInfo) -> Audio:
    """Return what the function made as audio; the message of the error goes on from "... returned"."""
    array = _array(made)
    fault = _shape_fault(array.shape, info.channels)
    if fault:
        raise InvalidInput(f"shape {tuple(made.shape)}, {fault}")
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as that
            audio = as_audio((array, info.sample_rate))
    except InvalidInput as error:
        raise InvalidInput(f"what cannot be used: {error}") from error
    peak = float(np.abs(audio.waveform).max())
    if peak > _LOUDEST:
        raise InvalidInput(f"samples up to {peak:.0f} where full scale is 1; divide by 32768 if they are 16-bit ones")
    # a copy: the function may use its array again for the next candidate
    return Audio(audio.waveform.copy(), audio.sample_rate)


def _array(made: Any) -> NDArray[Any]:
    """Return a numpy array or torch tensor as an array with its samples as they are, `[time]` as `[1, time]`."""
    if not (hasattr(made, "shape") and hasattr(made, "dtype")):
        raise InvalidInput(
            f"a {type(made).__name__}; return the waveform alone, a numpy array or torch tensor [channels, time]"
        )
    if hasattr(made, "detach"):
        made = made.detach().cpu()
        # numpy has no bfloat16, which float32 holds exactly
        made = made.float() if made.is_floating_point() else made
    array: NDArray[Any] = np.asarray(made)
    return array[np.newaxis] if array.ndim == 1 else array


def _shape_fault(shape: tuple[int, ...], channels: int) -> str | None:
    """Return what is wrong with the shape of a waveform, and the way out; None where nothing is."""
    if len(shape) == 3 and shape[0] == 1:
        return "expected [channels, time]; return waveform[0]"
    if len(shape) == 3:
        return "expected [channels, time]; return one waveform, or pass batch_size to wrap to be given several seeds"
    if len(shape) != 2:
        return "expected [channels, time]; return one waveform"
    if 0 in shape:
        return "which is no audio; return at least one sample"
    if shape[0] == channels:
        return None
    if shape[0] > shape[1]:
        return "which looks like [time, channels]; return waveform.T"
    return (
        f"which is {shape[0]} channels where wrap was told channels={channels}; return that many, or pass "
        f"channels={shape[0]} to wrap"
    )
