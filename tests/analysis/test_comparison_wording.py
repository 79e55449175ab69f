import made_up_sweeps as sweeps
import pytest

from vitlab.analysis.comparison_wording import CHANGES, STAYS, UNDECIDED, conclude_comparison, verdict
from vitlab.analysis.sweep_comparison import compare_sweeps

PLAN = sweeps.make_plan()
OTHER = sweeps.with_settings(PLAN, "vit", model={"label_smoothing": 0.1})
LOCAL = {"vit": [0.39, 0.34, 0.30, 0.27, 0.25], "cnn": sweeps.CURVES["cnn"]}
EARLIER = {**sweeps.CURVES, "vit": [0.35, 0.26, 0.20, 0.14, 0.08]}


def _say(first, second, noise=0.01, plan=OTHER):
    made = sweeps.made_up("old", first, noise, plan=PLAN), sweeps.made_up("new", second, noise, 1, plan=plan)
    comparison = compare_sweeps(*made)
    return verdict(comparison.pairs[0]), conclude_comparison(comparison).words


def test_a_crossover_that_moves_changes_the_answer():
    found, words = _say(None, EARLIER)
    assert found == CHANGES
    assert words.startswith("the answer changes: the ViT takes the lead earlier, at about 1,")
    assert "times as many images in new, 95 % interval 0." in words
    assert "the ViT makes fewer errors in new at" in words
    assert words.endswith("the CNN has the same settings in both")


def test_a_crossover_within_the_noise_stays():
    found, words = _say(None, None)
    assert found == STAYS
    assert "no difference beyond the noise" in words
    assert "the ViT makes no clear difference at any size" in words


def test_another_leader_at_a_size_changes_the_answer():
    found, words = _say(None, LOCAL)
    assert found == CHANGES
    assert "in old the CNN leads up to about" in words
    assert "in new the CNN leads at every measured size" in words
    assert "each sweep has another leader beyond its noise at 8,000 images" in words


def test_the_same_leader_throughout_stays_whatever_the_gap_does():
    closer = {**LOCAL, "vit": [0.37, 0.32, 0.27, 0.24, 0.23]}
    found, words = _say(LOCAL, closer, noise=0.004)
    assert found == STAYS
    assert "the answer stays: the CNN leads at every measured size in both sweeps" in words
    assert "the gap between ViT and CNN changes beyond the noise" in words


def test_too_much_noise_leaves_it_undecided():
    found, words = _say(LOCAL, None, noise=0.2)
    assert found == UNDECIDED
    assert words.startswith("it is undecided whether the answer changes")


def test_an_arm_of_another_name_is_said_to_stand_against_the_old_one():
    network = {"backbone": {"class_path": "vitlab.models.ViT", "init_args": {"patch_size": 4}}}
    plans = [
        sweeps.with_settings(sweeps.make_plan([name, "cnn"]), name, model=network) for name in ("plain", "conv_stem")
    ]
    curves = [{name: sweeps.CURVES["vit"], "cnn": sweeps.CURVES["cnn"]} for name in ("plain", "conv_stem")]
    made = [sweeps.made_up(*both, plan=plan) for *both, plan in zip(("a", "b"), curves, plans, strict=True)]
    assert "conv_stem, against plain, has the same settings in both" in conclude_comparison(compare_sweeps(*made)).words


@pytest.mark.parametrize("models", [["vit"], ["rnn", "mlp"]])
def test_sweeps_without_a_pair_in_common_say_what_they_can(models):
    first = sweeps.made_up("old", {"vit": sweeps.CURVES["vit"]}, plan=sweeps.make_plan(["vit"]))
    plan = sweeps.make_plan(models)
    second = sweeps.made_up("new", dict.fromkeys(models, EARLIER["vit"]), 0.01, 3, plan=plan)
    words = conclude_comparison(compare_sweeps(first, second)).words
    expected = "the sweeps have no arm in common (ViT, RNN" if len(models) > 1 else "new against old: the ViT"
    assert words.startswith(expected)


def test_arms_that_are_the_same_are_named_together():
    words = conclude_comparison(compare_sweeps(sweeps.made_up("old"), sweeps.made_up("new", seed=1))).words
    assert words.endswith("the ViT and the CNN have the same settings in both")
