"""How `cmi-mini` is trained: its stages, and what it learns in each.

First the towers learn the facts of sound and text (the published model starts from trained towers instead). Then the
audio tower is frozen, its tokens of all clips are stored, and the rest learns to hear whether lyrics are sung, which is
the hardest to find. After that, as in the CMI-RewardBench paper (arXiv:2603.00610, section 3.3), it learns from noisy
preferences by Bradley-Terry with label smoothing, and last from the clean truth, by Bradley-Terry and a tanh-scaled
regression, with modality dropout. In both it also learns to tell how far each single wish was met, goes on with lyrics,
and its text tower repeats its first lessons, as it would else forget how words sound. The weights that are kept are a
running mean.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rerank.corpus.captions import captions
from rerank.corpus.lyrics import lyrics
from rerank.corpus.prompts import sentence
from rerank.errors import InvalidInput
from rerank.models.mini import MiniAudioTower, build_mini
from rerank.models.transformer import Tokens
from rerank.models.vocabulary import Vocabulary
from rerank.training.features import stored
from rerank.training.loop import computing
from rerank.training.losses import noisy_preference_loss, preference_loss, regression_loss
from rerank.training.mini import dataset
from rerank.training.mini.batches import Batches, Lessons, LyricsBatch, PairBatch, TowerBatch
from rerank.training.mini.clips import Clip, Parts, read_cached
from rerank.training.mini.facts import audio_targets, spelling_targets, text_targets
from rerank.training.mini.heads import FactHeads
from rerank.training.mini.options import TrainOptions
from rerank.training.recipe import OnProgress, Stage

JOINT_RATE, JOINT_COSINE, COOL_DOWN = 0.7, 4000, 500
"""Learning rate of the later stages, relative to that of the towers; steps in which it would fall by a cosine; and last
steps in which it falls to nothing."""

REPEATED = 0.25
"""Weight of the text tower's first lessons while they are repeated."""

SHORT_TEXT = 24
"""Words of a text that is padded together with other short ones."""


class MiniRecipe:
    """The recipe of `cmi-mini`, see `rerank.training.recipe.Recipe`.

    Args:
        folder: that holds the data, and takes what the frozen audio tower makes of it.
        options: of the run.

    Raises:
        InvalidInput: nothing sings in the data.
    """

    def __init__(self, folder: Path, options: TrainOptions) -> None:
        self.folder, self.options = folder, options
        torch.manual_seed(options.seed)
        self.model = build_mini(learn_vocabulary(options.seed), options.model)
        self.heads = FactHeads(options.model.dim)
        self.stages: Sequence[Stage] = (
            Stage("towers", options.tower_steps),
            Stage("lyrics", options.lyrics_steps),
            Stage("preferences", options.preference_steps),
            Stage("truth", options.truth_steps, averaged=True),
        )
        shards = [dataset.load(folder / "data", index) for index in range(options.shards)]
        sung = [dataset.load(folder / "sung", index) for index in range(options.sung_shards)]
        self.batches = Batches(shards, options.seed, options.prompts, sung)
        if not self.batches.data.with_lyrics:
            raise InvalidInput(f"no clip in {folder} sings; raise shards")
        self.tokens: list[NDArray[np.float16]] = []

    @property
    def helpers(self) -> Mapping[str, FactHeads]:
        """What is trained along with the model and thrown away."""
        return {"heads": self.heads}

    @property
    def audio_tower(self) -> MiniAudioTower:
        """Return the audio tower of the model."""
        assert isinstance(self.model.audio_module, MiniAudioTower)
        return self.model.audio_module

    @property
    def device(self) -> torch.device:
        """Return the device that the model is on."""
        return next(self.model.parameters()).device

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

    def begin(self, stage: str, on_progress: OnProgress) -> None:
        """Store what the audio tower makes of all clips, once it changes no more."""
        if stage == "towers" or self.tokens:
            return
        shards = self.batches.data.shards
        tower = self.audio_tower.eval()

        def encode(index: int) -> NDArray[np.float16]:
            return np.stack([self._encode(tower, kind) for kind in (shards[index].clean, shards[index].damaged)])

        self.tokens = stored(self.folder / "tokens", len(shards), encode, on_progress)

    def _encode(self, tower: MiniAudioTower, spectrograms: NDArray[np.float16]) -> NDArray[np.float16]:
        """Return the tokens of one shard.

        Shape:
            `[clips, mels, frames]` -> `[clips, tokens, dim]`
        """
        parts = np.array_split(spectrograms, len(spectrograms) // 25 + 1)
        with torch.inference_mode(), computing(self.device):
            heard = [tower.encode(torch.from_numpy(part.astype(np.float32)).to(self.device)) for part in parts]
            return torch.cat(heard).half().cpu().numpy()

    def losses(self, stage: str, step: int) -> dict[str, Tensor]:
        """Return the losses of a step."""
        if stage == "towers":
            return self.tower_losses(self.batches.for_towers(step))
        sung = self.batches.for_lyrics(step)
        batch: PairBatch = sung
        losses = self.lyrics_losses(sung)
        if stage != "lyrics":
            batch = self.batches.for_reward(step)
            losses |= self.reward_losses(batch, noisy=stage == "preferences")
        repeated = self.text_losses(batch.lessons)
        return losses | {name: REPEATED * loss for name, loss in repeated.items()}

    def tower_losses(self, batch: TowerBatch) -> dict[str, Tensor]:
        """Return the losses of telling facts from sound, what is asked for from texts, and vowels from lyrics."""
        heard = audio_targets(batch.facts, batch.faults, batch.syllables, batch.damages, batch.start, batch.duration)
        tokens = self.audio_tower.encode(batch.spectrograms.to(self.device))
        return {"hearing": self.heads.audio_loss(tokens, self._here(heard)), **self.text_losses(batch.lessons)}

    def text_losses(self, lessons: Lessons) -> dict[str, Tensor]:
        """Return the losses of telling what is asked for from texts, and vowels from lyrics."""
        words = self.model.encode_text(lessons.lyrics)
        spelt = spelling_targets(lessons.lyrics, words.values.shape[1]).to(self.device)
        asked = text_targets([read_cached(text) for text in lessons.texts])
        return {
            "reading": self.heads.text_loss(self.model.encode_text(lessons.texts), self._here(asked)),
            "spelling": 2 * self.heads.lyrics_loss(words, spelt),
        }

    def reward_losses(self, batch: PairBatch, noisy: bool) -> dict[str, Tensor]:
        """Return the losses of prompts with candidates: of preferences (`noisy`) or of the truth."""
        joined = self.attend(batch).mean()
        rewards = self.model.score_projector(joined).float()
        truth, compare = batch.pairs.truth.to(self.device), batch.pairs.differences
        match = {"match": 2 * self.heads.match_loss(joined, batch.pairs.matches.to(self.device))}
        if noisy:
            return match | {"preference": noisy_preference_loss(compare(rewards), compare(truth))}
        return match | {
            "preference": preference_loss(compare(rewards), compare(truth)),
            "regression": regression_loss(rewards, truth),
        }

    def lyrics_losses(self, batch: LyricsBatch) -> dict[str, Tensor]:
        """Return the losses of prompts with lyrics and candidates that sing, by their truth."""
        tokens = self.attend(batch)
        rewards = self.model.score_projector(tokens.mean()).float()
        truth, compare = batch.pairs.truth.to(self.device), batch.pairs.differences
        asked = batch.asked[batch.pairs.prompt_of].to(self.device)
        return {
            "lyrics: preference": preference_loss(compare(rewards), compare(truth)),
            "lyrics: regression": regression_loss(rewards, truth),
            **self.heads.following_losses(tokens.values, batch.followed.to(self.device), asked),
        }

    def attend(self, batch: PairBatch) -> Tokens:
        """Return the tokens of the candidate of each pair, having attended to its prompt.

        Shape:
            values `[pairs, tokens, dim]`
        """
        first, length = batch.window
        pairs = batch.pairs
        heard = self.tokens_of(pairs.clips)[:, first : first + length]
        places, parts = [], []
        for group in _alike(pairs.prompts):
            place = torch.nonzero(torch.isin(pairs.prompt_of, torch.tensor(group)))[:, 0]
            row_of = {prompt: row for row, prompt in enumerate(group)}
            rows = torch.tensor([row_of[prompt] for prompt in pairs.prompt_of[place].tolist()])
            prompts = self.encode_prompts([pairs.prompts[prompt] for prompt in group])
            of_pair = Tokens(prompts.values[rows], prompts.mask[rows])
            places.append(place)
            parts.append(self.model.attend(of_pair, Tokens.of(heard[pairs.clip_of[place]])).values)
        return Tokens.of(torch.cat(parts)[torch.cat(places).argsort()])

    def tokens_of(self, clips: Sequence[Clip]) -> Tensor:
        """Return the audio tower's tokens of whole clips.

        Shape:
            `[clips, tokens, dim]`
        """
        found = [self.tokens[clip.shard][int(clip.damaged), clip.row] for clip in clips]
        return torch.from_numpy(np.stack(found)).float().to(self.device)

    def encode_prompts(self, prompts: list[Parts]) -> Tokens:
        """Return the tokens of prompts that all have the same parts."""
        references = [prompt.reference for prompt in prompts if prompt.reference]
        return self.model.encode_prompt(
            self.model.encode_text([prompt.text for prompt in prompts]) if prompts[0].text else None,
            self.model.encode_text([prompt.lyrics for prompt in prompts]) if prompts[0].lyrics else None,
            Tokens.of(self.tokens_of(references)) if references else None,
        )

    def _here(self, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: target.to(self.device) for name, target in targets.items()}


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
