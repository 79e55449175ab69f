"""A dial's chart on the page: one SVG a task in the page's own colors, each mark with its values as a tooltip."""

from __future__ import annotations

import math
from html import escape

from vitlab.analysis.chart import BOTTOM, HEIGHT, LEFT, SHAPES, TOP, WIDTH
from vitlab.analysis.dial_figure import DialLine, dial_lines, has_log_scale, value_limits, value_ticks
from vitlab.analysis.dial_places import noun
from vitlab.analysis.drawing import error_ticks, spread
from vitlab.analysis.selection import Point
from vitlab.analysis.task_result import TaskResult
from vitlab.analysis.wording import count, label, percent, plural

_END = WIDTH - 102  # names of the lines stand right of the axis


class _Axes:
    """Where a value on the dial and an error rate lie in the drawing."""

    def __init__(self, result: TaskResult) -> None:
        values = [value for value, _ in value_ticks(result)]
        self.is_log = has_log_scale(values)
        self.low, self.high = (self._scaled(end) for end in value_limits(values))
        self.ticks = error_ticks(result)

    def x(self, value: float) -> float:
        return round(LEFT + (self._scaled(value) - self.low) / (self.high - self.low) * (_END - LEFT), 2)

    def y(self, error: float) -> float:
        share = min(max(100 * error / self.ticks[-1], 0.0), 1.0)
        return round(BOTTOM - share * (BOTTOM - TOP), 2)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.is_log else value


def draw_dial_chart(result: TaskResult, number: int, description: str) -> str:
    """Return the chart of one task's dial as an SVG element.

    Args:
        result: analysis of a sweep with a dial.
        number: number of the chart on the page, for unique ids.
        description: the chart in words, for readers who do not see it.
    """
    axes, lines = _Axes(result), dial_lines(result)
    name = noun(result.dial.label)
    curves = [f'<g class="m{line.color}">{_curve(axes, line, name)}</g>' for line in lines]
    title = escape(f"Test error against {result.dial.label}: {result.name}")
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="chart-{number}-title chart-{number}-text">'
        f'<title id="chart-{number}-title">{title}</title><desc id="chart-{number}-text">{escape(description)}</desc>'
        f"{''.join([*_frame(axes, result), *curves, *_names(axes, lines)])}</svg>"
    )


def _frame(axes: _Axes, result: TaskResult) -> list[str]:
    parts = [f'<text class="axis" x="{LEFT - 26}" y="{TOP - 16}">test error, %</text>']
    for tick in axes.ticks:
        y = axes.y(tick / 100)
        parts.append(f'<line class="{"grid" if tick else "base"}" x1="{LEFT}" x2="{_END}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for value, words in value_ticks(result):
        x = axes.x(value)
        parts.append(f'<line class="base" x1="{x}" x2="{x}" y1="{BOTTOM}" y2="{BOTTOM + 4}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{BOTTOM + 18}" text-anchor="middle">{escape(words)}</text>')
    middle, words = (LEFT + _END) / 2, escape(result.dial.label)
    parts.append(f'<text class="axis" x="{middle}" y="{BOTTOM + 37}" text-anchor="middle">{words}</text>')
    return parts


def _curve(axes: _Axes, line: DialLine, name: str) -> str:
    placed = list(zip(line.values, line.points, strict=True))
    banded = [(value, point.interval) for value, point in placed if point.interval is not None]
    parts = []
    if len(banded) > 1:
        edge = [(value, high) for value, (_, high) in banded] + [(value, low) for value, (low, _) in banded[::-1]]
        parts.append(f'<path class="band" d="{_path(axes, edge)}Z"/>')
    parts += [
        f'<circle class="seed" cx="{axes.x(value)}" cy="{axes.y(error)}" r="2">'
        f"<title>seed {seed}: {percent(error)} error</title></circle>"
        for value, point in placed
        for seed, error in point.errors.items()
    ]
    dash = f' stroke-dasharray="{" ".join(map(str, line.look.dash))}"' if line.look.dash else ""
    parts.append(f'<path class="mean"{dash} d="{_path(axes, [(v, p.mean_error) for v, p in placed])}"/>')
    value, point = placed[line.lowest]
    parts.append(f'<circle class="ring" cx="{axes.x(value)}" cy="{axes.y(point.mean_error)}" r="8.5"/>')
    parts += [_mark(axes, line, value, point, name) for value, point in placed]
    return "".join(parts)


def _mark(axes: _Axes, line: DialLine, value: float, point: Point, name: str) -> str:
    where = f"{label(point.model)}, {name} {value:g}, {count(point.train_size)} images"
    words = f"{where}: {percent(point.mean_error)} error"
    if point.interval is not None:
        words += f" (95 % interval {percent(point.interval[0])} to {percent(point.interval[1])})"
    words += f", {plural(point.num_seeds, 'seed')}, learning rate {point.learning_rate:g}"
    shape = SHAPES[line.look.marker](axes.x(value), axes.y(point.mean_error))
    return f'<path class="mark" d="{shape}"><title>{escape(words)}</title></path>'


def _names(axes: _Axes, lines: list[DialLine]) -> list[str]:
    heights = spread([BOTTOM - axes.y(line.points[-1].mean_error) for line in lines], gap=16, lowest=6)
    return [
        f'<text class="name m{line.color}" x="{axes.x(line.values[-1]) + 13}" y="{BOTTOM - height + 4.5:.2f}">'
        f"{escape(line.name)}</text>"
        for line, height in zip(lines, heights, strict=True)
    ]


def _path(axes: _Axes, line: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{axes.x(value)} {axes.y(error)}" for value, error in line)
