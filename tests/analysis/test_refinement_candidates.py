import made_up_sweeps as sweeps
import numpy as np
import pytest

from vitlab.analysis.outlook import REACH, look
from vitlab.analysis.refinement_candidates import candidates, grow, new_seeds
from vitlab.analysis.refinement_costs import Prices

SIZES = sweeps.SIZES


def _considered(noise=0.01, portion=0.0, left=(1e9, 1e9), beyond_range=True, curves=None, num_seeds=3):
    """Return a plan, how things stand, and the candidates."""
    plan = sweeps.make_plan(num_seeds=num_seeds)
    curves = np.array(list((curves or sweeps.CURVES).values()))
    z = np.random.default_rng(2).standard_normal((2, len(SIZES), num_seeds))
    outlook = look(("vit", "cnn"), SIZES, np.clip(curves[:, :, None] + noise * z, 0, 1))
    prices = Prices(plan, sweeps.make_records(plan))
    return plan, outlook, list(candidates(plan, outlook, prices, portion, left, beyond_range))


def test_new_seeds_are_in_use_nowhere_at_the_size():
    plan = sweeps.make_plan(num_seeds=4).with_seeds(600, [7])
    assert new_seeds(plan, 600, 2) == [8, 9]
    assert new_seeds(plan, 250, 1) == [4]


def test_a_plan_grows_by_what_is_added_and_no_more():
    plan = sweeps.make_plan(num_seeds=3)
    grown = grow(plan, {600: 2, 1100: 3})
    assert grown.seeds_of(600) == [0, 1, 2, 3, 4]
    assert grown.seeds_of(1100) == plan.seeds
    assert grown.train_sizes == sorted([*SIZES, 1100])
    assert all(grown.seeds_of(size) == [0, 1, 2] for size in (100, 250, 2000, 8000))


def test_seeds_are_added_in_and_next_to_the_interval():
    _, outlook, found = _considered()
    assert outlook.crossover.verdict == "crosses"
    low, high = outlook.crossover.interval
    alone = {size for additions in found if len(additions) == 1 for size in additions if size in SIZES}
    assert {size for size in SIZES if low <= size <= high} <= alone
    assert alone < set(SIZES)


def test_a_size_never_gets_more_seeds_at_a_time_than_it_has():
    for portion in (0.0, 1e6):
        plan, _, found = _considered(portion=portion)
        for additions in found:
            assert all(number <= len(plan.seeds) for number in additions.values())


@pytest.mark.parametrize("room", [(1e9, 6.0), (1.0, 1e9)])
def test_where_little_is_left_one_seed_is_tried(room):
    _, _, found = _considered(portion=1e6, left=room)
    assert all(number == 1 for additions in found for size, number in additions.items() if size in SIZES)


def test_new_sizes_lie_around_the_crossover_and_apart_from_the_others():
    plan, outlook, found = _considered(noise=0.02)
    new = [size for additions in found for size in additions if size not in SIZES]
    assert new
    for size in new:
        assert all(max(size / other, other / size) >= 1.15 for other in plan.train_sizes)
        assert SIZES[0] / REACH <= size <= SIZES[-1] * REACH
    assert any(outlook.crossover.candidate / 2 < size < outlook.crossover.candidate * 2 for size in new)


def test_sizes_beyond_the_range_are_looked_at_only_where_a_side_is_open_and_they_may_be():
    late = {"vit": [0.40, 0.36, 0.32, 0.27, 0.20], "cnn": [0.34, 0.27, 0.25, 0.22, 0.21]}  # no clear lead at the top
    beyond = [_considered(noise=0.005, curves=late, beyond_range=allowed) for allowed in (True, False)]
    assert beyond[0][1].crossover.interval[1] is None
    outside = [{size for a in found for size in a if not SIZES[0] <= size <= SIZES[-1]} for _, _, found in beyond]
    assert max(outside[0]) > SIZES[-1]
    assert outside[1] == set()


def test_the_power_calculation_s_sizes_are_tried_together():
    close = {"vit": [0.36, 0.25, 0.22, 0.19, 0.18], "cnn": [0.34, 0.24, 0.22, 0.20, 0.20]}
    _, outlook, found = _considered(noise=0.005, curves=close)
    wanted = [more.train_size for more in outlook.crossover.more_seeds if more.more_seeds]
    assert outlook.crossover.verdict == "undecided"
    assert wanted
    assert any(set(additions) == set(wanted) for additions in found)
