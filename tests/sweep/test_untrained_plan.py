"""A plan of which nothing was begun makes way for another; whatever was begun, by anybody, defends its folder."""

import contextlib
import dataclasses
import multiprocessing
import os

import pytest

from vitlab.cli import main
from vitlab.sweep import store, untrained_plan
from vitlab.sweep.budget import resolve_budget
from vitlab.sweep.claims import Claims
from vitlab.sweep.owners import Owner, Watch
from vitlab.sweep.plan_file import OtherSweepError, check_folder, load_plan, write_plan
from vitlab.sweep.session_settings import SessionSettings
from vitlab.sweep.sweep_file import read_sweep
from vitlab.sweep.untrained_plan import make_way

NUM_RACES = 20
REFUSAL = OtherSweepError("other settings")


def begin_record(folder, plan, make_record):
    store.write_record(folder, make_record(plan.trials[0]))


def begin_claim(folder, plan, make_record):
    with Owner(folder) as owner:
        Claims(owner, Watch(folder)).claim(plan.trials[0].id)


def begin_submission(folder, plan, make_record):
    (folder / "jobs").mkdir()
    (folder / "jobs" / "17.json").touch()


def begin_something_else(folder, plan, make_record):
    (folder / "checkpoints").mkdir()


def is_whole(folder, plan):
    return load_plan(folder) == plan and not list(folder.glob(".writing-*"))


def test_the_corrected_command_takes_the_folder_of_the_one_with_a_mistake(write_sweep, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["sweep", str(write_sweep()), "--out", str(out), "--plan-only", "--set"]
    assert main([*command, "data.batch_size=8"]) == main([*command, "data.batch_size=16"]) == 0
    assert f"of the plan that was in {out} nothing has been trained" in capsys.readouterr().out
    assert load_plan(out).model_settings["vit"]["data"] == {"batch_size": 16}
    assert not list(out.glob(".writing-*"))


def test_another_way_to_tune_takes_it_too(write_sweep, tmp_path):
    for config in (write_sweep(), write_sweep(("[0.001, 0.01]", "auto"))):
        assert main(["sweep", str(config), "--out", str(tmp_path / "out"), "--plan-only"]) == 0
    assert load_plan(tmp_path / "out").tuning == "auto"


def test_another_budget_is_another_sweep_before_it_is_measured(write_sweep, plan, tmp_path):
    write_plan(tmp_path, plan)
    counted = read_sweep(write_sweep(("steps, amount: 3", "macs, amount: 1.0e+9")))
    with pytest.raises(OtherSweepError, match="a budget of 3 steps at 11 images"):
        resolve_budget(counted, tmp_path, SessionSettings())


@pytest.mark.parametrize("begin", [begin_record, begin_claim, begin_submission, begin_something_else])
def test_whatever_was_begun_defends_its_folder(begin, plan, make_record, tmp_path):
    write_plan(tmp_path, plan)
    begin(tmp_path, plan, make_record)
    with pytest.raises(OtherSweepError, match="other settings"):
        make_way(tmp_path, 45, REFUSAL)
    assert is_whole(tmp_path, plan)


def test_a_launcher_that_has_just_started_defends_its_folder_until_it_ends(plan, tmp_path):
    write_plan(tmp_path, plan)
    with Owner(tmp_path), pytest.raises(OtherSweepError):
        make_way(tmp_path, 45, REFUSAL)
    assert is_whole(tmp_path, plan)
    make_way(tmp_path, 45, REFUSAL)
    assert not (tmp_path / "sweep.json").exists()
    check_folder(tmp_path, dataclasses.replace(plan, task="another"))


@pytest.mark.parametrize("writes", [False, True])
def test_a_launcher_that_starts_at_the_very_moment_keeps_its_plan(writes, plan, tmp_path, monkeypatch):
    """It comes after the first look and before the plan is moved, or writes its own while there is none."""
    write_plan(tmp_path, plan)
    rename, other = os.rename, Owner(tmp_path)

    def start_and_rename(source, target):
        other.__enter__()
        rename(source, target)
        if writes:
            write_plan(tmp_path, dataclasses.replace(plan, title="mine"))

    monkeypatch.setattr(untrained_plan.os, "rename", start_and_rename)
    with pytest.raises(OtherSweepError):
        make_way(tmp_path, 45, REFUSAL)
    other.__exit__()
    assert is_whole(tmp_path, dataclasses.replace(plan, title="mine") if writes else plan)


def start_in_a_race(barrier, winners, folder, plan):
    """What a command does, without the training: make way if need be, write the plan, claim a trial."""
    for race in range(NUM_RACES):
        barrier.wait()
        with contextlib.ExitStack() as stack:
            try:
                try:
                    check_folder(folder / str(race), plan)
                except OtherSweepError as refusal:
                    make_way(folder / str(race), 45, refusal)
                owner = stack.enter_context(Owner(folder / str(race)))
                write_plan(owner.folder, check_folder(owner.folder, plan))
                claims = Claims(owner, Watch(owner.folder))
                winners.put((race, plan.seeds if claims.claim(plan.trials[0].id) else None))
            except OtherSweepError:
                winners.put((race, None))
            barrier.wait()


def test_of_the_old_plans_launcher_and_the_new_ones_that_start_at_once_one_gets_the_folder(plan, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, winners = context.Barrier(2), context.SimpleQueue()
    plans = [dataclasses.replace(plan, seeds=[seed]) for seed in (0, 1)]
    for race in range(NUM_RACES):
        write_plan(tmp_path / str(race), plans[0])
    starters = [context.Process(target=start_in_a_race, args=(barrier, winners, tmp_path, one)) for one in plans]
    for process in starters:
        process.start()
    said = sorted((winners.get() for _ in range(2 * NUM_RACES)), key=str)
    for process in starters:
        process.join()
        assert process.exitcode == 0
    won = {race: seeds for race, seeds in said if seeds}
    assert len([seeds for _, seeds in said if seeds]) == len(won) == NUM_RACES
    assert won == {race: load_plan(tmp_path / str(race)).seeds for race in range(NUM_RACES)}


def test_measured_seconds_are_not_thrown_away(write_sweep, plan, tmp_path):
    measured = {"step": {}, "machine": "a machine"}
    write_plan(tmp_path, dataclasses.replace(plan, budget={**plan.budget, "measured": measured}))
    before = (tmp_path / "sweep.json").read_bytes()
    with pytest.raises(OtherSweepError, match=f"or delete {tmp_path}: nothing in it has been trained"):
        make_way(tmp_path, 45, REFUSAL)
    assert (tmp_path / "sweep.json").read_bytes() == before
