"""The section of the model card on what a gap between two rewards tells, from the report of agreement."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rerank.verdict import CLEAR, LEANS

_WORDS = ("too close to call", "leans", "clear")

_TEMPLATE = """## How sure

How likely is the take with the higher combined reward the better one? The log odds are {slope:.2f} ({low:.2f} to {high:.2f}) times the
gap between the two, fitted to {pairs:,} pairs, the {fitted_to}. So a gap of {clear:.2f} makes {clear_chance}, above
which a ranking calls its first *clear*, and one of {leans:.2f} makes {leans_chance}, from which on it *leans*.

Judged on captions that the slope was not fitted to ({prompts} in ten parts, each by the slope of the nine others):
{picture}
{told}

Under each verdict stands how often the higher one was the better one, and what was said of it on average. *Error* is how
far what was said is from what came true, the mean over bins of equally many pairs (10, or 5 of fewer than 1,000); *by chance*
is what true probabilities would show over so few pairs. In brackets are 95 %, by a bootstrap over captions. Pairs of
equal truth are left out. Near the top of the scale a gap tells less than elsewhere: takes without any fault are equally
good, and their rewards still differ.

The slope holds for equal weights. Under other weights its errors, and by chance, are:

{weights}

## What the rules choose

Of all takes of a caption, and of three: how far the chosen one is on the way from an average one to the best, as in the
best-of-n gain above, and how often it is the one that `mean` chooses.

{rules}

## Where rewards lie

Of {takes}, so many have a lower reward:

{norms}

"""


def how_sure(report: Mapping[str, Any], picture: str | None = None) -> str:
    """Return the section in Markdown, empty where there were too few takes to tell.

    Args:
        report: of `rerank.eval.agreement.report.evaluate`.
        picture: name of the reliability diagram, beside the card.
    """
    found = report["calibration"]
    if found["interval"] is None or not found["slope"] > 0:
        return ""
    low, high = found["interval"]
    return _TEMPLATE.format(
        slope=found["slope"],
        low=low,
        high=high,
        pairs=found["pairs"],
        fitted_to=found["fitted to"],
        clear=_gap(CLEAR, found["slope"]),
        leans=_gap(LEANS, found["slope"]),
        clear_chance=_percent(CLEAR),
        leans_chance=_percent(LEANS),
        prompts=report["options"]["prompts"],
        picture=f"\n![Said and right]({picture})\n" if picture else "",
        told=_told(found["told"]),
        weights=_weights(found["other weights"], list(found["told"])),
        rules=_rules(report["rules"]),
        takes=report["norms"]["takes"],
        norms=_norms(report["norms"]["quantiles"]),
    )


def _gap(chance: float, slope: float) -> float:
    return math.log(chance / (1 - chance)) / slope


def _told(told: Mapping[str, Any]) -> str:
    head = ["pairs", "count", "error", "by chance", *(f"*{word}*" for word in _WORDS)]
    return _table(
        head,
        (
            [
                name,
                f"{one['pairs']:,}",
                _three(one["error"]),
                _three(one["error by chance"]),
                *map(_word, _in_order(one)),
            ]
            for name, one in told.items()
            if one is not None
        ),
    )


def _in_order(judged: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [judged["words"][word] for word in _WORDS]


def _word(one: Mapping[str, Any]) -> str:
    right = one["right"]
    if not one["pairs"]:
        return "none"
    spread = f"{_percent(right['value'])} ({100 * right['low']:.0f}-{100 * right['high']:.0f})"
    return f"{spread} of {one['pairs']:,}, said {_percent(one['said'])}"


def _weights(others: Mapping[str, Any], kinds: list[str]) -> str:
    return _table(
        ["weights", "slope of their own", *kinds],
        (
            [weights, _three(of[kinds[1]]["slope of their own"]), *(_error(of[kind]) for kind in kinds)]
            for weights, of in others.items()
        ),
    )


def _error(one: Mapping[str, Any]) -> str:
    return f"{_three(one['error'])} ({_three(one['error by chance'])})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _rules(rules: Mapping[str, Any]) -> str:
    head = ["candidates", "rule", "best-of-n gain", "more than `mean`", "same choice"]
    return _table(
        head,
        (
            [n, f"`{rule}`", *(_mean(one[name]) for name in ("gain", "more than mean", "same choice"))]
            for n, by_rule in rules.items()
            for rule, one in by_rule.items()
        ),
    )


def _norms(quantiles: Mapping[str, list[float]]) -> str:
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    return _table(
        ["axis", *map(_percent, shares)],
        (
            [axis, *(f"{values[round(share * (len(values) - 1))]:.2f}" for share in shares)]
            for axis, values in quantiles.items()
        ),
    )


def _mean(mean: Mapping[str, float | None]) -> str:
    if mean["value"] is None:
        return "-"
    return f"{mean['value']:.3f} ({mean['low']:.3f} to {mean['high']:.3f})"


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
