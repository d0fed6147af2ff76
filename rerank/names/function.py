"""Functions of users that are wrapped: whether they can be called as they will be."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rerank.errors import InvalidInput, UnknownName
from rerank.protocols import Condition

PARTS = ("text", "lyrics", "reference")


def checked_conditions(conditions: Iterable[Condition]) -> frozenset[Condition]:
    """Return parts of a prompt as a set.

    Raises:
        InvalidInput: it is no collection.
        UnknownName: there is no such part.
    """
    if isinstance(conditions, str) or not isinstance(conditions, Iterable):
        raise InvalidInput(f"conditions must be a collection of names, got {conditions!r}; pass ('text', 'lyrics')")
    parts = frozenset(conditions)
    for part in parts:
        if part not in PARTS:
            raise UnknownName.among("condition", part, PARTS)
    return parts


def keywords_of(conditions: frozenset[Condition]) -> list[Condition]:
    """Return the parts of a prompt that a function gets by their names; the text is its first argument."""
    return [part for part in ("lyrics", "reference") if part in conditions]


def name_of(function: object) -> str:
    """Return what a function, or another object that can be called, is called."""
    return str(getattr(function, "__name__", type(function).__name__))


def check_function(verb: str, function: object, arguments: Mapping[str, Any], keywords: Sequence[str]) -> None:
    """Refuse what is no function of these arguments, where it tells what it takes.

    Args:
        verb: that wraps it, for messages.
        function: to check.
        arguments: name -> a value such as it will get, in order.
        keywords: further arguments, which it gets by name.

    Raises:
        InvalidInput: it cannot be called so.
    """
    if isinstance(function, type) or not callable(function):
        kind = f"the class {function.__name__}" if isinstance(function, type) else type(function).__name__
        told = ", ".join(arguments)
        raise InvalidInput(f"{verb} takes a function ({told}), got {kind}; pass a function or an object")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions that are written in C do not tell
        return
    try:
        signature.bind(*arguments.values(), **dict.fromkeys(keywords))
    except TypeError as error:
        named = ", ".join([*arguments, *(f"{keyword}=" for keyword in keywords)])
        raise InvalidInput(
            f"{verb} calls the function with ({named}), and it takes {signature}: {error}; give it a function that "
            "takes these"
        ) from error
