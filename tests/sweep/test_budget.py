"""A budget in seconds or MACs becomes steps once per folder, the same for every later call; the trials keep to it."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from vitlab.cli import main
from vitlab.sweep import store
from vitlab.sweep.budget import describe_budget, resolve_budget
from vitlab.sweep.merge import merge_sweeps
from vitlab.sweep.plan_file import load_plan, write_plan
from vitlab.sweep.session import Session
from vitlab.sweep.session_settings import SessionSettings
from vitlab.sweep.sweep_file import read_sweep
from vitlab.sweep.verify import verify

INSTANT = (sys.executable, str(Path(__file__).with_name("instant_worker.py")))
SETTINGS = SessionSettings(num_workers=2, num_threads=1, program=INSTANT)


@pytest.fixture
def make_plan(write_sweep):
    def make(unit, amount, *replacements):
        return read_sweep(
            write_sweep(("{unit: steps, amount: 3}", f"{{unit: {unit}, amount: {amount}}}"), *replacements)
        )

    return make


def costs(folder):
    path = folder.parent / "costs"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_equal_seconds_are_more_steps_of_the_arm_whose_steps_are_cheap(make_plan, tmp_path):
    folder = tmp_path / "out"
    plan = resolve_budget(make_plan("seconds", "{11: 1.999, 23: 4}"), folder, SETTINGS)
    assert plan.budget["steps"] == {"vit": {"11": 99, "23": 200}, "cnn": {"11": 199, "23": 400}}
    assert plan.budget["measured"]["step"]["vit"] == {"11": 0.02, "23": 0.02}
    assert plan.budget["measured"]["machine"].endswith("(2 trials at a time, CPU threads of each: 1)")
    assert load_plan(folder) == plan
    assert {(trial.model, trial.train_size): trial.settings["trainer"]["max_steps"] for trial in plan.trials} == {
        ("vit", 11): 99, ("vit", 23): 200, ("cnn", 11): 199, ("cnn", 23): 400
    }  # fmt: skip
    assert {trial.budget["unit"] for trial in plan.trials} == {"steps"}
    assert describe_budget(plan)[0] == "1.999 seconds at 11 images: steps: 99 of vit, 199 of cnn"


def test_every_worker_times_all_arms_in_turns(make_plan, tmp_path):
    resolve_budget(make_plan("seconds", 2), tmp_path / "out", SETTINGS)
    for pid in {line[3] for line in costs(tmp_path / "out")}:
        order = [(model, size) for _, model, size, by in costs(tmp_path / "out") if by == pid]
        assert len(order) == 6 * 4
        rounds = [order[start : start + 4] for start in range(0, 24, 4)]
        assert all(set(one) == set(rounds[0]) and len(set(one)) == 4 for one in rounds)
        assert rounds[1] == rounds[0][::-1]
    assert len({line[3] for line in costs(tmp_path / "out")}) == 2


def test_macs_are_counted_once_and_rounded_down(make_plan, tmp_path):
    plan = resolve_budget(make_plan("macs", "1.0e+6"), tmp_path / "out", SETTINGS)
    assert plan.budget["steps"] == {"vit": {"11": 45, "23": 21}, "cnn": {"11": 90, "23": 43}}
    assert "machine" not in plan.budget["measured"]
    assert len(costs(tmp_path / "out")) == 4


def test_a_second_call_measures_nothing_and_has_the_same_trials(make_plan, tmp_path, monkeypatch):
    one = resolve_budget(make_plan("seconds", 2), tmp_path / "out", SETTINGS)
    before = (tmp_path / "out" / "sweep.json").read_bytes(), costs(tmp_path / "out")
    monkeypatch.setenv("VITLAB_TEST_SLOWNESS", "7")
    two = resolve_budget(make_plan("seconds", 2), tmp_path / "out", SETTINGS, may_time=False)
    assert [trial.id for trial in two.trials] == [trial.id for trial in one.trials]
    assert ((tmp_path / "out" / "sweep.json").read_bytes(), costs(tmp_path / "out")) == before


def test_only_what_is_added_is_measured(make_plan, tmp_path):
    first = resolve_budget(make_plan("seconds", 2, ("[11, 23]", "[11]")), tmp_path / "out", SETTINGS)
    count = len(costs(tmp_path / "out"))
    both = resolve_budget(make_plan("seconds", 2), tmp_path / "out", SETTINGS)
    assert {size for _, _, size, _ in costs(tmp_path / "out")[count:]} == {"23"}
    assert {trial.id for trial in first.trials} < {trial.id for trial in both.trials}
    assert load_plan(tmp_path / "out") == both


def test_what_is_added_must_be_measured_under_the_same_conditions(make_plan, tmp_path):
    resolve_budget(make_plan("seconds", 2, ("[11, 23]", "[11]")), tmp_path / "out", SETTINGS)
    before = (tmp_path / "out" / "sweep.json").read_bytes()
    other = dataclasses.replace(SETTINGS, num_workers=1)
    with pytest.raises(ValueError, match=r"were measured on .*2 trials at.* and this is .*\(1 trial at a time"):
        resolve_budget(make_plan("seconds", 2), tmp_path / "out", other)
    assert (tmp_path / "out" / "sweep.json").read_bytes() == before


def test_of_two_that_measure_at_once_the_first_to_write_counts(make_plan, tmp_path, monkeypatch):
    plan, folder = make_plan("seconds", 2), tmp_path / "out"

    def slower(folder, late):
        monkeypatch.undo()
        monkeypatch.setenv("VITLAB_TEST_SLOWNESS", "3")
        resolve_budget(plan, folder, SETTINGS)
        write_plan(folder, late)

    monkeypatch.setattr("vitlab.sweep.budget.write_plan", slower)
    mine = resolve_budget(plan, folder, SETTINGS)
    assert mine == load_plan(folder)
    assert mine.budget["steps"]["vit"] == {"11": 33, "23": 33}


@pytest.mark.parametrize(("unit", "amount"), [("seconds", 3), ("macs", 2), ("steps", 3)])
def test_a_folder_with_another_budget_is_refused_before_anything_is_measured(make_plan, tmp_path, unit, amount):
    resolve_budget(make_plan("seconds", 2), tmp_path / "out", SETTINGS)
    before = costs(tmp_path / "out")
    with pytest.raises(ValueError, match=r"holds .*with (a budget of 2 seconds|other settings)"):
        Session(resolve_budget(make_plan(unit, amount), tmp_path / "out", SETTINGS), tmp_path / "out", SETTINGS).run()
    assert costs(tmp_path / "out") == before


def test_a_folder_of_something_else_is_left_alone(make_plan, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="not empty and holds no sweep"):
        resolve_budget(make_plan("seconds", 2), tmp_path / "out", SETTINGS)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("unit", "amount", "cost"), [("seconds", 0.019, "0.02 seconds"), ("macs", 21000, "2.2e.04 macs")]
)
def test_less_than_a_step_is_refused_and_no_plan_is_written(make_plan, tmp_path, unit, amount, cost):
    with pytest.raises(
        ValueError, match=rf"{amount} {unit} at 11 images is less than a training step of vit, which takes {cost}"
    ):
        resolve_budget(make_plan(unit, amount), tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out" / "sweep.json").exists()


def test_a_model_that_cannot_be_trained_is_named(make_plan, tmp_path, monkeypatch):
    monkeypatch.setenv("VITLAB_TEST_BROKEN", "cnn")
    with pytest.raises(ValueError, match=r"model cnn with .* images cannot be trained: no such layer"):
        resolve_budget(make_plan("seconds", 2), tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out" / "sweep.json").exists()


def test_seconds_are_not_measured_where_trials_will_not_run(make_plan, tmp_path):
    with pytest.raises(ValueError, match=r"measured where the trials will run.*--plan-only"):
        resolve_budget(make_plan("seconds", 2), tmp_path / "out", SETTINGS, may_time=False)
    assert resolve_budget(make_plan("macs", "1.0e+6"), tmp_path / "macs", SETTINGS, may_time=False).trials


@pytest.mark.parametrize("where", [["--launcher", "slurm"], ["--shard", "1/2"]])
def test_the_command_line_says_so_before_jobs_or_shards_measure_each_for_itself(where, write_sweep, tmp_path, capsys):
    config = write_sweep(("unit: steps", "unit: seconds"))
    assert main(["sweep", str(config), "--out", str(tmp_path / "out"), *where]) == 2
    assert "measured where the trials will run" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_plan_alone_is_written_and_nothing_is_trained(write_sweep, plan, tmp_path, capsys):
    command = ["sweep", str(write_sweep()), "--out", str(tmp_path / "out"), "--plan-only"]
    assert main(command) == main(command) == 0
    assert "16 trials planned" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sweep.json"]
    assert load_plan(tmp_path / "out") == plan


def test_a_plan_alone_counts_the_trials_that_a_search_will_name(write_sweep, tmp_path, capsys):
    config = write_sweep(("learning_rates: [0.001, 0.01]", "learning_rates: auto"))
    assert main(["sweep", str(config), "--out", str(tmp_path / "out"), "--plan-only"]) == 0
    assert "44 trials planned" in capsys.readouterr().out


def test_a_plan_that_was_not_measured_has_no_trials(make_plan):
    with pytest.raises(ValueError, match="how many steps of vit with 11 images are 2 seconds has not been measured"):
        make_plan("seconds", 2).trials  # noqa: B018 (it is computed)


def test_budgets_in_steps_are_left_as_they_are(plan, tmp_path):
    assert resolve_budget(plan, tmp_path / "out", SETTINGS) is plan
    assert describe_budget(plan) == []
    assert not (tmp_path / "out").exists()


def test_a_session_runs_the_measured_steps_and_the_folder_is_in_order(make_plan, tmp_path):
    plan = resolve_budget(make_plan("seconds", 2), tmp_path / "out", SETTINGS)
    counts = Session(plan, tmp_path / "out", SETTINGS).run()
    assert (counts.done, counts.missing) == (16, 0)
    assert {record["budget"]["amount"] for record in store.read_records(tmp_path / "out")} == {100, 200}
    assert not [finding for finding in verify(tmp_path / "out") if "arguments" in finding.words]


def test_parts_of_one_measured_sweep_are_merged_and_others_refused(make_plan, tmp_path, monkeypatch):
    whole = resolve_budget(make_plan("seconds", 2), tmp_path / "whole", SETTINGS)
    for seed in (0, 1):
        write_plan(tmp_path / str(seed), dataclasses.replace(whole, seeds=[seed]))
    merge_sweeps([tmp_path / "0", tmp_path / "1"], tmp_path / "out")
    assert load_plan(tmp_path / "out") == whole
    monkeypatch.setenv("VITLAB_TEST_SLOWNESS", "3")
    resolve_budget(make_plan("seconds", 2), tmp_path / "again", SETTINGS)
    with pytest.raises(ValueError, match=r"no parts of one sweep: budget\.steps\.vit\.11 is 100 and 33"):
        merge_sweeps([tmp_path / "0", tmp_path / "again"], tmp_path / "other")
    small = resolve_budget(make_plan("seconds", 2, ("[11, 23]", "[11]")), tmp_path / "small", SETTINGS)
    assert small.budget["steps"]["vit"] == {"11": 33}
    large = resolve_budget(make_plan("seconds", 2, ("[11, 23]", "[23]")), tmp_path / "large", SETTINGS)
    write_plan(tmp_path / "vit", one_arm(small, "vit"))
    write_plan(tmp_path / "cnn", one_arm(large, "cnn"))
    with pytest.raises(ValueError, match="how many steps of cnn with 11 images are 2 seconds has not been measured"):
        merge_sweeps([tmp_path / "vit", tmp_path / "cnn"], tmp_path / "other")


def one_arm(plan, model):
    kept = {name: {model: getattr(plan, name)[model]} for name in ("model_settings", "learning_rates")}
    budget = plan.budget | {"steps": {model: plan.budget["steps"][model]}}
    return dataclasses.replace(plan, **kept, budget=budget)


SMALL = (("seeds: [0, 1]", "seeds: [0]"), ("[0.001, 0.01]", "[0.01]"), ("[11, 23]", "[23]"))


@pytest.mark.slow
@pytest.mark.parametrize(("unit", "amount"), [("seconds", 0.7), ("macs", "2.0e+8")])
def test_a_real_sweep_keeps_to_its_budget_and_repeats_nothing(write_sweep, tmp_path, capsys, unit, amount):
    config = write_sweep(("{unit: steps, amount: 3}", f"{{unit: {unit}, amount: {amount}}}"), *SMALL)
    command = ["sweep", str(config), "--out", str(tmp_path / "out"), "--threads", "1"]
    assert main([*command, "--plan-only"]) == 0
    assert "2 trials planned" in capsys.readouterr().out
    assert store.record_ids(tmp_path / "out") == set()
    plan = load_plan(tmp_path / "out")
    assert main(command) == 0
    assert load_plan(tmp_path / "out") == plan
    for record in store.read_records(tmp_path / "out"):
        cost = plan.budget["measured"]["step"][record["model"]]["23"]
        assert record["steps"] == plan.budget["steps"][record["model"]]["23"] == int(float(amount) / cost)
        if unit == "macs":
            assert cost == 3 * record["macs"] * record["examples_seen"] / record["steps"]
        else:  # another process may have slowed either; the report warns beyond 15 %
            assert 0.4 < record["train_seconds"] / amount < 2.5
    capsys.readouterr()
    assert main(command) == 0
    assert main(["report", str(tmp_path / "out")]) == 0
    summary = json.loads((tmp_path / "out" / "report" / "summary.json").read_text())
    (finding,) = [finding for finding in summary["fairness"] if finding["check"] == "budget"]
    assert unit.replace("macs", "multiply-adds") in finding["words"]
