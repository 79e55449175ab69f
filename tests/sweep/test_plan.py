"""A plan is the product of its axes; its trials have stable ids and are command lines."""

import dataclasses
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitlab.sweep.plan import check_folder, load_plan, merge, write_plan

leaves = st.one_of(st.integers(), st.text(max_size=3), st.none())
settings = st.recursive(
    st.dictionaries(st.sampled_from("abcd"), leaves, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), st.one_of(leaves, inner), max_size=3),
    max_leaves=8,
)


def test_trials_are_the_product_of_the_axes(plan):
    axes = {(trial.model, trial.train_size, trial.seed, trial.learning_rate) for trial in plan.trials}
    assert len(plan.trials) == len(axes) == 2 * 2 * 2 * 2
    assert [trial.train_size for trial in plan.trials] == sorted(trial.train_size for trial in plan.trials)


def test_ids_differ_between_trials_and_agree_between_processes(plan, tmp_path):
    write_plan(tmp_path, plan)
    code = f"from vitlab.sweep.plan import load_plan; print([t.id for t in load_plan({str(tmp_path)!r}).trials])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    ids = [trial.id for trial in plan.trials]
    assert len(set(ids)) == len(ids)
    assert printed.strip() == str(ids)


def test_a_written_plan_comes_back_equal(plan, tmp_path):
    write_plan(tmp_path, plan)
    assert load_plan(tmp_path) == plan


def test_a_dial_comes_back_and_may_be_added_to_a_sweep_that_ran_without(plan, tmp_path):
    write_plan(tmp_path, plan)
    assert "dial" not in json.loads((tmp_path / "sweep.json").read_text())
    turned = dataclasses.replace(plan, dial={"label": "width", "arms": {"vit": [None, 12], "cnn": [None, 8.5]}})
    check_folder(tmp_path, turned)
    write_plan(tmp_path, turned)
    assert load_plan(tmp_path) == turned


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


def test_a_plan_that_only_adds_is_welcome_in_the_folder(plan, tmp_path):
    write_plan(tmp_path, plan)
    check_folder(tmp_path, dataclasses.replace(plan, seeds=[0, 1, 2]))


def test_a_folder_of_another_sweep_is_refused_and_left_alone(plan, tmp_path):
    write_plan(tmp_path, plan)
    before = (tmp_path / "sweep.json").read_bytes()
    with pytest.raises(ValueError, match=r"holds the sweep 'digits-tiny' with other settings.*Nothing was changed"):
        check_folder(tmp_path, dataclasses.replace(plan, seeds=[1]))
    assert (tmp_path / "sweep.json").read_bytes() == before


def test_a_folder_of_something_else_is_refused(plan, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="not empty and holds no sweep"):
        check_folder(tmp_path, plan)


def test_a_folder_with_a_half_written_plan_of_a_killed_launcher_is_free(plan, tmp_path):
    (tmp_path / ".writing-sweep").write_text("{")
    (tmp_path / ".lock").touch()
    check_folder(tmp_path, plan)


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


@pytest.mark.parametrize("content", ["", "{}", '{"schema": 1, "task": "x"}'])
def test_a_plan_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(ValueError, match=r"sweep\.json is not a plan"):
        load_plan(tmp_path)


def test_a_folder_without_a_plan_is_no_sweep(tmp_path):
    with pytest.raises(ValueError, match="is not a sweep folder"):
        load_plan(tmp_path)


@given(settings, settings)
def test_merging_lets_the_second_win_and_is_idempotent(below, above):
    merged = merge(below, above)
    assert merge(merged, above) == merged
    assert set(merged) == set(below) | set(above)
    assert all(merged[key] == value for key, value in above.items() if not isinstance(value, dict))


def test_another_class_starts_with_fresh_arguments():
    below = {"backbone": {"class_path": "A", "init_args": {"x": 1}}}
    same = merge(below, {"backbone": {"class_path": "A", "init_args": {"y": 2}}})
    other = merge(below, {"backbone": {"class_path": "B", "init_args": {"y": 2}}})
    assert same["backbone"]["init_args"] == {"x": 1, "y": 2}
    assert other["backbone"]["init_args"] == {"y": 2}
