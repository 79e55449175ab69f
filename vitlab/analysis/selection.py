"""Which trials a curve is made of: the selected ones, and of those the test error by seed.

The learning rate of a model and size is the one with the best mean validation accuracy over seeds; test metrics are
read for these trials alone.
"""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vitlab.analysis import bootstrap
from vitlab.sweep.selection import is_selected

Record = Mapping


@dataclass(frozen=True)
class Point:
    """One model at one data size: the test errors of its selected trials.

    Args:
        model: name in the sweep.
        train_size: number of training images.
        learning_rate: the selected one.
        errors: test error (0 to 1) by seed.
        interval: 95 % bootstrap interval of the mean error, or None with a single seed.
        mean_val_error: mean validation error of the same trials.
        test_means: means of the other test metrics: nll (nats) and calibration_error (0 to 1); None if not recorded.
        num_failed: trials of this model and size (any learning rate) that failed.
        num_missing: planned seeds without a tested trial.
    """

    model: str
    train_size: int
    learning_rate: float
    errors: dict[int, float]
    interval: tuple[float, float] | None
    mean_val_error: float
    test_means: dict[str, float | None]
    num_failed: int
    num_missing: int

    @property
    def mean_error(self) -> float:
        """Return the mean test error over the seeds."""
        return statistics.fmean(self.errors.values())

    @property
    def num_seeds(self) -> int:
        """Return how many seeds the mean is over."""
        return len(self.errors)


def selected_trials(records: Sequence[Record], chosen: Mapping[tuple[str, int], float]) -> list[Record]:
    """Return the finished and tested trials at the chosen learning rates, ordered by model, size and seed.

    Args:
        records: trial records of one sweep.
        chosen: learning rate by (model, train size).
    """
    selected = [record for record in records if is_selected(record, chosen) and record.get("test")]
    return sorted(selected, key=lambda record: (record["model"], record["train_size"], record["seed"]))


def select_points(
    records: Sequence[Record],
    chosen: Mapping[tuple[str, int], float],
    models: Sequence[str],
    seeds_of: Callable[[int], Sequence[int]],
    seed: int = 0,
) -> list[Point]:
    """Return one point per model and size that has a tested trial, in the order of `models` and growing size.

    Args:
        records: trial records of one sweep.
        chosen: learning rate by (model, train size).
        models: names in the order to report them.
        seeds_of: gives the planned seeds of a train size: the plan's `seeds_of`.
        seed: seed of the bootstrap.
    """
    points = []
    for model in models:
        trials = selected_trials([record for record in records if record["model"] == model], chosen)
        sizes = sorted({trial["train_size"] for trial in trials})
        if not sizes:
            continue
        table = {size: {t["seed"]: t for t in trials if t["train_size"] == size} for size in sizes}
        intervals = _intervals(table, [seed, zlib.crc32(model.encode())])
        for size, interval in zip(sizes, intervals, strict=True):
            failed = sum(r["status"] == "failed" and r["model"] == model and r["train_size"] == size for r in records)
            points.append(_point(table[size], interval, failed, len(set(seeds_of(size)) - set(table[size]))))
    return points


def paired_errors(points: Sequence[Point], models: Sequence[str]) -> tuple[list[int], np.ndarray]:
    """Return the sizes at which all the models share a seed, and their errors there.

    Args:
        points: points of one task.
        models: names of the models to compare.

    Shape:
        errors: (models, sizes, seeds), NaN where a model lacks a seed.
    """
    return pair_up({(point.model, point.train_size): point.errors for point in points}, models)


def pair_up(
    errors: Mapping[tuple[str, int], Mapping[int, float]], models: Sequence[str]
) -> tuple[list[int], np.ndarray]:
    """Return the sizes at which all the models share a seed, and their errors there.

    Args:
        errors: by seed, by model and train size.
        models: names of the models to compare.

    Shape:
        errors: (models, sizes, seeds), NaN where a model lacks a seed.
    """
    candidates = sorted({size for _, size in errors})
    shared = {size: set.intersection(*(set(errors.get((model, size), {})) for model in models)) for size in candidates}
    sizes = [size for size in candidates if shared[size]]
    seeds = sorted(set().union(*shared.values())) if shared else []
    table = [
        [[errors[model, n].get(s, np.nan) if s in shared[n] else np.nan for s in seeds] for n in sizes]
        for model in models
    ]
    return sizes, np.array(table, dtype=float).reshape(len(models), len(sizes), len(seeds))


def _intervals(table: dict[int, dict[int, Record]], seed: list[int]) -> list[tuple[float, float] | None]:
    seeds = sorted({s for trials in table.values() for s in trials})
    errors = [[_error(trials[s]["test"]) if s in trials else np.nan for s in seeds] for trials in table.values()]
    _, draws = bootstrap.draw_means(np.array([errors], dtype=float), seed)
    if draws is None:
        return [None] * len(table)
    low, high = bootstrap.interval(draws[:, 0])
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _point(trials: dict[int, Record], interval: tuple[float, float] | None, failed: int, missing: int) -> Point:
    first = next(iter(trials.values()))
    errors = {seed: _error(trial["test"]) for seed, trial in sorted(trials.items())}
    return Point(
        model=first["model"],
        train_size=first["train_size"],
        learning_rate=first["learning_rate"],
        errors=errors,
        interval=interval,
        mean_val_error=statistics.fmean(_error(trial["val"]) for trial in trials.values()),
        test_means={metric: _mean(trials, metric) for metric in ("nll", "calibration_error")},
        num_failed=failed,
        num_missing=missing,
    )


def _error(metrics: Mapping) -> float:
    # Rounding takes the float dust off 1 - accuracy, so that equal accuracies are equal errors.
    return round(1.0 - metrics["accuracy"], 12)


def _mean(trials: dict[int, Record], metric: str) -> float | None:
    values = [trial["test"].get(metric) for trial in trials.values()]
    return statistics.fmean(values) if all(value is not None for value in values) else None
