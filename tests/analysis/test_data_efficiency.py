import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitlab.analysis.bootstrap import draw_means
from vitlab.analysis.data_efficiency import compare_efficiency, images_needed

MODELS = ("vit", "cnn")
SIZES = [100, 300, 1000, 3000, 10000]


def _power(sizes, shift=1.0):
    return 2.0 * (np.asarray(sizes) / shift) ** -0.4


@given(shift=st.floats(1.2, 20))
@settings(max_examples=25, deadline=None)
def test_a_curve_shifted_by_a_factor_has_that_ratio_at_every_level(shift):
    efficiency = compare_efficiency(MODELS, SIZES, np.stack([_power(SIZES, shift), _power(SIZES)]), None)
    assert efficiency.ratio == pytest.approx(shift, rel=1e-6)
    assert (efficiency.needs_more, efficiency.needs_less) == MODELS
    assert efficiency.ratio_at_high_error == pytest.approx(shift, rel=1e-6)
    assert efficiency.ratio_at_low_error == pytest.approx(shift, rel=1e-6)


def test_the_direction_follows_the_curves_and_not_their_order():
    means = np.stack([_power(SIZES), _power(SIZES, 4.0)])
    efficiency = compare_efficiency(MODELS, SIZES, means, None)
    assert (efficiency.needs_more, efficiency.needs_less) == ("cnn", "vit")
    assert efficiency.words.startswith("the CNN needs 4.0 times the images of the ViT for the same error")


def test_the_interval_holds_the_ratio():
    rng = np.random.default_rng(0)
    truth = np.stack([_power(SIZES, 4.0), _power(SIZES)])[:, :, None] / 4
    means, draws = draw_means(truth * np.exp(0.05 * rng.standard_normal((2, 5, 5))))
    low, high = compare_efficiency(MODELS, SIZES, means, draws).interval
    assert 2.5 < low < 4.0 < high < 6.0


def test_levels_outside_the_measured_range_are_not_extrapolated():
    needed = images_needed(SIZES, _power(SIZES)[None], np.array([[1.0, _power(550), 1e-3]]))[0]
    assert np.isnan(needed[[0, 2]]).all()
    assert needed[1] == pytest.approx(550, rel=1e-6)


def test_a_curve_that_rises_again_keeps_its_best():
    errors = np.array([[0.4, 0.2, 0.3, 0.1, 0.1]])
    assert images_needed(SIZES, errors, np.array([[0.2]]))[0, 0] == pytest.approx(300)
    between = images_needed(SIZES, errors, np.array([[0.15]]))[0, 0]
    assert 1000 < between < 3000


def test_curves_without_a_shared_level_have_no_ratio_but_a_reason():
    means = np.array([[0.5, 0.45, 0.42, 0.41, 0.4], [0.2, 0.1, 0.05, 0.03, 0.02]])
    efficiency = compare_efficiency(MODELS, SIZES, means, None)
    assert efficiency.ratio is None
    assert efficiency.reason.startswith("no ratio: the ViT never gets below 40.0 % error")


def test_curves_that_share_a_level_by_chance_alone_have_no_ratio():
    rng = np.random.default_rng(0)
    means = np.array([[0.36, 0.335], [0.345, 0.32]])  # the ranges overlap by less than the noise of a mean
    draws = means + 0.02 * rng.standard_normal((500, 2, 2))
    assert compare_efficiency(MODELS, SIZES[:2], means, None).ratio is not None
    efficiency = compare_efficiency(MODELS, SIZES[:2], means, draws)
    assert (efficiency.ratio, efficiency.interval, efficiency.at_levels) == (None, None, [])
    assert efficiency.words.startswith("no ratio: only ")


def test_crossing_curves_are_told_apart_at_both_ends():
    means = np.array([[0.40, 0.32, 0.26, 0.20, 0.11], [0.34, 0.26, 0.24, 0.225, 0.22]])
    efficiency = compare_efficiency(MODELS, SIZES, means, None)
    assert efficiency.ratio_at_high_error > 1 > efficiency.ratio_at_low_error
    assert "times at 34.0 % error" in efficiency.words


def test_named_sizes_give_a_bound_where_the_error_is_never_reached():
    means = np.array([[0.5, 0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1, 0.05]])
    rows = {row["train_size"]: row for row in compare_efficiency(MODELS, SIZES, means, None).at_sizes}
    assert rows[100]["ratio"] == pytest.approx(3.0)
    assert rows[10000]["ratio"] is None
    assert rows[10000]["bound"] == "more than 1.0"


def test_an_error_of_zero_has_a_ratio_nonetheless():
    means = np.array([[0.4, 0.2, 0.1, 0.01, 0.0], [0.2, 0.1, 0.01, 0.0, 0.0]])
    efficiency = compare_efficiency(MODELS, SIZES, means, None)
    assert np.isfinite(efficiency.ratio)
    assert efficiency.ratio > 1


def test_each_error_level_has_its_own_ratio_and_interval():
    rng = np.random.default_rng(1)
    truth = np.stack([_power(SIZES, 4.0), _power(SIZES)])[:, :, None] / 4
    efficiency = compare_efficiency(MODELS, SIZES, *draw_means(truth * np.exp(0.05 * rng.standard_normal((2, 5, 5)))))
    levels = efficiency.at_levels
    low, high = efficiency.error_levels
    assert 3 <= len(levels) <= 5
    assert [level["error"] for level in levels] == sorted((level["error"] for level in levels), reverse=True)
    for level in levels:
        assert low < level["error"] < high
        assert level["ratio"] == pytest.approx(level["images"]["vit"] / level["images"]["cnn"])
        assert (level["interval"][0] or 0) < 4.0 < (level["interval"][1] or np.inf)
    assert None not in levels[2]["interval"]


def test_a_level_that_resamples_reach_outside_the_range_has_an_open_end():
    means = np.array([[0.4, 0.3, 0.2, 0.11, 0.10], [0.3, 0.2, 0.1, 0.05, 0.02]])
    noise = 0.02 * np.random.default_rng(0).standard_normal((2000, 2, 5))
    last = compare_efficiency(MODELS, SIZES, means, means + noise).at_levels[-1]
    assert last["interval"][0] > 1
    assert last["interval"][1] is None


def test_one_seed_gives_levels_without_intervals():
    efficiency = compare_efficiency(MODELS, SIZES, np.stack([_power(SIZES, 4.0), _power(SIZES)]), None)
    assert [level["interval"] for level in efficiency.at_levels] == [None] * 5
    assert efficiency.at_levels[0]["ratio"] == pytest.approx(4.0)


@given(errors=st.lists(st.floats(0, 1), min_size=24, max_size=24))
@settings(max_examples=40, deadline=None)
def test_any_errors_give_levels_or_a_reason(errors):
    means, draws = draw_means(np.reshape(errors, (2, 4, 3)), 0, 200)
    efficiency = compare_efficiency(MODELS, SIZES[:4], means, draws)
    assert (efficiency.ratio is None) == (not efficiency.at_levels)
    assert all(np.isfinite(level["ratio"]) for level in efficiency.at_levels)
