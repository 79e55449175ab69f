"""In what the settings of two sweeps differ, as a short list that people can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitlab.analysis.arms import differing
from vitlab.analysis.sweep_pairing import Sweep, tuning_of, unequal_budgets
from vitlab.analysis.wording import amount, count, label, listing

_LONGEST_VALUE = 120


@dataclass(frozen=True)
class SettingChange:
    """One setting that two sweeps have differently.

    Args:
        arms: the arms (of the first sweep) that it holds for; empty for the sweep as a whole.
        setting: its dotted name as `vitlab fit` takes it, or what of the sweep it is: budget, train sizes and so on.
        first: value in the first sweep; "not set" where there is none.
        second: value in the second sweep.
    """

    arms: tuple[str, ...]
    setting: str
    first: str
    second: str


def compare_settings(first: Sweep, second: Sweep, matched: Sequence[tuple[str, str]]) -> list[SettingChange]:
    """Return what differs: of the sweeps as a whole, then of the arms that belong together.

    Args:
        first: a sweep.
        second: another one of the same task.
        matched: arms that belong together.
    """
    plans = first.plan, second.plan
    rows = []
    for name, values in (
        ("arms", [listing([label(model) for model in plan.models]) for plan in plans]),
        ("train sizes", [listing([count(size) for size in plan.train_sizes]) for plan in plans]),
        ("seeds", [listing([str(seed) for seed in plan.seeds]) for plan in plans]),
    ):
        if values[0] != values[1]:
            rows.append(SettingChange((), name, *(_cut(value) for value in values)))
    if unequal_budgets(*plans):
        rows.append(SettingChange((), "budget", *(_budget(plan.budget) for plan in plans)))
    return rows + _of_arms(plans, matched)


def _of_arms(plans: tuple[Any, Any], matched: Sequence[tuple[str, str]]) -> list[SettingChange]:
    """Return the settings in which matched arms differ; what all of them have alike stands there once."""
    where: dict[tuple[str, str, str], list[str]] = {}
    for arms in matched:
        own = [plan.settings_of(arm) for plan, arm in zip(plans, arms, strict=True)]
        changes = {name: (values["0"], values["1"]) for name, values in differing({"0": own[0], "1": own[1]}).items()}
        rates = tuple(tuning_of(plan, arm) for plan, arm in zip(plans, arms, strict=True))
        if rates[0] != rates[1]:
            changes["learning rates"] = rates
        for name, values in changes.items():
            where.setdefault((name, *map(_cut, values)), []).append(arms[0])
    everywhere = len(matched)
    return [
        SettingChange(() if len(arms) == everywhere > 1 else tuple(arms), *change) for change, arms in where.items()
    ]


def _budget(budget: Mapping[str, Any]) -> str:
    amounts = [f"{amount(one)} at {count(int(size))}" for size, one in budget["amount"].items()]
    return _cut(f"{budget['unit']}: {listing(amounts)}")


def _cut(value: str) -> str:
    return value if len(value) <= _LONGEST_VALUE else f"{value[: _LONGEST_VALUE - 1]}\u2026"


def is_only(changes: Sequence[SettingChange], settings: Sequence[str]) -> bool:
    """Say whether the sweeps differ in nothing but these, apart from which sizes and seeds they have.

    Args:
        changes: what differs.
        settings: names.
    """
    own = {change.setting for change in changes} - {"arms", "train sizes", "seeds"}
    return bool(own) and own <= set(settings)
