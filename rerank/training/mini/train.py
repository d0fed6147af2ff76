"""Train `cmi-mini`: from an empty folder to weights."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rerank.models.cmi import RewardModel
from rerank.models.device import resolve_device
from rerank.protocols import Progress
from rerank.rewards.mini import save_mini
from rerank.training.loop import Loop, LoopOptions, claim
from rerank.training.mini import dataset
from rerank.training.mini.options import TrainOptions
from rerank.training.mini.recipe import MiniRecipe


def train(
    folder: Path,
    options: TrainOptions,
    on_progress: Callable[[Progress], None] | None = None,
    device: str = "auto",
) -> Path:
    """Render the data, train, and write the weights to `folder / "cmi-mini"`; go on where an earlier run stopped.

    Args:
        folder: of data, checkpoints and result. About 60 MB per shard.
        options: must be those of the earlier run.
        on_progress: called after each shard and each step.
        device: "auto" (the GPU if there is one), or a torch device name; data is rendered on the CPU.

    Returns:
        The folder of the weights, as `load_reward("cmi-mini", path=...)` takes it.

    Raises:
        InvalidInput: `folder` holds a run with other options, there is no such device, or nothing sings in the data.
        WeightsError: the checkpoint in `folder` is broken.
        RerankError: a loss is not finite, or a process that renders data was killed.
        OutputError: `folder` cannot be written.
    """
    resolve_device(device)
    # how many processes render and how often is saved makes no difference to the result
    chosen = {name: value for name, value in asdict(options).items() if name not in ("processes", "checkpoint_every")}
    claim(folder, chosen)
    report: Callable[[Progress], None] = on_progress or (lambda progress: None)
    for name, shards in (("data", options.shards), ("sung", options.sung_shards)):
        dataset.render(
            folder / name,
            shards,
            options.shard_prompts,
            options.seed,
            options.processes,
            lambda done, total: report(Progress("rendering", done, total)),
            sung=name == "sung",
        )
    recipe = MiniRecipe(folder, options)
    every = LoopOptions(seed=options.seed, checkpoint_every=options.checkpoint_every)
    model = Loop(recipe, folder, every, device, report).run()
    assert isinstance(model, RewardModel)
    return save_mini(model, folder / "cmi-mini")
