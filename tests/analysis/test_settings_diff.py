import dataclasses

import made_up_sweeps as sweeps

from vitlab.analysis.settings_diff import SettingChange, compare_settings, is_only
from vitlab.analysis.sweep_pairing import match_arms

PLAN = sweeps.make_plan(train_sizes=sweeps.TWO_SIZES)


def _changes(plan, curves=sweeps.AT_TWO_SIZES):
    first = sweeps.made_up("a", sweeps.AT_TWO_SIZES, plan=PLAN)
    second = sweeps.made_up("b", curves, plan=plan)
    return compare_settings(first, second, match_arms(first, second))


def test_equal_plans_differ_in_nothing():
    assert _changes(PLAN) == []


def test_a_setting_of_one_arm_names_it_and_one_of_all_arms_stands_there_once():
    one = sweeps.with_settings(PLAN, "vit", data={"batch_size": 64})
    assert _changes(one) == [SettingChange(("vit",), "data.batch_size", "not set", "64")]
    everywhere = dataclasses.replace(PLAN, settings={**PLAN.settings, "model": {"label_smoothing": 0.1}})
    assert _changes(everywhere) == [SettingChange((), "model.label_smoothing", "not set", "0.1")]


def test_budgets_rates_sizes_and_seeds_are_told():
    amounts = {size: amount + 7 for size, amount in PLAN.budget["amount"].items()}
    plan = dataclasses.replace(PLAN, budget={"unit": "steps", "amount": amounts}, seeds=[0, 1, 2])
    plan = dataclasses.replace(plan, learning_rates={**PLAN.learning_rates, "cnn": [0.003]})
    changes = {change.setting: change for change in _changes(plan)}
    assert set(changes) == {"seeds", "budget", "learning rates"}
    assert (changes["seeds"].first, changes["seeds"].second) == ("0, 1, 2 and 3", "0, 1 and 2")
    assert changes["budget"].second.startswith("steps: 107 at 100 and 2,007 at 8,000")
    assert changes["learning rates"] == SettingChange(("cnn",), "learning rates", "0.001, 0.003 and 0.01", "0.003")


def test_a_budget_for_further_sizes_is_no_other_budget():
    plan = sweeps.make_plan(train_sizes=[100])
    (change,) = _changes(plan, {model: errors[:1] for model, errors in sweeps.AT_TWO_SIZES.items()})
    assert change.setting == "train sizes"


def test_long_values_are_cut():
    long = sweeps.with_settings(PLAN, "vit", data={"note": "x" * 500})
    (change,) = _changes(long)
    assert len(change.second) == 120


def test_only_asks_for_something_and_nothing_else():
    budget, seeds = SettingChange((), "budget", "1", "2"), SettingChange((), "seeds", "0", "0 and 1")
    assert is_only([budget, seeds], ["budget"])
    assert not is_only([seeds], ["budget"])
    assert not is_only([budget, SettingChange((), "model.dropout", "0", "0.1")], ["budget"])
