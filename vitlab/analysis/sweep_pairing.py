"""What two sweeps of one task have in common: arms, images and seeds; and both as one, to be drawn in one chart.

Arms belong together by name, and what is left by family where each sweep has one of it: a new ViT stands against the
old one whatever it is called. Errors are paired seed by seed where the settings of the data say that equal seeds drew
equal subsets.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitlab.analysis.arms import read_arm
from vitlab.analysis.selection import Point
from vitlab.analysis.task_result import TaskResult
from vitlab.analysis.wording import arm_in_sweep, listing

# Settings of the data that change neither which images an arm learns from nor which it is tested on.
_SAME_IMAGES_ANYWAY = ("augmentation", "batch_size", "num_workers", "residency", "train_size", "seed")


@dataclass(frozen=True)
class Sweep:
    """One of the sweeps that are compared.

    Args:
        name: of its folder, made unique.
        result: its analysis.
        fingerprint: of the content of its data set, as its subsets' manifests tell; None where there is none.
    """

    name: str
    result: TaskResult
    fingerprint: str | None = None

    @property
    def plan(self) -> Any:
        """Return the sweep's plan."""
        return self.result.plan

    def called(self, model: str) -> str:
        """Return how an arm is called beside those of another sweep."""
        return arm_in_sweep(model, self.name)


def match_arms(first: Sweep, second: Sweep) -> list[tuple[str, str]]:
    """Return the arms that belong together, as names in the first and the second sweep.

    Args:
        first: a sweep.
        second: another one of the same task.
    """
    present = [sweep.result.models for sweep in (first, second)]
    matched = {model: model for model in present[0] if model in present[1]}
    rest = [[model for model in models if model not in matched] for models in present]
    families = [
        {model: read_arm(model, sweep.plan.settings_of(model)).family for model in models}
        for sweep, models in zip((first, second), rest, strict=True)
    ]
    for model, family in families[0].items():
        others = [other for other, kind in families[1].items() if kind == family]
        if family and len(others) == 1 and list(families[0].values()).count(family) == 1:
            matched[model] = others[0]
    return [(model, matched[model]) for model in present[0] if model in matched]


def have_same_settings(first: Sweep, second: Sweep, arms: tuple[str, str]) -> bool:
    """Say whether two arms are one: the same settings, learning rates, and budgets at the sizes that both sweeps have.

    Args:
        first: a sweep.
        second: another one of the same task.
        arms: names in the first and the second.
    """
    one, other = first.plan, second.plan
    same_rates = tuning_of(one, arms[0]) == tuning_of(other, arms[1])
    same_settings = one.settings_of(arms[0]) == other.settings_of(arms[1])
    return same_settings and same_rates and not unequal_budgets(one, other) and _same_steps(one, other, arms)


def tuning_of(plan: Any, model: str) -> str:
    """Return in words which learning rates an arm could get, and how one of them was chosen.

    Args:
        plan: a plan.
        model: one of its arms.
    """
    listed = listing([f"{rate:g}" for rate in sorted(plan.listed_rates(model))])
    return {"grid": listed, "race": f"a race of {listed}", "auto": "a search"}[plan.tuning]


def _same_steps(one: Any, other: Any, arms: tuple[str, str]) -> bool:
    """A budget in seconds is as many steps as its machine made of it."""
    shared = [size for size in one.train_sizes if size in other.train_sizes]
    return all(one.budget_of(arms[0], size) == other.budget_of(arms[1], size) for size in shared)


def unequal_budgets(first: Any, second: Any) -> list[int]:
    """Return the shared sizes at which two plans have different budgets.

    Args:
        first: a plan.
        second: another one.
    """
    shared = [size for size in first.train_sizes if size in second.train_sizes]
    budgets = [(plan.budget["unit"], plan.budget["amount"]) for plan in (first, second)]
    return [size for size in shared if len({(unit, amount[str(size)]) for unit, amount in budgets}) > 1]


def images_of(sweep: Sweep, model: str) -> str:
    """Return what decides which images an arm learns from and is tested on, apart from size and seed.

    Args:
        sweep: a sweep.
        model: its arm.
    """
    data = sweep.plan.settings_of(model).get("data", {})
    return json.dumps({key: value for key, value in data.items() if key not in _SAME_IMAGES_ANYWAY}, sort_keys=True)


def share_images(first: Sweep, second: Sweep, arms: tuple[str, str]) -> bool:
    """Say whether equal seeds and sizes mean equal images for two arms.

    Args:
        first: a sweep.
        second: another one of the same task.
        arms: names in the first and the second.
    """
    known = first.fingerprint is not None and second.fingerprint is not None
    if known and first.fingerprint != second.fingerprint:
        return False
    return images_of(first, arms[0]) == images_of(second, arms[1])


def arms_drawn_once(first: Sweep, second: Sweep, matched: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the matched arms that are one in both settings and measured errors, so that one line stands for both.

    Args:
        first: a sweep.
        second: another one of the same task.
        matched: arms that belong together.
    """

    def errors(sweep: Sweep, model: str) -> dict[int, dict[int, float]]:
        return {point.train_size: point.errors for point in sweep.result.points_of(model)}

    return [
        arms
        for arms in matched
        if have_same_settings(first, second, arms) and errors(first, arms[0]) == errors(second, arms[1])
    ]


def names_in_one(first: Sweep, second: Sweep, matched: Sequence[tuple[str, str]]) -> tuple[dict[str, str], ...]:
    """Return how each sweep's arms are called where both are drawn as one: "ViT @ sweep", or "ViT @ both" if equal.

    Args:
        first: a sweep.
        second: another one of the same task.
        matched: arms that belong together.
    """
    names = tuple({model: sweep.called(model) for model in sweep.plan.models} for sweep in (first, second))
    for one, other in arms_drawn_once(first, second, matched):
        names[0][one] = names[1][other] = arm_in_sweep(one, "both")
    return names


def as_one(first: Sweep, second: Sweep, names: tuple[dict[str, str], ...], name: str) -> TaskResult:
    """Return both sweeps as one analysis; what is equal in both stands there once.

    Args:
        first: a sweep.
        second: another one of the same task.
        names: how each sweep's arms are called.
        name: how to call the task.
    """
    own = names[0], {model: called for model, called in names[1].items() if called not in names[0].values()}
    both = list(zip((first, second), own, strict=True))
    parts = [_renamed(sweep.result, called) for sweep, called in both]
    plan = dataclasses.replace(
        first.plan,
        model_settings={called[m]: sweep.plan.settings_of(m) for sweep, called in both for m in called},
        train_sizes=sorted({*first.plan.train_sizes, *second.plan.train_sizes}),
        seeds=sorted({*first.plan.seeds, *second.plan.seeds}),
        learning_rates={
            called[m]: sorted({rate for size in sweep.plan.train_sizes for rate in sweep.plan.rates_of(m, size)})
            for sweep, called in both
            for m in called
        },
        settings={},
        **dict.fromkeys(("dial", "race", "seeds_at", "sizes_added", "rates_at", "refinements")),
    )
    return TaskResult(
        name=name,
        plan=plan,
        records=[record for part in parts for record in part["records"]],
        selected=[record for part in parts for record in part["selected"]],
        points=[point for part in parts for point in part["points"]],
        fits={model: fit for part in parts for model, fit in part["fits"].items()},
        pairs=[],
        findings=[],
        dial=None,
        nll_fits={model: fit for part in parts for model, fit in part["nll_fits"].items()},
        most_frequent_class_error=_shared(*(one.result.most_frequent_class_error for one in (first, second))),
    )


def _shared(first: float | None, second: float | None) -> float | None:
    return first if first == second else None


def _renamed(result: TaskResult, names: Mapping[str, str]) -> dict[str, Any]:
    def records(of: Sequence[Mapping]) -> list[dict]:
        return [{**record, "model": names[record["model"]]} for record in of if record["model"] in names]

    points: list[Point] = [
        dataclasses.replace(point, model=names[point.model]) for point in result.points if point.model in names
    ]
    fits, nll_fits = (
        {names[model]: fit for model, fit in fits.items() if model in names} for fits in (result.fits, result.nll_fits)
    )
    return {
        "records": records(result.records),
        "selected": records(result.selected),
        "points": points,
        "fits": fits,
        "nll_fits": nll_fits,
    }
