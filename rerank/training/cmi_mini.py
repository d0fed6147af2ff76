"""Train `cmi-mini`, the small reward model, from nothing, on music that `synth` makes.

First the towers learn the facts of sound and text (the published model starts from trained towers instead). Then the
audio tower is frozen, its tokens of all clips are stored, and the rest learns to hear whether lyrics are sung, which is
the hardest to find. After that, as in the CMI-RewardBench paper (arXiv:2603.00610, section 3.3), it learns from noisy
preferences by Bradley-Terry with label smoothing, and last from the clean truth, by Bradley-Terry and a tanh-scaled
regression, with modality dropout. In both it also learns to tell how far each single wish was met, goes on with lyrics,
and its text tower repeats its first lessons, as it would else forget how words sound. The weights that are kept are a
running mean.

A step depends on the options and its number alone, and a checkpoint holds all that the next step needs, so a run that
was stopped goes on as if it had not been. On another kind of processor, or with another number of threads, sums come
out differently in the last digits, and so do the weights.
"""

import io
import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rerank.corpus.captions import captions
from rerank.corpus.lyrics import lyrics
from rerank.corpus.prompts import sentence
from rerank.errors import InvalidInput
from rerank.files import make_folder, write_bytes
from rerank.models.cmi import RewardModel
from rerank.models.device import has_fast_bfloat16
from rerank.models.mini import MiniAudioTower, MiniConfig, build_mini
from rerank.models.transformer import Tokens
from rerank.models.vocabulary import Vocabulary
from rerank.protocols import Progress
from rerank.rewards.mini import save_mini
from rerank.training import dataset
from rerank.training.batches import Batches, Clip, LyricsBatch, PairBatch, Parts, TowerBatch, read_cached
from rerank.training.facts import FactHeads, audio_targets, spelling_targets, text_targets
from rerank.training.losses import preference_loss, regression_loss

log = logging.getLogger("rerank")


JOINT_RATE, JOINT_COSINE, COOL_DOWN = 0.7, 4000, 500
"""Learning rate of the later stages, relative to that of the towers; steps in which it would fall by a cosine; and last
steps in which it falls to nothing."""

REPEATED = 0.25
"""Weight of the text tower's first lessons while they are repeated."""

SHORT_TEXT = 24
"""Words of a text that is padded together with other short ones."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of a training run.

    Attributes:
        seed: of everything.
        shards: of data.
        sung_shards: of more data, whose prompts all have lyrics.
        shard_prompts: prompts in a shard, with four clips each.
        tower_steps, lyrics_steps, preference_steps, truth_steps: length of the four stages.
        prompts: per step, with four candidates each.
        learning_rate: at its highest.
        processes: that render data.
        checkpoint_every: steps.
        model: sizes of the network.
    """

    seed: int = 0
    shards: int = 60
    sung_shards: int = 60
    shard_prompts: int = 50
    tower_steps: int = 2000
    lyrics_steps: int = 600
    preference_steps: int = 500
    truth_steps: int = 1900
    prompts: int = 8
    learning_rate: float = 1.2e-3
    processes: int = 2
    checkpoint_every: int = 100
    model: MiniConfig = field(default_factory=lambda: MiniConfig(dropout=0.05))

    def __post_init__(self) -> None:
        for name in (
            "shards",
            "sung_shards",
            "shard_prompts",
            "prompts",
            "processes",
            "checkpoint_every",
            "truth_steps",
        ):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("seed", "tower_steps", "lyrics_steps", "preference_steps"):
            if getattr(self, name) < 0:
                raise InvalidInput(f"{name} must not be negative, got {getattr(self, name)}")
        if self.shards * self.shard_prompts < self.prompts:
            held = self.shards * self.shard_prompts
            raise InvalidInput(f"a step takes {self.prompts} prompts and the data would hold {held}; raise shards")

    @property
    def steps(self) -> int:
        """Return the number of all steps."""
        return self.tower_steps + self.lyrics_steps + self.preference_steps + self.truth_steps


def train(folder: Path, options: TrainOptions, on_progress: Callable[[Progress], None] | None = None) -> Path:
    """Render the data, train, and write the weights to `folder / "cmi-mini"`; go on where an earlier run stopped.

    Args:
        folder: of data, checkpoints and result. About 60 MB per shard.
        options: must be those of the earlier run.
        on_progress: called after each shard and each step.

    Returns:
        The folder of the weights, as `load_reward("cmi-mini", path=...)` takes it.

    Raises:
        InvalidInput: `folder` holds a run with other options.
    """
    _claim(folder, options)
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
    trainer = Trainer(folder, options, report)
    trainer.resume()
    while trainer.step < options.steps:
        trainer.run_step()
        report(Progress(trainer.stage(trainer.step - 1), trainer.step, options.steps))
    return trainer.finish()


def _claim(folder: Path, options: TrainOptions) -> None:
    make_folder(folder)
    path = folder / "options.json"
    # how many processes render and how often is saved makes no difference to the result
    chosen = {name: value for name, value in asdict(options).items() if name not in ("processes", "checkpoint_every")}
    document = json.dumps(chosen, indent=1)
    if not path.exists():
        write_bytes(path, document.encode())
    elif path.read_text(encoding="utf-8") != document:
        raise InvalidInput(f"{folder} holds a run with other options; give another folder or the options of {path}")


class Trainer:
    """One training run: the network, what it is trained with, and where it stands.

    Args:
        folder: that holds the data and takes checkpoints.
        options: of the run.
        on_progress: called while the audio tower's tokens of all clips are stored.
    """

    def __init__(
        self, folder: Path, options: TrainOptions, on_progress: Callable[[Progress], None] = lambda progress: None
    ) -> None:
        self.folder, self.options, self.on_progress, self.step = folder, options, on_progress, 0
        torch.manual_seed(options.seed)
        self.model = build_mini(learn_vocabulary(options.seed), options.model)
        self.heads = FactHeads(options.model.dim)
        running_mean = get_ema_multi_avg_fn(0.995)  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.mean = AveragedModel(self.model, multi_avg_fn=running_mean)
        parameters = [*self.model.parameters(), *self.heads.parameters()]
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.02},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98))
        shards = [dataset.load(folder / "data", index) for index in range(options.shards)]
        sung = [dataset.load(folder / "sung", index) for index in range(options.sung_shards)]
        self.batches = Batches(shards, options.seed, options.prompts, sung)
        if not self.batches.sung:
            raise InvalidInput(f"no clip in {folder} sings; raise shards")
        self.tokens: list[NDArray[np.float16]] = []
        self.losses: list[dict[str, float]] = []
        self.autocast = has_fast_bfloat16()

    def stage(self, step: int) -> str:
        """Return the name of the stage that `step` belongs to."""
        options = self.options
        stages = (
            ("towers", options.tower_steps),
            ("lyrics", options.lyrics_steps),
            ("preferences", options.preference_steps),
        )
        end = 0
        for name, steps in stages:
            end += steps
            if step < end:
                return name
        return "truth"

    def learning_rate(self, step: int) -> float:
        """Return the learning rate, for the towers and for all that follows: a short warm-up, then part of a cosine.

        The towers' falls to its end; after them it falls slowly, and linearly to nothing in the last steps.
        """
        highest, begin, length, left = self.options.learning_rate, 0, self.options.tower_steps, 1.0
        if step >= length:
            highest, begin, length = JOINT_RATE * highest, length, JOINT_COSINE
            left = min(1.0, (self.options.steps - step) / COOL_DOWN)
        place = min((step - begin) / max(length, 1), 1.0)
        fall = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * place))
        return highest * min(1.0, (step - begin + 1) / 100) * fall * left

    def listen(self) -> None:
        """Store what the audio tower, which changes no more, makes of all clips."""
        folder = self.folder / "tokens"
        make_folder(folder)
        tower = self.audio_tower.eval()
        shards = self.batches.shards
        for index, shard in enumerate(shards):
            path = folder / f"{index:04d}.npy"
            if not path.exists():
                found = [self._encode(tower, spectrograms) for spectrograms in (shard.clean, shard.damaged)]
                content = io.BytesIO()
                np.save(content, np.stack(found))
                write_bytes(path, content.getvalue())
            self.tokens.append(np.load(path, mmap_mode="r"))
            self.on_progress(Progress("listening", index + 1, len(shards)))

    def _encode(self, tower: MiniAudioTower, spectrograms: NDArray[np.float16]) -> NDArray[np.float16]:
        """Return the tokens of one shard.

        Shape:
            `[clips, mels, frames]` -> `[clips, tokens, dim]`
        """
        parts = np.array_split(spectrograms, len(spectrograms) // 25 + 1)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            found = [tower.encode(torch.from_numpy(part.astype(np.float32))).half().numpy() for part in parts]
        return np.concatenate(found)

    @property
    def audio_tower(self) -> MiniAudioTower:
        """Return the audio tower of the model."""
        assert isinstance(self.model.audio_module, MiniAudioTower)
        return self.model.audio_module

    def run_step(self) -> None:
        """Run one step, and write a checkpoint when one is due."""
        torch.manual_seed(self.options.seed * 1_000_003 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        stage = self.stage(self.step)
        if stage != "towers" and not self.tokens:
            self.listen()
        self.model.train()
        # The plain attention kernel: its backward pass is twice as fast on processors with bfloat16.
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast), sdpa_kernel(SDPBackend.MATH):
            losses = self.step_losses(stage)
        total = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 1.0)
        self.optimizer.step()
        if stage == "truth":
            self.mean.update_parameters(self.model)
        self.losses.append({name: float(loss.detach()) for name, loss in losses.items()})
        self.step += 1
        if self.step % self.options.checkpoint_every == 0 or self.step == self.options.steps:
            self.checkpoint()

    def step_losses(self, stage: str) -> dict[str, Tensor]:
        """Return the losses of this step, which belongs to `stage`."""
        if stage == "towers":
            return self.tower_losses(self.batches.for_towers(self.step))
        lyrics = self.batches.for_lyrics(self.step)
        batch: PairBatch = lyrics
        losses = self.lyrics_losses(lyrics)
        if stage != "lyrics":
            batch = self.batches.for_reward(self.step)
            losses |= self.reward_losses(batch, noisy=stage == "preferences")
        repeated = self.text_losses(batch.texts, batch.lyrics)
        return losses | {name: REPEATED * loss for name, loss in repeated.items()}

    def tower_losses(self, batch: TowerBatch) -> dict[str, Tensor]:
        """Return the losses of telling facts from sound, what is asked for from texts, and vowels from lyrics."""
        heard = audio_targets(batch.facts, batch.faults, batch.syllables, batch.damages, batch.start, batch.duration)
        hearing = self.heads.audio_loss(self.audio_tower.encode(batch.spectrograms), heard)
        return {"hearing": hearing, **self.text_losses(batch.texts, batch.lyrics)}

    def text_losses(self, texts: list[str], lyrics: list[str]) -> dict[str, Tensor]:
        """Return the losses of telling what is asked for from texts, and vowels from lyrics."""
        words = self.model.encode_text(lyrics)
        asked = text_targets([read_cached(text) for text in texts])
        return {
            "reading": self.heads.text_loss(self.model.encode_text(texts), asked),
            "spelling": 2 * self.heads.lyrics_loss(words, spelling_targets(lyrics, words.values.shape[1])),
        }

    def reward_losses(self, batch: PairBatch, noisy: bool) -> dict[str, Tensor]:
        """Return the losses of prompts with candidates: of preferences (`noisy`) or of the truth."""
        joined = self.attend(batch).mean()
        rewards = self.model.score_projector(joined).float()
        losses = {
            "match": 2 * self.heads.match_loss(joined, batch.matches),
            "preference": preference_loss(rewards, batch, noisy),
        }
        return losses if noisy else losses | {"regression": regression_loss(rewards, batch.truth)}

    def lyrics_losses(self, batch: LyricsBatch) -> dict[str, Tensor]:
        """Return the losses of prompts with lyrics and candidates that sing, by their truth."""
        tokens = self.attend(batch)
        rewards = self.model.score_projector(tokens.mean()).float()
        return {
            "lyrics: preference": preference_loss(rewards, batch, noisy=False),
            "lyrics: regression": regression_loss(rewards, batch.truth),
            **self.heads.following_losses(tokens.values, batch.followed, batch.asked[batch.prompt_of]),
        }

    def attend(self, batch: PairBatch) -> Tokens:
        """Return the tokens of the candidate of each pair, having attended to its prompt.

        Shape:
            values `[pairs, tokens, dim]`
        """
        first, length = batch.window
        heard = self.tokens_of(batch.clips)[:, first : first + length]
        places, parts = [], []
        for group in _alike(batch.prompts):
            place = torch.nonzero(torch.isin(batch.prompt_of, torch.tensor(group)))[:, 0]
            row_of = {prompt: row for row, prompt in enumerate(group)}
            rows = torch.tensor([row_of[prompt] for prompt in batch.prompt_of[place].tolist()])
            prompts = self.encode_prompts([batch.prompts[prompt] for prompt in group])
            of_pair = Tokens(prompts.values[rows], prompts.mask[rows])
            places.append(place)
            parts.append(self.model.attend(of_pair, Tokens.of(heard[batch.clip_of[place]])).values)
        return Tokens.of(torch.cat(parts)[torch.cat(places).argsort()])

    def tokens_of(self, clips: Sequence[Clip]) -> Tensor:
        """Return the audio tower's tokens of whole clips.

        Shape:
            `[clips, tokens, dim]`
        """
        found = [self.tokens[clip.shard][int(clip.damaged), clip.row] for clip in clips]
        return torch.from_numpy(np.stack(found)).float()

    def encode_prompts(self, prompts: list[Parts]) -> Tokens:
        """Return the tokens of prompts that all have the same parts."""
        references = [prompt.reference for prompt in prompts if prompt.reference]
        return self.model.encode_prompt(
            self.model.encode_text([prompt.text for prompt in prompts]) if prompts[0].text else None,
            self.model.encode_text([prompt.lyrics for prompt in prompts]) if prompts[0].lyrics else None,
            Tokens.of(self.tokens_of(references)) if references else None,
        )

    def checkpoint(self) -> None:
        """Write everything that the next step needs."""
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "losses": self.losses,
        }
        content = io.BytesIO()
        torch.save(state, content)
        write_bytes(self.folder / "checkpoint.pt", content.getvalue())
        recent = self.losses[-self.options.checkpoint_every :]
        means = {name: float(np.mean([row[name] for row in recent if name in row])) for name in recent[-1]}
        log.info("step %d of %d: %s", self.step, self.options.steps, {n: round(v, 3) for n, v in means.items()})

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state: dict[str, Any] = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.mean.load_state_dict(state["mean"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.losses = state["step"], state["losses"]

    def finish(self) -> Path:
        """Write the averaged weights and return their folder."""
        model = self.mean.module
        assert isinstance(model, RewardModel)
        save_mini(model.eval(), self.folder / "cmi-mini")
        return self.folder / "cmi-mini"


def _alike(prompts: list[Parts]) -> list[list[int]]:
    """Group prompts that have the same parts, and short texts apart from long ones, so that little is padded."""
    groups: dict[tuple[bool, bool, bool, bool], list[int]] = {}
    for number, (text, words, reference) in enumerate(prompts):
        kind = (bool(text), bool(words), reference is not None, len(text.split()) > SHORT_TEXT)
        groups.setdefault(kind, []).append(number)
    return list(groups.values())


def learn_vocabulary(seed: int) -> Vocabulary:
    """Return the words of the training captions, of sentences and of lyrics."""
    rng = np.random.default_rng([seed, 3])
    own = [make(rng, "train") for make in (sentence, lyrics) for _ in range(2000)]
    return Vocabulary.learn([*captions("train"), *own], min_count=3, max_words=3500, max_ngrams=5000)
