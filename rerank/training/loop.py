"""The loop of a training run: steps, device, running mean, checkpoints, Ctrl-C. What is learnt is said by a recipe.

A step depends on the recipe, the seed and its number alone, and a checkpoint holds all that the next step needs, so a run
that was stopped goes on as if it had not been. On another kind of processor, or with another number of threads, sums come
out differently in the last digits, and so do the weights; on a GPU they may do so from run to run.
"""

import contextlib
import io
import json
import logging
import math
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rerank.errors import InvalidInput, RerankError, WeightsError, one_line
from rerank.files import make_folder, write_bytes
from rerank.models.device import has_fast_bfloat16, resolve_device
from rerank.protocols import Progress
from rerank.training.recipe import OnProgress, Recipe, Stage

log = logging.getLogger("rerank")


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """Options of a `Loop`.

    Attributes:
        seed: of the random numbers of torch in each step.
        checkpoint_every: steps.
        weight_decay: of matrices; vectors have none.
        betas: of AdamW.
        largest_gradient: norm that gradients are cut down to.
        mean_decay: share of the running mean that stays in each step.
    """

    seed: int = 0
    checkpoint_every: int = 100
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    largest_gradient: float = 1.0
    mean_decay: float = 0.995


class Loop:
    """One training run: where it stands, and all that its next step needs.

    Args:
        recipe: what to learn; its model and helpers are moved to the device.
        folder: that takes the checkpoint; one that is there is gone on from.
        options: see `LoopOptions`.
        device: "auto" (the GPU if there is one), or a torch device name.
        on_progress: called after each step, and by the recipe.

    Raises:
        InvalidInput: there is no such device.
        WeightsError: the checkpoint is broken, or is not of this recipe.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        options: LoopOptions,
        device: str = "auto",
        on_progress: OnProgress = lambda progress: None,
    ) -> None:
        assert any(stage.averaged and stage.steps for stage in recipe.stages), "nothing would be kept"
        self.recipe, self.folder, self.options, self.on_progress = recipe, folder, options, on_progress
        self.device = resolve_device(device)
        self.step = 0
        self.losses: list[dict[str, float]] = []
        self.parts = {"model": recipe.model, **recipe.helpers}
        for part in self.parts.values():
            part.to(self.device)
        running_mean = get_ema_multi_avg_fn(options.mean_decay)  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.mean = AveragedModel(recipe.model, multi_avg_fn=running_mean)
        learning = [weight for weight in self._weights() if weight.requires_grad]
        groups = [
            {"params": [weight for weight in learning if weight.ndim >= 2], "weight_decay": options.weight_decay},
            {"params": [weight for weight in learning if weight.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=options.betas)
        self._stored: dict[str, Any] = {**self.parts, "mean": self.mean, "optimizer": self.optimizer}
        self._resume()

    @property
    def steps(self) -> int:
        """Return the number of all steps."""
        return sum(stage.steps for stage in self.recipe.stages)

    def stage(self, step: int) -> Stage:
        """Return the stage that `step` belongs to."""
        end = 0
        for stage in self.recipe.stages:
            end += stage.steps
            if step < end:
                return stage
        raise IndexError(f"step {step} of {end}")

    def run(self) -> nn.Module:
        """Run all steps that are left, and return the running mean of the model.

        Ctrl-C waits for the end of a step, whose result is kept.

        Raises:
            KeyboardInterrupt: by Ctrl-C.
            RerankError: a loss is not finite.
            OutputError: the checkpoint cannot be written.
        """
        try:
            while self.step < self.steps:
                stage = self.stage(self.step)
                self.recipe.begin(stage.name, self.on_progress)
                with _uninterrupted():
                    self._run_step(stage)
                self.on_progress(Progress(stage.name, self.step, self.steps))
        except KeyboardInterrupt:
            self._checkpoint()
            log.info("stopped at step %d of %d, from which the same run goes on", self.step, self.steps)
            raise
        averaged: nn.Module = self.mean.module
        return averaged.eval()

    def _run_step(self, stage: Stage) -> None:
        """Run one step, and write a checkpoint when one is due."""
        torch.manual_seed(self.options.seed * 1_000_003 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate(self.step)
        for part in self.parts.values():
            part.train()
        # the plain attention kernel: its backward pass is twice as fast on processors with bfloat16
        kernel = sdpa_kernel(SDPBackend.MATH) if self.device.type == "cpu" else contextlib.nullcontext()
        with computing(self.device), kernel:
            losses = self.recipe.losses(stage.name, self.step)
        total = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        nn.utils.clip_grad_norm_(self._weights(), self.options.largest_gradient)
        self.losses.append(_numbers(losses, self.step))
        self.optimizer.step()
        if stage.averaged:
            self.mean.update_parameters(self.recipe.model)
        self.step += 1
        if self.step % self.options.checkpoint_every == 0 or self.step == self.steps:
            self._checkpoint()
            self._tell()

    def _weights(self) -> list[nn.Parameter]:
        return [weight for part in self.parts.values() for weight in part.parameters()]

    def _tell(self) -> None:
        """Say how large the losses of the last stage were, on average over the steps since the last checkpoint."""
        recent = self.losses[-self.options.checkpoint_every :]
        rows = {name: [row[name] for row in recent if name in row] for name in recent[-1]}
        means = {name: round(math.fsum(row) / len(row), 3) for name, row in rows.items()}
        log.info("step %d of %d: %s", self.step, self.steps, means)

    def _checkpoint(self) -> None:
        """Write everything that the next step needs."""
        state = {name: part.state_dict() for name, part in self._stored.items()}
        content = io.BytesIO()
        torch.save({**state, "step": self.step, "losses": self.losses}, content)
        write_bytes(self.folder / "checkpoint.pt", content.getvalue())

    def _resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            for name, part in self._stored.items():
                part.load_state_dict(state[name])
            self.step, self.losses = state["step"], state["losses"]
        except Exception as error:  # what torch raises for a broken file is of many kinds
            raise WeightsError(
                f"the checkpoint {path} is broken or not of this training ({one_line(error)}); remove it to begin again"
            ) from error


def claim(folder: Path, options: Mapping[str, Any]) -> None:
    """Make the folder of a training run and write down its options, or see that they are those of the run it holds.

    Raises:
        InvalidInput: `folder` holds a run with other options.
        OutputError: it cannot be written.
    """
    make_folder(folder)
    path = folder / "options.json"
    document = json.dumps(options, indent=1)
    if not path.exists():
        write_bytes(path, document.encode())
    elif path.read_text(encoding="utf-8") != document:
        raise InvalidInput(f"{folder} holds a run with other options; give another folder or the options of {path}")


def _numbers(losses: Mapping[str, Tensor], step: int) -> dict[str, float]:
    """Return the losses as numbers.

    Raises:
        RerankError: one is not finite, from which no weight would recover.
    """
    found = {name: float(loss.detach()) for name, loss in losses.items()}
    for name, value in found.items():
        if not math.isfinite(value):
            raise RerankError(
                f"training went wrong in step {step}: the loss {name!r} is {value}; lower the learning rate"
            )
    return found


@contextlib.contextmanager
def computing(device: torch.device) -> Iterator[None]:
    """Compute in bfloat16 where that is fast."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            half = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        half = device.type == "cpu" and has_fast_bfloat16()
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        yield


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and requests to end back while the block runs; they come through after it.

    Signals reach the main thread alone, so in another one there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    # None stands for a handler that is not Python's, which could not be put back
    numbers = [one for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is not None]
    before = {number: signal.signal(number, lambda number, frame: held.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if held:
        signal.raise_signal(held[0])
