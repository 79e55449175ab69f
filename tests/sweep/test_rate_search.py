"""The search finds a peak wherever it stands, gives every arm as many trials, and is the same whoever asks when."""

import dataclasses
import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitlab.sweep.plan import Plan
from vitlab.sweep.rate_search import (
    HIGHEST,
    LOWEST,
    grown,
    num_trials,
    num_undecided,
    rate_at,
    rung_of,
    unstarted_trials,
)
from vitlab.sweep.selection import chosen_learning_rates

RUNGS = range(LOWEST, HIGHEST + 1)
START = rung_of(0.002)
few = settings(max_examples=8)  # each runs a whole search


def make_plan(seeds=(0, 1, 2), sizes=(11, 23), models=("vit",)):
    return Plan(
        task="search",
        title="search",
        model_settings={model: {} for model in models},
        train_sizes=list(sizes),
        seeds=list(seeds),
        learning_rates={model: [] for model in models},
        budget={"unit": "steps", "amount": {str(size): 3 for size in sizes}},
        settings={},
    )


def record_of(trial, accuracy):
    """A record in which nothing stands that a search must not look at."""
    axes = {"id": trial.id, "model": trial.model, "train_size": trial.train_size, "seed": trial.seed}
    val = None if accuracy is None else {"accuracy": accuracy}
    return axes | {"learning_rate": trial.learning_rate, "status": "done" if val else "failed", "val": val}


def search(plan, accuracy, records=None, batch=None):
    """Run a search to its end, some trials at a time; returns the grown plan and all records."""
    records = {} if records is None else records
    plan = grown(plan, records)
    while missing := [trial for trial in plan.trials if trial.id not in records]:
        for trial in missing if batch is None else batch(missing):
            records[trial.id] = record_of(trial, accuracy(trial))
        plan = grown(plan, records)
    return plan, records


def peak_at(rung):
    """Validation accuracies that are best at a rung, the farther from it the worse, and a little noise by seed."""
    return lambda trial: 0.9 - 0.03 * abs(rung_of(trial.learning_rate) - rung) + 0.001 * (trial.seed % 3)


@st.composite
def outcomes(draw):
    """Any accuracy for any trial, and failures among them."""
    seed, share_failed = draw(st.integers(0, 10_000)), draw(st.sampled_from([0.0, 0.2, 0.9, 1.0]))

    def accuracy(trial):
        chance = random.Random(f"{seed} {trial.id}")
        return None if chance.random() < share_failed else round(chance.random(), 2)

    return accuracy


def num_by_arm(plan):
    return {(m, n): len(list(plan.trials_of(m, n))) for m, n in itertools.product(plan.models, plan.train_sizes)}


def test_the_ladder_is_one_two_five_and_back():
    assert [rate_at(rung) for rung in range(-4, 2)] == [0.05, 0.1, 0.2, 0.5, 1.0, 2.0]
    assert [rung_of(rate_at(rung)) for rung in RUNGS] == list(RUNGS)
    assert (rate_at(LOWEST), rate_at(HIGHEST)) == (1e-6, 10.0)
    assert (rung_of(0.003), rung_of(0.0035)) == (rung_of(0.002), rung_of(0.005))


@few
@given(outcomes(), st.integers(1, 5))
def test_every_arm_gets_the_same_number_of_trials_whatever_it_meets(accuracy, num_seeds):
    plan, _ = search(make_plan(range(num_seeds), models=["vit", "cnn"]), accuracy)
    assert set(num_by_arm(plan).values()) == {num_trials(plan, 11)}
    assert num_undecided(plan) == {}


def test_three_seeds_take_at_most_two_fifths_of_a_grid_of_twelve():
    assert [num_trials(make_plan(range(number)), 11) for number in (3, 4, 5, 10)] == [14, 17, 20, 35]
    assert all(num_trials(make_plan(range(number)), 11) <= 0.4 * 12 * number for number in range(3, 50))


@few
@given(outcomes())
def test_three_rates_have_all_seeds_and_one_of_them_is_chosen(accuracy):
    plan, records = search(make_plan(range(5)), accuracy)
    chosen = chosen_learning_rates(records.values(), plan)
    for model, size in num_by_arm(plan):
        seeds = {rate: len(seeds) for rate, seeds in plan.added_rates(model, size).items()}
        finalists = {rate for rate, number in seeds.items() if number == 5}
        assert len(finalists) == 3
        done = [r for r in records.values() if r["status"] == "done" and r["learning_rate"] in finalists]
        if any((r["model"], r["train_size"]) == (model, size) for r in done):
            assert chosen[model, size] in finalists


@pytest.mark.parametrize("rung", range(START - 8, START + 9))
def test_a_peak_is_found_wherever_it_stands(rung):
    plan, records = search(make_plan(), peak_at(rung))
    chosen = chosen_learning_rates(records.values(), plan)
    assert {rung_of(rate) for rate in chosen.values()} == {rung}


def test_a_bracket_around_the_peak_takes_six_rates_and_widening_is_paid_for_by_second_seeds():
    def shape(rung):
        rates = search(make_plan(sizes=[11]), peak_at(rung))[0].added_rates("vit", 11)
        return sorted(map(len, rates.values()), reverse=True)

    assert shape(START + 1) == [3, 3, 3, 2, 2, 1]
    assert shape(START + 3) == [3, 3, 3, 2, 1, 1, 1]
    assert shape(START + 5) == [3, 3, 3, 1, 1, 1, 1, 1]


@few
@given(st.sampled_from(RUNGS), st.sampled_from(RUNGS))
def test_no_rate_is_off_the_ladder_and_none_is_beyond_its_ends(first, second):
    plan, _ = search(make_plan(), lambda t: peak_at(first if t.train_size == 11 else second)(t))
    rungs = {rung_of(rate) for model, size in num_by_arm(plan) for rate in plan.rates_of(model, size)}
    rates = {rate for model, size in num_by_arm(plan) for rate in plan.rates_of(model, size)}
    assert rungs <= set(RUNGS)
    assert rates == {rate_at(rung) for rung in rungs}


def test_a_larger_size_begins_around_the_choice_of_the_smaller_as_soon_as_that_is_made():
    accuracy, records = peak_at(START + 5), {}
    plan = grown(make_plan(), records)
    assert [rung_of(rate) - START for rate in plan.rates_of("vit", 11)] == [-3, -1, 1, 3]
    while not plan.rates_of("vit", 23):
        records |= {trial.id: record_of(trial, accuracy(trial)) for trial in plan.trials}
        plan = grown(plan, records)
    assert [rung_of(rate) - START for rate in plan.rates_of("vit", 23)] == [2, 4, 6, 8]
    assert num_undecided(plan) == {("vit", 23): 14 - 4}


@few
@given(outcomes(), st.integers(0, 1000))
def test_the_order_in_which_trials_end_changes_nothing(accuracy, seed):
    chance = random.Random(seed)
    at_once, _ = search(make_plan(), accuracy)
    one_by_one, _ = search(make_plan(), accuracy, batch=lambda missing: [chance.choice(missing)])
    assert at_once == one_by_one


@few
@given(outcomes(), st.integers(0, 1000))
def test_a_plan_that_was_lost_is_found_again_from_the_records(accuracy, seed):
    full, records = search(make_plan(), accuracy)
    assert grown(make_plan(), records) == full
    kept = dict(random.Random(seed).sample(sorted(records.items()), k=len(records) // 2))
    assert search(grown(make_plan(), kept), accuracy, records=kept)[0] == full


@few
@given(outcomes())
def test_what_is_undecided_and_what_is_planned_is_always_the_same_sum(accuracy):
    plan, records = grown(make_plan(), {}), {}
    while True:
        planned = num_by_arm(plan)
        left = num_undecided(plan)
        assert {planned[arm] + left.get(arm, 0) for arm in planned} == {14}
        missing = [trial for trial in plan.trials if trial.id not in records]
        if not missing:
            break
        records[missing[0].id] = record_of(missing[0], accuracy(missing[0]))
        plan = grown(plan, records)


@few
@given(outcomes(), st.integers(1, 4), st.permutations(range(7)))
def test_seeds_that_come_later_are_for_the_best_alone_and_in_any_order(accuracy, num_seeds, order):
    before, records = search(make_plan(range(num_seeds)), accuracy)
    more = make_plan(order).with_growth_of(before)
    after, _ = search(more, accuracy, records=dict(records))
    assert {trial.id for trial in before.trials} <= {trial.id for trial in after.trials}
    assert set(num_by_arm(after).values()) == {num_trials(after, 11)} == {11 + 3 * 5}


def test_seeds_at_one_size_are_for_its_three_best_rates():
    before, records = search(make_plan(), peak_at(START))
    after, _ = search(before.with_seeds(23, [7, 8]), peak_at(START), records=records)
    new = [trial for trial in after.trials if trial.seed > 2]
    assert len(new) == 2 * 3
    assert {trial.train_size for trial in new} == {23}


@few
@given(outcomes())
def test_a_size_between_two_others_leaves_these_as_they_are(accuracy):
    before, records = search(make_plan(), accuracy)
    after, _ = search(before.with_size(13, 3), accuracy, records=dict(records))
    assert num_by_arm(after)["vit", 13] == 14
    for model, size in num_by_arm(before):
        assert after.added_rates(model, size) == before.added_rates(model, size)


@few
@given(outcomes(), st.lists(st.tuples(st.sampled_from(RUNGS), st.sets(st.integers(0, 3))), max_size=12))
def test_a_search_ends_whatever_trials_it_finds_in_the_plan(accuracy, found):
    plan = make_plan(range(4), sizes=[11])
    for rung, seeds in found:
        plan = plan.with_rates("vit", 11, [rate_at(rung)], seeds)
    plan, _ = search(plan, accuracy)
    assert num_undecided(plan) == {}
    assert sum(len(seeds) == 4 for seeds in plan.added_rates("vit", 11).values()) >= 3


def test_a_grid_never_grows():
    plan = dataclasses.replace(make_plan(), learning_rates={"vit": [0.1]})
    records = {trial.id: record_of(trial, 0.5) for trial in plan.trials}
    assert grown(plan, records) is plan
    assert num_undecided(plan) == {}
    assert unstarted_trials(plan) == []


def test_arms_that_wait_for_a_smaller_size_are_known_by_a_trial_each():
    plan = grown(make_plan(sizes=[11, 23, 31], models=["vit", "cnn"]), {})
    assert {trial.train_size for trial in plan.trials} == {11}
    assert sorted((trial.model, trial.train_size) for trial in unstarted_trials(plan)) == [
        ("cnn", 23),
        ("cnn", 31),
        ("vit", 23),
        ("vit", 31),
    ]


def test_where_everything_fails_the_search_goes_down_and_ends():
    plan, _ = search(make_plan(sizes=[11]), lambda trial: None)
    assert len(plan.rates_of("vit", 11)) == 8
    assert rung_of(plan.rates_of("vit", 11)[0]) == LOWEST


def test_rates_between_the_rungs_count_as_the_nearest():
    assert all(math.isclose(rate_at(rung_of(1.1 * rate_at(rung))), rate_at(rung)) for rung in RUNGS)
