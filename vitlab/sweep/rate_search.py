"""The search behind `learning_rates: auto`: which trials come next, told from the validation accuracies so far.

Rates stand on a ladder: 1, 2, 5 in every decade. An arm (a model at a train size) begins with one seed at four rates
two rungs apart, around what was chosen at the next smaller size. The bracket widens while its best is on its edge; then
the rungs beside the best are tried. The better rates get a second seed, and the three best of those all others: only
rates with all seeds can be chosen, by the rule that holds for grids (`selection.chosen_learning_rates`). It is a small
successive halving (arXiv 1502.07943) on a ladder.

A wider bracket is paid for with fewer second seeds, so that every arm has the same number of trials whatever it meets:
no arm is tuned better than another. Nothing is remembered but the trials in the plan: whoever has the plan and
the records finds the same trials, so several launchers may search at once, and a killed one is missed by nobody.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from vitlab.sweep.plan import Plan, Trial
from vitlab.sweep.rate_race import next_in_race, num_rates
from vitlab.sweep.selection import chosen_learning_rates

LOWEST, HIGHEST = -18, 3  # rungs: 1e-6 and 10, beyond which nobody has found a learning rate that trains
_START = -8  # 0.002, where nothing is known: the middle of what is in use for Adam and its kin
_BRACKET = (-3, -1, 1, 3)  # rungs around the middle: a factor of about 100 in all
_FEWEST, _MOST = 6, 8  # rates with the first seed
_FIRST_TWO = 11  # trials with the first and the second seed together
_FINALISTS = 3  # rates with all other seeds

_Scores = dict[float, dict[int, float | None]]  # by rate and seed; None is a trial that has not ended


def rate_at(rung: int) -> float:
    """Return the rate on a rung of the ladder: 0 is 1, and three rungs are a factor of ten."""
    return float(f"{(1, 2, 5)[rung % 3]}e{rung // 3}")


def rung_of(rate: float) -> int:
    """Return the rung nearest to a rate."""
    near = round(3 * math.log10(rate))
    return min(range(near - 1, near + 2), key=lambda rung: abs(math.log(rate_at(rung) / rate)))


def num_trials(plan: Plan, train_size: int) -> int:
    """Return how many trials the search of one arm takes, at any size the same for all models."""
    num_seeds = len(plan.seeds_of(train_size))
    if plan.race:
        return sum(num_rates(len(next(iter(plan.race.values()))), num_seeds))
    return _MOST if num_seeds == 1 else _FIRST_TWO + _FINALISTS * (num_seeds - 2)


def num_undecided(plan: Plan) -> dict[tuple[str, int], int]:
    """Return how many trials the search has still to add, by model and train size; those without any are left out."""
    if not plan.searches_rates:
        return {}
    arms = ((model, size) for size in plan.train_sizes for model in plan.models)
    left = {arm: max(num_trials(plan, arm[1]) - _num_planned(plan, *arm), _num_untouched(plan, *arm)) for arm in arms}
    return {arm: number for arm, number in left.items() if number > 0}


def _num_untouched(plan: Plan, model: str, size: int) -> int:
    """Return how many trials the seeds without any take at least; merged folders may have had too many at others."""
    touched = {seed for seeds in plan.added_rates(model, size).values() for seed in seeds}
    return len({*plan.seeds_of(size)} - touched) * (1 if plan.race else _FINALISTS)


def unstarted_trials(plan: Plan) -> list[Trial]:
    """Return one trial of each arm that the search has not come to: what can be known of it is known from this."""
    arms = [arm for arm in num_undecided(plan) if not _num_planned(plan, *arm)]
    for model, size in arms:
        plan = plan.with_rates(model, size, [rate_at(_START)], plan.seeds_of(size)[:1])
    return [trial for model, size in arms for trial in plan.trials_of(model, size)]


def grown(plan: Plan, records: Mapping[str, Mapping[str, Any] | None], models: Iterable[str] | None = None) -> Plan:
    """Return the plan with all trials that come next; the same plan where there are none.

    Args:
        plan: A sweep; one whose rates are a grid never grows here.
        records: Trial records by id; of each, the status and the validation accuracy are read, and nothing else.
        models: Which models to look at; None for all.
    """
    if not plan.searches_rates:
        return plan
    for model in plan.models if models is None else models:
        middle: int | None = _START
        for size in plan.train_sizes:
            plan, middle = _search(plan, model, size, records, middle)
    return plan


def _search(
    plan: Plan, model: str, size: int, records: Mapping[str, Any], middle: int | None
) -> tuple[Plan, int | None]:
    """Grow one arm as far as its records go; the middle that it gives its neighbor is None until it has chosen."""
    while True:
        scores: _Scores = {}
        trials = list(plan.trials_of(model, size))
        for trial in trials:
            record = records.get(trial.id)
            # A failed trial is the worst: a rate that diverges is no rate to go on from.
            worth = None if record is None else -1.0 if record["status"] != "done" else record["val"]["accuracy"]
            scores.setdefault(trial.learning_rate, {})[trial.seed] = worth
        if _is_waiting(scores):
            return plan, None
        step = _step(plan, model, size, scores, middle)
        if step is None or (more := plan.with_rates(model, size, *step)) is plan:
            break
        plan = more
    chosen = chosen_learning_rates((records[trial.id] for trial in trials), plan).get((model, size))
    return plan, rung_of(chosen) if chosen else middle  # an arm that failed throughout passes on what it was given


def _step(
    plan: Plan, model: str, size: int, scores: _Scores, middle: int | None
) -> tuple[list[float], list[int]] | None:
    planned = plan.seeds_of(size)
    if plan.race:
        return next_in_race(scores, _by_use(scores, planned), plan.race[model])
    return _next(scores, planned, middle)


def _is_waiting(scores: _Scores) -> bool:
    return any(score is None for by_seed in scores.values() for score in by_seed.values())


def _next(scores: _Scores, planned: list[int], middle: int | None) -> tuple[list[float], list[int]] | None:
    """Return the rates and seeds that come next for an arm whose trials have all ended."""
    seeds = _by_use(scores, planned)
    if not scores:
        return None if middle is None else (_within(middle + step for step in _BRACKET), seeds[:1])
    first = {rate: by_seed[seeds[0]] for rate, by_seed in scores.items() if seeds[0] in by_seed}
    second = [rate for rate in first if seeds[1:] and seeds[1] in scores[rate]]
    others = sorted(first.keys() - {*second}, key=lambda rate: (-first[rate], rate))
    num_second = _FIRST_TWO - len(first)
    if not second or (len(second) < num_second and not others):  # (the latter where folders were merged)
        more = _explore(first, _FEWEST if seeds[1:] and not second else _MOST)
        if more or len(seeds) == 1:
            return (more, seeds[:1]) if more else None
    if len(second) < num_second:
        return others[: num_second - len(second)], seeds[1:2]
    ranked = sorted(second, key=lambda rate: (-(first[rate] + scores[rate][seeds[1]]), rate))
    finalists = sorted(ranked, key=lambda rate: -len(scores[rate]))[:_FINALISTS]  # whoever is one stays one
    absent = [seed for seed in seeds[2:] if any(seed not in scores[rate] for rate in finalists)]
    return (finalists, absent) if absent else None


def _by_use(scores: _Scores, planned: list[int]) -> list[int]:
    """The seeds in the order in which the search has come to them, also where the sweep file has moved them since."""
    use = {seed: sum(seed in by_seed for by_seed in scores.values()) for seed in planned}
    return sorted(planned, key=lambda seed: -use[seed])


def _explore(first: Mapping[float, float], fewest: int) -> list[float]:
    """Return the rates to try next with the first seed; none where enough is known of it."""
    tried = {rung_of(rate): score for rate, score in first.items()}
    if len(tried) >= _MOST:
        return []
    ends = (min(tried), max(tried))
    failed = max(tried.values()) < 0  # all of them: then lower ones may not
    best = min(tried, key=lambda rung: (-tried[rung], rung in ends and not failed, rung))
    if best == ends[0] and best > LOWEST:
        return _within([best - 2])
    if best == ends[1] and best < HIGHEST:
        return _within([best + 2])

    def promise(rung: int) -> tuple[int, float, int]:
        """Near the best; of two at its sides, on the side where the next one that was tried is better."""
        beyond = [
            tried[other]
            for other in sorted(tried, key=lambda other: abs(other - best))
            if (other - best) * (rung - best) > 0
        ]
        return abs(rung - best), -beyond[0] if beyond else 1.0, rung

    near = sorted({*range(LOWEST, HIGHEST + 1)} - {*tried}, key=promise)
    beside = [rung for rung in near if abs(rung - best) == 1]
    return _within((beside or near[: max(0, fewest - len(tried))])[: _MOST - len(tried)])


def _num_planned(plan: Plan, model: str, size: int) -> int:
    return sum(map(len, plan.added_rates(model, size).values()))


def _within(rungs: Iterable[int]) -> list[float]:
    return [rate_at(rung) for rung in sorted({min(max(rung, LOWEST), HIGHEST) for rung in rungs})]
