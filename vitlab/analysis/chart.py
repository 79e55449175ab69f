"""The page's chart: one SVG a task, drawn in the page's own colors so that it is dark where the page is dark.

Every mark carries its values as a tooltip, and the same numbers stand in the page's tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

import numpy as np

from vitlab.analysis.drawing import LOOKS, Look, size_limits, size_ticks, spread, value_ticks
from vitlab.analysis.selection import Point
from vitlab.analysis.targets import ERROR
from vitlab.analysis.task_result import TaskResult
from vitlab.analysis.wording import about, count, label, percent, plural, short

WIDTH, HEIGHT = 400, 300
LEFT, TOP, BOTTOM = 36, 32, 256  # report_chart.js draws in the same place
LONGEST_NAME = 13
_FITTED_PLACES = 40
_MOST_NAMED = 3  # upright lines that carry a number
_NEAR = 0.05  # of the most frequent class's error
_ROOM_FOR_A_NUMBER = 46  # report_chart.js knows it too


class Axes:
    """Where an image count and an error rate lie in the drawing."""

    def __init__(self, result: TaskResult):
        self.low, self.high = size_limits(result)
        one_class = one_class_line(result)
        drawn = [error for point in result.points for error in point.errors.values()]
        self.ticks = value_ticks(drawn if one_class is None else [*drawn, one_class])
        longest = max(len(short(label(model), LONGEST_NAME)) for model in result.models)
        self.end = WIDTH - max(50, round(20 + 8.4 * longest))  # names of the lines stand right of the axis

    def x(self, train_size: float) -> float:
        """Return the horizontal position of a size, on a log scale."""
        share = math.log(train_size / self.low) / math.log(self.high / self.low)
        return round(LEFT + share * (self.end - LEFT), 2)

    def y(self, error: float) -> float:
        """Return the vertical position of an error rate (0 to 1), kept inside the drawing."""
        share = min(max(100 * error / self.ticks[-1], 0.0), 1.0)
        return round(BOTTOM - share * (BOTTOM - TOP), 2)


def draw_chart(result: TaskResult, style: dict[str, Look], number: int, description: str) -> str:
    """Return the chart of one task as an SVG element.

    Args:
        result: the task's analysis.
        style: look by model; its position is the model's color class on the page.
        number: number of the chart on the page, for unique ids.
        description: the chart in words, for readers who do not see it.
    """
    axes = Axes(result)
    order = list(style)
    parts = [*_frame(axes, result), *_crossovers(axes, result), *_one_class(axes, result)]
    for model in result.models:
        parts.append(f'<g class="m{order.index(model) % len(LOOKS)}">{_curve(axes, result, model, style[model])}</g>')
    parts += _names(axes, result, order)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" data-chart="{number}" role="img" '
        f'aria-labelledby="chart-{number}-title chart-{number}-text">'
        f'<title id="chart-{number}-title">{escape(f"Test error against training images: {result.name}")}</title>'
        f'<desc id="chart-{number}-text">{escape(description)}</desc>{"".join(parts)}</svg>'
    )


def _frame(axes: Axes, result: TaskResult) -> list[str]:
    end = axes.end
    parts = [f'<text class="axis" x="{LEFT - 26}" y="{TOP - 16}">test error, %</text>']
    for tick in axes.ticks:
        y = axes.y(tick / 100)
        kind = "base" if tick == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{LEFT}" x2="{end}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for size, text in size_ticks(result, 0.13):
        x = axes.x(size)
        parts.append(f'<line class="base" x1="{x}" x2="{x}" y1="{BOTTOM}" y2="{BOTTOM + 4}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{BOTTOM + 18}" text-anchor="middle">{text}</text>')
    middle = (LEFT + end) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{BOTTOM + 37}" text-anchor="middle">training images</text>')
    return parts


def crossovers(result: TaskResult) -> list[dict]:
    """Return where leads change, by growing size: `at` and `interval` in images, and `words` to write there.

    Only a single one is shaded over its interval, and three at most are named: more would run into each other. A dial
    asks for more than where two of its arms cross.

    Args:
        result: the task's analysis.
    """
    claimed = [] if result.dial else [p.crossover for p in result.pairs if p.crossover.train_size is not None]
    claimed.sort(key=lambda crossover: crossover.train_size)
    rows = []
    for crossover in claimed:
        alone = len(result.pairs) == 1
        known = alone and crossover.share_crossing is not None
        words = f"crossover at about {about(crossover.train_size)}" if alone else about(crossover.train_size)
        rows.append(
            {
                "at": crossover.train_size,
                "interval": list(crossover.interval) if known else None,
                "words": words if len(claimed) <= _MOST_NAMED else "",
            }
        )
    return rows


def _crossovers(axes: Axes, result: TaskResult) -> list[str]:
    parts, rows = [], crossovers(result)
    for row, anchor in zip(rows, _anchors([axes.x(row["at"]) for row in rows]), strict=True):
        if row["interval"]:
            low, high = row["interval"]
            left, right = axes.x(low or axes.low), axes.x(high or axes.high)
            box = f'x="{left}" width="{right - left:.2f}" y="{TOP}" height="{BOTTOM - TOP}"'
            parts.append(f'<rect class="span" {box}/>')
        x = axes.x(row["at"])
        parts.append(f'<line class="cross" x1="{x}" x2="{x}" y1="{TOP}" y2="{BOTTOM}"/>')
        if row["words"].startswith("crossover"):
            middle = min(max(x, LEFT + 145), axes.end - 40)  # keeps the words clear of the axis title
            parts.append(f'<text class="note" x="{middle}" y="{TOP - 16}" text-anchor="middle">{row["words"]}</text>')
            parts.append(f'<line class="cross" x1="{x}" x2="{x}" y1="{TOP - 10}" y2="{TOP}"/>')
        elif row["words"]:
            parts.append(f'<text class="note" x="{x}" y="{TOP - 4}" text-anchor="{anchor}">{row["words"]}</text>')
    return parts


def _anchors(places: list[float]) -> list[str]:
    """Return how the names of upright lines are anchored: two neighbors that are close lean away from each other."""
    anchors = ["middle"] * len(places)
    for index in range(len(places) - 1):
        if places[index + 1] - places[index] < _ROOM_FOR_A_NUMBER:
            anchors[index], anchors[index + 1] = "end", "start"
    return anchors


def one_class_line(result: TaskResult) -> float | None:
    """Return the error of the most frequent class where a mean error comes near it or lies above it, else None.

    Args:
        result: the task's analysis.
    """
    error = result.most_frequent_class_error
    if error is None or max(point.mean_error for point in result.points) < error - _NEAR:
        return None  # of an easy task it would only make the axis longer
    return error


def _one_class(axes: Axes, result: TaskResult) -> list[str]:
    error = one_class_line(result)
    if error is None:
        return []
    y = axes.y(error)
    words = f"always the most frequent class: {percent(error)} error"
    return [
        f'<line class="one-class" x1="{LEFT}" x2="{axes.end}" y1="{y}" y2="{y}"><title>{words}</title></line>',
        # At the right, where the curves of models that have learned lie below; clear of the names beside it.
        f'<text class="axis" x="{axes.end - 12}" y="{y - 5:.2f}" text-anchor="end">most frequent class</text>',
    ]


def _curve(axes: Axes, result: TaskResult, model: str, look: Look) -> str:
    points = result.points_of(model)
    parts = []
    banded = [point for point in points if point.interval is not None]
    if len(banded) > 1:
        edge = [(p.train_size, p.interval[1]) for p in banded] + [(p.train_size, p.interval[0]) for p in banded[::-1]]
        parts.append(f'<path class="band" d="{_path(axes, edge)}Z"/>')
    parts += [
        f'<circle class="seed" cx="{axes.x(p.train_size)}" cy="{axes.y(error)}" r="2">'
        f"<title>seed {seed}: {percent(error)} error</title></circle>"
        for p in points
        for seed, error in p.errors.items()
    ]
    if fitted := fitted_line(result, model):
        shown = [(size, error) for size, error in fitted if 100 * error <= axes.ticks[-1]]
        parts.append(f'<path class="fit" d="{_path(axes, shown)}"/>')
    dash = f' stroke-dasharray="{" ".join(map(str, look.dash))}"' if look.dash else ""
    parts.append(f'<path class="mean"{dash} d="{_path(axes, [(p.train_size, p.mean_error) for p in points])}"/>')
    parts += [_mark(axes, point, look) for point in points]
    return "".join(parts)


def fitted_line(result: TaskResult, model: str, target: str = ERROR.name) -> list[tuple[float, float]]:
    """Return sizes and values along a model's fitted curve, as far as it is measured; empty without one.

    Args:
        result: the task's analysis.
        model: its name in the sweep.
        target: name of the quantity.
    """
    points, fit = result.points_of(model), result.fits_of(target).get(model)
    sizes = np.geomspace(points[0].train_size, points[-1].train_size, _FITTED_PLACES)
    fitted = None if fit is None else fit.predict(sizes)
    return [] if fitted is None else [(float(s), float(value)) for s, value in zip(sizes, fitted, strict=True)]


def _mark(axes: Axes, point: Point, look: Look) -> str:
    words = f"{label(point.model)}, {count(point.train_size)} images: {percent(point.mean_error)} error"
    if point.interval is not None:
        words += f" (95 % interval {percent(point.interval[0])} to {percent(point.interval[1])})"
    words += f", {plural(point.num_seeds, 'seed')}, learning rate {point.learning_rate:g}"
    shape = SHAPES[look.marker](axes.x(point.train_size), axes.y(point.mean_error))
    return f'<path class="mark" d="{shape}"><title>{escape(words)}</title></path>'


SHAPES: dict[str, Callable[[float, float], str]] = {
    "circle": lambda x, y: f"M{x - 4.4:.2f} {y}a4.4 4.4 0 1 0 8.8 0a4.4 4.4 0 1 0 -8.8 0Z",
    "square": lambda x, y: f"M{x - 4:.2f} {y - 4:.2f}h8v8h-8Z",
    "triangle": lambda x, y: f"M{x} {y - 5.2:.2f}l5 8.8h-10Z",
    "diamond": lambda x, y: f"M{x} {y - 5.4:.2f}l5.4 5.4l-5.4 5.4l-5.4 -5.4Z",
}


def _names(axes: Axes, result: TaskResult, order: list[str]) -> list[str]:
    """Write each model's name beside the end of its line."""
    ends = {model: (point.train_size, point.mean_error) for model in result.models for point in result.points_of(model)}
    heights = spread([BOTTOM - axes.y(error) for _, error in ends.values()], gap=16, lowest=6)
    names = []
    farthest = max(axes.x(size) for size, _ in ends.values())  # the name of a line that ends before would lie on others
    for model, height in zip(ends, heights, strict=True):
        place = f'x="{farthest + 11}" y="{BOTTOM - height + 4.5:.2f}"'
        name = short(label(model), LONGEST_NAME)  # it stands whole in the tables
        names.append(f'<text class="name m{order.index(model) % len(LOOKS)}" {place}>{escape(name)}</text>')
    return names


def _path(axes: Axes, line: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{axes.x(size)} {axes.y(error)}" for size, error in line) if line else ""
