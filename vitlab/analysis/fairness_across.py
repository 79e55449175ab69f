"""What is not matched between two sweeps, so that their difference may come from something else than what was meant."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from vitlab.analysis.fairness_environment import check_environment
from vitlab.analysis.fairness_models import check_costs
from vitlab.analysis.finding import LEVELS, Finding, at_images
from vitlab.analysis.settings_diff import SettingChange, is_only
from vitlab.analysis.sweep_pairing import Sweep, have_same_settings, share_images, unequal_budgets
from vitlab.analysis.task_result import TaskResult
from vitlab.analysis.wording import amount, count, label, listing, plural

_FLOAT_DUST = 1e-9
_STEPS_APART = 1.15  # factor between two timings of a step that is more than their noise


def check_across(
    sweeps: tuple[Sweep, Sweep],
    matched: Sequence[tuple[str, str]],
    changes: Sequence[SettingChange],
    together: TaskResult,
) -> list[Finding]:
    """Return all findings on a comparison of two sweeps, the gravest first.

    Args:
        sweeps: the first and the second, of one task.
        matched: arms that belong together.
        changes: in which settings they differ.
        together: both as one analysis.
    """
    first, second = sweeps
    pair = SimpleNamespace(models=[first.name, second.name])
    selected = [{**trial, "model": sweep.name} for sweep in (first, second) for trial in sweep.result.selected]
    findings = [
        *_test_images(first, second, matched),
        *_subsets(first, second, matched),
        *_budgets(first, second, changes),
        *_steps(first, second, matched),
        *_tuning(first, second, matched),
        *_repeats(first, second, matched),
        *_costs(first, second, matched, together),
        *check_environment(pair, selected, "sweep"),
    ]
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def _dataset(sweep: Sweep, model: str) -> object:
    data = sweep.plan.settings_of(model).get("data", {})
    return data.get("class_path"), data.get("dataset")


def _test_images(first: Sweep, second: Sweep, matched: Sequence[tuple[str, str]]) -> list[Finding]:
    """Errors on different test images are not errors of one test."""
    known = first.fingerprint is not None and second.fingerprint is not None
    if known and first.fingerprint != second.fingerprint:
        words = (
            f"The data set has other content in {second.name} than in {first.name}, as the fingerprints of the subsets "
            "say: the errors are of different tests. Run both on one copy of the data."
        )
        return [Finding("refuse", "different_test_images", words)]
    others = [arms[0] for arms in matched if _dataset(first, arms[0]) != _dataset(second, arms[1])]
    if not others:
        return []
    words = (
        f"{listing([label(model) for model in others])} {'has' if len(others) == 1 else 'have'} another data set in "
        f"{second.name} than in {first.name}, so the errors may be of different tests; the settings below say what "
        "differs. Compare sweeps on one data set."
    )
    return [Finding("refuse", "different_test_images", words, tuple(others))]


def _subsets(first: Sweep, second: Sweep, matched: Sequence[tuple[str, str]]) -> list[Finding]:
    """Equal seeds should mean equal training images."""
    apart = [arms[0] for arms in matched if not share_images(first, second, arms)]
    if apart:
        words = (
            f"{listing([label(model) for model in apart])} {'learns' if len(apart) == 1 else 'learn'} from other "
            "images in the two sweeps, also with one seed, so they are compared without pairs: intervals are wider."
        )
        return [Finding("warn", "different_subsets", words, tuple(apart))]
    shared = sorted({*first.plan.seeds} & {*second.plan.seeds})
    if not shared:
        words = "The sweeps share no seed, so their differences have no pairs and wider intervals. Give both one list."
        return [Finding("warn", "different_subsets", words)]
    words = f"The same images in both sweeps, seed by seed: {plural(len(shared), 'seed')} shared."
    return [Finding("note", "different_subsets", words)]


def _budgets(first: Sweep, second: Sweep, changes: Sequence[SettingChange]) -> list[Finding]:
    """Longer training looks like a better recipe."""
    sizes = unequal_budgets(first.plan, second.plan)
    if not sizes:
        return []
    where = at_images(sizes, first.plan.train_sizes)
    size = sizes[-1]
    amounts = [
        f"{sweep.name} {amount(sweep.plan.budget['amount'][str(size)])} {sweep.plan.budget['unit']}"
        for sweep in (first, second)
    ]
    said = f"budgets differ {where} (at {count(size)} images: {listing(amounts)})"
    if is_only(changes, ["budget"]):
        words = f"The sweeps' {said}, and nothing else does: that is what they compare."
        return [Finding("note", "budget", words, (), tuple(sizes))]
    words = (
        f"The sweeps' {said} beside other settings: who trains longer has an advantage, and what differs cannot be "
        "told apart. Run both with one budget, or change the budget alone."
    )
    return [Finding("refuse", "budget", words, (), tuple(sizes))]


def _steps(first: Sweep, second: Sweep, matched: Sequence[tuple[str, str]]) -> list[Finding]:
    """Equal seconds are as many steps as a machine has made of them when they were measured."""
    if "seconds" not in {sweep.plan.budget["unit"] for sweep in (first, second)} or unequal_budgets(
        first.plan, second.plan
    ):
        return []
    shared = [size for size in first.plan.train_sizes if size in second.plan.train_sizes]
    apart: dict[tuple[str, int], tuple[int, int]] = {}
    for (one, other), size in itertools.product(matched, shared):
        steps = first.plan.budget_of(one, size)["amount"], second.plan.budget_of(other, size)["amount"]
        if max(steps) > _STEPS_APART * min(steps):
            apart[one, size] = steps
    if not apart:
        return []
    (model, size), steps = max(apart.items(), key=lambda item: max(item[1]) / min(item[1]))
    words = (
        f"Equal seconds are other numbers of steps in the two sweeps, most for {label(model)} at {count(size)} images "
        f"({count(steps[0])} in {first.name} and {count(steps[1])} in {second.name}): the machines, or what else they "
        "did, differed when steps were timed. Compare sweeps that were timed on one machine with nothing else at work."
    )
    models = tuple(dict.fromkeys(model for model, _ in apart))
    return [Finding("warn", "budget", words, models, tuple(sorted({size for _, size in apart})))]


def _tuning(first: Sweep, second: Sweep, matched: Sequence[tuple[str, str]]) -> list[Finding]:
    """Who tries more learning rates finds a better one."""
    uneven, other_ways = {}, {}
    for one, other in matched:
        tried = _tuning_trials(first.plan, one), _tuning_trials(second.plan, other)
        if tried[0] == tried[1]:
            continue
        same_rates = first.plan.listed_rates(one) == second.plan.listed_rates(other)
        listed = "auto" not in (first.plan.tuning, second.plan.tuning)
        if same_rates and listed and max(map(_most_seeds, (first.plan, second.plan))) == 1:
            continue  # with one seed a race is a grid
        (other_ways if same_rates and listed else uneven)[one] = tried
    findings = []
    for level, found, advice in (
        ("refuse", uneven, "Who tries more rates finds a better one: tune both the same way, with the same rates."),
        ("warn", other_ways, "A race gives most rates fewer seeds and may choose another one: tune both the same way."),
    ):
        if found:
            said = listing([f"{label(model)} {one} and {other}" for model, (one, other) in found.items()])
            words = f"Unequal tuning, per size, in {first.name} and {second.name}: {said}. {advice}"
            findings.append(Finding(level, "tuning_trials", words, tuple(found)))
    return findings


def _most_seeds(plan: Any) -> int:
    return max(len(plan.seeds_of(size)) for size in plan.train_sizes)


def _tuning_trials(plan: Any, model: str) -> str:
    """Return in words how often an arm was tuned at each size."""
    if plan.tuning == "auto":
        return "a search"
    number = plural(len(plan.listed_rates(model)), "learning rate")
    return f"a race of {number}" if plan.race else number


def _repeats(first: Sweep, second: Sweep, matched: Sequence[tuple[str, str]]) -> list[Finding]:
    """An arm with the same settings is a check: what moves it moves the others too."""
    findings = []
    for arms in matched:
        if not have_same_settings(first, second, arms):
            continue
        errors = [
            {(point.train_size, seed): error for point in s.result.points_of(m) for seed, error in point.errors.items()}
            for s, m in zip((first, second), arms, strict=True)
        ]
        shared = [place for place in errors[0] if place in errors[1]]
        if not shared:
            continue
        apart = max(abs(errors[0][place] - errors[1][place]) for place in shared)
        name = label(arms[0])
        if apart < _FLOAT_DUST:
            words = f"{name} is the same in both sweeps, in settings and in every error that both have."
            findings.append(Finding("note", "repeated_arm", words, (arms[0],)))
            continue
        words = (
            f"{name} has the same settings in both sweeps, yet single trials differ by up to {100 * apart:.1f} points: "
            "versions, machines or threads have a say, and differences of that size between other arms mean nothing."
        )
        findings.append(Finding("warn", "repeated_arm", words, (arms[0],)))
    return findings


def _costs(first: Sweep, second: Sweep, matched: Sequence[tuple[str, str]], together: TaskResult) -> list[Finding]:
    """A larger network is no better recipe."""
    findings = []
    for arms in matched:
        names = [name for name in (first.called(arms[0]), second.called(arms[1])) if name in together.models]
        costs = check_costs(together.plan, names, together.selected)
        findings += [finding for finding in costs if finding.level != "note"]
    return findings
