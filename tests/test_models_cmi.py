"""The compositional reward model: published names and sizes, parts of a prompt, batches."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from rerank.models.cmi import CmiConfig, RewardModel
from rerank.models.transformer import Tokens

SMALL = CmiConfig(dim=32, heads=2, dim_head=20, prompt_tf_depth=2, joint_tf_depth=2, mlp_dim=24)


def build(config: CmiConfig = SMALL) -> RewardModel:
    torch.manual_seed(0)
    return RewardModel(config, nn.Identity(), nn.Identity()).eval()


def tokens(batch: int, count: int, seed: int = 0) -> Tokens:
    return Tokens.of(torch.randn(batch, count, 32, generator=torch.Generator().manual_seed(seed)))


@pytest.fixture(params=["SA", "CA", "SA with categories"])
def model(request: pytest.FixtureRequest) -> RewardModel:
    if request.param == "CA":
        return build(replace(SMALL, attention_mode="CA"))
    return build(replace(SMALL, category_embeddings=request.param == "SA with categories"))


def test_published_size() -> None:
    with torch.device("meta"):
        published = RewardModel(CmiConfig(prompt_tf_depth=4, joint_tf_depth=1), nn.Identity(), nn.Identity())
    head = 2 * 768 + 768 * 512 + 512 + 512 + 1
    unused = 3 * head + 3 * 10 * 768  # three heads with one output and three null embeddings
    assert sum(weight.numel() for weight in published.parameters()) == 33_072_261 - unused


def test_published_keys() -> None:
    layer = ["0.q_scale", "0.k_scale", "0.norm.learned_gamma", "0.to_q.weight", "0.to_kv.weight", "0.to_out.0.weight"]
    layer += ["1.0.learned_gamma", "1.1.weight", "1.4.weight"]
    head = {f"score_projector.{i}.{kind}" for i in (0, 1, 3) for kind in ("weight", "bias")}
    prompt = {f"prompt_transformer.layers.{i}.{key}" for i in range(2) for key in layer}
    joint = {f"joint_transformer.layers.{i}.{key}" for i in range(2) for key in layer}
    assert set(build().state_dict()) == head | prompt | joint
    decoder = set(build(replace(SMALL, attention_mode="CA")).state_dict()) - head - prompt
    assert {key.split(".")[2] for key in decoder} == {"self_attn", "cross_attn", "ffn"}
    assert {".".join(key.split(".")[:2]) for key in decoder} == {"joint_transformer.0", "joint_transformer.1"}
    with_categories = build(replace(SMALL, category_embeddings=True)).state_dict()
    assert tuple(with_categories["category_embedding.weight"].shape) == (4, 32)
    assert len(with_categories) == len(head | prompt | joint) + 1


def test_towers_have_the_published_names() -> None:
    with_towers = RewardModel(SMALL, nn.Linear(2, 2), nn.Linear(3, 3))
    assert {"text_module.weight", "audio_module.weight"} <= set(with_towers.state_dict())


@pytest.mark.parametrize("name", ["text", "lyrics", "reference"])
def test_absent_part_is_no_tokens(model: RewardModel, name: str) -> None:
    parts = {part: tokens(1, 4, seed) for seed, part in enumerate(("text", "lyrics", "reference"))}
    absent = model.encode_prompt(**{**parts, name: None})
    empty = model.encode_prompt(**{**parts, name: tokens(1, 0)})
    masked = model.encode_prompt(**{**parts, name: parts[name].where(torch.tensor([False]))})
    candidate = tokens(1, 6, 9)
    scores = model.score_tokens(absent, candidate)
    torch.testing.assert_close(model.score_tokens(empty, candidate), scores)
    torch.testing.assert_close(model.score_tokens(masked, candidate), scores)
    complete = model.score_tokens(model.encode_prompt(**parts), candidate)
    assert float((complete - scores).detach().abs().max()) > 1e-4


def test_candidate_alone(model: RewardModel) -> None:
    candidate = tokens(3, 6)
    scores = model.score_tokens(model.encode_prompt(), candidate)
    assert scores.shape == (3, 2) and bool(scores.isfinite().all())
    nothing_valid = model.encode_prompt(tokens(3, 4).where(torch.zeros(3, dtype=torch.bool)))
    torch.testing.assert_close(model.score_tokens(nothing_valid, candidate), scores)


def test_batch_equals_items_alone(model: RewardModel) -> None:
    text, lyrics, reference, candidate = (tokens(4, count, count) for count in (5, 7, 6, 8))
    has_lyrics, has_reference = torch.tensor([True, False, True, False]), torch.tensor([False, False, True, True])
    shorter = Tokens(candidate.values, torch.arange(8) < torch.tensor([8, 3, 5, 8])[:, None])
    prompt = model.encode_prompt(text, lyrics.where(has_lyrics), reference.where(has_reference))
    together = model.score_tokens(prompt, shorter)
    for item in range(4):
        alone = model.encode_prompt(
            Tokens.of(text.values[item : item + 1]),
            Tokens.of(lyrics.values[item : item + 1]) if has_lyrics[item] else None,
            Tokens.of(reference.values[item : item + 1]) if has_reference[item] else None,
        )
        count = int(shorter.mask[item].sum())
        scores = model.score_tokens(alone, Tokens.of(candidate.values[item : item + 1, :count]))
        torch.testing.assert_close(together[item : item + 1], scores, atol=1e-5, rtol=1e-5)


def test_one_prompt_for_many_candidates(model: RewardModel) -> None:
    prompt, candidates = model.encode_prompt(tokens(1, 5)), tokens(7, 4, 3)
    together = model.score_tokens(prompt, candidates)
    alone = [model.score_tokens(prompt, Tokens.of(candidates.values[i : i + 1])) for i in range(7)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_order_of_tokens_and_roles() -> None:
    text, lyrics, candidate = tokens(1, 4, 1), tokens(1, 5, 2), tokens(1, 6, 3)
    published, mini = build(), build(replace(SMALL, category_embeddings=True))
    for network, same in ((published, True), (mini, False)):
        one = network.score_tokens(network.encode_prompt(text, lyrics), candidate)
        other = network.score_tokens(network.encode_prompt(lyrics, text), candidate)
        assert bool(torch.allclose(one, other, atol=1e-5)) == same


def test_all_weights_learn(model: RewardModel) -> None:
    parts = (tokens(2, 3, 1), tokens(2, 4, 2), tokens(2, 5, 3))
    loss: Any = model.score_tokens(model.encode_prompt(*parts), tokens(2, 6, 4)).square().sum()
    loss.backward()
    assert [key for key, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []
