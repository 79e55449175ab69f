"""Where more trials narrow the crossover's interval most per second of training: `vitlab sweep --refine`.

Candidates are more seeds at each size (those that the power calculation asks for among them), and new sizes: between
the measured ones where the interval lies, and beyond them where a side of the crossing is open or the fitted curves
foretell a crossing within three times the largest size. outlook.py says how much narrower the interval should become
by each; the one that gains most per second, counting all arms and learning rates, is next.

**Only validation data steer.** Which trials are added depends on validation errors alone, so that no decision rests on
the test errors that the report then shows. Every arm gets the same new trials. The choice still looks at seeds that
the report counts too; scripts/refinement_simulation measures that the report's intervals keep their coverage.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vitlab.analysis.curve_crossing import cross_curves
from vitlab.analysis.fitted_curves import fit_curve
from vitlab.analysis.outlook import REACH, Outlook, expected_log_ratio, look
from vitlab.analysis.refinement_candidates import Additions, candidates, grow
from vitlab.analysis.refinement_costs import Prices, two_digits
from vitlab.analysis.refinement_wording import gain_words, in_minutes, settled_words, what_is_added
from vitlab.analysis.selection import Record, pair_up
from vitlab.analysis.wording import percent, plural
from vitlab.sweep.plan import Plan
from vitlab.sweep.selection import chosen_learning_rates, is_selected

LEAST_GAIN = 0.03  # of the interval's log-width: what is expected to give less is not worth running
_ROUNDS = 10  # a round takes about this part of the limit: fewer would be blind, more would start workers too often

Errors = dict[tuple[str, int], dict[int, float]]  # validation error by seed, by model and train size


@dataclass(frozen=True)
class Limits:
    """What refinement may spend in a sweep folder, over all its calls.

    Args:
        seconds: of training, above 0.
        num_trials: trials, 1 or more; None for no limit.
    """

    seconds: float = 600.0
    num_trials: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"--refine-minutes is {self.seconds / 60:g}; give minutes of training above 0")
        if self.num_trials is not None and self.num_trials < 1:
            raise ValueError(f"--refine-trials is {self.num_trials}; give 1 or more")


@dataclass(frozen=True)
class Refinement:
    """What to add to a sweep next.

    Args:
        additions: more seeds by train size; empty where refinement has ended.
        plan: the plan, grown by the additions and with the words on them.
        seconds: of training that the additions should take.
        num_trials: how many trials they are.
        words: what is added and why, or why nothing is.
    """

    additions: Additions
    plan: Plan = field(repr=False)
    seconds: float
    num_trials: int
    words: str


@dataclass(frozen=True)
class _Option:
    """A candidate with what it costs."""

    additions: Additions
    plan: Plan
    seconds: float
    num_trials: int

    @classmethod
    def of(cls, plan: Plan, additions: Additions, prices: Prices) -> _Option:
        grown = grow(plan, additions)
        return cls(additions, grown, *prices.of_growth(plan, grown))


def suggest(plan: Plan, records: Sequence[Record], limits: Limits, beyond_range: bool = True) -> Refinement:
    """Return what to add to a sweep whose trials have all ended, or in words why nothing.

    The same plan, records and limits give the same answer, whoever asks.

    Args:
        plan: the sweep's plan, with what refinement has added before.
        records: its trial records.
        limits: what all refinement of this sweep may spend; what it has spent counts from the added trials' records.
        beyond_range: whether sizes outside the measured ones may be added.

    Raises:
        ValueError: the plan has one arm, or a dial: there is no crossover to narrow.
    """
    check_refinable(plan)
    prices = Prices(plan, records)
    spent, num_spent = prices.spent()
    left = limits.seconds - spent, math.inf if limits.num_trials is None else limits.num_trials - num_spent
    if min(left) <= 0:
        return _nothing(plan, f"its limit is reached: {plural(num_spent, 'trial')}, {in_minutes(spent)} of training")
    outlooks = _outlooks(plan, records)
    if not outlooks:
        return _nothing(plan, "no two arms share a finished size and seed")
    unsettled = [outlook for outlook in outlooks if outlook is not None and not outlook.is_settled]
    if None in outlooks:
        wanted = [dict.fromkeys(plan.train_sizes, 1)]
    elif not unsettled:
        return _nothing(plan, settled_words(outlooks))
    else:
        wanted = _considered(plan, unsettled, prices, limits.seconds / _ROUNDS, left, beyond_range)
    options = [_Option.of(plan, additions, prices) for additions in wanted]
    affordable = [option for option in options if option.seconds <= left[0] and option.num_trials <= left[1]]
    if not affordable:
        return _nothing(plan, "no further seed fits into what is left of its limit")
    if None in outlooks:
        return _refinement(plan, affordable[0], "with one seed a size there is no interval")
    best = _most_per_second(affordable, unsettled)
    if best is None:
        return _nothing(plan, f"nothing within its limit should narrow the interval by {percent(LEAST_GAIN, 0)}")
    gains = [-expected_log_ratio(outlook, best.additions) for outlook in unsettled]
    most = int(np.argmax(gains))
    return _refinement(plan, best, gain_words(unsettled[most], gains[most]))


def check_refinable(plan: Plan) -> None:
    """Refuse a plan without a crossover to narrow.

    Args:
        plan: the sweep's plan.

    Raises:
        ValueError: it has one arm, or a dial.
    """
    if len(plan.models) < 2:
        raise ValueError(
            f"--refine narrows the interval of a crossover between models, and {plan.task!r} has one model "
            f"({plan.models[0]}); add another one, or leave --refine out"
        )
    if plan.dial:
        raise ValueError(
            f"--refine narrows the interval of a crossover between two models; {plan.task!r} turns a dial "
            f"({plan.dial['label']}). Leave --refine out, and add seeds or sizes in the sweep file"
        )


def _nothing(plan: Plan, why: str) -> Refinement:
    return Refinement({}, plan, 0.0, 0, f"refinement has ended: {why}")


def _refinement(plan: Plan, option: _Option, why: str) -> Refinement:
    """Return the option with words on it, which the plan keeps for the report."""
    words = f"{what_is_added(plan, option.additions)}: {why}; about {in_minutes(option.seconds)} of training"
    seeds = {size: sorted(set(option.plan.seeds_of(size)) - _known_seeds(plan, size)) for size in option.additions}
    number = 1 + max((part["round"] for part in plan.refinements or ()), default=0)
    parts = [{"round": number, "train_size": size, "seeds": own, "words": words} for size, own in sorted(seeds.items())]
    grown = option.plan.with_refinements(parts)
    return Refinement(option.additions, grown, option.seconds, option.num_trials, words)


def _known_seeds(plan: Plan, train_size: int) -> set[int]:
    return set(plan.seeds_of(train_size)) if train_size in plan.train_sizes else set()


def _considered(
    plan: Plan,
    outlooks: Sequence[Outlook],
    prices: Prices,
    portion: float,
    left: tuple[float, float],
    beyond_range: bool,
) -> list[Additions]:
    """Return the candidates of all pairs, each once."""
    found = [own for outlook in outlooks for own in candidates(plan, outlook, prices, portion, left, beyond_range)]
    return [additions for n, additions in enumerate(found) if additions not in found[:n]]


def _most_per_second(options: Sequence[_Option], outlooks: Sequence[Outlook]) -> _Option | None:
    """Return the option that narrows the intervals of all pairs most per second, or None where none is worth it."""
    best, most = None, 0.0
    for option in options:
        gains = [-expected_log_ratio(outlook, option.additions) for outlook in outlooks]
        per_second = sum(gains) / max(option.seconds, 1e-9)
        if max(gains) >= -math.log(1 - LEAST_GAIN) and per_second > most:
            best, most = option, per_second
    return best


def _outlooks(plan: Plan, records: Sequence[Record]) -> list[Outlook | None]:
    """Return how things stand between every two arms that share a size and seed; None for a pair with one seed a size.

    The validation errors of the chosen trials speak here, as the test errors do in the report.
    """
    planned = {trial.id for trial in plan.trials}
    records = [record for record in records if record["id"] in planned]
    chosen = chosen_learning_rates(records, plan)
    errors: Errors = {}
    for record in records:
        if is_selected(record, chosen):
            place = record["model"], record["train_size"]
            errors.setdefault(place, {})[record["seed"]] = round(1 - record["val"]["accuracy"], 12)
    found = []
    for models in itertools.combinations(plan.models, 2):
        sizes, table = pair_up(errors, models)
        if sizes:
            outlook = look(models, sizes, table)
            found.append(_look_beyond(outlook, errors) if outlook is not None else None)
    return found


def _look_beyond(outlook: Outlook, errors: Errors) -> Outlook:
    """Return the outlook with the size by which the fitted curves cross, where no crossing was measured."""
    largest = outlook.train_sizes[-1]
    if outlook.crossover.candidate is not None:
        return outlook
    fits = [
        fit_curve({size: list(errors[model, size].values()) for size in outlook.train_sizes}).estimate
        for model in outlook.models
    ]
    if None in fits or len(outlook.train_sizes) < 2:
        return outlook
    crossing = cross_curves(outlook.models, *fits)
    if not crossing.extrapolated or crossing.size > REACH * largest:
        return outlook
    size = two_digits(min(REACH * largest, max(2 * largest, 1.5 * crossing.size)))  # where a lead should show
    foretold = size, tuple(float(fit.predict([size]).errors[0]) for fit in fits)
    return dataclasses.replace(outlook, foretold=foretold)
