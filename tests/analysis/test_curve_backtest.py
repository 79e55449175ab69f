import numpy as np
import pytest

from vitlab.analysis.curve_backtest import Backtest
from vitlab.analysis.curve_rows import gather_rows

SIZES = np.geomspace(1e3, 1e5, 30)


def _backtest(errors, sizes=SIZES):
    noise = np.exp(0.003 * np.random.default_rng(0).standard_normal(len(errors)))
    return Backtest(gather_rows(sizes, errors * noise), 1.0)


def test_what_foretells_the_end_weighs_more_than_what_fits_the_start():
    # A first level, then a power law: M2 on the whole curve is wrong at its end, on the last third it is right.
    errors = 0.9 / (1 + (SIZES / 4e3) ** 2) ** 0.2
    weights, missed = _backtest(errors).weights()
    assert missed["M2", 1 / 3] < 0.5 * missed["M2", 1.0]
    assert weights["M2", 1 / 3] > 4 * weights.get(("M2", 1.0), 0.0)
    assert sum(weights.values()) == pytest.approx(1)


def test_the_rows_behind_a_cut_do_not_move_the_fit_before_it():
    errors = 0.9 * (SIZES / 1e3) ** -0.3 * np.exp(0.05 * np.random.default_rng(0).standard_normal(30))
    changed = errors * np.where(np.arange(30) >= 25, 0.8, 1.0)
    (first, second), checked = (Backtest(gather_rows(SIZES, own), 1.0) for own in (errors, changed)), 0
    for cut, num_rows in enumerate(first.cuts):
        for key, misses in first._misses.items():
            if num_rows <= 25 and misses[cut] is not None:
                moved = np.log(changed / errors)[first._scored(num_rows)]
                assert second._misses[key][cut] == pytest.approx(misses[cut] - moved, abs=1e-9)
                checked += 1
    assert checked > 10


def test_every_cut_leaves_rows_on_both_sides_and_none_appears_twice():
    for num_sizes in (3, 4, 5, 6, 8, 30):
        sizes = np.geomspace(100, 10_000, num_sizes)
        cuts = _backtest(0.9 * (sizes / 100) ** -0.3, sizes).cuts
        assert all(3 <= rows < num_sizes for rows in cuts)
        assert len(set(cuts)) == len(cuts)
        assert bool(cuts) == (num_sizes > 3)


def test_few_sizes_get_only_forms_that_they_can_hold():
    names = {
        num: {form.name for form in _backtest(0.9 * SIZES[:num] ** -0.1, SIZES[:num]).forms} for num in (3, 4, 7, 30)
    }
    assert names[3] == {"M1"}
    assert names[4] == {"M1", "M2", "M3"}
    assert names[7] == {"M1", "M2", "M3", "M4", "broken"}
    assert names[30] == {"M2", "M3", "M4", "broken"}


def test_a_smooth_misfit_is_not_averaged_away_but_noise_is():
    wave = 0.9 * (SIZES / 1e3) ** -0.3 * np.exp(0.05 * np.sin(2.5 * np.log(SIZES)))
    rough = 0.9 * (SIZES / 1e3) ** -0.3 * np.exp(0.05 * np.random.default_rng(1).standard_normal(30))
    smooth, noisy = _backtest(wave), _backtest(rough)
    assert smooth.level / smooth.scatter > 0.6
    assert noisy.level / noisy.scatter < 0.5
