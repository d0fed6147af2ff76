"""What is said of how a prompt was read: by the generator, and in which language."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rerank.data import Prompt
from rerank.language import NAMES, foreign
from rerank.protocols import GeneratorInfo, Reading, RewardInfo

_MOST_LISTED = 8  # words that a note names

logger = logging.getLogger("rerank")


@dataclass(frozen=True)
class Note:
    """One sentence.

    Attributes:
        text: of it.
        is_warning: whether something of the prompt is lost that its author would miss.
    """

    text: str
    is_warning: bool


def said(notes: Iterable[Note]) -> tuple[str, ...]:
    """Log notes, warnings as such, and return their sentences."""
    texts = []
    for note in notes:
        logger.log(logging.WARNING if note.is_warning else logging.INFO, "%s", note.text)
        texts.append(note.text)
    return tuple(texts)


def on_reading(name: str, reading: Reading | None) -> list[Note]:
    """Return what a generator says that it understood and ignored."""
    if reading is None:
        return []
    notes = [Note(f"{name} understood nothing of the {part}", True) for part in reading.not_followed]
    # of a text of which nothing is understood, all is ignored
    ignored = () if "text" in reading.not_followed else reading.ignored
    told = [
        f"{verb}: {_listed(words)}"
        for verb, words in (("understood", reading.understood), ("ignored", ignored))
        if words
    ]
    if told:
        notes.append(Note(f"{name} {'; it '.join(told)}", False))
    return notes


def on_languages(prompt: Prompt, readers: Sequence[GeneratorInfo | RewardInfo]) -> list[Note]:
    """Return which parts of a prompt are in a language that those who are given them do not read."""
    notes = []
    for part, verb in (("text", "seems"), ("lyrics", "seem")):
        lost: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
        for reader in readers:
            language = unread(prompt, part, reader)
            if language is not None:
                lost[language, tuple(reader.languages)].append(reader.name)
        for (language, languages), names in lost.items():
            known = " and ".join(NAMES.get(code, code) for code in languages)
            who = f"{' and '.join(dict.fromkeys(names))} {'read' if len(set(names)) > 1 else 'reads'}"
            notes.append(Note(f"the {part} {verb} to be {language}; {who} {known} only", True))
    return notes


def unread(prompt: Prompt, part: str, reader: GeneratorInfo | RewardInfo) -> str | None:
    """Return the language of the text or the lyrics where a reader takes that part and does not read that language."""
    words = {"text": prompt.text, "lyrics": prompt.lyrics or ""}[part]
    return foreign(words, reader.languages) if part in reader.conditions else None


def _listed(words: Sequence[str]) -> str:
    """Return words with commas between them, the first of many."""
    more = len(words) - _MOST_LISTED
    plain = [" ".join(word.split()) for word in words]
    return ", ".join(plain) if more <= 1 else f"{', '.join(plain[:_MOST_LISTED])} and {more} more"
