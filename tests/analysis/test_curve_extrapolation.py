import time

import numpy as np
import pytest

from vitlab.analysis.curve_extrapolation import estimate_curve
from vitlab.analysis.curve_models import SATURATING
from vitlab.analysis.measured_curves import read_measurements

SIZES = np.geomspace(1e3, 1e5, 40)
BEYOND = np.geomspace(1.1e5, 2.1e5, 30)


def _score(predicted, measured):
    return float(np.sqrt(np.mean(np.log(predicted / measured) ** 2)))


def _power(sizes):
    return 0.7 * (sizes / 1e3) ** -0.35 + 0.1


def _sigmoid(sizes):
    return np.exp(SATURATING.evaluate(np.array([[0.0, 0.7, 0.2, 0.4, 0.98]]), np.log(sizes / 5e3))[0][0])


def _break(sizes):
    return 0.8 * (sizes / 1e3) ** -0.05 * (1 + (sizes / 1e4) ** 2) ** -0.2


@pytest.fixture(scope="module")
def real(shared):
    """Return the curves of the public benchmark as (sizes, errors) to fit and to foretell."""
    curves = {}
    for row in read_measurements(shared / "data" / "jft_learning_curves.csv"):
        curves.setdefault((row.task, row.model), ([], []))[0 if row.fit else 1].append((row.size, row.value))
    return {key: [np.array(rows).T for rows in both] for key, both in curves.items()}


def test_real_curves_are_foretold_and_their_intervals_hold(real):
    scores, covered = [], []
    for fitted, held_out in real.values():
        told = estimate_curve(*fitted).predict(held_out[0])
        scores.append(_score(told.errors, held_out[1]))
        covered.append(np.mean((told.low <= held_out[1]) & (held_out[1] <= told.high)))
    assert len(scores) == 8
    assert np.mean(scores) <= 0.025
    assert 0.80 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize("truth", [_power, _sigmoid, _break])
def test_curves_of_other_shapes_are_foretold(truth):
    rng = np.random.default_rng(0)
    told = estimate_curve(SIZES, truth(SIZES) * np.exp(0.005 * rng.standard_normal(40))).predict(BEYOND)
    assert _score(told.errors, truth(BEYOND)) < 0.025


@pytest.mark.slow  # 15 s
@pytest.mark.parametrize(
    ("num_sizes", "num_seeds", "most"),
    [(50, 1, 0.98), (8, 3, 1.0)],  # with few sizes the intervals are wider than they need to be
)
def test_intervals_hold_new_measurements_of_many_curves(num_sizes, num_seeds, most):
    covered = []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        truth, noise = (_power, _sigmoid, _break)[seed % 3], np.exp(rng.uniform(np.log(0.003), np.log(0.03)))
        sizes = np.repeat(np.geomspace(1e3, 1e5, num_sizes), num_seeds)
        errors = truth(sizes) * np.exp(noise * rng.standard_normal(len(sizes)))
        told = estimate_curve(sizes, np.minimum(errors, 1)).predict(BEYOND)
        new = truth(BEYOND) * np.exp(noise * rng.standard_normal(30))
        covered.append(np.mean((told.low <= new) & (new <= told.high)))
    assert 0.80 <= np.mean(covered) <= most


def test_intervals_are_as_wide_as_the_noise_of_a_new_measurement_asks_for():
    rng = np.random.default_rng(0)
    noisy = estimate_curve(SIZES, _power(SIZES) * np.exp(0.03 * rng.standard_normal(40)))
    told = noisy.predict(SIZES[20:30])
    assert noisy.noise == pytest.approx(0.03, rel=0.3)
    assert np.log(told.high / told.errors) == pytest.approx(1.645 * 0.03, rel=0.35)


def test_intervals_widen_with_distance_and_with_coverage():
    estimate = estimate_curve(SIZES, _power(SIZES) * np.exp(0.01 * np.random.default_rng(0).standard_normal(40)))
    widths = [np.log(told.high / told.low) for told in (estimate.predict([2e5, 1e6], share) for share in (0.5, 0.9))]
    assert widths[0][1] > widths[0][0]
    assert (widths[1] > 2 * widths[0]).all()


def test_sizes_below_the_first_are_less_certain_too():
    errors = 0.2 * _power(SIZES) * np.exp(0.01 * np.random.default_rng(0).standard_normal(40))
    told = estimate_curve(SIZES, errors).predict([100, 1e3])
    assert np.log(told.high / told.low)[0] > 1.2 * np.log(told.high / told.low)[1]


def test_predictions_at_no_size_or_without_a_doubt_are_refused():
    estimate = estimate_curve([1e3, 1e4, 1e5], [0.5, 0.3, 0.2])
    for sizes, coverage in (([0.0], 0.9), ([1e6], 1.0)):
        with pytest.raises(ValueError, match="sizes must be above 0 and coverage between 0 and 1"):
            estimate.predict(sizes, coverage)


def test_the_curve_has_no_step_at_its_last_size():
    estimate = estimate_curve(SIZES, _break(SIZES) * np.exp(0.01 * np.random.default_rng(0).standard_normal(40)))
    around = estimate.predict(1e5 * np.array([1 - 1e-6, 1, 1 + 1e-6])).errors
    assert around == pytest.approx(around[1], rel=1e-4)


def test_more_seeds_narrow_the_curve():
    def spread(num_seeds):
        rng = np.random.default_rng(0)
        sizes = np.repeat(np.geomspace(1e3, 1e5, 7), num_seeds)
        errors = _power(sizes) * np.exp(0.05 * rng.standard_normal(len(sizes)))
        return estimate_curve(sizes, errors).draw([1e4]).std()

    assert spread(20) < 0.6 * spread(3)


def test_equal_rows_give_equal_numbers():
    first, second = (estimate_curve(SIZES, _power(SIZES), seed=3).predict(BEYOND) for _ in range(2))
    assert (first.low == second.low).all()


def test_predictions_stay_within_what_the_quantity_can_be():
    errors = np.array([0.99, 0.97, 0.98, 0.99, 0.97, 0.98])
    told = estimate_curve([1, 2, 4, 8, 16, 32], errors).predict([64, 1024])
    assert (told.high <= 1).all()
    nll = estimate_curve([1, 2, 4, 8, 16, 32], 5 * errors, largest=None).predict([64, 1024])
    assert (nll.errors > 3).all()
    assert (nll.high > 5).any()


@pytest.mark.parametrize("num_sizes", [3, 4, 5, 6])
def test_few_sizes_give_finite_numbers(num_sizes):
    sizes = np.geomspace(100, 10_000, num_sizes)
    told = estimate_curve(sizes, _power(10 * sizes)).predict([20_000])
    assert told.low[0] < told.errors[0] < told.high[0]
    assert told.errors[0] == pytest.approx(_power(200_000), rel=0.35)


def test_level_and_rising_curves_do_not_break_anything():
    for errors in (np.full(12, 0.3), np.linspace(0.2, 0.5, 12), np.full(5, 0.3)):
        told = estimate_curve(np.geomspace(100, 10_000, len(errors)), errors).predict([5_000, 20_000])
        assert np.isfinite([told.errors, told.low, told.high]).all()


def test_one_curve_takes_well_under_two_seconds_of_one_core(real):
    (fitted, held_out), *_ = real.values()
    begin = time.process_time()
    estimate_curve(*fitted).predict(held_out[0])
    assert time.process_time() - begin < 2
