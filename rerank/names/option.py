"""The options of a factory, as its signature and its docstring say them."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_ARGUMENT = re.compile(r"(?P<names>\w+(?:, \w+)*): (?P<meaning>.+)")
"""The first line of an argument in the section Args; the lines that go on from it stand deeper."""


@dataclass(frozen=True)
class Option:
    """A keyword option of a factory.

    Attributes:
        name: of the option.
        default: its value where it is not given.
        meaning: in words; empty where the docstring does not say.
        required: whether it must be given; it has no default then.
    """

    name: str
    default: Any
    meaning: str
    required: bool = False


def options_of(factory: Callable[..., Any]) -> list[Option]:
    """Return the options that a factory names, in its order, with what the section Args of its docstring says."""
    meanings = _meanings(inspect.getdoc(factory) or "")
    return [
        Option(
            one.name,
            None if one.default is one.empty else one.default,
            meanings.get(one.name, ""),
            required=one.default is one.empty,
        )
        for one in _parameters(factory)
        if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as values that JSON knows; of any other value its text.

    >>> plain({"steps": 8, "sizes": (1, 2.5), "kind": frozenset})
    {'steps': 8, 'sizes': [1, 2.5], 'kind': "<class 'frozenset'>"}
    """
    return {str(name): _plain(value) for name, value in options.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def takes_any(factory: Callable[..., Any]) -> bool:
    """Return whether a factory takes options that its signature does not name, or does not tell what it takes."""
    parameters = _parameters(factory)
    return not parameters and not _tells(factory) or any(one.kind is one.VAR_KEYWORD for one in parameters)


def _parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(factory).parameters.values()) if _tells(factory) else []


def _tells(factory: Callable[..., Any]) -> bool:
    try:
        inspect.signature(factory)
    except (TypeError, ValueError):  # some that are written in C do not
        return False
    return True


def _meanings(docstring: str) -> dict[str, str]:
    """Return the text of each argument in the section Args.

    >>> _meanings("Do it.\\n\\nArgs:\\n    one, two: are\\n        numbers.\\n    three: is not.\\n\\nRaises:\\n    No: never.")
    {'one': 'are numbers.', 'two': 'are numbers.', 'three': 'is not.'}
    """
    lines = docstring.splitlines()
    if "Args:" not in lines:
        return {}
    found: dict[str, str] = {}
    names: list[str] = []
    for line in lines[lines.index("Args:") + 1 :]:
        if line and not line.startswith(" "):
            break
        text, deeper = line.strip(), line.startswith(" " * 8)
        argument = None if deeper else _ARGUMENT.fullmatch(text)
        if argument:
            names = argument["names"].split(", ")
            found |= dict.fromkeys(names, argument["meaning"])
        elif text:
            found |= {name: f"{found[name]} {text}" for name in names}
    return found
