import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitlab.analysis.bootstrap import draw_means
from vitlab.analysis.crossover import compare_sizes, find_crossover, last_sign_change

MODELS = ("vit", "cnn")
SIZES = [100, 250, 600, 2000, 8000]
VIT = np.array([0.39, 0.32, 0.26, 0.19, 0.11])
CNN = np.array([0.34, 0.22, 0.21, 0.205, 0.20])
TRUTH = float(last_sign_change(SIZES, (VIT - CNN)[None])[0][0])


def _noisy(first, second, num_seeds=4, noise=0.01, seed=0) -> np.ndarray:
    curves = np.stack([first, second])[:, :, None]
    return np.clip(curves + noise * np.random.default_rng(seed).standard_normal((*curves.shape[:2], num_seeds)), 0, 1)


def _crossover(errors, sizes=SIZES, seed=0, num_resamples=2000):
    _, draws = draw_means(errors, seed, num_resamples)
    return find_crossover(MODELS, compare_sizes(MODELS, sizes, errors, draws), draws)


@given(position=st.floats(101, 7999), slope=st.floats(0.01, 0.2))
@settings(max_examples=30, deadline=None)
def test_lines_in_log_size_cross_where_they_should(position, slope):
    differences = slope * (np.log(position) - np.log(SIZES))[None]
    where, num_crossings, final = last_sign_change(SIZES, differences)
    assert where[0] == pytest.approx(position, rel=1e-6)
    assert (num_crossings[0], final[0]) == (1, -1)


def test_of_several_crossings_the_last_counts():
    where, num_crossings, final = last_sign_change([1, 10, 100, 1000], np.array([[1.0, -1.0, 1.0, -1.0]]))
    assert where[0] == pytest.approx(np.sqrt(100 * 1000))
    assert (num_crossings[0], final[0]) == (3, -1)


def test_a_tie_belongs_to_the_one_who_led_before():
    where, num_crossings, _ = last_sign_change([1, 10, 100], np.array([[1.0, 0.0, -1.0], [0.0, 1.0, 1.0]]))
    assert where[0] == pytest.approx(10)
    assert num_crossings.tolist() == [1, 0]


def test_a_clean_crossing_is_found_with_an_interval_around_it():
    crossover = _crossover(_noisy(VIT, CNN))
    low, high = crossover.interval
    assert 600 < low < crossover.train_size < high < 3000
    assert crossover.train_size == pytest.approx(TRUTH, rel=0.3)
    assert crossover.share_crossing == 1.0
    assert (crossover.leader_before, crossover.leader_after) == ("cnn", "vit")
    assert crossover.reason == ""
    assert crossover.claim.startswith("the CNN leads up to about 1,")


def test_swapping_the_models_moves_nothing():
    errors = _noisy(VIT, CNN)
    one = _crossover(errors)
    _, draws = draw_means(errors[::-1], 0, 2000)
    names = MODELS[::-1]
    other = find_crossover(names, compare_sizes(names, SIZES, errors[::-1], draws), draws)
    assert other.train_size == pytest.approx(one.train_size)
    assert other.interval == pytest.approx(one.interval, rel=0.05)
    assert (other.leader_before, other.leader_after) == (one.leader_before, one.leader_after)


def test_no_crossing_is_said_in_words_and_never_extrapolated():
    crossover = _crossover(_noisy(CNN + 0.1, CNN))
    assert crossover.train_size is None
    assert crossover.verdict == "leads throughout"
    assert crossover.reason == "the CNN leads at every measured size from 100 to 8,000 images"


def test_curves_that_are_the_same_but_for_noise_have_no_clear_leader():
    crossover = _crossover(_noisy(CNN, CNN, noise=0.02, seed=5))
    assert crossover.train_size is None
    assert crossover.verdict == "undecided"
    assert "no clear leader" in crossover.reason


def test_a_lead_that_fades_into_noise_is_no_crossover():
    fading = CNN + np.array([0.1, 0.08, 0.05, 0.002, -0.002])
    spread = 0.01 * np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, -1.0]])[:, None]
    crossover = _crossover(np.stack([fading, CNN])[:, :, None] + spread)
    assert crossover.train_size is None
    assert crossover.candidate > 2000
    assert 600 < crossover.interval[0] < crossover.candidate
    assert crossover.interval[1] is None
    assert crossover.claim == "the CNN leads up to 600 images; above that no lead is clear"


def test_equal_curves_are_called_equal():
    errors = np.repeat(np.stack([CNN, CNN])[:, :, None], 3, axis=2)
    assert _crossover(errors).verdict == "equal"


def test_one_seed_gives_a_number_with_its_caveat():
    crossover = _crossover(np.stack([VIT, CNN])[:, :, None])
    assert crossover.train_size == pytest.approx(TRUTH)
    assert crossover.interval == (None, None)
    assert crossover.share_crossing is None
    assert "one seed" in crossover.detail


def test_one_size_has_a_leader_but_no_crossover():
    crossover = _crossover(_noisy(VIT[:1], CNN[:1], num_seeds=6), sizes=[100])
    assert crossover.train_size is None
    assert crossover.claim == "the CNN leads at the one measured size, 100 images"


def test_intervals_hold_the_true_crossover():
    inside = claimed = 0
    for repeat in range(150):
        crossover = _crossover(_noisy(VIT, CNN, num_seeds=3, noise=0.02, seed=repeat), seed=repeat, num_resamples=500)
        low, high = crossover.interval
        inside += (low or 0.0) <= TRUTH <= (high or np.inf)
        claimed += crossover.train_size is not None
    assert inside >= 0.90 * 150
    assert claimed >= 0.90 * 150


@pytest.mark.parametrize("ratio", [1.0, 0.9])
def test_crossings_are_rarely_claimed_where_there_is_none(ratio):
    curve = np.array([0.3, 0.2, 0.1, 0.05, 0.03])
    claimed = 0
    for repeat in range(150):
        errors = _noisy(curve, ratio * curve, num_seeds=3, noise=0.015, seed=repeat)
        claimed += _crossover(errors, seed=repeat, num_resamples=500).train_size is not None
    assert claimed <= 0.05 * 150
