"""A plan is the product of its axes and of what it has grown by; its trials have stable ids and are command lines."""

import dataclasses
import itertools
import json
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitlab.sweep.nested_settings import merge
from vitlab.sweep.plan import Plan
from vitlab.sweep.plan_file import write_plan

IDS = ["19e230e2d4a1", "852dccb5780b"]  # of the first two trials, by the first version that had ids


def test_trials_are_the_product_of_the_axes(plan):
    axes = {(trial.model, trial.train_size, trial.seed, trial.learning_rate) for trial in plan.trials}
    assert len(plan.trials) == len(axes) == 2 * 2 * 2 * 2
    assert [trial.train_size for trial in plan.trials] == sorted(trial.train_size for trial in plan.trials)


def test_ids_differ_between_trials_and_agree_between_processes(plan, tmp_path):
    write_plan(tmp_path, plan)
    code = f"from vitlab.sweep.plan_file import load_plan; print([t.id for t in load_plan({str(tmp_path)!r}).trials])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    ids = [trial.id for trial in plan.trials]
    assert len(set(ids)) == len(ids)
    assert printed.strip() == str(ids)


def test_both_arms_see_the_same_subset_order_and_budget(plan):
    def seen(trial):
        return trial.settings["data"], trial.settings["trainer"], trial.settings["seed_everything"]

    vit, cnn = ([trial for trial in plan.trials if trial.model == model] for model in plan.models)
    assert [seen(trial) for trial in vit] == [seen(trial) for trial in cnn]


def test_arguments_hold_every_setting(plan):
    trial = plan.trials[0]
    arguments = dict(argument.removeprefix("--").split("=", 1) for argument in trial.arguments)
    assert arguments["data.train_size"] == "11"
    assert arguments["model.learning_rate"] == "0.001"
    assert arguments["trainer.check_val_every_n_epoch"] == "null"
    assert json.loads(arguments["model.backbone"])["class_path"] == "vitlab.models.ViT"


def test_a_budget_in_epochs_sets_epochs(plan):
    epochs = dataclasses.replace(plan, budget={"unit": "epochs", "amount": {"11": 7, "23": 7}})
    trainer = epochs.trials[0].settings["trainer"]
    assert trainer["max_epochs"] == 7
    assert trainer["max_steps"] == -1


def test_ids_are_what_they_have_always_been(plan):
    """Folders of earlier versions go on only where a trial's id stays the same."""
    assert [trial.id for trial in plan.trials[:2]] == IDS


def test_a_large_sweep_takes_little_memory(plan):
    many = dataclasses.replace(plan, seeds=list(range(250)))
    tracemalloc.start()
    ids = {trial.id for trial in many.trials}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(ids) == 2000
    assert peak < 2000 * len(ids)


def test_trials_share_the_settings_they_have_in_common(plan):
    first, second = plan.trials[:2]
    assert first.settings != second.settings
    assert first.settings["data"] is second.settings["data"]


@pytest.mark.parametrize(
    ("trainer", "many"),
    [
        ({}, False),
        ({"devices": 1}, False),
        ({"devices": [3]}, False),
        ({"devices": "auto"}, True),
        ({"devices": -1}, True),
        ({"devices": 2}, True),
        ({"devices": "0,1"}, True),
        ({"num_nodes": 2}, True),
        ({"strategy": "fsdp"}, True),
    ],
)
def test_trials_that_need_processes_of_their_own_are_recognized(plan, trainer, many):
    settings = merge(plan.settings, {"trainer": trainer})
    assert dataclasses.replace(plan, settings=settings).trials[0].has_many_processes == many


PLAN = Plan(
    task="grows",
    title="grows",
    model_settings={"vit": {}, "cnn": {}},
    train_sizes=[11, 23],
    seeds=[0, 1],
    learning_rates={"vit": [0.001, 0.01], "cnn": [0.002, 0.02]},
    budget={"unit": "steps", "amount": {"11": 3, "23": 3}},
    settings={},
)
PARTS = [{"round": number, "train_size": size, "seeds": [4], "words": "why"} for number in (1, 2) for size in (11, 23)]
growths = st.lists(
    st.one_of(
        st.tuples(st.just("with_seeds"), st.tuples(st.sampled_from([11, 23]), st.sets(st.integers(0, 5)))),
        st.tuples(st.just("with_size"), st.tuples(st.sampled_from([7, 13, 23, 31]), st.just(3))),
        st.tuples(
            st.just("with_rates"),
            st.tuples(
                st.sampled_from(["vit", "cnn"]),
                st.sampled_from([11, 23]),
                st.sets(st.sampled_from([0.001, 0.003, 0.03])),
                st.sets(st.integers(0, 1)),
            ),
        ),
        st.tuples(st.just("with_refinements"), st.tuples(st.lists(st.sampled_from(PARTS), max_size=2))),
    ),
    max_size=6,
)


def grow(plan, steps):
    for name, arguments in steps:
        plan = getattr(plan, name)(*arguments)
    return plan


def ids(plan):
    return [trial.id for trial in plan.trials]


@given(growths)
def test_growing_only_adds_trials_and_leads_back_to_where_it_began(steps):
    grown = grow(PLAN, steps)
    assert set(ids(PLAN)) <= set(ids(grown))
    assert len(set(ids(grown))) == len(ids(grown))
    assert grown.without_growth() == PLAN
    assert grow(grown, steps) == grown
    assert PLAN.with_growth_of(grown) == grown


@given(growths, growths)
def test_what_several_have_grown_is_united_in_any_order(one, two):
    first, second = grow(PLAN, one), grow(PLAN, two)
    united = first.with_growth_of(second)
    assert united == second.with_growth_of(first)
    assert {*ids(first), *ids(second)} <= {*ids(united)}
    assert ids(united) == ids(second.with_growth_of(first))


def test_seeds_at_a_size_are_for_all_arms_and_rates_there(plan):
    grown = plan.with_seeds(23, [7, 1, 5])
    new = {trial.id: trial for trial in grown.trials}.keys() - set(ids(plan))
    axes = {(t.model, t.train_size, t.seed, t.learning_rate) for t in grown.trials if t.id in new}
    assert axes == set(itertools.product(plan.models, [23], [5, 7], [0.001, 0.01]))
    assert (grown.seeds_of(11), grown.seeds_of(23)) == ([0, 1], [0, 1, 5, 7])
    assert plan.with_seeds(23, [0, 1]) is plan


def test_a_size_stands_in_its_place_with_its_budget(plan):
    grown = plan.with_size(13, 5)
    assert grown.train_sizes == [11, 13, 23]
    assert {trial.budget["amount"] for trial in grown.trials if trial.train_size == 13} == {5}
    assert len(grown.trials) == len(plan.trials) * 3 // 2
    assert grown.with_size(13, 5) is grown


def test_rates_are_for_one_arm_and_the_seeds_that_they_came_with(plan):
    grown = plan.with_rates("vit", 23, [0.03, 0.003], [1])
    new = [t for t in grown.trials if t.id not in set(ids(plan))]
    assert [(t.model, t.train_size, t.seed, t.learning_rate) for t in new] == [
        ("vit", 23, 1, 0.003),
        ("vit", 23, 1, 0.03),
    ]
    assert grown.rates_of("vit", 23) == [0.001, 0.003, 0.01, 0.03]
    assert grown.rates_of("cnn", 23) == grown.rates_of("vit", 11) == [0.001, 0.01]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("with_seeds", (13, [1]), "has no 13 images; it has 11, 23"),
        ("with_size", (23, 5), "has 23 images already, with a budget of 3 steps, not 5"),
        ("with_rates", ("rnn", 23, [0.1], [0]), "no model 'rnn'; it has vit, cnn"),
        ("with_rates", ("vit", 23, [0.1], [7]), "no seed 7 at 23 images"),
    ],
)
def test_what_a_plan_cannot_grow_by_is_refused(plan, name, arguments, words):
    with pytest.raises(ValueError, match=words):
        getattr(plan, name)(*arguments)
