import numpy as np
import pytest

from vitlab.analysis.curve_rows import gather_rows


def test_seeds_become_one_row_a_size_in_any_order():
    rows = gather_rows([200, 100, 100, 400, 200], [0.2, 0.4, 0.6, 0.1, 0.3])
    assert rows.sizes.tolist() == [100, 200, 400]
    assert rows.errors == pytest.approx([0.5, 0.25, 0.1])
    assert rows.log_sizes.sum() == pytest.approx(0, abs=1e-12)


def test_more_seeds_and_less_spread_count_more():
    spread = np.array([-1, 0, 1])
    errors = np.concatenate(
        [0.5 * np.exp(0.001 * spread), 0.4 * np.exp(0.1 * spread), 0.3 * np.exp(0.1 * spread), [0.2]]
    )
    rows = gather_rows([100] * 3 + [200] * 3 + [400] * 3 + [800], errors)
    assert rows.weights[0] > 1.3 * rows.weights[1]
    assert rows.weights[1] > rows.weights[3]
    assert rows.weights.mean() == pytest.approx(1)


def test_the_noise_is_that_of_one_seed():
    rng = np.random.default_rng(0)
    sizes = np.repeat(np.geomspace(100, 10_000, 40), 5)
    rows = gather_rows(sizes, np.exp(-1 - 0.1 * np.log(sizes / 100) + 0.03 * rng.standard_normal(len(sizes))))
    assert rows.noise == pytest.approx(0.03, rel=0.1)


def test_resamples_spread_as_the_mean_of_the_seeds_does():
    rng = np.random.default_rng(1)
    sizes = np.repeat(np.geomspace(100, 10_000, 60), 3)
    rows = gather_rows(sizes, np.exp(-1 + 0.03 * rng.standard_normal(len(sizes))))
    spread = rows.resample(0.0, 400, seed=0).std(axis=0)
    assert np.sqrt(np.mean(spread**2)) == pytest.approx(0.03 / np.sqrt(3), rel=0.15)


def test_a_window_is_the_last_share_of_the_kept_rows():
    rows = gather_rows(np.exp(np.arange(11.0)), np.full(11, 0.5))
    assert rows.window(11, 0.5).nonzero()[0].tolist() == [5, 6, 7, 8, 9, 10]
    assert rows.window(9, 0.5).nonzero()[0].tolist() == [4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("sizes", "errors", "words"),
    [
        ([1, 2, 3], [0.1, 0.2], "one positive error per positive size"),
        ([1, 2, 0], [0.1, 0.2, 0.3], "one positive error per positive size"),
        ([1, 2, 3], [0.1, 0.2, float("nan")], "one positive error per positive size"),
        ([1, 2, 2], [0.1, 0.2, 0.3], "3 different sizes or more; got 2"),
    ],
)
def test_bad_rows_are_refused(sizes, errors, words):
    with pytest.raises(ValueError, match=words):
        gather_rows(sizes, errors)
