"""Learning curves from anywhere: a CSV file of measured errors, read with clear errors, and a curve fitted to each.

Columns: model, size (or seen_examples), error (or another quantity), and optionally task, seed and fit. Curves are
fitted to the rows with fit = 1, or to all where there is no such column; rows with fit = 0 are kept to be foretold.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitlab.analysis.curve_crossing import CurveCrossing, cross_curves
from vitlab.analysis.curve_extrapolation import CurveEstimate, estimate_curve
from vitlab.analysis.curve_rows import MIN_SIZES

_SIZE_COLUMNS = ("size", "seen_examples")
_MOST_PROBLEMS = 5  # named in one message


@dataclass(frozen=True)
class Measurement:
    """One row of the file; `fit` says whether a curve is fitted to it or foretells it."""

    line: int
    task: str
    model: str
    size: float
    value: float
    seed: str | None
    fit: bool


@dataclass(frozen=True)
class MeasuredCurve:
    """One model's curve on one task: its rows, and the curve fitted to those with fit = 1."""

    task: str
    model: str
    rows: list[Measurement]
    estimate: CurveEstimate

    @property
    def held_out(self) -> list[Measurement]:
        """Return the rows that no curve was fitted to, by growing size."""
        return sorted((row for row in self.rows if not row.fit), key=lambda row: row.size)


def read_measurements(file: Path, target: str = "error") -> list[Measurement]:
    """Return the rows of a CSV file.

    Args:
        file: CSV with the columns model, size or seen_examples, the target, and optionally task, seed and fit.
        target: column with the quantity: an error between 0 and 1 if it is called "error", else any positive quantity
            such as NLL.

    Raises:
        ValueError: if the file lacks a column or rows, or a row is wrong; the message names columns and lines.
    """
    with Path(file).open(newline="", encoding="utf-8-sig") as opened:
        reader = csv.DictReader(opened, skipinitialspace=True)
        columns = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        size_column = next((name for name in _SIZE_COLUMNS if name in columns), None)
        missing = [name for name in ("model", target) if name not in columns]
        missing += [] if size_column else [" or ".join(_SIZE_COLUMNS)]
        if missing:
            found = ", ".join(columns) or "none"
            raise ValueError(f"{file} lacks the column {' and '.join(missing)}; it has: {found}")
        rows, problems = [], []
        for cells in reader:
            try:
                rows.append(_measurement(reader.line_num, cells, size_column, target))
            except ValueError as error:
                problems.append(f"line {reader.line_num}: {error}")
    problems += _repeats(rows)
    if problems:
        more = f"\n  and {len(problems) - _MOST_PROBLEMS} more" if len(problems) > _MOST_PROBLEMS else ""
        raise ValueError(f"{file} has rows that cannot be used:\n  " + "\n  ".join(problems[:_MOST_PROBLEMS]) + more)
    if not rows:
        raise ValueError(f"{file} has no rows below its header; write one row for each measured error")
    return rows


def _measurement(line: int, cells: dict[str, str | None], size_column: str, target: str) -> Measurement:
    if None in cells or None in cells.values():
        raise ValueError("it has more or fewer cells than the header")
    cells = {name: cell.strip() for name, cell in cells.items()}
    if not cells["model"]:
        raise ValueError("model is empty")
    size, value = _number(cells, size_column), _number(cells, target)
    if size <= 0:
        raise ValueError(f"{size_column} {size:g} is not above 0")
    if target == "error" and not 0 <= value <= 1:
        raise ValueError(f"error {value:g} is outside 0 to 1; write a share, 0.25 for 25 %")
    if value < 0:
        raise ValueError(f"{target} {value:g} is below 0; curves are fitted to logarithms")
    fit = cells.get("fit", "1")
    if fit not in ("0", "1"):
        raise ValueError(f"fit is {fit!r}; write 1 to fit a curve to the row and 0 to foretell it")
    return Measurement(line, cells.get("task", ""), cells["model"], size, value, cells.get("seed"), fit == "1")


def _number(cells: dict[str, str], column: str) -> float:
    try:
        number = float(cells[column])
    except ValueError:
        raise ValueError(f"{column} {cells[column]!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{column} {cells[column]!r} is not a finite number")
    return number


def _repeats(rows: Sequence[Measurement]) -> list[str]:
    """Return a problem for each row that measures again what an earlier one did; rows without seeds are repeats."""
    first: dict[tuple, int] = {}
    problems = []
    for row in rows:
        key = (row.task, row.model, row.size, row.seed)
        if row.seed is not None and key in first:
            problems.append(f"line {row.line}: the same task, model, size and seed as line {first[key]}")
        first.setdefault(key, row.line)
    return problems


def fit_curves(rows: Sequence[Measurement], target: str = "error") -> list[MeasuredCurve]:
    """Return the fitted curve of each model on each task, in the order of the rows.

    Args:
        rows: measurements.
        target: an error that cannot exceed 1 if it is called "error".

    Raises:
        ValueError: if a curve has too few sizes.
    """
    largest = 1.0 if target == "error" else None
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for row in rows:
        groups.setdefault((row.task, row.model), []).append(row)
    curves = []
    for seed, ((task, model), own) in enumerate(groups.items()):
        fitted = [row for row in own if row.fit and row.value > 0]  # 0 has no logarithm
        num_sizes = len({row.size for row in fitted})
        if num_sizes < MIN_SIZES:
            place = f"{model} on {task}" if task else model
            raise ValueError(
                f"{place} has {num_sizes} sizes with {target} above 0 to fit a curve to; it needs {MIN_SIZES} or more: "
                "add sizes, mark more rows with fit = 1, or leave the model out"
            )
        estimate = estimate_curve([row.size for row in fitted], [row.value for row in fitted], largest, seed)
        curves.append(MeasuredCurve(task, model, own, estimate))
    return curves


def cross_all(curves: Sequence[MeasuredCurve]) -> list[tuple[str, tuple[str, str], CurveCrossing]]:
    """Return task, models and crossing of each two curves that share a task and a range of sizes."""
    result = []
    for first, second in itertools.combinations(curves, 2):
        sizes = first.estimate.sizes, second.estimate.sizes
        if first.task == second.task and max(own[0] for own in sizes) < min(own[-1] for own in sizes):
            models = first.model, second.model
            result.append((first.task, models, cross_curves(models, first.estimate, second.estimate)))
    return result
