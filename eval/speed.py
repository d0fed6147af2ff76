"""How long does best-of-N take, and how much memory?

**Conventions**: seconds of wall time, the best of several runs; memory is the peak resident set of the process, in MiB.

**Metrics**
- import: `import rerank` in a fresh process
- cold start: the whole command `rerank generate` in a fresh process, with its peak memory
- generation and rewarding: both halves of it in a warm process, and rewarding by number of candidates
- against scoring one by one: what a loop that prepares the prompt for every candidate takes, as a ratio
"""

import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rerank.data import Prompt
from rerank.errors import InvalidInput, RerankError
from rerank.protocols import Generator, Progress, Reward

COUNTS = (1, 2, 5, 10, 20, 40)
"""Numbers of candidates that rewarding is timed with."""


@dataclass(frozen=True, kw_only=True)
class SpeedOptions:
    """Options of `evaluate`.

    Attributes:
        prompt: text of the prompt.
        n: candidates.
        duration: of each, in seconds.
        repeats: runs, of which the best counts.
    """

    prompt: str = "warm lo-fi piano, slow, vinyl crackle"
    n: int = 10
    duration: float = 10.0
    repeats: int = 3

    def __post_init__(self) -> None:
        if self.n < 1 or self.repeats < 1:
            raise InvalidInput(f"speed needs n and repeats of at least 1, got {self.n} and {self.repeats}")


def evaluate(
    generator: Generator,
    reward: Reward,
    options: SpeedOptions,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Return all metrics, with the options and the machine they were measured on."""
    report = on_progress or (lambda progress: None)
    names = (generator.info.name, reward.info.name)
    metrics: dict[str, Any] = {}
    measures: Sequence[Callable[[], dict[str, Any]]] = (
        lambda: _import(options),
        lambda: _cold_start(*names, options),
        lambda: _warm(generator, reward, options),
    )
    for done, measure in enumerate(measures):
        report(Progress("measuring", done, len(measures)))
        metrics |= measure()
    report(Progress("measuring", len(measures), len(measures)))
    machine = {"processor": _processor(), "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
               "system": platform.platform(), "python": platform.python_version()}  # fmt: skip
    return {
        "generator": names[0],
        "reward": names[1],
        "options": asdict(options),
        "machine": machine,
        "metrics": metrics,
    }


def _best(times: Sequence[float]) -> float:
    return round(min(times), 3)


def _import(options: SpeedOptions) -> dict[str, Any]:
    code = "import time; t = time.perf_counter(); import rerank; print(time.perf_counter() - t)"
    times = [float(_run([sys.executable, "-c", code])) for _ in range(options.repeats + 1)]
    return {"import": _best(times[1:])}


def _cold_start(generator: str, reward: str, options: SpeedOptions) -> dict[str, Any]:
    times = []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(options.repeats):
            command = [
                sys.executable, "-m", "rerank", "generate", options.prompt, "-n", str(options.n),
                "--duration", str(options.duration), "--generator", generator, "--reward", reward,
                "-o", str(Path(folder) / str(repeat)),
            ]  # fmt: skip
            started = time.perf_counter()
            _run(command)
            times.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"cold start": _best(times), "peak memory": round(peak / (2**20 if sys.platform == "darwin" else 2**10))}


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RerankError(f"{' '.join(command[:4])} ... failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def _warm(generator: Generator, reward: Reward, options: SpeedOptions) -> dict[str, Any]:
    prompt = Prompt(options.prompt)
    most = max(*COUNTS, options.n)
    generating, rewarding, one_by_one = [], [], []
    by_count: dict[int, list[float]] = {count: [] for count in COUNTS}
    candidates = [c.audio for c in generator.generate(prompt, range(1000, 1000 + most), options.duration) if c.audio]
    ours = candidates[: options.n]
    for repeat in range(options.repeats + 1):
        seeds = range(repeat * options.n, (repeat + 1) * options.n)
        generating.append(_time(lambda seeds=seeds: list(generator.generate(prompt, seeds, options.duration))))  # type: ignore[misc]
        rewarding.append(_time(lambda: reward.score(reward.prepare(prompt), ours)))
        one_by_one.append(_time(lambda: [reward.score(reward.prepare(prompt), [audio]) for audio in ours]))
        for count, times in by_count.items():
            prepared = reward.prepare(prompt)
            times.append(_time(lambda prepared=prepared, count=count: reward.score(prepared, candidates[:count])))  # type: ignore[misc]
    counted = {count: _best(times[1:]) for count, times in by_count.items()}
    slope, _ = np.polyfit(list(counted), list(counted.values()), 1)
    return {
        "generation": _best(generating[1:]),
        "rewarding": _best(rewarding[1:]),
        "rewarding one by one": _best(one_by_one[1:]),
        "ratio to one by one": round(min(one_by_one[1:]) / min(rewarding[1:]), 2),
        "rewarding by number of candidates": counted,
        "rewarding, each further candidate": round(float(slope), 4),
        "share of rewarding": round(min(rewarding[1:]) / (min(rewarding[1:]) + min(generating[1:])), 3),
    }


def _time(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
