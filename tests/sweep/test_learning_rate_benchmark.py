"""The benchmark gives the search what it asks for of the grid's records, and no test result."""

import dataclasses
import math
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

from vitlab.sweep import store
from vitlab.sweep.plan_file import load_plan, write_plan
from vitlab.sweep.schedule import Schedule

SCRIPT = Path(__file__).parents[2] / "scripts" / "learning_rate_benchmark"


@pytest.fixture
def benchmark():
    loader = SourceFileLoader("learning_rate_benchmark", str(SCRIPT))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def grid(benchmark, tmp_path, make_record):
    """A finished grid at one size; the accuracy is best at a rate of 0.01, on test data at 0.5."""
    plan = benchmark.plan_of("digits")
    plan = dataclasses.replace(plan, train_sizes=[20], budget={"unit": "steps", "amount": {"20": 100}})
    write_plan(tmp_path / "grid", plan)
    for trial in plan.trials:
        accuracy = 0.9 - 0.1 * abs(math.log10(trial.learning_rate / 0.01)) + 0.01 * trial.seed
        test = {"accuracy": trial.learning_rate} if trial.learning_rate == 0.01 else None
        store.write_record(tmp_path / "grid", make_record(trial, accuracy, test=test))
    return plan


def test_the_search_gets_fourteen_of_thirty_six_trials_without_their_tests(benchmark, grid, tmp_path):
    target = tmp_path / "search"
    for _ in range(2):  # again is nothing
        benchmark.copy_what_is_asked_for(benchmark.searching(grid), tmp_path / "grid", target)
    records = store.read_records(target)
    assert len(records) == 2 * 14
    assert all(record["test"] is None for record in records)
    schedule = Schedule(load_plan(target), records)
    assert (schedule.counts().missing, schedule.counts().untested) == (0, 2 * 3)
    assert {task[1].learning_rate for task in schedule.open_tasks} == {0.01}


def test_the_table_says_what_was_chosen_and_what_was_lost(benchmark, grid, tmp_path):
    target = tmp_path / "search"
    benchmark.copy_what_is_asked_for(benchmark.searching(grid), tmp_path / "grid", target)
    for record in store.read_records(target):
        if record["learning_rate"] == 0.01:
            store.write_record(target, record | {"test": {"accuracy": 0.02}})
    rows = benchmark.compare(grid, tmp_path / "grid", target)
    assert [row["model"] for row in rows] == ["vit", "cnn"]
    for row in rows:
        assert (row["grid_rate"], row["search_rate"], row["grid_trials"], row["search_trials"]) == (0.01, 0.01, 36, 14)
        assert row["test_difference"] == pytest.approx(1.0)
        assert row["val_difference"] == 0
    orders = benchmark.other_orders(grid, tmp_path / "grid")
    assert orders == [0.0] * 6 * 2
    words = benchmark.page(rows, orders)
    assert "at most 38.9 % of the grid's trials" in words
    assert "12 of 12 searches" in words


def test_rates_beyond_the_grid_are_nothing_to_compare_with(benchmark, grid, tmp_path):
    for record in store.read_records(tmp_path / "grid"):
        store.write_record(tmp_path / "grid", record | {"val": {"accuracy": record["learning_rate"]}})
    orders = benchmark.other_orders(grid, tmp_path / "grid")
    assert orders == [None] * 6 * 2
