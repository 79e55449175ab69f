"""What one launcher adds to a plan reaches all, and nothing that any of them has added stays lost."""

import dataclasses

import pytest

from vitlab.sweep.plan_file import add_growth, load_plan, write_plan
from vitlab.sweep.schedule import Schedule
from vitlab.sweep.shared_plan import SharedPlan


@pytest.fixture
def join(tmp_path):
    """Enter the folder with a plan, as a launcher does."""

    def join(plan):
        write_plan(tmp_path, plan)
        schedule = Schedule(load_plan(tmp_path), [])
        shared = SharedPlan(tmp_path, schedule)
        shared.sync()
        return schedule, shared

    return join


def test_what_one_adds_the_other_has(plan, join, tmp_path):
    (first, one), (second, two) = join(plan), join(plan)
    first.grow(plan.with_seeds(11, [5]))
    second.grow(plan.with_size(13, 3))
    one.sync()
    two.sync()
    one.sync()
    assert first.plan == second.plan == load_plan(tmp_path) == plan.with_seeds(11, [5]).with_size(13, 3)
    assert first.counts().missing == second.counts().missing == len(first.plan.trials)


def test_growth_that_a_race_took_back_comes_again(plan, join, tmp_path):
    schedule, shared = join(plan)
    schedule.grow(plan.with_seeds(11, [5]))
    shared.sync()
    (tmp_path / "sweep.json").unlink()  # another launcher read the plan before and writes it after
    write_plan(tmp_path, plan.with_seeds(23, [7]))
    shared.sync()
    assert load_plan(tmp_path) == schedule.plan == plan.with_seeds(11, [5]).with_seeds(23, [7])


def test_a_plan_that_stays_is_not_written_again(plan, join, tmp_path):
    _, shared = join(plan)
    before = (tmp_path / "sweep.json").stat()
    shared.sync()
    assert (tmp_path / "sweep.json").stat() == before


def test_a_session_of_a_smaller_sweep_file_neither_ends_nor_shrinks_the_plan(plan, join, tmp_path):
    schedule, shared = join(plan)
    write_plan(tmp_path, larger := dataclasses.replace(plan, seeds=[0, 1, 2, 3]))
    schedule.grow(plan.with_seeds(11, [9]))
    shared.sync()
    assert load_plan(tmp_path) == larger.with_seeds(11, [9])
    assert {trial.seed for trial in schedule.plan.trials} == {0, 1, 9}


def test_a_search_stands_in_the_folder_as_soon_as_it_grows(searching, join, tmp_path, make_record):
    schedule, shared = join(searching)
    assert load_plan(tmp_path) == schedule.plan != searching
    while len(load_plan(tmp_path).trials) < 44:
        task = schedule.take()
        schedule.finish(task, make_record(task[1], task[1].learning_rate / 100))
        shared.sync()
        assert load_plan(tmp_path) == schedule.plan
    assert add_growth(tmp_path, searching) == schedule.plan
