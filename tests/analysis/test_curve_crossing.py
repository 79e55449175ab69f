import numpy as np
import pytest

from vitlab.analysis.curve_crossing import cross_curves
from vitlab.analysis.curve_extrapolation import estimate_curve
from vitlab.analysis.measured_curves import read_measurements

TRUE_CROSSING = 4.2e8
NEVER = [
    ("c_10", ("ViT/B/16", "BiT/101/3")),
    ("inet_10", ("ViT/S/16", "BiT/50/1")),
    ("inet_10", ("ViT/B/16", "BiT/101/3")),
]


@pytest.fixture(scope="module")
def rows(shared):
    return read_measurements(shared / "data" / "jft_learning_curves.csv")


def _cross(rows, task, models, below=np.inf, fit_only=False):
    curves = []
    for seed, model in enumerate(models):
        own = [row for row in rows if (row.task, row.model) == (task, model) and row.size < below]
        own = [row for row in own if row.fit or not fit_only]
        curves.append(estimate_curve([row.size for row in own], [row.value for row in own], seed=seed))
    return cross_curves(models, *curves)


def _made_up(sizes, errors, noise=0.01, seed=0):
    rng = np.random.default_rng(seed)
    return estimate_curve(sizes, errors * np.exp(noise * rng.standard_normal(len(sizes))), seed=seed)


@pytest.mark.parametrize("fit_only", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_real_crossing_is_found_between_the_sizes(rows, fit_only):
    crossing = _cross(rows, "c_10", ("ViT/S/16", "BiT/50/1"), fit_only=fit_only)
    assert crossing.verdict == "crosses"
    assert not crossing.extrapolated
    assert (crossing.leader_before, crossing.leader_after) == ("BiT/50/1", "ViT/S/16")
    assert crossing.interval[0] < TRUE_CROSSING < crossing.interval[1]
    assert crossing.size == pytest.approx(TRUE_CROSSING, rel=0.15)


def test_a_real_crossing_is_foretold_from_before_it_and_marked(rows):
    crossing = _cross(rows, "c_10", ("ViT/S/16", "BiT/50/1"), below=2e8)
    assert crossing.extrapolated
    assert crossing.size > crossing.measured[1]
    assert "extrapolated" in crossing.words
    assert "95 % interval" in crossing.words
    low, high = crossing.interval
    assert low < TRUE_CROSSING < (high or np.inf)
    assert crossing.size == pytest.approx(TRUE_CROSSING, rel=0.4)


def _assert_no_crossing(rows, pairs, below, fit_only):
    for task, models in pairs:
        crossing = _cross(rows, task, models, below, fit_only)
        assert (crossing.verdict, crossing.size, crossing.leader_before) == ("leads", None, models[1])


def test_no_crossing_is_claimed_where_there_is_none(rows):
    _assert_no_crossing(rows, NEVER[:2], np.inf, fit_only=True)


@pytest.mark.slow  # 8 s
@pytest.mark.parametrize(("below", "fit_only"), [(np.inf, True), (2e8, True), (np.inf, False)])
def test_no_crossing_is_claimed_from_any_of_the_rows(rows, below, fit_only):
    _assert_no_crossing(rows, NEVER, below, fit_only)


def test_the_order_of_the_models_does_not_matter():
    sizes = np.geomspace(100, 10_000, 10)
    first, second = _made_up(sizes, 2.0 * sizes**-0.5), _made_up(sizes, 0.4 * sizes**-0.2, seed=1)
    one, other = cross_curves(("a", "b"), first, second), cross_curves(("b", "a"), second, first)
    assert one.size == pytest.approx(5 ** (1 / 0.3), rel=0.1)
    assert other.size == pytest.approx(one.size)
    assert (one.leader_before, one.leader_after) == (other.leader_before, other.leader_after) == ("b", "a")


def test_curves_at_different_sizes_cross_as_well():
    sizes, others = np.geomspace(100, 10_000, 10), np.geomspace(50, 4_000, 9)
    crossing = cross_curves(
        ("a", "b"), _made_up(sizes, 2.0 * sizes**-0.5), _made_up(others, 0.4 * others**-0.2, seed=1)
    )
    assert crossing.measured == pytest.approx((100, 4_000))
    assert crossing.interval[0] < 5 ** (1 / 0.3) < crossing.interval[1]


def test_equal_curves_are_undecided():
    sizes = np.geomspace(100, 10_000, 8)
    for seed in (0, 2):
        curves = [_made_up(sizes, sizes**-0.3, 0.03, seed + model) for model in (0, 1)]
        assert cross_curves(("a", "b"), *curves).verdict == "undecided"


def test_curves_without_a_common_range_are_refused():
    first, second = (_made_up(own, own**-0.3) for own in (np.geomspace(10, 90, 9), np.geomspace(100, 900, 9)))
    with pytest.raises(ValueError, match="share no range of sizes"):
        cross_curves(("a", "b"), first, second)
