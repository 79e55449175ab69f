"""What refinement adds and why, in words that the plan keeps and the report shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vitlab.analysis.outlook import Outlook
from vitlab.analysis.wording import about, count, interval_of_sizes, label, listing, percent, plural
from vitlab.sweep.plan import Plan


def what_is_added(plan: Plan, additions: dict[int, int]) -> str:
    """Say "3 more seeds at 2,000 images", or "a new size, 1,100 images, with 3 seeds".

    Args:
        plan: the plan before.
        additions: seeds by train size.
    """
    if len(set(additions.values())) == 1 and set(additions) == set(plan.train_sizes) and len(additions) > 1:
        return f"{plural(next(iter(additions.values())), 'more seed')} at every size"
    parts = []
    for size, number in sorted(additions.items()):
        if size in plan.train_sizes:
            parts.append(f"{plural(number, 'more seed')} at {count(size)} images")
        else:
            parts.append(f"a new size, {count(size)} images, with {plural(number, 'seed')}")
    return listing(parts)


def gain_words(outlook: Outlook, gain: float) -> str:
    """Say what should become of the interval.

    Args:
        outlook: how things stand between two models.
        gain: expected fall of the logarithm of the interval's log-width.
    """
    pair, sizes = " and ".join(label(model) for model in outlook.models), outlook.train_sizes
    crossover = outlook.crossover
    left = math.exp(-gain)
    if crossover.verdict == "crosses":
        low, high = crossover.interval
        center = math.sqrt(low * high)
        then = [center * (end / center) ** left for end in (low, high)]
        now = interval_of_sizes(crossover.interval, sizes[0], sizes[-1])
        return (
            f"on validation data, the interval of the crossover of {pair}, {now}, should shrink to about "
            f"{interval_of_sizes(then, sizes[0], sizes[-1])}"
        )
    if outlook.foretold is not None:
        why = f"on validation data, the curves of {pair} should cross before {count(outlook.foretold[0])} images"
    else:
        why = f"on validation data, it is not clear at every size who of {pair} leads"
    return f"{why}; the range of sizes in doubt should shrink by {percent(1 - left, 0)}"


def settled_words(outlooks: Sequence[Outlook]) -> str:
    """Say why there is nothing to narrow."""
    words = []
    for outlook in outlooks:
        pair, crossover = " and ".join(label(model) for model in outlook.models), outlook.crossover
        if crossover.verdict == "crosses":
            interval = interval_of_sizes(crossover.interval, outlook.train_sizes[0], outlook.train_sizes[-1])
            words.append(f"the interval of the crossover of {pair} on validation data, {interval}, is narrow enough")
        else:
            (other,) = set(outlook.models) - {crossover.leader_after}
            words.append(f"{label(crossover.leader_after)} leads {label(other)} for sure at every measured size")
    return "; ".join(words)


def in_minutes(seconds: float) -> str:
    """Return a time as "40 seconds" or "4 minutes"."""
    if seconds < 90:
        return plural(max(1, round(seconds)), "second")
    return f"{about(seconds / 60)} minutes"
