"""Train `cmi-mini`, the small reward model, from nothing, on music that `synth` makes.

First the towers learn the facts of sound and text (the published model starts from trained towers instead). Then, as in
the CMI-RewardBench paper (arXiv:2603.00610, section 3.3), the whole network learns from noisy preferences by Bradley-Terry
with label smoothing, and last from the clean truth, by Bradley-Terry and a tanh-scaled regression, with modality dropout.
In both it also learns to tell how far each single wish was met. In the last part the audio tower is frozen, as both are
in the paper, and there are many more prompts. The weights that are kept are a running mean.

A step depends on the options and its number alone, and a checkpoint holds all that the next step needs, so a run that
was stopped goes on as if it had not been. On another kind of processor, or with another number of threads, sums come
out differently in the last digits, and so do the weights.
"""

import io
import json
import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rerank.errors import InvalidInput
from rerank.files import make_folder, write_bytes
from rerank.models.cmi import RewardModel
from rerank.models.mini import MiniAudioTower, MiniConfig, build_mini
from rerank.models.transformer import Tokens
from rerank.models.vocabulary import Vocabulary
from rerank.protocols import Progress
from rerank.rewards.cmi import save_mini
from rerank.training import dataset
from rerank.training.batches import Batch, Batches, Pairs, Parts, read_cached
from rerank.training.facts import FactHeads, audio_targets, spelling_targets, text_targets
from rerank.training.losses import preference_loss, regression_loss
from rerank.training.prompts import captions, lyrics, sentence

log = logging.getLogger("rerank")


TOWER_COSINE, JOINT_COSINE = 32 / 15, 3.6
"""Lengths of the learning rate schedules of the towers and of what comes before the freezing, as multiples of it: they
are cut off while the rate is still high. The schedule of the frozen part runs to its end."""

SHORT_TEXT = 24
"""Words of a text that is padded together with other short ones."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of a training run.

    Attributes:
        seed: of everything.
        shards: of data.
        shard_prompts: prompts in a shard, with four clips each.
        tower_steps, preference_steps, truth_steps: length of the three stages.
        frozen_steps: length of the last stage's second half, in which the audio tower is frozen.
        prompts: per step, with four candidates each.
        learning_rate: at its highest.
        facts_weight: of telling facts from sound in the last two stages.
        processes: that render data.
        checkpoint_every: steps.
        model: sizes of the network.
    """

    seed: int = 0
    shards: int = 60
    shard_prompts: int = 50
    tower_steps: int = 1500
    preference_steps: int = 200
    truth_steps: int = 300
    frozen_steps: int = 900
    prompts: int = 8
    learning_rate: float = 1.2e-3
    facts_weight: float = 0.1
    processes: int = 2
    checkpoint_every: int = 100
    model: MiniConfig = field(default_factory=lambda: MiniConfig(dropout=0.05))

    def __post_init__(self) -> None:
        for name in ("shards", "shard_prompts", "prompts", "processes", "checkpoint_every", "truth_steps"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("seed", "tower_steps", "preference_steps", "frozen_steps"):
            if getattr(self, name) < 0:
                raise InvalidInput(f"{name} must not be negative, got {getattr(self, name)}")
        if self.shards * self.shard_prompts < self.prompts:
            held = self.shards * self.shard_prompts
            raise InvalidInput(f"a step takes {self.prompts} prompts and the data would hold {held}; raise shards")

    @property
    def steps(self) -> int:
        """Return the number of all steps."""
        return self.tower_steps + self.preference_steps + self.truth_steps + self.frozen_steps


def train(folder: Path, options: TrainOptions, on_progress: Callable[[Progress], None] | None = None) -> Path:
    """Render the data, train, and write the weights to `folder / "cmi-mini"`; go on where an earlier run stopped.

    Args:
        folder: of data, checkpoints and result. About 50 MB per shard.
        options: must be those of the earlier run.
        on_progress: called after each shard and each step.

    Returns:
        The folder of the weights, as `load_reward("cmi-mini", path=...)` takes it.

    Raises:
        InvalidInput: `folder` holds a run with other options.
    """
    _claim(folder, options)
    report: Callable[[Progress], None] = on_progress or (lambda progress: None)
    dataset.render(
        folder / "data",
        options.shards,
        options.shard_prompts,
        options.seed,
        options.processes,
        lambda done, total: report(Progress("rendering", done, total)),
    )
    trainer = Trainer(folder, options)
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
    """

    def __init__(self, folder: Path, options: TrainOptions) -> None:
        self.folder, self.options, self.step = folder, options, 0
        torch.manual_seed(options.seed)
        self.model = build_mini(learn_vocabulary(options.seed), options.model)
        self.heads = FactHeads(options.model.dim)
        running_mean = get_ema_multi_avg_fn(0.998)  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.mean = AveragedModel(self.model, multi_avg_fn=running_mean)
        parameters = [*self.model.parameters(), *self.heads.parameters()]
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.02},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98))
        shards = [dataset.load(folder / "data", index) for index in range(options.shards)]
        self.batches = Batches(shards, options.seed, options.prompts)
        self.losses: list[dict[str, float]] = []
        self.autocast = _has_fast_bfloat16()

    def stage(self, step: int) -> str:
        """Return the name of the stage that `step` belongs to."""
        if step < self.options.tower_steps:
            return "towers"
        if step < self.options.tower_steps + self.options.preference_steps:
            return "preferences"
        return "frozen" if step >= self.options.steps - self.options.frozen_steps else "truth"

    def learning_rate(self, step: int) -> float:
        """Return the learning rate: a short warm-up, then half a cosine, for each of towers, joint and frozen parts."""
        options = self.options
        joint = options.tower_steps + options.preference_steps + options.truth_steps
        first, begin, length = options.learning_rate, 0, round(TOWER_COSINE * options.tower_steps)
        if step >= joint:
            first, begin, length = 0.65 * first, joint, options.frozen_steps
        elif step >= options.tower_steps:
            first, begin = 0.8 * first, options.tower_steps
            length = round(JOINT_COSINE * (joint - options.tower_steps))
        place = (step - begin) / max(length, 1)
        return first * min(1.0, (step - begin + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * place)))

    def run_step(self) -> None:
        """Run one step, and write a checkpoint when one is due."""
        torch.manual_seed(self.options.seed * 1_000_003 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        self.model.train()
        # The plain attention kernel: its backward pass is twice as fast on processors with bfloat16.
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast), sdpa_kernel(SDPBackend.MATH):
            losses = self.losses_of(self.batches[self.step], self.stage(self.step))
        total = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 1.0)
        self.optimizer.step()
        if self.stage(self.step) in ("truth", "frozen"):
            self.mean.update_parameters(self.model)
        self.losses.append({name: float(loss.detach()) for name, loss in losses.items()})
        self.step += 1
        if self.step % self.options.checkpoint_every == 0 or self.step == self.options.steps:
            self.checkpoint()

    def losses_of(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """Return the losses of a batch by name, weighted."""
        listening = self.model.audio_module
        assert isinstance(listening, MiniAudioTower)
        if stage == "frozen":
            listening.eval()
            with torch.no_grad():
                audio = listening.encode(batch.spectrograms)
            ours, more = self.reward_losses(audio, batch.pairs, stage), self.reward_losses(audio, batch.more, stage)
            return {name: ours[name] + more[name] for name in ours}
        audio = listening.encode(batch.spectrograms)
        if stage == "towers":
            return {"hearing": self.hearing_loss(batch, audio), "reading": self.reading_loss(batch)}
        hearing = self.options.facts_weight * self.hearing_loss(batch, audio)
        return {"hearing": hearing, **self.reward_losses(audio, batch.pairs, stage)}

    def reward_losses(self, audio: Tensor, pairs: Pairs, stage: str) -> dict[str, Tensor]:
        """Return the losses of prompts with candidates, from the audio tower's tokens."""
        places, parts = [], []
        for group in _alike(pairs.prompts):
            place = torch.nonzero(torch.isin(pairs.prompt_of, torch.tensor(group)))[:, 0]
            row_of = {prompt: row for row, prompt in enumerate(group)}
            rows = torch.tensor([row_of[prompt] for prompt in pairs.prompt_of[place].tolist()])
            prompts = self.encode_prompts([pairs.prompts[prompt] for prompt in group], audio)
            of_pair = Tokens(prompts.values[rows], prompts.mask[rows])
            places.append(place)
            parts.append(self.model.join(of_pair, Tokens.of(audio[pairs.clip_of[place]])))
        joined = torch.cat(parts)[torch.cat(places).argsort()]
        rewards = self.model.score_projector(joined).float()
        losses = {
            "match": 2 * self.heads.match_loss(joined, pairs.matches),
            "preference": preference_loss(rewards, pairs, noisy=stage == "preferences"),
        }
        return losses if stage == "preferences" else losses | {"regression": regression_loss(rewards, pairs.truth)}

    def encode_prompts(self, prompts: list[Parts], audio: Tensor) -> Tokens:
        """Return the tokens of prompts that all have the same parts."""
        texts, words, references = (list(part) for part in zip(*prompts, strict=True))
        return self.model.encode_prompt(
            self.model.encode_text(texts) if texts[0] else None,
            self.model.encode_text(words) if words[0] else None,
            Tokens.of(audio[torch.tensor(references)]) if references[0] >= 0 else None,
        )

    def hearing_loss(self, batch: Batch, audio: Tensor) -> Tensor:
        """Return the loss of telling the facts of each clip from the audio tower's tokens."""
        targets = audio_targets(batch.facts, batch.faults, batch.syllables, batch.damages, batch.start, batch.duration)
        return self.heads.audio_loss(audio, targets)

    def reading_loss(self, batch: Batch) -> Tensor:
        """Return the loss of telling from the text tower's tokens what is asked for and how lyrics sound."""
        texts = [text for text, _, _ in batch.pairs.prompts] + batch.texts
        asked = self.heads.text_loss(self.model.encode_text(texts), text_targets([read_cached(text) for text in texts]))
        lyrics = [words for _, words, _ in batch.pairs.prompts] + batch.lyrics
        tokens = self.model.encode_text(lyrics)
        return 0.7 * asked + 4 * self.heads.lyrics_loss(tokens, spelling_targets(lyrics, tokens.values.shape[1]))

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
        kind = (bool(text), bool(words), reference >= 0, len(text.split()) > SHORT_TEXT)
        groups.setdefault(kind, []).append(number)
    return list(groups.values())


def learn_vocabulary(seed: int) -> Vocabulary:
    """Return the words of the training captions, of sentences and of lyrics."""
    rng = np.random.default_rng([seed, 3])
    own = [make(rng, "train") for make in (sentence, lyrics) for _ in range(2000)]
    return Vocabulary.learn([*captions("train"), *own], min_count=3, max_words=3500, max_ngrams=5000)


def _has_fast_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 matrices in hardware."""
    flags = ("avx512_bf16", "amx_bf16", "asimdbf16", "bf16")
    try:
        found = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return any(flag in found for flag in flags)
