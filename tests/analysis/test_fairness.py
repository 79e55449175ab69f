import dataclasses

import made_up_sweeps as sweeps
import pytest

from vitlab.analysis.fairness import check_fairness
from vitlab.analysis.selection import select_points
from vitlab.sweep.selection import chosen_learning_rates


def _findings(plan, records) -> dict[str, list]:
    chosen = chosen_learning_rates(records)
    found = check_fairness(plan, records, chosen, select_points(records, chosen, plan.models, plan.seeds))
    return {finding.check: [f for f in found if f.check == finding.check] for finding in found}


def _matched(plan, **settings):
    """Return records of a sweep that has no flaw."""
    records = sweeps.make_records(plan, **settings)
    for record in records:
        record["seconds"] = 10.0
    return records


def test_a_sweep_without_a_flaw_gets_notes_only():
    plan = sweeps.make_plan()
    found = _findings(plan, _matched(plan))
    assert {finding.level for group in found.values() for finding in group} == {"note"}
    assert "steps" in found["budget"][0].words


def test_unequal_tuning_is_refused():
    plan = sweeps.make_plan(learning_rates={"vit": [0.001, 0.003, 0.01], "cnn": [0.003, 0.01]})
    finding = _findings(plan, _matched(plan))["tuning_trials"][0]
    assert finding.level == "refuse"
    assert "the ViT 3 learning rates and the CNN 2 learning rates" in finding.words


def test_unequally_finished_tuning_is_warned_of_with_the_size():
    plan = sweeps.make_plan()
    records = [r for r in _matched(plan) if (r["model"], r["train_size"], r["learning_rate"]) != ("cnn", 600, 0.01)]
    finding = _findings(plan, records)["tuning_trials"][0]
    assert finding.level == "warn"
    assert "600" in finding.words


@pytest.mark.parametrize(("best", "name"), [(0.001, "lowest"), (0.01, "highest")])
def test_a_best_rate_on_the_edge_of_its_grid_is_warned_of(best, name):
    plan = sweeps.make_plan()
    found = _findings(plan, _matched(plan, best_rate=best))["learning_rate_edge"]
    assert [finding.level for finding in found] == ["warn", "warn"]
    assert f"the {name} of its grid" in found[0].words


def test_a_single_rate_is_called_untuned():
    plan = sweeps.make_plan(learning_rates={"vit": [0.003], "cnn": [0.003]})
    assert "not tuned" in _findings(plan, _matched(plan))["learning_rate_edge"][0].words


@pytest.mark.parametrize("key", ["params", "macs", "seconds"])
def test_costs_that_are_far_apart_are_stated_with_their_numbers(key):
    plan = sweeps.make_plan()
    records = _matched(plan)
    for record in records:
        record[key] = 3000.0 if record["model"] == "vit" else 1000.0
    finding = _findings(plan, records)[key][0]
    assert finding.level == "warn"
    assert "3.0 times" in finding.words
    assert "3,000" in finding.words or "3000.0 s" in finding.words


def test_two_seeds_are_too_few():
    plan = sweeps.make_plan(num_seeds=2)
    finding = _findings(plan, _matched(plan))["num_seeds"][0]
    assert finding.level == "warn"
    assert "2 seeds" in finding.words


def test_failures_in_one_arm_are_warned_of_and_equal_ones_noted():
    plan = sweeps.make_plan()
    one = _findings(plan, _matched(plan, fails=lambda t: t.model == "cnn" and t.learning_rate == 0.01))
    both = _findings(plan, _matched(plan, fails=lambda t: t.learning_rate == 0.01))
    assert one["failed_trials"][0].level == "warn"
    assert "ViT 0 and CNN 20" in one["failed_trials"][0].words
    assert both["failed_trials"][0].level == "note"


def test_missing_trials_are_named_by_arm():
    plan = sweeps.make_plan()
    finding = _findings(plan, _matched(plan)[:-12])["missing_trials"][0]
    assert finding.words == "Trials not run yet, unequally between the arms: ViT 0 and CNN 12."


def test_other_seeds_mean_other_subsets():
    plan = sweeps.make_plan()
    records = [r for r in _matched(plan) if (r["model"], r["train_size"], r["seed"]) != ("vit", 2000, 3)]
    finding = _findings(plan, records)["different_subsets"][0]
    assert finding.level == "warn"
    assert "2,000" in finding.words


def test_budgets_that_differ_are_refused():
    plan = sweeps.make_plan()
    records = _matched(plan)
    for record in records:
        if record["model"] == "vit":
            record["budget"] = {"unit": "steps", "amount": 2 * record["budget"]["amount"]}
    finding = _findings(plan, records)["budget"][0]
    assert finding.level == "refuse"
    assert "100, 250, 600, 2,000 and 8,000" in finding.words


def test_the_gravest_finding_comes_first():
    plan = sweeps.make_plan(num_seeds=2, learning_rates={"vit": [0.003, 0.01], "cnn": [0.003]})
    records = _matched(plan)
    chosen = chosen_learning_rates(records)
    found = check_fairness(plan, records, chosen, select_points(records, chosen, plan.models, plan.seeds))
    levels = [dataclasses.asdict(finding)["level"] for finding in found]
    assert levels == sorted(levels, key=["refuse", "warn", "note"].index)
    assert levels[0] == "refuse"


@pytest.mark.parametrize(
    ("part", "name", "value", "level"),
    [
        ("data", "val_size", 7, "refuse"),
        ("data", "dataset", {"class_path": "vitlab.data.Digits"}, "refuse"),
        ("data", "augmentation", {"class_path": "vitlab.data.Augmentation"}, "warn"),
        ("data", "batch_size", 3, "warn"),
        ("trainer", "gradient_clip_val", 1.0, "note"),
    ],
)
def test_arms_with_data_settings_of_their_own_are_named(part, name, value, level):
    plan = sweeps.make_plan()
    vit = plan.model_settings["vit"] | {part: {name: value}}
    plan = dataclasses.replace(plan, model_settings=plan.model_settings | {"vit": vit})
    finding = _findings(plan, _matched(plan))[f"different_{part}"][0]
    assert finding.level == level
    assert name in finding.words
