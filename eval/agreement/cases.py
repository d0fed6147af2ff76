"""Two of a kind, of which one is the right one: how often does it have the higher reward?"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from rerank.audio import Audio, resample
from rerank.corpus.captions import captions, pick
from rerank.corpus.held_out_damage import HELD_OUT_DAMAGES
from rerank.corpus.lyrics import lyrics
from rerank.corpus.prompts import sentence
from rerank.data import Prompt
from rerank.eval.agreement.takes import AXES, AgreementOptions, rewards_of
from rerank.eval.metrics import GAP, preference
from rerank.generators.synth import make, read
from rerank.generators.synth.truth import Facts, alignment, attribute_alignment
from rerank.generators.synth.words import Request
from rerank.protocols import Progress, Reward


@dataclass(frozen=True)
class Case:
    """Two (prompt, audio) pairs, of which the first is the right one; `kind` names a sub-group of the report."""

    right: tuple[Prompt, Audio]
    wrong: tuple[Prompt, Audio]
    kind: str = ""


def preferences(
    reward: Reward, rng: np.random.Generator, options: AgreementOptions, report: Callable[[Progress], None]
) -> dict[str, float]:
    """Return for each kind of case how often the right one has the higher reward."""
    metrics: dict[str, float] = {}
    for name, make_case in CASES.items():
        cases = (make_case(rng, options) for _ in range(options.prompts))
        metrics |= _of_kind(reward, name, cases, options.prompts, report)
    return metrics


def _of_kind(
    reward: Reward, name: str, cases: Iterable[Case], count: int, report: Callable[[Progress], None]
) -> dict[str, float]:
    right: list[dict[str, float]] = []
    wrong: list[dict[str, float]] = []
    kinds: list[str] = []
    for done, case in enumerate(cases, start=1):
        for values, (prompt, audio) in ((right, case.right), (wrong, case.wrong)):
            values += rewards_of(reward, prompt, [audio])
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


def _lyrics(rng: np.random.Generator, options: AgreementOptions) -> Case:
    """One audio that sings its lyrics, judged with them and with other lyrics."""
    text, words, others = _held_out_text(rng), lyrics(rng, "test"), lyrics(rng, "test")
    audio, _ = _render(Prompt(text, lyrics=words), rng, options, flawless=True)
    return Case((Prompt(text, lyrics=words), audio), (Prompt(text, lyrics=others), audio))


def _reference(rng: np.random.Generator, options: AgreementOptions) -> Case:
    """One audio that follows its reference, judged with it and with one that differs in tempo, key and brightness."""
    text = _held_out_text(rng)
    while True:
        reference, _ = _render(Prompt(_held_out_text(rng)), rng, options, flawless=True)
        other, _ = _render(Prompt(_held_out_text(rng)), rng, options, flawless=True)
        prompt = Prompt(text, reference=reference)
        audio, facts = _render(prompt, rng, options, flawless=True)
        wrong = Prompt(text, reference=other)
        if alignment(read(prompt), facts) - alignment(read(wrong), facts) >= GAP / 2:
            return Case((prompt, audio), (wrong, audio))


def _text(rng: np.random.Generator, options: AgreementOptions) -> Case:
    """One audio, judged with its own caption and with one of another tempo, mood and instruments."""
    while True:
        own, other = (pick(rng, captions("test")) for _ in range(2))
        asked, differing = read(Prompt(own)), read(Prompt(other))
        if not (asked.mood and differing.mood and asked.instruments and differing.instruments):
            continue
        audio, facts = _render(Prompt(own), rng, options, flawless=True)
        if _differs(differing, facts):
            return Case((Prompt(own), audio), (Prompt(other), audio))


def _differs(request: Request, facts: Facts) -> bool:
    """Return whether mood and instruments of `request` are not those of `facts`, nor its tempo where it names one."""
    shares = {name: share for name, (_, share) in attribute_alignment(request, facts).items()}
    named = [shares[name] for name in request.instruments]
    return shares["mood"] < 0.5 and shares.get("tempo", 0.0) < 0.5 and float(np.mean(named)) < 0.5


def _damage(rng: np.random.Generator, options: AgreementOptions) -> Case:
    """One prompt, with an audio made for it and the same audio damaged in a way that training never used."""
    prompt = Prompt(_held_out_text(rng))
    audio, _ = _render(prompt, rng, options, flawless=bool(rng.random() < 0.5))
    kind = list(HELD_OUT_DAMAGES)[int(rng.integers(len(HELD_OUT_DAMAGES)))]
    rate = 24_000
    waveform = resample(audio, rate).waveform.mean(axis=0)
    damaged = HELD_OUT_DAMAGES[kind](waveform, rate, float(rng.uniform(0.5, 1.0)), rng)
    return Case((prompt, Audio(waveform[None], rate)), (prompt, Audio(damaged[None], rate)), kind)


CASES: Mapping[str, Callable[[np.random.Generator, AgreementOptions], Case]] = {
    "lyrics": _lyrics,
    "reference": _reference,
    "text": _text,
    "damage": _damage,
}
"""By kind: what makes one."""
