"""What `vitlab curves` writes: predictions.csv, crossovers.csv and the figure of the curves in a CSV file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vitlab.analysis.curve_crossing import CurveCrossing
from vitlab.analysis.curves_figure import draw_curves
from vitlab.analysis.measured_curves import MeasuredCurve, cross_all, fit_curves, read_measurements
from vitlab.atomic_file import atomic_file

COVERAGE = 0.9
_PREDICTION = ("task", "model", "size", "measured", "predicted", "low", "high", "extrapolated")
_CROSSING = ("task", "first", "second", "verdict", "size", "low", "high", "extrapolated", "share_crossing", "words")


def write_curves(
    file: Path, out: Path, sizes: Sequence[float] = (), target: str = "error"
) -> tuple[list[MeasuredCurve], list[tuple[str, tuple[str, str], CurveCrossing]]]:
    """Fit every curve of a CSV file and write predictions.csv, crossovers.csv and curves.png, .svg, .pdf.

    Args:
        file: CSV with the columns model, size or seen_examples, the target, and optionally task, seed and fit.
        out: folder to write to; made if missing.
        sizes: further sizes to foretell every curve at, above 0.
        target: column with the quantity: an error between 0 and 1 if it is called "error", else any positive quantity
            such as NLL.

    Returns:
        The curves, and for each pair of models of a task where they cross.

    Raises:
        ValueError: if the file lacks a column or rows, or a row is wrong; the message names columns and lines.
    """
    wrong = [size for size in sizes if not (math.isfinite(size) and size > 0)]
    if wrong:
        raise ValueError(f"sizes to predict are numbers above 0; got {', '.join(f'{size:g}' for size in wrong)}")
    curves = fit_curves(read_measurements(file, target), target)
    crossings = cross_all(curves)
    texts = {"predictions.csv": predictions_table(curves, sizes), "crossovers.csv": crossings_table(crossings)}
    drawn = draw_curves(curves, sizes, target)._asdict()
    for name, content in {**texts, **{f"curves.{kind}": content for kind, content in drawn.items()}}.items():
        with atomic_file(Path(out) / name, "w" if isinstance(content, str) else "wb") as written:
            written.write(content)
    return curves, crossings


def predictions_table(curves: Sequence[MeasuredCurve], sizes: Sequence[float] = ()) -> str:
    """Return prediction and 90 % interval of every held-out row and of every curve at the sizes, as CSV."""
    rows = []
    for curve in curves:
        asked = [(row.size, row.value) for row in curve.held_out] + [(size, None) for size in sizes]
        if not asked:
            continue
        told = curve.estimate.predict([size for size, _ in asked], COVERAGE)
        for (size, measured), error, low, high in zip(asked, told.errors, told.low, told.high, strict=True):
            beyond = int(not curve.estimate.sizes[0] <= size <= curve.estimate.sizes[-1])
            numbers = (_short(number) for number in (size, measured, error, low, high))
            rows.append((curve.task, curve.model, *numbers, beyond))
    return _to_csv(_PREDICTION, rows)


def crossings_table(crossings: Iterable[tuple[str, tuple[str, str], CurveCrossing]]) -> str:
    """Return the crossings as CSV; an empty end of an interval lies outside the sizes that were looked at."""
    rows = []
    for task, models, crossing in crossings:
        numbers = [_short(number) for number in (crossing.size, *crossing.interval)]
        share = _short(crossing.share_crossing)
        rows.append((task, *models, crossing.verdict, *numbers, int(crossing.extrapolated), share, crossing.words))
    return _to_csv(_CROSSING, rows)


def _short(number: float | None) -> str:
    return "" if number is None else f"{number:.6g}" if abs(number) < 1e6 else f"{number:.0f}"


def _to_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
