import json
import shutil

import made_up_sweeps as sweeps
import numpy as np
import pytest

from vitlab.analysis.image_comparison import ImageAnswers
from vitlab.analysis.report import read_sweeps, write_report
from vitlab.analysis.sweep_comparison import compare_sweeps
from vitlab.analysis.sweep_pairing import Sweep
from vitlab.sweep.kept_predictions import KeptPredictions, predictions_path, write_predictions

NUM_IMAGES = 1009
LOPSIDED = np.repeat([0, 1, 2], [643, 257, 109])  # 36.3 % error for whoever answers class 0
BALANCED = np.arange(1000) % 2
HUNDRED = np.arange(1000) % 100


def wrong_at(labels, places, num_classes):
    predicted = labels.copy()
    predicted[places] = (predicted[places] + 1) % num_classes
    return predicted


def one_class(labels, num_others=0):
    """Answer class 0 for all but a few images, and these few right."""
    predicted = np.zeros_like(labels)
    others = np.flatnonzero(labels)[:num_others]
    predicted[others] = labels[others]
    return predicted


def found(folder, labels, answers, train_sizes=(20, 160, 1000), num_seeds=3, has_labels=True):
    """Return the findings on one class in a sweep whose models answer a trial as `answers` says."""
    plan = sweeps.make_plan(train_sizes=train_sizes, num_seeds=num_seeds)
    records = sweeps.matched_records(plan, curves=dict.fromkeys(("vit", "cnn"), [0.1] * len(train_sizes)))
    for record in records:
        if record["test"] is not None:
            predicted = answers(record)
            record["test"]["accuracy"] = float(np.float32((predicted == labels).mean()))
            kept = (labels, predicted) if has_labels else (None, None)
            write_predictions(folder, record["id"], KeptPredictions("0123", predicted == labels, *kept))
    sweeps.write_sweep(folder, plan, records)
    return found_in(folder, plan, records)


def found_in(folder, plan, records):
    findings = sweeps.find(plan, records, folder=folder)
    return [finding for finding in findings if finding.check == "no_better_than_one_class"]


def test_an_arm_that_answers_the_most_frequent_class_is_named_with_its_sizes(tmp_path):
    good = wrong_at(LOPSIDED, slice(0, NUM_IMAGES, 7), 3)

    def answers(trial):
        return one_class(LOPSIDED) if trial["model"] == "cnn" and trial["train_size"] < 1000 else good

    (finding,) = found(tmp_path, LOPSIDED, answers)
    assert (finding.level, finding.models, finding.train_sizes) == ("warn", ("cnn",), (20, 160))
    assert finding.words.startswith(
        "CNN at 20 and 160 images is no better, to within one test image, than to answer the most frequent class for "
        "every image (36.3 % error): it has learned nothing there"
    )


@pytest.mark.parametrize(("num_more", "is_found"), [(-50, True), (0, True), (1, True), (2, False)])
def test_one_image_more_than_the_most_frequent_class_is_no_better_and_two_are(tmp_path, num_more, is_found):
    """Answers of all classes, so that only the number of right ones can be what is found."""
    right = 643 + num_more
    predicted = wrong_at(LOPSIDED, np.random.default_rng(0).permutation(NUM_IMAGES)[right:], 3)
    assert (predicted == LOPSIDED).sum() == right
    assert bool(found(tmp_path, LOPSIDED, lambda trial: predicted)) == is_found


@pytest.mark.parametrize(("num_wrong", "is_found"), [(502, True), (500, True), (490, False), (100, False)])
def test_of_two_equally_frequent_classes_half_is_no_better(tmp_path, num_wrong, is_found):
    predicted = wrong_at(BALANCED, np.random.default_rng(0).permutation(1000)[:num_wrong], 2)
    findings = found(tmp_path, BALANCED, lambda trial: predicted)
    assert [finding.models for finding in findings] == ([("vit",), ("cnn",)] if is_found else [])
    assert all("at every size is no better, " in one.words and "(50.0 % error)" in one.words for one in findings)


@pytest.mark.parametrize(("num_right", "is_found"), [(11, True), (30, False), (900, False)])
def test_of_a_hundred_classes_little_is_much(tmp_path, num_right, is_found):
    predicted = wrong_at(HUNDRED, np.random.default_rng(0).permutation(1000)[num_right:], 100)
    assert bool(found(tmp_path, HUNDRED, lambda trial: predicted)) == is_found


@pytest.mark.parametrize(("num_others", "share"), [(20, "98.0 %"), (50, "95.0 %"), (53, None)])
def test_an_arm_that_hardly_answers_another_class_has_learned_next_to_nothing(tmp_path, num_others, share):
    labels = LOPSIDED[:1000]
    findings = found(tmp_path, labels, lambda trial: one_class(labels, num_others))
    assert len(findings) == (2 if share else 0)
    assert all(f"answers one class for {share} of the test images" in finding.words for finding in findings)


@pytest.mark.parametrize(("num_collapsed", "is_found"), [(1, False), (2, True), (3, True)])
def test_most_seeds_of_an_arm_decide(tmp_path, num_collapsed, is_found):
    def answers(trial):
        return one_class(LOPSIDED, 40) if trial["seed"] < num_collapsed else LOPSIDED

    assert bool(found(tmp_path, LOPSIDED, answers)) == is_found


def test_one_class_is_the_right_answer_where_nearly_all_images_have_it(tmp_path):
    rare = np.repeat([0, 1], [970, 30])
    assert found(tmp_path / "all", rare, lambda trial: rare) == []
    assert found(tmp_path / "half", rare, lambda trial: one_class(rare, 15)) == []
    assert len(found(tmp_path / "few", rare, lambda trial: one_class(rare, 5))) == 2


def test_of_test_images_of_one_class_nothing_is_said(tmp_path):
    only = np.zeros(100, dtype=int)
    assert found(tmp_path, only, lambda trial: only) == []


def test_answers_that_are_no_labels_or_were_not_kept_are_not_judged(tmp_path):
    assert found(tmp_path / "masks", LOPSIDED, lambda trial: one_class(LOPSIDED), has_labels=False) == []
    assert len(found(tmp_path / "kept", LOPSIDED, lambda trial: one_class(LOPSIDED))) == 2
    (result,) = read_sweeps([tmp_path / "kept"])
    assert len([one for one in result.findings if one.check == "no_better_than_one_class"]) == 2
    for trial in result.selected:
        predictions_path(tmp_path / "kept", trial["id"]).unlink()
    assert found_in(tmp_path / "kept", result.plan, result.records) == []
    assert found_in(None, result.plan, result.records) == []


def test_answers_that_do_not_fit_their_record_are_not_judged(tmp_path):
    assert len(found(tmp_path, LOPSIDED, lambda trial: one_class(LOPSIDED))) == 2
    (result,) = read_sweeps([tmp_path])
    for trial in result.selected:
        trial["test"]["accuracy"] = 0.5
    assert found_in(tmp_path, result.plan, result.records) == []


@pytest.mark.parametrize("largest", [2, 300, 70_000])
def test_classes_are_counted_alike_however_many_bytes_they_take(tmp_path, largest):
    labels = np.repeat([0, largest, 1], [5, 7, 3])
    trial = {"id": "abc", "test": {"accuracy": 10 / 15}}
    write_predictions(
        tmp_path, "abc", KeptPredictions("0123", labels == labels, labels, np.where(labels == 0, 1, labels))
    )
    counts = ImageAnswers(tmp_path).counts_of(trial)
    assert (counts.num_images, counts.most_frequent, counts.most_answered) == (15, 7, 8)


def test_a_report_tells_the_error_of_the_most_frequent_class(tmp_path):
    kept = tmp_path / "kept"
    found(kept, LOPSIDED, lambda trial: one_class(LOPSIDED))
    write_report([kept])
    (task,) = json.loads((kept / "report" / "summary.json").read_text())["tasks"]
    assert task["most_frequent_class_error"] == pytest.approx(1 - 643 / NUM_IMAGES)
    assert "than to answer the most frequent class for every image" in (kept / "report" / "index.html").read_text()
    (result,) = read_sweeps([kept])
    old, other = tmp_path / "old", tmp_path / "other"
    for copy in (old, other):
        shutil.copytree(kept, copy)
    shutil.rmtree(old / "predictions")
    trial, right = result.selected[0], np.arange(NUM_IMAGES) < 643
    write_predictions(other, trial["id"], KeptPredictions("4567", right, right * 1, np.ones(NUM_IMAGES, dtype=int)))
    (without,), (mixed,) = read_sweeps([old]), read_sweeps([other])
    assert without.most_frequent_class_error is None
    assert mixed.most_frequent_class_error is None  # of two sets of test images there is no one error
    same, apart = (compare_sweeps(Sweep("one", result), Sweep("two", one)).together for one in (result, without))
    assert same.most_frequent_class_error == result.most_frequent_class_error
    assert apart.most_frequent_class_error is None
