import numpy as np
import pytest
from scipy import stats

from vitlab.analysis.power import MAX_SEEDS, beliefs, power_of_more_seeds, seeds_to_clear

ALPHA = 0.05


@pytest.mark.parametrize(("kept", "doubt"), [(1.0, 0.0), (1.0, 1.0), (0.8, 0.8)])
@pytest.mark.parametrize(("statistic", "num_seeds"), [(1.5, 3), (1.5, 5), (2.2, 4)])
def test_the_seeds_it_asks_for_make_the_lead_clear_as_often_as_it_says(statistic, num_seeds, kept, doubt):
    """True differences and spreads are drawn as the calculation takes them, then seeds are run and tested."""
    rng, repeats, degrees = np.random.default_rng(0), 20_000, num_seeds + 2
    difference, spread = statistic / np.sqrt(num_seeds), 1.0
    more = seeds_to_clear(difference, spread, degrees, num_seeds, ALPHA, (kept * difference, doubt))
    true_spread = spread * np.sqrt(degrees / rng.chisquare(degrees, repeats))
    true_difference = kept * difference + true_spread * np.sqrt(doubt / num_seeds) * rng.standard_normal(repeats)
    new = true_difference + true_spread / np.sqrt(more) * rng.standard_normal(repeats)
    squares = degrees * spread**2 + true_spread**2 * rng.chisquare(more, repeats)
    mean = (num_seeds * difference + more * new) / (num_seeds + more)
    later = np.sqrt(squares / (degrees + more))
    clear = np.abs(mean) * np.sqrt(num_seeds + more) / later > stats.t.isf(ALPHA / 2, degrees + more)
    assert clear.mean() == pytest.approx(0.8, abs=0.05)


def test_more_seeds_are_needed_for_a_smaller_lead_more_noise_more_doubt_and_a_stricter_test():
    plain = seeds_to_clear(0.02, 0.02, 5, 3, ALPHA, (0.02, 0.0))
    assert plain < seeds_to_clear(0.015, 0.02, 5, 3, ALPHA, (0.015, 0.0))
    assert plain < seeds_to_clear(0.02, 0.02, 5, 3, ALPHA, (0.015, 0.0))
    assert plain < seeds_to_clear(0.02, 0.03, 5, 3, ALPHA, (0.02, 0.0))
    assert plain < seeds_to_clear(0.02, 0.02, 5, 3, ALPHA, (0.02, 1.0))
    assert plain < seeds_to_clear(0.02, 0.02, 5, 3, ALPHA / 5, (0.02, 0.0))
    assert plain < seeds_to_clear(0.02, 0.02, 5, 3, ALPHA, (0.02, 0.0), power=0.95)


def test_power_grows_with_seeds_and_has_no_unit():
    more = np.array([1, 3, 10, 30, 100])
    power = power_of_more_seeds(more, 0.02, 0.02, 5, 3, ALPHA, (0.02, 0.0))
    assert (np.diff(power) > 0).all()
    assert power == pytest.approx(power_of_more_seeds(more, -2.0, 2.0, 5, 3, ALPHA, (-2.0, 0.0)))


def test_what_no_sweep_could_run_is_not_asked_for():
    assert seeds_to_clear(0.01, 0.02, 5, 3, ALPHA, (0.0, 0.0)) is None
    assert seeds_to_clear(0.0, 0.0, 5, 3, ALPHA, (0.0, 0.0)) is None
    assert MAX_SEEDS == 200


def test_differences_are_believed_where_the_curves_are_known_to_differ():
    differences, spread, num_seeds = np.array([0.2, 0.01]), np.array([0.02, 0.02]), np.array([4, 4])
    expected, doubt = beliefs(differences, spread, num_seeds, np.array([True, False]))
    assert expected.tolist() == differences.tolist()
    assert doubt == 0


def test_differences_that_may_all_be_noise_are_shrunk_together():
    spread, num_seeds, clear = np.full(3, 0.02), np.full(3, 4), np.zeros(3, dtype=bool)
    expected, doubt = beliefs(np.array([0.02, -0.02, 0.02]), spread, num_seeds, clear)  # twice their noise each
    assert expected == pytest.approx(0.75 * np.array([0.02, -0.02, 0.02]))
    assert doubt == pytest.approx(0.75)
    expected, doubt = beliefs(np.array([0.01, -0.005, 0.0]), spread, num_seeds, clear)  # no more than noise makes
    assert not expected.any()
    assert doubt == 0
