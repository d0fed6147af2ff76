"""What `rerank eval agreement` prints for people."""

from collections.abc import Mapping
from typing import Any

import typer

from rerank.cli.tables import Column, number, print_columns, print_metrics


def print_agreement(report: Mapping[str, Any]) -> None:
    """Print a report of `rerank.eval.agreement.report.evaluate`."""
    print_metrics(report["metrics"])
    typer.echo()
    _print_rules(report["rules"])
    calibration = report["calibration"]
    typer.echo(
        f"\nslope of the log odds of being right: {number(calibration['slope'])} per unit of the gap, fitted to "
        f"{calibration['pairs']:,} pairs, {calibration['fitted to']}"
    )
    told = {name: one for name, one in calibration["told"].items() if one is not None}
    _print_errors(told)
    if told:
        typer.echo()
    _print_words(told)


def _print_rules(rules: Mapping[str, Any]) -> None:
    rows = [(f"best of {n} by {rule}", one) for n, by_rule in rules.items() for rule, one in by_rule.items()]
    columns = [Column("chosen as", [name for name, _ in rows])]
    for title in ("gain", "same choice"):
        columns.append(Column(title, [number(one[title]["value"]) for _, one in rows], number=True))
        columns.append(Column("95 %", [_interval(one[title]) for _, one in rows], number=True))
    print_columns(columns)


def _print_errors(told: Mapping[str, Any]) -> None:
    columns = [Column("pairs", [*told]), Column("count", [str(one["pairs"]) for one in told.values()], number=True)]
    for title in ("error", "error by chance", "Brier score"):
        columns.append(Column(title, [number(one[title]) for one in told.values()], number=True))
    print_columns(columns)


def _print_words(told: Mapping[str, Any]) -> None:
    rows = [(name, word, one) for name, judged in told.items() for word, one in judged["words"].items()]
    print_columns(
        [
            Column("pairs", [name for name, _, _ in rows]),
            Column("verdict", [word for _, word, _ in rows]),
            Column("count", [str(one["pairs"]) for _, _, one in rows], number=True),
            Column("said", [number(one["said"]) for _, _, one in rows], number=True),
            Column("right", [number(one["right"]["value"]) for _, _, one in rows], number=True),
            Column("95 %", [_interval(one["right"]) for _, _, one in rows], number=True),
        ]
    )


def _interval(mean: Mapping[str, float | None]) -> str:
    return "-" if mean["low"] is None else f"{number(mean['low'])} to {number(mean['high'])}"
