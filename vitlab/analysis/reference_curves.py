"""Published learning curves that a figure can draw beside a sweep's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

_FILE = Path(__file__).with_name("reference_curves.json")


@dataclass(frozen=True)
class ReferenceCurve:
    """One model's published errors by data size.

    Args:
        model: its name there.
        train_sizes: numbers of images, ascending.
        errors: test errors, 0 to 1.
        source: paper and table.
        task: what was measured.
        axis: what the images are.
        caveat: why it is no curve of the same kind as a sweep's.
    """

    model: str
    train_sizes: tuple[int, ...]
    errors: tuple[float, ...]
    source: str
    task: str
    axis: str
    caveat: str


def reference_curves() -> list[ReferenceCurve]:
    """Return the bundled curves."""
    curves = []
    for table in json.loads(_FILE.read_text(encoding="utf-8")):
        for model, accuracies in table["accuracies"].items():
            pairs = zip(table["train_sizes"], accuracies, strict=True)
            points = [(size, round(1 - accuracy / 100, 6)) for size, accuracy in pairs if accuracy is not None]
            sizes, errors = zip(*points, strict=True)
            curves.append(
                ReferenceCurve(model, sizes, errors, table["source"], table["task"], table["axis"], table["caveat"])
            )
    return curves


def reference_tables() -> list[list[ReferenceCurve]]:
    """Return the bundled curves in the tables that they come from: only those of one table are of one kind."""
    tables: dict[tuple[str, str], list[ReferenceCurve]] = {}
    for curve in reference_curves():
        tables.setdefault((curve.source, curve.task), []).append(curve)
    return list(tables.values())
