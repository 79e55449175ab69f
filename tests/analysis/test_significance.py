import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vitlab.analysis.bootstrap import draw_means, interval, paired_spread
from vitlab.analysis.significance import holm, paired_p_values


def test_one_size_gives_the_textbook_paired_t_test():
    errors = np.random.default_rng(0).uniform(0.2, 0.3, (2, 1, 6))
    spread, degrees = paired_spread(errors)
    differences = (errors[0] - errors[1]).mean(axis=1)
    p_value = paired_p_values(differences, spread, degrees, np.array([6]))
    assert degrees.tolist() == [5]
    assert p_value[0] == pytest.approx(stats.ttest_rel(errors[0, 0], errors[1, 0]).pvalue)


def test_without_correction_it_agrees_with_the_interval():
    rng = np.random.default_rng(1)
    agree = []
    for repeat in range(40):
        errors = 0.3 + 0.02 * rng.standard_normal((2, 4, 4)) + np.array([0.0, 0.02])[:, None, None]
        low, high = interval(draws_of_difference(errors, repeat))
        p_values = paired_p_values((errors[0] - errors[1]).mean(axis=1), *paired_spread(errors), np.full(4, 4))
        agree += list((p_values < 0.05) == ((low > 0) | (high < 0)))
    assert np.mean(agree) > 0.95


def draws_of_difference(errors, seed):
    _, draws = draw_means(errors, seed, 4000)
    return draws[:, 0] - draws[:, 1]


def test_a_size_with_one_seed_borrows_all_of_its_spread():
    errors = np.array([[[0.3, 0.34, 0.32], [0.2, np.nan, np.nan]], [[0.25, 0.26, 0.3], [0.2, np.nan, np.nan]]])
    spread, degrees = paired_spread(errors)
    assert degrees.tolist() == [2, 2]
    assert (spread > 0).all()
    assert paired_spread(errors[:, :, :1]) is None


def test_seeds_that_all_agree_leave_no_doubt():
    assert paired_p_values(np.array([0.1, 0.0]), np.zeros(2), np.full(2, 2), np.full(2, 3)).tolist() == [0.0, 1.0]


def test_holm_gives_the_textbook_numbers():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_holm_keeps_the_order_and_lies_between_no_correction_and_bonferroni(p_values):
    p_values = np.array(p_values)
    adjusted = holm(p_values)
    assert (adjusted >= p_values).all()
    assert (adjusted <= np.minimum(len(p_values) * p_values, 1) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p_values)]) >= 0).all()


def test_holm_keeps_the_chance_of_any_false_lead_at_five_percent():
    rng = np.random.default_rng(2)
    any_false = 0
    for _ in range(600):
        errors = 0.3 + 0.02 * rng.standard_normal((2, 6, 4))
        differences = (errors[0] - errors[1]).mean(axis=1)
        any_false += (holm(paired_p_values(differences, *paired_spread(errors), np.full(6, 4))) < 0.05).any()
    assert any_false <= 0.065 * 600
