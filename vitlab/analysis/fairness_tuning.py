"""Is each arm tuned as well as the others, and on validation data alone (DESIGN: a fair comparison, rules 1 and 2)?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vitlab.analysis.finding import Finding, at_images
from vitlab.analysis.selection import Record, selected_trials
from vitlab.analysis.wording import count, label, listing, plural, the
from vitlab.sweep.rate_search import num_undecided
from vitlab.sweep.selection import chosen_learning_rates, is_selected

_FEW_TESTED = 0.5  # share of the trials that were not chosen: below it, choices that moved explain their tests
_FAILED = -1.0  # as in a race: below any accuracy
_FLOAT_DUST = 1e-9
_MIN_EQUAL = 3  # trials with the same metrics on validation and test data that are no coincidence


def check_tuning(plan: Any, records: Sequence[Record], chosen: Mapping[tuple[str, int], float]) -> list[Finding]:
    """Return the findings on tuning trials, on learning rates at the edge of their grid, and on the use of test data.

    Args:
        plan: the sweep's plan.
        records: its trial records.
        chosen: learning rate by (model, train size).
    """
    tried = _searched_trials(plan) if plan.searches_rates else _trials(plan)
    if plan.tuning == "auto":
        edges = _searched_edges(plan, chosen)
    else:
        edges = [finding for model in plan.models for finding in _edges(plan, model, chosen)]
    raced = _overtaken(plan, records, chosen) if plan.race else []
    return [tried, *edges, *raced, *_monitored(plan), *_choices(plan, records, chosen), *_tests(plan, records, chosen)]


def _trials(plan: Any) -> Finding:
    planned = {model: len(plan.learning_rates[model]) for model in plan.models}
    if len(set(planned.values())) == 1:
        number = plural(next(iter(planned.values())), "learning rate")
        return Finding("note", "tuning_trials", f"Every arm: {number} per size and seed.")
    arms = listing([f"{the(model)} {plural(number, 'learning rate')}" for model, number in planned.items()])
    few = [label(model) for model, number in planned.items() if number < max(planned.values())]
    words = (
        f"Unequal tuning: {arms} per size and seed. Who tries more rates finds a better one: give "
        f"{listing(few)} as many as the others ({max(planned.values())})."
    )
    return Finding("refuse", "tuning_trials", words, tuple(plan.models))


def _searched_trials(plan: Any) -> Finding:
    """A search gives every arm as many trials; where folders were merged or edited it may be otherwise."""
    numbers = Counter((trial.model, trial.train_size) for trial in plan.trials) + Counter(num_undecided(plan))
    counts = {size: {model: numbers[model, size] for model in plan.models} for size in plan.train_sizes}
    uneven = tuple(size for size, by_model in counts.items() if len(set(by_model.values())) > 1)
    if uneven:
        arms = listing([f"{the(model)} {plural(number, 'trial')}" for model, number in counts[uneven[0]].items()])
        words = (
            f"Unequal tuning {at_images(uneven, plan.train_sizes)}: {arms} at {count(uneven[0])} images. Who tries "
            "more finds better learning rates; run the sweep in a new folder, where the search gives all the same."
        )
        return Finding("refuse", "tuning_trials", words, tuple(plan.models), uneven)
    per_arm = sorted(numbers.values())
    most = plural(per_arm[-1], "trial")
    number = most if per_arm[0] == per_arm[-1] else f"{count(per_arm[0])} to {most}"
    how = "race" if plan.race else "search"
    words = f"Every arm: a {how} of {number} per size for its learning rate, as many as any other arm."
    return Finding("note", "tuning_trials", words)


def _searched_edges(plan: Any, chosen: Mapping[tuple[str, int], float]) -> list[Finding]:
    """A search ends on the edge of what it tried only where it ran out of trials or of the ladder of rates."""
    findings = []
    undecided = num_undecided(plan)
    for model in plan.models:
        sizes = [size for size in plan.train_sizes if (model, size) in chosen and (model, size) not in undecided]
        for end, name, side in ((min, "lowest", "below"), (max, "highest", "above")):
            at = tuple(size for size in sizes if chosen[model, size] == end(plan.rates_of(model, size)))
            if at:
                rates = listing(sorted({f"{chosen[model, size]:g}" for size in at}, key=float))
                words = (
                    f"{label(model)}: the chosen learning rate is the {name} that its search tried ({rates}) "
                    f"{at_images(at, plan.train_sizes)}, so a better one may lie {side} it; give `learning_rates` as a "
                    "list that goes further, with as many rates for each arm, in a new folder."
                )
                findings.append(Finding("warn", "learning_rate_edge", words, (model,), at))
    return findings


def _edges(plan: Any, model: str, chosen: Mapping[tuple[str, int], float]) -> list[Finding]:
    """A best rate on the edge of its grid may have a better one beyond it."""
    rates = sorted(plan.listed_rates(model))
    if len(rates) == 1:
        words = (
            f"{label(model)}: a single learning rate ({rates[0]:g}) was tried, so it is not tuned; try three or more "
            "for every arm."
        )
        return [Finding("warn", "learning_rate_edge", words, (model,))]
    findings = []
    for edge, name, side in ((rates[0], "lowest", "below"), (rates[-1], "highest", "above")):
        sizes = tuple(size for size in plan.train_sizes if chosen.get((model, size)) == edge)
        if sizes:
            where = ", in a new folder" if plan.race else ""  # who raced whom cannot be told of a longer list
            words = (
                f"{label(model)}: the chosen learning rate is the {name} of its grid ({edge:g}) "
                f"{at_images(sizes, plan.train_sizes)}, so a better one may lie {side} it; add "
                f"{_beyond(rates, edge):g} to its grid and one rate to each other arm's{where}."
            )
            findings.append(Finding("warn", "learning_rate_edge", words, (model,), sizes))
    return findings


def _overtaken(plan: Any, records: Sequence[Record], chosen: Mapping[tuple[str, int], float]) -> list[Finding]:
    """A rate that failed lost its race; retried with success later, it may be the better one, and nobody has looked."""
    ended, running = {record["id"] for record in records}, {*num_undecided(plan)}
    running |= {(trial.model, trial.train_size) for trial in plan.trials if trial.id not in ended}
    scores: dict[tuple[str, int], dict[float, dict[int, float]]] = {arm: {} for arm in chosen if arm not in running}
    for record in records:
        arm, rate, seed = (record["model"], record["train_size"]), record["learning_rate"], record["seed"]
        if arm in scores:
            score = record["val"]["accuracy"] if record["status"] == "done" else _FAILED
            scores[arm].setdefault(rate, {})[seed] = score
    found: dict[tuple[str, int], float] = {}
    for arm, by_rate in scores.items():
        winner = by_rate.get(chosen[arm], {})
        ahead = {}
        for rate, own in by_rate.items():
            shared = own.keys() & winner.keys()
            if len(own) < len(winner):
                ahead[rate] = sum(own[seed] - winner[seed] for seed in shared)
        if max(ahead.values(), default=0.0) > _FLOAT_DUST:
            found[arm] = max(ahead, key=ahead.__getitem__)
    if not found:
        return []
    said = [f"{label(model)} at {count(size)} images ({rate:g})" for (model, size), rate in found.items()]
    words = (
        f"A learning rate that has left the race is ahead of the chosen one at the seeds of both: {listing(said)}. It "
        "had failed and was retried later, or races were merged; run these arms in a new folder."
    )
    models = tuple(dict.fromkeys(model for model, _ in found))
    return [Finding("warn", "learning_rate_race", words, models, tuple(sorted({size for _, size in found})))]


def _beyond(rates: Sequence[float], edge: float) -> float:
    """Return the grid's next rate beyond an edge: on the ladder 1, 3, 10, 30, or by the grid's own mean factor."""
    step = 1 if edge == rates[-1] else -1
    rungs = [round(2 * math.log10(rate)) for rate in rates]
    on_ladder = all(math.isclose(_rung(rung), rate, rel_tol=1e-6) for rung, rate in zip(rungs, rates, strict=True))
    if on_ladder and rungs[-1] - rungs[0] == len(rungs) - 1:
        return _rung(rungs[-1 if step > 0 else 0] + step)
    factor = (rates[-1] / rates[0]) ** (1 / (len(rates) - 1))
    return float(f"{edge * factor**step:.2g}")


def _rung(number: int) -> float:
    return float(f"{3 if number % 2 else 1}e{number // 2}")


def _monitored(plan: Any) -> list[Finding]:
    """No callback may look at test metrics."""
    looking = {}
    for model in plan.models:
        callbacks = plan.settings_of(model).get("trainer", {}).get("callbacks") or []
        monitors = [(one.get("init_args") or {}).get("monitor") for one in callbacks if isinstance(one, Mapping)]
        found = [str(monitor) for monitor in monitors if "test" in str(monitor or "").lower()]
        if found:
            looking[model] = found[0]
    if not looking:
        return []
    arms = listing([f"{label(model)} by {monitor}" for model, monitor in looking.items()])
    words = (
        f"A callback chooses by test data: {arms}. Its test error is then no measurement; monitor val/accuracy and run "
        "again."
    )
    return [Finding("refuse", "test_used", words, tuple(looking))]


def _choices(plan: Any, records: Sequence[Record], chosen: Mapping[tuple[str, int], float]) -> list[Finding]:
    """The rates that count are those that are best on validation data."""
    best = chosen_learning_rates(records, plan)
    other = sorted((arm for arm in chosen if arm in best and chosen[arm] != best[arm]), key=lambda arm: arm[::-1])
    if not other:
        return []
    models, sizes = tuple(dict.fromkeys(model for model, _ in other)), tuple(sorted({size for _, size in other}))
    words = (
        f"The learning rates of {listing([label(model) for model in models])} {at_images(sizes, plan.train_sizes)} are "
        "not those that validation data choose; choose each by its mean validation accuracy alone."
    )
    return [Finding("refuse", "test_used", words, models, sizes)]


def _tests(plan: Any, records: Sequence[Record], chosen: Mapping[tuple[str, int], float]) -> list[Finding]:
    """Test data are read for the chosen trials alone, and are other images than those that chose them."""
    selected = selected_trials(records, chosen)
    if len(selected) >= _MIN_EQUAL and all(trial["val"] == trial["test"] for trial in selected):
        words = (
            "Validation and test metrics of all selected trials are the same, so the test images seem to have chosen "
            "them; split validation images from the training images (data.val_size) and run again."
        )
        return [Finding("refuse", "test_used", words)]
    others = [record for record in records if record["status"] == "done" and not is_selected(record, chosen)]
    tested = [record for record in others if record.get("test")]
    if not tested:
        return []
    models = tuple(model for model in plan.models if any(record["model"] == model for record in tested))
    sizes = tuple(sorted({record["train_size"] for record in tested}))
    found = (
        f"{count(len(tested))} of {plural(len(others), 'trial')} that were not chosen have test metrics: "
        f"{listing([label(model) for model in models])} {at_images(sizes, plan.train_sizes)}."
    )
    if len(tested) < _FEW_TESTED * len(others):
        words = (
            f"{found} The choice may have moved when seeds or rates were added; if you have looked at these numbers, "
            "do not choose by them."
        )
        return [Finding("warn", "test_used", words, models, sizes)]
    words = (
        f"{found} Whoever can see them can choose by them; let `vitlab sweep` test the chosen trials alone, in a new "
        "folder."
    )
    return [Finding("refuse", "test_used", words, models, sizes)]
