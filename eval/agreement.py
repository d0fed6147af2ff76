"""How well does a reward model agree with the truth, on music whose truth is known?

Every prompt, candidate and damage comes from `synth` and is new: captions of the MusicCaps evaluation split, templates,
lyric lines, seeds and damages that training never uses.

**Conventions**: rewards and truths are arrays `[prompts, candidates]` or one value per pair; accuracies are shares in
[0, 1], where a tie counts half.

**Metrics**
- pair accuracy: of two candidates whose truths differ by at least 0.2, how often the better one has the higher reward
- best-of-n gain: (truth of the chosen - mean) / (truth of the best - mean), from sums over all prompts: 0 is a random
  choice, 1 always finds the best
- preference: how often the right one of two (prompts, lyrics, references; clean or damaged) has the higher reward
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank.audio import Audio, resample
from rerank.data import Prompt
from rerank.errors import InvalidInput
from rerank.generators.synth import Synth, make, read
from rerank.generators.synth.truth import Facts, alignment, attribute_alignment
from rerank.generators.synth.words import Request
from rerank.protocols import Progress, Reward
from rerank.training.damage import HELD_OUT_DAMAGES
from rerank.training.prompts import captions, lyrics, sentence

Floats = NDArray[np.float64]

GAP = 0.2
"""Smallest difference of truth that a pair is judged on."""


@dataclass(frozen=True, kw_only=True)
class AgreementOptions:
    """Options of `evaluate`.

    Attributes:
        prompts: captions for the best-of-n gain; the other measures use as many cases.
        n: candidates for each caption.
        duration: of every candidate, in seconds.
        seed: of the choice of prompts and cases.
    """

    prompts: int = 200
    n: int = 10
    duration: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.prompts < 2 or self.n < 2:
            raise InvalidInput(f"agreement needs at least 2 prompts and n of 2, got {self.prompts} and {self.n}")


def pair_accuracy(rewards: Floats, truth: Floats, gap: float = GAP) -> tuple[float, int]:
    """Return the pair accuracy within each row, and the number of pairs that it is over.

    Shape:
        rewards, truth: `[prompts, candidates]`

    >>> pair_accuracy(np.array([[0.1, 0.9, 0.5]]), np.array([[0.0, 1.0, 0.9]]))
    (1.0, 2)
    """
    validate(rewards, truth)
    right, count = 0.0, 0
    for row_rewards, row_truth in zip(rewards, truth, strict=True):
        first, second = np.triu_indices(len(row_truth), k=1)
        told = np.abs(row_truth[first] - row_truth[second]) >= gap
        margin = (row_rewards[first] - row_rewards[second]) * np.sign(row_truth[first] - row_truth[second])
        right += float(np.sum((margin[told] > 0) + 0.5 * (margin[told] == 0)))
        count += int(told.sum())
    return (right / count if count else float("nan")), count


def best_of_n_gain(rewards: Floats, truth: Floats) -> float:
    """Return how much of the way from a random choice to the best one the highest reward goes.

    Shape:
        rewards, truth: `[prompts, candidates]`

    >>> best_of_n_gain(np.array([[0.1, 0.9, 0.5]]), np.array([[0.0, 1.0, 0.5]]))
    1.0
    """
    validate(rewards, truth)
    chosen = np.take_along_axis(truth, rewards.argmax(axis=1)[:, None], axis=1)[:, 0]
    mean, best = truth.mean(axis=1), truth.max(axis=1)
    return float((chosen - mean).sum() / (best - mean).sum())


def preference(right: Floats, wrong: Floats) -> float:
    """Return how often `right` is above `wrong`; a tie counts half.

    >>> preference(np.array([1.0, 2.0]), np.array([0.0, 2.0]))
    0.75
    """
    validate(right[None], wrong[None])
    return float(np.mean((right > wrong) + 0.5 * (right == wrong)))


def validate(first: Floats, second: Floats) -> None:
    """Refuse arrays that do not belong together or hold what is not a number.

    Raises:
        InvalidInput: shapes differ, are not two-dimensional, are empty, or a value is not finite.
    """
    if first.shape != second.shape or first.ndim != 2 or not first.size:
        raise InvalidInput(f"need two arrays [prompts, candidates] of one shape, got {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InvalidInput("rewards and truths must be finite numbers")


def evaluate(
    reward: Reward, options: AgreementOptions, on_progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Return all metrics of a reward model with axes musicality and alignment, with the options they were made with."""
    report = on_progress or (lambda progress: None)
    rng = np.random.default_rng([options.seed, 101])
    held_out = captions("test")
    texts = [held_out[i] for i in rng.permutation(len(held_out))[: options.prompts]]
    metrics = _best_of_n(reward, texts, options, lambda done: report(Progress("best of n", done, len(texts))))
    for name, measure in (("lyrics", _lyrics), ("reference", _reference), ("text", _text), ("damage", _damage)):
        cases = (measure(rng, case, options) for case in range(options.prompts))
        metrics |= _preferences(reward, name, cases, options.prompts, report)
    return {"reward": reward.info.name, "options": asdict(options), "metrics": metrics}


def _combined(rewards: Mapping[str, float | None]) -> float:
    values = [value for value in rewards.values() if value is not None]
    return float(np.mean(values))


def _best_of_n(
    reward: Reward, texts: Sequence[str], options: AgreementOptions, report: Callable[[int], None]
) -> dict[str, Any]:
    rows: dict[str, list[list[float]]] = {"musicality": [], "alignment": [], "combined": []}
    truths: dict[str, list[list[float]]] = {"musicality": [], "alignment": [], "combined": []}
    for done, text in enumerate(texts, start=1):
        prompt = Prompt(text)
        candidates = list(Synth().generate(prompt, range(options.n), options.duration))
        scores = reward.score(reward.prepare(prompt), [c.audio for c in candidates if c.audio])
        for axis in ("musicality", "alignment"):
            rows[axis].append([float(score[axis] or 0.0) for score in scores])
            truths[axis].append([float(c.truth[axis]) for c in candidates if c.truth])
        rows["combined"].append([_combined(score) for score in scores])
        truths["combined"].append(
            [(m + a) / 2 for m, a in zip(truths["musicality"][-1], truths["alignment"][-1], strict=True)]
        )
        report(done)
    metrics: dict[str, Any] = {}
    for axis in ("musicality", "alignment"):
        accuracy, pairs = pair_accuracy(np.array(rows[axis]), np.array(truths[axis]))
        metrics[f"pair accuracy, {axis}"] = accuracy
        metrics[f"pairs, {axis}"] = pairs
    metrics["best-of-n gain"] = best_of_n_gain(np.array(rows["combined"]), np.array(truths["combined"]))
    for axis in ("musicality", "alignment"):
        metrics[f"best-of-n gain, {axis}"] = best_of_n_gain(np.array(rows[axis]), np.array(truths[axis]))
    return metrics


@dataclass(frozen=True)
class _Case:
    """Two (prompt, audio) pairs, of which the first is the right one; `kind` names a sub-group of the report."""

    right: tuple[Prompt, Audio]
    wrong: tuple[Prompt, Audio]
    kind: str = ""


def _preferences(
    reward: Reward, name: str, cases: Iterable[_Case], count: int, report: Callable[[Progress], None]
) -> dict[str, float]:
    right: list[dict[str, float | None]] = []
    wrong: list[dict[str, float | None]] = []
    kinds: list[str] = []
    for done, case in enumerate(cases, start=1):
        for values, (prompt, audio) in ((right, case.right), (wrong, case.wrong)):
            values.append(reward.score(reward.prepare(prompt), [audio])[0])
        kinds.append(case.kind)
        report(Progress(name, done, count))

    def of(axis: str, rows: list[dict[str, float | None]], kind: str = "") -> Floats:
        chosen = [row for row, of_kind in zip(rows, kinds, strict=True) if kind in ("", of_kind)]
        return np.array([_combined(row) if axis == "combined" else float(row[axis] or 0.0) for row in chosen])

    result = {
        f"{name}, {axis}": preference(of(axis, right), of(axis, wrong))
        for axis in ("combined", "alignment", "musicality")
    }
    for kind in dict.fromkeys(filter(None, kinds)):
        result[f"{name}, combined: {kind}"] = preference(of("combined", right, kind), of("combined", wrong, kind))
    return result


def _held_out_text(rng: np.random.Generator) -> str:
    held_out = captions("test")
    return held_out[int(rng.integers(len(held_out)))] if rng.random() < 0.6 else sentence(rng, "test")


def _render(prompt: Prompt, rng: np.random.Generator, options: AgreementOptions, flawless: bool) -> tuple[Audio, Facts]:
    seed = np.random.SeedSequence([options.seed, 7, int(rng.integers(2**31))])
    audio, known = make(read(prompt), seed, options.duration, flawless=flawless)
    return audio, Facts(**known["rendered"])


def _lyrics(rng: np.random.Generator, case: int, options: AgreementOptions) -> _Case:
    """One audio that sings its lyrics, judged with them and with other lyrics."""
    text, words, others = _held_out_text(rng), lyrics(rng, "test"), lyrics(rng, "test")
    audio, _ = _render(Prompt(text, lyrics=words), rng, options, flawless=True)
    return _Case((Prompt(text, lyrics=words), audio), (Prompt(text, lyrics=others), audio))


def _reference(rng: np.random.Generator, case: int, options: AgreementOptions) -> _Case:
    """One audio that follows its reference, judged with it and with one that differs in tempo, key and brightness."""
    text = _held_out_text(rng)
    while True:
        reference, _ = _render(Prompt(_held_out_text(rng)), rng, options, flawless=True)
        other, _ = _render(Prompt(_held_out_text(rng)), rng, options, flawless=True)
        prompt = Prompt(text, reference=reference)
        audio, facts = _render(prompt, rng, options, flawless=True)
        wrong = Prompt(text, reference=other)
        if alignment(read(prompt), facts) - alignment(read(wrong), facts) >= GAP / 2:
            return _Case((prompt, audio), (wrong, audio))


def _text(rng: np.random.Generator, case: int, options: AgreementOptions) -> _Case:
    """One audio, judged with its own caption and with one of another tempo, mood and instruments."""
    held_out = captions("test")
    while True:
        own, other = (held_out[int(rng.integers(len(held_out)))] for _ in range(2))
        asked, differing = read(Prompt(own)), read(Prompt(other))
        if not (asked.mood and differing.mood and asked.instruments and differing.instruments):
            continue
        audio, facts = _render(Prompt(own), rng, options, flawless=True)
        if _differs(differing, facts):
            return _Case((Prompt(own), audio), (Prompt(other), audio))


def _differs(request: Request, facts: Facts) -> bool:
    """Return whether mood and instruments of `request` are not those of `facts`, nor its tempo where it names one."""
    shares = {name: share for name, (_, share) in attribute_alignment(request, facts).items()}
    named = [shares[name] for name in request.instruments]
    return shares["mood"] < 0.5 and shares.get("tempo", 0.0) < 0.5 and float(np.mean(named)) < 0.5


def _damage(rng: np.random.Generator, case: int, options: AgreementOptions) -> _Case:
    """One prompt, with an audio made for it and the same audio damaged in a way that training never used."""
    prompt = Prompt(_held_out_text(rng))
    audio, _ = _render(prompt, rng, options, flawless=bool(rng.random() < 0.5))
    kind = list(HELD_OUT_DAMAGES)[case % len(HELD_OUT_DAMAGES)]
    rate = 24_000
    waveform = resample(audio, rate).waveform.mean(axis=0)
    damaged = HELD_OUT_DAMAGES[kind](waveform, rate, float(rng.uniform(0.5, 1.0)), rng)
    return _Case((prompt, Audio(waveform[None], rate)), (prompt, Audio(damaged[None], rate)), kind)
