"""What added trials cost: seconds of training, judged by the records at hand, and a budget for sizes between others."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

from vitlab.analysis.selection import Record
from vitlab.sweep.plan import MEASURED_UNITS, Plan, Trial
from vitlab.sweep.rate_search import num_undecided


class Prices:
    """Seconds of training by model and size.

    Args:
        plan: the sweep's plan.
        records: its trial records; those without seconds (failed ones) say nothing of the price.
    """

    def __init__(self, plan: Plan, records: Sequence[Record]) -> None:
        trials = {trial.id: trial for trial in plan.trials}
        self._records = {record["id"]: record for record in records if record["id"] in trials}
        self._trials = trials
        self._plan = plan
        self._seeds: dict[int, tuple[float, int]] = {}
        self._added = {(part["train_size"], seed) for part in plan.refinements or [] for seed in part["seeds"]}
        rates: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        for trial_id, record in self._records.items():
            if record.get("seconds"):
                trial = trials[trial_id]
                rates[trial.model][trial.train_size].append(record["seconds"] / trial.work)
        # The median: the first trial of a process also pays for what it loads.
        self._rates = {
            model: {size: statistics.median(own) for size, own in by_size.items()} for model, by_size in rates.items()
        }

    def of(self, trials: Iterable[Trial]) -> float:
        """Return the seconds that trials should take, each judged by the nearest size of its model."""
        return sum(self._of(trial.model, trial.train_size, trial.work) for trial in trials)

    def of_growth(self, before: Plan, after: Plan) -> tuple[float, int]:
        """Return seconds and number of the trials that a grown plan adds.

        Where learning rates are searched for, these are the trials that the search has still to name.
        """
        added = added_trials(before, after)
        later = num_undecided(after)
        seconds = sum(number * self._of(*arm, after.work_at(*arm)) for arm, number in later.items())
        return self.of(added) + seconds, len(added) + sum(later.values())

    def of_a_seed(self, train_size: int) -> tuple[float, int]:
        """Return seconds and number of the trials of one more seed at a size of the plan."""
        if train_size not in self._seeds:
            more = self._plan.with_seeds(train_size, [max(self._plan.seeds_of(train_size)) + 1])
            self._seeds[train_size] = self.of_growth(self._plan, more)
        return self._seeds[train_size]

    def spent(self) -> tuple[float, int]:
        """Return seconds and number of the trials that refinement has added and that have ended.

        A trial that failed before its time was known counts for what it should have taken, so that a refinement whose
        trials fail ends.
        """
        added = [trial for trial in self._trials.values() if (trial.train_size, trial.seed) in self._added]
        ended = [trial for trial in added if trial.id in self._records]
        seconds = sum(self._records[trial.id].get("seconds") or self.of([trial]) for trial in ended)
        return seconds, len(ended)

    def _of(self, model: str, train_size: int, work: float) -> float:
        by_size = self._rates.get(model)
        if not by_size:
            return 0.0
        near = min(by_size, key=lambda size: abs(math.log(size / train_size)))
        return by_size[near] * work


def added_trials(before: Plan, after: Plan) -> list[Trial]:
    """Return the trials of a grown plan that the plan before had not."""
    known = {(trial.train_size, trial.seed) for trial in before.trials}  # refinement adds whole seeds
    return [trial for trial in after.trials if (trial.train_size, trial.seed) not in known]


def budget_amount(plan: Plan, train_size: int) -> float:
    """Return a new size's budget: between its neighbors' in logarithms of both, beyond the last size as it grew before.

    Steps and epochs are whole numbers, seconds and multiply-accumulates need not be.

    Args:
        plan: the sweep's plan.
        train_size: the new size, in images.
    """
    sizes = plan.train_sizes
    amounts = {size: plan.budget["amount"][str(size)] for size in sizes}
    if train_size in amounts:
        return amounts[train_size]
    above = next((n for n, size in enumerate(sizes) if size > train_size), len(sizes) - 1)
    low, high = sizes[max(above - 1, 0)], sizes[max(above, min(1, len(sizes) - 1))]
    if low == high or amounts[low] == amounts[high]:
        return amounts[high]
    slope = math.log(amounts[high] / amounts[low]) / math.log(high / low)
    amount = amounts[low] * (train_size / low) ** slope
    return float(f"{amount:.1e}") if plan.budget["unit"] in MEASURED_UNITS else two_digits(amount)


def two_digits(number: float) -> int:
    """Return a number above 0 rounded to two digits, as people choose sizes."""
    return max(1, int(round(number, 1 - math.floor(math.log10(number)))))
