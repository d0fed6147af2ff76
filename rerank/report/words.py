"""What a page says in words: numbers, sentences, and text of others made fit to be shown."""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from rerank.settings import Settings
from rerank.verdict import percent

if TYPE_CHECKING:
    from rerank.ranking import Ranking

# control characters but tab and line feed, halves of characters, and what turns the direction of the text after it
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

_FILTERS = {
    "not_finite": "samples that are not finite: at most {:.4g} of all",
    "silent": "silence: the loudest tenth must reach {:g} dBFS",
    "clipped": "clipping: at most {:.4g} of the samples at full scale",
    "dc_offset": "DC offset: at most {:g} of full scale",
    "short": "length: at least {:.4g} of the duration asked for",
    "duplicate": "near-duplicates: similarity to an earlier take below {:g}",
}

_FREE = re.compile(r"\b(apache|mit|bsd|cc0|isc|unlicense)\b", re.IGNORECASE)
_NOT_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial|not for commercial", re.IGNORECASE)


def visible(value: Any) -> Any:
    r"""Return text with what cannot be seen, or would change how text is read, by its number; markup as it is.

    >>> visible("a\u202eb\x1b[0m")
    'a[U+202E]b[U+001B][0m'
    """
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _HIDDEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", value.replace("\r\n", "\n").replace("\r", "\n"))


def number(value: float | None) -> str:
    """Return a reward as it is shown."""
    return "none" if value is None else f"{value:.3f}"


def seconds(value: float) -> str:
    """Return a duration as it is shown.

    >>> seconds(9.96), seconds(125)
    ('10.0 s', '2:05 min')
    """
    whole = round(value)
    return f"{value:.1f} s" if value < 60 else f"{whole // 60}:{whole % 60:02} min"


def several(count: int, what: str) -> str:
    """Return how many there are of something.

    >>> several(1, "take"), several(1024, "take")
    ('1 take', '1,024 takes')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def relative(path: Path, folder: Path) -> str:
    """Return a path as seen from a folder."""
    return Path(os.path.relpath(path, folder)).as_posix()


def listed(words: Sequence[str]) -> str:
    """Return words as a list in a sentence.

    >>> listed(["text", "lyrics", "reference"])
    'text, lyrics and reference'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def shortened(text: str, limit: int) -> str:
    """Return text in one line, cut between words where it is longer.

    >>> shortened("slow piano with strings", 15)
    'slow piano …'
    """
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    cut = line[:limit].rpartition(" ")[0] or line[:limit]
    return f"{cut} …"


def broken(axis: str) -> Markup:
    """Return the name of an axis that may go on in the next line after each dot."""
    return Markup(".<wbr>").join(visible(part) for part in axis.split("."))


def decibels(peak: float) -> str:
    """Return a peak as a level.

    >>> decibels(1.0), decibels(0.0)
    ('0.0 dBFS', 'no sound')
    """
    return f"{20 * math.log10(peak) + 0.0:.1f} dBFS" if peak > 0 else "no sound"


def title_of(ranking: "Ranking") -> str:
    """Return what a page is called after: the text of the prompt, or else what there is."""
    prompt = ranking.prompt
    if prompt.text.strip():
        return prompt.text
    if prompt.lyrics is not None:
        return prompt.lyrics
    return "After a reference" if prompt.reference is not None else "Takes without a prompt"


def kind_of(ranking: "Ranking") -> str:
    """Return what was ranked, and by whom."""
    settings = ranking.settings
    count = several(len(ranking.candidates), "take" if settings.generator is not None else "recording")
    maker = f" by {settings.generator}" if settings.generator is not None else ""
    length = f" of {seconds(settings.duration)}" if settings.duration is not None else ""
    return f"{count}{length}{maker}, ranked by {listed([str(record['name']) for record in settings.rewards])}"


def verdict_of(ranking: "Ranking") -> tuple[str, str]:
    """Return the verdict on the first two takes in a word or two, and the sentence that explains it."""
    verdict = ranking.verdict
    ranked = [one for one in ranking.candidates if one.rank is not None]
    if not ranked:
        return "", ""
    best = ranked[0].name
    if len(ranked) == 1:
        return "", f"Only {best} is ranked."
    if verdict is None:
        return "", f"First comes {best}. How sure this is, nobody has measured for takes like these."
    names = {one.index: one.name for one in ranked}
    first, second = names[verdict.first], names[verdict.second]
    told = f"By the rewards, {first} is better than {second} with a probability of {percent(verdict.probability)}"
    if verdict.word == "too close to call":
        return "Too close to call", f"{told}. Listen to both."
    return ("Clear" if verdict.word == "clear" else f"Leans to {first}"), f"{told}."


def status_of(ranking: "Ranking") -> str:
    """Return what is to be said of a run that is not done."""
    finished = sum(one.rank is not None or one.set_aside is not None for one in ranking.candidates)
    so_far = f"{finished:,} of {several(ranking.settings.n, 'take')} finished"
    return {
        "done": "",
        "running": f"This run is still going on, or was ended from outside: {so_far}.",
        "interrupted": f"This run was stopped before it was done: {so_far}.",
        "failed": f"This run failed before it was done: {so_far}.",
    }[ranking.status]


def unheard(settings: Settings) -> list[str]:
    """Return what of the prompt was not understood, followed or read, a sentence each."""
    told = [note if note.rstrip().endswith((".", "!", "?")) else f"{note}." for note in settings.notes]
    if settings.not_followed:
        told.append(f"The generator {settings.generator} does not follow the {listed(settings.not_followed)}.")
    if settings.not_read:
        told.append(f"No reward model reads the {listed(settings.not_read)}.")
    return told


def options_of(options: Mapping[str, Any]) -> str:
    """Return options with their values, in a line."""
    return ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in options.items())


def computed_of(record: Mapping[str, Any]) -> str:
    """Return on which device a reward model computed, and in which precision."""
    device, precision = record.get("device"), record.get("precision")
    return ", ".join([f"on {device}"] * bool(device) + [f"in {precision}"] * bool(precision))


def filters_of(settings: Settings) -> list[str]:
    """Return the filters that were on, in words."""
    told = [
        _FILTERS[name].format(value) if name in _FILTERS else f"{name}: {value}"
        for name, value in settings.filters.items()
        if name != "floors" and value is not None
    ]
    return told + [f"{axis}: at least {floor:g}" for axis, floor in (settings.filters.get("floors") or {}).items()]


def facts_of(settings: Settings, count: int) -> list[tuple[str, str]]:
    """Return the settings, by name."""
    made = settings.seed is not None
    seeds = ""
    if settings.seed is not None:
        last = settings.seed + settings.n - 1
        seeds = str(settings.seed) if settings.n == 1 else f"{settings.seed} to {last}"
    asked = f"{settings.n:,}" if made else several(count, "file")
    best = "" if settings.top_k == settings.n else f"the best {settings.top_k:,}"
    weights = ", ".join(f"{axis} {weight:.3g}" for axis, weight in settings.weights.items())
    facts = {
        "takes asked for": asked if made else "",
        "recordings": "" if made else asked,
        "of these wanted": best,
        "length asked for": seconds(settings.duration) if settings.duration is not None else "",
        "seeds": seeds,
        "generator": settings.generator or "",
        "its version": settings.generator_version,
        "its options": options_of(settings.generator_options),
        "computed on": settings.generator_device,
        "rule": settings.rule,
        "weights": weights,
        "filters": "; ".join(filters_of(settings)) or ("off" if settings.filters else "not recorded"),
    }
    return [(name, value) for name, value in facts.items() if value]


def made_with(settings: Settings) -> str:
    """Return which versions it was made with."""
    versions = {"rerank": settings.rerank_version, **settings.versions}
    told = [f"{name} {version}" for name, version in versions.items() if version]
    where = "Run it in the folder of this page. "
    return f"{where}It was made with {listed(told)}; others may round differently." if told else where.strip()


def use_of_takes(licence: str | None) -> str:
    """Return what the licence of a generator means for its takes."""
    if licence is None or licence.strip().lower() in ("", "unknown"):
        return "What may be done with the takes is not known: ask who made the generator before you publish them."
    if _NOT_COMMERCIAL.search(licence):
        return "The takes are not for commercial use."
    if _FREE.search(licence):
        return "The takes may be used freely, also commercially."
    return "Read it before you publish the takes."


def use_of_rewards(licence: str | None) -> str:
    """Return what the licence of a reward model means."""
    if licence is None or licence.strip().lower() in ("", "unknown"):
        return "What may be done with its rewards is not known; the takes themselves are not concerned."
    if _NOT_COMMERCIAL.search(licence):
        return "Choosing by its rewards is not for commercial use; the takes themselves are not concerned."
    if _FREE.search(licence):
        return "Its rewards may be used freely, also commercially."
    return "Read it before you use its rewards commercially; the takes themselves are not concerned."
