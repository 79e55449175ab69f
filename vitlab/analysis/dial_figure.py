"""A dial's plot for a paper: test error against the number that the arms differ in, one line a data size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitlab.analysis.drawing import LOOKS, Look, error_ticks, spread
from vitlab.analysis.panels import MARKERS, SOFT, STYLE, Drawn, as_files, draw_frame
from vitlab.analysis.selection import Point
from vitlab.analysis.task_result import TaskResult
from vitlab.analysis.wording import count, label, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDEST_ON_A_LINEAR_AXIS = 4.0  # beyond this ratio of the largest to the smallest value the axis is logarithmic


@dataclass(frozen=True)
class DialLine:
    """One line of a dial's plot: a family at one data size.

    Args:
        name: how to call it in the plot.
        look: how to draw it.
        color: which of the page's colors it has, from 0.
        values: places on the dial, growing.
        points: what was measured there.
    """

    name: str
    look: Look
    color: int
    values: list[float]
    points: list[Point]

    @property
    def lowest(self) -> int:
        """Return which point has the lowest mean error; of equals the one with the smallest value."""
        return int(np.argmin([point.mean_error for point in self.points]))


def dial_lines(result: TaskResult) -> list[DialLine]:
    """Return a line for each family and data size; families differ in color, or sizes where there is one family.

    Args:
        result: analysis of a sweep with a dial.
    """
    families, sizes = result.dial.families, sorted({point.train_size for point in result.points})
    measured = {(point.model, point.train_size): point for point in result.points}
    lines = []
    for row, family in enumerate(families):
        for column, size in enumerate(sizes):
            own = [place for place in result.dial.places if place.family == family and (place.model, size) in measured]
            if not own:
                continue
            color = (row if len(families) > 1 else column) % len(LOOKS)
            marks = LOOKS[column % len(LOOKS)]
            look = Look(LOOKS[color].color, LOOKS[color].dark_color, marks.marker, marks.dash)
            name = f"{count(size)} images" if len(families) == 1 else f"{short(label(family), 10)}, {count(size)}"
            points = [measured[place.model, size] for place in own]
            lines.append(DialLine(name, look, color, [place.value for place in own], points))
    return lines


def has_log_scale(values: Sequence[float]) -> bool:
    """Say whether a dial's axis is logarithmic: where its values are positive and span a wide range."""
    return min(values) > 0 and max(values) / min(values) >= _WIDEST_ON_A_LINEAR_AXIS


def value_ticks(result: TaskResult) -> list[tuple[float, str]]:
    """Return the values on the dial with their texts; of one family also the arm's name, where it says more.

    Args:
        result: analysis of a sweep with a dial.
    """
    one = len(result.dial.families) == 1
    texts = {place.value: place.words if one else f"{place.value:g}" for place in result.dial.places}
    return sorted(texts.items())


def value_limits(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of a dial's axis: its range and a little air."""
    low, high = min(values), max(values)
    if has_log_scale(values):
        air = (high / low) ** 0.06
        return low / air, high * air
    air = 0.06 * (high - low) or 1.0
    return low - air, high + air


def draw_dial_figure(results: Sequence[TaskResult]) -> Drawn:
    """Return the figure of all results that have a dial as files.

    Args:
        results: analyses, of which one or more have a dial; a panel each.
    """
    import matplotlib  # 0.7 s to import: nothing but drawing pays it
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dials = [result for result in results if result.dial is not None]
    columns = min(len(dials), 2)
    rows = math.ceil(len(dials) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6 if columns == 1 else 9.4, 3.6 * rows + 0.35), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.09)
        FigureCanvasAgg(figure)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[len(dials) :]:
            panel.set_visible(False)
        for panel, result in zip(panels, dials, strict=False):
            _draw_panel(panel, result)
        _explain(figure)
        return as_files(figure)


def _draw_panel(axes: Axes, result: TaskResult) -> None:
    ticks, errors, lines = value_ticks(result), error_ticks(result), dial_lines(result)
    values = [value for value, _ in ticks]
    axes.set_xscale("log" if has_log_scale(values) else "linear")
    axes.set_xlim(*value_limits(values))
    axes.set_ylim(0, errors[-1])
    axes.set_xticks(values, [text for _, text in ticks])
    axes.set_xticks([], minor=True)
    axes.set_yticks(errors, [f"{error:g}" for error in errors])
    draw_frame(axes)
    axes.set_xlabel(result.dial.label, color=SOFT)
    axes.set_ylabel("test error (%)", color=SOFT)
    axes.set_title(result.name, loc="left", fontsize=10.5, fontweight="bold", pad=10)
    for line in lines:
        _draw_line(axes, line)
    heights = spread([100 * line.points[-1].mean_error for line in lines], 0.07 * errors[-1], 0.03 * errors[-1])
    for line, height in zip(lines, heights, strict=True):
        axes.annotate(
            line.name,
            (line.values[-1], height),
            xytext=(13, 0),
            textcoords="offset points",
            va="center",
            color=line.look.color,
            fontweight="bold",
            annotation_clip=False,
        )


def _draw_line(axes: Axes, line: DialLine) -> None:
    means = [100 * point.mean_error for point in line.points]
    banded = [(v, *point.interval) for v, point in zip(line.values, line.points, strict=True) if point.interval]
    if banded:
        values, low, high = np.array(banded).T
        axes.fill_between(values, 100 * low, 100 * high, color=line.look.color, alpha=0.14, linewidth=0)
    dots = [(v, 100 * e) for v, p in zip(line.values, line.points, strict=True) for e in p.errors.values()]
    axes.scatter(*zip(*dots, strict=True), s=5, color=line.look.color, alpha=0.45, linewidths=0, zorder=3)
    axes.plot(
        line.values,
        means,
        color=line.look.color,
        linewidth=1.7,
        linestyle=(0, line.look.dash) if line.look.dash else "-",
        marker=MARKERS[line.look.marker],
        markersize=5.5,
        markeredgecolor="white",
        markeredgewidth=0.8,
        zorder=4,
        clip_on=False,
    )
    best = line.lowest
    ring = {"marker": "o", "s": 110, "facecolors": "none", "edgecolors": line.look.color, "linewidths": 1.2}
    axes.scatter([line.values[best]], [means[best]], zorder=5, clip_on=False, **ring)


def _explain(figure: Figure) -> None:
    text = (
        "line: mean over seeds   \u00b7   band: 95 % interval   \u00b7   dots: single seeds   \u00b7   "
        "ring: lowest mean of its line"
    )
    if figure.get_figwidth() < 6:
        text = text.replace("   \u00b7   dots", "\ndots")
    figure.supxlabel(text, fontsize=7.5, color=SOFT)
