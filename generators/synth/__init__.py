"""`synth`: the built-in generator. It reads a prompt in English, composes and renders; it needs no weights.

Like a neural sampler it is imperfect in a way that differs by seed: a candidate departs from the prompt and from good
craft, and records both as its *truth*. So the best of its candidates is known, and a reward model can be trained and
measured without listeners.

    words     what the prompt asks            compose   the notes
    reading   which of its words say so
    listen    what a reference sounds like    faults    what goes wrong in playing and sound
    sampling  what this seed makes of it      mix       instruments, voice, drums -> stereo
    truth     how far it met the prompt and how well it is made
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from rerank.audio import Audio
from rerank.catalogue import generator_info
from rerank.data import Candidate, Prompt
from rerank.generators.synth import effects, faults, mix, truth
from rerank.generators.synth.compose import compose, sung
from rerank.generators.synth.instruments import SAMPLE_RATE
from rerank.generators.synth.listen import brightness, listen
from rerank.generators.synth.reading import reading_of
from rerank.generators.synth.sampling import draw
from rerank.generators.synth.voice import vowels_of
from rerank.generators.synth.words import Request, read_text
from rerank.protocols import Progress, Reading

VERSION = "1"
"""Of the sound: raised by one with every change after which a seed makes other audio."""


class Synth:
    """Procedural text-to-music at 32 kHz stereo; follows text, lyrics and reference audio.

    Args:
        flawless: make candidates without departures and faults.
    """

    def __init__(self, *, flawless: bool = False) -> None:
        self.flawless = flawless
        self.info = replace(generator_info("synth"), version=VERSION, options={"flawless": flawless})

    def reading(self, prompt: Prompt) -> Reading:
        """Return what it understands of a prompt; see `rerank.protocols.ReadsPrompts`."""
        return reading_of(prompt)

    def generate(
        self,
        prompt: Prompt,
        seeds: Sequence[int],
        duration: float,
        *,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Iterator[Candidate]:
        """Yield one candidate per seed; see `rerank.protocols.Generator`."""
        request = read(prompt)
        words = zlib.crc32(f"{prompt.text}\n{prompt.lyrics or ''}".encode())
        for index, seed in enumerate(seeds):
            audio, known = make(request, np.random.SeedSequence([seed, words]), duration, flawless=self.flawless)
            yield Candidate(index=index, seed=seed, audio=audio, truth=known)
            if on_progress:
                on_progress(Progress("generating", index + 1, len(seeds)))


def read(prompt: Prompt) -> Request:
    """Return what the text, the lyrics and the reference audio of a prompt ask for."""
    return replace(
        read_text(prompt.text),
        vowels=tuple(vowels_of(prompt.lyrics or "")),
        reference=listen(prompt.reference) if prompt.reference else None,
    )


def make(
    request: Request, seed: np.random.SeedSequence, duration: float, *, flawless: bool = False
) -> tuple[Audio, Mapping[str, Any]]:
    """Make one candidate and its truth.

    The truth holds what was `asked` and `rendered`, the `syllables` sung (start in seconds, vowel), the `departures` from
    the prompt in plain words, the `faults` with their severities, true `musicality` and true `alignment`.
    """
    plan_rng, fault_rng, note_rng, detail_rng = (
        # not seed.spawn, which changes the seed: the same one must make the same candidate again
        np.random.default_rng(np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, child)))
        for child in range(4)
    )
    drawn = draw(request, duration, plan_rng, flawless=flawless)
    flaws = {} if flawless else faults.draw(fault_rng)
    plan = drawn.plan
    parts = faults.play_badly(compose(plan, note_rng), flaws, 240 / plan.tempo, detail_rng)
    room = 0.5 + 1.6 * (1 - plan.mood[1])
    stereo = mix.render(parts, duration, plan.voice, room, seed=int(detail_rng.integers(2**31)))
    stereo = mix.master(stereo, plan.mood[1], drawn.brightness)
    if drawn.recording == "low":
        stereo = effects.tape_lofi(stereo, 0.8, int(detail_rng.integers(2**31)))
    stereo = effects.fade(stereo, 0.005, min(0.6, duration / 4))
    stereo = mix.level(faults.spoil(stereo, flaws, detail_rng), drawn.dynamics, plan.mood[1])
    syllables = sung(parts)
    facts = truth.Facts(
        tempo=plan.tempo,
        key=plan.key,
        mode=plan.mode,
        mood=plan.mood,
        genre=plan.genre,
        instruments=tuple(dict.fromkeys(part.instrument for part in parts if part.role != "voice")),
        dynamics=drawn.dynamics,
        recording=drawn.recording,
        voice=plan.voice,
        vowels=tuple(vowel for _, vowel in syllables),
        brightness=round(brightness(Audio(stereo, SAMPLE_RATE)), 1),
    )
    known = {
        "asked": asdict(request) | {"excluded": sorted(request.excluded)},
        "rendered": asdict(facts),
        "syllables": syllables,
        "departures": list(drawn.departures),
        "faults": flaws,
        "musicality": truth.musicality(flaws),
        "alignment": truth.alignment(request, facts),
    }
    return Audio(stereo, SAMPLE_RATE), known
