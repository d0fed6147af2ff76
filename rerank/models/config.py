"""Configs of published models: read within bounds, and every value checked before anything is built from it.

A config comes with weights from anywhere. A depth of a thousand million would build layers until the memory is full; a
number written as a text, or true for 1, would be taken for what nobody meant.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from rerank.errors import WeightsError, one_line

WIDTH, DEPTH, HEADS, VOCABULARY = 65_536, 256, 1024, 2**22
"""The most that a width and the numbers of layers, heads and tokens can be: several times those of published models."""

HIGHEST_EPSILON = 0.1
"""Of what keeps a division from one by 0: a large one would take all weight from what it is added to."""

_MOST_BYTES = {"JSON": 4 * 1024**2, "YAML": 64 * 1024}
"""Of a config; YAML is slow to read."""

_SHOWN = 60
"""Characters of a value that a message shows."""

_MISSING = object()


def shown(value: object) -> str:
    """Return a value from a file as a message shows it: the beginning of its repr."""
    try:
        text = repr(value)
    # a whole number of thousands of digits
    except ValueError:
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        WeightsError: it cannot be read, is far too long or too deep, or holds something else.
    """
    return _read(path, "JSON")


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, of plain values only.

    Raises:
        WeightsError: it cannot be read, is far too long or too deep, has aliases, by which a few lines could stand for
            gigabytes, or holds something else.
    """
    return _read(path, "YAML")


def _read(path: Path, kind: str) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES[kind] + 1)
        if len(content) > _MOST_BYTES[kind]:
            raise ValueError(f"a config has at most {_MOST_BYTES[kind]:,} bytes of {kind}")
        text = content.decode()
        found = json.loads(text) if kind == "JSON" else yaml.load(text, _WithoutAliases)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise WeightsError(f"cannot read {path}: {one_line(error)}") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds a {type(found).__name__}; expected names with values")
    return found


class _WithoutAliases(yaml.SafeLoader):
    """Makes plain values only, each written out."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("aliases (*name) are not supported; write out what they stand for")
        return super().compose_node(parent, index)


class Config:
    """Names with values, each taken with the type and the bounds that it must have.

    Args:
        values: as read.
        of: what they describe, in messages.
        within: names of the parts around it.
    """

    def __init__(self, values: Any, of: str, within: str = "") -> None:
        if not isinstance(values, Mapping):
            name = f"{within.rstrip('.')} of {of}" if within else of
            raise WeightsError(f"{name} must be names with values, got {shown(values)}")
        self.values, self.of, self._within = values, of, within

    def part(self, name: str, default: Any = _MISSING) -> "Config":
        """Return a config within this one."""
        return Config(self._get(name, default), self.of, f"{self._within}{name}.")

    def whole(self, name: str, low: int, high: int, default: Any = _MISSING) -> int:
        """Return a whole number from `low` to `high`."""
        found = self._get(name, default)
        self.check(name, found, f"a whole number from {low:,} to {high:,}", _is_whole(found) and low <= found <= high)
        return int(found)

    def number(self, name: str, low: float, high: float, default: Any = _MISSING) -> float:
        """Return a number from `low` to `high`."""
        found = self._get(name, default)
        good = (_is_whole(found) or isinstance(found, float)) and low <= found <= high
        self.check(name, found, f"a number from {low:g} to {high:g}", good)
        # as it was written: the fingerprint of a model has it
        number: float = found
        return number

    def flag(self, name: str, default: Any = _MISSING) -> bool:
        """Return true or false."""
        found = self._get(name, default)
        self.check(name, found, "true or false", isinstance(found, bool))
        return bool(found)

    def text(self, name: str) -> str:
        """Return a text that is not empty."""
        found = self._get(name)
        self.check(name, found, "a text", isinstance(found, str) and found != "")
        return str(found)

    def wholes(self, name: str, low: int, high: int, most: int) -> tuple[int, ...]:
        """Return one whole number or more, `most` at most, each from `low` to `high`."""
        found = self._get(name)
        listed = isinstance(found, list) and 1 <= len(found) <= most
        good = listed and all(_is_whole(one) and low <= one <= high for one in found)
        self.check(name, found, f"1 to {most} whole numbers from {low:,} to {high:,}", good)
        return tuple(found)

    def only(self, name: str, *known: Any, default: Any = _MISSING) -> Any:
        """Return a value that is one of those that are supported."""
        found = self._get(name, default)
        if not any(type(found) is type(one) and found == one for one in known):
            expected = " or ".join(map(repr, known))
            raise WeightsError(
                f"{self.of} with {self._within}{name} {shown(found)} is not supported; expected {expected}"
            )
        return found

    def check(self, name: str, found: object, expected: str, good: bool) -> None:
        """Refuse a value that is not what is expected.

        Raises:
            WeightsError: unless it is good.
        """
        if not good:
            raise WeightsError(f"{self._within}{name} of {self.of} must be {expected}, got {shown(found)}")

    def _get(self, name: str, default: Any = _MISSING) -> Any:
        found = self.values.get(name, default)
        if found is _MISSING:
            raise WeightsError(f"a config of {self.of} lacks {self._within + name!r}")
        return found


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_COUNTS = (
    (
        r"(num|n)_.*(layers?|blocks?)|layers?|n_layer|depth|.*_depths?|depths|layers_per_block|num_memory_tokens",
        0,
        1024,
    ),
    (r".*heads?|n_head", 0, 4096),
    (r".*(sampling|sample)_rate", 1000, 384_000),
    (r".*(ratios|strides?|rates|kernel_sizes?|dilation_sizes|c_mults|multiples|multipliers|patch_size)", 1, 4096),
    (r".*(_dims?|_size|_positions|_channels|_filters|_timesteps|d_model|d_ff|d_kv|n_embd|n_positions|n_ctx)", 0, 2**22),
)
"""What whole numbers of configs can be that a library reads, by patterns of their names."""

_EPSILON = r".*(_eps|_epsilon|^eps)"


def check_sizes(values: Mapping[str, Any], of: str) -> None:
    """Refuse sizes that no published model has, in a config that a library builds from.

    Raises:
        WeightsError: a depth, width, rate or the like is not a whole number within bounds, an epsilon is not small, or
            a number is not finite; it names it.
    """
    for name, value in _leaves(values):
        key = name.rpartition(".")[2]
        config = Config({name: value}, of)
        if isinstance(value, float) and not math.isfinite(value):
            config.check(name, value, "a finite number", False)
        if value is None:
            continue
        if re.fullmatch(_EPSILON, key):
            config.number(name, 0.0, HIGHEST_EPSILON)
        for pattern, low, high in _COUNTS:
            if re.fullmatch(pattern, key):
                config.whole(name, low, high)
                break


def _leaves(values: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield values with their names, those of lists by the name of the list."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _leaves(value, name)
    else:
        yield name, values
