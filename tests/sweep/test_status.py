"""What `vitlab status` says of a folder, also while a launcher is at work in it."""

import os
import socket
import time

import pytest

from vitlab.sweep import owners, store
from vitlab.sweep.claims import Claims
from vitlab.sweep.owners import Owner, Watch
from vitlab.sweep.plan_file import write_plan
from vitlab.sweep.schedule import Schedule
from vitlab.sweep.status import describe_status


@pytest.fixture
def begun(plan, tmp_path, make_record):
    """A sweep with two trials done and one failed."""
    write_plan(tmp_path, plan)
    for trial, status in zip(plan.trials, ("done", "done", "failed"), strict=False):
        store.write_record(tmp_path, make_record(trial, status=status))
    return tmp_path


def test_trials_run_only_while_a_launcher_is_at_work_on_them(begun, plan):
    assert "2 done, 1 failed, 0 running, 13 missing of 16" in describe_status(begun)
    assert "no launcher is at work here" in describe_status(begun)
    with Owner(begun) as owner:
        claims = Claims(owner, Watch(begun))
        claims.claim(plan.trials[2].id)  # has failed before: counts as that
        claims.claim(plan.trials[3].id)
        claims.claim(plan.trials[4].id)
        assert "2 done, 1 failed, 2 running, 11 missing of 16" in describe_status(begun)
        assert f"at work: local launcher on {socket.gethostname()}, process {os.getpid()}: 3 trials" in describe_status(
            begun
        )
    assert "0 running" in describe_status(begun)


def test_a_launcher_of_another_machine_that_is_long_silent_is_called_probably_dead(begun):
    owners.write_json(
        owners.owner_path(begun, "local-n7-1-abc"),
        vars(owners.Heartbeat("local-n7-1-abc", "local", "n7", "its boot", 1, patience_seconds=45.0)),
    )
    assert "no heartbeat" not in describe_status(begun)
    two_hours_ago = time.time() - 7200
    os.utime(owners.owner_path(begun, "local-n7-1-abc"), (two_hours_ago, two_hours_ago))
    assert "process 1: 0 trials; no heartbeat for 120 minutes: probably dead" in describe_status(begun)


def test_done_trials_are_shown_by_model_and_size(begun):
    table = {line.split()[0]: line.split()[1:] for line in describe_status(begun).splitlines()[-2:]}
    assert table == {"vit": ["2/4", "0/4"], "cnn": ["0/4", "0/4"]}


def test_selected_trials_without_a_test_are_counted(plan, tmp_path, make_record):
    write_plan(tmp_path, plan)
    for trial in plan.trials:
        store.write_record(tmp_path, make_record(trial, accuracy=trial.learning_rate))
    assert "8 selected trials are not tested yet" in describe_status(tmp_path)


def test_a_record_that_cannot_be_believed_is_named(begun, plan):
    path = store.record_path(begun, plan.trials[0].id)
    path.write_text(path.read_text().replace('"accuracy": 0.5', '"accuracy": 0.9'))
    with pytest.raises(ValueError, match=rf"{plan.trials[0].id}\.json is not as it was written"):
        describe_status(begun)


def test_trials_that_a_search_has_yet_to_name_are_missing(searching, tmp_path, make_record):
    write_plan(tmp_path, searching)
    assert "0 done, 0 failed, 0 running, 44 missing of 44" in describe_status(tmp_path)
    schedule = Schedule(searching, [])
    for _ in range(5):
        store.write_record(tmp_path, make_record(schedule.take()[1]))
    write_plan(tmp_path, schedule.plan)
    assert "5 done, 0 failed, 0 running, 39 missing of 44" in describe_status(tmp_path)
    table = {line.split()[0]: line.split()[1:] for line in describe_status(tmp_path).splitlines()[-2:]}
    assert table == {"vit": ["4/11", "0/11"], "cnn": ["1/11", "0/11"]}
