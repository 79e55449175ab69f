"""What the paper plot and the page's chart share: colors, markers, line styles, ticks and limits.

Colors are near Okabe and Ito's, told apart with every common color blindness; marker and dash say the same again in
black and white. Each keeps a contrast of 4.5 to 1 or more on the page's background, the dark variants on the dark one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vitlab.analysis.targets import ERROR, Target
from vitlab.analysis.task_result import TaskResult
from vitlab.analysis.wording import count

_MOST_STEPS = 6.2  # between the ticks of an axis


@dataclass(frozen=True)
class Look:
    """How one model is drawn; dashes are lengths of line and gap in points."""

    color: str
    dark_color: str
    marker: str
    dash: tuple[float, ...]


LOOKS = (
    Look("#0068a8", "#5db8f0", "circle", ()),
    Look("#b84d00", "#f0904d", "square", (7, 2.5)),
    Look("#007a5a", "#3fc79f", "triangle", (7, 2, 1.5, 2)),
    Look("#a0457c", "#e08fbd", "diamond", (3.5, 2)),
    Look("#7a6200", "#d9b93b", "circle", (9, 2, 3.5, 2)),
    Look("#4a4f57", "#b9c0c9", "square", (1.5, 1.5)),
)


def looks(models: Sequence[str]) -> dict[str, Look]:
    """Return a look for each model; they repeat after six."""
    return {model: LOOKS[index % len(LOOKS)] for index, model in enumerate(models)}


def all_models(results: Sequence[TaskResult]) -> list[str]:
    """Return every task's models once, so that a model looks the same in each panel."""
    return list(dict.fromkeys(model for result in results for model in result.plan.models))


def limits(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of a log axis: the range of the values and a little air."""
    air = max((max(values) / min(values)) ** 0.05, 1.12)
    return min(values) / air, max(values) * air


def size_limits(result: TaskResult, reach: float = 1.0) -> tuple[float, float]:
    """Return the ends of the size axis: the measured range, what is foretold beyond it, and a little air."""
    sizes = [point.train_size for point in result.points]
    return limits([*sizes, reach * max(sizes)])


def size_ticks(result: TaskResult, closest: float = 0.11, ends: Collection[float] = ()) -> list[tuple[int, str]]:
    """Return measured sizes to name on the axis, leaving out those whose text would run into another.

    Args:
        result: one task's analysis.
        closest: smallest distance, as a share of the axis.
        ends: sizes beyond the measured ones that the axis reaches to.
    """
    sizes = sorted({*(point.train_size for point in result.points), *map(round, ends)})
    span = math.log(sizes[-1] / sizes[0]) or 1.0
    kept = [sizes[0]]
    for size in sizes[1:-1]:
        room = min(math.log(size / kept[-1]), math.log(sizes[-1] / size))
        if room / span >= closest:
            kept.append(size)
    kept += sizes[-1:] if len(sizes) > 1 else []
    return [(size, count(size)) for size in kept]


def error_ticks(result: TaskResult) -> list[float]:
    """Return round errors in percent from 0 to above the largest single seed; the last is the end of the axis."""
    return value_ticks([error for point in result.points for error in point.errors.values()])


def value_ticks(values: Sequence[float], target: Target = ERROR) -> list[float]:
    """Return round values as shown, from 0 to above the largest; the last is the end of the axis.

    Args:
        values: recorded values of the target, of single seeds.
        target: the quantity.
    """
    largest = target.factor * max(values)
    steps = (digit * 10.0**power for power in range(-4, 6) for digit in (1, 2, 5))
    step = next(step for step in steps if step >= target.least_step * (1 - 1e-9) and largest / step <= _MOST_STEPS)
    return [round(step * index, 6) for index in range(max(1, math.ceil(round(largest / step, 9))) + 1)]


def spread(positions: Sequence[float], gap: float, lowest: float = 0.0) -> list[float]:
    """Return the positions moved apart so that neighbors are at least a gap away, about where they were.

    Args:
        positions: in any unit and order.
        gap: smallest distance in the same unit.
        lowest: none is moved below it.
    """
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    groups: list[tuple[float, list[int]]] = []
    for index in order:
        groups.append((max(positions[index], lowest), [index]))
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < gap * (len(groups[-1][1]) + len(groups[-2][1])) / 2:
            (upper, last), (lower, first) = groups.pop(), groups.pop()
            members = first + last
            center = (lower * len(first) + upper * len(last)) / len(members)
            groups.append((max(center, lowest + gap * (len(members) - 1) / 2), members))
    moved = [0.0] * len(positions)
    for center, members in groups:
        for rank, index in enumerate(members):
            moved[index] = center + gap * (rank - (len(members) - 1) / 2)
    return moved
