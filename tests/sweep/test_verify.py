"""What is wrong in a sweep folder is named, file by file; a folder in order gives no findings."""

import dataclasses
import json
import math

import numpy as np
import pytest

from vitlab.sweep import store
from vitlab.sweep.kept_predictions import KeptPredictions, predictions_path, write_predictions
from vitlab.sweep.plan_file import write_plan
from vitlab.sweep.schedule import Schedule
from vitlab.sweep.verify import Finding, verify

BEST_RATE = 0.01


@pytest.fixture
def whole(plan, tmp_path, make_record):
    """A finished sweep, in order."""
    write_plan(tmp_path, plan)
    for part in store.PARTS:
        (tmp_path / part).mkdir()
    for trial in plan.trials:
        chosen = trial.learning_rate == BEST_RATE
        store.write_record(
            tmp_path, make_record(trial, trial.learning_rate, test={"accuracy": 0.5} if chosen else None)
        )
        if chosen:
            store.checkpoint_path(tmp_path, trial.id).write_bytes(b"weights")
    for size in plan.train_sizes:
        for seed in plan.seeds:
            content = {"fingerprint": "f", "indices": list(range(seed, seed + size))}
            (tmp_path / "subsets" / f"n{size}-seed{seed}-abcdef.json").write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def change(whole):
    """Write a trial's record again, with something else in it."""

    def change(trial, **values):
        store.write_record(whole, store.read_record(whole, trial.id) | values)

    return change


def found(folder):
    return [(finding.level, finding.file) for finding in verify(folder)]


def record_of(trial):
    return f"trials/{trial.id}.json"


def test_a_sweep_in_order_gives_no_findings(whole):
    assert verify(whole) == []


def test_a_sweep_that_has_only_begun_gives_no_findings(plan, whole):
    for trial in plan.trials[3:]:
        store.record_path(whole, trial.id).unlink()
        store.checkpoint_path(whole, trial.id).unlink(missing_ok=True)
    (whole / "resume" / f"{plan.trials[5].id}.ckpt").touch()
    (whole / "trials" / f".claim-{plan.trials[5].id}.0").touch()
    store.checkpoint_path(whole, plan.trials[5].id).touch()  # its owner is about to write the record
    assert verify(whole) == []


def test_a_finding_is_a_line():
    assert str(Finding("note", "trials/a.json", "is fine")) == "note: trials/a.json: is fine"


def test_a_record_edited_by_hand_is_an_error(plan, whole):
    path = store.record_path(whole, plan.trials[0].id)
    path.write_text(path.read_text().replace('"accuracy": 0.001', '"accuracy": 0.999'))
    (finding,) = verify(whole)
    assert (finding.level, finding.file) == ("error", record_of(plan.trials[0]))
    assert finding.words.startswith("is not as it was written (its checksum does not fit")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"id": "x"}'])
def test_what_is_no_record_is_an_error(plan, whole, content, monkeypatch):
    monkeypatch.setattr(store, "_LOOKS", 1)
    store.record_path(whole, plan.trials[0].id).write_text(content)
    assert found(whole) == [("error", record_of(plan.trials[0]))]


def test_a_record_under_another_trials_name_is_an_error(plan, whole):
    text = store.record_path(whole, plan.trials[0].id).read_text()
    store.record_path(whole, plan.trials[2].id).write_text(text)
    assert found(whole) == [("error", record_of(plan.trials[2]))]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"train_size": 12}, "train_size is 12, planned is 11"),
        ({"learning_rate": 0.5}, "learning_rate is 0.5, planned is 0.001"),
        ({"budget": {"unit": "steps", "amount": 4}}, "budget is"),
        ({"arguments": ["--num_threads=1", "--data.train_size=11"]}, "arguments are not those"),
        ({"arguments": None}, "arguments are not those"),
        ({"val": {"accuracy": 1.5}}, "val.accuracy is 1.5, not between 0 and 1"),
        ({"val": {"accuracy": -0.5}}, "val.accuracy is -0.5, not between 0 and 1"),
        ({"test": {"accuracy": 0.5, "nll": -1.0}}, "test.nll is -1.0, not zero or more"),
        ({"val": None}, "no validation accuracy is given"),
        ({"val": {}}, "no validation accuracy is given"),
        ({"seconds": -1}, "seconds is -1"),
        ({"steps": 2}, "done after 2 steps, but its budget is 3"),
        ({"status": "failed", "error": None}, "it failed, but no error is given"),
    ],
)
def test_what_cannot_be_true_of_the_trial_is_an_error(plan, whole, change, values, words):
    change(plan.trials[0], **values)
    (finding,) = verify(whole)
    assert (finding.level, finding.file) == ("error", record_of(plan.trials[0]))
    assert words in finding.words


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["val", "history"])
def test_numbers_that_are_none_are_errors(plan, whole, number, place):
    """As an older version, or another program, may have written them: vitlab itself refuses to."""
    trial = plan.trials[0]
    wrong = {"val": {"accuracy": 0.5, "nll": number}, "history": [[1, number]]}[place]
    record = store.read_record(whole, trial.id) | {place: wrong, "schema": 1}
    store.record_path(whole, trial.id).write_text(json.dumps(record))
    (finding,) = verify(whole)
    assert (finding.level, finding.file) == ("error", record_of(trial))
    assert "not a finite number" in finding.words


def test_a_record_that_lacks_something_is_an_error(plan, whole):
    record = store.read_record(whole, plan.trials[0].id)
    del record["seconds"], record["steps"]
    store.write_record(whole, record)
    assert [str(finding) for finding in verify(whole)] == [
        f"error: {record_of(plan.trials[0])}: it lacks steps, seconds; delete it and run the sweep again"
    ]


def test_arguments_in_another_order_are_the_same(plan, whole, change):
    change(plan.trials[0], arguments=["--num_threads=2", *reversed(plan.trials[0].arguments)])
    assert verify(whole) == []


def test_records_without_checksums_are_counted_once(plan, whole):
    for trial in plan.trials[:5]:
        record = store.read_record(whole, trial.id) | {"schema": 1}
        store.record_path(whole, trial.id).write_text(json.dumps(record))
    assert [str(finding) for finding in verify(whole)] == [
        "note: trials: 5 records have no checksum: an older version wrote them, and a change would go unnoticed"
    ]


def test_records_of_no_planned_trial_are_named(plan, whole):
    write_plan(whole.parent / "less", dataclasses.replace(plan, seeds=[0]))
    (whole / "sweep.json").write_bytes((whole.parent / "less" / "sweep.json").read_bytes())
    unplanned = [trial for trial in plan.trials if trial.seed == 1]
    weights = [("warning", f"checkpoints/{t.id}.ckpt") for t in unplanned if t.learning_rate == BEST_RATE]
    assert found(whole) == sorted([*weights, *(("warning", record_of(trial)) for trial in unplanned)])


def test_the_same_settings_under_two_names_are_an_error(plan, whole):
    record = store.read_record(whole, plan.trials[0].id)
    store.write_record(whole, record | {"id": "abc"})
    (finding,) = verify(whole)
    assert (finding.level, finding.file) == ("error", "trials/abc.json")
    assert f"same settings as {record_of(plan.trials[0])}" in finding.words
    for trial_id in ("abc", "abd"):  # two that are both of no planned trial
        other = [argument.replace("train_size=11", "train_size=12") for argument in record["arguments"]]
        store.write_record(whole, record | {"id": trial_id, "arguments": other})
    assert found(whole) == [("error", "trials/abd.json"), ("warning", "trials/abc.json")]


def test_selected_trials_without_test_or_weights_are_named(plan, whole, change):
    untested, failing, gone = [trial for trial in plan.trials if trial.learning_rate == BEST_RATE][:3]
    change(untested, test=None)
    change(failing, test=None, test_error="no such file")
    store.checkpoint_path(whole, gone.id).unlink()
    words = {finding.file: (finding.level, finding.words) for finding in verify(whole)}
    assert words == {
        record_of(untested): (
            "warning",
            "it is selected, but not tested yet; the same `vitlab sweep` goes on with that",
        ),
        record_of(failing): ("warning", "its test failed: no such file; --retry-failed tries again"),
        record_of(gone): ("warning", "it is selected, but its weights are gone; it cannot be inspected"),
    }


def test_a_tested_trial_that_is_not_selected_is_named(plan, whole, change):
    trial = next(trial for trial in plan.trials if trial.learning_rate != BEST_RATE)
    change(trial, test={"accuracy": 0.5})
    assert found(whole) == [("warning", record_of(trial))]


def test_predictions_of_the_recorded_test_are_in_order_and_others_are_named(plan, whole):
    trials = [trial for trial in plan.trials if trial.learning_rate == BEST_RATE]
    half = KeptPredictions("0123", np.arange(100) % 2 == 0)  # as the accuracy of 0.5 in the records says
    for trial in trials:
        write_predictions(whole, trial.id, half)
    assert verify(whole) == []
    fewer, broken = trials[:2]
    write_predictions(whole, fewer.id, KeptPredictions("0123", np.arange(100) % 3 == 0))
    predictions_path(whole, broken.id).write_bytes(b"")
    for name in ("abc.npz", "notes.txt"):
        (whole / "predictions" / name).touch()
    (whole / "predictions" / ".writing-x").touch()
    words = {finding.file: (finding.level, finding.words) for finding in verify(whole)}
    assert words.pop(f"predictions/{fewer.id}.npz") == (
        "error",
        "34 of 100 predictions are right, and its record has another accuracy (0.5); delete it",
    )
    assert words.pop(f"predictions/{broken.id}.npz")[1].endswith("the report says then that they are missing")
    assert {file: level for file, (level, _) in words.items()} == {
        "predictions/abc.npz": "warning",
        "predictions/notes.txt": "warning",
        "predictions/.writing-x": "note",
    }


def test_an_arm_that_is_not_trained_yet_has_no_choice_to_judge(plan, whole):
    first = plan.trials[0]
    store.record_path(whole, first.id).unlink()
    for trial in plan.trials:
        if (trial.model, trial.train_size) == (first.model, first.train_size):
            store.checkpoint_path(whole, trial.id).unlink(missing_ok=True)
    assert verify(whole) == []


def test_files_of_no_use_are_named(plan, whole):
    done, missing = plan.trials[0], plan.trials[2]
    store.record_path(whole, missing.id).unlink()
    expected = {
        f"resume/{done.id}.ckpt": "warning",
        "resume/abc.ckpt": "warning",
        "checkpoints/abc.ckpt": "warning",
        f"checkpoints/{missing.id}.ckpt": "warning",
        "trials/notes.txt": "warning",
        "trials/.writing-x": "note",
        "checkpoints/.writing-x": "note",
        ".writing-x": "note",
        f"trials/.claim-{done.id}.0": "note",
        "trials/.claim-abc.0": "note",
    }
    for name in expected:
        (whole / name).touch()
    assert {file: level for level, file in found(whole)} == expected
    assert len(found(whole)) == len(expected)


def test_a_claim_on_a_trial_that_waits_for_its_test_is_none_of_that(plan, whole, change):
    trial = next(trial for trial in plan.trials if trial.learning_rate == BEST_RATE)
    change(trial, test=None)
    (whole / "trials" / f".claim-{trial.id}.1").touch()
    assert found(whole) == [("warning", record_of(trial))]


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"fingerprint": "f", "indices": [1, 2]}', '{"fingerprint": "f", "indices": 11}']
)
def test_a_list_of_images_that_cannot_be_is_an_error(whole, content):
    (whole / "subsets" / "n11-seed0-abcdef.json").write_text(content)
    assert found(whole) == [("error", "subsets/n11-seed0-abcdef.json")]


def test_an_image_listed_twice_is_an_error(whole):
    content = {"fingerprint": "f", "indices": [*range(10), 0]}
    (whole / "subsets" / "n11-seed0-abcdef.json").write_text(json.dumps(content))
    assert found(whole) == [("error", "subsets/n11-seed0-abcdef.json")]


@pytest.mark.parametrize(("indices", "fingerprint"), [(range(1, 12), "f"), (range(11), "g"), (range(10, -1, -1), "f")])
def test_arms_that_saw_different_images_are_named(whole, indices, fingerprint):
    content = {"fingerprint": fingerprint, "indices": list(indices)}
    (whole / "subsets" / "n11-seed0-fedcba.json").write_text(json.dumps(content))
    assert found(whole) == [("warning", "subsets/n11-seed0-fedcba.json")]


def test_a_folder_that_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a sweep folder"):
        verify(tmp_path)


def test_a_search_under_way_has_no_choice_yet_and_one_that_ended_has(searching, tmp_path, make_record):
    schedule = Schedule(searching, [])
    for _ in range(43):
        kind, trial = task = schedule.take()
        while kind == "test":
            schedule.finish(task, store.read_record(tmp_path, trial.id) | {"test": {"accuracy": 0.5}})
            kind, trial = task = schedule.take()
        store.write_record(tmp_path, record := make_record(trial, trial.learning_rate / 100))
        schedule.finish(task, record)
        write_plan(tmp_path, schedule.plan)
    levels = [finding.words for finding in verify(tmp_path)]
    assert sum("it is selected, but not tested yet" in words for words in levels) == 3 * 2
    while schedule.take()[0] == "test":
        pass
    (last,) = [trial for trial in schedule.plan.trials if trial.id not in store.record_ids(tmp_path)]
    store.write_record(tmp_path, make_record(last, last.learning_rate / 100))
    assert sum("it is selected, but not tested yet" in finding.words for finding in verify(tmp_path)) == 4 * 2
