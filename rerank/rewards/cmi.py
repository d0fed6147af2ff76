"""Rewards of a compositional reward model: how good a candidate is as music, and how well it fits its prompt.

**Conventions**: every reward is the network's raw output, higher is better; zero and one mean nothing in themselves.
"""

import math
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from rerank.audio import Audio
from rerank.catalogue import reward_info
from rerank.data import Prompt
from rerank.errors import InvalidInput
from rerank.models.cmi import AXES, RewardModel
from rerank.models.device import resolve_device
from rerank.models.mel import SHORTEST
from rerank.models.mulan import MulanAudioTower
from rerank.models.muq import Muq
from rerank.models.transformer import Tokens
from rerank.protocols import RewardInfo
from rerank.rewards.encoding import AudioEncoder, batch_size
from rerank.rewards.front_end import FrontEnd, Resampler
from rerank.rewards.memory import Memory
from rerank.rewards.precision import autocast, resolve_precision, set_precision
from rerank.rewards.towers import Tower

Strategy = Literal["whole", "first", "mean"]

CLIP_DURATION = 10.0
"""Seconds of the clips that the strategies "first" and "mean" judge."""

_JOINT_TOKENS = 4096
"""Candidate tokens that go through the joint transformer at a time; one candidate may have more."""

_TEXTS = 64
"""Texts and lyrics whose tokens are remembered."""

_INFO = reward_info("cmi-mini")


class Prepared(NamedTuple):
    """What a candidate is judged by.

    Attributes:
        tokens: of the prompt.
        axes: that apply to a prompt with its parts.
    """

    tokens: Tokens
    axes: frozenset[str]


class CmiReward:
    """Reward model with the axes musicality and alignment that reads text, lyrics and reference audio.

    Audio is mixed to mono, resampled to 24 kHz and encoded in chunks without overlap, the last one shorter. What is
    left after full chunks is dropped if it is under 1025 samples (43 ms); audio shorter than that in all is padded with
    zeros. Nothing else is ever padded, so a candidate's rewards do not depend on the others (to float rounding).

    Args:
        model: the network with both towers.
        info: its name, licence, version and the like; options, device and precision are filled in here.
        tower: the MuQ of its audio tower, where reward models share it; None for an audio tower of its own.
        strategy: what of a candidate is judged: the `whole` as one, its `first` 10 seconds, or each 10 seconds by
            themselves, of whose rewards the `mean` is taken, weighted by duration. References are read whole.
        chunk_duration: of what goes through the audio tower by itself where the whole is judged, in seconds.
        max_duration: of candidates and references, in seconds; longer ones are cut there, with a warning. None hears
            all.
        resampler: "sinc" for weights whose published numbers come from torchaudio's resampling.
        precision: "auto" (bf16 on a GPU that has it, else float32), or one of `rerank.rewards.precision.PRECISIONS`.
        memory: of what the tower made before; None forgets. A tower of its own has none.
        device: "auto" (the GPU if there is one), or a torch device name.

    The model is changed for good to the precision.

    Raises:
        InvalidInput: there is no such device, precision, strategy or resampler, max_duration is not positive, or there is
            a memory and no shared tower.
    """

    def __init__(
        self,
        model: RewardModel,
        *,
        info: RewardInfo = _INFO,
        tower: Tower[Muq] | None = None,
        strategy: Strategy = "whole",
        chunk_duration: float = 10.0,
        max_duration: float | None = None,
        resampler: Resampler = "soxr",
        precision: str = "float32",
        memory: Memory | None = None,
        device: str = "auto",
    ) -> None:
        check_strategy(strategy)
        if tower is None and memory is not None:
            raise InvalidInput("a memory of audio needs a tower that can be told from others; pass tower=")
        whole = FrontEnd(
            duration=chunk_duration, shortest=SHORTEST, resampler=resampler, max_duration=max_duration
        )  # fmt: skip
        clips = replace(whole, duration=CLIP_DURATION, first=1 if strategy == "first" else None)
        self.device = resolve_device(device)
        self.precision = resolve_precision(precision, self.device)
        self.model = model.to(self.device).eval()
        set_precision(self.model, self.precision)
        self.strategy, self.memory, self.tower = strategy, memory, tower
        self._texts: OrderedDict[str, Tokens] = OrderedDict()
        heard: Tower[Any] = tower or Tower(model.audio_module, "audio tower", self.precision, self.device)
        self._whole = AudioEncoder(heard, whole, memory)
        self._clips = AudioEncoder(heard, clips, memory)
        self._info = replace(
            _reading(info, model.config.reads_lyrics),
            options={
                "strategy": strategy,
                "chunk_duration": chunk_duration,
                "max_duration": max_duration,
                "resampler": resampler,
            },
            device=str(self.device),
            precision=self.precision,
            batch_size=batch_size(self.device),
        )

    @property
    def info(self) -> RewardInfo:
        """What this reward model is and reads."""
        return self._info

    def prepare(self, prompt: Prompt) -> Prepared:
        """Encode text, lyrics and reference and run the prompt transformer, once for all candidates.

        Text or lyrics that are absent count as empty ones: what an empty text means is up to the text tower.
        """
        self.model.eval()
        present = prompt.conditions()
        axes = frozenset(name for name, axis in self.info.axes.items() if axis.applies(present))
        with autocast(self.device, self.precision):
            reference = None
            if prompt.reference is not None:
                reference = Tokens.of(self._tokens(self._whole([prompt.reference])[0])[None])
            lyrics = self._text(prompt.lyrics or "") if self.model.config.reads_lyrics else None
            return Prepared(self.model.encode_prompt(self._text(prompt.text), lyrics, reference), axes)

    def _text(self, text: str) -> Tokens:
        """Return the tokens of a text or of lyrics, which are remembered: many prompts have none."""
        tokens = self._texts.pop(text, None)
        if tokens is None:
            tokens = self.model.encode_text([text])
        self._texts[text] = tokens
        if len(self._texts) > _TEXTS:
            self._texts.popitem(last=False)
        return tokens

    def forget(self) -> None:
        """Forget the texts and the audio that were encoded, but for those in a folder."""
        self._texts.clear()
        if self.memory is not None:
            self.memory.clear()

    def score(self, prepared: Prepared, audio: Sequence[Audio]) -> list[dict[str, float | None]]:
        """Return musicality and alignment of each audio; NaN where the network gives no finite number."""
        if not prepared.axes:
            return [dict.fromkeys(self.info.axes) for _ in audio]
        self.model.eval()
        rewards: list[dict[str, float | None]] = []
        for start in range(0, len(audio), self.info.batch_size):
            with autocast(self.device, self.precision):
                scores = self._judge(prepared.tokens, audio[start : start + self.info.batch_size])
            rewards += [
                {axis: _finite(row[AXES.index(axis)]) if axis in prepared.axes else None for axis in self.info.axes}
                for row in scores
            ]
        return rewards

    def _judge(self, prompt: Tokens, audio: Sequence[Audio]) -> list[list[float]]:
        """Return a row of the network's outputs per audio."""
        if self.strategy == "whole":
            return self._score(prompt, [self._tokens(states) for states in self._whole(audio)])
        clips = [[self._tokens([state]) for state in states] for states in self._clips(audio)]
        scores = iter(self._score(prompt, [clip for of_one in clips for clip in of_one]))
        rows = []
        for of_one in clips:
            found = np.array([next(scores) for _ in of_one])
            rows.append(np.average(found, axis=0, weights=[len(clip) for clip in of_one]).tolist())
        return rows

    def _tokens(self, states: Sequence[Tensor]) -> Tensor:
        """Return the tokens of what the tower makes of consecutive windows.

        Shape:
            `[tokens_i, dim of the tower]` each -> `[sum of tokens_i, dim]`, float32
        """
        audio = self.model.audio_module
        if self.tower is not None and isinstance(audio, MulanAudioTower):
            states = [audio.project(one[None])[0] for one in states]
        return torch.cat([one.float() for one in states])

    def _score(self, prompt: Tokens, candidates: list[Tensor]) -> list[list[float]]:
        """Return a row of the network's outputs per candidate, those of equal length computed together.

        Shape:
            candidates of `[tokens, dim]` each -> rows of `[2]`
        """
        by_tokens = defaultdict(list)
        for index, tokens in enumerate(candidates):
            by_tokens[len(tokens)].append(index)
        rows: dict[int, list[float]] = {}
        for length, indices in by_tokens.items():
            together = max(1, _JOINT_TOKENS // length)
            for start in range(0, len(indices), together):
                batch = indices[start : start + together]
                stacked = Tokens.of(torch.stack([candidates[index] for index in batch]))
                scores = self.model.score_tokens(prompt, stacked).float().tolist()
                rows.update(zip(batch, scores, strict=True))
        return [rows[index] for index in range(len(candidates))]


def _reading(info: RewardInfo, reads_lyrics: bool) -> RewardInfo:
    """Return what a reward model is that may leave lyrics unread."""
    if reads_lyrics:
        return info
    axes = {name: replace(axis, needs_any=axis.needs_any - {"lyrics"}) for name, axis in info.axes.items()}
    return replace(info, conditions=info.conditions - {"lyrics"}, axes=axes)


def check_strategy(strategy: str) -> None:
    """Raise InvalidInput unless `strategy` is one."""
    if strategy not in get_args(Strategy):
        raise InvalidInput(f"unknown strategy {strategy!r}; use one of: {', '.join(get_args(Strategy))}")


def _finite(value: float) -> float:
    """Return `value`, or NaN where it is infinite."""
    return value if math.isfinite(value) else math.nan
