import made_up_sweeps as sweeps
import numpy as np
import pytest

from vitlab.analysis.selection import paired_errors, select_points, selected_trials
from vitlab.sweep.selection import chosen_learning_rates


def _points(plan, records):
    return select_points(records, chosen_learning_rates(records), plan.models, plan.seeds_of)


def test_a_point_is_the_mean_test_error_of_the_selected_trials():
    plan = sweeps.make_plan()
    records = sweeps.make_records(plan)
    point = next(p for p in _points(plan, records) if (p.model, p.train_size) == ("cnn", 600))
    expected = [
        1 - r["test"]["accuracy"]
        for r in records
        if (r["model"], r["train_size"], r["learning_rate"]) == ("cnn", 600, 0.003)
    ]
    assert list(point.errors.values()) == pytest.approx(expected)
    assert point.mean_error == pytest.approx(np.mean(expected))
    assert point.interval[0] < point.mean_error < point.interval[1]
    assert (point.num_seeds, point.learning_rate, point.num_missing) == (4, 0.003, 0)


def test_the_test_metrics_of_an_unselected_trial_are_never_read():
    plan = sweeps.make_plan()
    records = sweeps.make_records(plan)
    before = _points(plan, records)
    for record in records:
        if record["learning_rate"] != 0.003:
            record["test"] = {"accuracy": 1.0, "nll": 0.0, "calibration_error": 0.0}
    assert _points(plan, records) == before


def test_the_order_of_the_records_changes_nothing():
    plan = sweeps.make_plan()
    records = sweeps.make_records(plan)
    assert _points(plan, records[::-1]) == _points(plan, records)


def test_points_stand_in_the_plans_order_of_models_and_growing_sizes():
    plan = sweeps.make_plan()
    found = [(point.model, point.train_size) for point in _points(plan, sweeps.make_records(plan))]
    assert found == [(model, size) for model in ("vit", "cnn") for size in sweeps.SIZES]


def test_failed_and_missing_trials_are_counted_where_they_belong():
    plan = sweeps.make_plan()
    broken = {
        (t.model, t.train_size, t.seed) for t in plan.trials if (t.model, t.train_size, t.seed) == ("vit", 250, 1)
    }
    records = sweeps.make_records(plan, fails=lambda t: (t.model, t.train_size, t.seed) in broken)
    point = next(p for p in _points(plan, records) if (p.model, p.train_size) == ("vit", 250))
    assert (point.num_failed, point.num_missing, point.num_seeds) == (3, 1, 3)
    assert all(p.num_failed == 0 for p in _points(plan, records) if (p.model, p.train_size) != ("vit", 250))


def test_a_single_seed_has_no_interval():
    plan = sweeps.make_plan(num_seeds=1)
    assert all(point.interval is None for point in _points(plan, sweeps.make_records(plan)))


def test_a_trial_not_tested_yet_is_not_selected():
    plan = sweeps.make_plan(num_seeds=2)
    records = [{**record, "test": None} for record in sweeps.make_records(plan)]
    assert selected_trials(records, chosen_learning_rates(records)) == []


def test_pairs_keep_only_the_seeds_that_both_models_have():
    plan = sweeps.make_plan(num_seeds=3)
    records = sweeps.make_records(plan, fails=lambda t: t.model == "vit" and t.train_size == 600 and t.seed == 2)
    sizes, errors = paired_errors(_points(plan, records), ("vit", "cnn"))
    assert sizes == sweeps.SIZES
    assert errors.shape == (2, 5, 3)
    assert np.isnan(errors[:, 2, 2]).all()
    assert np.isnan(errors).sum() == 2


def test_nll_and_calibration_error_have_means_and_intervals_as_the_error_has():
    plan = sweeps.make_plan()
    records = sweeps.make_records(plan)
    points = select_points(records, chosen_learning_rates(records), plan.models, plan.seeds_of)
    for point in points:
        for target, factor in (("nll", 2), ("calibration_error", 0.2)):
            assert point.mean_of(target) == pytest.approx(factor * point.mean_error)
            low, high = point.interval_of(target)
            assert low < point.mean_of(target) < high
            assert list(point.values_of(target)) == list(point.errors)


def test_a_metric_that_one_seed_lacks_is_no_mean_of_the_others():
    plan = sweeps.make_plan(train_sizes=[100, 8000])
    records = sweeps.make_records(plan, sweeps.AT_TWO_SIZES)
    for record in records:
        if record["test"] and (record["model"], record["train_size"], record["seed"]) == ("vit", 100, 2):
            record["test"] = {**record["test"], "nll": None}
    points = select_points(records, chosen_learning_rates(records), plan.models, plan.seeds_of)
    lacking = [(point.model, point.train_size) for point in points if point.mean_of("nll") is None]
    assert lacking == [("vit", 100)]
    assert points[0].interval_of("nll") is None
    assert points[0].mean_of("calibration_error") is not None
