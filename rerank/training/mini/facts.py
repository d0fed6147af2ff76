"""What the towers learn first, as numbers: the facts of a piece, what a text asks for, the vowels of lyrics.

**Conventions**: targets are probabilities of classes; class 0 of what a text may ask for means "not asked". What lies
on a scale (tempo, mood, brightness) has classes along it, and a target is spread over the two nearest.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from rerank.corpus.damage import DAMAGES
from rerank.generators.synth.drums import KITS
from rerank.generators.synth.instruments import INSTRUMENTS
from rerank.generators.synth.lexicon import FASTEST, SLOWEST
from rerank.generators.synth.styles import STYLES
from rerank.generators.synth.truth import FAULT_COSTS, WEIGHTS, Facts, attribute_alignment
from rerank.generators.synth.voice import VOWELS, vowels_of
from rerank.generators.synth.words import Request
from rerank.models.mini import TOKENS_PER_SECOND
from rerank.models.vocabulary import split_words

GENRES = tuple(STYLES)
SOUNDS = (*INSTRUMENTS, *KITS)
FAULTS = tuple(FAULT_COSTS)
DAMAGE_NAMES = (*DAMAGES, "mix")
VOICES = ("male", "female", "any", "none")
DYNAMICS = ("quiet", "medium", "loud")
RECORDINGS = ("low", "high")
MATCHES = (*(name for name in WEIGHTS if name != "instrument"), *SOUNDS)
"""Attributes that a prompt can ask for, each instrument by itself."""

TEMPO_PLACES, MOOD_PLACES, BRIGHTNESS_PLACES = 24, 9, 16
_DARKEST, _BRIGHTEST = 300.0, 9600.0
_MOST_SYLLABLES = 4

SHARED = {
    "tempo": 1 + TEMPO_PLACES,
    "genre": 1 + len(GENRES),
    "voice": 1 + len(VOICES),
    "dynamics": 1 + len(DYNAMICS),
    "recording": 1 + len(RECORDINGS),
    "valence": 1 + MOOD_PLACES,
    "energy": 1 + MOOD_PLACES,
}
"""Number of classes of what a piece is and a text asks for."""

Targets = Mapping[str, Tensor]


def _places(values: Sequence[float], count: int) -> Tensor:
    """Return each value in [0, 1] spread over the two nearest of `count` places; those outside count as the ends.

    Shape:
        `[values, count]`
    """
    place = torch.tensor(values).clamp(0, 1) * (count - 1)
    return (1 - (place[:, None] - torch.arange(count)).abs()).clamp(min=0)


def _one_hot(names: Sequence[str], known: Sequence[str]) -> Tensor:
    return F.one_hot(torch.tensor([known.index(name) for name in names]), len(known)).float()


def _many_hot(names: Sequence[Sequence[str] | frozenset[str]], known: Sequence[str]) -> Tensor:
    return torch.tensor([[float(name in row) for name in known] for row in names])


def _if_asked(asked: Sequence[bool], targets: Tensor) -> Tensor:
    """Put class 0, "not asked", before the classes of `targets`."""
    chosen = torch.tensor(asked).float()[:, None]
    return torch.cat([1 - chosen, targets * chosen], 1)


def _tempo_place(tempo: float) -> float:
    return math.log(tempo / SLOWEST) / math.log(FASTEST / SLOWEST)


def _brightness_place(hertz: float) -> float:
    return math.log(max(hertz, 1.0) / _DARKEST) / math.log(_BRIGHTEST / _DARKEST)


def audio_targets(
    facts: Sequence[Facts],
    faults: Sequence[Mapping[str, float]],
    syllables: Sequence[Sequence[tuple[float, str]]],
    damages: Sequence[str | None],
    start: float,
    duration: float,
) -> dict[str, Tensor]:
    """Return what `FactHeads.audio_loss` should read from clips cut out from `start` (seconds) for `duration`."""
    vowels = torch.zeros(len(facts), math.ceil(duration * TOKENS_PER_SECOND), dtype=torch.long)
    for row, sung in enumerate(syllables):
        for (_, vowel), tokens in zip(sung, _tokens_of(sung, start), strict=True):
            vowels[row, tokens] = 1 + VOWELS.index(vowel)
    shared = {
        "tempo": _places([_tempo_place(f.tempo) for f in facts], TEMPO_PLACES),
        "genre": _one_hot([f.genre for f in facts], GENRES),
        "voice": _one_hot([f.voice or "none" for f in facts], VOICES),
        "dynamics": _one_hot([f.dynamics for f in facts], DYNAMICS),
        "recording": _one_hot([f.recording for f in facts], RECORDINGS),
        "valence": _places([f.mood[0] for f in facts], MOOD_PLACES),
        "energy": _places([f.mood[1] for f in facts], MOOD_PLACES),
    }
    return {
        **{name: _if_asked([True] * len(facts), target) for name, target in shared.items()},
        "sounds": _many_hot([f.instruments for f in facts], SOUNDS),
        "key": torch.tensor([f.key + 12 * (f.mode == "minor") for f in facts]),
        "brightness": _places([_brightness_place(f.brightness) for f in facts], BRIGHTNESS_PLACES),
        "damage": torch.tensor([0 if name is None else 1 + DAMAGE_NAMES.index(name) for name in damages]),
        "faults": torch.tensor([[given.get(name, 0.0) for name in FAULTS] for given in faults]),
        "vowels": vowels,
    }


def _tokens_of(syllables: Sequence[tuple[float, str]], start: float) -> list[slice]:
    """Return the audio tokens of each syllable, of a clip cut out from `start` (seconds): to the next, or one second."""
    found = []
    for k, (begin, _) in enumerate(syllables):
        end = min(syllables[k + 1][0] if k + 1 < len(syllables) else begin + 1.0, begin + 1.0)
        first, last = (max(round((t - start) * TOKENS_PER_SECOND), 0) for t in (begin, end))
        found.append(slice(first, last))
    return found


def followed_targets(
    asked: Sequence[str], syllables: Sequence[tuple[float, str]], first: int, tokens: int
) -> list[float]:
    """Return whether the vowel sung in each token is the one that the lyrics have there; NaN where nothing is sung.

    Args:
        asked: vowels of the lyrics, which start over at their end.
        syllables: that a clip sings: start in seconds, and vowel.
        first, tokens: first token that is cut out of the clip, and their number.
    """
    followed = [math.nan] * tokens
    for k, ((_, vowel), sung) in enumerate(
        zip(syllables, _tokens_of(syllables, first / TOKENS_PER_SECOND), strict=True)
    ):
        for token in range(*sung.indices(tokens)):
            followed[token] = float(vowel == asked[k % len(asked)])
    return followed


def match_targets(request: Request, facts: Facts) -> list[float]:
    """Return how far each of `MATCHES` was met, in [0, 1]; NaN for what was not asked."""
    parts = attribute_alignment(request, facts)
    return [parts[name][1] if name in parts else math.nan for name in MATCHES]


def text_targets(requests: Sequence[Request]) -> dict[str, Tensor]:
    """Return what `FactHeads.text_loss` should read from the texts of these requests."""
    tempos = [math.sqrt(r.tempo[0] * r.tempo[1]) if r.tempo else SLOWEST for r in requests]
    moods = [r.mood or (0.5, 0.5) for r in requests]
    shared = {
        "tempo": ([r.tempo is not None for r in requests], _places([_tempo_place(t) for t in tempos], TEMPO_PLACES)),
        "genre": ([bool(r.genre) for r in requests], _one_hot([r.genre or GENRES[0] for r in requests], GENRES)),
        "voice": ([bool(r.voice) for r in requests], _one_hot([r.voice or "any" for r in requests], VOICES)),
        "dynamics": (
            [bool(r.dynamics) for r in requests],
            _one_hot([r.dynamics or "medium" for r in requests], DYNAMICS),
        ),
        "recording": (
            [bool(r.recording) for r in requests],
            _one_hot([r.recording or "high" for r in requests], RECORDINGS),
        ),
        "valence": ([r.mood is not None for r in requests], _places([mood[0] for mood in moods], MOOD_PLACES)),
        "energy": ([r.mood is not None for r in requests], _places([mood[1] for mood in moods], MOOD_PLACES)),
    }
    return {
        **{name: _if_asked(asked, target) for name, (asked, target) in shared.items()},
        "sounds": _many_hot([r.instruments for r in requests], SOUNDS),
        "excluded": _many_hot([r.excluded for r in requests], SOUNDS),
    }


def spelling_targets(lyrics: Sequence[str], tokens: int) -> Tensor:
    """Return the vowels of each word: a quarter for each syllable, and silence for what is left of a whole.

    So the mean over words is in proportion to what is sung. Words of more than four syllables count as four.

    Shape:
        `[texts, tokens, 1 + vowels]`
    """
    shares = torch.zeros(len(lyrics), tokens, 1 + len(VOWELS))
    for row, text in enumerate(lyrics):
        for column, word in enumerate(split_words(text)):
            sung = vowels_of(word)
            for vowel in sung:
                shares[row, column, 1 + VOWELS.index(vowel)] += 1 / max(len(sung), _MOST_SYLLABLES)
    shares[..., 0] = 1 - shares[..., 1:].sum(-1)
    return shares
