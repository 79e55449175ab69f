"""Every trial is handed out once; tests come after an arm's choice, and only for what was chosen."""

import itertools
import math
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


def peak(trial):
    """Accuracies that are best at 0.02."""
    return 0.9 - 0.1 * abs(math.log10(trial.learning_rate / 0.02)) + 0.01 * trial.seed


def test_a_search_is_worked_off_and_only_its_choice_is_tested(searching, make_record):
    schedule = Schedule(searching, [])
    assert schedule.counts() == Counts(done=0, failed=0, running=0, missing=4 * 11, untested=0)
    assert schedule.work_left() == 4 * 11 * 3
    done, records, unneeded = work_off(schedule, make_record, peak)
    fits = [trial_id for kind, trial_id in done if kind == "fit"]
    assert len(fits) == len(set(fits)) == 4 * 11
    assert set(fits) == {trial.id for trial in schedule.plan.trials}
    assert schedule.counts() == Counts(done=4 * 11, failed=0, running=0, missing=0, untested=0)
    assert schedule.work_left() == 0
    tested = [records[trial_id] for kind, trial_id in done if kind == "test"]
    assert sorted((r["model"], r["train_size"], r["seed"]) for r in tested) == sorted(
        itertools.product(["vit", "cnn"], [11, 23], [0, 1])
    )
    assert {record["learning_rate"] for record in tested} == {0.02}
    assert sorted(unneeded) == sorted(set(fits) - {record["id"] for record in tested})


def test_in_a_search_no_trial_is_tested_before_its_arm_has_been_decided(searching, make_record):
    schedule = Schedule(searching, [])
    done, _, _ = work_off(schedule, make_record, peak)
    arms = {trial.id: (trial.model, trial.train_size) for trial in schedule.plan.trials}
    for position, (kind, trial_id) in enumerate(done):
        if kind == "test":
            assert all(("fit", other) in done[:position] for other, arm in arms.items() if arm == arms[trial_id])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("keeps_plan", [True, False])
def test_a_search_that_starts_again_from_any_set_of_records_ends_the_same(searching, make_record, seed, keeps_plan):
    first = Schedule(searching, [])
    _, full, _ = work_off(first, make_record, peak)
    kept = random.Random(seed).sample(sorted(full), k=seed * 9)
    partly = [full[trial_id] | {"test": None} for trial_id in kept]
    again = Schedule(first.plan if keeps_plan else searching, partly)
    fitted = {}
    while not again.is_finished:
        kind, trial = task = again.take()
        record = full[trial.id] if kind == "test" else full[trial.id] | {"test": None}
        fitted |= {trial.id: record}
        again.finish(task, record)
        for record in partly:  # as a session hears of records that are on the disk
            again.note(record)
    assert again.plan == first.plan
    assert again.counts() == first.counts()


def test_a_finished_search_has_nothing_to_do(searching, make_record):
    first = Schedule(searching, [])
    _, records, _ = work_off(first, make_record, peak)
    assert Schedule(first.plan, records.values()).is_finished
    assert Schedule(searching, records.values()).is_finished


def test_models_are_checked_at_the_sizes_that_a_search_has_not_come_to(searching):
    trials = Schedule(searching, []).open_fits
    assert [trial.train_size for trial in trials] == sorted(trial.train_size for trial in trials)
    assert {(trial.model, trial.train_size) for trial in trials} == set(itertools.product(["vit", "cnn"], [11, 23]))


@pytest.mark.parametrize("kind", ["plan", "searching"])
def test_seeds_that_come_later_are_trained_and_tested_and_the_choice_is_made_again(kind, make_record, request):
    plan = request.getfixturevalue(kind)
    schedule = Schedule(plan, [])
    _, before, _ = work_off(schedule, make_record, peak)
    schedule.grow(plan.with_seeds(23, [5]))
    assert not schedule.is_finished
    assert not set(schedule.unneeded()) & {trial.id for trial in schedule.plan.trials if trial.seed == 5}
    done, after, _ = work_off(schedule, make_record, peak)
    new = {trial.id: trial for trial in schedule.plan.trials if trial.id not in before}
    assert {trial_id for kind, trial_id in done if kind == "fit"} == set(new)
    assert {(trial.seed, trial.train_size) for trial in new.values()} == {(5, 23)}
    tested = [new[trial_id] for kind, trial_id in done if kind == "test" and trial_id in new]
    assert sorted(trial.model for trial in tested) == ["cnn", "vit"]
    assert len({trial.learning_rate for trial in tested}) == 1
    assert set(after) == set(new)
