"""Is each arm trained for as long, and do as many trials count (DESIGN: a fair comparison, rule 2)?"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from vitlab.analysis.finding import Finding, at_images
from vitlab.analysis.selection import Record
from vitlab.analysis.wording import count, label, listing

_SAME_AMOUNT = 1.01  # of images seen: the last batch of an epoch may be smaller


def check_training(plan: Any, records: Sequence[Record], selected: Sequence[Record]) -> list[Finding]:
    """Return the findings on budgets, early stopping, and failed or missing trials.

    Args:
        plan: the sweep's plan.
        records: its trial records.
        selected: the tested trials at the chosen learning rates.
    """
    return [
        _budget(plan, selected),
        *_other_axis(plan, selected),
        *_stopped_early(plan, records),
        *_dropped(plan, records),
    ]


def _budget(plan: Any, selected: Sequence[Record]) -> Finding:
    """The same budget, and its axis named."""
    uneven = []
    for size in sorted({trial["train_size"] for trial in selected}):
        budgets = {(t["budget"]["unit"], t["budget"]["amount"]) for t in selected if t["train_size"] == size}
        if len(budgets) > 1:
            uneven.append(size)
    if uneven:
        words = (
            f"The trials' budgets differ {at_images(uneven, plan.train_sizes)}: who trains longer has an advantage. "
            "Run all arms with one budget, in a new folder."
        )
        return Finding("refuse", "budget", words, (), tuple(uneven))
    unit, amount = plan.budget["unit"], plan.budget["amount"]
    if isinstance(amount, Mapping):
        numbers = [int(value) for value in amount.values()]
        few, many = min(numbers), max(numbers)
        much = f"{count(few)} {unit}" if few == many else f"{count(few)} to {count(many)} {unit}, by size"
    else:
        much = f"{count(amount)} {unit}"
    return Finding("note", "budget", f"Budget on the axis of {unit}: {much}, the same for every arm.")


def _other_axis(plan: Any, selected: Sequence[Record]) -> list[Finding]:
    """Equal steps should also be equal images seen, and equal epochs equal steps; other batch sizes break that."""
    key, noun = ("examples_seen", "images seen") if plan.budget["unit"] == "steps" else ("steps", "steps")
    uneven = {}
    for size in plan.train_sizes:
        amounts = _medians(plan, [trial for trial in selected if trial["train_size"] == size], key)
        if len(amounts) > 1 and max(amounts.values()) > _SAME_AMOUNT * min(amounts.values()):
            uneven[size] = amounts
    if not uneven:
        return []
    size, amounts = max(uneven.items())
    arms = listing([f"{label(model)} {count(amount)}" for model, amount in amounts.items()])
    words = (
        f"The budget is equal in {plan.budget['unit']} but not in {noun} {at_images(uneven, plan.train_sizes)} (at "
        f"{count(size)} images: {arms}), so it is ambiguous who had more. Give all arms one batch size."
    )
    return [Finding("warn", "budget_axis", words, tuple(amounts), tuple(uneven))]


def _medians(plan: Any, trials: Sequence[Record], key: str) -> dict[str, float]:
    values = {model: [t[key] for t in trials if t["model"] == model and t.get(key)] for model in plan.models}
    return {model: statistics.median(own) for model, own in values.items() if own}


def _stopped_early(plan: Any, records: Sequence[Record]) -> list[Finding]:
    """Either nobody stops before the end of the budget, or a reader must know."""
    how = {model: reason for model in plan.models if (reason := _may_stop(plan.settings_of(model)))}
    unit, sizes = plan.budget["unit"], set()
    for record in records:
        if record["status"] == "done" and (record.get(unit) or record["budget"]["amount"]) < record["budget"]["amount"]:
            how.setdefault(record["model"], f"fewer {unit} than its budget")
            sizes.add(record["train_size"])
    if not how:
        return []
    arms = listing([f"{label(model)} ({reason})" for model, reason in how.items()])
    where = f" {at_images(sizes, plan.train_sizes)}" if sizes else ""
    if len(how) == len(plan.models):
        words = (
            f"All arms may stop before the end of their budget{where}: {arms}. How long each has trained is in the "
            "table of costs; remove it to compare at equal budgets."
        )
        return [Finding("warn", "early_stopping", words, tuple(how), tuple(sorted(sizes)))]
    rest = listing([label(model) for model in plan.models if model not in how])
    words = (
        f"Early-stopped against not{where}: {arms}, and not {rest}. Stop all arms in the same way, or "
        "none, and run again."
    )
    return [Finding("refuse", "early_stopping", words, tuple(how), tuple(sorted(sizes)))]


def _may_stop(settings: Mapping[str, Any]) -> str | None:
    trainer = settings.get("trainer", {})
    for callback in trainer.get("callbacks") or []:
        path = callback.get("class_path", "") if isinstance(callback, Mapping) else callback
        if str(path).rpartition(".")[2] == "EarlyStopping":
            return "EarlyStopping"
    return "max_time" if trainer.get("max_time") else None


def _dropped(plan: Any, records: Sequence[Record]) -> list[Finding]:
    """Failed and missing trials drop out of the choice of learning rates and out of the means."""
    recorded = {record["id"] for record in records}
    failed = [(record["model"], record["train_size"]) for record in records if record["status"] == "failed"]
    missing = [(trial.model, trial.train_size) for trial in plan.trials if trial.id not in recorded]
    findings = []
    for check, noun, lost, advice in (
        ("failed_trials", "failed", failed, "See the errors in the report, and run with --retry-failed."),
        ("missing_trials", "not run yet", missing, "Run `vitlab sweep` again before you compare."),
    ):
        if not lost:
            continue
        numbers = {model: sum(name == model for name, _ in lost) for model in plan.models}
        arms = listing([f"{label(model)} {count(number)}" for model, number in numbers.items()])
        counts = {size: [lost.count((model, size)) for model in plan.models] for size in plan.train_sizes}
        uneven = tuple(size for size, by_arm in counts.items() if len(set(by_arm)) > 1)
        if not uneven:
            findings.append(Finding("note", check, f"Trials {noun}, equally between the arms: {arms}."))
            continue
        words = f"Trials {noun}, unequally between the arms: {arms}, unequal {at_images(uneven, plan.train_sizes)}."
        words += f" What drops out is not counted in the choice or the mean. {advice}"
        findings.append(Finding("warn", check, words, tuple(m for m in numbers if numbers[m]), uneven))
    return findings
