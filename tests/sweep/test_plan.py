"""A plan is the product of its axes; its trials have stable ids and are command lines."""

import dataclasses
import json
import multiprocessing
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitlab.sweep.plan import check_folder, load_plan, merge, write_plan

IDS = ["19e230e2d4a1", "852dccb5780b"]  # of the first two trials, by the first version that had ids
NUM_RACES = 20

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
    for part in ("owners", "jobs", "logs"):
        (tmp_path / part).mkdir()
    check_folder(tmp_path, plan)


def write_in_a_race(barrier, refused, folder, plan):
    for race in range(NUM_RACES):
        check_folder(folder / str(race), plan)
        barrier.wait()
        try:
            write_plan(folder / str(race), plan)
        except ValueError:
            refused.put((race, plan.seeds))
        barrier.wait()


def test_of_two_sweeps_that_start_in_an_empty_folder_at_once_one_gets_it(plan, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, refused = context.Barrier(2), context.SimpleQueue()
    plans = [dataclasses.replace(plan, seeds=[seed]) for seed in (0, 1)]
    writers = [context.Process(target=write_in_a_race, args=(barrier, refused, tmp_path, one)) for one in plans]
    for process in writers:
        process.start()
    losers = dict(refused.get() for _ in range(NUM_RACES))
    for process in writers:
        process.join()
        assert process.exitcode == 0
    assert refused.empty()
    assert [load_plan(tmp_path / str(race)).seeds for race in range(NUM_RACES)] == [
        [1] if losers[race] == [0] else [0] for race in range(NUM_RACES)
    ]


def test_of_two_launchers_of_one_sweep_the_second_is_welcome_and_may_add(plan, tmp_path):
    write_plan(tmp_path, plan)
    write_plan(tmp_path, plan)
    larger = dataclasses.replace(plan, seeds=[0, 1, 2])
    write_plan(tmp_path, larger)
    assert load_plan(tmp_path) == larger
    with pytest.raises(ValueError, match="holds the sweep 'digits-tiny' with other settings"):
        write_plan(tmp_path, plan)
    assert load_plan(tmp_path) == larger


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


@pytest.mark.parametrize("content", ["", "{}", '{"schema": 1, "task": "x"}'])
def test_a_plan_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(ValueError, match=r"sweep\.json is not a plan"):
        load_plan(tmp_path)


@pytest.mark.parametrize("edit", [('"steps"', '"stops"'), (" 23\n", " 24\n"), ('"cnn"', '"cmn"')])
def test_a_plan_whose_axes_do_not_fit_together_is_named(plan, tmp_path, edit):
    write_plan(tmp_path, plan)
    text = (tmp_path / "sweep.json").read_text()
    assert edit[0] in text
    (tmp_path / "sweep.json").write_text(text.replace(*edit, 1))
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
