"""How one may look at learning curves: which quantity, over which axis, and what may stand beside them.

The places on the axes other than images are medians over the selected trials of a model and size, as in the table of
costs. A training's multiply-accumulates are three times those of its forward passes: the backward pass takes two more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitlab.analysis.fitted_curves import REACH
from vitlab.analysis.selection import Point
from vitlab.analysis.summary import costs
from vitlab.analysis.targets import ERROR, TARGETS, Target
from vitlab.analysis.task_result import TaskResult
from vitlab.analysis.wording import listing

IMAGES = "images"
AXES = {  # report_chart.js has the same words
    IMAGES: "training images",
    "examples": "examples seen in training",
    "macs": "multiply-accumulates of the training",
    "seconds": "seconds of training",
    "params": "parameters, at the largest size",
}
_FORWARD_PASSES_A_STEP = 3

Places = dict[tuple[str, int], float]  # by model and train size


@dataclass(frozen=True)
class View:
    """What a static figure shows.

    Args:
        axis: one of AXES.
        target: name of one of TARGETS.
        reference: whether published curves stand beside it, in a panel of their own.
        extrapolate: whether fitted curves go on beyond the measured sizes, with their 90 % prediction intervals.

    Raises:
        ValueError: for another axis or target, or for published curves beside what they do not tell.
    """

    axis: str = IMAGES
    target: str = ERROR.name
    reference: bool = False
    extrapolate: bool = False

    def __post_init__(self):
        """Refuse what no figure can show."""
        for name, value, known in (("axis", self.axis, AXES), ("target", self.target, TARGETS)):
            if value not in known:
                raise ValueError(f"{name} {value!r} is unknown; use {', '.join(known)}")
        if self.extrapolate and self.axis != IMAGES:
            raise ValueError(
                f"fitted curves tell errors by numbers of images, not by {self.axis}; leave out the extrapolation, or "
                "the axis"
            )
        if self.reference and (self.axis, self.target) != (IMAGES, ERROR.name):
            raise ValueError(
                f"published curves tell errors by numbers of images, not {self.target} by {self.axis}; leave out the "
                "reference, or the axis and the target"
            )

    @property
    def quantity(self) -> Target:
        """Return the target."""
        return TARGETS[self.target]


def places(result: TaskResult, axis: str) -> Places:
    """Return where each point lies on an axis; what has not recorded it has none, and parameters have one a model.

    Args:
        result: one task's analysis.
        axis: one of AXES.
    """
    if axis == IMAGES:
        return {(point.model, point.train_size): float(point.train_size) for point in result.points}
    found = {}
    for row in costs(result):
        place = (row["model"], row["train_size"])
        last = max(point.train_size for point in result.points_of(row["model"]))
        value = _training_macs(row) if axis == "macs" else row["examples_seen" if axis == "examples" else axis]
        if value and (axis != "params" or row["train_size"] == last):
            found[place] = float(value)
    return found


def _training_macs(cost: dict) -> float | None:
    examples, macs = cost["examples_seen"], cost["macs"]
    return None if examples is None or macs is None else float(_FORWARD_PASSES_A_STEP * macs * examples)


def shown_points(result: TaskResult, view: View) -> dict[str, list[tuple[float, Point]]]:
    """Return for each model its points with their places, by growing size; none where it lacks axis or target.

    Args:
        result: one task's analysis.
        view: what to show.
    """
    where = places(result, view.axis)
    table = {}
    for model in result.models:
        own = [(where.get((model, point.train_size)), point) for point in result.points_of(model)]
        table[model] = [(place, point) for place, point in own if place is not None and point.values_of(view.target)]
    return table


def check_view(results: Sequence[TaskResult], view: View) -> None:
    """Refuse a view of what no trial of a task has recorded.

    Args:
        results: analyses.
        view: what to show.

    Raises:
        ValueError: the message says what the trials have recorded.
    """
    for result in results:
        if any(shown_points(result, view).values()):
            continue
        axes = [axis for axis in AXES if places(result, axis)]
        targets = [name for name in TARGETS if any(point.values_of(name) for point in result.points)]
        raise ValueError(
            f"{result.name} cannot be shown as {view.target} by {view.axis}: its trials have recorded "
            f"{listing(targets)} by {listing(axes)}; choose among these"
        )


def not_recorded(result: TaskResult) -> list[str]:
    """Return the words of the targets that some tested trial of a task lacks: older records have fewer.

    Args:
        result: one task's analysis.
    """
    return [
        target.words for target in TARGETS.values() if not all(point.values_of(target.name) for point in result.points)
    ]


def extrapolated(result: TaskResult, model: str, target: str, num_places: int) -> list[tuple[float, ...]]:
    """Return sizes beyond a model's largest, values there and their 90 % prediction intervals; empty without a fit.

    The first is the largest measured size itself. A dial's many arms would hide one another.

    Args:
        result: the task's analysis.
        model: its name in the sweep.
        target: name of the quantity.
        num_places: how many sizes.
    """
    fit = result.fits_of(target).get(model)
    if result.dial or fit is None or fit.estimate is None:
        return []
    last = float(fit.estimate.sizes[-1])
    if last < result.points_of(model)[-1].train_size:  # largest sizes without any error have no logarithm
        return []
    sizes = [last * REACH ** (step / (num_places - 1)) for step in range(num_places)]
    told = fit.estimate.predict(sizes)
    return [tuple(map(float, row)) for row in zip(told.sizes, told.errors, told.low, told.high, strict=True)]
