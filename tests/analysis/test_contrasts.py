import numpy as np
import pytest

from vitlab.analysis.bootstrap import contrast_spread, draw_means, interval, paired_spread
from vitlab.analysis.contrasts import Group, measure_contrast
from vitlab.analysis.differences import compare_sizes

SIZES, SEEDS = 3, 5


def _errors(models, seed=0, noise=0.01, shared=0.0):
    """Errors around 0.3; `shared` is what a seed does to all models alike."""
    rng = np.random.default_rng(seed)
    own = noise * rng.standard_normal((models, SIZES, SEEDS))
    return 0.3 + own + shared * rng.standard_normal((SIZES, SEEDS))


def test_a_difference_is_the_paired_comparison_of_two_models():
    errors = _errors(2)
    contrast = measure_contrast([Group(errors, (1.0, -1.0))])
    rows = compare_sizes(("a", "b"), [100, 200, 300], errors, draw_means(errors, [0, 0])[1])
    assert contrast.values == pytest.approx([row.difference for row in rows])
    assert contrast.p_values == pytest.approx([row.p_value for row in rows])
    assert contrast.intervals[0] == pytest.approx([row.interval[0] for row in rows])


def test_paired_spread_is_the_spread_of_a_difference():
    errors = _errors(2)
    for one, other in zip(paired_spread(errors), contrast_spread(errors, (1.0, -1.0)), strict=True):
        assert one.tolist() == other.tolist()


def test_what_a_seed_does_to_all_cancels_in_a_group_and_not_between_groups():
    errors = _errors(2, noise=0.001, shared=0.05)
    together = measure_contrast([Group(errors, (1.0, -1.0))])
    apart = measure_contrast([Group(errors[:1], (1.0,)), Group(errors[1:], (-1.0,))])
    assert together.values == pytest.approx(apart.values)
    width = [np.subtract(*contrast.intervals[::-1]) for contrast in (together, apart)]
    assert (width[0] < width[1] / 10).all()


@pytest.mark.parametrize("paired", [True, False])
def test_a_change_of_gap_is_the_difference_of_two_differences(paired):
    errors = _errors(4)
    groups = [Group(errors, (-1.0, 1.0, 1.0, -1.0))]
    if not paired:
        groups = [Group(errors[:2], (-1.0, 1.0)), Group(errors[2:], (1.0, -1.0))]
    means = errors.mean(axis=2)
    expected = (means[2] - means[3]) - (means[0] - means[1])
    assert measure_contrast(groups).values == pytest.approx(expected)


@pytest.mark.slow
def test_unpaired_intervals_hold_no_difference_about_as_often_as_they_say():
    held = []
    for repeat in range(200):
        errors = [_errors(1, seed=[repeat, group]) for group in (0, 1)]
        contrast = measure_contrast([Group(errors[0], (1.0,)), Group(errors[1], (-1.0,))], repeat)
        held += [low <= 0 <= high for low, high in zip(*contrast.intervals, strict=True)]
        assert ((contrast.p_values < 0.05) == ((contrast.intervals[0] > 0) | (contrast.intervals[1] < 0))).mean() > 0.6
    assert 0.92 < np.mean(held) < 0.99


def test_one_seed_gives_a_value_and_no_interval():
    contrast = measure_contrast([Group(_errors(1), (1.0,)), Group(_errors(1)[:, :, :1], (-1.0,))])
    assert contrast.intervals is None
    assert contrast.p_values is None
    assert contrast.num_seeds.tolist() == [1, 1, 1]


def test_the_interval_is_that_of_the_resampled_sums():
    errors = _errors(3)
    contrast = measure_contrast([Group(errors, (1.0, 2.0, -3.0))], 7)
    draws = draw_means(errors, [7, 0])[1]
    low, high = interval(draws[:, 0] + 2 * draws[:, 1] - 3 * draws[:, 2])
    assert contrast.intervals[0] == pytest.approx(low)
    assert contrast.intervals[1] == pytest.approx(high)
