"""What a sweep consists of: models x train sizes x seeds x learning rates.

What is planned may grow while a sweep runs: seeds, sizes and learning rates may come later. No torch here.
"""

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from vitlab.sweep.nested_settings import merge
from vitlab.sweep.planned_trial import Trial, training_length, work_of

BUDGET_UNITS = ("steps", "epochs", "seconds", "macs")
MEASURED_UNITS = ("seconds", "macs")  # budget.py turns them into steps of each arm, once per folder
# What a sweep sets for each trial, so that a config must not.
AXES = (
    *("seed_everything", "data.train_size", "data.seed", "model.learning_rate"),
    *("trainer.max_steps", "trainer.max_epochs", "trainer.val_check_interval", "trainer.check_val_every_n_epoch"),
    "trainer.limit_train_batches",  # it would draw another subset every epoch
)
_ONE_DEVICE = {"trainer": {"devices": 1}}  # not all that there are: workers share the machine by trials


@dataclass(frozen=True)
class Plan:
    """A sweep, resolved: nothing in it refers to another file.

    Args:
        task: Short name of the question, such as `glyphs-both`; the report groups by it.
        title: One line for people.
        model_settings: Settings of each arm by its name, in the order of the YAML file.
        train_sizes: Numbers of training images, ascending.
        seeds: One draw of the subset, the order and the initialization each.
        learning_rates: The grid of each arm; all arms have the same number.
        budget: `unit` (steps, epochs, seconds or macs) and `amount`, a number for each train size. With seconds and
            macs also what these are in `steps`, by model and size, and what was `measured` for it (see `budget`).
        settings: What all arms share, as `vitlab fit` would read it from YAML.
        dial: None, or what the arms differ in when that is a number: `label` names it with its unit, `arms` gives each
            arm's family (None where there is one) and its place on the dial.
        seeds_at: None, or further seeds by train size (as text), on top of `seeds`, the same for all arms.
        sizes_added: None, or which of the train sizes came later than the sweep file.
        rates_at: None, or by model and train size (as text) the learning rates that came later, ascending, each with
            the seeds that it is for: `[[0.002, [0, 1]], ...]`. They come on top of the grid, or are all there is
            where the grid is empty because rates are searched for.
        refinements: None, or what refinement has added (`vitlab sweep --refine`) and why, a part for each round and
            train size: `{"round": 1, "train_size": 600, "seeds": [3, 4], "words": ...}`.
        race: None, or by model the learning rates that race each other over the seeds (see rate_race.py); the grids are
            empty then.
    """

    task: str
    title: str
    model_settings: dict[str, dict[str, Any]]
    train_sizes: list[int]
    seeds: list[int]
    learning_rates: dict[str, list[float]]
    budget: dict[str, Any]
    settings: dict[str, Any]
    dial: dict[str, Any] | None = None
    seeds_at: dict[str, list[int]] | None = None
    sizes_added: list[int] | None = None
    rates_at: dict[str, dict[str, list[list[Any]]]] | None = None
    refinements: list[dict[str, Any]] | None = None
    race: dict[str, list[float]] | None = None

    @property
    def models(self) -> list[str]:
        """The names of the arms."""
        return list(self.model_settings)

    @cached_property
    def trials(self) -> list[Trial]:
        """All trials, small data sizes first so that a first picture is there early."""
        arms = itertools.product(self.train_sizes, self.models)
        return [trial for size, model in arms for trial in self.trials_of(model, size)]

    @property
    def tuning(self) -> Literal["grid", "race", "auto"]:
        """How learning rates are tuned: all of a list at all seeds, a race between those of a list, or a search."""
        return "race" if self.race else "grid" if any(self.learning_rates.values()) else "auto"

    @property
    def searches_rates(self) -> bool:
        """Whether trials are added as the sweep goes, by a race or a search for learning rates."""
        return self.tuning != "grid"

    def listed_rates(self, model: str) -> list[float]:
        """Return an arm's learning rates as the sweep file lists them, ascending; none where they are searched for."""
        return (self.race or self.learning_rates)[model]

    def seeds_of(self, train_size: int) -> list[int]:
        """Return the seeds at a train size: those of the sweep and those that came later."""
        return [*self.seeds, *(self.seeds_at or {}).get(str(train_size), ())]

    def added_rates(self, model: str, train_size: int) -> dict[float, list[int]]:
        """Return the learning rates of an arm that came later, ascending, each with its seeds."""
        return dict((self.rates_at or {}).get(model, {}).get(str(train_size), ()))

    def rates_of(self, model: str, train_size: int) -> list[float]:
        """Return all learning rates of an arm, at however many seeds, ascending."""
        return sorted({*self.learning_rates[model], *self.added_rates(model, train_size)})

    def settings_of(self, model: str) -> dict[str, Any]:
        """Return what all trials of an arm have in common."""
        return merge(merge(_ONE_DEVICE, self.settings), self.model_settings[model])

    def budget_of(self, model: str, train_size: int) -> dict[str, Any]:
        """Return what a trial of an arm trains for, in steps or epochs."""
        unit, amount = self.budget["unit"], self.budget["amount"][str(train_size)]
        if unit not in MEASURED_UNITS:
            return {"unit": unit, "amount": amount}
        steps = self.budget.get("steps", {}).get(model, {}).get(str(train_size))
        if steps is None:
            words = f"how many steps of {model} with {train_size} images are {amount:g} {unit} has not been measured"
            raise ValueError(f"{words}; `vitlab sweep` does that, or vitlab.sweep.budget.resolve_budget")
        return {"unit": "steps", "amount": steps}

    def with_seeds(self, train_size: int, seeds: Iterable[int]) -> "Plan":
        """Return the plan with further seeds at a train size; all arms get them at all rates of their grids.

        Raises:
            ValueError: The plan has no such size.
        """
        self._check_size(train_size)
        new = sorted({*seeds} - {*self.seeds_of(train_size)})
        if not new:
            return self
        more = sorted([*(self.seeds_at or {}).get(str(train_size), ()), *new])
        return replace(self, seeds_at=_in_order({**(self.seeds_at or {}), str(train_size): more}))

    def with_size(self, train_size: int, amount: float, steps: Mapping[str, int] | None = None) -> "Plan":
        """Return the plan with a further train size and its budget, in the budget's unit; all arms get it.

        Args:
            train_size: In images.
            amount: Of the budget.
            steps: What a budget in seconds or macs is, by model; where not given, what it is at a step's cost between
                those at the next measured sizes.

        Raises:
            ValueError: The plan has the size, with another budget.
        """
        amounts = self.budget["amount"]
        if amounts.get(str(train_size), amount) != amount:
            known = f"{amounts[str(train_size)]} {self.budget['unit']}"
            raise ValueError(f"the sweep has {train_size} images already, with a budget of {known}, not {amount}")
        if train_size in self.train_sizes:
            return self
        return replace(
            self,
            train_sizes=sorted([*self.train_sizes, train_size]),
            budget=self._budget_with(train_size, amount, steps or {}),
            sizes_added=sorted([*(self.sizes_added or ()), train_size]),
        )

    def with_rates(self, model: str, train_size: int, rates: Iterable[float], seeds: Iterable[int]) -> "Plan":
        """Return the plan with learning rates for one arm at one train size, for some of the seeds there.

        Raises:
            ValueError: The plan has no such model, size or seed there.
        """
        self._check_size(train_size)
        if model not in self.model_settings:
            raise ValueError(f"the sweep has no model {model!r}; it has {', '.join(self.models)}")
        seeds = set(seeds)
        if unknown := seeds - {*self.seeds_of(train_size)}:
            raise ValueError(f"the sweep has no seed {min(unknown)} at {train_size} images; add it first")
        added = self.added_rates(model, train_size)
        for rate in rates:
            added[rate] = sorted(seeds.union(added.get(rate, ())))
        rows = [[rate, added[rate]] for rate in sorted(added) if added[rate]]
        of_model = (self.rates_at or {}).get(model, {})
        if rows == of_model.get(str(train_size), []):
            return self
        rates_at = {**(self.rates_at or {}), model: _in_order({**of_model, str(train_size): rows})}
        return replace(self, rates_at={name: rates_at[name] for name in self.models if name in rates_at})

    def without_rates(self, arms: Collection[tuple[str, int]]) -> "Plan":
        """Return the plan without the learning rates that came later for these arms (model and train size)."""
        left = {
            model: {size: rows for size, rows in by_size.items() if (model, int(size)) not in arms}
            for model, by_size in (self.rates_at or {}).items()
        }
        return replace(self, rates_at={model: by_size for model, by_size in left.items() if by_size} or None)

    def with_refinements(self, parts: Iterable[dict[str, Any]]) -> "Plan":
        """Return the plan with what refinement says of its additions, which other methods make."""
        known = self.refinements or []
        parts = [*known, *(part for part in parts if part not in known)]
        # In an order of their own, so that plans that have grown in another order are equal.
        ordered = sorted(parts, key=lambda part: (part["round"], part["train_size"], part["seeds"], part["words"]))
        return replace(self, refinements=ordered) if ordered != known else self

    def with_growth_of(self, other: "Plan") -> "Plan":
        """Return the plan with what another plan of the same sweep has grown by; the rest stays as it is here."""
        plan = self
        for size in other.sizes_added or ():
            if size not in plan.train_sizes:
                steps = {model: own[str(size)] for model, own in other.budget.get("steps", {}).items()}
                plan = plan.with_size(size, other.budget["amount"][str(size)], steps)
        for size in plan.train_sizes:
            plan = plan.with_seeds(size, (other.seeds_at or {}).get(str(size), ()))
            known = {*plan.seeds_of(size)}
            for model in plan.models:
                for rate, seeds in other.added_rates(model, size).items():
                    plan = plan.with_rates(model, size, [rate], known.intersection(seeds))
        return plan.with_refinements(other.refinements or ())

    def without_growth(self) -> "Plan":
        """Return the plan as its sweep file has it."""
        sizes = [size for size in self.train_sizes if size not in (self.sizes_added or ())]
        names = [str(size) for size in sizes]
        budget = {**self.budget, "amount": {name: self.budget["amount"][name] for name in names}}
        if "steps" in budget:
            budget["steps"] = {
                model: {name: own[name] for name in names if name in own} for model, own in budget["steps"].items()
            }
        growth = dict.fromkeys(("seeds_at", "sizes_added", "rates_at", "refinements"))
        return replace(self, train_sizes=sizes, budget=budget, **growth)

    def _check_size(self, train_size: int) -> None:
        if train_size not in self.train_sizes:
            sizes = ", ".join(map(str, self.train_sizes))
            raise ValueError(f"the sweep has no {train_size} images; it has {sizes}: add the size first")

    def trials_of(self, model: str, train_size: int) -> Iterator[Trial]:
        """Yield the trials of one arm; what they have in common they share, so that many take little room."""
        budget = self.budget_of(model, train_size)
        axes = {
            "seed_everything": None,
            "data": {"train_size": train_size, "seed": None},
            "model": {"learning_rate": None},
            "trainer": training_length(**budget),
        }
        shared = merge(self.settings_of(model), axes)
        grid, added = self.learning_rates[model], self.added_rates(model, train_size)
        for seed in self.seeds_of(train_size):
            settings = {**shared, "seed_everything": seed, "data": {**shared["data"], "seed": seed}}
            extra = [rate for rate, seeds in added.items() if seed in seeds and rate not in grid]
            for rate in sorted([*grid, *extra]) if extra else grid:
                own = {**settings, "model": {**shared["model"], "learning_rate": rate}}
                yield Trial(self.task, model, train_size, seed, rate, budget, own)

    def work_at(self, model: str, train_size: int) -> int:
        """Return how long a trial of an arm takes, in the units of `Trial.work`."""
        return work_of(**self.budget_of(model, train_size), train_size=train_size)

    def _budget_with(self, train_size: int, amount: float, steps: Mapping[str, int]) -> dict[str, Any]:
        size = str(train_size)
        budget = {**self.budget, "amount": {**self.budget["amount"], size: amount}}
        if "steps" in budget:
            costs = budget["measured"]["step"]
            for model in self.models:
                number = steps.get(model) or max(1, math.floor(amount / _cost_at(train_size, costs[model])))
                budget["steps"] = {**budget["steps"], model: {**budget["steps"][model], size: number}}
        return budget


def _cost_at(train_size: int, costs: Mapping[str, float]) -> float:
    """Return what a step costs at a size, in a line between its neighbors: below a batch it grows with the images."""
    sizes = sorted(map(int, costs))
    low = max((size for size in sizes if size <= train_size), default=sizes[0])
    high = min((size for size in sizes if size >= train_size), default=sizes[-1])
    share = (train_size - low) / (high - low) if high > low else 0.0
    return costs[str(low)] + share * (costs[str(high)] - costs[str(low)])


def _in_order(by_size: dict[str, Any]) -> dict[str, Any]:
    """Sort by train size, so that plans that have grown in another order are equal and read the same."""
    return {size: by_size[size] for size in sorted(by_size, key=int)}
