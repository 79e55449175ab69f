"""Made-up sweeps with known answers: a real plan, records as the trials would write them, curves chosen by the test."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vitlab.analysis.fairness import Finding, check_fairness
from vitlab.analysis.image_comparison import ImageAnswers
from vitlab.analysis.selection import select_points
from vitlab.analysis.sweep_pairing import Sweep
from vitlab.analysis.task_result import TaskResult, analyze_task
from vitlab.sweep.plan import Plan
from vitlab.sweep.plan_file import write_plan
from vitlab.sweep.rate_search import grown
from vitlab.sweep.selection import chosen_learning_rates, is_selected
from vitlab.sweep.store import record_path

SIZES = [100, 250, 600, 2000, 8000]
TWO_SIZES = [100, 8000]
AT_TWO_SIZES = {"vit": [0.39, 0.11], "cnn": [0.34, 0.205]}  # too few for a fit, so quick to analyze
CURVES = {  # cross between 600 and 2,000
    "vit": [0.39, 0.32, 0.26, 0.19, 0.11],
    "cnn": [0.34, 0.22, 0.21, 0.20, 0.205],
}


def make_plan(
    models: Sequence[str] = ("vit", "cnn"),
    train_sizes: Sequence[int] = SIZES,
    num_seeds: int = 4,
    learning_rates: dict | None = None,
    task: str = "glyphs-both",
    dial: dict | None = None,
) -> Plan:
    return Plan(
        task=task,
        title=f"A made-up sweep on {task}",
        model_settings={model: {"model": {"backbone": {"class_path": f"vitlab.models.{model}"}}} for model in models},
        train_sizes=list(train_sizes),
        seeds=list(range(num_seeds)),
        learning_rates=learning_rates or {model: [0.001, 0.003, 0.01] for model in models},
        budget={"unit": "steps", "amount": {str(size): max(100, size // 4) for size in train_sizes}},
        settings={"data": {"class_path": "vitlab.data.Glyphs"}},
        dial=dial,
    )


def make_records(
    plan: Plan,
    curves: dict[str, Sequence[float]] | None = None,
    noise: float = 0.01,
    seed: int = 0,
    best_rate: float = 0.003,
    fails: Callable = lambda trial: False,
) -> list[dict]:
    """Return a record for each trial: the best learning rate has the curve's error, the others 5 points more."""
    rng = np.random.default_rng(seed)
    curves = curves or CURVES
    records = []
    for trial in plan.trials:
        error = curves[trial.model][plan.train_sizes.index(trial.train_size)] + noise * rng.standard_normal()
        best = trial.learning_rate == best_rate or len(plan.learning_rates[trial.model]) == 1
        error = min(max(error + (0.0 if best else 0.05), 0.0), 1.0)
        records.append(_record(trial, error, tested=best, failed=fails(trial), rng=rng))
    return records


def make_search(best_rate: float = 0.005, num_seeds: int = 3) -> tuple[Plan, list[dict]]:
    """Return a sweep whose learning rates were searched for, to its end; the curves are met at the best rate."""
    plan = make_plan(num_seeds=num_seeds, learning_rates={"vit": [], "cnn": []})
    records: dict[str, dict] = {}
    while (more := grown(plan, records)) is not plan:
        plan = more
        for trial in plan.trials:
            if trial.id not in records:
                rng = np.random.default_rng([trial.seed, trial.train_size])
                error = CURVES[trial.model][plan.train_sizes.index(trial.train_size)] + 0.01 * rng.standard_normal()
                error += 0.02 * abs(math.log(trial.learning_rate / best_rate))
                records[trial.id] = _record(trial, min(error, 1.0), False, False, rng) | {"seconds": 10.0}
    chosen = chosen_learning_rates(records.values(), plan)
    for record in records.values():
        if is_selected(record, chosen):
            record["test"] = record["val"] | {"nll": 0.1}
    return plan, list(records.values())


def write_sweep(folder: Path, plan: Plan, records: Sequence[dict]) -> Path:
    write_plan(folder, plan)
    (folder / "trials").mkdir()
    for record in records:  # not by write_record: its fsync would take most of the tests' time
        record_path(folder, record["id"]).write_text(json.dumps(record), encoding="utf-8")
    return folder


def _record(trial, error: float, tested: bool, failed: bool, rng: np.random.Generator) -> dict:
    metrics = {"accuracy": 1 - error, "top5_accuracy": 1.0, "nll": 2 * error, "calibration_error": error / 5}
    return {
        "schema": 1,
        "id": trial.id,
        "task": trial.task,
        "model": trial.model,
        "dataset": "glyphs",
        "train_size": trial.train_size,
        "seed": trial.seed,
        "learning_rate": trial.learning_rate,
        "budget": trial.budget,
        "status": "failed" if failed else "done",
        "val": None if failed else {**metrics, "nll": 2.1 * error},
        "test": metrics if tested and not failed else None,
        "steps": trial.budget["amount"],
        "epochs": math.ceil(trial.budget["amount"] * 128 / trial.train_size),
        "examples_seen": 128 * trial.budget["amount"],
        "seconds": float(rng.uniform(8, 12)) * (2 if trial.model == "vit" else 1),
        "params": 60_000 if trial.model == "vit" else 44_000,
        "macs": 900_000,
        "peak_memory_bytes": None,
        "device": "cpu",
        "num_threads": 1,
        "versions": {"vitlab": "0.1.0", "torch": "2.15.0"},
        "commit": "0123abc",
        "arguments": trial.arguments,
        "error": "the loss became NaN at step 17" if failed else None,
    }


@functools.cache
def _analyzed(settings: str, seed: int) -> TaskResult:
    plan, curves, noise = json.loads(settings)
    plan = Plan(**plan)
    return analyze_task(plan, make_records(plan, curves, noise=noise, seed=seed))


def made_up(
    name: str, curves: dict | None = None, noise: float = 0.01, seed: int = 0, plan: Plan | None = None
) -> Sweep:
    """Return an analyzed sweep to compare with others; what is asked for again is not analyzed again."""
    settings = json.dumps([dataclasses.asdict(plan or make_plan()), curves, noise])
    return Sweep(name, _analyzed(settings, seed))


def matched_records(plan: Plan, **settings) -> list[dict]:
    """Return records of a sweep in which nothing is unfair."""
    return [record | {"seconds": 10.0} for record in make_records(plan, **settings)]


def with_settings(plan: Plan, model: str, /, **parts: dict) -> Plan:
    """Return the plan with settings of one arm's own, such as data={"val_size": 7}."""
    own = dict(plan.model_settings[model])
    for part, settings in parts.items():
        own[part] = {**own.get(part, {}), **settings}
    return dataclasses.replace(plan, model_settings={**plan.model_settings, model: own})


def find(plan: Plan, records: Sequence[dict], chosen: dict | None = None, folder: Path | None = None) -> list[Finding]:
    """Return what the fairness check finds, choosing learning rates as the analysis does."""
    chosen = chosen_learning_rates(records, plan) if chosen is None else chosen
    points = select_points(records, chosen, plan.models, plan.seeds_of)
    return check_fairness(plan, records, chosen, points, ImageAnswers(folder))


def only_flaw(plan: Plan, records: Sequence[dict], chosen: dict | None = None) -> Finding:
    """Return the one finding that is no note."""
    (flaw,) = [finding for finding in find(plan, records, chosen) if finding.level != "note"]
    return flaw


def noted(plan: Plan, records: Sequence[dict], check: str) -> Finding:
    """Return the one finding of a check in a sweep without any flaw."""
    findings = find(plan, records)
    assert {finding.level for finding in findings} == {"note"}
    (note,) = [finding for finding in findings if finding.check == check]
    return note
