"""`cmi-rm`, the published reward model of CMI-RewardBench: from the Hugging Face hub, or from a folder.

**Source**: CMI-RewardBench (arXiv:2603.00610); `HaiwenXia/CMI-RM`, weights CC BY-NC 4.0, not for commercial use.
"""

from dataclasses import replace
from pathlib import Path

from rerank.catalogue import reward_info
from rerank.files import as_path
from rerank.models.device import resolve_device
from rerank.models.hub import Source
from rerank.models.mulan import MulanAudioTower
from rerank.models.published import CMI_RM, read_cmi_rm
from rerank.models.weights import fingerprint, say_licence
from rerank.rewards.cmi import CmiReward, Strategy, check_strategy
from rerank.rewards.front_end import Resampler, check_duration, check_resampler
from rerank.rewards.memory import DEFAULT_SIZE, Memory
from rerank.rewards.precision import resolve_precision
from rerank.rewards.towers import share_muq

CHUNK_DURATION = 30.0
"""Seconds of audio that go through MuQ at a time in the official code."""


def load_cmi_rm(
    *,
    path: str | Path | None = None,
    revision: str | None = None,
    max_duration: float | None = 120.0,
    strategy: Strategy = "whole",
    resampler: Resampler = "sinc",
    precision: str = "auto",
    cache: str | Path | None = None,
    cache_size: int = DEFAULT_SIZE,
    device: str = "auto",
) -> CmiReward:
    """Return the published reward model.

    Args:
        path: folder with `model.safetensors` and `config.yaml`; None downloads them (2.8 GB), once, to the hub's cache.
        revision: branch, tag or commit on the hub; None for its main branch. A folder has none.
        max_duration: of candidates and references, in seconds; longer ones are cut there, with a warning. None hears
            all; 120 is that of the benchmark.
        strategy: what of a candidate is judged: the `whole` as one, as in the benchmark, its `first` 10 seconds, or the
            `mean` over its clips of 10 seconds, weighted by duration.
        resampler: "sinc", as the published numbers were made, or "soxr".
        precision: "float32", which gives the numbers of the official code on a CPU, "bf16" or "bf16-autocast"; "auto" is
            bf16 on a GPU that has it, else float32.
        cache: folder in which encoded audio is kept for later runs; None keeps it in memory only.
        cache_size: MiB of encoded audio that are kept in memory, and again in the folder; of reward models that share
            either the largest holds.
        device: to compute on: "auto" (the GPU if there is one), "cpu", "cuda".

    Raises:
        WeightsError: a file is missing, broken, cannot be downloaded or does not fit; or it is a kind of reward model
            that is not supported.
        InvalidInput: an option has no such value.
        OutputError: `cache` cannot be written, or holds anything else.
    """
    torch_device = resolve_device(device)
    resolved = resolve_precision(precision, torch_device)
    check_strategy(strategy)
    check_duration(max_duration)
    check_resampler(resampler)
    source = Source.given(path, CMI_RM, revision)
    memory = Memory.shared(cache_size, None if cache is None else as_path("cache", cache))
    info = reward_info("cmi-rm")
    say_licence(info.name, info.licence)
    model, weights = read_cmi_rm(source, fuse=False)
    audio = model.audio_module
    assert isinstance(audio, MulanAudioTower)
    info = replace(info, version=fingerprint([weights], model.config, audio.config))
    tower = share_muq(audio.model, resolved, torch_device, info.name)  # last: it goes on hashing beside what follows
    audio.model = tower.network
    return CmiReward(
        model,
        info=info,
        tower=tower,
        strategy=strategy,
        chunk_duration=CHUNK_DURATION,
        max_duration=max_duration,
        resampler=resampler,
        precision=resolved,
        memory=memory,
        device=device,
    )
