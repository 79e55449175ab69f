import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitlab.analysis.curve_models import FORMS

LOG_SIZES = np.linspace(-2, 3, 23)
VALUES = {
    "M1": [-0.5, 0.3],
    "M2": [-1.0, 0.3, 0.1],
    "M3": [0.0, 0.5, 0.7],
    "M4": [-1.0, 0.5, 0.2, 0.4, 1.0],
    "broken": [-1.0, 0.1, 0.5, 0.3, 0.6, 0.1],
}


@pytest.mark.parametrize("name", FORMS)
def test_derivatives_are_those_of_the_form(name):
    values = np.array([VALUES[name]])
    _, derivatives = FORMS[name].evaluate(values, LOG_SIZES)
    for index in range(values.shape[1]):
        moved = np.zeros_like(values)
        moved[0, index] = 1e-6
        above, below = (FORMS[name].evaluate(values + sign * moved, LOG_SIZES)[0] for sign in (1, -1))
        assert derivatives[..., index] == pytest.approx((above - below) / 2e-6, abs=1e-6)


@pytest.mark.parametrize("name", FORMS)
def test_several_sets_of_parameters_give_what_each_gives_alone(name):
    both = np.array([VALUES[name], np.array(VALUES[name]) * 0.9])
    together, _ = FORMS[name].evaluate(both, LOG_SIZES)
    alone = [FORMS[name].evaluate(row[None], LOG_SIZES)[0][0] for row in both]
    assert together == pytest.approx(np.array(alone), abs=1e-12)


@given(
    c=st.floats(0.05, 2),
    e_inf=st.floats(0, 0.5),
    alpha=st.floats(0.02, 4),
    e_0=st.floats(0.6, 1),
    log_b=st.floats(-3, 3),
)
def test_the_saturating_form_solves_its_equation(c, e_inf, alpha, e_0, log_b):
    log_errors, _ = FORMS["M4"].evaluate(np.array([[log_b, c, e_inf, alpha, e_0]]), LOG_SIZES)
    errors = np.exp(log_errors[0])
    clear = (errors - e_inf > 1e-6) & (e_0 - errors > 1e-6)  # nearer, the difference of two floats says nothing
    left = np.log(errors[clear] - e_inf) - alpha * np.log(e_0 - errors[clear])
    assert left == pytest.approx(log_b - c * LOG_SIZES[clear], abs=1e-4)


def test_the_saturating_form_starts_at_its_first_level_and_ends_at_its_last():
    log_errors, _ = FORMS["M4"].evaluate(np.array([[0.0, 0.8, 0.2, 0.5, 0.9]]), np.array([-40.0, 40.0]))
    assert np.exp(log_errors[0]) == pytest.approx([0.9, 0.2], abs=1e-6)


def test_the_broken_form_has_one_exponent_before_and_one_after_its_break():
    far = np.array([-20.0, -19.0, 19.0, 20.0])
    log_errors, _ = FORMS["broken"].evaluate(np.array([[0.0, 0.1, 0.6, 0.0, 0.5, 0.0]]), far)
    assert np.diff(log_errors[0])[[0, 2]] == pytest.approx([-0.1, -0.6], abs=1e-6)


@pytest.mark.parametrize("name", FORMS)
def test_every_start_lies_within_the_bounds(name):
    errors = np.exp(FORMS["M4"].evaluate(np.array([VALUES["M4"]]), LOG_SIZES)[0][0])
    for largest in (1.0, None):
        lower, upper = FORMS[name].limits(LOG_SIZES, errors, largest)
        for start in FORMS[name].starts(LOG_SIZES, errors, largest):
            assert len(start) == len(FORMS[name].parameters)
            assert all(low <= value <= high for low, value, high in zip(lower, start, upper, strict=True))
