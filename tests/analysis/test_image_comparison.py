import json
import shutil

import made_up_sweeps as sweeps
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vitlab.analysis.image_comparison import mcnemar
from vitlab.analysis.pair_tables import image_remark
from vitlab.analysis.report import read_sweeps, write_report
from vitlab.analysis.significance import holm
from vitlab.sweep.kept_predictions import KeptPredictions, predictions_path, write_predictions

NUM_IMAGES = 1000


@pytest.mark.parametrize(("first_only", "second_only"), [(0, 6), (3, 9), (150, 200)])
def test_one_seed_gives_the_binomial_test_of_the_images_that_one_alone_has_right(first_only, second_only):
    first = np.r_[np.ones(first_only), np.zeros(second_only), np.ones(20), np.zeros(5)].astype(bool)
    second = np.r_[np.zeros(first_only), np.ones(second_only), np.ones(20), np.zeros(5)].astype(bool)
    test = mcnemar(first[None], second[None])
    assert (test.first_only, test.second_only, test.num_seeds) == (first_only, second_only, 1)
    assert test.num_images == first_only + second_only + 25
    assert test.p_value == pytest.approx(stats.binomtest(first_only, first_only + second_only).pvalue)


def test_many_images_of_one_seed_give_the_chi_square_test():
    scores = np.r_[np.ones(640), -np.ones(560)]
    test = mcnemar(scores[None] > 0, scores[None] < 0)
    assert test.p_value == pytest.approx(stats.chi2.sf((640 - 560) ** 2 / 1200, 1))
    assert test.p_value == pytest.approx(stats.binomtest(640, 1200).pvalue, rel=0.1)


@pytest.mark.parametrize("num_seeds", [2, 5])
def test_the_exact_distribution_is_that_of_all_signs(num_seeds):
    """Against the definition: every sign of every image's score, for as few images as can be listed."""
    rng = np.random.default_rng(num_seeds)
    first, second = rng.random((2, num_seeds, 11)) < [[[0.7]], [[0.4]]]
    scores = first.sum(axis=0).astype(int) - second.sum(axis=0)
    signs = 1 - 2 * ((np.arange(2**11)[:, None] >> np.arange(11)) & 1)
    expected = (np.abs(signs @ np.abs(scores)) >= abs(scores.sum())).mean()
    assert mcnemar(first, second).p_value == pytest.approx(expected)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_it_is_the_same_from_both_sides_and_in_any_order(seed, num_seeds):
    rng = np.random.default_rng(seed)
    first, second = rng.random((2, num_seeds, 37)) < 0.6
    test, other = mcnemar(first, second), mcnemar(second, first)
    assert (test.first_only, test.second_only) == (other.second_only, other.first_only)
    assert test.p_value == other.p_value
    assert 0 < test.p_value <= 1
    shuffled = rng.permutation(37)
    assert mcnemar(first[::-1, shuffled], second[::-1, shuffled]) == test


def test_a_seed_that_repeats_another_adds_nothing():
    """Answers that are the same at every seed are one seed's evidence, however often they are counted."""
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 1, 300)) < [[[0.8]], [[0.74]]]
    assert mcnemar(first.repeat(5, axis=0), second.repeat(5, axis=0)).p_value == pytest.approx(
        mcnemar(first, second).p_value
    )


def simulate(rng, num_images, num_seeds, lead=0.0):
    """Answers of two models, each with images that it finds hard at every seed; the second is ahead by `lead`."""
    chances = rng.beta(0.8, 0.4, (2, 1, num_images)) + np.array([0.0, lead])[:, None, None]
    return rng.random((2, num_seeds, num_images)) < chances


@pytest.mark.parametrize("num_images", [211, 3001])  # the exact distribution, and the normal one
def test_the_level_is_kept_where_seeds_agree_on_what_is_hard(num_images):
    rng = np.random.default_rng(3)
    p_values, one_by_one = [], []
    for _ in range(1500):
        test = mcnemar(*simulate(rng, num_images, num_seeds=4))
        p_values.append(test.p_value)
        one_by_one.append(
            stats.binom.cdf(min(test.first_only, test.second_only), test.first_only + test.second_only, 0.5)
        )
    assert 0.03 < np.mean(np.array(p_values) < 0.05) < 0.065
    assert np.mean(np.array(one_by_one) < 0.025) > 0.15  # answers taken as independent: wrong three times as often


def test_more_seeds_see_a_real_lead_more_often():
    rng = np.random.default_rng(4)
    seen = {
        seeds: np.mean([mcnemar(*simulate(rng, 400, seeds, lead=0.05)).p_value < 0.05 for _ in range(300)])
        for seeds in (1, 5)
    }
    assert seen[1] > 0.2
    assert seen[5] > seen[1] + 0.1


def test_networks_with_the_same_mistakes_do_not_differ():
    right = np.array([[True, False, True]])
    assert mcnemar(right, right).p_value == 1.0


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((3,), (3,)), ((2, 3), (1, 3))])
def test_predictions_of_different_images_or_seeds_are_refused(shapes):
    first, second = (np.ones(shape, dtype=bool) for shape in shapes)
    with pytest.raises(ValueError, match=r"same seeds and images.*got shapes \(.*\) and \("):
        mcnemar(first, second)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep whose tested trials have predictions that fit their records."""
    folder, rng = tmp_path_factory.mktemp("kept") / "sweep", np.random.default_rng(0)
    plan = sweeps.make_plan(train_sizes=[100, 600, 8000], num_seeds=3)
    curves = {"vit": [0.4, 0.26, 0.1], "cnn": [0.3, 0.255, 0.2]}
    records = sweeps.make_records(plan, curves, noise=0.004)
    for record in records:
        if record["test"] is not None:
            right = np.arange(NUM_IMAGES) >= round(NUM_IMAGES * (1 - record["test"]["accuracy"]))
            record["test"]["accuracy"] = float(right.mean())
            write_predictions(folder, record["id"], KeptPredictions("0123", rng.permutation(right)))
    sweeps.write_sweep(folder, plan, records)
    return folder


def ids_of(result, **axes):
    return [trial["id"] for trial in result.selected if all(trial[name] == value for name, value in axes.items())]


def test_a_report_tests_each_size_over_images_and_corrects_for_their_number(sweep):
    summary = write_report([sweep])
    (pair,) = summary["pairs"]
    tests = [row["mcnemar"] for row in pair["differences"]]
    assert [(test["num_seeds"], test["num_images"]) for test in tests] == [(3, NUM_IMAGES)] * 3
    assert [test["adjusted_p_value"] for test in tests] == pytest.approx(holm(np.array([t["p_value"] for t in tests])))
    assert tests[0]["first_only"] < tests[0]["second_only"]
    assert tests[2]["first_only"] > tests[2]["second_only"]
    assert tests[0]["adjusted_p_value"] < 0.001 < 0.05 < tests[1]["adjusted_p_value"]
    assert pair["image_remark"] == ""
    page, tables = ((sweep / "report" / name).read_text() for name in ("index.html", "tables.tex"))
    assert "p over images, corrected" in page
    assert "lacks predictions" not in page
    assert "$p$, images" in tables
    assert json.loads((sweep / "report" / "summary.json").read_text()) == summary


def test_a_sweep_of_an_older_version_says_that_predictions_are_missing(tmp_path):
    plan = sweeps.make_plan()
    folder = sweeps.write_sweep(tmp_path / "sweep", plan, sweeps.make_records(plan))
    (pair,) = write_report([folder])["pairs"]
    assert {row["mcnemar"] for row in pair["differences"]} == {None}
    assert pair["image_remark"].startswith("McNemar's test over the test images lacks predictions: 40 trials kept none")
    assert "lacks predictions: 40 trials kept none" in (folder / "report" / "index.html").read_text()


def test_what_is_missing_broken_or_of_other_images_is_left_out_and_said(sweep, tmp_path):
    folder = tmp_path / "sweep"
    shutil.copytree(sweep, folder)
    (result,) = read_sweeps([folder])
    gone, broken = ids_of(result, train_size=100, model="vit")[:2]
    (wrong,) = ids_of(result, train_size=600, model="vit", seed=1)
    (other,) = ids_of(result, train_size=8000, model="cnn", seed=2)
    predictions_path(folder, gone).unlink()
    predictions_path(folder, broken).write_bytes(b"")
    write_predictions(folder, wrong, KeptPredictions("0123", np.arange(NUM_IMAGES) % 2 == 0))
    (trial,) = [trial for trial in result.selected if trial["id"] == other]
    right = np.arange(NUM_IMAGES) < round(NUM_IMAGES * trial["test"]["accuracy"])
    write_predictions(folder, other, KeptPredictions("4567", right))
    (result,) = read_sweeps([folder])
    (pair,) = result.pairs
    assert [row.mcnemar.num_seeds for row in pair.differences] == [1, 2, 2]
    for words in (
        "1 trial kept none",
        "2 trials have a file that does not fit",
        "2 trials were tested on other images",
    ):
        assert words in pair.image_remark
        assert words in image_remark(pair).replace("&#x27;", "'")
