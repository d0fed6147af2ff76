"""The command that makes a ranking again, as far as its settings tell."""

import json
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank.errors import RerankError
from rerank.filters import Filters
from rerank.names.entry import Kind
from rerank.names.option import Option, plain
from rerank.registry import entries, options
from rerank.report.words import relative, several
from rerank.rules import normalise_weights
from rerank.settings import Settings

if TYPE_CHECKING:
    from rerank.ranking import Ranking

_WIDTH = 84  # characters of a line

# what a terminal, or a reader, might take for something else: control characters, and those that turn text round
_HIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\udc80-\udcff]")


@dataclass(frozen=True)
class Command:
    """A command line, for a shell.

    Attributes:
        text: of several lines where it is long.
        notes: what it cannot say, a sentence each.
    """

    text: str
    notes: tuple[str, ...] = ()


def command_of(ranking: "Ranking", folder: Path) -> Command:
    """Return the command that makes a ranking again when it is run in a folder.

    What has its default is left out, where that is known: names of generators and reward models are looked up here, and
    imported.
    """
    notes: list[str] = []
    made = ranking.settings.seed is not None
    text = ranking.prompt.text if made and ranking.prompt.text.strip() else None
    parts: list[tuple[str, ...]] = [("rerank", "generate" if made else "rank")]
    if text is not None and not text.startswith("-"):
        parts.append((text,))
    parts += _made(ranking, notes) if made else _files(ranking, folder, notes)
    parts += _prompt(ranking, folder, notes, made)
    parts += _judged(ranking.settings, notes)
    parts += _ranked(ranking.settings)
    if text is not None and text.startswith("-"):  # which would be taken for an option
        parts.append(("--", text))
    return Command(_in_lines([" ".join(map(quoted, part)) for part in parts]), tuple(notes))


def _in_lines(parts: Iterable[str]) -> str:
    """Return parts of a command as one that a shell reads in several lines."""
    first, *others = parts
    lines = [first]
    for part in others:
        if len(lines[-1]) + 1 + len(part) > _WIDTH:
            lines.append(f"  {part}")
        else:
            lines[-1] += f" {part}"
    return " \\\n".join(lines)


def quoted(word: str) -> str:
    r"""Return a word as a shell reads it, with nothing in it that cannot be seen.

    >>> quoted("slow piano"), quoted("a\x1b[2J"), quoted("musicality=1")
    ("'slow piano'", "$'a\\x1b[2J'", 'musicality=1')
    """
    if not _HIDDEN.search(word):
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + _HIDDEN.sub(lambda found: _escape(ord(found[0])), escaped) + "'"


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte of the name of a file that is no UTF-8
        code -= 0xDC00
        return f"\\x{code:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def _made(ranking: "Ranking", notes: list[str]) -> Iterator[tuple[str, ...]]:
    settings = ranking.settings
    yield ("-n", str(settings.n))
    if settings.duration is not None:
        yield ("--duration", _number(settings.duration))
    yield ("--seed", str(settings.seed))
    if settings.generator is not None:
        yield ("--generator", settings.generator)
        for pair in _pairs("generator", settings.generator, settings.generator_options, notes):
            yield ("--generator-option", pair)


def _files(ranking: "Ranking", folder: Path, notes: list[str]) -> Iterator[tuple[str, ...]]:
    lost = 0
    for candidate in sorted(ranking.candidates, key=lambda one: one.index):
        path = candidate.source or candidate.path
        if path is None:
            lost += 1
        else:
            name = relative(path, folder)
            yield (f"./{name}" if name.startswith("-") else name,)
    if lost:
        notes.append(f"{several(lost, 'take')} came from no file, and cannot be named.")


def _prompt(ranking: "Ranking", folder: Path, notes: list[str], made: bool) -> Iterator[tuple[str, ...]]:
    prompt = ranking.prompt
    if not made and prompt.text.strip():
        yield ("--prompt", prompt.text)
    if prompt.lyrics is not None:
        yield ("--lyrics", prompt.lyrics)
    if prompt.reference is not None and prompt.reference.path is not None:
        yield ("--reference", relative(prompt.reference.path, folder))
    elif prompt.reference is not None:
        notes.append("The reference came from no file, and cannot be named.")


def _judged(settings: Settings, notes: list[str]) -> Iterator[tuple[str, ...]]:
    alone = len(settings.rewards) == 1
    for record in settings.rewards:
        yield ("--reward", str(record["name"]))
    for record in settings.rewards:
        name = str(record["name"])
        for pair in _pairs("reward", name, record.get("options") or {}, notes):
            yield ("--reward-option", pair if alone else f"{name}.{pair}")


def _ranked(settings: Settings) -> Iterator[tuple[str, ...]]:
    if not _has_default_weights(settings):
        for axis, weight in settings.weights.items():
            yield ("--weight", f"{axis}={_number(weight)}")
    if settings.rule != ("zscore" if len(settings.rewards) > 1 else "mean"):
        yield ("--rule", settings.rule)
    usual = Filters().to_dict()
    for name, value in settings.filters.items():
        if name != "floors" and value != usual.get(name):
            yield ("--filter", f"{name}={'off' if value is None else _number(value)}")
    for axis, floor in (settings.filters.get("floors") or {}).items():
        yield ("--floor", f"{axis}={_number(floor)}")
    if settings.top_k != settings.n:
        yield ("--top-k", str(settings.top_k))


def _has_default_weights(settings: Settings) -> bool:
    """Return whether the weights are those that the records of the reward models give their axes."""
    alone = len(settings.rewards) == 1
    usual: dict[str, float] = {}
    for record in settings.rewards:
        for axis, about in (record.get("axes") or {}).items():
            usual[axis if alone else f"{record['name']}.{axis}"] = float(about.get("weight", 1.0))
    if usual.keys() != settings.weights.keys():
        return len(settings.weights) == 1
    usual = normalise_weights(usual if any(usual.values()) else None, usual)
    return all(math.isclose(usual[axis], weight, abs_tol=1e-12) for axis, weight in settings.weights.items())


def _pairs(kind: Kind, name: str, recorded: Mapping[str, Any], notes: list[str]) -> Iterator[str]:
    """Yield the options that are not as they are by default; what is recorded and cannot be given is noted."""
    what = "generator" if kind == "generator" else "reward model"
    try:
        known = {option.name: option for option in options(kind, name)}
        needs_folder = entries(kind)[name].needs_folder
    except (RerankError, KeyError):
        told = "those of its options are given that were recorded" if recorded else "the command fails without it"
        notes.append(f"The {what} {name} is not installed here: {told}.")
        known, needs_folder = {option: Option(option, ..., "") for option in recorded}, False
    if needs_folder:
        notes.append(f"The {what} {name} needs its folder of weights: add --{kind}-option path=DIR.")
    for option, value in recorded.items():
        # what cannot be chosen was not chosen
        if option not in known or plain({option: known[option].default}) == {option: value}:
            continue
        text = _text(value, known[option].default)
        if text is None:
            notes.append(f"The {what} {name} had {option} = {json.dumps(value)}, which a command cannot give.")
        else:
            yield f"{option}={text}"


def _text(value: Any, default: Any) -> str | None:
    """Return the text that an option of the command takes for a value; None where there is none."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return _number(value)
    if not isinstance(value, str) or value.startswith("sha256:"):  # audio, of which only the hash is known
        return None
    looks_else = re.fullmatch(r"none|true|false|on|off|[-+\d.].*|\".*\"", value, re.IGNORECASE | re.DOTALL)
    return f'"{value}"' if looks_else and not isinstance(default, str) else value


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")
