"""Draw what a candidate will be: what the prompt asks, a style's defaults where it leaves the choice, and departures.

Like a neural sampler, `synth` does not always do what it is told. How wayward a candidate is, is drawn from its seed;
a wayward one drops or replaces more of what was asked. The departures are listed in plain words in the truth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np

from rerank.generators.synth.drums import KITS
from rerank.generators.synth.instruments import INSTRUMENTS
from rerank.generators.synth.lexicon import BASSES, FASTEST, MOODS, SLOWEST
from rerank.generators.synth.score import Plan
from rerank.generators.synth.styles import STYLES
from rerank.generators.synth.voice import VOWELS
from rerank.generators.synth.words import Mode, Request

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A plan with how it is recorded, and where it departs from the request.

    Attributes:
        plan: what will be played.
        dynamics: quiet, medium or loud.
        recording: low or high quality.
        brightness: spectral centroid to reach in Hz, None where any will do.
        departures: what was asked and is not done, in plain words.
    """

    plan: Plan
    dynamics: Literal["quiet", "medium", "loud"]
    recording: Literal["low", "high"]
    brightness: float | None
    departures: tuple[str, ...]


def draw(request: Request, duration: float, rng: np.random.Generator, *, flawless: bool = False) -> Draw:
    """Draw a candidate of `duration` seconds; the same `rng` state draws the same one, `flawless` without departures."""
    sampler = _Sampler(request, rng, flawless)
    genre = sampler.genre()
    mood = sampler.mood(genre)
    tempo = sampler.tempo(genre, mood)
    key, mode = sampler.key(mood)
    instruments, barred = sampler.instruments()
    voice, vowels = sampler.voice()
    plan = Plan(
        tempo=tempo,
        key=key,
        mode=mode,
        mood=mood,
        genre=genre,
        instruments=instruments,
        alone=request.alone and bool(instruments or voice),
        barred=barred,
        voice=voice,
        vowels=vowels,
        duration=duration,
    )
    return Draw(
        plan=plan,
        dynamics=sampler.dynamics(),
        recording=sampler.recording(),
        brightness=sampler.brightness(),
        departures=tuple(sampler.departures),
    )


@dataclass
class _Sampler:
    """Draws one attribute after the other and keeps the list of departures."""

    request: Request
    rng: np.random.Generator
    flawless: bool
    departures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        waywardness = 0.03 + 0.6 * float(self.rng.random()) ** 1.3
        self.waywardness = 0.0 if self.flawless else waywardness

    def departs(self, asked: bool, what: str) -> bool:
        """Decide whether something that was asked is not done. Draws always, so that attributes stay independent."""
        departs = bool(self.rng.random() < self.waywardness) and asked
        if departs:
            self.departures.append(what)
        return departs

    def choose(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def genre(self) -> str:
        asked = self.request.genre
        if asked is None:
            return self._likely_genre()
        if self.departs(True, f"not {asked}"):
            return self.choose([genre for genre in STYLES if genre != asked])
        return asked

    def _likely_genre(self) -> str:
        """A genre that suits the asked mood, tempo and instruments, for prompts that name none."""
        request = self.request

        def fit(genre: str) -> float:
            style = STYLES[genre]
            usual = {*style.harmony, *style.lead, style.bass, style.kit}
            fit = 0.25 * sum(name in usual for name in request.instruments)
            if request.mood:
                fit -= 1.5 * math.dist(request.mood, style.mood)
            if request.tempo:
                fit -= 1.0 * max(0.0, style.tempo[0] - request.tempo[1], request.tempo[0] - style.tempo[1]) / 40
            return fit

        gumbel = self.rng.gumbel(size=len(STYLES))
        fits = [fit(genre) + 0.25 * gumbel[i] for i, genre in enumerate(STYLES)]
        return list(STYLES)[int(np.argmax(fits))]

    def mood(self, genre: str) -> tuple[float, float]:
        asked = self.request.mood
        jitter = self.rng.uniform(-0.07, 0.07, size=2)
        base = asked or STYLES[genre].mood
        if self.departs(asked is not None, "another mood"):
            far = [mood for mood in MOODS.values() if math.dist(mood, base) > 0.5]
            base = self.choose(far)
        valence, energy = (min(max(b + float(j), 0.0), 1.0) for b, j in zip(base, jitter, strict=True))
        return round(valence, 3), round(energy, 3)

    def tempo(self, genre: str, mood: tuple[float, float]) -> float:
        reference = self.request.reference
        place = float(self.rng.random())
        if self.request.tempo:
            slowest, fastest = self.request.tempo
        elif reference:
            slowest = fastest = min(max(reference.tempo, SLOWEST), FASTEST)
        else:
            slowest, fastest = STYLES[genre].tempo
            place = 0.6 * min(max(mood[1] + 0.5 * (place - 0.5), 0.0), 1.0) + 0.4 * place
        tempo = slowest + place * (fastest - slowest)
        factor = float(self.rng.uniform(1.3, 1.75))
        if self.departs(self.request.tempo is not None or reference is not None, "another tempo"):
            upwards = self.rng.random() < (0.5 if 75 < tempo < 150 else float(tempo <= 75))
            tempo = tempo * factor if upwards else tempo / factor
        return round(min(max(tempo, SLOWEST), FASTEST), 1)

    def key(self, mood: tuple[float, float]) -> tuple[int, Mode]:
        request, reference = self.request, self.request.reference
        from_reference = reference is not None and request.key is None and request.mode is None
        key = reference.key if reference and from_reference else request.key
        mode = reference.mode if reference and from_reference else request.mode
        free_key = int(self.rng.integers(12))
        if key is None or self.departs(key is not None, "another key"):
            key = free_key
        usual: Mode = "major" if self.rng.random() < 0.1 + 0.9 * mood[0] else "minor"
        if mode is not None and self.departs(True, f"not {mode}"):
            mode = "minor" if mode == "major" else "major"
        return key, mode or usual

    def instruments(self) -> tuple[tuple[str, ...], frozenset[str]]:
        """The asked instruments, some dropped or replaced; with the names that may not be added."""
        kept: list[str] = []
        barred = set(self.request.excluded)
        pitched = [name for name in INSTRUMENTS if name not in BASSES]
        for name in self.request.instruments:
            replaced = self.rng.random() < 0.6
            if not self.departs(True, f"no {name}"):
                kept.append(name)
                continue
            barred.add(name)
            pool = KITS if name in KITS else BASSES if name in BASSES else pitched
            others = [other for other in pool if other not in self.request.instruments and other not in barred]
            if replaced and others:
                kept.append(self.choose(others))
        if self.departs(bool(self.request.excluded), "plays what was ruled out"):
            ruled_out = sorted(self.request.excluded)
            kept.append(self.choose(ruled_out))
            barred -= set(ruled_out)
        return tuple(dict.fromkeys(kept)), frozenset(barred)

    def voice(self) -> tuple[Literal["male", "female"] | None, tuple[str, ...]]:
        request = self.request
        either: Literal["male", "female"] = "male" if self.rng.random() < 0.5 else "female"
        wanted = request.voice
        who: Literal["male", "female"] | None = None
        if request.vowels or wanted in ("male", "female", "any"):
            who = "male" if wanted == "male" else "female" if wanted == "female" else either
        if wanted == "none" and not request.vowels:
            who = either if self.departs(True, "sings although it should not") and self.rng.random() < 0.6 else None
        elif self.departs(who is not None, "voice missing or another"):
            # another singer departs only from a prompt that names one
            swapped = self.rng.random() >= 0.6 and wanted in ("male", "female")
            who = None if not swapped else "male" if who == "female" else "female"
        humming = tuple(self.rng.choice(["ah", "oo", "oh"], size=2))
        vowels = request.vowels or (str(humming[0]), str(humming[0]), str(humming[1]))
        invented = tuple(str(v) for v in self.rng.choice(VOWELS, size=max(8, len(vowels))))
        if self.departs(bool(request.vowels) and who is not None, "sings other words"):
            vowels = invented
        return who, vowels

    def dynamics(self) -> Literal["quiet", "medium", "loud"]:
        asked = self.request.dynamics
        if self.departs(asked is not None, f"not {asked}"):
            return self.choose(("medium", "loud" if asked == "quiet" else "quiet"))
        return asked or "medium"

    def recording(self) -> Literal["low", "high"]:
        asked = self.request.recording
        if self.departs(asked is not None, f"not {asked} recording quality"):
            return "high" if asked == "low" else "low"
        return asked or "high"

    def brightness(self) -> float | None:
        reference = self.request.reference
        if reference is None:
            return None
        factor = math.exp2(float(self.rng.uniform(0.8, 1.5)))
        if self.departs(True, "another brightness than the reference"):
            return reference.brightness / factor if reference.brightness > 1800 else reference.brightness * factor
        return reference.brightness
