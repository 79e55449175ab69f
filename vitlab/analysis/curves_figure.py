"""The figure of `vitlab curves`: measured errors and fitted curves on log axes, with what lies beyond them dashed.

Filled marks are the rows that curves are fitted to, hollow ones are held out; the band holds 90 % of new measurements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vitlab.analysis.drawing import Look, looks
from vitlab.analysis.measured_curves import MeasuredCurve
from vitlab.analysis.panels import GRID, MARKERS, SOFT, STYLE, Drawn, as_files
from vitlab.analysis.wording import count, label, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_DOTS = 60  # of a kind in one curve; more run into a stripe


def draw_curves(curves: Sequence[MeasuredCurve], sizes: Sequence[float] = (), target: str = "error") -> Drawn:
    """Return the figure as files, a panel for each task.

    Args:
        curves: fitted curves.
        sizes: further sizes that the panels reach to.
        target: name of the quantity.
    """
    import matplotlib  # 0.7 s to import: nothing but drawing pays it
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(curve.task for curve in curves))
    style = looks(list(dict.fromkeys(curve.model for curve in curves)))
    columns = min(len(tasks), 3)
    rows = math.ceil(len(tasks) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2 if columns == 1 else 4.1 * columns, 3.5 * rows + 0.35), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[len(tasks) :]:
            panel.set_visible(False)
        for panel, task in zip(panels, tasks, strict=False):
            own = [curve for curve in curves if curve.task == task]
            _prepare(panel, task, target)
            for curve in own:
                _draw_curve(panel, curve, sizes, style[curve.model])
            _name_sizes(panel)
            panel.legend(frameon=False, fontsize=8)
        figure.supxlabel(
            "filled: fitted   ·   hollow: held out   ·   dashed: extrapolated   ·   band: 90 % of new measurements",
            fontsize=7.5,
            color=SOFT,
        )
        return as_files(figure)


def _prepare(axes: Axes, task: str, target: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(axis="y", which="both", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="y", which="both", labelsize=7.5)
    axes.set_xlabel("images or examples", color=SOFT)
    axes.set_ylabel(target, color=SOFT)
    axes.set_title(task, loc="left", fontsize=10.5, fontweight="bold")


def _name_sizes(axes: Axes) -> None:
    """Name the powers of ten, or the ends of an axis that has fewer than two."""
    low, high = axes.get_xlim()
    ticks = [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    ticks = ticks if len(ticks) > 1 else [float(f"{low:.1e}"), float(f"{high:.1e}")]
    axes.set_xticks(ticks, [count(tick) if tick < 1e5 else f"{tick:.3g}".replace("e+0", "e") for tick in ticks])
    axes.xaxis.set_minor_formatter("")


def _draw_curve(axes: Axes, curve: MeasuredCurve, sizes: Sequence[float], look: Look) -> None:
    own = curve.estimate.sizes
    last = max([own[-1], *(row.size for row in curve.rows), *sizes])
    first = min([own[0], *(row.size for row in curve.rows), *sizes])
    inside = np.geomspace(own[0], own[-1], 100)
    axes.plot(
        inside,
        curve.estimate.predict(inside).errors,
        color=look.color,
        linewidth=1.5,
        marker=MARKERS[look.marker],
        markersize=4,
        markevery=[],  # in the legend alone: black and white print tells the models apart by their marks
        label=short(label(curve.model)),
    )
    for start, end in ((own[-1], last), (first, own[0])):
        if end > start:
            told = curve.estimate.predict(np.geomspace(start, end, 40))
            axes.plot(told.sizes, told.errors, color=look.color, linewidth=1.5, linestyle=(0, (2, 1.5)))
            axes.fill_between(told.sizes, told.low, told.high, color=look.color, alpha=0.16, linewidth=0)
    for fitted, face in ((True, look.color), (False, "none")):
        rows = [row for row in curve.rows if row.fit == fitted and row.value > 0]
        shown = rows[:: max(1, math.ceil(len(rows) / _MOST_DOTS))]
        axes.scatter(
            [row.size for row in shown],
            [row.value for row in shown],
            s=10,
            marker=MARKERS[look.marker],
            facecolors=face,
            edgecolors=look.color,
            linewidths=0.6,
            alpha=0.7,
        )
