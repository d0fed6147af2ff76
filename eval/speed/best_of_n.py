"""How long does best-of-N take, and how much memory?

**Conventions**: seconds of wall time, the best of several runs; memory is the peak resident set of the process, in MiB.

**Metrics**
- import: `import rerank` in a fresh process
- cold start: the whole command `rerank generate` in a fresh process, with its peak memory
- generation and rewarding: both halves of that command, as it logs them, and the share of rewarding in the whole
- rewarding by number of candidates, in a warm process, the prompt included, nothing remembered
- against scoring one by one: what a loop over `rerank.score`, which prepares the prompt each time, takes as a ratio
"""

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
from rerank.eval.speed.machine import machine
from rerank.eval.speed.timing import shortest
from rerank.protocols import Generator, Progress, Reward
from rerank.scoring import score_each

COUNTS = (1, 2, 5, 10, 20, 40)
"""Numbers of candidates that rewarding is timed with, as far as they are not more than four times those of a run."""

_COMMAND = """
import atexit, sys
from rerank.eval.speed.timing import peak_memory
atexit.register(lambda: print("peak memory", peak_memory(), file=sys.stderr))
from rerank.cli import main
main()
"""
"""The command, which says at its end how much memory it took; nobody else can tell, see `peak_memory`."""


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
        "version": reward.info.version,
        "options": asdict(options),
        "machine": machine(),
        "metrics": metrics,
    }


def _import(options: SpeedOptions) -> dict[str, Any]:
    code = "import sys, time; t = time.perf_counter(); import rerank; print(time.perf_counter() - t, file=sys.stderr)"
    times = [float(_run([sys.executable, "-c", code])) for _ in range(options.repeats + 1)]
    return {"import": round(min(times[1:]), 3)}


def _cold_start(generator: str, reward: str, options: SpeedOptions) -> dict[str, Any]:
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(options.repeats):
            command = [
                sys.executable, "-c", _COMMAND, "generate", options.prompt, "-n", str(options.n), "--verbose",
                "--duration", str(options.duration), "--generator", generator, "--reward", reward,
                "-o", str(Path(folder) / str(repeat)),
            ]  # fmt: skip
            started = time.perf_counter()
            messages = _run(command)
            runs.append((time.perf_counter() - started, messages))
    seconds, messages = min(runs)
    generating, rewarding = (_told(rf"^{phase} .* in ([\d.]+) s", messages) for phase in ("generated", "rewarded"))
    return {
        "cold start": round(seconds, 3),
        "peak memory": round(_told(r"^peak memory (\d+)", messages) / 2**20),
        "generation": generating,
        "rewarding": rewarding,
        "share of rewarding": round(rewarding / seconds, 3),
    }


def _run(command: Sequence[str]) -> str:
    """Run a command, and return what it says on standard error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RerankError(f"{' '.join(command[3:6])} ... failed: {done.stderr.strip()[-300:]}")
    return done.stderr


def _told(pattern: str, messages: str) -> float:
    """Return the number that a command said of itself."""
    found = re.findall(pattern, messages, re.MULTILINE)
    if len(found) != 1:
        raise RerankError(f"the command said {len(found)} times what was to be measured ({pattern}): {messages[-300:]}")
    return float(found[0])


def _warm(generator: Generator, reward: Reward, options: SpeedOptions) -> dict[str, Any]:
    prompt = Prompt(options.prompt)
    counts = [count for count in COUNTS if count <= 4 * options.n]
    forget: Callable[[], None] = getattr(reward, "forget", lambda: None)
    most = max(*counts, options.n)
    made = [c.audio for c in generator.generate(prompt, range(1000, 1000 + most), options.duration) if c.audio]

    def seconds(pieces: Sequence[Sequence[Audio]]) -> float:
        """Return how long it takes to reward each group of pieces, the prompt prepared for each group."""

        def run() -> None:
            for group in pieces:
                forget()
                list(score_each(reward, prompt, group))

        run()
        return shortest(run, options.repeats)

    counted = {count: seconds([made[:count]]) for count in counts}
    together, one_by_one = seconds([made[: options.n]]), seconds([[audio] for audio in made[: options.n]])
    slope, first = np.polyfit(list(counted), list(counted.values()), 1)
    return {
        "rewarding by number of candidates": {count: round(value, 3) for count, value in counted.items()},
        "rewarding, the prompt": round(float(first), 4),
        "rewarding, each candidate": round(float(slope), 4),
        "rewarding one by one, ratio": round(one_by_one / together, 2),
    }
