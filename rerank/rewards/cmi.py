"""Rewards of a compositional reward model: how good a candidate is as music, and how well it fits its prompt.

**Conventions**: every reward is the network's raw output, higher is better; zero and one mean nothing in themselves.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from rerank.audio import Audio
from rerank.data import Prompt
from rerank.errors import InvalidInput
from rerank.models.cmi import AXES, RewardModel
from rerank.models.transformer import Tokens
from rerank.protocols import Condition, RewardInfo
from rerank.rewards.device import autocast, resolve_device, resolve_precision, set_precision
from rerank.rewards.encoding import AudioEncoder, Memory, Mono, Resampler, check_duration, chunks_of, to_waveform

SAMPLE_RATE = 24000

MEANINGS = {
    "musicality": "how good the audio is as music: composition, performance and sound, whatever was asked for",
    "alignment": "how well the audio fits all parts of its prompt: text, lyrics and reference audio",
}

Strategy = Literal["whole", "first", "mean"]

CLIP_DURATION = 10.0
"""Seconds of the clips that the strategies "first" and "mean" judge."""

_TOGETHER = 16
"""Candidates that are held as tokens at a time."""

_JOINT_TOKENS = 4096
"""Candidate tokens that go through the joint transformer at a time; one candidate may have more."""

_TEXTS = 64
"""Texts and lyrics whose tokens are remembered."""


class CmiReward:
    """Reward model with the axes musicality and alignment that reads text, lyrics and reference audio.

    Audio is mixed to mono, resampled to 24 kHz and encoded in chunks without overlap, the last one shorter. What is
    left after full chunks is dropped if it is under 1025 samples (43 ms); audio shorter than that in all is padded with
    zeros. Nothing else is ever padded, so a candidate's rewards do not depend on the others (to float rounding).

    Args:
        model: the network with both towers.
        name: what the reward model is called.
        licence: of the weights.
        version: see `RewardInfo`.
        strategy: what of a candidate is judged: the `whole` as one, its `first` 10 seconds, or each 10 seconds by
            themselves, of whose rewards the `mean` is taken, weighted by duration. References are read whole.
        chunk_duration: of what goes through the audio tower by itself where the whole is judged, in seconds.
        max_duration: of candidates and references, in seconds; longer ones are cut there, with a warning. None hears
            all.
        resampler: "sinc" for weights whose published numbers come from torchaudio's resampling.
        precision: "auto" (bf16 on a GPU that has it, else float32), or one of `rerank.rewards.device.PRECISIONS`.
        together: seconds of audio that go through the audio tower at a time.
        memory: of audio that was encoded before; None forgets.
        device: "auto" (the GPU if there is one), or a torch device name.

    Raises:
        InvalidInput: there is no such device, precision or strategy, or max_duration is not positive.
    """

    def __init__(
        self,
        model: RewardModel,
        *,
        name: str = "cmi",
        licence: str = "unknown",
        version: str = "",
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
        self.device = resolve_device(device)
        self.precision = resolve_precision(precision, self.device)
        self.model = model.to(self.device).eval()
        set_precision(self.model, self.precision)
        self.strategy, self.chunk_duration = strategy, chunk_duration
        self.max_duration, self.resampler, self.memory = max_duration, resampler, memory
        kind = f"{name} {version} {self.precision} {chunk_duration} {max_duration} {resampler}"
        samples = round(together * SAMPLE_RATE)
        self._whole = AudioEncoder(self._tower, self._chunks, self.device, samples, memory, kind)
        self._clips = AudioEncoder(self._tower, self._cut, self.device, samples, memory, f"{strategy} {kind}")
        self._text = lru_cache(_TEXTS)(self._encode_text)
        conditions: frozenset[Condition] = frozenset({"text", "reference"})
        self._info = RewardInfo(
            name=name,
            axes=MEANINGS,
            sample_rate=SAMPLE_RATE,
            conditions=conditions | {"lyrics"} if model.config.reads_lyrics else conditions,
            licence=licence,
            version=version,
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
            text, lyrics = self._text(prompt.text), self._text(prompt.lyrics or "")
            reference = None
            if prompt.reference is not None:
                reference = Tokens.of(torch.cat(self._whole([prompt.reference])[0])[None])
            return self.model.encode_prompt(text, lyrics, reference)

    def forget_texts(self) -> None:
        """Forget the texts and lyrics that were encoded, as is needed where the model was changed."""
        self._text.cache_clear()

    def _encode_text(self, text: str) -> Tokens:
        return self.model.encode_text([text])

    def _tower(self, waveforms: Tensor) -> Tensor:
        """Shape: `[batch, time]` -> `[batch, tokens, dim]`."""
        return self.model.encode_audio(waveforms).values.float()

    def score(self, prepared: Tokens, audio: Sequence[Audio]) -> list[dict[str, float | None]]:
        """Return musicality and alignment of each audio; NaN where the network gives no finite number."""
        self.model.eval()
        rewards: list[dict[str, float | None]] = []
        for start in range(0, len(audio), _TOGETHER):
            with autocast(self.device, self.precision):
                scores = self._judge(prepared, audio[start : start + _TOGETHER])
            rewards += [{axis: _finite(row[AXES.index(axis)]) for axis in MEANINGS} for row in scores]
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

    def _chunks(self, audio: Audio) -> list[Mono]:
        """Return the whole of an audio in pieces that the audio tower takes."""
        waveform = to_waveform(audio, SAMPLE_RATE, self.max_duration, self.resampler)
        return chunks_of(waveform, round(self.chunk_duration * SAMPLE_RATE))

    def _cut(self, audio: Audio) -> list[Mono]:
        """Return the clips of an audio that the strategy judges."""
        waveform = to_waveform(audio, SAMPLE_RATE, self.max_duration, self.resampler)
        clips = chunks_of(waveform, round(CLIP_DURATION * SAMPLE_RATE))
        return clips[:1] if self.strategy == "first" else clips


def check_strategy(strategy: str) -> None:
    """Raise InvalidInput unless `strategy` is one."""
    if strategy not in get_args(Strategy):
        raise InvalidInput(f"unknown strategy {strategy!r}; use one of: {', '.join(get_args(Strategy))}")


def _finite(value: float) -> float:
    """Return `value`, or NaN where it is infinite."""
    return value if math.isfinite(value) else math.nan
