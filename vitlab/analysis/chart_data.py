"""What the page's chart draws, as numbers: so that whoever reads it can hide a model or choose another axis.

The places on the axes other than images are medians over the selected trials of a model and size, as in the table of
costs. A training's multiply-accumulates are three times those of its forward passes: the backward pass takes two more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitlab.analysis.chart import LONGEST_NAME, crossovers, fitted_line
from vitlab.analysis.drawing import Look
from vitlab.analysis.summary import costs
from vitlab.analysis.task_result import TaskResult
from vitlab.analysis.wording import label, short

_FORWARD_PASSES_A_STEP = 3
_DIGITS = 5


def chart_data(result: TaskResult, style: dict[str, Look], order: Sequence[str], number: int) -> dict[str, Any]:
    """Return one task's learning curves as plain data.

    Args:
        result: the task's analysis.
        style: look by model.
        order: all models of the page; a model's place in it is its color.
        number: number of the chart on the page.
    """
    by_place = {(row["model"], row["train_size"]): row for row in costs(result)}
    models = []
    for model in result.models:
        points = [_point(point, by_place[model, point.train_size]) for point in result.points_of(model)]
        models.append(
            {
                "id": order.index(model),
                "name": label(model),
                "short": short(label(model), LONGEST_NAME),
                "marker": style[model].marker,
                "dash": list(style[model].dash),
                "points": points,
                "fit": [[float(f"{s:.4g}"), round(error, _DIGITS)] for s, error in fitted_line(result, model)],
            }
        )
    return {"chart": number, "task": result.name, "models": models, "crossovers": crossovers(result)}


def _point(point: Any, cost: dict[str, Any]) -> dict[str, Any]:
    examples, macs = cost["examples_seen"], cost["macs"]
    training = None if examples is None or macs is None else _FORWARD_PASSES_A_STEP * macs * examples
    return {
        "images": point.train_size,
        "examples": examples,
        "macs": training,
        "seconds": cost["seconds"],
        "params": cost["params"],
        "error": round(point.mean_error, _DIGITS),
        "interval": None if point.interval is None else [round(end, _DIGITS) for end in point.interval],
        "seeds": [[seed, round(error, _DIGITS)] for seed, error in point.errors.items()],
        "rate": f"{point.learning_rate:g}",
    }
