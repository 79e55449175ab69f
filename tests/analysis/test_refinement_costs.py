import dataclasses

import made_up_sweeps as sweeps
import pytest

from vitlab.analysis.refinement_costs import Prices, added_trials, budget_amount, two_digits


def _records(plan, seconds_a_step=0.03, without=()):
    """A record for each trial, with seconds in proportion to its steps; twice as many for the ViT."""
    records = []
    for trial, record in zip(plan.trials, sweeps.make_records(plan), strict=True):
        seconds = trial.work * seconds_a_step * (2 if trial.model == "vit" else 1)
        records.append(record | {"seconds": None if trial.id in without else seconds})
    return records


def test_a_seed_costs_all_models_at_all_rates():
    plan = sweeps.make_plan(train_sizes=[100, 700])
    prices = Prices(plan, _records(plan))
    seconds, trials = prices.of_a_seed(700)
    assert seconds == pytest.approx(3 * (1 + 2) * 0.03 * plan.budget["amount"]["700"])
    assert trials == 2 * 3
    grown = plan.with_seeds(700, [7, 11])
    assert prices.of(added_trials(plan, grown)) == pytest.approx(2 * seconds)


def test_a_new_size_is_judged_by_its_steps():
    plan = sweeps.make_plan(train_sizes=[100, 700])
    prices = Prices(plan, _records(plan))
    added = added_trials(plan, plan.with_size(300, 130))
    assert len(added) == 2 * 3 * len(plan.seeds)
    assert prices.of(added) == pytest.approx(0.03 * 130 * (1 + 2) * 3 * len(plan.seeds))


def test_spent_are_the_trials_that_refinement_added_and_that_have_ended():
    plan = sweeps.make_plan(train_sizes=[100, 700])
    assert Prices(plan, _records(plan)).spent() == (0, 0)
    grown = plan.with_seeds(700, [7]).with_refinements([{"round": 1, "train_size": 700, "seeds": [7], "words": "why"}])
    mine = {trial.id for trial in grown.trials if trial.seed == 7}
    records = _records(grown)
    seconds, number = Prices(grown, records).spent()
    assert number == len(mine) == 6
    assert seconds == pytest.approx(Prices(plan, _records(plan)).of_a_seed(700)[0])
    some = [record for record in records if record["id"] not in list(mine)[:2]]
    assert Prices(grown, some).spent()[1] == 4


def test_a_trial_that_failed_counts_for_what_it_should_have_taken():
    plan = sweeps.make_plan(train_sizes=[100, 700])
    grown = plan.with_seeds(700, [7]).with_refinements([{"round": 1, "train_size": 700, "seeds": [7], "words": "why"}])
    mine = {trial.id for trial in grown.trials if trial.seed == 7}
    whole = Prices(grown, _records(grown)).spent()
    assert Prices(grown, _records(grown, without=mine)).spent() == pytest.approx(whole)


@pytest.mark.parametrize(("size", "low", "high"), [(300, 100, 400), (1500, 400, 400), (20, 1, 100)])
def test_a_new_budget_lies_between_its_neighbors(size, low, high):
    plan = sweeps.make_plan(train_sizes=[100, 700, 3000])
    plan.budget["amount"].update({"100": 100, "700": 400, "3000": 400})
    assert low <= budget_amount(plan, size) <= high
    assert budget_amount(plan, 700) == 400


def test_beyond_the_last_size_a_budget_grows_as_before():
    plan = sweeps.make_plan(train_sizes=[100, 400])
    plan.budget["amount"].update({"100": 100, "400": 200})
    assert budget_amount(plan, 1600) == 400
    one = sweeps.make_plan(train_sizes=[100])
    assert budget_amount(one, 300) == one.budget["amount"]["100"]


@pytest.mark.parametrize(("number", "rounded"), [(1.2, 1), (13, 13), (1263, 1300), (98765, 99000), (0.2, 1)])
def test_two_digits(number, rounded):
    assert two_digits(number) == rounded


def test_a_budget_in_seconds_may_be_a_fraction_and_becomes_steps_at_the_cost_between_its_neighbors():
    plan = sweeps.make_plan(train_sizes=[100, 700])
    measured = {"step": {model: {"100": 0.01, "700": 0.02} for model in plan.models}, "machine": "here"}
    steps = {model: {"100": 25, "700": 50} for model in plan.models}
    budget = {"unit": "seconds", "amount": {"100": 0.25, "700": 1.0}, "steps": steps, "measured": measured}
    plan = dataclasses.replace(plan, budget=budget)
    amount = budget_amount(plan, 200)
    assert 0.25 < amount < 1
    grown = plan.with_size(200, amount)
    assert {trial.budget["amount"] for trial in grown.trials if trial.train_size == 200} == {int(amount / (0.07 / 6))}
    for size, cost in ((50, 0.01), (900, 0.02)):
        assert plan.with_size(size, 3.0).budget_of("vit", size) == {"unit": "steps", "amount": int(3.0 / cost)}
    assert grown.without_growth() == plan
    assert plan.with_growth_of(grown) == grown
