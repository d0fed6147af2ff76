"""How fast is our engine for MusicGen here, against what a user would run instead, and what does bfloat16 change?

The model has the sizes of `musicgen-small` and random weights unless a folder is given: the number of steps is fixed, so
timings do not depend on what the weights are; differences between precisions do.

**Conventions**: seconds of wall time from prompt to waveforms, after loading and a short first run; each way runs in a
process of its own, whose peak memory (GiB) is that of loading and running.

**Metrics**
- loop: `generate` of transformers for one candidate, times the number of candidates: one after another, a seed for each
- batched: `generate` of transformers for all candidates at once, which has no seed for each
- ours: `MusicGen.generate`, with a seed for each; and how many times as fast as batched and loop of the same precision
- bound: reading the weights once per step and the tables of keys and values as far as they are filled, at the rate at
  which this machine reads memory, or all products at the rate of a large one, whichever takes longer; on top, nothing
- precision: bfloat16 (on a GPU float16 too) against float32 for known columns: error of the logits relative to their
  spread, Kullback-Leibler divergence of what is drawn from, and the frame in which the codes of a seed first differ
"""

import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, MusicgenForConditionalGeneration

from rerank.data import Prompt
from rerank.errors import InvalidInput, UnknownName
from rerank.eval.speed.machine import machine
from rerank.eval.speed.random_musicgen import Sizes, save_random_musicgen
from rerank.eval.speed.timing import peak_memory, shortest
from rerank.generators.dtypes import DTYPES
from rerank.generators.musicgen import MusicGen
from rerank.generators.musicgen.checkpoint import quiet
from rerank.generators.musicgen.sampling import guide, keep_top
from rerank.models.device import has_fast_bfloat16, resolve_device
from rerank.protocols import Progress

TEXT = "slow warm piano with vinyl crackle"

_SHORT = 0.5
"""Seconds of audio of the first run, which is not counted."""


@dataclass(frozen=True, kw_only=True)
class MusicgenSpeedOptions:
    """Options of `evaluate`.

    Attributes:
        n: candidates.
        duration: of each, in seconds.
        compared: seeds whose codes are compared between precisions; 0 leaves precision out.
        dtype: the only precision to measure; None for all that pay on this machine.
        device: see `MusicGen`.
    """

    n: int = 10
    duration: float = 10.0
    compared: int = 4
    dtype: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.n < 1 or self.compared < 0 or not 0.5 <= self.duration <= 30:
            raise InvalidInput(
                "musicgen speed needs n of at least 1, compared of at least 0 and a duration of 0.5 to 30 s, "
                f"got {self.n}, {self.compared} and {self.duration}"
            )
        if self.dtype is not None and self.dtype not in DTYPES:
            raise UnknownName.among("dtype", self.dtype, DTYPES)


def evaluate(
    folder: Path | None, options: MusicgenSpeedOptions, on_progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Return all metrics, with the options and the machine they were measured on.

    Args:
        folder: with a model as transformers saves it; None for random weights at the size of `musicgen-small`.
        options: what to measure.
        on_progress: called after each measurement.

    Raises:
        WeightsError: the folder does not hold a MusicGen model.
    """
    device = resolve_device(options.device)
    dtypes = _dtypes(device, options.dtype)
    ways = [(way, dtype) for dtype in dtypes for way in ("loop", "batched", "ours")]
    steps = len(ways) + 1
    report = on_progress or (lambda progress: None)
    with tempfile.TemporaryDirectory() as made:
        source = folder or save_random_musicgen(Path(made), Sizes())
        MusicGen(path=source, device=options.device, dtype="float32")  # says what is wrong with a folder at once
        metrics: dict[str, Any] = {}
        for done, (way, dtype) in enumerate(ways, start=1):
            seconds, memory, bound = _alone(_timed, way, source, dtype, options)
            metrics |= {f"{way}, {dtype}": round(seconds, 2), f"{way}, {dtype}, peak GiB": round(memory, 2)}
            if way == "ours":
                for other in ("batched", "loop"):
                    times = metrics[f"{other}, {dtype}"] / seconds
                    metrics[f"ours, {dtype}, times as fast as {other}"] = round(times, 2)
                metrics[f"ours, {dtype}, times the bound"] = round(seconds / bound, 2)
            report(Progress("measuring", done, steps))
        if options.compared:
            for dtype in set(dtypes) - {"float32"}:
                metrics |= {
                    f"{dtype}, {name}": value for name, value in _alone(_precision, source, dtype, options).items()
                }
        report(Progress("measuring", steps, steps))
    return {"metrics": metrics, "options": asdict(options), "machine": machine()}


def _dtypes(device: torch.device, chosen: str | None) -> list[str]:
    if chosen is not None:
        return [chosen]
    if device.type == "cuda":
        return ["float32", "float16", "bfloat16"]
    return ["float32", "bfloat16"] if has_fast_bfloat16() else ["float32"]


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own: its memory is counted from nothing, and is free again after it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _timed(way: str, folder: Path, dtype: str, options: MusicgenSpeedOptions) -> tuple[float, float, float]:
    """Return seconds and peak memory in GiB of one way to make all candidates, and the bound of ours, else 0."""
    device = resolve_device(options.device)
    n = 1 if way == "loop" else options.n
    run = _ours(folder, dtype, options, n) if way == "ours" else _theirs(folder, dtype, device, n)
    run(_SHORT)
    seconds = shortest(lambda: run(options.duration), 1, device) * (options.n if way == "loop" else 1)
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()
    return seconds, memory / 2**30, _bound(folder, dtype, options) if way == "ours" else 0.0


def _ours(folder: Path, dtype: str, options: MusicgenSpeedOptions, n: int) -> Callable[[float], None]:
    generator = MusicGen(path=folder, device=options.device, dtype=dtype)

    def run(duration: float) -> None:
        made = list(generator.generate(Prompt(TEXT), range(n), duration))
        assert len(made) == n

    return run


def _theirs(folder: Path, dtype: str, device: torch.device, n: int) -> Callable[[float], None]:
    with quiet():
        model: Any = MusicgenForConditionalGeneration.from_pretrained(folder, dtype=DTYPES[dtype])
    model.to(device).eval()
    inputs = AutoTokenizer.from_pretrained(folder)([TEXT] * n, padding=True, return_tensors="pt").to(device)

    def run(duration: float) -> None:
        torch.manual_seed(0)
        columns = round(duration * 50) + 3
        with quiet():
            made = model.generate(**inputs, do_sample=True, guidance_scale=3.0, top_k=250, max_new_tokens=columns)
        assert made.cpu().shape == (n, 1, (columns - 3) * 640)

    return run


def _bound(folder: Path, dtype: str, options: MusicgenSpeedOptions) -> float:
    """Return the least seconds that the steps can take on this machine."""
    engine = MusicGen(path=folder, device=options.device, dtype=dtype)._engine
    steps, rows = round(options.duration * 50) + 3, 2 * options.n
    # the projections of the text are read once, not in each step
    weights = sum(part.outputs * part.inputs for name, part in engine.products() if not name.endswith("text_read"))
    tables = 2 * len(engine.layers) * engine.dim * rows * steps / 2
    size = 2**28
    source = torch.randn(size // 4, device=engine.device)
    matrix = torch.randn(2048, 2048, device=engine.device).to(engine.dtype)
    reading = size / shortest(lambda: source.sum(), 10, engine.device)
    multiplying = 2 * 2048**3 / shortest(lambda: matrix @ matrix, 10, engine.device)
    by_memory = (weights + tables) * engine.dtype.itemsize / reading
    return steps * max(by_memory, 2 * weights * rows / multiplying)


def _precision(folder: Path, dtype: str, options: MusicgenSpeedOptions) -> dict[str, float]:
    """Return how far a precision is from float32."""
    exact, rounded = (MusicGen(path=folder, device=options.device, dtype=one) for one in ("float32", dtype))
    codes = [
        np.stack([made.codes for made in one.generate(Prompt(TEXT), range(options.compared), options.duration)])  # type: ignore[misc]
        for one in (exact, rounded)
    ]
    columns = torch.from_numpy(codes[0][0].astype(np.int64))
    logits = [_guided(one, columns) for one in (exact, rounded)]
    first, second = (keep_top(one, 250).double().log_softmax(-1) for one in logits)
    both = first.isfinite() & second.isfinite()
    apart = (first.exp() * (first - second)).where(both, 0.0).sum(-1)
    differ = (codes[0] != codes[1]).any(1)
    frames = [int(row.argmax()) if row.any() else len(row) for row in differ]
    return {
        "error of logits, relative to their spread": round(float((logits[1] - logits[0]).std() / logits[0].std()), 5),
        "divergence of what is drawn from, nats": round(float(apart.mean()), 6),
        "first frame that differs, mean": float(np.mean(frames)),
    }


def _guided(generator: MusicGen, columns: torch.Tensor) -> torch.Tensor:
    """Return the guided logits that follow each of some known columns."""
    mine, other = (generator._engine.logits(side, columns) for side in generator._checkpoint.sides(TEXT, "", None))
    return guide(mine, other, 3.0)
