"""What the shell offers while a line is typed: names only, so that nothing heavy is imported."""

from collections.abc import Sequence

from rerank.errors import RerankError

Offer = Sequence[tuple[str, str] | str]


def generators(incomplete: str) -> list[str]:
    """Return the generators whose names begin so."""
    return _names("generator", incomplete)


def rewards(incomplete: str) -> list[str]:
    """Return the reward models whose names begin so."""
    return _names("reward", incomplete)


def models(incomplete: str) -> list[str]:
    """Return the generators and reward models whose names begin so."""
    return [name for name in (*generators(incomplete), *rewards(incomplete)) if name != "auto"]


def devices(incomplete: str) -> list[str]:
    """Return the devices whose names begin so."""
    return [name for name in ("auto", "cpu", "cuda", "mps") if name.startswith(incomplete)]


def rules(incomplete: str) -> list[str]:
    """Return the rules whose names begin so."""
    from rerank.rules import RULES

    return [name for name in RULES if name.startswith(incomplete)]


def formats(incomplete: str) -> list[str]:
    """Return the formats for copies whose names begin so."""
    from rerank.export import FORMATS

    return [name for name in FORMATS if name.startswith(incomplete)]


def _names(kind: str, incomplete: str) -> list[str]:
    from rerank.registry import entries

    try:
        known = [*entries("generator" if kind == "generator" else "reward"), "auto"]
    except RerankError:  # the command itself says what is wrong
        return []
    return [name for name in known if name.startswith(incomplete)]
