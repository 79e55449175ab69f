"""A race takes fewer trials than a grid, the same for every arm, and its winner has all seeds."""

import dataclasses
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitlab.sweep.local_launcher import LocalLauncher
from vitlab.sweep.merge import merge_sweeps
from vitlab.sweep.plan_file import check_folder, load_plan, write_plan
from vitlab.sweep.rate_race import num_rates
from vitlab.sweep.rate_search import grown, num_trials, num_undecided
from vitlab.sweep.schedule import Schedule
from vitlab.sweep.selection import chosen_learning_rates
from vitlab.sweep.session import Session
from vitlab.sweep.session_settings import SessionSettings
from vitlab.sweep.shared_plan import forget_failed_arms
from vitlab.sweep.store import read_records, write_record
from vitlab.sweep.sweep_file import read_sweep

RATES = [0.001, 0.003, 0.01]


@pytest.fixture
def race(write_sweep):
    return read_sweep(
        write_sweep(
            ("learning_rates: [0.001, 0.01]", f"learning_rates: {RATES}\nrace: true"),
            ("seeds: [0, 1]", "seeds: [0, 1, 2]"),
        )
    )


def run(plan, accuracy):
    """Run a race to its end; returns the grown plan and all records."""
    records, plan = {}, grown(plan, {})
    while missing := [trial for trial in plan.trials if trial.id not in records]:
        for trial in missing:
            score = accuracy(trial)
            axes = {"model": trial.model, "train_size": trial.train_size, "learning_rate": trial.learning_rate}
            result = (
                {"status": "failed", "val": None} if score is None else {"status": "done", "val": {"accuracy": score}}
            )
            records[trial.id] = {"id": trial.id, "seed": trial.seed, **axes, **result}
        plan = grown(plan, records)
    return plan, records


@pytest.mark.parametrize(
    ("num_listed", "num_seeds", "numbers"), [(3, 3, [3, 2, 1]), (6, 5, [6, 3, 2, 1, 1]), (1, 2, [1, 1]), (5, 1, [5])]
)
def test_half_of_the_rates_go_on_from_seed_to_seed(num_listed, num_seeds, numbers):
    assert num_rates(num_listed, num_seeds) == numbers


def test_three_rates_and_seeds_are_six_trials_where_a_grid_has_nine(race):
    plan, records = run(race, lambda trial: 0.5)
    assert num_trials(race, 11) == 6
    assert sum(num_undecided(race).values()) == len(records) == 2 * 2 * 6
    assert not num_undecided(plan)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # a plan does not change
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=9, max_size=9))
def test_every_arm_has_as_many_trials_and_the_winner_has_all_seeds(race, scores):
    by_place = dict(zip(itertools.product(RATES, range(3)), scores, strict=True))
    plan, records = run(race, lambda trial: by_place[trial.learning_rate, trial.seed] if trial.model == "vit" else 0.5)
    for model, size in itertools.product(plan.models, plan.train_sizes):
        own = [record for record in records.values() if (record["model"], record["train_size"]) == (model, size)]
        assert len(own) == 6
        seeds = [sum(record["learning_rate"] == rate for record in own) for rate in RATES]
        assert sorted(seeds) == [1, 2, 3]
        if any(record["status"] == "done" for record in own if record["learning_rate"] == RATES[seeds.index(3)]):
            assert chosen_learning_rates(own, plan)[model, size] == RATES[seeds.index(3)]


def test_the_better_of_two_seeds_wins_not_the_best_of_one(race):
    scores = {(0.001, 0): 0.6, (0.003, 0): 0.7, (0.01, 0): 0.5, (0.001, 1): 0.9, (0.003, 1): 0.7}
    plan, records = run(race, lambda trial: scores.get((trial.learning_rate, trial.seed), 0.65))
    assert set(chosen_learning_rates(records.values(), plan).values()) == {0.001}


def test_a_rate_that_fails_does_not_go_on(race):
    plan, records = run(race, lambda trial: None if trial.learning_rate == 0.003 else 0.1)
    assert sum(record["status"] == "failed" for record in records.values()) == 4
    assert set(chosen_learning_rates(records.values(), plan).values()) == {0.001}


def test_seeds_that_come_later_are_for_the_winner_alone(race):
    plan, records = run(race, lambda trial: trial.learning_rate)
    more = grown(plan.with_seeds(11, [7, 8]), records)
    added = [trial for trial in more.trials if trial.id not in records]
    assert {(trial.seed, trial.learning_rate) for trial in added} == {(7, 0.01), (8, 0.01)}
    assert len(added) == 4


def test_a_race_of_nothing_but_failures_begins_anew_when_they_are_tried_again(race, make_record, tmp_path):
    def work_off(schedule, **result):
        while task := schedule.take():
            kind, trial = task
            record = make_record(trial, **({"accuracy": trial.learning_rate} | result))
            schedule.finish(task, record | {"test": record["val"]} if kind == "test" else record)

    first = Schedule(race, [])
    work_off(first, status="failed")
    write_plan(tmp_path, first.plan)
    for trial in first.plan.trials:
        write_record(tmp_path, make_record(trial, status="failed"))
    plan = forget_failed_arms(tmp_path, first.plan, read_records(tmp_path))
    assert plan == race == load_plan(tmp_path)
    assert not read_records(tmp_path)
    again = Schedule(plan, [])
    work_off(again)
    assert again.counts().done == 24
    assert set(chosen_learning_rates(again._records.values(), again.plan).values()) == {max(RATES)}


def test_one_result_is_enough_for_a_race_to_go_on_as_it_was(race, make_record, tmp_path):
    plan, _ = run(race, lambda trial: 0.5)
    write_plan(tmp_path, plan)
    done = make_record(plan.trials[0])
    arm = [trial for trial in plan.trials if (trial.model, trial.train_size) == (done["model"], done["train_size"])]
    for record in [done, *(make_record(trial, status="failed") for trial in arm[1:])]:
        write_record(tmp_path, record)
    assert forget_failed_arms(tmp_path, plan, read_records(tmp_path)) == plan
    assert len(read_records(tmp_path)) == len(arm)


@pytest.fixture
def merged(race, make_record, tmp_path):
    """Two races with seeds of their own and with other winners."""
    folders = []
    for seeds, best in ([0, 1, 2], 0.001), ([3, 4, 5], 0.01):
        part, _ = run(dataclasses.replace(race, seeds=seeds), lambda trial, best=best: -abs(trial.learning_rate - best))
        folders.append(tmp_path / f"part{seeds[0]}")
        write_plan(folders[-1], part)
        for trial in part.trials:
            write_record(folders[-1], make_record(trial, 0.6 if trial.learning_rate == best else 0.4))
    return merge_sweeps(folders, tmp_path / "merged"), tmp_path / "merged"


def test_of_merged_races_one_rate_gets_all_seeds(merged, make_record):
    counts, folder = merged
    schedule = Schedule(load_plan(folder), read_records(folder))
    assert counts.missing == schedule.counts().missing == 2 * 2 * 2
    records = {record["id"]: record for record in read_records(folder)}
    records |= {trial.id: make_record(trial) for trial in schedule.plan.trials if trial.id not in records}
    assert grown(schedule.plan, records) == schedule.plan
    chosen = chosen_learning_rates(records.values(), schedule.plan)
    for (model, size), rate in chosen.items():
        assert schedule.plan.added_rates(model, size)[rate] == [0, 1, 2, 3, 4, 5]


def test_a_seed_that_merged_races_get_later_is_run_and_counted(merged):
    _, folder = merged
    more = load_plan(folder).with_seeds(11, [6])
    assert num_undecided(more) == {("vit", 11): 1, ("cnn", 11): 1}
    planned = grown(more, {record["id"]: record for record in read_records(folder)})
    assert {trial.model for trial in planned.trials if trial.seed == 6} == {"vit", "cnn"}


def test_nothing_is_tested_before_the_race_is_over(race, make_record):
    schedule = Schedule(race, [])
    while task := schedule.take():
        kind, trial = task
        if kind == "test":
            break
        schedule.finish(task, make_record(trial))
    arm = [
        other for other in schedule.plan.trials if (other.model, other.train_size) == (trial.model, trial.train_size)
    ]
    assert len(arm) == 6


def test_a_race_is_one_sweep_with_a_race_of_the_same_rates_alone(race, plan, tmp_path):
    write_plan(tmp_path / "out", race)
    assert load_plan(tmp_path / "out") == race
    more = dataclasses.replace(race, race={model: [*RATES, 0.03] for model in race.models})
    with pytest.raises(ValueError, match=r"holds .* vit racing at \[0\.001, 0\.003, 0\.01\], .* Nothing was changed"):
        check_folder(tmp_path / "out", more)
    with pytest.raises(ValueError, match=r"holds .* a race of learning rates, and this config has a list"):
        check_folder(tmp_path / "out", plan)
    with pytest.raises(ValueError, match=r"Choose another --out, or add `race: true`"):
        check_folder(tmp_path / "out", dataclasses.replace(race, race=None, learning_rates=race.race))
    write_plan(tmp_path / "grid", plan)
    with pytest.raises(ValueError, match=r"Choose another --out, or take out `race: true`"):
        check_folder(tmp_path / "grid", race)
    write_plan(tmp_path / "other", more)
    with pytest.raises(ValueError, match="race"):
        merge_sweeps([tmp_path / "out", tmp_path / "other"], tmp_path / "merged")


def test_a_race_is_for_a_list_and_is_true_or_false(write_sweep):
    rates = "learning_rates: [0.001, 0.01]"
    with pytest.raises(ValueError, match="race is for a list of learning rates, and they are auto"):
        read_sweep(write_sweep((rates, "learning_rates: auto\nrace: true")))
    with pytest.raises(ValueError, match="race is 'yes please'; give true"):
        read_sweep(write_sweep((rates, f"{rates}\nrace: yes please")))
    assert read_sweep(write_sweep((rates, f"{rates}\nrace: false"))) == read_sweep(write_sweep())


@pytest.mark.slow
def test_shards_take_whole_arms_and_together_all(race, tmp_path):
    how = SessionSettings(num_threads=1)
    for part in (1, 2):
        LocalLauncher(how, shard=(part, 2)).run(race, tmp_path / f"part{part}")
        assert {record["model"] for record in read_records(tmp_path / f"part{part}")} == {"vit", "cnn"}
    counts = merge_sweeps([tmp_path / "part1", tmp_path / "part2"], tmp_path / "out")
    assert (counts.done, counts.missing, counts.twice) == (24, 0, 0)
    records = read_records(tmp_path / "out")
    assert sum(record["test"] is not None for record in records) == 2 * 2 * 3


@pytest.mark.slow
def test_a_real_race_ends_and_a_second_call_runs_nothing(race, tmp_path):
    how = SessionSettings(in_process=True, num_threads=1)
    counts = Session(race, tmp_path / "out", how).run()
    assert (counts.done, counts.missing, counts.untested) == (24, 0, 0)
    tested = [record for record in read_records(tmp_path / "out") if record["test"] is not None]
    assert len(tested) == 2 * 2 * 3
    again = Session(race, tmp_path / "out", how).run()
    assert again == counts
