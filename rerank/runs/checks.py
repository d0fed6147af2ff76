"""What a document of a run must be like to stand for one, whoever edited it."""

from collections.abc import Mapping, Sequence
from typing import Any

from rerank.data import Candidate, check_whole, is_number
from rerank.filters import Filters
from rerank.protocols import Norms
from rerank.request import MAX_CANDIDATES
from rerank.rules import check_rule, check_weights
from rerank.settings import Settings

_TEXTS = ("reward", "generator_version", "generator_device", "reward_version", "rerank_version")
_TEXTS_OR_NONE = ("generator", "generator_licence", "reward_licence")
_MAPPINGS = ("filters", "generator_options", "versions")


def check_settings(settings: Settings) -> None:
    """Refuse settings that no run has.

    Raises:
        TypeError, ValueError: naming the setting.
    """
    check_whole("n", settings.n, 1, MAX_CANDIDATES)
    check_whole("top_k", settings.top_k, 1, settings.n)
    for name in _TEXTS:
        _expect(name, getattr(settings, name), str)
    for name in _TEXTS_OR_NONE:
        _expect(name, getattr(settings, name), str | None)
    for name in _MAPPINGS:
        _expect(name, getattr(settings, name), Mapping)
    for name in ("not_followed", "not_read", "notes"):
        _expect_texts(name, getattr(settings, name))
    _expect("seed", settings.seed, int | None)
    _expect_number("duration", settings.duration)
    check_weights(settings.weights)
    check_rule(settings.rule)
    Filters.of(settings.filters)
    for record in settings.rewards:
        _expect("a reward model", record, Mapping)
        _expect("the name of a reward model", record["name"], str)
        _expect("the options of a reward model", record.get("options", {}), Mapping)
        _check_meaning(record)


def _check_meaning(record: Mapping[str, Any]) -> None:
    """Refuse what explains the rewards of a model, and is not what a run records."""
    for axis, about in (record.get("axes") or {}).items():
        _expect("what an axis means", about.get("meaning"), str)
        for name in ("weight", "low", "high"):
            _expect_number(f"{name} of {axis!r}", about.get(name))
    _expect_number("the calibration of a reward model", record.get("calibration"))
    if (norms := record.get("norms")) is not None:
        _expect("the takes of norms", norms["takes"], str)
        Norms(takes=norms["takes"], quantiles=norms["quantiles"])


def check_prompt(prompt: Mapping[str, Any]) -> None:
    """Refuse what is no prompt; its reference is looked at elsewhere.

    Raises:
        TypeError: naming the part.
    """
    _expect("text", prompt["text"], str)
    _expect("lyrics", prompt["lyrics"], str | None)


def check_candidates(candidates: Sequence[Candidate], settings: Settings) -> None:
    """Refuse candidates that no run has: each has an index of its own, and those ranked come first, in order.

    Raises:
        TypeError, ValueError: saying what is wrong.
    """
    for candidate in candidates:
        _check_candidate(candidate, settings)
    if len({candidate.index for candidate in candidates}) < len(candidates):
        raise ValueError("two candidates have one index")
    ranks = [candidate.rank for candidate in candidates if candidate.rank is not None]
    if ranks != list(range(1, len(ranks) + 1)):
        raise ValueError(f"the ranks are not 1 to {len(ranks)}, in this order")


def _check_candidate(candidate: Candidate, settings: Settings) -> None:
    check_whole("index", candidate.index, 0, settings.n - 1)
    for name in ("seed", "rank"):
        _expect(name, getattr(candidate, name), int | None)
    for name in ("set_aside", "sha256", "licence"):
        _expect(name, getattr(candidate, name), str | None)
    _expect("truth", candidate.truth, Mapping | None)
    _expect_texts("reasons", candidate.reasons)
    _expect_texts("faults", [*candidate.faults, *candidate.faults.values()])
    for axis, reward in candidate.rewards.items():
        _expect_number(f"the reward {axis!r}", reward)
    _expect_number("combined", candidate.combined)
    if candidate.rank is not None and (candidate.combined is None or candidate.set_aside is not None):
        raise ValueError(f"candidate {candidate.index} is ranked, and has no combined reward or was set aside")


def _expect(name: str, value: object, kind: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"{name} {value!r:.40}")


def _expect_texts(name: str, values: Sequence[object]) -> None:
    for value in values:
        _expect(name, value, str)


def _expect_number(name: str, value: object) -> None:
    if value is not None and not is_number(value):
        raise ValueError(f"{name} {value!r:.40}")
