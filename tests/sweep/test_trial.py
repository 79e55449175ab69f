"""A trial's record tells what happened, and its arguments repeat it."""

import dataclasses
import json
import resource
import signal

import numpy as np
import pytest
import torch

from vitlab.data import Digits
from vitlab.sweep import kept_predictions, store, trial
from vitlab.training import resume


def with_setting(one, **backbone):
    return dataclasses.replace(one, settings=one.settings | {"model": {"learning_rate": 0.01, "backbone": backbone}})


@pytest.fixture
def first(plan):
    return plan.trials[0]


def test_a_finished_trial_has_all_its_measurements(first, tmp_path):
    record = trial.fit_trial(tmp_path, first, num_threads=1)
    assert record == store.read_record(tmp_path, first.id)
    assert record["status"] == "done"
    assert record["error"] is None
    assert record["test"] is None
    assert set(record["val"]) == {"accuracy", "top5_accuracy", "nll", "calibration_error"}
    assert (record["steps"], record["epochs"], record["examples_seen"]) == (3, 3, 3 * 11)
    assert record["params"] > 0
    assert record["macs"] > 0
    assert record["peak_memory_bytes"] > 2**20
    assert record["seconds"] > record["train_seconds"] > 0
    assert record["device"] == "cpu"
    assert record["versions"]["torch"]
    assert record["dataset"] == "Digits()"
    assert len(record["history"]) == 3


def test_the_subset_of_a_trial_is_written_as_a_manifest(first, tmp_path):
    trial.fit_trial(tmp_path, first, num_threads=1)
    (manifest,) = (tmp_path / "subsets").glob("n11-seed0-*.json")
    assert len(json.loads(manifest.read_text())["indices"]) == 11


def test_testing_adds_metrics_to_the_record_and_nothing_else_changes(first, tmp_path):
    before = trial.fit_trial(tmp_path, first, num_threads=1)
    after = trial.test_trial(tmp_path, first)
    assert set(after["test"]) == set(after["val"])
    assert after["arguments"] == [*before["arguments"], "--test_after_fit=true"]
    assert {**after, "test": None, "arguments": None} == {**before, "test": None, "arguments": None}


def test_a_test_keeps_what_was_predicted_for_each_image(first, tmp_path):
    trial.fit_trial(tmp_path, first, num_threads=1)
    assert kept_predictions.read_predictions(tmp_path, first.id) is None
    record = trial.test_trial(tmp_path, first)
    kept, images = kept_predictions.read_predictions(tmp_path, first.id), Digits().test()
    assert kept.fits(record)
    np.testing.assert_array_equal(kept.labels, images.labels)
    assert kept.test_set == kept_predictions.hash_test_set(Digits().fingerprint, images.labels)
    assert kept_predictions.predictions_path(tmp_path, first.id).stat().st_size < 2 * len(images) + 1000


def test_the_same_trial_gives_the_same_numbers_also_when_its_weights_are_gone(first, tmp_path):
    one = trial.fit_trial(tmp_path / "one", first, num_threads=1)
    two = trial.fit_trial(tmp_path / "two", first, num_threads=1)
    assert one["val"] == two["val"]
    tested = trial.test_trial(tmp_path / "one", first)
    store.checkpoint_path(tmp_path / "two", first.id).unlink()
    assert trial.test_trial(tmp_path / "two", first)["test"] == tested["test"]  # trained again, since weights are gone


def test_a_trial_that_was_not_trained_cannot_be_tested(first, tmp_path):
    with pytest.raises(ValueError, match="has not finished"):
        trial.test_trial(tmp_path, first)


def test_a_loss_that_is_not_a_number_is_a_recorded_failure(first, tmp_path):
    settings = first.settings | {"model": first.settings["model"] | {"learning_rate": 1e30}}
    record = trial.fit_trial(tmp_path, dataclasses.replace(first, settings=settings), num_threads=1)
    assert record["status"] == "failed"
    assert "learning rate 1e+30" in record["error"]
    assert record["val"] is None
    assert list((tmp_path / "checkpoints").glob("*")) == []


@pytest.mark.parametrize(
    ("class_path", "options", "words"),
    [
        ("vitlab.models.Vit", {}, "vitlab.models.Vit"),
        ("vitlab.models.ViT", {"patch_size": 3}, "patch_size 3 does not divide image_size 8; use 1, 2, 4 or 8"),
        ("vitlab.models.ViT", {"patchsize": 4}, "patchsize"),
    ],
)
def test_settings_that_cannot_be_right_are_found_by_a_check(first, class_path, options, words):
    with pytest.raises(Exception, match=words):
        trial.check_trial(with_setting(first, class_path=class_path, init_args=options))


def test_a_check_writes_nothing(first, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trial.check_trial(first)
    assert [path.name for path in tmp_path.iterdir() if path.name != "sweep.yaml"] == []


def test_errors_are_described_in_one_paragraph():
    assert trial.describe(ValueError("use\n  1 or 2")) == "use 1 or 2"
    assert trial.describe(MemoryError()) == "MemoryError: no message"


def test_memory_that_runs_out_is_a_recorded_failure(first, tmp_path, monkeypatch):
    def no_memory(*_):
        raise MemoryError("cannot allocate 7 GiB")

    monkeypatch.setattr("vitlab.models.ViT.forward", no_memory)
    record = trial.fit_trial(tmp_path, first, num_threads=1)
    assert record["status"] == "failed"
    assert record["error"] == "MemoryError: cannot allocate 7 GiB"
    assert record == store.read_record(tmp_path, first.id)


def test_an_interrupted_trial_leaves_no_record_and_ends_with_the_numbers_of_an_undisturbed_one(first, tmp_path):
    calm = trial.fit_trial(tmp_path / "calm", first, num_threads=1)
    folder = tmp_path / "disturbed"
    state = store.resume_path(folder, first.id)
    for _ in range(2):  # each time it does one step
        resume.request_stop()
        try:
            with pytest.raises(resume.Interrupted):
                trial.fit_trial(folder, first, num_threads=1)
        finally:
            resume.clear_stop()
        assert store.read_record(folder, first.id) is None
        assert state.exists()
    before = torch.load(state, weights_only=True)["callbacks"]["_Course"]
    record = trial.fit_trial(folder, first, num_threads=1)
    assert record["seconds"] > before["seconds"] > 0
    assert record["train_seconds"] > before["train_seconds"] > 0
    assert record["peak_memory_bytes"] >= before["peak_memory_bytes"] > 0
    measured = ("seconds", "train_seconds", "peak_memory_bytes")
    assert {**record, **dict.fromkeys(measured)} == {**calm, **dict.fromkeys(measured)}
    assert not state.exists()
    weights = [
        torch.load(store.checkpoint_path(place, first.id), weights_only=True)["state_dict"]
        for place in (tmp_path / "calm", folder)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_results_that_cannot_be_written_are_no_failure_of_the_trial(first, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            trial.fit_trial(tmp_path, first, num_threads=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert store.read_record(tmp_path, first.id) is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert trial.fit_trial(tmp_path, first, num_threads=1)["status"] == "done"


def test_a_record_that_is_there_already_stays(first, tmp_path, make_record):
    store.write_record(tmp_path, make_record(first, accuracy=0.123))
    record = trial.fit_trial(tmp_path, first, num_threads=1)
    assert record["val"]["accuracy"] == 0.123
    assert record == store.read_record(tmp_path, first.id)
