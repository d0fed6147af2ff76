"""A toy generator and a toy reward model: numpy only, a few milliseconds a candidate, installed as a plugin on demand."""

import logging
import os
import signal
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from rerank.audio import Audio
from rerank.data import Candidate, Prompt
from rerank.protocols import Axis, Condition, GeneratorInfo, Progress, RewardInfo
from rerank.threads import wait_passively

os.environ["HF_HUB_OFFLINE"] = "1"  # before its library is imported, here and in the processes that tests start

wait_passively()  # tests run beside each other, and start processes of their own

# a shell lets what it starts in the background ignore Ctrl-C, and so would the processes that tests start
signal.signal(signal.SIGINT, signal.default_int_handler)

# how long one example takes says nothing on a busy machine
hypothesis.settings.register_profile("rerank", deadline=None)
hypothesis.settings.load_profile("rerank")

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_RATE = 16_000


@pytest.fixture(autouse=True)
def _no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as they need to be, whatever the terminal of whoever runs the tests is."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Undo what a command sets up for its messages, which would else reach the tests after it."""
    logger = logging.getLogger("rerank")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


class ToyGenerator:
    """Plays eight random notes a second; every part of the prompt changes the notes.

    Args:
        conditions: the parts of a prompt that it follows.
        failing: seeds that it raises an error for.
        change: what to do to the audio of a seed.
        pause: seconds to wait for before each candidate.
    """

    def __init__(
        self,
        *,
        conditions: Sequence[Condition] = ("text",),
        failing: Collection[int] = (),
        change: Callable[[int, Audio], Audio] | None = None,
        pause: float = 0.0,
    ) -> None:
        self.failing, self.change, self.pause = failing, change, pause
        self.info = GeneratorInfo(
            name="toy",
            sample_rate=SAMPLE_RATE,
            channels=2,
            max_duration=30.0,
            min_duration=0.5,
            conditions=frozenset(conditions),
            licence="Apache-2.0",
        )

    def generate(
        self,
        prompt: Prompt,
        seeds: Sequence[int],
        duration: float,
        *,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Iterator[Candidate]:
        heard = prompt.reference.waveform.tobytes() if prompt.reference else b""
        words = zlib.crc32(f"{prompt.text}\n{prompt.lyrics}\n".encode() + heard)
        for index, seed in enumerate(seeds):
            time.sleep(self.pause)
            if seed in self.failing:
                raise RuntimeError(f"no ideas\nfor seed {seed}")
            audio = notes(np.random.default_rng([seed, words]), duration)
            if self.change:
                audio = self.change(seed, audio)
            if on_progress:
                on_progress(Progress("generating", index + 1, len(seeds)))
            yield Candidate(index=index, seed=seed, audio=audio)


class ToyReward:
    """`musicality` is the brightness of the audio, `alignment` its level times a number drawn from the prompt.

    Args:
        override: axis -> what to return instead, by the number of samples or for all.
    """

    def __init__(self, *, override: Callable[[Audio], dict[str, float | None]] | None = None) -> None:
        self.override = override
        self.prepared = 0
        self.scored = 0
        self.info = RewardInfo(
            name="toy",
            axes={
                "musicality": Axis(meaning="how bright it is"),
                "alignment": Axis(meaning="how loud it is, for the prompt"),
            },
            sample_rate=SAMPLE_RATE,
            conditions=frozenset({"text", "lyrics", "reference"}),
            licence="Apache-2.0",
        )

    def prepare(self, prompt: Prompt) -> float:
        self.prepared += 1
        return 1 + zlib.crc32(f"{prompt.text}\n{prompt.lyrics}".encode()) % 100 / 100

    def score(self, prepared: float, audio: Sequence[Audio]) -> list[dict[str, float | None]]:
        self.scored += len(audio)
        return [self._score(prepared, piece) for piece in audio]

    def _score(self, prepared: float, audio: Audio) -> dict[str, float | None]:
        rewards: dict[str, float | None] = {
            "musicality": float(np.abs(np.diff(audio.waveform)).mean()),
            "alignment": float(np.abs(audio.waveform).mean()) * prepared,
        }
        return {**rewards, **(self.override(audio) if self.override else {})}


def notes(rng: np.random.Generator, duration: float, sample_rate: int = SAMPLE_RATE) -> Audio:
    """Return random notes in stereo, at a level that no filter minds."""
    time_ = np.arange(round(duration * sample_rate)) / sample_rate
    place = (time_ * 8).astype(int)
    count = place.max(initial=0) + 1
    wave = rng.uniform(0.1, 0.5, count)[place] * np.sin(2 * np.pi * rng.uniform(100, 3000, count)[place] * time_)
    return Audio(np.stack([wave, 0.8 * wave]).astype(np.float32), sample_rate)


@pytest.fixture
def plugged(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the toys as a plugin package, for this process; the folder does it for others, on PYTHONPATH."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, "toy-package", generators="toy = toy_package:ToyGenerator", rewards="toy = toy_package:ToyReward")
    (folder / "toy_package.py").write_text(
        "from tests.conftest import ToyGenerator, ToyReward\n__all__ = ['ToyGenerator', 'ToyReward']\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delenv("RERANK_PLUGINS", raising=False)
    return folder


def install(folder: Path, package: str, *, generators: str = "", rewards: str = "") -> None:
    """Write what an installer leaves of a package with these entry points."""
    metadata = folder / f"{package.replace('-', '_')}-1.5.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
    (metadata / "entry_points.txt").write_text(f"[rerank.generators]\n{generators}\n[rerank.rewards]\n{rewards}\n")
