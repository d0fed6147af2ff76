"""How well does a reward model agree with the truth, on music whose truth is known?

Every prompt, candidate and damage comes from `synth` and is new: captions of the MusicCaps evaluation split, templates,
lyric lines, seeds and damages that training never uses.

**Metrics** (of `rerank.eval.metrics`)
- pair accuracy: of two candidates whose truths differ by at least 0.2, how often the better one has the higher reward
- best-of-n gain: (truth of the chosen - mean) / (truth of the best - mean), averaged over prompts: 0 is a random choice,
  1 always finds the best; "of sums" divides the sums over all prompts instead
- preference: how often the right one of two has the higher reward. For lyrics, reference and text these are two prompts
  with one audio, which meets the right one fully (made without departures and faults): the lyrics it sings against
  others; the reference it follows against one that is at least 0.1 of true alignment worse; its caption against one
  whose mood and instruments it has not, nor the tempo if one is named. For damage it is one prompt with an audio, half
  of them with departures and faults, against the same audio damaged with a severity of 0.5 to 1.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rerank.audio import Audio, resample
from rerank.corpus.captions import captions, pick
from rerank.corpus.held_out_damage import HELD_OUT_DAMAGES
from rerank.corpus.lyrics import lyrics
from rerank.corpus.prompts import sentence
from rerank.data import Prompt
from rerank.errors import InvalidInput, RewardFailed
from rerank.eval.metrics import GAP, best_of_n_gain, pair_accuracy, preference
from rerank.generators.synth import Synth, make, read
from rerank.generators.synth.truth import Facts, alignment, attribute_alignment
from rerank.generators.synth.words import Request
from rerank.protocols import Progress, Reward
from rerank.scoring import not_finite, score_each

AXES = ("musicality", "alignment")


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
        most = len(captions("test"))
        if not 2 <= self.prompts <= most or self.n < 2:
            raise InvalidInput(
                f"agreement needs 2 to {most} prompts and n of at least 2, got {self.prompts} and {self.n}"
            )


def evaluate(
    reward: Reward, options: AgreementOptions, on_progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Return all metrics of a reward model, with the options they were made with.

    Raises:
        InvalidInput: it lacks the axis musicality or alignment.
        RewardFailed: it fails on a candidate, or a reward is None or not finite.
    """
    missing = {*AXES} - {*reward.info.axes}
    if missing:
        raise InvalidInput(f"agreement needs the axes musicality and alignment; {reward.info.name} lacks {missing}")
    report = on_progress or (lambda progress: None)
    rng = np.random.default_rng([options.seed, 101])
    held_out = captions("test")
    texts = [held_out[i] for i in rng.permutation(len(held_out))[: options.prompts]]
    metrics = _best_of_n(reward, texts, options, report)
    for name, measure in (("lyrics", _lyrics), ("reference", _reference), ("text", _text), ("damage", _damage)):
        cases = (measure(rng, options) for _ in range(options.prompts))
        metrics |= _preferences(reward, name, cases, options.prompts, report)
    version = reward.info.version
    return {"reward": reward.info.name, "version": version, "options": asdict(options), "metrics": metrics}


def _rewards(reward: Reward, prompt: Prompt, audio: Sequence[Audio]) -> list[dict[str, float]]:
    """Return the rewards of each piece on both axes and combined with equal weights."""
    rewards = []
    for found in score_each(reward, prompt, audio):
        fault = found if isinstance(found, str) else not_finite(found)
        if fault or isinstance(found, str):
            raise RewardFailed(f"reward model {reward.info.name}: {fault}")
        values = [value for axis in AXES if (value := found[axis]) is not None]
        if len(values) < len(AXES):
            raise RewardFailed(f"reward model {reward.info.name} gives no reward on an axis: {found}")
        rewards.append({**dict(zip(AXES, values, strict=True)), "combined": float(np.mean(values))})
    return rewards


def _best_of_n(
    reward: Reward, texts: Sequence[str], options: AgreementOptions, report: Callable[[Progress], None]
) -> dict[str, Any]:
    rewards: dict[str, list[list[float]]] = {axis: [] for axis in (*AXES, "combined")}
    truths: dict[str, list[list[float]]] = {axis: [] for axis in (*AXES, "combined")}
    seeds = range(options.seed * options.n, (options.seed + 1) * options.n)
    for done, text in enumerate(texts, start=1):
        prompt = Prompt(text)
        candidates = list(Synth().generate(prompt, seeds, options.duration))
        scores = _rewards(reward, prompt, [c.audio for c in candidates if c.audio])
        known = [{axis: float(c.truth[axis]) for axis in AXES} for c in candidates if c.truth]
        for axis, rows in rewards.items():
            rows.append([score[axis] for score in scores])
            truths[axis].append([float(np.mean([*k.values()])) if axis == "combined" else k[axis] for k in known])
        report(Progress("best of n", done, len(texts)))
    metrics: dict[str, Any] = {}
    for axis in AXES:
        accuracy, pairs = pair_accuracy(np.array(rewards[axis]), np.array(truths[axis]))
        metrics |= {f"pair accuracy, {axis}": accuracy, f"pairs, {axis}": pairs}
    for axis in ("combined", *AXES):
        gain, of_sums = best_of_n_gain(np.array(rewards[axis]), np.array(truths[axis]))
        metrics |= {f"best-of-n gain, {axis}": gain, f"best-of-n gain of sums, {axis}": of_sums}
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
    right: list[dict[str, float]] = []
    wrong: list[dict[str, float]] = []
    kinds: list[str] = []
    for done, case in enumerate(cases, start=1):
        for values, (prompt, audio) in ((right, case.right), (wrong, case.wrong)):
            values += _rewards(reward, prompt, [audio])
        kinds.append(case.kind)
        report(Progress(name, done, count))

    def share(axis: str, kind: str = "") -> float:
        chosen = [place for place, of_kind in enumerate(kinds) if kind in ("", of_kind)]
        return preference(*(np.array([rows[place][axis] for place in chosen]) for rows in (right, wrong)))

    metrics = {f"{name}, {axis}": share(axis) for axis in ("combined", *AXES)}
    return metrics | {
        f"{name}, combined: {kind}": share("combined", kind) for kind in dict.fromkeys(filter(None, kinds))
    }


def _held_out_text(rng: np.random.Generator) -> str:
    return pick(rng, captions("test")) if rng.random() < 0.6 else sentence(rng, "test")


def _render(prompt: Prompt, rng: np.random.Generator, options: AgreementOptions, flawless: bool) -> tuple[Audio, Facts]:
    seed = np.random.SeedSequence([options.seed, 7, int(rng.integers(2**31))])
    audio, known = make(read(prompt), seed, options.duration, flawless=flawless)
    return audio, Facts(**known["rendered"])


def _lyrics(rng: np.random.Generator, options: AgreementOptions) -> _Case:
    """One audio that sings its lyrics, judged with them and with other lyrics."""
    text, words, others = _held_out_text(rng), lyrics(rng, "test"), lyrics(rng, "test")
    audio, _ = _render(Prompt(text, lyrics=words), rng, options, flawless=True)
    return _Case((Prompt(text, lyrics=words), audio), (Prompt(text, lyrics=others), audio))


def _reference(rng: np.random.Generator, options: AgreementOptions) -> _Case:
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


def _text(rng: np.random.Generator, options: AgreementOptions) -> _Case:
    """One audio, judged with its own caption and with one of another tempo, mood and instruments."""
    while True:
        own, other = (pick(rng, captions("test")) for _ in range(2))
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


def _damage(rng: np.random.Generator, options: AgreementOptions) -> _Case:
    """One prompt, with an audio made for it and the same audio damaged in a way that training never used."""
    prompt = Prompt(_held_out_text(rng))
    audio, _ = _render(prompt, rng, options, flawless=bool(rng.random() < 0.5))
    kind = list(HELD_OUT_DAMAGES)[int(rng.integers(len(HELD_OUT_DAMAGES)))]
    rate = 24_000
    waveform = resample(audio, rate).waveform.mean(axis=0)
    damaged = HELD_OUT_DAMAGES[kind](waveform, rate, float(rng.uniform(0.5, 1.0)), rng)
    return _Case((prompt, Audio(waveform[None], rate)), (prompt, Audio(damaged[None], rate)), kind)
