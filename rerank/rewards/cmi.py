"""Rewards of a compositional reward model: how good a candidate is as music, and how well it fits its prompt.

**Conventions**: every reward is the network's raw output, higher is better; zero and one mean nothing in themselves.
"""

import math
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from rerank.audio import Audio
from rerank.catalogue import reward_info
from rerank.data import Prompt
from rerank.errors import InvalidInput
from rerank.models.cmi import AXES, RewardModel
from rerank.models.device import resolve_device
from rerank.models.transformer import Tokens
from rerank.protocols import RewardInfo
from rerank.rewards.encoding import (
    SAMPLE_RATE,
    AudioEncoder,
    Mono,
    Resampler,
    batch_size,
    check_duration,
    chunks_of,
    to_waveform,
)
from rerank.rewards.memory import Memory, check_memory
from rerank.rewards.precision import autocast, resolve_precision, set_precision

Strategy = Literal["whole", "first", "mean"]

CLIP_DURATION = 10.0
"""Seconds of the clips that the strategies "first" and "mean" judge."""

_TOGETHER = 16
"""Candidates that are held as tokens at a time."""

_JOINT_TOKENS = 4096
"""Candidate tokens that go through the joint transformer at a time; one candidate may have more."""

_TEXTS = 64
"""Texts and lyrics whose tokens are remembered."""

_INFO = reward_info("cmi-mini")


class CmiReward:
    """Reward model with the axes musicality and alignment that reads text, lyrics and reference audio.

    Audio is mixed to mono, resampled to 24 kHz and encoded in chunks without overlap, the last one shorter. What is
    left after full chunks is dropped if it is under 1025 samples (43 ms); audio shorter than that in all is padded with
    zeros. Nothing else is ever padded, so a candidate's rewards do not depend on the others (to float rounding).

    Args:
        model: the network with both towers.
        info: its name, licence, version and the like; options, device and precision are filled in here.
        strategy: what of a candidate is judged: the `whole` as one, its `first` 10 seconds, or each 10 seconds by
            themselves, of whose rewards the `mean` is taken, weighted by duration. References are read whole.
        chunk_duration: of what goes through the audio tower by itself where the whole is judged, in seconds.
        max_duration: of candidates and references, in seconds; longer ones are cut there, with a warning. None hears
            all.
        resampler: "sinc" for weights whose published numbers come from torchaudio's resampling.
        precision: "auto" (bf16 on a GPU that has it, else float32), or one of `rerank.rewards.precision.PRECISIONS`.
        together: seconds of audio that go through the audio tower at a time.
        memory: of audio that was encoded before; None forgets.
        device: "auto" (the GPU if there is one), or a torch device name.

    The model is changed for good to the precision.

    Raises:
        InvalidInput: there is no such device, precision or strategy, max_duration is not positive, or there is a memory
            and no version.
    """

    def __init__(
        self,
        model: RewardModel,
        *,
        info: RewardInfo = _INFO,
        strategy: Strategy = "whole",
        chunk_duration: float = 10.0,
        max_duration: float | None = None,
        resampler: Resampler = "soxr",
        precision: str = "float32",
        together: float = 160.0,
        memory: Memory | None = None,
        device: str = "auto",
    ) -> None:
        check_strategy(strategy)
        check_duration(max_duration)
        check_memory(memory, info.version)
        self.device = resolve_device(device)
        self.precision = resolve_precision(precision, self.device)
        self.model = model.to(self.device).eval()
        set_precision(self.model, self.precision)
        self.strategy, self.memory = strategy, memory
        self._texts: OrderedDict[str, Tokens] = OrderedDict()
        tower = partial(_encode_audio, model)
        whole = partial(_cut, duration=chunk_duration, max_duration=max_duration, resampler=resampler)
        clips = partial(whole, duration=CLIP_DURATION)
        if strategy == "first":
            clips = partial(clips, max_duration=min(max_duration or CLIP_DURATION, CLIP_DURATION))
        kind = f"{info.name} {info.version} {self.precision} {max_duration} {resampler}"
        self._whole = AudioEncoder(
            tower, whole, self.device, together, memory, f"{kind} {chunk_duration}", max_duration
        )  # fmt: skip
        self._clips = AudioEncoder(
            tower,
            clips,
            self.device,
            together,
            memory,
            f"{kind} {strategy}",
            None if strategy == "first" else max_duration,
        )
        self._info = replace(
            info,
            conditions=info.conditions if model.config.reads_lyrics else info.conditions - {"lyrics"},
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

    def prepare(self, prompt: Prompt) -> Tokens:
        """Encode text, lyrics and reference and run the prompt transformer, once for all candidates.

        Text or lyrics that are absent count as empty ones: what an empty text means is up to the text tower.
        """
        self.model.eval()
        with autocast(self.device, self.precision):
            reference = None
            if prompt.reference is not None:
                reference = Tokens.of(torch.cat(self._whole([prompt.reference])[0])[None])
            lyrics = self._text(prompt.lyrics or "") if self.model.config.reads_lyrics else None
            return self.model.encode_prompt(self._text(prompt.text), lyrics, reference)

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

    def score(self, prepared: Tokens, audio: Sequence[Audio]) -> list[dict[str, float | None]]:
        """Return musicality and alignment of each audio; NaN where the network gives no finite number."""
        self.model.eval()
        rewards: list[dict[str, float | None]] = []
        for start in range(0, len(audio), _TOGETHER):
            with autocast(self.device, self.precision):
                scores = self._judge(prepared, audio[start : start + _TOGETHER])
            rewards += [{axis: _finite(row[AXES.index(axis)]) for axis in self.info.axes} for row in scores]
        return rewards

    def _judge(self, prompt: Tokens, audio: Sequence[Audio]) -> list[list[float]]:
        """Return a row of the network's outputs per audio."""
        if self.strategy == "whole":
            return self._score(prompt, [torch.cat(chunks) for chunks in self._whole(audio)])
        clips = self._clips(audio)
        scores = iter(self._score(prompt, [clip for of_one in clips for clip in of_one]))
        rows = []
        for of_one in clips:
            found = np.array([next(scores) for _ in of_one])
            rows.append(np.average(found, axis=0, weights=[len(clip) for clip in of_one]).tolist())
        return rows

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


def _encode_audio(model: RewardModel, waveforms: Tensor) -> Tensor:
    """Shape: `[batch, time]` -> `[batch, tokens, dim]`, float32."""
    return model.encode_audio(waveforms).values.float()


def _cut(audio: Audio, *, duration: float, max_duration: float | None, resampler: Resampler) -> list[Mono]:
    """Return an audio in pieces of `duration` seconds that the audio tower takes."""
    return chunks_of(to_waveform(audio, max_duration, resampler), round(duration * SAMPLE_RATE))


def check_strategy(strategy: str) -> None:
    """Raise InvalidInput unless `strategy` is one."""
    if strategy not in get_args(Strategy):
        raise InvalidInput(f"unknown strategy {strategy!r}; use one of: {', '.join(get_args(Strategy))}")


def _finite(value: float) -> float:
    """Return `value`, or NaN where it is infinite."""
    return value if math.isfinite(value) else math.nan
