"""Which trials could be added to a sweep: more seeds at its sizes, and new sizes where the crossover may lie."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator

from vitlab.analysis.outlook import REACH, Outlook
from vitlab.analysis.refinement_costs import Prices, budget_amount, two_digits
from vitlab.sweep.plan import Plan

_APART = 1.15  # factor by which a new size differs from every other at least
_MOST_SIZES = 3  # new ones to consider at a time, between the measured ones

Additions = dict[int, int]  # by train size: how many more seeds; at a new size, how many


def grow(plan: Plan, additions: Additions) -> Plan:
    """Return the plan with the additions; seeds are the next numbers, so that each is a new draw for every arm.

    Args:
        plan: the sweep's plan.
        additions: what to add.
    """
    for size in sorted(additions):
        if size in plan.train_sizes:
            plan = plan.with_seeds(size, new_seeds(plan, size, additions[size]))
        else:
            plan = plan.with_size(size, budget_amount(plan, size))
    return plan


def new_seeds(plan: Plan, train_size: int, number: int) -> list[int]:
    """Return seeds that are not in use at a size: the next whole numbers."""
    start = max(plan.seeds_of(train_size)) + 1
    return list(range(start, start + number))


def candidates(
    plan: Plan, outlook: Outlook, prices: Prices, portion: float, left: tuple[float, float], beyond_range: bool
) -> Iterator[Additions]:
    """Yield what could be added for a pair of arms.

    A size never gets more seeds at a time than it has, so that what the first ones say is not trusted too far.

    Args:
        plan: the sweep's plan.
        outlook: how things stand between the two.
        prices: what trials cost.
        portion: seconds that an addition should take at least, so that rounds are few.
        left: seconds and trials that it may take at most.
        beyond_range: whether sizes outside the measured ones may be added.
    """

    def all_that_fit(size: int, most: int) -> int:
        seconds, trials = prices.of_a_seed(size)
        return max(1, math.floor(min(most, left[0] / max(seconds, 1e-9), left[1] / trials)))

    def some(size: int, most: int) -> int:
        seconds, _ = prices.of_a_seed(size)
        return all_that_fit(size, min(most, math.ceil(portion / max(seconds, 1e-9))))

    known = {size: len(plan.seeds_of(size)) for size in plan.train_sizes}
    for number in (some, all_that_fit):
        yield from ({size: number(size, known[size])} for size in _sizes_that_matter(plan, outlook))
    wanted = [more for more in outlook.crossover.more_seeds if more.more_seeds]
    if wanted:
        yield {more.train_size: some(more.train_size, min(known[more.train_size], more.more_seeds)) for more in wanted}
    yield dict.fromkeys(plan.train_sizes, 1)
    for size in _new_sizes(plan, outlook, beyond_range):
        yield {size: len(plan.seeds)}


def _sizes_that_matter(plan: Plan, outlook: Outlook) -> list[int]:
    """Return all sizes, or those in and next to the interval: a curve's cubic pieces depend on no others."""
    low, high = outlook.crossover.interval
    if outlook.crossover.verdict != "crosses" or low is None or high is None:
        return plan.train_sizes
    first = max(bisect.bisect_right(plan.train_sizes, low) - 2, 0)
    return plan.train_sizes[first : bisect.bisect_left(plan.train_sizes, high) + 2]


def _new_sizes(plan: Plan, outlook: Outlook, beyond_range: bool) -> list[int]:
    sizes, crossover = outlook.train_sizes, outlook.crossover
    if outlook.foretold is not None:
        return [outlook.foretold[0]] if beyond_range else []
    if crossover.candidate is None:
        return []
    low, high = (end or edge for end, edge in zip(crossover.interval, (sizes[0], sizes[-1]), strict=True))
    overlapping = [pair for pair in itertools.pairwise(sizes) if pair[1] > low and pair[0] < high]
    middles = [math.sqrt(low * high), *(math.sqrt(first * last) for first, last in overlapping)]
    middles.sort(key=lambda size: abs(math.log(size / crossover.candidate)))
    wanted = middles[:_MOST_SIZES]
    if beyond_range and len(sizes) > 1:
        if crossover.interval[0] is None:
            wanted.append(sizes[0] / min(REACH, sizes[1] / sizes[0]))
        if crossover.interval[1] is None:
            wanted.append(sizes[-1] * min(REACH, sizes[-1] / sizes[-2]))
    found: list[int] = []
    for size in map(two_digits, wanted):
        others = [*plan.train_sizes, *found]
        if size >= 1 and all(max(size / other, other / size) >= _APART for other in others):
            found.append(size)
    return found
