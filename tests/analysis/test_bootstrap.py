import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitlab.analysis.bootstrap import draw_means, interval


def _coverage(num_seeds: int, correlation: float, repeats: int = 300) -> float:
    """Share of 95 % intervals that hold the true mean error, over models and sizes."""
    rng = np.random.default_rng(num_seeds)
    truth = np.array([[0.39, 0.32, 0.26, 0.19, 0.11], [0.34, 0.22, 0.21, 0.205, 0.20]])
    inside = []
    for repeat in range(repeats):
        own = rng.standard_normal((2, 5, num_seeds)) * np.sqrt(1 - correlation)
        shared = rng.standard_normal((2, 1, num_seeds)) * np.sqrt(correlation)
        errors = truth[:, :, None] + 0.05 * np.sqrt(truth * (1 - truth))[:, :, None] * (own + shared)
        low, high = interval(draw_means(errors, repeat, 600)[1])
        inside.append(((low <= truth) & (truth <= high)).mean())
    return float(np.mean(inside))


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_intervals_cover_what_they_promise_even_with_few_seeds(num_seeds, correlation):
    assert 0.90 <= _coverage(num_seeds, correlation) <= 0.99


@given(num_seeds=st.integers(2, 6), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_resamples_center_on_the_measured_means(num_seeds, seed):
    errors = np.random.default_rng(seed).uniform(0.4, 0.6, (2, 5, num_seeds))
    means, draws = draw_means(errors, seed)
    assert means == pytest.approx(errors.mean(axis=2))
    assert np.median(draws, axis=0) == pytest.approx(means, abs=0.02)


def test_noise_that_two_models_share_cancels_in_their_difference():
    shared = 0.03 * np.random.default_rng(0).standard_normal(5)
    errors = np.stack([[0.4 + shared], [0.3 + shared]])
    _, draws = draw_means(errors)
    assert draws[:, 0, 0].std() > 0.005
    assert draws[:, 0, 0] - draws[:, 1, 0] == pytest.approx(np.full(len(draws), 0.1))


def test_the_same_seed_repeats_and_another_does_not():
    errors = np.random.default_rng(3).uniform(0.1, 0.2, (1, 3, 4))
    first, again, other = (draw_means(errors, seed)[1] for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_one_seed_says_nothing_about_noise():
    assert draw_means(np.array([[[0.3], [0.2]]]))[1] is None


def test_a_size_with_one_seed_borrows_its_noise_from_the_others():
    errors = np.array([[[0.3, 0.34, 0.32], [0.2, np.nan, np.nan], [0.1, 0.13, 0.11]]])
    _, draws = draw_means(errors)
    assert draws[:, 0, 1].std() > draws[:, 0, 0].std()


def test_a_seed_that_one_model_lacks_is_left_out_for_both():
    errors = np.array([[[0.3, 0.5, np.nan]], [[0.2, 0.4, 0.9]]])
    assert draw_means(errors)[0] == pytest.approx(np.array([[0.4], [0.3]]))


def test_resamples_stay_error_rates():
    _, draws = draw_means(np.array([[[0.0, 0.02, 0.9], [0.99, 1.0, 0.2]]]))
    assert draws.min() == 0.0
    assert draws.max() == 1.0


def test_a_size_without_a_shared_seed_is_refused():
    with pytest.raises(ValueError, match="shared seed"):
        draw_means(np.array([[[np.nan, 0.2]], [[0.1, np.nan]]]))


def test_intervals_may_end_in_infinity():
    draws = np.r_[np.full(10, -np.inf), np.linspace(1, 2, 90)]
    low, high = interval(draws)
    assert low == -np.inf
    assert 1.9 < high < 2


def test_a_quantity_without_an_end_is_resampled_beyond_one_and_never_below_zero():
    rng = np.random.default_rng(0)
    values = 1.3 * np.exp(0.5 * rng.standard_normal((1, 4, 3)))
    means, draws = draw_means(values, largest=None)
    assert means[0] == pytest.approx(values.mean(axis=2)[0])
    assert draws.min() >= 0
    assert draws.max() > means.max() > 1
    assert draw_means(values / 10)[1].max() <= 1


@pytest.mark.parametrize("scale", [0.01, 1.0, 40.0])
def test_intervals_of_a_quantity_without_an_end_scale_with_its_unit(scale):
    values = np.exp(0.2 * np.random.default_rng(1).standard_normal((1, 4, 3)))
    plain, scaled = (interval(draw_means(own, 0, largest=None)[1]) for own in (values, scale * values))
    assert scaled[0] == pytest.approx(scale * plain[0])
    assert scaled[1] == pytest.approx(scale * plain[1])
