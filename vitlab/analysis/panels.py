"""What the figures for papers share: their style, their frames, the names of their lines, their files.

Matplotlib's object interface, without pyplot's global state. Equal data gives equal bytes: no dates, fixed ids.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from vitlab.analysis.drawing import spread
from vitlab.analysis.wording import brief, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, GRID = "#1c2128", "#59626e", "#e4e7eb"
MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D"}
STYLE = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.7,
    "text.color": INK,
    "text.parse_math": False,  # a task named "a$b$" is text
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "svg.hashsalt": "vitlab",
    "pdf.fonttype": 42,  # text that one can search and copy
}
PNG_DPI = 220
_FEWEST_TICKS, _MOST_TICKS = 3, 6
_DIGITS = [(1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), tuple(number / 2 for number in range(2, 20))]


class Drawn(NamedTuple):
    """A figure as files of three formats."""

    png: bytes
    svg: bytes
    pdf: bytes


def as_files(figure: Figure) -> Drawn:
    """Return a figure in all formats, without dates; call it where STYLE holds."""
    png, svg, pdf = io.BytesIO(), io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=PNG_DPI, metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return Drawn(png.getvalue(), svg.getvalue(), pdf.getvalue())


def draw_frame(axes: Axes) -> None:
    """Draw what all panels have: lines across at the values, an axis below, and nothing else around.

    Args:
        axes: the panel.
    """
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, axis="y")
    axes.tick_params(length=3, axis="x")


def prepare_panel(axes: Axes, title: str, words: tuple[str, str], ticks: Sequence[float]) -> None:
    """Draw a panel's frame: a log axis of places, and values from 0 to the last tick.

    Args:
        axes: the panel.
        title: above it.
        words: what stands along it, and up it.
        ticks: round values, as shown.
    """
    axes.set_xscale("log")
    axes.set_ylim(0, ticks[-1])
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    draw_frame(axes)
    axes.set_xlabel(words[0], color=SOFT)
    axes.set_ylabel(words[1], color=SOFT)
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", pad=16)


def name_ticks(axes: Axes, values: Sequence[float]) -> None:
    """Name round numbers on the log axis of a quantity that has no measured sizes of its own.

    Args:
        axes: the panel, its limits set.
        values: what is drawn.
    """
    powers = range(math.floor(math.log10(min(values))) - 1, math.ceil(math.log10(max(values))) + 1)
    first, last = axes.get_xlim()
    for digits in _DIGITS:
        found = sorted(digit * 10.0**power for power in powers for digit in digits)
        ticks = [value for value in found if first <= value <= last]
        if len(ticks) >= _FEWEST_TICKS:
            break
    ticks = ticks[:: math.ceil(len(ticks) / _MOST_TICKS)] if ticks else sorted({min(values), max(values)})
    axes.set_xticks(ticks, [brief(value) for value in ticks])
    axes.set_xticks([], minor=True)


def name_ends(
    axes: Axes, names: Sequence[tuple[str, str]], ends: Sequence[tuple[float, float]], factor: float, top: float
) -> None:
    """Write names beside the ends of lines, moved apart.

    Args:
        axes: the panel.
        names: with their colors.
        ends: place and recorded value of each.
        factor: from a recorded value to the shown one.
        top: the largest shown value of the axis.
    """
    heights = spread([factor * value for _, value in ends], gap=0.07 * top, lowest=0.03 * top)
    for (name, color), (place, _), height in zip(names, ends, heights, strict=True):
        axes.annotate(
            short(name),
            (place, height),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            color=color,
            fontweight="bold",
            annotation_clip=False,
        )
