import numpy as np
import pytest

from vitlab.analysis.running_best import undo_running_best

LOG_SIZES = np.linspace(0, 5, 60)
TRUTH = -0.3 * LOG_SIZES


def _running_best(noise, seed, per_row=2):
    rng = np.random.default_rng(seed)
    places = np.linspace(0, 5, (len(LOG_SIZES) - 1) * per_row + 1)
    return np.minimum.accumulate(-0.3 * places + noise * rng.standard_normal(len(places)))[::per_row]


def test_a_running_best_is_lifted_to_where_its_measurements_were():
    raw, lifted, noises = [], [], []
    for seed in range(20):
        errors = _running_best(0.04, seed)
        corrected, noise = undo_running_best(LOG_SIZES, errors, seed)
        raw.append(np.mean((errors - TRUTH)[10:]))
        lifted.append(np.mean((corrected - TRUTH)[10:]))
        noises.append(noise)
    assert np.mean(raw) < -0.02
    assert abs(np.mean(lifted)) < 0.3 * abs(np.mean(raw))
    assert np.mean(noises) == pytest.approx(0.04, rel=0.3)


def test_a_curve_that_falls_faster_than_its_noise_stays_where_it_is():
    errors = TRUTH + 0.0005 * np.random.default_rng(0).standard_normal(len(TRUTH))
    lifted, noise = undo_running_best(LOG_SIZES, errors)
    assert lifted == pytest.approx(errors, abs=2e-4)
    assert noise == pytest.approx(0.0005, rel=0.5)


def test_a_curve_that_rises_somewhere_is_no_running_best():
    errors = TRUTH + 0.04 * np.random.default_rng(0).standard_normal(len(TRUTH))
    lifted, noise = undo_running_best(LOG_SIZES, errors)
    assert (lifted == errors).all()
    assert noise is None


def test_few_sizes_and_a_level_curve_are_left_alone():
    assert undo_running_best(LOG_SIZES[:8], TRUTH[:8])[1] is None
    assert undo_running_best(LOG_SIZES, np.zeros(60))[1] is None
