"""How fast is the published reward model here, against the way its official inference works, and at which precision?

It is measured at its true size. Where the published weights are not to be had, random ones in the same layout take
their place: timings do not depend on what the weights are, but differences of precision do.

**Conventions**: seconds of wall time, the best of several runs; all candidates are of one prompt, with text, lyrics and
a reference as long as a candidate. Reading and resampling of files is left out on both sides.

**Metrics**
- loading: in a fresh process, with the peak memory, after a first score, relative to the size of the weights
- official: what the official inference does, with the same modules as they were published: candidates in groups of
  four, the reference encoded for each of them, text and lyrics twice for each, nothing fused; in float32, and on a GPU
  under autocast too, as it runs there
- float32, bf16: what `rerank` takes for the same rewards, the prompt included, nothing remembered
- bound: the time that all products with weights of that run would take at the rate of a large product or convolution
  on this machine, whichever is faster, and its share of the time taken; products within attention (1 % of the work on a CPU)
  are not counted
- precision: largest and mean difference of the rewards from float32, and Kendall's tau, over many candidates
"""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from rerank.audio import Audio
from rerank.data import Prompt
from rerank.errors import InvalidInput, RerankError
from rerank.eval.speed.machine import machine
from rerank.eval.speed.timing import shortest
from rerank.generators.synth import Synth
from rerank.models.cmi import RewardModel
from rerank.models.device import has_fast_bfloat16, resolve_device
from rerank.models.hub import Source
from rerank.models.muq import SAMPLE_RATE
from rerank.models.published import build_cmi_rm, read_cmi_rm
from rerank.protocols import Progress
from rerank.rewards.cmi import CmiReward
from rerank.rewards.cmi_rm import load_cmi_rm
from rerank.scoring import score_each

TEXT = "warm lo-fi piano with a slow beat, vinyl crackle and a soft female voice"
LYRICS = "rain on the window, rain on the road\nslow is the night and heavy the load"

GROUP = 4
"""Items in a batch of the official inference."""

_AXES = ("musicality", "alignment")


@dataclass(frozen=True, kw_only=True)
class RewardSpeedOptions:
    """Options of `evaluate`.

    Attributes:
        n: candidates that are timed.
        duration: of each, and of the reference, in seconds.
        repeats: runs, of which the best counts.
        compared: candidates over which precisions are compared; 0 leaves that out.
        compared_duration: of each of those, in seconds.
        device: see `CmiReward`.
    """

    n: int = 10
    duration: float = 10.0
    repeats: int = 2
    compared: int = 200
    compared_duration: float = 5.0
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.n < 1 or self.repeats < 1 or self.compared < 0 or self.compared == 1:
            raise InvalidInput(
                "reward speed needs n and repeats of at least 1 and compared of 0 or at least 2, "
                f"got {self.n}, {self.repeats} and {self.compared}"
            )


def evaluate(
    folder: Path, options: RewardSpeedOptions, on_progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Return all metrics of the reward model in `folder`, with the options and the machine they were measured on.

    Raises:
        WeightsError: the folder does not hold one.
    """
    report = on_progress or (lambda progress: None)
    build_cmi_rm(Source(folder))  # says what is wrong with a folder before anything takes long
    device = resolve_device(options.device)
    precisions = ["float32"] + (["bf16"] if device.type == "cuda" or has_fast_bfloat16() else [])
    steps = 2 + len(precisions) + (3 if options.compared else 0)
    done = iter(range(1, steps + 1))

    def finished(metrics: dict[str, Any]) -> dict[str, Any]:
        report(Progress("measuring", next(done), steps))
        return metrics

    audio = [_noise(options.duration, seed) for seed in range(options.n)]
    prompt = Prompt(TEXT, LYRICS, _noise(options.duration, 1000))
    metrics = finished(_loading(folder, device.type))
    metrics |= finished(_official(folder, prompt, audio, options, device))
    for precision in precisions:
        official = (
            metrics["official"] if precision == "float32" else metrics.get("official, autocast", metrics["official"])
        )
        metrics |= finished(_ours(folder, prompt, audio, options, precision, official))
    if options.compared:
        metrics |= _compare(folder, options, finished)
    return {"options": asdict(options), "machine": machine(), "metrics": metrics}


def _noise(duration: float, seed: int) -> Audio:
    samples = round(duration * SAMPLE_RATE)
    return Audio(0.1 * np.random.default_rng(seed).standard_normal((1, samples), dtype=np.float32), SAMPLE_RATE)


def _loading(folder: Path, device: str) -> dict[str, Any]:
    code = (
        "import json, numpy, psutil, sys, time; import rerank, torch; import rerank.rewards.cmi_rm\n"
        "from rerank.eval.speed.timing import peak_memory as peak\n"
        "before, started = psutil.Process().memory_info().rss, time.perf_counter()\n"
        f"reward = rerank.load_reward('cmi-rm', path=sys.argv[1], device={device!r}, precision='float32')\n"
        "seconds = time.perf_counter() - started\n"
        "reward.score(reward.prepare(rerank.Prompt('piano')), [rerank.Audio(numpy.zeros((1, 24000), 'float32'), 24000)])\n"
        "print(json.dumps([seconds, peak() - before]))"
    )
    found = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    if found.returncode:
        raise RerankError(f"loading the reward model failed: {found.stderr.strip()[-300:]}")
    seconds, memory = json.loads(found.stdout)
    weights = (folder / "model.safetensors").stat().st_size
    return {"loading": round(seconds, 2), "loading, peak memory by weights": round(memory / weights, 2)}


def _official(
    folder: Path, prompt: Prompt, audio: Sequence[Audio], options: RewardSpeedOptions, device: torch.device
) -> dict[str, Any]:
    model = read_cmi_rm(Source(folder), fuse=False)[0].to(device)
    reference = prompt.reference
    assert reference is not None

    def run(half: bool) -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            for start in range(0, len(audio), GROUP):
                group = audio[start : start + GROUP]
                _official_group(model, prompt, [reference] * len(group), group, device)

    metrics = {"official": round(shortest(lambda: run(False), options.repeats, device), 3)}
    if device.type == "cuda":
        metrics["official, autocast"] = round(shortest(lambda: run(True), options.repeats, device), 3)
    return metrics


def _official_group(
    model: RewardModel, prompt: Prompt, references: Sequence[Audio], group: Sequence[Audio], device: torch.device
) -> None:
    heard, candidates = (
        model.encode_audio(torch.from_numpy(np.concatenate([one.waveform for one in pieces])).to(device))
        for pieces in (references, group)
    )
    for _ in range(2):
        text, lyrics = (model.encode_text([words] * len(group)) for words in (prompt.text, prompt.lyrics or ""))
    model.score_tokens(model.encode_prompt(text, lyrics, heard), candidates).cpu()


def _ours(
    folder: Path,
    prompt: Prompt,
    audio: Sequence[Audio],
    options: RewardSpeedOptions,
    precision: str,
    official: float,
) -> dict[str, Any]:
    reward = load_cmi_rm(path=folder, precision=precision, device=options.device)

    def run() -> None:
        reward.forget()
        list(score_each(reward, prompt, audio))

    # a layer that is packed for oneDNN is a linear layer too, which the counter does not know
    packed = {torch.ops.mkldnn._linear_pointwise: _packed_flops}
    with FlopCounterMode(display=False, custom_mapping=packed) as counter:
        run()
    seconds = shortest(run, options.repeats, reward.device)
    bound = counter.get_total_flops() / _rate(reward)
    return {
        precision: round(seconds, 3),
        f"{precision}, times as fast as official": round(official / seconds, 2),
        f"{precision}, bound": round(bound, 3),
        f"{precision}, share of bound": round(bound / seconds, 3),
    }


def _packed_flops(rows: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
    """Return the operations of a linear layer, from the shapes of what comes in and of its weights."""
    return 2 * math.prod(rows) * weight[0]


def _rate(reward: CmiReward) -> float:
    """Return the floating-point operations per second of a large product or convolution, whichever is faster."""
    size = 4096 if reward.device.type == "cuda" else 2048
    dtype = torch.float32 if reward.precision == "float32" else torch.bfloat16
    matrix = torch.randn(size, size, device=reward.device).to(dtype)
    image = torch.randn(1, 512, 64, 512, device=reward.device).to(dtype, memory_format=torch.channels_last)
    kernel = torch.randn(512, 512, 3, 3, device=reward.device).to(dtype, memory_format=torch.channels_last)
    with torch.inference_mode():
        product = 2 * size**3 / shortest(lambda: matrix @ matrix, 10, reward.device)
        convolution = (
            2 * image.numel() * 512 * 9 / shortest(lambda: F.conv2d(image, kernel, padding=1), 5, reward.device)
        )
    return max(product, convolution)


def _compare(
    folder: Path, options: RewardSpeedOptions, finished: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    made = Synth().generate(Prompt(TEXT, LYRICS), range(options.compared), options.compared_duration)
    audio = [candidate.audio for candidate in made if candidate.audio]
    found = {}
    for precision in ("float32", "bf16", "bf16-autocast"):
        reward = load_cmi_rm(path=folder, precision=precision, device=options.device)
        rewards = reward.score(reward.prepare(Prompt(TEXT, LYRICS)), audio)
        found[precision] = np.array([[one[axis] for axis in _AXES] for one in rewards], dtype=np.float64)
        finished({})
    exact = found.pop("float32")
    metrics: dict[str, Any] = {"spread of the rewards": dict(zip(_AXES, exact.std(0).round(4).tolist(), strict=True))}
    for precision, rounded in found.items():
        for column, axis in enumerate(_AXES):
            metrics[f"{precision}, {axis}"] = apart(exact[:, column], rounded[:, column])
    return metrics


def apart(exact: NDArray[np.float64], rounded: NDArray[np.float64]) -> dict[str, float]:
    """Return how far rewards are from those in float32, and how alike they rank.

    Shape:
        exact, rounded: `[candidates]`

    >>> apart(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.5, 4.25]))
    {'largest difference': 0.5, 'mean difference': 0.25, "Kendall's tau": 1.0}
    """
    difference = np.abs(rounded - exact)
    return {
        "largest difference": round(float(difference.max()), 4),
        "mean difference": round(float(difference.mean()), 4),
        "Kendall's tau": round(float(stats.kendalltau(exact, rounded).statistic), 4),
    }
