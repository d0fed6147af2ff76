"""The training loop on a toy recipe: it goes on as if it had not been stopped, wherever it was, and keeps a running mean."""

import math
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rerank.errors import InvalidInput, RerankError, WeightsError
from rerank.protocols import Progress
from rerank.training.loop import Loop, LoopOptions, claim
from rerank.training.recipe import OnProgress, Stage

OPTIONS = LoopOptions(seed=3, checkpoint_every=2)
STEPS = 9


class Toy:
    """Fits a line through noise, with dropout, a helper of its own, and a weight that is frozen.

    Args:
        at_step: called with the number of each step, in the middle of it.
    """

    def __init__(self, at_step: Callable[[int], object] = lambda step: None) -> None:
        torch.manual_seed(1)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.model[2].bias.requires_grad_(False)
        self.helpers = {"reader": nn.Linear(4, 1)}
        self.stages = (Stage("begin", 4), Stage("nothing", 0), Stage("end", STEPS - 4, averaged=True))
        self.at_step = at_step
        self.begun: list[str] = []

    def learning_rate(self, step: int) -> float:
        return 0.01 / (1 + step)

    def begin(self, stage: str, on_progress: OnProgress) -> None:
        self.begun.append(stage)

    def losses(self, stage: str, step: int) -> dict[str, Tensor]:
        self.at_step(step)
        data = torch.randn(16, 4)
        found = {"fit": F.mse_loss(self.model(data)[:, 0], data.sum(1))}
        return found if stage == "end" else found | {"read": F.mse_loss(self.helpers["reader"](data)[:, 0], data[:, 0])}


def weights(module: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in module.parameters()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.fixture
def whole(tmp_path: Path) -> Loop:
    """A run that nothing stopped."""
    (tmp_path / "whole").mkdir()
    loop = Loop(Toy(), tmp_path / "whole", OPTIONS, "cpu")
    loop.run()
    return loop


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        assert signal.getsignal(number) is handler, "a handler was not put back"


@pytest.mark.parametrize("stop", range(1, STEPS))
def test_a_run_goes_on_after_whatever_ended_it(whole: Loop, tmp_path: Path, stop: int) -> None:
    def fail(progress: Progress) -> None:
        if progress.done == stop:
            raise OSError("the screen is gone")

    with pytest.raises(OSError, match="the screen is gone"):
        Loop(Toy(), tmp_path, OPTIONS, "cpu", fail).run()
    loop = Loop(Toy(), tmp_path, OPTIONS, "cpu")
    assert loop.step == stop - stop % OPTIONS.checkpoint_every, "the last checkpoint"
    result = loop.run()
    assert same(weights(result), weights(whole.mean.module)) and loop.losses == whole.losses
    assert same(weights(loop.recipe.model), weights(whole.recipe.model))


@pytest.mark.parametrize("step", [0, 3, 4, STEPS - 1])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_waits_for_the_end_of_its_step(whole: Loop, tmp_path: Path, step: int, number: int) -> None:
    def interrupt(now: int) -> None:
        if now == step:
            signal.raise_signal(number)
            signal.raise_signal(number)  # an impatient user

    before = signal.signal(number, signal.default_int_handler)
    try:
        stopped = Loop(Toy(interrupt), tmp_path, OPTIONS, "cpu")
        with pytest.raises(KeyboardInterrupt):
            stopped.run()
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    loop = Loop(Toy(), tmp_path, OPTIONS, "cpu")
    assert loop.step == stopped.step == step + 1, "the step that was interrupted is kept"
    assert same(weights(loop.run()), weights(whole.mean.module)) and loop.losses == whole.losses


def test_it_runs_in_a_thread(whole: Loop, tmp_path: Path) -> None:
    loop = Loop(Toy(), tmp_path, OPTIONS, "cpu")
    thread = threading.Thread(target=loop.run)
    thread.start()
    thread.join()
    assert loop.losses == whole.losses


def test_stages_rates_and_progress(tmp_path: Path) -> None:
    rates: list[float] = []
    seen: list[Progress] = []
    recipe = Toy()
    loop = Loop(recipe, tmp_path, OPTIONS, "cpu", seen.append)
    recipe.at_step = lambda step: rates.append(loop.optimizer.param_groups[1]["lr"])
    loop.run()
    names = [*(4 * ["begin"]), *((STEPS - 4) * ["end"])]
    assert recipe.begun == names
    assert seen == [Progress(name, done, STEPS) for done, name in enumerate(names, start=1)]
    assert rates == [recipe.learning_rate(step) for step in range(STEPS)]
    assert [set(row) for row in loop.losses] == [{"fit", "read"} if name == "begin" else {"fit"} for name in names]


def test_what_is_frozen_stays(whole: Loop) -> None:
    changed = [
        not torch.equal(one, other)
        for one, other in zip(weights(Toy().model), weights(whole.recipe.model), strict=True)
    ]
    assert changed == [True, True, True, False]


def test_the_result_is_the_running_mean_of_the_averaged_stage(tmp_path: Path) -> None:
    recipe, history = Toy(), list[list[Tensor]]()
    loop = Loop(recipe, tmp_path, OPTIONS, "cpu", lambda progress: history.append(weights(recipe.model)))
    result = loop.run()
    expected = history[4]
    for row in history[5:]:
        expected = [0.995 * mean + 0.005 * now for mean, now in zip(expected, row, strict=True)]
    for mean, now, last in zip(weights(result), expected, history[-1], strict=True):
        torch.testing.assert_close(mean, now)
        assert mean.numel() == 1 or not torch.equal(mean, last)
    assert not result.training


class Idle(Toy):
    """Learns nothing."""

    def losses(self, stage: str, step: int) -> dict[str, Tensor]:
        return {"nothing": torch.stack([weight.sum() * 0 for weight in self.model.parameters()]).sum()}


class Failing(Toy):
    """Has a loss that is not finite in step 5."""

    def losses(self, stage: str, step: int) -> dict[str, Tensor]:
        return {**super().losses(stage, step), "other": torch.tensor(math.nan if step == 5 else 0.0)}


def test_matrices_decay_and_vectors_do_not(tmp_path: Path) -> None:
    recipe = Idle()
    before = weights(recipe.model)
    Loop(recipe, tmp_path, OPTIONS, "cpu").run()
    kept = math.prod(1 - recipe.learning_rate(step) * OPTIONS.weight_decay for step in range(STEPS))
    for old, new in zip(before, weights(recipe.model), strict=True):
        torch.testing.assert_close(new, old * kept if old.ndim == 2 else old, rtol=1e-6, atol=0)


def test_a_loss_that_is_not_finite_ends_the_run_before_it_reaches_a_weight(tmp_path: Path) -> None:
    recipe = Failing()
    with pytest.raises(RerankError, match=r"step 5: the loss 'other' is nan"):
        Loop(recipe, tmp_path, OPTIONS, "cpu").run()
    assert all(bool(weight.isfinite().all()) for weight in recipe.model.parameters())
    assert Loop(Toy(), tmp_path, OPTIONS, "cpu").step == 4


def test_a_checkpoint_that_does_not_fit_is_refused(whole: Loop) -> None:
    path = whole.folder / "checkpoint.pt"
    other = Toy()
    other.helpers = {"writer": nn.Linear(4, 1)}
    with pytest.raises(WeightsError, match=r"checkpoint.pt is broken or not of this training .*; remove it"):
        Loop(other, whole.folder, OPTIONS, "cpu")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"checkpoint.pt is broken or not of this training .*; remove it"):
        Loop(Toy(), whole.folder, OPTIONS, "cpu")


def test_there_is_no_such_device(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="device 'banana' is not available here"):
        Loop(Toy(), tmp_path, OPTIONS, "banana")


def test_a_folder_belongs_to_the_options_it_was_begun_with(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    for _ in range(2):
        claim(folder, {"seed": 7, "model": {"dim": 8}})
    with pytest.raises(InvalidInput, match=r"holds a run with other options; give another folder or the options of"):
        claim(folder, {"seed": 8, "model": {"dim": 8}})
