import dataclasses

import made_up_sweeps as sweeps
import numpy as np
import pytest

from vitlab.analysis.crossover_shift import measure_shift
from vitlab.analysis.lead_changes import places_of_change
from vitlab.analysis.selection import select_points
from vitlab.analysis.sweep_comparison import compare_sweeps
from vitlab.analysis.task_result import compare_models
from vitlab.sweep.selection import chosen_learning_rates

EARLIER = {**sweeps.CURVES, "vit": [0.35, 0.26, 0.20, 0.14, 0.08]}


def _shift(first=None, second=None, **settings):
    noise, seeds = settings.get("noise", 0.01), settings.get("seeds", (0, 1))
    plan = settings.get("plan")
    made = [
        sweeps.made_up(name, curves, noise, seed, plan=own)
        for name, curves, seed, own in zip("ab", (first, second), seeds, (None, plan), strict=True)
    ]
    (change,) = compare_sweeps(*made).pairs
    return change.shift, change.pairs


def test_a_crossover_that_is_earlier_by_far_has_moved():
    shift, pairs = _shift(None, EARLIER)
    assert shift.has_moved
    assert shift.is_paired
    assert shift.ratio == pytest.approx(pairs[1].crossover.train_size / pairs[0].crossover.train_size)
    assert shift.interval[0] < shift.ratio < shift.interval[1] < 1


def test_other_noise_alone_moves_no_crossover():
    shift, _ = _shift(seeds=(0, 5))
    assert not shift.has_moved
    assert shift.interval[0] < 1 < shift.interval[1]


def test_sweeps_with_other_sizes_are_resampled_apart():
    plan = sweeps.make_plan(train_sizes=[100, 600, 2000, 8000])
    curves = {model: [errors[n] for n in (0, 2, 3, 4)] for model, errors in sweeps.CURVES.items()}
    shift, _ = _shift(None, curves, plan=plan)
    assert not shift.is_paired
    assert not shift.has_moved


def test_the_order_of_the_sweeps_turns_the_ratio_over():
    there, _ = _shift(None, EARLIER)
    back, _ = _shift(EARLIER, None, seeds=(1, 0))
    assert back.ratio == pytest.approx(1 / there.ratio)
    assert back.has_moved
    assert back.interval[0] == pytest.approx(1 / there.interval[1], rel=0.1)


def test_one_seed_gives_a_ratio_and_no_interval():
    plan = sweeps.make_plan(num_seeds=1)
    made = [sweeps.made_up(name, None, 0.0, plan=plan).result for name in "ab"]
    points = [*made[0].points]
    size = made[0].pairs[0].crossover.train_size
    shift = measure_shift(points, (("vit", "cnn"), ("vit", "cnn")), (size, size), (0, 0), False)
    assert shift.ratio == 1.0
    assert shift.interval is None
    assert not shift.has_moved


def test_places_of_change_are_those_of_the_crossover_and_open_at_the_ends():
    sizes = [100, 250, 600, 2000]
    crossing = [[0.4, 0.3, 0.2, 0.1], [0.25, 0.24, 0.23, 0.22]]
    draws = np.array([crossing, [crossing[1], crossing[0]], [[0.1] * 4, [0.2] * 4]])
    (where, never, always) = places_of_change(sizes, draws, 0)
    assert 250 < where < 600
    assert never == np.inf
    assert always == 0
    assert places_of_change(sizes, draws, 1)[1] == pytest.approx(where)


@pytest.mark.slow
def test_equal_crossovers_are_called_moved_about_as_rarely_as_said():
    """Both sweeps have other seeds: the null hypothesis, unpaired."""
    plan, pair = sweeps.make_plan(), ("vit", "cnn")
    moved = total = 0
    for repeat in range(40):
        records = [sweeps.make_records(plan, noise=0.02, seed=1000 * repeat + n) for n in (0, 1)]
        made = [select_points(own, chosen_learning_rates(own), plan.models, plan.seeds_of) for own in records]
        places = tuple(compare_models(points, pair).crossover.train_size for points in made)
        if None in places:
            continue
        points = [
            dataclasses.replace(point, model=f"{point.model} {name}")
            for own, name in zip(made, "ab", strict=True)
            for point in own
        ]
        names = tuple(tuple(f"{model} {name}" for model in pair) for name in "ab")
        moved += measure_shift(points, names, places, (0, 0), False).has_moved
        total += 1
    assert total > 25
    assert moved / total < 0.12
