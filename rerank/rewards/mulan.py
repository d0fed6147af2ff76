"""`mulan`: how similar a text and a piece of audio are, by the two towers of MuQ-MuLan.

**Source**: MuQ-MuLan (Zhu et al. 2025, arXiv:2501.01108); `OpenMuQ/MuQ-MuLan-large`, weights CC BY-NC 4.0, not for
commercial use.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from rerank.audio import Audio
from rerank.catalogue import reward_info
from rerank.data import Prompt
from rerank.files import as_path
from rerank.models.device import resolve_device
from rerank.models.hub import Source
from rerank.models.mel import SHORTEST
from rerank.models.mulan import Mulan
from rerank.models.muq import Muq
from rerank.models.published import MULAN, read_mulan
from rerank.models.weights import fingerprint, say_licence
from rerank.protocols import RewardInfo
from rerank.rewards.encoding import AudioEncoder, batch_size
from rerank.rewards.front_end import FrontEnd, Resampler, check_duration, check_resampler
from rerank.rewards.memory import DEFAULT_SIZE, Memory
from rerank.rewards.precision import autocast, resolve_precision, set_precision
from rerank.rewards.towers import Tower, share_muq

_INFO = reward_info("mulan")


class MulanReward:
    """Reward model with the axis alignment: the product of the vectors of text and audio.

    Audio is mixed to mono, resampled to 24 kHz and cut into clips of 10 seconds; the last one, and audio that is
    shorter, is completed with the start of the audio, as far as that goes. The vector of an audio is the mean of those
    of its clips, each of length 1; as in the original code the mean is not brought to length 1 again, so the reward of
    longer audio is below the cosine.

    Args:
        model: both towers.
        tower: the MuQ of its audio tower.
        version: see `RewardInfo`.
        normalised: bring the mean to length 1, so that every reward is a cosine.
        max_duration: longer audio is cut there, in seconds, with a warning; None hears all.
        resampler: "sinc" or "soxr"; the original code takes audio at 24 kHz and leaves that to its user.
        memory: of what the tower made before; None forgets.

    The model is changed for good to the device and the precision of the tower.

    Raises:
        InvalidInput: max_duration is not positive, or there is no such resampler.
    """

    def __init__(
        self,
        model: Mulan,
        tower: Tower[Muq],
        *,
        version: str = "",
        normalised: bool = False,
        max_duration: float | None = None,
        resampler: Resampler = "sinc",
        memory: Memory | None = None,
    ) -> None:
        front_end = FrontEnd(
            duration=model.config.clip_duration,
            rest="completed",
            shortest=SHORTEST,
            resampler=resampler,
            max_duration=max_duration,
        )
        self.tower, self.device, self.precision = tower, tower.device, tower.precision
        self.model = model.to(self.device).eval()
        set_precision(self.model, self.precision)
        self.normalised, self.memory = normalised, memory
        self._clips = AudioEncoder(tower, front_end, memory)
        self._info = replace(
            _INFO,
            version=version,
            options={"normalised": normalised, "max_duration": max_duration, "resampler": resampler},
            device=str(self.device),
            precision=self.precision,
            batch_size=batch_size(self.device),
        )

    @property
    def info(self) -> RewardInfo:
        """What this reward model is and reads."""
        return self._info

    def prepare(self, prompt: Prompt) -> Tensor | None:
        """Encode the text; None where there is none."""
        if not self.info.axes["alignment"].applies(prompt.conditions()):
            return None
        with autocast(self.device, self.precision):
            return self.model.encode_text(prompt.text)[0]

    def forget(self) -> None:
        """Forget the audio that was encoded, but for that in a folder."""
        if self.memory is not None:
            self.memory.clear()

    def score(self, prepared: Tensor | None, audio: Sequence[Audio]) -> list[dict[str, float | None]]:
        """Return the alignment of each audio; None where the prompt has no text."""
        if prepared is None:
            return [{"alignment": None} for _ in audio]
        rewards: list[dict[str, float | None]] = []
        for start in range(0, len(audio), self.info.batch_size):
            vectors = self._vectors(audio[start : start + self.info.batch_size])
            rewards += [{"alignment": value} for value in (vectors @ prepared).tolist()]
        return rewards

    def _vectors(self, audio: Sequence[Audio]) -> Tensor:
        """Return the vector of each audio.

        Shape:
            `[audio, dim_latent]`
        """
        with autocast(self.device, self.precision):
            vectors = torch.stack([self.model.vectors(torch.stack(clips)).mean(0) for clips in self._clips(audio)])
        return torch.nn.functional.normalize(vectors, dim=-1) if self.normalised else vectors


def load_mulan(
    *,
    path: str | Path | None = None,
    revision: str | None = None,
    normalised: bool = False,
    max_duration: float | None = None,
    resampler: Resampler = "sinc",
    precision: str = "auto",
    cache: str | Path | None = None,
    cache_size: int = DEFAULT_SIZE,
    device: str = "auto",
) -> MulanReward:
    """Return the similarity of MuQ-MuLan as a reward model.

    Args:
        path: folder with `pytorch_model.bin` and `config.json`; None downloads them (2.7 GB), once, to the hub's cache.
        revision: branch, tag or commit on the hub; None for its main branch. A folder has none.
        normalised: make every reward a cosine; without it, as in the original code, that of longer audio is below.
        max_duration: longer audio is cut there, in seconds, with a warning; None hears all.
        resampler: "sinc", that of `cmi-rm`, so that both hear the same samples; or "soxr", that of librosa. The original code
            takes audio at 24 kHz and leaves that to its user.
        precision: "float32", "bf16" or "bf16-autocast"; "auto" is bf16 on a GPU that has it, else float32.
        cache: folder in which encoded audio is kept for later runs; None keeps it in memory only.
        cache_size: MiB of encoded audio that are kept in memory, and again in the folder; of reward models that share
            either the largest holds.
        device: to compute on: "auto" (the GPU if there is one), "cpu", "cuda".

    Raises:
        WeightsError: a file is missing, broken, not supported or cannot be downloaded.
        InvalidInput: an option has no such value.
        OutputError: `cache` cannot be written, or holds anything else.
    """
    torch_device = resolve_device(device)
    resolved = resolve_precision(precision, torch_device)
    check_duration(max_duration)
    check_resampler(resampler)
    source = Source.given(path, MULAN, revision)
    memory = Memory.shared(cache_size, None if cache is None else as_path("cache", cache))
    say_licence(_INFO.name, _INFO.licence)
    model, weights = read_mulan(source, fuse=False)
    version = fingerprint([weights], model.config)
    tower = share_muq(model.audio.model, resolved, torch_device, _INFO.name)  # last, as in `load_cmi_rm`
    model.audio.model = tower.network
    return MulanReward(
        model,
        tower,
        version=version,
        normalised=normalised,
        max_duration=max_duration,
        resampler=resampler,
        memory=memory,
    )
