import dataclasses

import made_up_sweeps as sweeps
import pytest

from vitlab.analysis.differences import correct_together
from vitlab.analysis.significance import holm
from vitlab.analysis.sweep_comparison import compare_sweeps

PLAN = sweeps.make_plan(train_sizes=sweeps.TWO_SIZES)
BETTER = {**sweeps.AT_TWO_SIZES, "vit": [0.30, 0.05]}
OTHER_VIT = sweeps.with_settings(PLAN, "vit", model={"label_smoothing": 0.1})


def _compare(curves=BETTER, plan=OTHER_VIT, noise=0.01, seed=1, **settings):
    first = sweeps.made_up("old", sweeps.AT_TWO_SIZES, noise, plan=PLAN)
    return compare_sweeps(first, sweeps.made_up("new", curves, noise, seed, plan=plan), **settings)


def test_an_arm_that_got_better_leads_its_former_self_beyond_the_noise():
    vit, cnn = _compare().arms
    assert vit.models == ("ViT @ old", "ViT @ new")
    assert vit.is_paired
    assert not vit.is_same
    assert [row.clear_leader for row in vit.differences] == ["ViT @ new"] * 2
    assert all(row.interval[0] > 0 for row in vit.differences)
    assert vit.data_efficiency.needs_more == "ViT @ old"
    assert cnn.is_same


def test_turning_the_sweeps_round_turns_every_sign():
    first = sweeps.made_up("old", sweeps.AT_TWO_SIZES, plan=PLAN)
    second = sweeps.made_up("new", BETTER, 0.01, 1, plan=OTHER_VIT)
    there, back = compare_sweeps(first, second), compare_sweeps(second, first)
    for one, other in zip(there.arms, back.arms, strict=True):
        assert [row.difference for row in one.differences] == [-row.difference for row in other.differences]
        assert [row.p_value for row in one.differences] == pytest.approx([row.p_value for row in other.differences])
    for one, other in zip(there.pairs[0].gaps, back.pairs[0].gaps, strict=True):
        assert one.change == pytest.approx(-other.change)
        assert one.is_clear == other.is_clear


def test_gaps_are_those_within_the_sweeps_and_their_change_is_the_difference():
    (pair,) = _compare().pairs
    for gap, before, after in zip(pair.gaps, *(own.differences for own in pair.pairs), strict=True):
        assert gap.first == pytest.approx(before.difference)
        assert gap.second == pytest.approx(after.difference)
        assert gap.change == pytest.approx(gap.second - gap.first)
        assert gap.interval[0] < gap.change < gap.interval[1]
        assert gap.is_clear


def test_nothing_changed_means_no_clear_change():
    comparison = _compare(sweeps.AT_TWO_SIZES)
    assert not any(row.clear_leader for change in comparison.arms for row in change.differences if not change.is_same)
    assert not any(gap.is_clear for gap in comparison.pairs[0].gaps)


def test_other_seeds_are_compared_without_pairs():
    plan = dataclasses.replace(OTHER_VIT, seeds=[10, 11, 12])
    comparison = _compare(plan=plan)
    vit = comparison.arms[0]
    assert not vit.is_paired
    assert not comparison.pairs[0].is_paired
    assert [row.clear_leader for row in vit.differences] == ["ViT @ new"] * 2
    assert [row.num_seeds for row in vit.differences] == [3, 3]
    assert vit.data_efficiency is None


def test_another_split_of_the_data_is_compared_without_pairs():
    comparison = _compare(plan=sweeps.with_settings(PLAN, "vit", data={"val_size": 0.3}))
    assert [change.is_paired for change in comparison.arms] == [False, True]
    assert not comparison.pairs[0].is_paired


def test_sweeps_that_share_no_size_still_stand_side_by_side():
    plan = sweeps.make_plan(train_sizes=[300, 900])
    comparison = _compare(plan=plan)
    assert all(change.differences == [] for change in comparison.arms)
    assert comparison.pairs[0].gaps == []


def test_one_seed_says_nothing_of_the_noise():
    plan = dataclasses.replace(OTHER_VIT, seeds=[0])
    comparison = _compare(plan=plan)
    rows = [row for change in comparison.arms for row in change.differences]
    assert all(row.interval is None and row.clear_leader is None for row in rows)
    assert all(gap.interval is None and not gap.is_clear for gap in comparison.pairs[0].gaps)


def test_all_arms_are_one_family_of_tests():
    both = sweeps.with_settings(OTHER_VIT, "cnn", model={"label_smoothing": 0.1})
    comparison = _compare(plan=both, curves={**BETTER, "cnn": [0.335, 0.2]})
    rows = [row for change in comparison.arms for row in change.differences]
    assert len(rows) == 4
    assert [row.adjusted_p_value for row in rows] == pytest.approx(list(holm([row.p_value for row in rows])))


def test_correcting_together_never_makes_a_lead_clearer():
    change = _compare().arms[0]
    family = (change.models, change.differences)
    alone, many = correct_together([family])[0], correct_together([family] * 5)[0]
    assert all(a.adjusted_p_value <= b.adjusted_p_value for a, b in zip(alone, many, strict=True))


def test_equal_input_gives_equal_output():
    assert _compare().arms == _compare().arms
    assert _compare().pairs[0].gaps == _compare().pairs[0].gaps
