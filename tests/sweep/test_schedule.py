"""Every trial is handed out once; tests come after an arm's choice, and only for what was chosen."""

import random

import pytest

from vitlab.sweep.schedule import Counts, Schedule


def work_off(schedule, make_record, accuracy=lambda trial: trial.learning_rate):
    """Do all tasks; returns them in the order in which they were handed out, and the trials declared unneeded."""
    done, records, unneeded = [], {}, []
    while not schedule.is_finished:
        kind, trial = task = schedule.take()
        done.append((kind, trial.id))
        before = records.get(trial.id) or make_record(trial, accuracy(trial))
        records[trial.id] = before | ({"test": {"accuracy": 0.5}} if kind == "test" else {})
        unneeded += schedule.finish(task, records[trial.id])
    return done, records, unneeded


def test_each_trial_is_trained_once_and_the_chosen_are_tested_once(plan, make_record):
    done, _, unneeded = work_off(Schedule(plan, []), make_record)
    assert sorted(trial_id for kind, trial_id in done if kind == "fit") == sorted(trial.id for trial in plan.trials)
    tested = [trial_id for kind, trial_id in done if kind == "test"]
    best = [trial.id for trial in plan.trials if trial.learning_rate == 0.01]
    assert sorted(tested) == sorted(best)
    assert sorted(unneeded) == sorted({trial.id for trial in plan.trials} - set(best))


def test_no_trial_is_tested_before_its_arm_has_been_trained(plan, make_record):
    done, _, _ = work_off(Schedule(plan, []), make_record)
    arms = {trial.id: (trial.model, trial.train_size) for trial in plan.trials}
    for position, (kind, trial_id) in enumerate(done):
        if kind == "test":
            assert all(("fit", other) in done[:position] for other, arm in arms.items() if arm == arms[trial_id])


@pytest.mark.parametrize("seed", range(5))
def test_starting_again_from_any_set_of_records_ends_the_same(plan, make_record, seed):
    _, full, _ = work_off(Schedule(plan, []), make_record)
    kept = random.Random(seed).sample(sorted(full), k=seed * 3)
    partly = [full[trial_id] | {"test": None} if index % 2 else full[trial_id] for index, trial_id in enumerate(kept)]
    done, again, _ = work_off(Schedule(plan, partly), lambda trial, _: full[trial.id] | {"test": None})
    assert {**{record["id"]: record for record in partly}, **again} == full
    assert not {trial_id for kind, trial_id in done if kind == "fit"} & set(kept)


def test_a_finished_sweep_has_nothing_to_do(plan, make_record):
    _, records, _ = work_off(Schedule(plan, []), make_record)
    schedule = Schedule(plan, records.values())
    assert schedule.is_finished
    assert schedule.take() is None
    assert schedule.counts() == Counts(done=16, failed=0, running=0, missing=0, untested=0)


def test_a_task_given_back_comes_again(plan):
    schedule = Schedule(plan, [])
    task = schedule.take()
    schedule.give_back(task)
    assert schedule.take() == task


def test_counts_tell_running_from_missing(plan, make_record):
    schedule = Schedule(plan, [])
    first = schedule.take()
    schedule.take()
    schedule.finish(first, make_record(first[1], status="failed"))
    assert schedule.counts() == Counts(done=0, failed=1, running=1, missing=14, untested=0, failed_now=1)


def test_records_of_other_plans_are_ignored(plan, make_record):
    stranger = make_record(plan.trials[0]) | {"id": "stranger"}
    assert Schedule(plan, [stranger]).counts().missing == 16


def test_failed_trials_stay_failed_and_do_not_hold_up_their_arm(plan, make_record):
    failed = plan.trials[0]
    done, _, _ = work_off(Schedule(plan, [make_record(failed, status="failed")]), make_record)
    arm = [t for t in plan.trials if (t.model, t.train_size) == (failed.model, failed.train_size)]
    assert ("fit", failed.id) not in done
    assert any(("test", trial.id) in done for trial in arm)


def test_work_left_counts_what_has_not_ended(plan, make_record):
    schedule = Schedule(plan, [])
    assert schedule.work_left() == 16 * 3
    task = schedule.take()
    assert schedule.work_left() == 16 * 3
    schedule.finish(task, make_record(task[1]))
    assert schedule.work_left() == 15 * 3


def test_a_failed_test_changes_no_choice_and_is_not_tried_again_by_itself(plan, make_record):
    _, records, _ = work_off(Schedule(plan, []), make_record)
    broken = next(record for record in records.values() if record["test"])
    broken |= {"test": None, "test_error": "cannot read an image"}
    schedule = Schedule(plan, records.values())
    assert schedule.is_finished
    assert schedule.counts().untested == 1
    retried = Schedule(plan, [record | {"test_error": None} for record in records.values()])
    assert [(kind, trial.id) for kind, trial in [retried.take()]] == [("test", broken["id"])]


def test_weights_that_nobody_needs_are_known_also_after_a_restart(plan, make_record):
    _, records, unneeded = work_off(Schedule(plan, []), make_record)
    assert sorted(Schedule(plan, records.values()).unneeded()) == sorted(unneeded)
