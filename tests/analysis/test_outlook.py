import dataclasses

import numpy as np
import pytest

from vitlab.analysis.lead_changes import errors_at
from vitlab.analysis.outlook import NARROW, expected_log_ratio, look

MODELS = ("vit", "cnn")
SIZES = [100, 250, 600, 2000, 8000]
CURVES = np.array([[0.39, 0.32, 0.26, 0.19, 0.11], [0.34, 0.22, 0.21, 0.205, 0.20]])


def _errors(num_seeds, noise=0.01, seed=0, curves=CURVES):
    z = np.random.default_rng(seed).standard_normal((*curves.shape, num_seeds))
    return np.clip(curves[:, :, None] + noise * z, 0, 1)


def _outlook(num_seeds=3, noise=0.01, seed=0, curves=CURVES):
    return look(MODELS, SIZES, _errors(num_seeds, noise, seed, curves))


def test_seeds_next_to_the_crossing_narrow_the_interval_and_far_ones_do_not():
    outlook = _outlook()
    assert outlook.crossover.verdict == "crosses"
    near, far = expected_log_ratio(outlook, {2000: 3}), expected_log_ratio(outlook, {100: 3})
    assert near < -0.1
    assert abs(far) < 0.02


def test_the_width_is_that_of_the_reported_interval():
    for seed in range(5):
        outlook = _outlook(seed=seed)
        low, high = outlook.crossover.interval
        assert outlook.log_width == pytest.approx(np.log(high / low), rel=1e-6)
        assert outlook.rough_log_width == pytest.approx(outlook.log_width, rel=0.25)


def test_more_seeds_narrow_more():
    ratios = [expected_log_ratio(_outlook(), {2000: number}) for number in (1, 3, 9)]
    assert 0 > ratios[0] > ratios[1] > ratios[2]


def test_swapping_the_models_foretells_the_same():
    errors = _errors(3)
    one, other = look(MODELS, SIZES, errors), look(MODELS[::-1], SIZES, errors[::-1])
    assert expected_log_ratio(other, {2000: 3}) == pytest.approx(expected_log_ratio(one, {2000: 3}), abs=0.08)


@pytest.mark.parametrize(("size", "number"), [(2000, 3), (1100, 3)])
def test_what_is_foretold_is_what_comes_on_average(size, number):
    """The expected change of width against that of seeds really added, over many made-up sweeps."""
    sizes = sorted({*SIZES, size})
    curves = np.stack([errors_at(SIZES, CURVES[None], place)[0] for place in sizes], axis=1)
    old, place = [sizes.index(known) for known in SIZES], sizes.index(size)
    foretold, came = [], []
    for seed in range(16):
        errors = _errors(3 + number, noise=0.007, seed=seed, curves=curves)
        early = errors[:, old, :3]
        errors[:, [n for n in old if n != place], 3:] = np.nan
        if size not in SIZES:
            errors[:, place, number:] = np.nan
        before = look(MODELS, SIZES, early)
        if before.crossover.verdict == "crosses":
            foretold.append(expected_log_ratio(before, {size: number}))
            came.append(np.log(look(MODELS, sizes, errors).log_width / before.log_width))
    assert len(came) > 9
    assert np.mean(came) == pytest.approx(np.mean(foretold), abs=3 * np.std(came) / np.sqrt(len(came)))


def test_a_narrow_interval_is_settled_and_so_is_a_sure_lead():
    assert not _outlook(3, noise=0.02).is_settled
    narrow = _outlook(40, noise=0.005)
    assert narrow.is_settled
    assert narrow.log_width < np.log(NARROW)
    sure = _outlook(3, noise=0.003, curves=CURVES[:1] + np.array([[0.0], [0.05]]))
    assert sure.crossover.verdict == "leads throughout"
    assert sure.is_settled


def test_a_foretold_crossing_unsettles_a_sure_lead():
    sure = _outlook(3, noise=0.003, curves=CURVES[:1] + np.array([[0.0], [0.05]]))
    unsettled = dataclasses.replace(sure, foretold=(16000, (0.09, 0.03)))
    assert not unsettled.is_settled
    assert expected_log_ratio(unsettled, {16000: 3}) < -0.3


def test_open_sides_count_as_wider():
    noisy = _outlook(2, noise=0.05, seed=3)
    assert noisy.crossover.verdict == "undecided"
    assert noisy.log_width > _outlook(2, noise=0.01, seed=3).log_width


def test_one_seed_says_nothing():
    assert look(MODELS, SIZES, _errors(1)) is None
