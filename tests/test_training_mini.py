"""The recipe of `cmi-mini`: data that is made again the same, batches with their truth, a run that goes on."""

import json
import math
import multiprocessing
import shutil
import signal
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rerank.audio import Audio
from rerank.data import Prompt
from rerank.errors import InvalidInput, RerankError
from rerank.generators.synth.truth import alignment, musicality
from rerank.generators.synth.voice import vowels_of
from rerank.generators.synth.words import read_text
from rerank.models.mini import MiniConfig
from rerank.protocols import Progress
from rerank.rewards.mini import load_mini
from rerank.training.loop import Loop, LoopOptions
from rerank.training.losses import noisy_preference_loss, preference_loss, regression_loss
from rerank.training.mini import dataset
from rerank.training.mini.batches import Batches
from rerank.training.mini.card import model_card
from rerank.training.mini.facts import audio_targets, followed_targets, spelling_targets, text_targets
from rerank.training.mini.options import TrainOptions
from rerank.training.mini.recipe import MiniRecipe
from rerank.training.mini.train import train
from tests.conftest import ROOT

OPTIONS = TrainOptions(
    shards=1,
    sung_shards=1,
    shard_prompts=5,
    tower_steps=2,
    preference_steps=2,
    truth_steps=2,
    lyrics_steps=1,
    prompts=2,
    processes=1,
    checkpoint_every=1,
    model=MiniConfig(dim=64, heads=2, audio_depth=1, text_depth=1, mlp_dim=32),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small shard of each kind."""
    folder = tmp_path_factory.mktemp("training")
    for name in ("data", "sung"):
        dataset.render(folder / name, 1, 5, 0, 1, lambda done, total: None, sung=name == "sung")
    return folder


def test_a_shard_is_the_same_in_any_process(data: Path) -> None:
    stored, made = dataset.load(data / "data", 0), dataset.render_shard(0, 5)
    for field in fields(made):
        first, second = getattr(stored, field.name), getattr(made, field.name)
        if isinstance(second, np.ndarray):
            assert np.array_equal(first, second), field.name
        elif field.name == "syllables":
            assert [[(start, vowel) for start, vowel in clip] for clip in first] == second
        else:
            assert first == second, field.name


def test_a_shard_that_is_there_is_not_made_again(data: Path) -> None:
    path = data / "data" / "0000.clean.npy"
    before = path.stat().st_mtime_ns
    seen: list[tuple[int, int]] = []
    dataset.render(data / "data", 1, 5, 0, 1, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)] and path.stat().st_mtime_ns == before


def test_a_process_that_is_killed_is_said_in_one_line(tmp_path: Path) -> None:
    def kill(done: int, total: int) -> None:
        for child in multiprocessing.active_children() if done else []:
            child.kill()

    with pytest.raises(RerankError, match="a process that rendered data was killed"):
        dataset.render(tmp_path, 3, 1, 0, 1, kill)
    assert (tmp_path / "0000.json").exists()
    dataset.render(tmp_path, 3, 1, 0, 1, lambda done, total: None)
    assert len(dataset.load(tmp_path, 2).facts) == dataset.CANDIDATES


def test_prompts_of_sung_shards_all_have_lyrics(data: Path) -> None:
    mixed, sung = (dataset.load(data / name, 0) for name in ("data", "sung"))
    assert all(sung.lyrics) and not all(mixed.lyrics) and set(sung.references) == {-1}
    assert mixed.facts != sung.facts
    assert sum(bool(facts.vowels) for facts in sung.facts) > len(sung.facts) / 2


def test_tower_batches_hold_clips_with_what_was_done_to_them(data: Path) -> None:
    shard = dataset.load(data / "data", 0)
    batch = Batches([shard], seed=0, prompts=4).for_towers(0)
    assert batch.spectrograms.shape[:2] == (20, 128) and torch.isfinite(batch.spectrograms).all()
    assert [name is not None for name in batch.damages] == 4 * [False, False, False, False, True]
    for row, (facts, syllables) in enumerate(zip(batch.facts, batch.syllables, strict=True)):
        kept = shard.damaged if batch.damages[row] else shard.clean
        first = round(batch.start * 50)
        cut = torch.from_numpy(kept[:, :, first : first + batch.spectrograms.shape[2]].astype(np.float32))
        # a batch is moved in level, which a difference in time does not see
        apart = (cut.diff(dim=2) - batch.spectrograms[row].diff(dim=1)).abs().amax((1, 2))
        place = int(apart.argmin())
        assert apart[place] < 1e-3 and batch.faults[row] == shard.faults[place]
        assert facts == shard.facts[place] and syllables == ([] if batch.damages[row] else shard.syllables[place])
        assert batch.damages[row] in (None, shard.damages[place][0])
    again = Batches([shard], seed=0, prompts=4).for_towers(0)
    assert torch.equal(batch.spectrograms, again.spectrograms) and batch.lessons == again.lessons


def test_targets_of_towers_are_probabilities(data: Path) -> None:
    shard = dataset.load(data / "data", 0)
    heard = audio_targets(shard.facts, shard.faults, shard.syllables, [None] * len(shard.facts), 0.0, 10.0)
    asked = text_targets([read_text("sad slow piano at 70 bpm, male vocals"), read_text("music")])
    for name in ("tempo", "genre", "voice", "dynamics", "recording", "valence", "energy"):
        assert heard[name].shape[1] == asked[name].shape[1]
        assert torch.allclose(heard[name].sum(1), torch.ones(len(shard.facts)))
        assert torch.equal(heard[name][:, 0], torch.zeros(len(shard.facts))), "a sound leaves nothing open"
        assert torch.allclose(asked[name].sum(1), torch.ones(2)) and asked[name][1, 0] == 1
    assert asked["tempo"][0, 0] == asked["voice"][0, 0] == asked["valence"][0, 0] == 0
    slower, faster = (text_targets([read_text(f"{bpm} bpm")])["tempo"][0].argmax() for bpm in (60, 180))
    assert slower < faster
    spelt = spelling_targets(["oh my love", ""], 3)
    assert torch.allclose(spelt.sum(-1), torch.ones(2, 3)) and (spelt[0, :, 1:].sum(-1) == 0.25).all()
    assert (spelt[1, :, 0] == 1).all()


def test_reward_batches_hold_the_truth_of_every_pair(data: Path) -> None:
    shard = dataset.load(data / "data", 0)
    batches = Batches([shard], seed=0, prompts=4)
    batch = batches.for_reward(0)
    pairs = batch.pairs
    damaged = []
    for pair, (prompt, row) in enumerate(zip(pairs.prompt_of.tolist(), pairs.clip_of.tolist(), strict=True)):
        clip = pairs.clips[row]
        if clip.damaged:
            damaged.append(pair)
            continue
        request = batches.data.request(pairs.prompts[prompt])
        expected = [alignment(request, shard.facts[clip.row]), musicality(shard.faults[clip.row])]
        assert pairs.truth[pair].tolist() == pytest.approx(expected)
    assert damaged and pairs.matches[damaged].isnan().all()
    assert (pairs.truth[damaged, 1] < 1 - 0.75 * 0.3 + 1e-6).all()
    assert len(pairs.twins) and (pairs.clip_of[pairs.twins[:, 0]] == pairs.clip_of[pairs.twins[:, 1]]).all()
    alone = [sum(map(bool, parts)) == 1 for parts in pairs.prompts]
    assert sum(alone) >= 4, "grids have prompts of one part"
    again = batches.for_reward(0)
    assert (
        pairs.prompts == again.pairs.prompts
        and pairs.clips == again.pairs.clips
        and torch.equal(pairs.truth, again.pairs.truth)
    )


def test_losses_fall_when_rewards_follow_the_truth(data: Path) -> None:
    pairs = Batches([dataset.load(data / "data", 0)], seed=0, prompts=4).for_reward(1).pairs
    right, gap = 6 * (pairs.truth - 0.5), pairs.differences(pairs.truth)
    for loss in (preference_loss, noisy_preference_loss):
        torch.manual_seed(0)
        good = loss(pairs.differences(right), gap)
        torch.manual_seed(0)
        assert good < 0.9 * loss(pairs.differences(-right), gap)
    assert regression_loss(right, pairs.truth) < 0.1 * regression_loss(-right, pairs.truth)


def test_candidates_of_one_prompt_are_compared_and_twins_on_alignment(data: Path) -> None:
    pairs = Batches([dataset.load(data / "data", 0)], seed=0, prompts=4).for_reward(1).pairs
    values = torch.randn(len(pairs.prompt_of), 2)
    prompts = pairs.prompt_of.tolist()
    expected = [
        (values[one] - values[other])[axis]
        for one in range(len(prompts))
        for other in range(one + 1, len(prompts))
        if prompts[one] == prompts[other]
        for axis in (0, 1)
    ] + [values[one, 0] - values[other, 0] for one, other in pairs.twins.tolist()]
    assert len(pairs.twins) and torch.equal(pairs.differences(values), torch.stack(expected))


@pytest.fixture
def folder(data: Path, tmp_path: Path) -> Path:
    """A training folder whose data is there."""
    for name in ("data", "sung"):
        (tmp_path / name).symlink_to(data / name)
    return tmp_path


def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    data: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = tmp_path_factory.mktemp("whole")
    for name in ("data", "sung"):
        (whole / name).symlink_to(data / name)
    train(whole, OPTIONS, device="cpu")
    for stop in (3, 6):  # in the lyrics, and when the running mean of the weights has begun

        def interrupt(progress: Progress, stop: int = stop) -> None:
            if progress.total == OPTIONS.steps and progress.done == stop:
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            train(folder, OPTIONS, interrupt, device="cpu")
        assert not (folder / "cmi-mini").exists()
    weights = train(folder, OPTIONS, device="cpu")
    one, other = (load_mini(path=path).model.state_dict() for path in (whole / "cmi-mini", weights))
    assert all(torch.equal(one[name], other[name]) for name in one)
    audio = Audio(np.random.default_rng(0).normal(0, 0.1, (1, 24_000)).astype(np.float32), 24_000)
    reward = load_mini(path=weights)
    assert set(reward.score(reward.prepare(Prompt("piano")), [audio])[0]) == {"musicality", "alignment"}


def test_a_folder_with_another_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "options.json").write_text(json.dumps({"seed": 7}), encoding="utf-8")
    with pytest.raises(InvalidInput, match="holds a run with other options"):
        train(tmp_path, OPTIONS)


def test_a_device_that_is_not_there_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="device 'banana' is not available here"):
        train(tmp_path / "new", OPTIONS, device="banana")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["shards", "sung_shards", "prompts", "truth_steps"])
def test_options_are_checked(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"{name} must be at least 1, got 0"):
        replace(OPTIONS, **{name: 0})  # type: ignore[arg-type]


def test_the_model_card_says_what_it_was_trained_on() -> None:
    report = {
        "options": {"prompts": 7},
        "metrics": {"best-of-n gain, combined": 0.5, "lyrics, combined": None},
        "calibration": {"slope": None, "interval": None},
    }
    card = model_card(OPTIONS, report)
    assert "trained on synthetic music only" in card and "use `cmi-rm`" in card
    assert "| best-of-n gain, combined | 0.500 | 0.75 | **no** |" in card and "lyrics, combined" not in card
    assert "How sure" not in card


def test_the_card_says_what_could_be_told_from_few_takes() -> None:
    report = json.loads((ROOT / "docs" / "cmi-mini.json").read_text(encoding="utf-8"))
    found, usual = report["calibration"], model_card(OPTIONS, report)
    assert "![" not in usual and "| first against second of 10 | 1" in usual
    found["told"]["first against second of 10"] = None
    found["told"]["all pairs"]["words"]["leans"] = {"pairs": 0, "said": None, "right": {"value": None}}
    found["other weights"]["musicality only"]["all pairs"] |= {"error": None, "error by chance": None}
    report["rules"]["10"]["rank"]["gain"] = {"value": None, "low": None, "high": None}
    card = model_card(OPTIONS, report)
    assert "| first against second of 10 | 1" not in card and "| none |" in card and "| - (-) |" in card
    assert "| 10 | `rank` | - |" in card and "None" not in card


def test_the_card_in_docs_is_made_from_the_report_beside_it() -> None:
    report = json.loads((ROOT / "docs" / "cmi-mini.json").read_text(encoding="utf-8"))
    card = (ROOT / "docs" / "cmi-mini.md").read_text(encoding="utf-8")
    assert card == model_card(TrainOptions(), report, "cmi-mini-calibration.png")
    assert "## How sure" in card and (ROOT / "docs" / "cmi-mini-calibration.png").stat().st_size < 60_000


def test_batches_of_lyrics_hold_what_is_sung(data: Path) -> None:
    mixed, sung = (dataset.load(data / name, 0) for name in ("data", "sung"))
    batches = Batches([mixed], seed=0, prompts=4, sung=[sung])
    step, batch = next((s, b) for s in range(20) if (b := batches.for_lyrics(s)).window == (0, 63))
    pairs = batch.pairs
    assert {clip.shard for clip in pairs.clips} == {0, 1} and batch.followed.shape == (len(pairs.prompt_of), 63)
    assert all(words and reference is None for _, words, reference in pairs.prompts)
    assert {bool(text) for text, _, _ in pairs.prompts} == {False, True}
    assert torch.allclose(batch.asked.sum(1), torch.ones(len(pairs.prompts)))
    shares, followed = [], batch.followed.nanmean(1).tolist()
    for pair, (prompt, row) in enumerate(zip(pairs.prompt_of.tolist(), pairs.clip_of.tolist(), strict=True)):
        text, words, _ = pairs.prompts[prompt]
        clip = pairs.clips[row]
        facts = batches.data.shards[clip.shard].facts[clip.row]
        asked = vowels_of(words)
        assert facts.vowels and not clip.damaged
        shares.append(np.mean([vowel == asked[place % len(asked)] for place, vowel in enumerate(facts.vowels)]))
        assert text or pairs.truth[pair, 0].item() == pytest.approx(shares[-1], abs=1e-6)
    assert np.corrcoef(shares, followed)[0, 1] > 0.9
    assert batches.for_lyrics(step).pairs.prompts == pairs.prompts
    assert batches.for_lyrics(step + 1).pairs.prompts != pairs.prompts


def test_lyrics_are_followed_where_the_vowel_is_theirs() -> None:
    syllables = [(0.0, "ah"), (0.32, "oh"), (0.96, "ee"), (4.0, "oh")]  # 6.25 tokens a second
    followed = followed_targets(["ah", "oh"], syllables, 0, 63)
    nothing = math.nan
    expected = [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert followed[:12] == expected, "a vowel counts until the next one, one second at most"
    np.testing.assert_equal(followed[12:25], 13 * [nothing])
    np.testing.assert_equal(followed[25:32], [*(6 * [1.0]), nothing])
    np.testing.assert_equal(followed_targets(["ah", "oh"], syllables, 4, 23), followed[4:27])
    assert np.isnan(followed_targets(["ah"], [], 0, 5)).all()


def test_every_stage_has_its_losses(folder: Path) -> None:
    recipe = MiniRecipe(folder, OPTIONS)
    recipe.begin("towers", lambda progress: None)
    assert not (folder / "tokens").exists()
    recipe.begin("lyrics", lambda progress: None)
    told = {
        stage: set(recipe.losses(stage, OPTIONS.tower_steps)) for stage in ("towers", "lyrics", "preferences", "truth")
    }
    lessons = {"reading", "spelling"}
    assert told["towers"] == {"hearing", *lessons}
    assert told["lyrics"] == {"lyrics: preference", "lyrics: regression", "following", "asked", *lessons}
    assert told["preferences"] == told["lyrics"] | {"match", "preference"}
    assert told["truth"] == told["preferences"] | {"regression"}
    loop = Loop(recipe, folder, LoopOptions(), "cpu")
    assert [loop.stage(step).name for step in range(loop.steps)] == [
        *(2 * ["towers"]), "lyrics", *(2 * ["preferences"]), *(2 * ["truth"])
    ]  # fmt: skip


def test_data_in_which_nothing_sings_is_refused(data: Path, tmp_path: Path) -> None:
    for name in ("data", "sung"):
        shutil.copytree(data / name, tmp_path / name)
        path = tmp_path / name / "0000.json"
        shard = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**shard, "lyrics": len(shard["lyrics"]) * [""]}), encoding="utf-8")
    with pytest.raises(InvalidInput, match="no clip in .* sings; raise shards"):
        MiniRecipe(tmp_path, OPTIONS)
