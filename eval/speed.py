"""How long does best-of-N take, and how much memory?

**Conventions**: seconds of wall time, the best of several runs; memory is the peak resident set of the process, in MiB.

**Metrics**
- import: `import rerank` in a fresh process
- cold start: the whole command `rerank generate` in a fresh process, with its peak memory
- generation and rewarding: both halves of that command, as it logs them, and the share of rewarding in the whole
- rewarding by number of candidates, in a warm process, the prompt included
- against scoring one by one: what a loop over `rerank.score`, which prepares the prompt each time, takes as a ratio
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rerank.audio import Audio
from rerank.data import Prompt
from rerank.errors import InvalidInput, RerankError
from rerank.eval.machine import machine
from rerank.protocols import Generator, Progress, Reward
from rerank.scoring import score_each

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
    return {
        "generator": names[0],
        "reward": names[1],
        "options": asdict(options),
        "machine": machine(),
        "metrics": metrics,
    }


def _best(times: Sequence[float]) -> float:
    return round(min(times), 3)


def _import(options: SpeedOptions) -> dict[str, Any]:
    code = "import time; t = time.perf_counter(); import rerank; print(time.perf_counter() - t)"
    times = [float(_run([sys.executable, "-c", code])) for _ in range(options.repeats + 1)]
    return {"import": _best(times[1:])}


def _cold_start(generator: str, reward: str, options: SpeedOptions) -> dict[str, Any]:
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(options.repeats):
            command = [
                sys.executable, "-m", "rerank", "generate", options.prompt, "-n", str(options.n), "--verbose",
                "--duration", str(options.duration), "--generator", generator, "--reward", reward,
                "-o", str(Path(folder) / str(repeat)),
            ]  # fmt: skip
            runs.append(_measured(command, Path(folder)))
    seconds, peak, messages = min(runs)
    generating, rewarding = (
        float(re.findall(rf"^{phase} .* in ([\d.]+) s", messages, re.MULTILINE)[0])
        for phase in ("generated", "rewarded")
    )
    return {
        "cold start": round(seconds, 3),
        "peak memory": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
        "generation": generating,
        "rewarding": rewarding,
        "share of rewarding": round(rewarding / seconds, 3),
    }


def _measured(command: Sequence[str], folder: Path) -> tuple[float, int, str]:
    """Return the wall time, the peak memory as the system counts it, and what was printed to standard error."""
    with (folder / "stderr").open("w+", encoding="utf-8") as messages:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=messages)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)  # it is collected already
        messages.seek(0)
        told = messages.read()
    if process.returncode:
        raise RerankError(f"{' '.join(command[:4])} ... failed: {told.strip()[-300:]}")
    return seconds, usage.ru_maxrss, told


def _run(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _warm(generator: Generator, reward: Reward, options: SpeedOptions) -> dict[str, Any]:
    prompt = Prompt(options.prompt)
    most = max(*COUNTS, options.n)
    made = [c.audio for c in generator.generate(prompt, range(1000, 1000 + most), options.duration) if c.audio]

    def seconds(pieces: Sequence[Sequence[Audio]]) -> float:
        """Return how long it takes to reward each group of pieces, the prompt prepared for each group."""
        times = []
        for _ in range(options.repeats + 1):
            started = time.perf_counter()
            for group in pieces:
                list(score_each(reward, prompt, group))
            times.append(time.perf_counter() - started)
        return _best(times[1:])

    counted = {count: seconds([made[:count]]) for count in COUNTS}
    together, one_by_one = seconds([made[: options.n]]), seconds([[audio] for audio in made[: options.n]])
    slope, first = np.polyfit(list(counted), list(counted.values()), 1)
    return {
        "rewarding by number of candidates": counted,
        "rewarding, the prompt": round(float(first), 4),
        "rewarding, each candidate": round(float(slope), 4),
        "rewarding one by one, ratio": round(one_by_one / together, 2),
    }
