"""The report's content as plain data: what `summary.json` holds and the terminal prints.

What is measured by the clock stands under "costs", away from "points", "fits" and "pairs": these are equal for two runs
of the same sweep on one machine, however often it was interrupted.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from vitlab.analysis.comparison_wording import arm_words, conclude_comparison, conclude_pair_change, verdict
from vitlab.analysis.fitted_curves import FittedCurve
from vitlab.analysis.selection import Point
from vitlab.analysis.sweep_comparison import ArmChange, SweepComparison
from vitlab.analysis.targets import BESIDE_ERROR, ERROR, NLL, Target
from vitlab.analysis.task_result import Pair, TaskResult, conclude, conclude_pair
from vitlab.analysis.wording import count, plural, sentence

SCHEMA = 1
_COSTS = ("params", "macs", "seconds", "peak_memory_bytes", "examples_seen")


def summarize(results: Sequence[TaskResult], comparisons: Sequence[SweepComparison] = ()) -> dict[str, Any]:
    """Return the summary of one or several tasks.

    Args:
        results: analyses, in the order to report them.
        comparisons: of sweeps of one task with each other.
    """
    counts = [result.counts for result in results]
    return {
        "schema": SCHEMA,
        "complete": all(number["missing"] == number["untested"] == 0 for number in counts),
        "headlines": [
            *(f"{one.together.name}: {conclude_comparison(one).words}." for one in comparisons),
            *(line for result in results for line in _headlines(result)),
        ],
        "counts": {key: sum(number[key] for number in counts) for key in counts[0]},
        "tasks": [_task(result) for result in results],
        "points": [{"task": r.name, **_point(point)} for r in results for point in r.points],
        "fits": [{"task": r.name, "model": model, **_fit(fit)} for r in results for model, fit in r.fits.items()],
        "nll_fits": [
            {"task": r.name, "model": model, **_fit(fit, NLL)} for r in results for model, fit in r.nll_fits.items()
        ],
        "pairs": [{"task": r.name, **_pair(pair)} for r in results for pair in r.pairs],
        "comparison": [_comparison(one) for one in comparisons],
        "dials": [{"task": r.name, **dataclasses.asdict(r.dial)} for r in results if r.dial is not None],
        "fairness": [{"task": r.name, **dataclasses.asdict(finding)} for r in results for finding in r.findings],
        "costs": [{"task": r.name, **cost} for r in results for cost in costs(r)],
        "environment": environment(results),
    }


def headlines(summary: dict[str, Any]) -> list[str]:
    """Return the lines to print: a conclusion per task, and what is missing.

    Args:
        summary: what `summarize` or `write_report` gave.
    """
    return list(summary["headlines"])


def missing_in_words(counts: dict[str, int]) -> str:
    """Return what an unfinished or partly failed sweep lacks, or an empty text.

    Args:
        counts: of TaskResult.
    """
    parts = []
    if counts["missing"]:
        parts.append(f"{count(counts['done'])} of {plural(counts['planned'], 'trial')} done, the rest is still missing")
    if counts["untested"]:
        parts.append(f"{plural(counts['untested'], 'selected trial')} not tested")
    if counts["failed"]:
        parts.append(f"{plural(counts['failed'], 'trial')} failed")
    return "; ".join(parts)


def costs(result: TaskResult) -> list[dict[str, Any]]:
    """Return the measured cost of the selected trials by model and size: the median over seeds.

    Args:
        result: one task's analysis.
    """
    rows = []
    for point in result.points:
        trials = [t for t in result.selected if (t["model"], t["train_size"]) == (point.model, point.train_size)]
        row: dict[str, Any] = {"model": point.model, "train_size": point.train_size}
        for key in _COSTS:
            values = [trial[key] for trial in trials if trial.get(key) is not None]
            row[key] = statistics.median(values) if values else None
        row["device"] = ", ".join(sorted({str(trial.get("device")) for trial in trials}))
        rows.append(row)
    return rows


def environment(results: Sequence[TaskResult]) -> dict[str, list[str]]:
    """Return every version, device, thread count and commit that the selected trials ran with.

    Args:
        results: analyses.
    """
    found: dict[str, set[str]] = {}
    for trial in (trial for result in results for trial in result.selected):
        facts = {**(trial.get("versions") or {})}
        facts |= {"device": trial.get("device"), "threads": trial.get("num_threads"), "commit": trial.get("commit")}
        for name, value in facts.items():
            found.setdefault(name, set()).add("unknown" if value is None else str(value))
    return {name: sorted(values) for name, values in found.items()}


def _headlines(result: TaskResult) -> list[str]:
    lines = [f"{result.name}: {conclude(result).words}."]
    missing = missing_in_words(result.counts)
    if missing:
        lines.append(f"{result.name}: {sentence(missing)}")
    return lines


def _task(result: TaskResult) -> dict[str, Any]:
    plan = result.plan
    return {
        "task": result.name,
        "title": plan.title,
        "dataset": ", ".join(sorted({str(record.get("dataset")) for record in result.records})),
        "models": list(plan.models),
        "train_sizes": list(plan.train_sizes),
        "seeds": list(plan.seeds),
        "seeds_at": {size: list(seeds) for size, seeds in (plan.seeds_at or {}).items()},
        "sizes_added": list(plan.sizes_added or ()),
        "refinements": list(plan.refinements or ()),
        "learning_rates": {model: _rates(plan, model) for model in plan.models},
        "budget": plan.budget,
        "counts": result.counts,
        "most_frequent_class_error": result.most_frequent_class_error,
        "conclusion": conclude(result).words,
    }


def _rates(plan: Any, model: str) -> list[float]:
    return sorted({rate for size in plan.train_sizes for rate in plan.rates_of(model, size)})


def _point(point: Point) -> dict[str, Any]:
    row = dataclasses.asdict(point)
    del row["test_values"]
    row |= row.pop("test_means")
    intervals = row.pop("test_intervals")
    row |= {f"{target.name}_interval": intervals.get(target.name) for target in BESIDE_ERROR}
    row["errors"] = {str(seed): error for seed, error in point.errors.items()}
    return {**row, "mean_error": point.mean_error, "num_seeds": point.num_seeds}


def _fit(fit: FittedCurve, target: Target = ERROR) -> dict[str, Any]:
    told = fit.extrapolation
    beyond = None
    if told is not None:
        size, error, low, high = (float(values[0]) for values in (told.sizes, told.errors, told.low, told.high))
        beyond = {"train_size": size, target.name: error, "interval_90": [low, high]}
    return {
        "formula": f"{target.name} = a * train_size^-b + c",
        **dataclasses.asdict(fit.power_law),
        "weights": fit.weights,
        "extrapolation": beyond,
    }


def _pair(pair: Pair) -> dict[str, Any]:
    crossover, efficiency = pair.crossover, pair.data_efficiency
    return {
        **dataclasses.asdict(pair),
        "crossover": {
            "train_size": crossover.train_size,
            "reason": crossover.reason,
            **dataclasses.asdict(crossover),
        },
        "data_efficiency": {**dataclasses.asdict(efficiency), "words": efficiency.words},
        "words": conclude_pair(pair).words,
    }


def _comparison(one: SweepComparison) -> dict[str, Any]:
    names = [sweep.name for sweep in one.sweeps]
    return {
        "task": one.task,
        "sweeps": names,
        "results": [sweep.result.name for sweep in one.sweeps],
        "words": conclude_comparison(one).words,
        "arms": [{**_arm_change(change), "words": arm_words(change, one.sweeps)} for change in one.arms],
        "pairs": [
            {
                "models": [list(models) for models in change.models],
                "verdict": verdict(change),
                "crossovers": [
                    {"train_size": pair.crossover.train_size, "interval": list(pair.crossover.interval)}
                    for pair in change.pairs
                ],
                "shift": None if change.shift is None else dataclasses.asdict(change.shift),
                "is_paired": change.is_paired,
                "gaps": [dataclasses.asdict(gap) for gap in change.gaps],
                "words": conclude_pair_change(change, one.sweeps).words,
            }
            for change in one.pairs
        ],
        "settings": [dataclasses.asdict(change) for change in one.settings],
        "fairness": [dataclasses.asdict(finding) for finding in one.findings],
    }


def _arm_change(change: ArmChange) -> dict[str, Any]:
    efficiency = change.data_efficiency
    return {
        **dataclasses.asdict(change),
        "data_efficiency": None
        if efficiency is None
        else {**dataclasses.asdict(efficiency), "words": efficiency.words},
    }
