"""The report as tables: `trials.csv` with a row per trial and `curves.csv` with a row per plotted point."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from vitlab.analysis.targets import BESIDE_ERROR
from vitlab.analysis.task_result import TaskResult

_TRIAL = ("id", "model", "dataset", "train_size", "seed", "learning_rate")
_METRICS = ("accuracy", "top5_accuracy", "nll", "calibration_error")
_COUNTED = ("steps", "epochs", "examples_seen", "seconds", "params", "macs", "peak_memory_bytes")
_MACHINE = ("device", "num_threads", "commit")
_SUMMARY = ("num_seeds", "learning_rate", "mean_error", "interval_low", "interval_high", "mean_val_error")
_CURVE = ("task", "dataset", "model", "train_size", *_SUMMARY, "nll", "calibration_error", "fitted_error")
_BESIDE = ("nll_low", "nll_high", "calibration_error_low", "calibration_error_high")


def trials_table(results: Sequence[TaskResult]) -> str:
    """Return every trial as CSV: its settings, metrics, cost, error and the arguments that repeat it.

    Args:
        results: analyses.
    """
    rows = []
    for result in results:
        selected = {trial["id"] for trial in result.selected}
        order = sorted(result.records, key=lambda r: (r["train_size"], r["model"], r["seed"], r["learning_rate"]))
        rows += [{"task": result.name, **_trial(record, record["id"] in selected)} for record in order]
    return _to_csv(list(rows[0]), rows)


def curves_table(results: Sequence[TaskResult]) -> str:
    """Return every plotted point as CSV; nothing in it depends on the clock.

    Args:
        results: analyses.
    """
    rows = []
    for result in results:
        datasets = {record["model"]: record.get("dataset") for record in result.records}
        for point in result.points:
            fitted = result.fits[point.model].predict([point.train_size])
            row = {name: getattr(point, name, None) for name in _CURVE} | point.test_means
            row |= {"task": result.name, "dataset": datasets[point.model]}
            row["interval_low"], row["interval_high"] = point.interval or (None, None)
            for target in BESIDE_ERROR:
                ends = point.interval_of(target.name) or (None, None)
                row |= dict(zip((f"{target.name}_low", f"{target.name}_high"), ends, strict=True))
            row["fitted_error"] = None if fitted is None else float(fitted[0])
            rows.append(row)
    return _to_csv((*_CURVE, *_BESIDE), rows)


def _trial(record: dict[str, Any], selected: bool) -> dict[str, Any]:
    budget = record.get("budget") or {}
    return {
        **{name: record.get(name) for name in _TRIAL},
        "budget_unit": budget.get("unit"),
        "budget_amount": budget.get("amount"),
        "status": record["status"],
        "selected": int(selected),
        **{f"val_{name}": (record.get("val") or {}).get(name) for name in _METRICS},
        **{f"test_{name}": (record.get("test") or {}).get(name) for name in _METRICS},
        **{name: record.get(name) for name in (*_COUNTED, *_MACHINE)},
        "versions": json.dumps(record.get("versions") or {}, sort_keys=True),
        "arguments": shlex.join(record.get("arguments") or []),
        "error": record.get("error"),
    }


def _to_csv(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
