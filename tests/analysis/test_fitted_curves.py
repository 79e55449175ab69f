import numpy as np
import pytest

from vitlab.analysis.fitted_curves import REACH, fit_curve

SIZES = [100, 250, 600, 2000, 8000]


def _errors(noise=0.0):
    rng = np.random.default_rng(0)
    return {size: list(3.0 * size**-0.5 * np.exp(noise * rng.standard_normal(3))) for size in SIZES}


def test_the_curve_follows_a_power_law_and_foretells_its_next_point():
    fit = fit_curve(_errors(0.02))
    assert fit.predict([600])[0] == pytest.approx(3.0 * 600**-0.5, rel=0.05)
    told = fit.extrapolation
    assert told.sizes[0] == REACH * SIZES[-1]
    assert told.low[0] < 3.0 * told.sizes[0] ** -0.5 < told.high[0]


def test_weights_of_the_forms_add_up_to_one():
    assert sum(fit_curve(_errors(0.02)).weights.values()) == pytest.approx(1.0)


def test_two_sizes_are_no_curve():
    fit = fit_curve({100: [0.3, 0.31], 250: [0.2, 0.22]})
    assert fit.predict([150]) is None
    assert fit.extrapolation is None
    assert fit.weights == {}


def test_a_seed_without_any_error_counts_in_the_mean():
    errors = _errors(0.02)
    errors[8000] = [0.0, 0.02, 0.04]
    assert fit_curve(errors).predict([8000])[0] < fit_curve(errors | {8000: [0.02, 0.04]}).predict([8000])[0]
    errors[8000] = [0.0, 0.0, 0.0]
    assert fit_curve(errors).estimate.sizes[-1] == 2000
