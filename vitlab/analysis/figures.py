"""The plot for a paper: test error against training images, one panel a task, as PNG, SVG and PDF.

Matplotlib's object interface, without pyplot's global state. Equal data gives equal bytes: no dates, fixed ids.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vitlab.analysis.drawing import Look, all_models, error_ticks, looks, size_limits, size_ticks, spread
from vitlab.analysis.selection import Point
from vitlab.analysis.task_result import TaskResult
from vitlab.analysis.wording import about, label, short

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


class Drawn(NamedTuple):
    """A figure as files of three formats."""

    png: bytes
    svg: bytes
    pdf: bytes


def draw_figure(results: Sequence[TaskResult]) -> Drawn:
    """Return the figure as files.

    Args:
        results: analyses, a panel each.
    """
    import matplotlib  # 0.7 s to import: nothing but drawing pays it
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 2 if len(results) == 4 else min(len(results), 3)
    rows = math.ceil(len(results) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=((5.2 if columns == 1 else 4.1 * columns), 3.5 * rows + 0.35), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.09)
        FigureCanvasAgg(figure)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[len(results) :]:
            panel.set_visible(False)
        style = looks(all_models(results))
        for panel, result in zip(panels, results, strict=False):
            _draw_panel(panel, result, style)
        _explain(figure)
        return as_files(figure)


def as_files(figure: Figure) -> Drawn:
    """Return a figure in all formats, without dates; call it where STYLE holds."""
    png, svg, pdf = io.BytesIO(), io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=PNG_DPI, metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return Drawn(png.getvalue(), svg.getvalue(), pdf.getvalue())


def _draw_panel(axes: Axes, result: TaskResult, style: dict[str, Look]) -> None:
    errors = error_ticks(result)
    named = size_ticks(result)
    axes.set_xscale("log")
    axes.set_xlim(*size_limits(result))
    axes.set_ylim(0, errors[-1])
    axes.set_xticks([size for size, _ in named], [text for _, text in named])
    axes.set_xticks([], minor=True)
    axes.set_yticks(errors, [f"{error:g}" for error in errors])
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, axis="y")
    axes.tick_params(length=3, axis="x")
    axes.set_xlabel("training images", color=SOFT)
    axes.set_ylabel("test error (%)", color=SOFT)
    axes.set_title(result.name, loc="left", fontsize=10.5, fontweight="bold", pad=16)
    for pair in [] if result.dial else result.pairs:  # a dial asks for more than where two of its arms cross
        _mark_crossover(axes, pair, shade=len(result.pairs) == 1)
    for model in result.models:
        _draw_model(axes, result, model, style[model])
    _name_lines(axes, result, style, errors[-1])


def _draw_model(axes: Axes, result: TaskResult, model: str, look: Look) -> None:
    points = result.points_of(model)
    sizes = [point.train_size for point in points]
    banded = [point for point in points if point.interval is not None]
    if banded:
        low, high = np.array([point.interval for point in banded]).T * 100
        axes.fill_between([p.train_size for p in banded], low, high, color=look.color, alpha=0.14, linewidth=0)
    dots = [(point.train_size, 100 * error) for point in points for error in point.errors.values()]
    axes.scatter(*zip(*dots, strict=True), s=5, color=look.color, alpha=0.45, linewidths=0, zorder=3, clip_on=False)
    fitted = np.geomspace(sizes[0], sizes[-1], 60)
    fit = result.fits[model].predict(fitted)
    if fit is not None:
        axes.plot(fitted, 100 * fit, color=look.color, linewidth=1.1, linestyle=(0, (1, 2.2)), zorder=2)
    axes.plot(
        sizes,
        [100 * point.mean_error for point in points],
        color=look.color,
        linewidth=1.7,
        linestyle=(0, look.dash) if look.dash else "-",
        marker=MARKERS[look.marker],
        markersize=5.5,
        markeredgecolor="white",
        markeredgewidth=0.8,
        zorder=4,
        clip_on=False,
    )


def _mark_crossover(axes: Axes, pair, shade: bool) -> None:
    crossover = pair.crossover
    if crossover.train_size is None:
        return
    if shade and crossover.share_crossing is not None:
        low, high = crossover.interval
        edges = axes.get_xlim()
        axes.axvspan(low or edges[0], high or edges[1], color=SOFT, alpha=0.10, linewidth=0, zorder=0)
    axes.axvline(crossover.train_size, color=SOFT, linewidth=0.9, zorder=1)
    if not shade:  # with many pairs the texts would run into each other; the tables have the numbers
        return
    axes.annotate(
        f"crossover at about {about(crossover.train_size)}",
        (crossover.train_size, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        color=INK,
    )


def _name_lines(axes: Axes, result: TaskResult, style: dict[str, Look], top: float) -> None:
    """Write each model's name at the end of its line instead of in a legend."""
    ends: list[Point] = [result.points_of(model)[-1] for model in result.models]
    heights = spread([100 * point.mean_error for point in ends], gap=0.07 * top, lowest=0.03 * top)
    for point, height in zip(ends, heights, strict=True):
        axes.annotate(
            short(label(point.model)),
            (point.train_size, height),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            color=style[point.model].color,
            fontweight="bold",
            annotation_clip=False,
        )


def _explain(figure: Figure) -> None:
    text = "line: mean over seeds   ·   band: 95 % interval   ·   dots: single seeds   ·   dotted: fitted curve"
    if figure.get_figwidth() < 6:
        text = text.replace("   ·   dots", "\ndots")
    figure.supxlabel(text, fontsize=7.5, color=SOFT)
