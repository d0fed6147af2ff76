"""How long a call takes, and how much memory a process took at most."""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def shortest(run: Callable[[], object], repeats: int, device: "torch.device | None" = None) -> float:
    """Return the seconds of the shortest of so many calls, what a GPU still has to do included."""
    times = []
    for _ in range(repeats):
        wait(device)
        started = time.perf_counter()
        run()
        wait(device)
        times.append(time.perf_counter() - started)
    return min(times)


def wait(device: "torch.device | None") -> None:
    """Wait until a GPU has done what it was given."""
    if device is not None and device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def peak_memory() -> int:
    """Return the peak resident set of this process in bytes.

    On Linux that of `getrusage`, and of `wait4`, may be that of the process which started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
