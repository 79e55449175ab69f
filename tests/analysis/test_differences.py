import numpy as np
import pytest

from vitlab.analysis.bootstrap import draw_means
from vitlab.analysis.differences import compare_sizes
from vitlab.analysis.significance import holm

MODELS = ("vit", "cnn")
SIZES = [100, 300, 1000, 3000]
GAPS = np.array([0.10, 0.04, 0.01, -0.05])


def _compare(num_seeds=4, noise=0.01, gaps=GAPS, seed=2):
    errors = 0.3 + noise * np.random.default_rng(seed).standard_normal((2, len(SIZES), num_seeds))
    errors[0] += gaps[:, None]
    return compare_sizes(MODELS, SIZES, errors, draw_means(errors, seed)[1])


def test_a_leader_is_named_where_the_corrected_test_is_clear():
    differences = _compare()
    assert [difference.clear_leader for difference in differences] == ["cnn", "cnn", None, "vit"]
    p_values = np.array([difference.p_value for difference in differences])
    assert [difference.adjusted_p_value for difference in differences] == pytest.approx(holm(p_values))
    for difference in differences:
        assert (difference.clear_leader is None) == (difference.adjusted_p_value >= 0.05)
        assert difference.interval[0] < difference.difference < difference.interval[1]
        assert difference.difference == pytest.approx(np.subtract(*difference.mean_errors))


def test_more_seeds_are_asked_for_where_the_lead_is_not_clear():
    differences = _compare()
    assert [difference.more_seeds is None for difference in differences] == [True, True, False, True]
    unclear = differences[2]
    assert unclear.more_seeds == unclear.seeds_to_clear()
    assert unclear.seeds_to_clear(0.5) < unclear.more_seeds < unclear.seeds_to_clear(0.9)


def test_the_next_size_to_become_clear_is_tested_as_strictly_as_the_correction_will():
    assert {difference.test_level for difference in _compare()} == {0.05}
    none_clear = _compare(noise=0.2)
    assert {difference.test_level for difference in none_clear} == {0.05 / 4}


def test_one_seed_gives_differences_and_nothing_about_noise():
    for difference in _compare(num_seeds=1):
        assert difference.interval is difference.p_value is difference.more_seeds is difference.clear_leader is None
        assert difference.seeds_to_clear() is None
        assert difference.num_seeds == 1


def test_equal_means_have_no_leader_whatever_the_float_dust():
    errors = np.array([[[0.1, 0.2, 0.3]], [[0.3, 0.1, 0.2]]])
    (difference,) = compare_sizes(MODELS, [100], errors, draw_means(errors)[1])
    assert (difference.difference, difference.clear_leader, difference.p_value) == (0.0, None, 1.0)
