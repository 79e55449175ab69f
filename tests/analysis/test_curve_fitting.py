import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitlab.analysis.curve_fitting import fit_batch, fit_form
from vitlab.analysis.curve_models import BROKEN, FORMS, OFFSET, POWER, SATURATING

SIZES = np.geomspace(100, 100_000, 25)


def _curve(form, values):
    log_sizes = np.log(SIZES)
    return np.exp(form.evaluate(np.array([values]), log_sizes - log_sizes.mean())[0][0])


@pytest.mark.parametrize(
    ("form", "values"),
    [
        (OFFSET, [-1.2, 0.5, 0.1]),
        (FORMS["M3"], [-0.5, 0.4, 0.3]),
        (SATURATING, [-0.5, 0.7, 0.1, 0.5, 0.95]),
        (BROKEN, [-1.0, 0.05, 0.5, -1.0, 0.4, 0.0]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_curve_of_the_form_is_recovered_beyond_its_sizes(form, values):
    fit = fit_form(form, SIZES, _curve(form, values))
    assert fit.residual < 1e-3
    far = np.array([200_000, 400_000])
    log_far = np.log(far) - np.log(SIZES).mean()
    assert fit.predict(far) == pytest.approx(np.exp(form.evaluate(np.array([values]), log_far)[0][0]), rel=0.01)


@given(exponent=st.floats(0.05, 1.5), noise=st.floats(0.001, 0.05), seed=st.integers(0, 100))
@settings(max_examples=10)
def test_forms_that_contain_the_power_law_fit_no_worse(exponent, noise, seed):
    rng = np.random.default_rng(seed)
    errors = 0.9 * (SIZES / 100) ** -exponent * np.exp(-0.1 - noise * np.abs(rng.standard_normal(len(SIZES))))
    plain = fit_form(POWER, SIZES, errors).residual
    for name in ("M2", "M3", "broken"):
        assert fit_form(FORMS[name], SIZES, errors).residual <= plain * 1.001


def test_the_unit_of_size_does_not_matter():
    errors = _curve(SATURATING, [-0.5, 0.7, 0.1, 0.5, 0.95])
    small, large = fit_form(SATURATING, SIZES, errors), fit_form(SATURATING, 1e6 * SIZES, errors)
    assert large.predict([1e12]) == pytest.approx(small.predict([1e6]), rel=1e-6)


def test_the_order_of_sizes_does_not_matter():
    errors = _curve(OFFSET, [-1.2, 0.5, 0.1])
    order = np.random.default_rng(0).permutation(len(SIZES))
    assert fit_form(OFFSET, SIZES[order], errors[order]).values == pytest.approx(fit_form(OFFSET, SIZES, errors).values)


def test_a_size_without_weight_is_left_out():
    errors = _curve(OFFSET, [-1.2, 0.5, 0.1])
    spoiled, weights = errors.copy(), np.ones(len(errors))
    spoiled[3], weights[3] = 0.9, 0.0
    assert fit_form(OFFSET, SIZES, spoiled, weights).predict(SIZES) == pytest.approx(errors, rel=1e-3)


def test_a_noisy_size_counts_by_its_weight():
    errors = _curve(POWER, [-1.0, 0.5])
    spoiled = errors * np.where(np.arange(len(errors)) == 24, 2.0, 1.0)
    misses = [fit_form(POWER, SIZES, spoiled, np.r_[np.ones(24), last]).predict(SIZES[-1:]) for last in (1.0, 0.01)]
    assert abs(misses[1] / errors[-1] - 1) < 0.1 * abs(misses[0] / errors[-1] - 1)


def test_an_error_never_starts_above_one_but_a_likelihood_may():
    errors = _curve(SATURATING, [-0.5, 0.7, 0.1, 0.5, 0.95])
    assert fit_form(SATURATING, SIZES, errors).values[-1] <= 1.0
    nll = fit_form(SATURATING, SIZES, 5 * errors, largest=None)
    assert nll.residual < 1e-3
    assert nll.values[-1] == pytest.approx(5 * 0.95, rel=0.02)


def test_a_batch_gives_what_single_fits_give():
    log_sizes = np.log(SIZES) - np.log(SIZES).mean()
    log_errors = np.log(_curve(SATURATING, [-0.5, 0.7, 0.1, 0.5, 0.95]))
    noisy = log_errors + 0.01 * np.random.default_rng(0).standard_normal(log_errors.shape)
    weights = np.stack([np.arange(25) < 20, np.arange(25) >= 10]).astype(float)
    together, losses = fit_batch(OFFSET, log_sizes, noisy, weights, 1.0)
    for row, values, loss in zip(weights, together, losses, strict=True):
        alone, own_loss = fit_batch(OFFSET, log_sizes, noisy, row[None], 1.0)
        assert values == pytest.approx(alone[0], rel=1e-6)
        assert loss == pytest.approx(own_loss[0], rel=1e-6)


def test_bad_input_is_refused_in_words():
    with pytest.raises(ValueError, match="one positive error per positive size"):
        fit_form(POWER, [100, 200], [0.1, 0.0])
    with pytest.raises(ValueError, match="M4 has 5 parameters and needs as many sizes; got 4"):
        fit_form(SATURATING, SIZES[:4], [0.4, 0.3, 0.2, 0.1])
