"""How the selected trials trained: the loss over the steps, one small chart a data size, a thin line a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vitlab.analysis.drawing import LOOKS
from vitlab.analysis.page_tables import text
from vitlab.analysis.selection import Record
from vitlab.analysis.task_result import TaskResult
from vitlab.analysis.wording import count, label, listing

_WIDTH, _HEIGHT = 220, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 212, 24, 120
_MAX_SEEDS, _MAX_PLACES = 10, 50  # more lines than this hide one another


def training_courses(result: TaskResult, order: Sequence[str]) -> str:
    """Return the courses of the training losses, folded; nothing where no record has one.

    Args:
        result: one task's analysis.
        order: all models of the page, for their colors.
    """
    charts = [_chart(result, size, order) for size in sorted({trial["train_size"] for trial in result.selected})]
    drawn = "".join(f"<figure>{chart}</figure>" for chart in charts if chart)
    if not drawn:
        return ""
    names = listing([label(model) for model in result.models])
    key = f"Training loss over the steps, on a log scale: {names} in their colors, a line for each seed, ten at most."
    return (
        f"<details><summary>Training curves</summary><p class=soft>{text(key)}</p>"
        f'<div class="courses">{drawn}</div></details>'
    )


def _chart(result: TaskResult, size: int, order: Sequence[str]) -> str:
    trials = [trial for trial in result.selected if trial["train_size"] == size]
    courses = [(trial["model"], _course(trial)) for model in result.models for trial in _some(trials, model)]
    courses = [(model, course) for model, course in courses if len(course) > 1]
    losses = [loss for _, course in courses for _, loss in course]
    if not losses:
        return ""
    low, high = min(losses), max(losses)
    last = max(step for _, course in courses for step, _ in course)
    span = math.log(high / low) or 1.0

    def place(step: float, loss: float) -> str:
        x = _LEFT + step / last * (_RIGHT - _LEFT)
        y = _TOP + math.log(high / loss) / span * (_BOTTOM - _TOP)
        return f"{x:.0f} {y:.0f}"

    lines = "".join(
        f'<path class="course m{order.index(model) % len(LOOKS)}" d="M{"L".join(place(*at) for at in course)}"/>'
        for model, course in courses
    )
    ends = [
        f'<text class="tick" x="{_LEFT - 5}" y="{y}" text-anchor="end">{_brief(loss)}</text>'
        for y, loss in ((_TOP + 5, high), (_BOTTOM, low))
    ]
    words = f"Training loss with {count(size)} images: from {_brief(high)} at most to {_brief(low)} at least"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{text(words)}">'
        f'<text class="note" x="{_LEFT}" y="14">{count(size)} images</text>{"".join(ends)}'
        f'<path class="base" d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}" fill="none"/>{lines}'
        f'<text class="tick" x="{_RIGHT}" y="{_BOTTOM + 17}" text-anchor="end">{count(last)} steps</text></svg>'
    )


def _brief(loss: float) -> str:
    return f"{loss:.2g}" if loss >= 0.001 else f"{loss:.0e}"  # on a log scale nothing is 0.00


def _some(trials: Sequence[Record], model: str) -> list[Record]:
    return [trial for trial in trials if trial["model"] == model][:_MAX_SEEDS]


def _course(trial: Record) -> list[tuple[float, float]]:
    """Return steps and losses above 0, thinned; what a record tells of its training is about fifty of them."""
    course = [(step, loss) for step, loss in trial.get("history") or [] if loss > 0]
    return course[:: -(-len(course) // _MAX_PLACES)] if course else []
