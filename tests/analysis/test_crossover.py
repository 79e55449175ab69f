import numpy as np
import pytest

from vitlab.analysis.bootstrap import draw_means
from vitlab.analysis.crossover import find_crossover
from vitlab.analysis.differences import compare_sizes
from vitlab.analysis.lead_changes import last_change

MODELS = ("vit", "cnn")
SIZES = [100, 250, 600, 2000, 8000]
VIT = np.array([0.39, 0.32, 0.26, 0.19, 0.11])
CNN = np.array([0.34, 0.22, 0.21, 0.205, 0.20])
TRUTH = last_change(SIZES, np.stack([VIT, CNN]))[0]


def _noisy(first, second, num_seeds=4, noise=0.01, seed=0) -> np.ndarray:
    curves = np.stack([first, second])[:, :, None]
    return np.clip(curves + noise * np.random.default_rng(seed).standard_normal((*curves.shape[:2], num_seeds)), 0, 1)


def _crossover(errors, sizes=SIZES, seed=0, num_resamples=2000):
    _, draws = draw_means(errors, seed, num_resamples)
    return find_crossover(MODELS, compare_sizes(MODELS, sizes, errors, draws), draws)


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


def test_two_changes_beyond_the_noise_are_both_given():
    first = np.array([0.50, 0.42, 0.30, 0.22, 0.20, 0.10])
    second = np.array([0.60, 0.50, 0.25, 0.15, 0.24, 0.18])
    sizes = [100, 200, 400, 800, 1600, 3200]
    crossover = _crossover(_noisy(first, second), sizes)
    one, two = crossover.changes
    assert 200 < one.interval[0] < one.train_size < one.interval[1] < 400
    assert 800 < two.interval[0] < two.train_size < two.interval[1] < 1600
    assert [one.leader_before, one.leader_after, two.leader_after] == ["vit", "cnn", "vit"]
    assert (crossover.train_size, crossover.interval) == (two.train_size, two.interval)
    assert crossover.claim.startswith("the lead changes 2 times: the ViT leads up to about 2")
    assert crossover.claim.endswith("the ViT from there on")


def test_a_change_within_the_noise_is_not_given_beside_one_beyond_it():
    wiggling = VIT + np.array([-0.052, 0, 0, 0, 0])
    spread = 0.01 * np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, -1.0]])[:, None]
    crossover = _crossover(np.stack([wiggling, CNN])[:, :, None] + spread)
    assert crossover.num_crossings == 2
    assert len(crossover.changes) == 1
    assert "only here beyond the noise" in crossover.detail


def test_an_undecided_crossover_names_the_seeds_that_would_settle_it():
    fading = CNN + np.array([0.1, 0.08, 0.05, -0.003, -0.012])
    spread = 0.01 * np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, -1.0]])[:, None]
    crossover = _crossover(np.stack([fading, CNN])[:, :, None] + spread)
    (wanted,) = crossover.more_seeds
    assert crossover.verdict == "undecided"
    assert (wanted.train_size, wanted.power) == (8000, 0.8)
    assert 10 <= wanted.more_seeds <= 100
    assert f"run {wanted.more_seeds} more seed" in crossover.reason
    assert "at 8,000 images to settle it with 80 % power" in crossover.reason


def test_where_neither_side_is_clear_both_must_succeed_together():
    spread = 0.02 * np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, -1.0]])[:, None]
    curves = np.array([[0.31, 0.29], [0.3, 0.3]])
    crossover = _crossover(curves[:, :, None] + spread, sizes=[100, 1000])
    assert [wanted.train_size for wanted in crossover.more_seeds] == [100, 1000]
    assert np.prod([wanted.power for wanted in crossover.more_seeds]) == pytest.approx(0.8)


def test_no_number_is_promised_that_no_sweep_could_run():
    spread = 0.2 * np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, -1.0]])[:, None]
    hopeless = _crossover(np.stack([CNN + 1e-6, CNN])[:, :, None] + spread, num_resamples=200)
    assert hopeless.more_seeds[0].more_seeds is None
    assert "200 more seeds at one size would hardly settle it" in hopeless.reason


def test_a_tie_at_the_largest_size_goes_to_who_led_before_it():
    spread = 0.03 * np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, -1.0]])[:, None]
    curves = np.array([[0.29, 0.31, 0.30], [0.30, 0.30, 0.30]])
    crossover = _crossover(curves[:, :, None] + spread, sizes=[100, 300, 1000])
    assert (crossover.leader_before, crossover.leader_after) == MODELS
    assert [wanted.train_size for wanted in crossover.more_seeds] == [100, 300]


def test_curves_that_meet_and_stay_together_are_rarely_called_a_crossing():
    meeting = np.array([0.45, 0.30, 0.21, 0.205, 0.20, 0.19, 0.18])
    other = np.array([0.35, 0.25, 0.21, 0.205, 0.20, 0.19, 0.18])
    sizes, claimed = [100 * 2**k for k in range(7)], 0
    for repeat in range(100):
        errors = _noisy(meeting, other, num_seeds=3, noise=0.015, seed=repeat)
        claimed += _crossover(errors, sizes, seed=repeat, num_resamples=200).train_size is not None
    assert claimed <= 0.05 * 100


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
