"""Which learning rate counts: the one that is best on validation data, per model and data size.

It lives with the sweep and not with the analysis because the launcher needs it: test data is read for the selected
trials alone (DESIGN: a fair comparison, rule 1), so the choice is made before any test metric exists.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable

from vitlab.sweep.plan import Plan
from vitlab.sweep.store import Record

Arm = tuple[str, int]  # (model, train_size)


def chosen_learning_rates(records: Iterable[Record], plan: Plan | None = None) -> dict[Arm, float]:
    """Choose a learning rate for every model and data size by the mean validation accuracy over its seeds.

    A learning rate at which some seed failed is chosen only where none went through without a failure, and then by the
    seeds that did: a rate that diverges now and then is not one to recommend. Ties go to the smaller rate.

    Where a plan has rates with some of the seeds only, they are there to look for the best, and one lucky seed must not
    win: the choice is among the rates of an arm that are planned with the most seeds.

    Args:
        records: Trial records of one sweep, finished or failed.
        plan: The sweep's plan; None for a grid, in which all rates have all seeds.

    Returns:
        The chosen learning rate by (model, train_size); an arm whose trials all failed is absent.
    """
    accuracies: dict[Arm, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    failures: dict[Arm, dict[float, int]] = defaultdict(lambda: defaultdict(int))
    for record in records:
        arm, rate = (record["model"], record["train_size"]), record["learning_rate"]
        if record["status"] == "done":
            accuracies[arm][rate].append(record["val"]["accuracy"])
        else:
            failures[arm][rate] += 1

    def preference(arm: Arm, rate: float) -> tuple[int, float, float]:
        mean = math.fsum(accuracies[arm][rate]) / len(accuracies[arm][rate])
        return (-failures[arm][rate], mean, -rate)

    return {
        arm: max(_candidates(rates, plan, *arm), key=lambda rate: preference(arm, rate))
        for arm, rates in accuracies.items()
    }


def _candidates(rates: Collection[float], plan: Plan | None, model: str, train_size: int) -> Collection[float]:
    """Return the rates among which the choice is: all of a grid; else those that are planned with the most seeds."""
    if plan is None or not plan.rates_at:
        return rates
    num_seeds = {rate: len(seeds) for rate, seeds in plan.added_rates(model, train_size).items()}
    grid = plan.learning_rates.get(model, ())
    num_seeds |= dict.fromkeys(grid, len(plan.seeds_of(train_size)))
    most = max(num_seeds.values(), default=0)
    return [rate for rate in rates if num_seeds.get(rate) == most] or rates


def is_selected(record: Record, chosen: dict[Arm, float]) -> bool:
    """Say whether a finished trial is one whose test data may be read."""
    return record["status"] == "done" and chosen.get((record["model"], record["train_size"])) == record["learning_rate"]
