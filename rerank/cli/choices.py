"""What the text of an option stands for: weights, filters, lyrics, a generator or a reward model with its options."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rerank.errors import InvalidInput, UnknownName

if TYPE_CHECKING:
    from rerank.data import Prompt
    from rerank.filters import Filters
    from rerank.manifest import PromptParts
    from rerank.names.entry import Kind
    from rerank.registry import Choice

_MAX_LYRICS_BYTES = 64 * 1024  # more than the longest lyrics take

_DOCUMENTS = ("ranking.json", "index.json")

_NAMELESS = "name the reward model that the options are for: --reward NAME"

_SWITCHES = {"true": True, "on": True, "false": False, "off": False}

_PAIRS = {
    "--weight": "AXIS=NUMBER, such as musicality=1",
    "--floor": "AXIS=NUMBER, such as musicality=1",
    "--filter": "NAME=NUMBER or NAME=off, such as silent=-50",
    "--generator-option": "NAME=VALUE, such as guidance=4",
    "--reward-option": "NAME=VALUE, such as strategy=mean",
}


def weights(values: Sequence[str] | None) -> dict[str, float] | None:
    """Return what `--weight` says; None where it is not given."""
    return {axis: _number(value, f"--weight {axis}") for axis, value in _pairs("--weight", values).items()} or None


def filters(thresholds: Sequence[str] | None, floors: Sequence[str] | None) -> "Filters | None":
    """Return what `--filter` and `--floor` say; None where neither is given."""
    from rerank.filters import Filters

    if not thresholds and not floors:
        return None
    return Filters.named(
        {
            name: None if value.lower() == "off" else _number(value, f"--filter {name}")
            for name, value in _pairs("--filter", thresholds).items()
        },
        {axis: _number(value, f"--floor {axis}") for axis, value in _pairs("--floor", floors).items()},
    )


def lyrics(text: str | None, file: Path | None) -> str | None:
    """Return the lyrics that `--lyrics` or `--lyrics-file` gives; None where neither is given."""
    if text is not None and file is not None:
        raise typer.BadParameter("give --lyrics or --lyrics-file, not both")
    if file is None:
        return text
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_LYRICS_BYTES + 1)
        if len(content) > _MAX_LYRICS_BYTES:
            raise InvalidInput(f"lyrics file {file} is larger than {_MAX_LYRICS_BYTES // 1024} KiB; shorten it")
        found = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"cannot read lyrics from {file}: it is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise InvalidInput(f"cannot read lyrics from {file}: {(error.strerror or str(error)).lower()}") from error
    if not found.strip():
        raise InvalidInput(f"lyrics file {file} is empty; write the lyrics into it, or leave --lyrics-file out")
    return found


def prompt(text: str | None, lyrics: str | None, reference: Path | None) -> "PromptParts":
    """Return the prompt that the options give, not read yet.

    Raises:
        InvalidInput: a text is given, and it is empty, with nothing beside it.
    """
    from rerank.data import Prompt
    from rerank.manifest import PromptParts

    if text is not None and reference is None:
        Prompt(text, lyrics)
    return PromptParts(text or "", lyrics, reference)


def read(parts: "PromptParts") -> "Prompt | None":
    """Return the prompt; None where nothing of it is given."""
    from rerank.manifest import PromptParts

    return None if parts == PromptParts() else parts.read()


def generator(name: str, options: Sequence[str] | None) -> "str | Choice":
    """Return what `--generator` names, with the options of `--generator-option`; it is loaded when it is needed.

    Raises:
        UnknownName: there is no such generator, or it has no such option.
    """
    return _with_options("generator", name, _pairs("--generator-option", options))


def rewards(
    names: Sequence[str] | None,
    path: Path | None = None,
    cache: Path | None = None,
    options: Sequence[str] | None = None,
    *,
    default: str | None = "auto",
) -> "str | Choice | list[str | Choice] | None":
    """Return what `--reward` names, with its options; a list where it is given more than once.

    Args:
        names: of `--reward`.
        path: of `--reward-path`.
        cache: of `--reward-cache`; one folder serves all reward models that keep what they encode.
        options: of `--reward-option`.
        default: what is taken where nothing is named; with None there are then no options either.

    Raises:
        UnknownName: there is no such reward model, or it has no such option.
    """
    if not names and default is None:
        if path or cache or options:
            raise typer.BadParameter(_NAMELESS)
        return None
    given = list(names or [str(default)])
    for name in given:
        if given.count(name) > 1:
            raise typer.BadParameter(f"--reward {name} is given twice; give it once")
    texts: dict[str, dict[str, str]] = {name: {} for name in given}
    for key, value in _pairs("--reward-option", options).items():
        owner, option = _owner(key, given)
        if option in texts[owner]:
            raise typer.BadParameter(f"--reward-option {option} is given twice; give it once")
        texts[owner][option] = value
    if path is not None and len(given) > 1:
        raise typer.BadParameter("--reward-path is of one reward model; use --reward-option NAME.path=DIR")
    for option, place, owners in (("path", path, given), ("cache", cache, _with_cache(given) if cache else [])):
        for owner in owners if place is not None else []:
            if option in texts[owner]:
                raise typer.BadParameter(f"give --reward-{option} or --reward-option {option}=..., not both")
            texts[owner][option] = str(place)
    if texts.get("auto"):  # which is not decided before it is known who made the audio
        raise typer.BadParameter(_NAMELESS)
    chosen = [_with_options("reward", name, texts[name]) for name in given]
    return chosen if len(chosen) > 1 else chosen[0]


def folder_of(run: str) -> str:
    """Return the folder of a run, or of many, which may also be named by the document in it."""
    is_document = os.path.basename(run) in _DOCUMENTS and os.path.isfile(run)
    return os.path.dirname(run) or "." if is_document else run


def typed(text: str, default: object, option: str = "the option") -> Any:
    """Return the value that a text stands for, by the type of the default, where that is known.

    `none`, `true`, `false`, `on`, `off` and numbers are what they look like where a text is not expected; a text in double
    quotes is one everywhere.

    >>> typed("4", 3.0), typed("off", True), typed("4", "3"), typed("none", 3), typed("4", None), typed('"4"', None)
    (4.0, False, '4', None, 4, '4')
    """
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    if isinstance(default, str):
        return text
    if text.lower() == "none":
        return None
    if isinstance(default, bool):
        if text.lower() not in _SWITCHES:
            raise typer.BadParameter(f"{option}={text} must be true or false (on or off)")
        return _SWITCHES[text.lower()]
    if isinstance(default, int | float):
        whole = isinstance(default, int) and re.fullmatch(r"[+-]?\d+", text)
        return int(text) if whole else _number(text, option)
    return _SWITCHES.get(text.lower(), _number_or_text(text))


def _number_or_text(text: str) -> int | float | str:
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    return float(text) if re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=e))(e[+-]?\d+)?", text, re.IGNORECASE) else text


def _with_options(kind: "Kind", name: str, texts: Mapping[str, str]) -> "str | Choice":
    """Return a name, with its options if there are any, as values of the types that its defaults have."""
    from rerank.names.option import takes_any
    from rerank.registry import Choice, options, resolve

    if not texts:
        return name
    chosen = resolve(kind, name)
    assert isinstance(chosen, Choice) and chosen.entry is not None  # it is given by name
    defaults = {option.name: option.default for option in options(kind, chosen)}
    # here, and not when it is loaded: that may be after another model took minutes
    unknown = [option for option in texts if option not in defaults]
    if unknown and not takes_any(chosen.entry.factory()):
        raise UnknownName.among(f"option of {kind} {chosen.entry.name!r}:", unknown[0], defaults)
    values = {option: _value(option, text, defaults.get(option), kind) for option, text in texts.items()}
    return replace(chosen, options={**chosen.options, **values})


def _value(option: str, text: str, default: object, kind: "Kind") -> Any:
    if option in ("path", "cache") or option.endswith("_path"):
        return Path(text)
    return typed(text, default, f"--{kind}-option {option}")


def _with_cache(names: Sequence[str]) -> list[str]:
    """Return those of several reward models that take a folder for what they encode; one alone is refused later."""
    from rerank.registry import options

    if len(names) == 1:
        return list(names)
    # "auto" takes no options, which is told where they are given
    found = [name for name in names if name == "auto" or any(one.name == "cache" for one in options("reward", name))]
    if not found:
        raise typer.BadParameter(f"--reward-cache: neither {' nor '.join(names)} keeps what it encodes; leave it out")
    return found


def _owner(key: str, names: Sequence[str]) -> tuple[str, str]:
    """Return which reward model an option is of, and its name without that."""
    for name in sorted(names, key=len, reverse=True):
        if key.startswith(f"{name}."):
            return name, key.removeprefix(f"{name}.")
    if len(names) > 1:
        told = " or ".join(f"{name}.{key}" for name in names)
        raise typer.BadParameter(f"--reward-option {key}: of which reward model? Write {told}")
    return names[0], key


def _pairs(option: str, values: Sequence[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for value in values or ():
        name, equals, text = value.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{option} {value!r} must be {_PAIRS[option]}")
        if name in pairs:
            raise typer.BadParameter(f"{option} {name} is given twice, as {pairs[name]} and {text}; give it once")
        pairs[name] = text
    return pairs


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option}={text!r} must be a number") from error
