import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vitlab.analysis.lead_changes import (
    ends_of_doubt,
    errors_at,
    last_change,
    last_sign_change,
    places_between,
    share_that_changes,
    shares_ahead,
    unclear_sizes,
)

SIZES = [100, 250, 600, 2000, 8000]


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
    tied = np.array([[0.3, 0.2, 0.1], [0.2, 0.2, 0.15]])
    assert last_change([1, 10, 100], tied)[0] == pytest.approx(10)


def bent_curves(sizes, position, exponent, offset):
    """Two curves that are equal at a size; far below it they may be equal once more."""
    relative = np.asarray(sizes) / position
    return offset + (0.2 - offset) * relative**-exponent, 0.18 + 0.02 * relative**-0.5


@given(position=st.floats(120, 7000), exponent=st.floats(0.2, 0.8), offset=st.floats(0.0, 0.15))
@settings(max_examples=40, deadline=None)
def test_bent_curves_cross_close_to_where_they_should(position, exponent, offset):
    falling, plateau = bent_curves(np.geomspace(SIZES[0] / 3, SIZES[-1], 500), position, exponent, offset)
    assume(np.count_nonzero(np.diff(np.sign(falling - plateau))) == 1)
    falling, plateau = bent_curves(SIZES, position, exponent, offset)
    where, num_changes = last_change(SIZES, np.stack([falling, plateau]))
    straight = last_sign_change(SIZES, (falling - plateau)[None])[0][0]
    assert num_changes == 1
    assert where == pytest.approx(position, rel=0.15)
    assert abs(np.log(where / position)) <= abs(np.log(straight / position)) + 0.02


def test_only_changes_inside_the_given_sizes_count():
    errors = np.array([[0.5, 0.3, 0.3, 0.1], [0.4, 0.4, 0.2, 0.2]])
    assert last_change([1, 10, 100, 1000], errors)[1] == 3
    where, num_changes = last_change([1, 10, 100, 1000], errors, first=0, last=1)
    assert 1 < where < 10
    assert num_changes == 1
    assert last_change([1, 10], np.array([[0.3, 0.2], [0.2, 0.1]])) == (None, 0)


def test_resamples_that_change_the_lead_the_other_way_do_not_count():
    draws = np.array([[[0.3, 0.1], [0.2, 0.2]], [[0.1, 0.3], [0.2, 0.2]], [[0.3, 0.3], [0.2, 0.2]]])
    assert share_that_changes(draws, leader=1) == pytest.approx(1 / 3)
    assert share_that_changes(draws, leader=0) == pytest.approx(1 / 3)


def test_the_interval_ends_where_one_in_forty_resamples_says_the_contrary():
    shifts = np.linspace(-0.01, 0.01, 4001)[:, None]
    falling = np.array([0.3, 0.2]) + shifts
    draws = np.stack([falling, np.full_like(falling, 0.25)], axis=1)
    low, high = unclear_sizes([100, 10_000], draws, 0, 1)
    middle = last_change([100, 10_000], np.array([[0.3, 0.2], [0.25, 0.25]]))[0]
    assert low < middle < high
    for end, share in ((low, 0.975), (high, 0.025)):
        place = np.log(end / 100) / np.log(100)
        ahead = np.log(falling + 1e-3) @ [1 - place, place] > np.log(0.251)
        assert ahead.mean() == pytest.approx(share, abs=0.03)


def test_an_end_is_open_only_where_the_lead_is_unclear_to_the_edge():
    noise = 0.05 * np.random.default_rng(0).standard_normal((2000, 3))
    first = np.array([0.5, 0.31, 0.30]) + noise * [0.1, 1, 1]
    draws = np.stack([first, np.full_like(first, 0.3)], axis=1)
    low, high = unclear_sizes([100, 1000, 10_000], draws, None, None)
    assert 100 < low < 1000
    assert high is None


def test_curves_without_noise_change_between_two_places():
    draws = np.tile([[[0.3, 0.2], [0.25, 0.25]]], (50, 1, 1))
    low, high = unclear_sizes([100, 10_000], draws, 0, 1)
    middle, _ = last_change([100, 10_000], draws[0])
    assert middle / 1.2 < low < high < middle * 1.2


@pytest.mark.parametrize("size", [60, 170, 1100, 11000])
def test_errors_at_other_sizes_lie_on_the_curve(size):
    law = 0.9 * np.array(SIZES, dtype=float) ** -0.3
    expected = 0.9 * size**-0.3
    rows = errors_at(SIZES, np.stack([[law, law / 2], [law / 2, law]]), size)
    assert rows == pytest.approx(np.array([[expected, expected / 2], [expected / 2, expected]]), rel=0.02)


def test_errors_at_a_measured_size_are_the_measured_ones():
    errors = np.random.default_rng(3).uniform(0.1, 0.5, (7, 2, len(SIZES)))
    for number, size in enumerate(SIZES):
        assert errors_at(SIZES, errors, size) == pytest.approx(errors[:, :, number])


def test_several_outcomes_at_once_are_each_what_they_are_alone():
    draws = np.random.default_rng(3).uniform(0.1, 0.5, (3, 11, 2, len(SIZES)))
    places = places_between(SIZES, 7)
    assert len(places) == 4 * 7 + 1
    assert np.exp(places[::7]) == pytest.approx(SIZES)
    together = shares_ahead(SIZES, draws, places)
    for outcome in range(3):
        assert np.array_equal(together[outcome], shares_ahead(SIZES, draws[outcome : outcome + 1], places)[0])


def test_doubt_ends_between_the_places_on_its_sides():
    places, share = np.arange(5.0), np.array([0.0, 0.0, 0.5, 1.0, 1.0])
    low, high, *is_open = ends_of_doubt(places, share)
    assert 1 < low < 2 < high < 3
    assert is_open == [False, False]
    assert ends_of_doubt(places, np.array([0.5, 0.0, 0.0, 0.4, 0.6]))[2:] == (True, True)
