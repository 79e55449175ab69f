"""Is each arm trained for as long, and do as many trials count (DESIGN: a fair comparison, rule 2)?"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vitlab.analysis.finding import Finding, at_images
from vitlab.analysis.selection import Record
from vitlab.analysis.wording import count, label, listing
from vitlab.sweep.rate_search import num_undecided

_SAME_AMOUNT = 1.01  # of images seen: the last batch of an epoch may be smaller
_SAME_SECONDS = 0.15  # share by which training may take longer or shorter than budgeted
_MEASURED = {"seconds": "seconds of training", "macs": "multiply-adds of training"}  # units that plans give in steps


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
        *_seconds_taken(plan, selected),
        *_stopped_early(plan, records),
        *_dropped(plan, records),
    ]


def _budget(plan: Any, selected: Sequence[Record]) -> Finding:
    """The same budget, and its axis named."""
    uneven = []
    for size in sorted({trial["train_size"] for trial in selected}):
        trials = [trial for trial in selected if trial["train_size"] == size]
        if plan.budget["unit"] in _MEASURED:  # each arm has its own number of steps
            is_even = all(trial["budget"] == plan.budget_of(trial["model"], size) for trial in trials)
        else:
            is_even = len({(trial["budget"]["unit"], trial["budget"]["amount"]) for trial in trials}) == 1
        if not is_even:
            uneven.append(size)
    if uneven:
        words = (
            f"The trials' budgets differ {at_images(uneven, plan.train_sizes)}: who trains longer has an advantage. "
            "Run all arms with one budget, in a new folder."
        )
        return Finding("refuse", "budget", words, (), tuple(uneven))
    words = f"Budget on the axis of {plan.budget['unit']}: {_amount(plan)}, the same for every arm{_in_steps(plan)}."
    return Finding("note", "budget", words)


def _amount(plan: Any) -> str:
    unit, amount = plan.budget["unit"], plan.budget["amount"]
    amounts = amount.values() if isinstance(amount, Mapping) else [amount]
    write = (lambda number: f"{number:.3g}") if unit in _MEASURED else count
    few, many = write(min(amounts)), write(max(amounts))
    noun = _MEASURED.get(unit, unit)
    return f"{few} {noun}" if few == many else f"{few} to {many} {noun}, by size"


def _in_steps(plan: Any) -> str:
    """Say what a measured budget is in steps of each arm, at the largest size, and where it was measured."""
    if plan.budget["unit"] not in _MEASURED:
        return ""
    size = max(plan.train_sizes)
    steps = [f"{count(plan.budget_of(model, size)['amount'])} of {label(model)}" for model in plan.models]
    machine = plan.budget["measured"].get("machine")
    return f"{f', as measured on {machine}' if machine else ''} (steps at {count(size)} images: {listing(steps)})"


def _seconds_taken(plan: Any, selected: Sequence[Record]) -> list[Finding]:
    """A budget in seconds rests on steps that were timed beforehand; the trials tell how long they really took."""
    if plan.budget["unit"] != "seconds":
        return []
    off = {}
    for size in plan.train_sizes:
        taken = _medians(plan, [trial for trial in selected if trial["train_size"] == size], "train_seconds")
        budget = plan.budget["amount"][str(size)]
        off |= {(m, size): own / budget for m, own in taken.items() if abs(own / budget - 1) > _SAME_SECONDS}
    if not off:
        return []
    sizes = sorted({size for _, size in off})
    (model, size), worst = max(off.items(), key=lambda one: abs(one[1] - 1))
    words = (
        f"Training took more than {_SAME_SECONDS:.0%} longer or shorter than the budget of seconds "
        f"{at_images(sizes, plan.train_sizes)}, most for {label(model)} at {count(size)} images: "
        f"{worst * plan.budget['amount'][str(size)]:.3g} seconds of {plan.budget['amount'][str(size)]:.3g} (median). "
        "The machine was busier or calmer than when the steps were timed, or it is another one: run the sweep again "
        "in a new folder, with nothing else at work, or read the seconds in the table of costs beside the errors."
    ).replace("%", " %")
    return [Finding("warn", "budget_seconds", words, tuple(dict.fromkeys(model for model, _ in off)), tuple(sizes))]


def _other_axis(plan: Any, selected: Sequence[Record]) -> list[Finding]:
    """Equal steps should also be equal images seen, and equal epochs equal steps; other batch sizes break that."""
    if plan.budget["unit"] in _MEASURED:
        return _images_seen(plan, selected)
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


def _images_seen(plan: Any, selected: Sequence[Record]) -> list[Finding]:
    """Who has cheaper steps makes more of them in equal seconds, and sees more images: meant so, but to be known."""
    size = max(plan.train_sizes)
    amounts = _medians(plan, [trial for trial in selected if trial["train_size"] == size], "examples_seen")
    if len(amounts) < 2:
        return []
    arms = listing([f"{label(model)} {count(amount)}" for model, amount in amounts.items()])
    words = f"With equal {_MEASURED[plan.budget['unit']]}, arms of cheaper steps see more images"
    return [Finding("note", "budget_axis", f"{words} (at {count(size)} images: {arms}).", tuple(amounts))]


def _medians(plan: Any, trials: Sequence[Record], key: str) -> dict[str, float]:
    values = {model: [t[key] for t in trials if t["model"] == model and t.get(key)] for model in plan.models}
    return {model: statistics.median(own) for model, own in values.items() if own}


def _stopped_early(plan: Any, records: Sequence[Record]) -> list[Finding]:
    """Either nobody stops before the end of the budget, or a reader must know."""
    how = {model: reason for model in plan.models if (reason := _may_stop(plan.settings_of(model)))}
    unit, sizes = "epochs" if plan.budget["unit"] == "epochs" else "steps", set()
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
    missing += Counter(num_undecided(plan)).elements()  # a search for learning rates has yet to name them
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
