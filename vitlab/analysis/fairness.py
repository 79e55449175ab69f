"""What is not matched between the arms of a comparison, in words.

"refuse" means that the comparison should not be believed as it stands, "warn" that a reader must know, "note" that
it is stated for the record.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitlab.analysis.selection import Point, Record, selected_trials
from vitlab.analysis.wording import count, label, listing, plural, significant, the
from vitlab.sweep.plan import merge

LEVELS = ("refuse", "warn", "note")
UNMATCHED_RATIO = 1.5
MIN_SEEDS = 3
_CHANGES_THE_IMAGES = {"dataset", "val_size", "limit_train_batches", "overfit_batches"}


@dataclass(frozen=True)
class Finding:
    """One thing that is not matched, or that a reader must know.

    Args:
        level: "refuse", "warn" or "note".
        check: name of the check, for programs.
        words: what was found.
    """

    level: str
    check: str
    words: str


def check_fairness(
    plan: Any, records: Sequence[Record], chosen: Mapping[tuple[str, int], float], points: Sequence[Point]
) -> list[Finding]:
    """Return all findings on one sweep, the gravest first.

    Args:
        plan: the sweep's plan (models, learning_rates, train_sizes, seeds, budget, trials).
        records: its trial records.
        chosen: learning rate by (model, train size).
        points: its selected points.
    """
    selected = selected_trials(records, chosen)
    findings = [
        *_tuning(plan, records),
        *_edges(plan, chosen),
        *_data(plan),
        *_seeds(points),
        *_budget(plan, selected),
        *_failures(plan, records),
        *_costs(plan.models, selected),
    ]
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def _tuning(plan: Any, records: Sequence[Record]) -> list[Finding]:
    """Both families get the same number of tuning trials."""
    planned = {model: len(plan.learning_rates[model]) for model in plan.models}
    if len(set(planned.values())) > 1:
        arms = listing([f"{the(model)} {plural(number, 'learning rate')}" for model, number in planned.items()])
        return [Finding("refuse", "tuning_trials", f"Unequal tuning: {arms} per size and seed.")]
    finished = {(r["model"], r["train_size"], r["seed"], r["learning_rate"]) for r in records if r["status"] == "done"}
    sizes = []
    for size in plan.train_sizes:
        numbers = {sum(key[:2] == (model, size) for key in finished) for model in plan.models}
        if len(numbers) > 1:
            sizes.append(count(size))
    if sizes:
        words = f"Unequal numbers of finished tuning trials between the arms at {listing(sizes)} images."
        return [Finding("warn", "tuning_trials", words)]
    number = next(iter(planned.values()))
    return [Finding("note", "tuning_trials", f"Every arm: {plural(number, 'learning rate')} per size and seed.")]


def _edges(plan: Any, chosen: Mapping[tuple[str, int], float]) -> list[Finding]:
    """A best rate on the edge of its grid may have a better one beyond it."""
    findings = []
    for model in plan.models:
        rates = sorted(plan.learning_rates[model])
        if len(rates) == 1:
            words = f"{label(model)}: a single learning rate ({rates[0]:g}) was tried, so it is not tuned."
            findings.append(Finding("warn", "learning_rate_edge", words))
            continue
        for edge, name in ((rates[0], "lowest"), (rates[-1], "highest")):
            sizes = [size for size in plan.train_sizes if chosen.get((model, size)) == edge]
            if sizes:
                at = "every size" if len(sizes) == len(plan.train_sizes) else f"{_sizes(sizes)} images"
                words = f"{label(model)}: the chosen learning rate is the {name} of its grid ({edge:g}) at {at}."
                level = "warn" if 2 * len(sizes) > len(plan.train_sizes) else "note"
                findings.append(Finding(level, "learning_rate_edge", words))
    return findings


def _data(plan: Any) -> list[Finding]:
    """The same data and the same treatment of it, but for the budget that the sweep gives."""
    merged = {model: merge(plan.settings, plan.model_settings[model]) for model in plan.models}
    findings = []
    for part, level in (("data", "warn"), ("trainer", "note")):
        settings = {model: merged[model].get(part) or {} for model in plan.models}
        names = sorted({name for own in settings.values() for name in own})
        differing = [name for name in names if len({json.dumps(own.get(name)) for own in settings.values()}) > 1]
        grave = [name for name in differing if name in _CHANGES_THE_IMAGES]
        if differing:
            words = f"The arms have different {part} settings: {', '.join(differing)}."
            findings.append(Finding("refuse" if grave else level, f"different_{part}", words))
    return findings


def _seeds(points: Sequence[Point]) -> list[Finding]:
    """The same subset draws for all, and at least three of them."""
    findings = []
    fewest = min((point.num_seeds for point in points), default=0)
    if fewest < MIN_SEEDS:
        words = (
            f"As few as {plural(fewest, 'seed')} at some sizes: intervals are wide or absent; run {MIN_SEEDS} or more."
        )
        findings.append(Finding("warn", "num_seeds", words))
    uneven = []
    for size in sorted({point.train_size for point in points}):
        if len({frozenset(point.errors) for point in points if point.train_size == size}) > 1:
            uneven.append(size)
    if uneven:
        words = f"The arms have different seeds at {_sizes(uneven)} images; pairs are compared on the seeds they share."
        findings.append(Finding("warn", "different_subsets", words))
    elif points:
        words = "Same seeds for every arm: the same images, in nested class-balanced subsets."
        findings.append(Finding("note", "different_subsets", words))
    return findings


def _budget(plan: Any, selected: Sequence[Record]) -> list[Finding]:
    """The same budget, and its axis named."""
    unit, amount = plan.budget["unit"], plan.budget["amount"]
    if isinstance(amount, Mapping):
        numbers = [int(value) for value in amount.values()]
        much = f"{count(min(numbers))} to {count(max(numbers))} {unit}, by size" if numbers else unit
    else:
        much = f"{count(amount)} {unit}"
    findings = [Finding("note", "budget", f"Budget on the axis of {unit}: {much}, the same for every arm.")]
    uneven = []
    for size in sorted({trial["train_size"] for trial in selected}):
        budgets = {(t["budget"]["unit"], t["budget"]["amount"]) for t in selected if t["train_size"] == size}
        if len(budgets) > 1:
            uneven.append(size)
    if uneven:
        words = f"The trials' budgets differ at {_sizes(uneven)} images."
        findings[0] = Finding("refuse", "budget", words)
    return findings


def _failures(plan: Any, records: Sequence[Record]) -> list[Finding]:
    recorded = {record["id"] for record in records}
    findings = []
    for check, noun, numbers in (
        (
            "failed_trials",
            "failed",
            {m: sum(r["status"] == "failed" and r["model"] == m for r in records) for m in plan.models},
        ),
        (
            "missing_trials",
            "not run yet",
            {m: sum(t.model == m and t.id not in recorded for t in plan.trials) for m in plan.models},
        ),
    ):
        if any(numbers.values()):
            arms = listing([f"{label(model)} {count(number)}" for model, number in numbers.items()])
            equal = "equally" if len(set(numbers.values())) == 1 else "unequally"
            level = "note" if equal == "equally" else "warn"
            findings.append(Finding(level, check, f"Trials {noun}, {equal} between the arms: {arms}."))
    return findings


def _costs(models: Sequence[str], selected: Sequence[Record]) -> list[Finding]:
    """Parameters, MACs and measured seconds of each arm; what is far apart is named with its numbers."""
    findings = []
    for key, noun, write in (
        ("params", "Parameters", count),
        ("macs", "Multiply-adds per image", count),
        ("seconds", "Training time of the selected trials (median)", lambda seconds: f"{seconds:.1f} s"),
    ):
        findings += _cost(models, selected, key, noun, write)
    return findings


def _cost(
    models: Sequence[str], selected: Sequence[Record], key: str, noun: str, write: Callable[[float], str]
) -> list[Finding]:
    medians = {}
    for model in models:
        values = [trial[key] for trial in selected if trial["model"] == model and trial.get(key)]
        if values:
            medians[model] = statistics.median(values)
    if len(medians) < 2:
        return []
    ratio = max(medians.values()) / min(medians.values())
    arms = listing([f"{label(model)} {write(value)}" for model, value in medians.items()])
    if ratio <= UNMATCHED_RATIO:
        return [Finding("note", key, f"{noun} within a factor of {UNMATCHED_RATIO}: {arms}.")]
    return [Finding("warn", key, f"{noun} not matched, {significant(ratio)} times: {arms}.")]


def _sizes(sizes: Sequence[int]) -> str:
    return listing([count(size) for size in sizes])
