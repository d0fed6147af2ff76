"""The commands of researchers: `rerank train` and `rerank eval`; as thin as those in `cli`."""

import contextlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from rerank.cli.agreement import print_agreement
from rerank.cli.console import INTERRUPTED, print_document, progress_bar, say, start_logging, tell
from rerank.cli.options import Device, Json, RewardName, RewardPath
from rerank.cli.tables import print_metrics
from rerank.errors import InvalidInput
from rerank.files import check_place, write_bytes

train_app = typer.Typer(no_args_is_help=True, help="Train a reward model.")
eval_app = typer.Typer(no_args_is_help=True, help="Measure reward models and this program.")

Report = Annotated[Path | None, typer.Option("--output", "-o", help="File for the report (JSON).", metavar="FILE")]


@train_app.command("cmi-mini", hidden=True)  # its name before there were other recipes
@train_app.command("mini")
def train_mini(
    folder: Annotated[Path, typer.Argument(help="For data, checkpoints, weights and report.", metavar="DIR")],
    seed: Annotated[int, typer.Option(help="Of the data, the weights and all choices.")] = 0,
    shards: Annotated[
        int | None, typer.Option(help="Of data, and as many of singing: 200 clips, 60 MB; 60 by default.")
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(help="Of towers, lyrics, preferences and truth; 2000,600,500,1900 by default.", metavar="A,B,C,D"),
    ] = None,
    shard_prompts: Annotated[int | None, typer.Option(help="In a shard, with four clips each; 50 by default.")] = None,
    prompts: Annotated[int, typer.Option(help="Captions that the report is over.")] = 200,
    device: Device = "auto",
) -> None:
    """Train the small reward model on music that `synth` makes, and report how well it agrees with the truth.

    Writes DIR/cmi-mini, which `--reward` takes, and stores there what its gaps mean (as `rerank eval agreement
    --calibrate` does). A run that was stopped goes on when the same command is given again.
    """
    from rerank.eval.agreement.report import calibrate, evaluate
    from rerank.eval.agreement.takes import AgreementOptions
    from rerank.rewards.mini import load_mini
    from rerank.training.mini.card import model_card
    from rerank.training.mini.options import TrainOptions
    from rerank.training.mini.train import train

    start_logging(verbose=True)
    measured = AgreementOptions(prompts=prompts)
    chosen: dict[str, Any] = {"seed": seed}
    if shards is not None:
        chosen["shards"] = chosen["sung_shards"] = shards
    if shard_prompts is not None:
        chosen["shard_prompts"] = shard_prompts
    if steps is not None:
        chosen |= _stages(steps)
    options = TrainOptions(**chosen)
    with progress_bar() as on_progress:
        try:
            weights = train(folder, options, on_progress, device)
        except KeyboardInterrupt as error:
            say("error: interrupted; what was made stays, and the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from error
        report = evaluate(load_mini(path=weights, device=device), measured, on_progress)
    print_agreement(report)
    try:
        calibrate(report, weights)
    except InvalidInput as error:
        say(f"the weights go without a calibration: {error}")
    write_bytes(folder / "cmi-mini.json", _document(report).encode())
    write_bytes(folder / "cmi-mini.md", model_card(options, report).encode())
    tell(f"weights in {weights}, report and model card in {folder}")


@eval_app.command("agreement")
def eval_agreement(
    reward: RewardName = "cmi-mini",
    reward_path: RewardPath = None,
    prompts: Annotated[int, typer.Option(help="Captions, and cases of each other measure.")] = 200,
    n: Annotated[int, typer.Option("-n", "--n", help="Candidates for each caption.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the choice of captions and cases.")] = 0,
    calibrated: Annotated[
        Path | None,
        typer.Option("--calibrate", help="Folder of the reward model, to store what its gaps mean.", metavar="DIR"),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="File for a picture of the calibration (PNG, SVG, PDF).", metavar="FILE")
    ] = None,
    output: Report = None,
    as_json: Json = False,
) -> None:
    """Measure how well a reward model agrees with the truth of music that `synth` makes.

    Also: how likely a gap between two rewards makes it that one is better, what each rule chooses, where rewards lie.
    """
    import rerank
    from rerank.eval.agreement.plot import check_plot, write_plot
    from rerank.eval.agreement.report import calibrate, check_folder, evaluate
    from rerank.eval.agreement.takes import AgreementOptions

    start_logging(verbose=False)
    options = AgreementOptions(prompts=prompts, n=n, seed=seed)
    model = rerank.load_reward(reward, **({"path": reward_path} if reward_path else {}))
    if output is not None:
        check_place(output)
    if plot is not None:
        check_plot(plot)
    if calibrated is not None:
        check_folder(calibrated, model.info)
    with progress_bar() as on_progress:
        report = evaluate(model, options, on_progress)
    if as_json:
        print_document(_document(report))
    else:
        print_agreement(report)
    if output is not None:
        write_bytes(output, _document(report).encode())
    if plot is not None:
        write_plot(report, plot)
    if calibrated is not None:
        calibrate(report, calibrated)


@eval_app.command("speed")
def eval_speed(
    generator: Annotated[str, typer.Option(help="Generator; see `rerank models`.", metavar="NAME")] = "synth",
    reward: RewardName = "cmi-mini",
    n: Annotated[int, typer.Option("-n", "--n", help="Candidates.")] = 10,
    duration: Annotated[float, typer.Option(help="Of each candidate, in seconds.")] = 10.0,
    repeats: Annotated[int, typer.Option(help="Runs, of which the best counts.")] = 3,
    output: Report = None,
    as_json: Json = False,
) -> None:
    """Measure import, cold start, generation, rewarding and memory on this machine."""
    import rerank
    from rerank.eval.speed.best_of_n import SpeedOptions, evaluate

    start_logging(verbose=False)
    options = SpeedOptions(n=n, duration=duration, repeats=repeats)
    with progress_bar() as on_progress:
        report = evaluate(rerank.load_generator(generator), rerank.load_reward(reward), options, on_progress)
    _finish(report, output, as_json)


@eval_app.command("reward-speed")
def eval_reward_speed(
    reward_path: RewardPath = None,
    n: Annotated[int, typer.Option("-n", "--n", help="Candidates.")] = 10,
    duration: Annotated[float, typer.Option(help="Of each candidate and of the reference, in seconds.")] = 10.0,
    repeats: Annotated[int, typer.Option(help="Runs, of which the best counts.")] = 2,
    compared: Annotated[int, typer.Option(help="Candidates over which precisions are compared; 0 for none.")] = 200,
    beside: Annotated[
        bool, typer.Option("--beside-mulan", help="Measure what `mulan` costs beside it instead: they share a tower.")
    ] = False,
    mulan_path: Annotated[
        Path | None, typer.Option(help="Folder of `mulan`, where --reward-path is given too.", metavar="DIR")
    ] = None,
    device: Device = "auto",
    output: Report = None,
    as_json: Json = False,
) -> None:
    """Measure `cmi-rm` against the way of its official inference, at its true size, or with `mulan` beside it.

    Without --reward-path it gets random weights, which takes 2.8 GB of disk for the time being, 6.8 GB with `mulan`.
    """
    import tempfile

    from rerank.eval.speed.random_weights import write_models
    from rerank.eval.speed.reward import RewardSpeedOptions, evaluate
    from rerank.eval.speed.together import TogetherOptions
    from rerank.eval.speed.together import evaluate as evaluate_together

    if beside and (reward_path is None) != (mulan_path is None):
        raise typer.BadParameter("--beside-mulan takes both --reward-path and --mulan-path, or none of them")
    start_logging(verbose=False)
    with contextlib.ExitStack() as stack, progress_bar() as on_progress:
        folder = reward_path or write_models(
            Path(stack.enter_context(tempfile.TemporaryDirectory())), towers=beside
        )  # fmt: skip
        if beside:
            mulan = mulan_path or folder.parent / "MuQ-MuLan-large"
            together = TogetherOptions(n=n, duration=duration, rounds=repeats, device=device)
            report = evaluate_together(folder, mulan, together, on_progress)
        else:
            options = RewardSpeedOptions(n=n, duration=duration, repeats=repeats, compared=compared, device=device)
            report = evaluate(folder, options, on_progress)
    _finish({"weights": "given" if reward_path else "random", **report}, output, as_json)


@eval_app.command("musicgen-speed")
def eval_musicgen_speed(
    path: Annotated[
        Path | None, typer.Option(help="Folder of the model; random weights by default.", metavar="DIR")
    ] = None,
    n: Annotated[int, typer.Option("-n", "--n", help="Candidates.")] = 10,
    duration: Annotated[float, typer.Option(help="Of each, in seconds.")] = 10.0,
    compared: Annotated[int, typer.Option(help="Seeds over which precisions are compared; 0 for none.")] = 4,
    dtype: Annotated[
        str | None, typer.Option(help="The only precision to measure; all that pay here by default.", metavar="NAME")
    ] = None,
    device: Device = "auto",
    output: Report = None,
    as_json: Json = False,
) -> None:
    """Measure the MusicGen engine against transformers, at the size of musicgen-small.

    Without --path it gets random weights, which takes 2.3 GB of disk for the time being.
    """
    from rerank.eval.speed.musicgen import MusicgenSpeedOptions, evaluate

    start_logging(verbose=False)
    options = MusicgenSpeedOptions(n=n, duration=duration, compared=compared, dtype=dtype, device=device)
    with progress_bar() as on_progress:
        report = {"weights": "given" if path else "random", **evaluate(path, options, on_progress)}
    _finish(report, output, as_json)


def _stages(steps: str) -> dict[str, int]:
    numbers = steps.split(",")
    if len(numbers) != 4 or not all(number.strip().isdecimal() for number in numbers):
        raise typer.BadParameter(f"--steps {steps!r} must be four whole numbers, such as 2000,600,500,1900")
    names = ("tower_steps", "lyrics_steps", "preference_steps", "truth_steps")
    return dict(zip(names, map(int, numbers), strict=True))


def _document(report: Any) -> str:
    return json.dumps(report, indent=1, allow_nan=False) + "\n"


def _finish(report: Any, output: Path | None, as_json: bool) -> None:
    if as_json:
        print_document(_document(report))
    else:
        print_metrics(report["metrics"])
    if output is not None:
        write_bytes(output, _document(report).encode())
