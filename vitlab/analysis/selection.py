"""Which trials a curve is made of: the selected ones, and of those the test error by seed.

The learning rate of a model and size is the one with the best mean validation accuracy over seeds; test metrics are
read for these trials alone.
"""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vitlab.analysis import bootstrap
from vitlab.analysis.targets import BESIDE_ERROR, ERROR, Target
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
        test_values: the other test metrics by seed; a metric that some seed lacks is absent.
        test_intervals: 95 % bootstrap intervals of their means; None with a single seed.
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
    test_values: dict[str, dict[int, float]] = field(default_factory=dict)
    test_intervals: dict[str, tuple[float, float] | None] = field(default_factory=dict)

    @property
    def mean_error(self) -> float:
        """Return the mean test error over the seeds."""
        return statistics.fmean(self.errors.values())

    @property
    def num_seeds(self) -> int:
        """Return how many seeds the mean is over."""
        return len(self.errors)

    def values_of(self, target: str) -> dict[int, float]:
        """Return a target's value by seed; empty if the trials have not recorded it."""
        return self.errors if target == ERROR.name else self.test_values.get(target, {})

    def mean_of(self, target: str) -> float | None:
        """Return a target's mean over the seeds, or None if the trials have not recorded it."""
        values = self.values_of(target)
        return statistics.fmean(values.values()) if values else None

    def interval_of(self, target: str) -> tuple[float, float] | None:
        """Return the 95 % interval of a target's mean, or None with a single seed or without record."""
        return self.interval if target == ERROR.name else self.test_intervals.get(target)


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
        stream = [seed, zlib.crc32(model.encode())]
        errors = {size: {s: _error(t["test"]) for s, t in own.items()} for size, own in table.items()}
        intervals = _intervals(errors, stream, ERROR)
        others = {target.name: _recorded(table, target.name) for target in BESIDE_ERROR}
        other_intervals = {
            target.name: _intervals(others[target.name], [*stream, zlib.crc32(target.name.encode())], target)
            for target in BESIDE_ERROR
        }
        for size in sizes:
            failed = sum(r["status"] == "failed" and r["model"] == model and r["train_size"] == size for r in records)
            values = {name: by_size[size] for name, by_size in others.items() if size in by_size}
            num_missing = len(set(seeds_of(size)) - set(table[size]))
            point = _point(table[size], intervals[size], failed, num_missing, values)
            known = {name: own.get(size) for name, own in other_intervals.items() if name in values}
            points.append(replace(point, test_intervals=known))
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


def _recorded(table: dict[int, dict[int, Record]], metric: str) -> dict[int, dict[int, float]]:
    """Return a test metric by size and seed, at the sizes where every seed has it."""
    values = {
        size: {seed: trial["test"].get(metric) for seed, trial in sorted(trials.items())}
        for size, trials in table.items()
    }
    return {
        size: own
        for size, own in values.items()
        if all(value is not None and math.isfinite(value) for value in own.values())
    }


def _intervals(
    values: dict[int, dict[int, float]], seed: list[int], target: Target
) -> dict[int, tuple[float, float] | None]:
    """Return the interval of the mean at each size."""
    if not values:
        return {}
    seeds = sorted({s for own in values.values() for s in own})
    table = [[own.get(s, np.nan) for s in seeds] for own in values.values()]
    _, draws = bootstrap.draw_means(np.array([table], dtype=float), seed, largest=target.largest)
    if draws is None:
        return dict.fromkeys(values)
    low, high = bootstrap.interval(draws[:, 0])
    return {size: (float(a), float(b)) for size, a, b in zip(values, low, high, strict=True)}


def _point(
    trials: dict[int, Record],
    interval: tuple[float, float] | None,
    failed: int,
    missing: int,
    values: dict[str, dict[int, float]],
) -> Point:
    first = next(iter(trials.values()))
    return Point(
        model=first["model"],
        train_size=first["train_size"],
        learning_rate=first["learning_rate"],
        errors={seed: _error(trial["test"]) for seed, trial in sorted(trials.items())},
        interval=interval,
        mean_val_error=statistics.fmean(_error(trial["val"]) for trial in trials.values()),
        test_means={
            target.name: statistics.fmean(values[target.name].values()) if target.name in values else None
            for target in BESIDE_ERROR
        },
        num_failed=failed,
        num_missing=missing,
        test_values=values,
    )


def _error(metrics: Mapping) -> float:
    # Rounding takes the float dust off 1 - accuracy, so that equal accuracies are equal errors.
    return round(1.0 - metrics["accuracy"], 12)
