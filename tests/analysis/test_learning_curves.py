import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitlab.analysis.learning_curves import fit_power_law

SIZES = np.array([100, 250, 600, 2000, 8000, 30000])


@given(a=st.floats(1, 20), b=st.floats(0.25, 1.2), c=st.sampled_from([0.0, 0.02, 0.1]))
@settings(max_examples=25, deadline=None)
def test_an_exact_power_law_is_recovered(a, b, c):
    errors = 0.5 * a * SIZES**-b / (a * 100**-b) + c
    fit = fit_power_law(SIZES, errors)
    assert fit.predict(SIZES) == pytest.approx(errors, rel=2e-3)
    assert fit.residual < 1e-3


def test_parameters_are_those_of_the_formula():
    fit = fit_power_law(SIZES, 6.0 * SIZES**-0.6 + 0.05)
    assert (fit.a, fit.b, fit.c) == pytest.approx((6.0, 0.6, 0.05), rel=1e-3)
    assert fit.offset_identified


def test_an_offset_that_is_not_there_is_not_identified():
    noise = np.exp(0.02 * np.random.default_rng(0).standard_normal(len(SIZES)))
    fit = fit_power_law(SIZES, 3.0 * SIZES**-0.5 * noise)
    assert not fit.offset_identified
    assert fit.b == pytest.approx(0.5, abs=0.05)


def test_the_offset_never_exceeds_the_smallest_error():
    errors = [0.5, 0.3, 0.22, 0.20, 0.21, 0.2]
    assert 0.0 <= fit_power_law(SIZES, errors).c <= 0.2


def test_two_sizes_give_no_fit_and_say_so():
    fit = fit_power_law([100, 1000], [0.3, 0.1])
    assert fit.a is None
    assert fit.predict([100]) is None
    assert "2 of the 3 sizes" in fit.reason


def test_sizes_without_errors_are_left_out_and_said():
    fit = fit_power_law([100, 200, 400, 800], [0.3, 0.2, 0.1, 0.0])
    assert fit.a is not None
    assert "1 of 4 sizes left out" in fit.reason
    assert fit_power_law([100, 200, 400], [0.0, 0.0, 0.0]).a is None


def test_a_flat_and_a_rising_curve_do_not_break_the_fit():
    for errors in ([0.2] * 6, [0.1, 0.12, 0.14, 0.15, 0.17, 0.2]):
        fit = fit_power_law(SIZES, errors)
        assert np.isfinite(fit.predict(SIZES)).all()
        assert fit.b >= 0


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="one error per positive size"):
        fit_power_law([0, 10, 20], [0.1, 0.1, 0.1])
    with pytest.raises(ValueError, match="one error per positive size"):
        fit_power_law([5, 10, 20], [0.1, 0.1])
