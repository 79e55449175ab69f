import dataclasses
from types import SimpleNamespace

import made_up_sweeps as sweeps
import pytest

from vitlab.analysis.fairness_across import _steps, check_across
from vitlab.analysis.settings_diff import compare_settings
from vitlab.analysis.sweep_pairing import Sweep, as_one, match_arms, names_in_one
from vitlab.analysis.task_result import analyze_task

PLAN = sweeps.make_plan(train_sizes=sweeps.TWO_SIZES)


def _sweep(name, plan=PLAN, edit=lambda record: record, curves=sweeps.AT_TWO_SIZES, seed=0):
    records = [edit(record) for record in sweeps.matched_records(plan, curves=curves, seed=seed)]
    return Sweep(name, analyze_task(plan, records))


def _found(second, first=None):
    pair = first or _sweep("old"), second
    matched = match_arms(*pair)
    together = as_one(*pair, names_in_one(*pair, matched), "both")
    findings = check_across(pair, matched, compare_settings(*pair, matched), together)
    return {finding.check: finding for finding in findings}


def test_two_equal_sweeps_have_notes_alone():
    found = _found(_sweep("new"))
    assert {finding.level for finding in found.values()} == {"note"}
    assert "the same in both sweeps" in found["repeated_arm"].words
    assert "4 seeds shared" in found["different_subsets"].words


def test_an_arm_with_equal_settings_and_other_errors_is_a_warning():
    finding = _found(_sweep("new", seed=1))["repeated_arm"]
    assert finding.level == "warn"
    assert "same settings in both sweeps, yet" in finding.words


@pytest.mark.parametrize(("steps", "words"), [(100, None), (110, None), (30, "most for ViT at 100 images (100 in")])
def test_equal_seconds_that_are_other_steps_are_warned_of(steps, words):
    def timed(number):
        amounts = {model: dict.fromkeys(PLAN.budget["amount"], 100) for model in PLAN.models}
        amounts["vit"] = amounts["vit"] | {"100": number}
        budget = {"unit": "seconds", "amount": dict.fromkeys(PLAN.budget["amount"], 2.0), "steps": amounts}
        return dataclasses.replace(PLAN, budget=budget)

    pair = [SimpleNamespace(name=name, plan=timed(number)) for name, number in (("old", 100), ("new", steps))]
    found = _steps(*pair, [(model, model) for model in PLAN.models])
    assert [finding.level for finding in found] == ["warn"] * (words is not None)
    assert all(words in finding.words and finding.train_sizes == (100,) for finding in found)


def test_budgets_of_less_than_a_second_are_told_as_they_are():
    amounts = dict.fromkeys(PLAN.budget["amount"], 0.4)
    plan = dataclasses.replace(PLAN, budget={"unit": "steps", "amount": amounts})
    assert "new 0.4 steps" in _found(_sweep("new", plan))["budget"].words


def test_a_longer_budget_is_the_subject_alone_and_refused_beside_other_changes():
    amounts = {size: 2 * amount for size, amount in PLAN.budget["amount"].items()}
    longer = dataclasses.replace(PLAN, budget={"unit": "steps", "amount": amounts})
    assert _found(_sweep("new", longer))["budget"].level == "note"
    mixed = sweeps.with_settings(longer, "vit", model={"label_smoothing": 0.1})
    finding = _found(_sweep("new", mixed))["budget"]
    assert finding.level == "refuse"
    assert "old 2,000 steps and new 4,000 steps" in finding.words
    assert finding.train_sizes == (100, 8000)


def test_unequal_tuning_is_refused():
    fewer = dataclasses.replace(PLAN, learning_rates={**PLAN.learning_rates, "vit": [0.003]})
    finding = _found(_sweep("new", fewer))["tuning_trials"]
    assert finding.level == "refuse"
    assert "ViT 3 learning rates and 1 learning rate" in finding.words


def test_a_race_beside_a_grid_of_the_same_rates_is_a_warning_and_of_fewer_a_refusal():
    finding = _found(_sweep("new", _raced([0.001, 0.003, 0.01])))["tuning_trials"]
    assert finding.level == "warn"
    assert "ViT 3 learning rates and a race of 3 learning rates" in finding.words
    assert _found(_sweep("new", _raced([0.003])))["tuning_trials"].level == "refuse"


def _raced(rates):
    run = {str(size): [[rate, PLAN.seeds] for rate in rates] for size in PLAN.train_sizes}
    listed = dict.fromkeys(PLAN.models, rates)
    nothing = {model: [] for model in PLAN.models}
    return dataclasses.replace(PLAN, race=listed, learning_rates=nothing, rates_at=dict.fromkeys(PLAN.models, run))


def test_another_data_set_is_another_test():
    other = dataclasses.replace(PLAN, settings={"data": {"class_path": "vitlab.data.Digits"}})
    found = _found(_sweep("new", other))
    assert found["different_test_images"].level == "refuse"
    assert found["different_subsets"].level == "warn"


def test_data_whose_content_has_changed_is_another_test_too():
    first, second = (dataclasses.replace(_sweep(name), fingerprint=name) for name in ("old", "new"))
    assert "fingerprints" in _found(second, first)["different_test_images"].words


def test_another_split_is_compared_without_pairs():
    found = _found(_sweep("new", sweeps.with_settings(PLAN, "vit", data={"val_size": 0.3})))
    assert "different_test_images" not in found
    assert found["different_subsets"].models == ("vit",)


def test_versions_differ_between_sweeps_as_between_arms():
    found = _found(_sweep("new", edit=lambda record: record | {"versions": {"torch": "2.14.0", "vitlab": "0.1.0"}}))
    assert found["mixed_versions"].level == "warn"
    assert "The sweeps ran with different versions of torch: old with 2.15.0 and new with 2.14.0" in (
        found["mixed_versions"].words
    )


def test_a_larger_network_is_told():
    curves = {**sweeps.AT_TWO_SIZES, "vit": [0.3, 0.05]}
    large = _sweep("new", edit=lambda record: record | {"params": 200_000}, curves=curves)
    finding = _found(large)["params"]
    assert finding.level == "warn"
    assert "200,000" in finding.words
