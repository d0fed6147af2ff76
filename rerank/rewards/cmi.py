"""Rewards of a compositional reward model: how good a candidate is as music, and how well it fits its prompt.

`load_mini` gives `cmi-mini`, the small one that is part of the package.

**Conventions**: every reward is the network's raw output, higher is better; zero and one mean nothing in themselves.
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from rerank.audio import Audio, resample, to_mono
from rerank.data import Prompt
from rerank.errors import InvalidInput, WeightsError
from rerank.files import make_folder, write_bytes
from rerank.models.cmi import AXES, RewardModel
from rerank.models.mel import SHORTEST
from rerank.models.mini import MiniConfig, build_mini, mini_config, mini_vocabulary
from rerank.models.transformer import Tokens
from rerank.models.vocabulary import Vocabulary
from rerank.protocols import RewardInfo

SAMPLE_RATE = 24000

MEANINGS = {
    "musicality": "how good the audio is as music: composition, performance and sound, whatever was asked for",
    "alignment": "how well the audio fits all parts of its prompt: text, lyrics and reference audio",
}

_TOGETHER = 16
"""Candidates, or chunks of them, that go through the network at a time."""

_JOINT_TOKENS = 4096
"""Candidate tokens that go through the joint transformer at a time; one candidate may have more."""

_WEIGHTS, _CONFIG, _VOCABULARY = "model.safetensors", "config.json", "vocabulary.json"


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
        chunk_duration: in seconds.
        device: "auto" (the GPU if there is one), or a torch device name.

    Raises:
        InvalidInput: there is no such device.
    """

    def __init__(
        self,
        model: RewardModel,
        *,
        name: str = "cmi",
        licence: str = "unknown",
        version: str = "",
        chunk_duration: float = 10.0,
        device: str = "auto",
    ) -> None:
        self.device = resolve_device(device)
        self.model = model.to(self.device).eval()
        self.chunk = round(chunk_duration * SAMPLE_RATE)
        self._info = RewardInfo(
            name=name,
            axes=MEANINGS,
            sample_rate=SAMPLE_RATE,
            conditions=frozenset({"text", "lyrics", "reference"}),
            licence=licence,
            version=version,
        )

    @property
    def info(self) -> RewardInfo:
        """What this reward model is and reads."""
        return self._info

    @torch.inference_mode()
    def prepare(self, prompt: Prompt) -> Tokens:
        """Encode text, lyrics and reference and run the prompt transformer, once for all candidates."""
        self.model.eval()
        text = self.model.encode_text([prompt.text]) if prompt.text.strip() else None
        lyrics = self.model.encode_text([prompt.lyrics]) if prompt.lyrics and prompt.lyrics.strip() else None
        reference = None
        if prompt.reference is not None:
            reference = Tokens.of(self._encode([prompt.reference])[0][None])
        return self.model.encode_prompt(text, lyrics, reference)

    @torch.inference_mode()
    def score(self, prepared: Tokens, audio: Sequence[Audio]) -> list[dict[str, float | None]]:
        """Return musicality and alignment of each audio; NaN where the network gives no finite number."""
        self.model.eval()
        rewards: list[dict[str, float | None]] = []
        for start in range(0, len(audio), _TOGETHER):
            scores = self._score(prepared, self._encode(audio[start : start + _TOGETHER]))
            rewards += [{axis: _finite(row[AXES.index(axis)]) for axis in MEANINGS} for row in scores]
        return rewards

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

    def _encode(self, audio: Sequence[Audio]) -> list[Tensor]:
        """Return the tokens of each audio, chunks of equal length encoded together.

        Shape:
            `[tokens, dim]` each
        """
        chunks = [(index, chunk) for index, one in enumerate(audio) for chunk in self._chunks(one)]
        by_length = defaultdict(list)
        for place, (_, chunk) in enumerate(chunks):
            by_length[len(chunk)].append(place)
        tokens: dict[int, Tensor] = {}
        for places in by_length.values():
            for start in range(0, len(places), _TOGETHER):
                batch = places[start : start + _TOGETHER]
                waveforms = torch.from_numpy(np.stack([chunks[place][1] for place in batch]))
                tokens.update(zip(batch, self.model.encode_audio(waveforms.to(self.device)).values, strict=True))
        parts: list[list[Tensor]] = [[] for _ in audio]
        for place, (index, _) in enumerate(chunks):
            parts[index].append(tokens[place])
        return [torch.cat(part) for part in parts]

    def _chunks(self, audio: Audio) -> list[np.ndarray[tuple[int], np.dtype[np.float32]]]:
        """Return the mono waveform at 24 kHz in pieces that the audio tower takes."""
        waveform = resample(to_mono(audio), SAMPLE_RATE).waveform[0].astype(np.float32, copy=False)
        if len(waveform) < SHORTEST:
            waveform = np.pad(waveform, (0, SHORTEST - len(waveform)))
        chunks = [waveform[start : start + self.chunk] for start in range(0, len(waveform), self.chunk)]
        return [chunk for chunk in chunks if len(chunk) >= SHORTEST]


def _finite(value: float) -> float:
    """Return `value`, or NaN where it is infinite."""
    return value if math.isfinite(value) else math.nan


def resolve_device(name: str) -> torch.device:
    """Return the torch device called `name`; "auto" is the GPU if there is one, else the CPU.

    Raises:
        InvalidInput: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = ["cpu"] + (["mps"] if torch.backends.mps.is_available() else [])
    available += ["cuda"] * torch.cuda.is_available() + [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if name not in available:
        raise InvalidInput(f"device {name!r} is not available here; use 'auto' or one of: {', '.join(available)}")
    return torch.device(name)


def save_mini(model: RewardModel, folder: str | Path) -> Path:
    """Write the weights (float16), sizes and vocabulary of a small reward model to a folder, and return it.

    Each file is written completely or not at all.

    Raises:
        WeightsError: a weight is not finite, or too large for float16.
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    weights = {key: value.detach().cpu().half().contiguous() for key, value in model.state_dict().items()}
    broken = [key for key, value in weights.items() if not bool(value.isfinite().all())]
    if broken:
        raise WeightsError(f"weights that are not finite in float16 cannot be saved: {', '.join(broken)}")
    make_folder(folder)
    write_bytes(folder / _VOCABULARY, mini_vocabulary(model).to_json().encode())
    write_bytes(folder / _CONFIG, (json.dumps(asdict(mini_config(model)), indent=2) + "\n").encode())
    write_bytes(folder / _WEIGHTS, save_tensors(weights))
    return folder


def load_mini(*, path: str | Path | None = None, device: str = "auto") -> CmiReward:
    """Return `cmi-mini`, or another small reward model from a folder that `save_mini` wrote.

    Args:
        path: the folder; None for the weights in the package.
        device: see `CmiReward`.

    Raises:
        WeightsError: a file is missing or broken, or the weights are not those of this network.
        InvalidInput: there is no such device.
    """
    resolve_device(device)
    folder = resources.files("rerank.rewards") / "cmi-mini" if path is None else Path(path)
    config, vocabulary, weights = (_read(folder, name) for name in (_CONFIG, _VOCABULARY, _WEIGHTS))
    try:
        model = build_mini(Vocabulary.from_json(vocabulary.decode()), MiniConfig(**json.loads(config)))
        tensors = load_tensors(weights)
    except (ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"the reward model in {folder} is broken ({error}); copy or train it again") from error
    _check_fit(tensors, model, folder)
    model.load_state_dict({key: value.float() for key, value in tensors.items()}, strict=True)
    version = hashlib.sha256(weights).hexdigest()[:12]
    return CmiReward(model, name="cmi-mini", licence="Apache-2.0", version=version, device=device)


def _read(folder: Traversable, name: str) -> bytes:
    """Return the content of one file of a saved reward model."""
    try:
        return folder.joinpath(name).read_bytes()
    except OSError as error:
        raise WeightsError(
            f"cannot read {folder.joinpath(name)}; a reward model is a folder with "
            f"{_WEIGHTS}, {_CONFIG} and {_VOCABULARY}, as `rerank train cmi-mini` writes it"
        ) from error


def _check_fit(tensors: dict[str, Tensor], model: RewardModel, folder: Traversable) -> None:
    """Raise WeightsError unless `tensors` are exactly the weights of `model`."""
    own = model.state_dict()
    problems = {
        "missing": [key for key in own if key not in tensors],
        "not known": [key for key in tensors if key not in own],
        "of another shape": [key for key in own if key in tensors and own[key].shape != tensors[key].shape],
    }
    found = [f"{kind}: {', '.join(keys)}" for kind, keys in problems.items() if keys]
    if found:
        raise WeightsError(f"the weights in {folder} do not fit this network; {'; '.join(found)}")
