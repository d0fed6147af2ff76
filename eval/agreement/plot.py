"""The reliability diagram: how often the take with the higher reward is the better one, against what was said of it."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank.errors import InvalidInput, MissingDependency
from rerank.eval.agreement.sure import ALL, second
from rerank.files import check_place, write_bytes
from rerank.verdict import CLEAR, LEANS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE, _DPI = (5.6, 4.8), 100
"""In inches, and dots in each."""

_WORDS = {"too close\nto call": (0.5, LEANS), "leans": (LEANS, CLEAR), "clear": (CLEAR, 1.0)}
"""With the probabilities that each stands for."""

_LOOKS = (("#8a8a8a", "s"), ("#0b5cad", "o"))
"""Colour and marker."""


def check_plot(path: Path) -> None:
    """Refuse, before anything is measured, what cannot be drawn.

    Raises:
        InvalidInput: there is no such kind of picture.
        MissingDependency: matplotlib is not installed.
        OutputError: no file can be written there.
    """
    kinds = _new_figure().canvas.get_supported_filetypes()
    if _kind(path) not in kinds:
        raise InvalidInput(f"a picture must be a file such as calibration.png or .svg, got {path.name!r}")
    check_place(path)


def write_plot(report: Mapping[str, Any], path: Path) -> None:
    """Draw the calibration of a report of `rerank.eval.agreement.report.evaluate` to a file, as its ending says.

    Raises:
        InvalidInput: there is no calibration in it.
        MissingDependency: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    figure = _new_figure()
    axes = figure.add_subplot()
    _draw_frame(axes)
    told = report["calibration"]["told"]
    for name, look in zip((ALL, second(report["options"]["n"])), _LOOKS, strict=True):
        if told[name] is None:
            raise InvalidInput(f"there is nothing to draw: no probabilities for {name}; take more prompts")
        _draw(axes, name, told[name], *look)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    picture = io.BytesIO()
    figure.savefig(picture, format=_kind(path), dpi=_DPI)
    write_bytes(path, picture.getvalue())


def _kind(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")


def _new_figure() -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise MissingDependency("'matplotlib' is not installed; run: pip install 'rerank-music[eval]'") from error
    return Figure(figsize=_SIZE, layout="constrained")


def _draw_frame(axes: "Axes") -> None:
    axes.plot([0.5, 1], [0.5, 1], color="black", linewidth=0.8, linestyle=(0, (4, 3)), label="as it should be")
    for word, limits in _WORDS.items():
        axes.axvline(limits[1], color="#cccccc", linewidth=0.8, zorder=0)
        axes.text(sum(limits) / 2, 1.035, word, ha="center", va="center", fontsize=9, color="#444444", linespacing=0.9)
    axes.set(xlim=(0.49, 1.01), ylim=(0.2, 1.07), xlabel="probability that was said", ylabel="share that was right")
    axes.spines[["top", "right"]].set_visible(False)


def _draw(axes: "Axes", name: str, judged: Mapping[str, Any], colour: str, marker: str) -> None:
    bins = judged["bins"]
    right = [one["right"] for one in bins]
    bars = [[one["value"] - one["low"] for one in right], [one["high"] - one["value"] for one in right]]
    axes.set_ylim(bottom=min(axes.get_ylim()[0], min(one["low"] for one in right) - 0.02))
    axes.errorbar(
        [one["said"] for one in bins],
        [one["value"] for one in right],
        yerr=bars,
        color=colour,
        marker=marker,
        markersize=5,
        linestyle="none",
        elinewidth=1,
        capsize=2,
        label=f"{name}\n({judged['pairs']:,} pairs, error {judged['error']:.3f})",
    )
