"""One task's whole analysis: from its plan and records to points, fits, pairs and findings."""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vitlab.analysis import bootstrap
from vitlab.analysis.crossover import Crossover, find_crossover
from vitlab.analysis.curve_crossing import CurveCrossing, cross_curves
from vitlab.analysis.data_efficiency import DataEfficiency, compare_efficiency
from vitlab.analysis.dial import Dial, read_dial
from vitlab.analysis.dial_places import pairs_on_dial
from vitlab.analysis.differences import Difference, compare_sizes
from vitlab.analysis.fairness import Finding, check_fairness
from vitlab.analysis.fairness_one_class import most_frequent_class_error
from vitlab.analysis.fitted_curves import FittedCurve, fit_curve
from vitlab.analysis.image_comparison import ImageAnswers, compare_images
from vitlab.analysis.selection import Point, Record, paired_errors, select_points, selected_trials
from vitlab.analysis.targets import ERROR, NLL, Target
from vitlab.analysis.wording import label, listing
from vitlab.sweep.rate_search import num_undecided
from vitlab.sweep.selection import chosen_learning_rates, is_selected


@dataclass(frozen=True)
class Pair:
    """Two models on one task.

    Args:
        models: their names.
        train_sizes: sizes that both were measured at.
        differences: the paired comparison at each.
        crossover: between the measured sizes.
        data_efficiency: how many times the images one needs.
        beyond: a crossing of the fitted curves beyond the largest size: an extrapolation; None if there is none.
        image_remark: which predictions the test over test images lacks; nothing where all are kept.
    """

    models: tuple[str, str]
    train_sizes: list[int]
    differences: list[Difference]
    crossover: Crossover
    data_efficiency: DataEfficiency
    beyond: CurveCrossing | None = None
    image_remark: str = ""


@dataclass(frozen=True)
class Conclusion:
    """One task's result in words: a claim, what it rests on, and what else is worth saying."""

    claim: str
    detail: str = ""
    more: str = ""

    @property
    def words(self) -> str:
        """Return all of it as one sentence, without its first capital and full stop."""
        detailed = f"{self.claim} ({self.detail})" if self.detail else self.claim
        return f"{detailed}; {self.more}" if self.more else detailed


@dataclass(frozen=True)
class TaskResult:
    """What one sweep says.

    Args:
        name: the task, made unique among the tasks of a report.
        plan: the sweep's plan.
        records: its trial records.
        selected: the tested trials at the chosen learning rates.
        points: one per model and size.
        fits: fitted curve of the error by model.
        pairs: every two models that share a size and a seed; on a dial, the pairs that it compares.
        findings: of the fairness check.
        dial: what the sweep says of its dial, or None where it has none.
        nll_fits: fitted curve of the NLL, of the models that have recorded it at every size.
        most_frequent_class_error: error of who answers the most frequent class for every test image; None where no
            answers are kept, or where they are no labels.
    """

    name: str
    plan: Any
    records: list[Record]
    selected: list[Record]
    points: list[Point]
    fits: dict[str, FittedCurve]
    pairs: list[Pair]
    findings: list[Finding]
    dial: Dial | None
    nll_fits: dict[str, FittedCurve] = field(default_factory=dict)
    most_frequent_class_error: float | None = None

    @property
    def models(self) -> list[str]:
        """Return the models that have a point, in the plan's order."""
        return [model for model in self.plan.models if self.points_of(model)]

    def points_of(self, model: str) -> list[Point]:
        """Return one model's points by growing size."""
        return [point for point in self.points if point.model == model]

    def fits_of(self, target: str) -> dict[str, FittedCurve]:
        """Return the fitted curves of a target by model; none where it is not fitted."""
        return {ERROR.name: self.fits, NLL.name: self.nll_fits}.get(target, {})

    @property
    def counts(self) -> dict[str, int]:
        """Return how many trials are planned, done, failed and missing, and how many selected ones are tested."""
        chosen = chosen_learning_rates(self.records, self.plan)
        untested = [record for record in self.records if is_selected(record, chosen) and not record.get("test")]
        recorded = {record["id"] for record in self.records}
        undecided = sum(num_undecided(self.plan).values())  # trials that a search for learning rates has yet to name
        return {
            "planned": len(self.plan.trials) + undecided,
            "done": sum(record["status"] == "done" for record in self.records),
            "failed": sum(record["status"] == "failed" for record in self.records),
            "missing": sum(trial.id not in recorded for trial in self.plan.trials) + undecided,
            "selected": len(self.selected),
            "untested": len(untested),
        }


def analyze_task(
    plan: Any, records: Sequence[Record], name: str | None = None, seed: int = 0, folder: Path | None = None
) -> TaskResult:
    """Return the analysis of one sweep.

    Args:
        plan: the sweep's plan.
        records: its trial records, in any order.
        name: how to call the task; the plan's name by default.
        seed: seed of the bootstrap.
        folder: the sweep folder, where the predictions of its trials are kept; None to do without.
    """
    planned = {trial.id for trial in plan.trials}
    records = sorted((record for record in records if record["id"] in planned), key=lambda record: record["id"])
    chosen = chosen_learning_rates(records, plan)
    points = select_points(records, chosen, plan.models, plan.seeds_of, seed)
    present = list(dict.fromkeys(point.model for point in points))
    fits, nll_fits = (_fit_all(points, present, target, seed) for target in (ERROR, NLL))
    couples = pairs_on_dial(plan.dial, present) if plan.dial else itertools.combinations(present, 2)
    compared = [compare_models(points, models, seed) for models in couples]
    selected, answers = selected_trials(records, chosen), ImageAnswers(folder)
    compared = [_compare_images(pair, selected, answers) for pair in compared if pair is not None]
    pairs = [pair if plan.dial else _look_beyond(pair, fits) for pair in compared]
    dial = None
    if plan.dial and points:
        dial = read_dial(plan.dial, points, {pair.models: pair.differences for pair in pairs}, seed)
    return TaskResult(
        name=name or plan.task,
        plan=plan,
        records=records,
        selected=selected,
        points=points,
        fits=fits,
        pairs=pairs,
        findings=check_fairness(plan, records, chosen, points, answers),
        dial=dial,
        nll_fits=nll_fits,
        most_frequent_class_error=most_frequent_class_error(selected, answers),
    )


def _fit_all(points: Sequence[Point], models: Sequence[str], target: Target, seed: int) -> dict[str, FittedCurve]:
    """Return the curve of each model that has recorded the target at every size."""
    fits = {}
    for model in models:
        values = {p.train_size: list(p.values_of(target.name).values()) for p in points if p.model == model}
        if all(values.values()):
            fits[model] = fit_curve(values, seed, target.largest)
    return fits


def compare_models(points: Sequence[Point], models: tuple[str, str], seed: int = 0) -> Pair | None:
    """Return how two models compare on the seeds and sizes they share, or None if they share none.

    Args:
        points: points of one task.
        models: names of the two models.
        seed: seed of the bootstrap.
    """
    sizes, errors = paired_errors(points, models)
    if not sizes:
        return None
    # Each pair has its own stream, so that a third model in the sweep does not move this pair's interval.
    means, draws = bootstrap.draw_means(errors, [seed, zlib.crc32(" ".join(models).encode())])
    differences = compare_sizes(models, sizes, errors, draws)
    crossover = find_crossover(models, differences, draws)
    efficiency = compare_efficiency(models, sizes, np.asarray(means), draws)
    return Pair(tuple(models), sizes, differences, crossover, efficiency)


def _compare_images(pair: Pair, selected: Sequence[Record], answers: ImageAnswers) -> Pair:
    """Return the pair with the test over test images at each size."""
    tests, remark = compare_images(pair.models, pair.train_sizes, selected, answers)
    differences = [dataclasses.replace(row, mcnemar=tests.get(row.train_size)) for row in pair.differences]
    return dataclasses.replace(pair, differences=differences, image_remark=remark)


def _look_beyond(pair: Pair, fits: dict[str, FittedCurve]) -> Pair:
    """Return the pair with the crossing that its curves foretell, where none was measured."""
    first, second = (fits[model].estimate for model in pair.models)
    if pair.crossover.train_size is not None or first is None or second is None:
        return pair
    if max(first.sizes[0], second.sizes[0]) >= min(first.sizes[-1], second.sizes[-1]):
        return pair
    names = {label(model): model for model in pair.models}
    if len(names) < len(pair.models):  # two names that read alike
        names = {model: model for model in pair.models}
    crossing = cross_curves(tuple(names), first, second)
    if not crossing.extrapolated:
        return pair
    leaders = {"leader_before": names[crossing.leader_before], "leader_after": names[crossing.leader_after]}
    return dataclasses.replace(pair, beyond=dataclasses.replace(crossing, **leaders))


def conclude(result: TaskResult) -> Conclusion:
    """Return what the task says in words."""
    if result.dial is not None:
        return Conclusion(result.dial.claim, more=result.dial.detail)
    if len(result.models) == 1:
        return Conclusion(f"only {label(result.models[0])} has finished trials, so there is nothing to compare yet")
    if not result.pairs:
        return Conclusion("the models share no finished size and seed, so there is nothing to compare yet")
    if len(result.pairs) == 1:
        return conclude_pair(result.pairs[0])
    return _leaders(result)


def conclude_pair(pair: Pair) -> Conclusion:
    """Return what a pair of models says in words; one number for data efficiency suits curves that do not cross."""
    crosses = pair.crossover.verdict == "crosses"
    more = "" if crosses or pair.data_efficiency.ratio is None else pair.data_efficiency.words
    return Conclusion(pair.crossover.claim, pair.crossover.detail, more)


def _leaders(result: TaskResult) -> Conclusion:
    """Say with many models who has the lowest mean error where; the pairs' table has the rest."""
    sizes = sorted({point.train_size for point in result.points})
    lowest = {
        size: min((p for p in result.points if p.train_size == size), key=lambda point: point.mean_error).model
        for size in sizes
    }
    spans = []
    for model, group in itertools.groupby(sizes, key=lowest.get):
        span = list(group)
        where = f"{span[0]:,}" if len(span) == 1 else f"{span[0]:,} to {span[-1]:,}"
        spans.append(f"{label(model)} at {where} images")
    crossing = sum(pair.crossover.verdict == "crosses" for pair in result.pairs)
    detail = f"the lead changes in {crossing} of {len(result.pairs)} pairs of models"
    return Conclusion(f"lowest mean error: {listing(spans)}", detail)
