"""The plot for a paper: test error against training images, or what a view asks for, one panel a task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vitlab.analysis.drawing import Look, all_models, limits, looks, size_limits, size_ticks, value_ticks
from vitlab.analysis.fitted_curves import REACH
from vitlab.analysis.panels import INK, MARKERS, SOFT, STYLE, Drawn, as_files, name_ends, name_ticks, prepare_panel
from vitlab.analysis.reference_curves import reference_tables
from vitlab.analysis.reference_figure import draw_reference
from vitlab.analysis.targets import ERROR
from vitlab.analysis.task_result import Pair, TaskResult
from vitlab.analysis.views import AXES, IMAGES, View, check_view, extrapolated, shown_points
from vitlab.analysis.wording import about, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BEYOND_PLACES = 12


def draw_figure(results: Sequence[TaskResult], view: View | None = None) -> Drawn:
    """Return the figure as files.

    Args:
        results: analyses, a panel each.
        view: what to show: errors by training images unless told otherwise.

    Raises:
        ValueError: if no trial of a task has recorded what is to be shown.
    """
    import matplotlib  # 0.7 s to import: nothing but drawing pays it
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    view = view or View()
    check_view(results, view)
    published = reference_tables() if view.reference else []
    number = len(results) + len(published)
    columns = 2 if number == 4 else min(number, 3)
    rows = math.ceil(number / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=((5.2 if columns == 1 else 4.1 * columns), 3.5 * rows + 0.35), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.09)
        FigureCanvasAgg(figure)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[number:]:
            panel.set_visible(False)
        style = looks(all_models(results))
        for panel, result in zip(panels, results, strict=False):
            Panel(panel, result, view, style).draw()
        for panel, table in zip(panels[len(results) :], published, strict=False):
            draw_reference(panel, table)
        _explain(figure, results, view)
        return as_files(figure)


class Panel:
    """One task's panel."""

    def __init__(self, axes: Axes, result: TaskResult, view: View, style: dict[str, Look]):
        self.axes, self.result, self.view, self.style = axes, result, view, style
        self.points = shown_points(result, view)
        self.models = [model for model, own in self.points.items() if own]
        self.beyond = {
            model: extrapolated(result, model, view.target, _BEYOND_PLACES) if view.extrapolate else []
            for model in self.models
        }

    def draw(self) -> None:
        """Draw all of it."""
        target, axes = self.view.quantity, self.axes
        every = [(place, point) for own in self.points.values() for place, point in own]
        ticks = value_ticks([v for _, p in every for v in p.values_of(target.name).values()], target)
        prepare_panel(axes, self.result.name, (AXES[self.view.axis], f"{target.words} ({target.unit})"), ticks)
        if self.view.axis == IMAGES:
            axes.set_xlim(*size_limits(self.result, REACH if any(self.beyond.values()) else 1.0))
            ends = {told[-1][0] for told in self.beyond.values() if told}
            named = size_ticks(self.result, ends=ends)
            axes.set_xticks([size for size, _ in named], [text for _, text in named])
            axes.set_xticks([], minor=True)
        else:
            axes.set_xlim(*limits([place for place, _ in every]))
            name_ticks(axes, [place for place, _ in every])
        if self.view.axis == IMAGES and target is ERROR and not self.result.dial:
            for pair in self.result.pairs:  # a dial asks for more than where two of its arms cross
                _mark_crossover(axes, pair, shade=len(self.result.pairs) == 1)
        for model in self.models:
            self._draw_model(model)
        self._name_lines(ticks[-1])
        absent = [label(model) for model in self.result.models if model not in self.models]
        if absent:
            words = f"not recorded: {', '.join(absent)}"
            axes.annotate(words, (0.02, 0.03), xycoords="axes fraction", fontsize=7.5, color=SOFT)

    def _draw_model(self, model: str) -> None:
        axes, look, own = self.axes, self.style[model], self.points[model]
        target = self.view.quantity
        banded = [(place, point.interval_of(target.name)) for place, point in own if point.interval_of(target.name)]
        if banded:
            low, high = np.array([interval for _, interval in banded]).T * target.factor
            axes.fill_between([place for place, _ in banded], low, high, color=look.color, alpha=0.14, linewidth=0)
        dots = [(place, target.factor * v) for place, p in own for v in p.values_of(target.name).values()]
        axes.scatter(*zip(*dots, strict=True), s=5, color=look.color, alpha=0.45, linewidths=0, zorder=3, clip_on=False)
        fit = self.result.fits_of(target.name).get(model) if self.view.axis == IMAGES else None
        sizes = np.geomspace(own[0][0], own[-1][0], 60)
        fitted = None if fit is None else fit.predict(sizes)
        if fitted is not None:
            line = {"linewidth": 1.1, "linestyle": (0, (1, 2.2)), "zorder": 2}
            axes.plot(sizes, target.factor * fitted, color=look.color, **line)
        if self.beyond[model]:
            places, values, low, high = np.array(self.beyond[model]).T
            axes.fill_between(
                places, target.factor * low, target.factor * high, color=look.color, alpha=0.07, linewidth=0
            )
            line = {"linewidth": 1.1, "linestyle": (0, (3, 2)), "alpha": 0.85, "zorder": 2}
            axes.plot(places, target.factor * values, color=look.color, **line)
        axes.plot(
            [place for place, _ in own],
            [target.factor * point.mean_of(target.name) for _, point in own],
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

    def _name_lines(self, top: float) -> None:
        """Write each model's name at the end of its line instead of in a legend."""
        target = self.view.quantity
        ends = [
            self.beyond[model][-1][:2] if self.beyond[model] else (place, point.mean_of(target.name))
            for model in self.models
            for place, point in self.points[model][-1:]
        ]
        if self.view.axis == IMAGES:  # the name of a line that ends before others would lie on them
            ends = [(max(place for place, _ in ends), value) for _, value in ends]
        name_ends(self.axes, [(label(m), self.style[m].color) for m in self.models], ends, target.factor, top)


def _mark_crossover(axes: Axes, pair: Pair, shade: bool) -> None:
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


def _explain(figure: Figure, results: Sequence[TaskResult], view: View) -> None:
    """Say what lines, bands and dots are, as far as the figure has them."""
    parts = ["line: mean over seeds", "band: 95 % interval", "dots: single seeds"]
    if view.axis == IMAGES and any(result.fits_of(view.target) for result in results):
        parts.append("dotted: fitted curve")
        told = [extrapolated(result, model, view.target, 2) for result in results for model in result.models]
        if view.extrapolate and any(told):
            parts.append("dashed, lighter: extrapolated, 90 % of new measurements")
    lines, separator = [parts], "   \u00b7   "
    if figure.get_figwidth() < 6:
        lines = [parts[:2], parts[2:4], parts[4:]]
    elif len(parts) > 4:
        lines = [parts[:4], parts[4:]]
    text = "\n".join(separator.join(line) for line in lines if line)
    figure.supxlabel(text, fontsize=7.5, color=SOFT)
