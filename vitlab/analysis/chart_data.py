"""What the page's chart draws, as numbers: so that whoever reads it can hide a model, choose another axis or target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitlab.analysis.chart import LONGEST_NAME, crossovers, fitted_line, one_class_line
from vitlab.analysis.drawing import Look
from vitlab.analysis.selection import Point
from vitlab.analysis.targets import TARGETS
from vitlab.analysis.task_result import TaskResult
from vitlab.analysis.views import AXES, Places, extrapolated, places
from vitlab.analysis.wording import label, short

_DIGITS = 5
_BEYOND_PLACES = 8  # on a log axis the curves are nearly straight there
_FITTED = [target.name for target in TARGETS.values() if target.is_fitted]


def chart_data(result: TaskResult, style: dict[str, Look], order: Sequence[str], number: int) -> dict[str, Any]:
    """Return one task's learning curves as plain data.

    Args:
        result: the task's analysis.
        style: look by model.
        order: all models of the page; a model's place in it is its color.
        number: number of the chart on the page.
    """
    where = {axis: places(result, axis) for axis in AXES}
    models = []
    for model in result.models:
        models.append(
            {
                "id": order.index(model),
                "name": label(model),
                "short": short(label(model), LONGEST_NAME),
                "marker": style[model].marker,
                "dash": list(style[model].dash),
                "points": [_point(point, where) for point in result.points_of(model)],
                "fit": {name: _rounded(line) for name in _FITTED if (line := fitted_line(result, model, name))},
                "beyond": {
                    name: _rounded(told)
                    for name in _FITTED
                    if (told := extrapolated(result, model, name, _BEYOND_PLACES))
                },
            }
        )
    lines = {"crossovers": crossovers(result), "one_class": one_class_line(result)}
    return {"chart": number, "task": result.name, "models": models, **lines}


def _rounded(line: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[float(f"{size:.4g}"), *(round(value, _DIGITS) for value in values)] for size, *values in line]


def _point(point: Point, where: dict[str, Places]) -> dict[str, Any]:
    targets = {}
    for name in TARGETS:
        values, interval = point.values_of(name), point.interval_of(name)
        if values:
            targets[name] = {
                "mean": round(point.mean_of(name), _DIGITS),
                "interval": None if interval is None else [round(end, _DIGITS) for end in interval],
                "seeds": [[seed, round(value, _DIGITS)] for seed, value in values.items()],
            }
    return {
        **{axis: own.get((point.model, point.train_size)) for axis, own in where.items()},
        "images": point.train_size,
        "targets": targets,
        "rate": f"{point.learning_rate:g}",
    }
