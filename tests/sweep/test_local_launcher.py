"""The local launcher, in this process and with real worker processes."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from vitlab.sweep.in_process import ctrl_c_remembered
from vitlab.sweep.local_launcher import LocalLauncher
from vitlab.sweep.nested_settings import merge
from vitlab.sweep.owners import read_heartbeats
from vitlab.sweep.plan_file import write_plan
from vitlab.sweep.session_settings import SessionSettings
from vitlab.sweep.store import checkpoint_path, read_records


def launch(plan, folder, **settings):
    return LocalLauncher(SessionSettings(num_threads=1, **settings)).run(plan, folder)


def results(folder):
    keys = ("id", "status", "val", "test", "error", "arguments")
    return [{key: record[key] for key in keys} for record in read_records(folder)]


@pytest.fixture
def small(plan):
    return dataclasses.replace(plan, train_sizes=[11], budget={"unit": "steps", "amount": {"11": 2}})


@pytest.mark.slow
def test_one_process_and_two_workers_give_equal_results(small, tmp_path):
    alone = launch(small, tmp_path / "alone")
    workers = launch(small, tmp_path / "workers", num_workers=2)
    assert alone == workers
    assert (alone.done, alone.failed, alone.missing, alone.untested) == (8, 0, 0, 0)
    assert results(tmp_path / "alone") == results(tmp_path / "workers")
    tested = [record for record in read_records(tmp_path / "alone") if record["test"]]
    assert len(tested) == 4  # two models, two seeds, the chosen learning rate
    kept = sorted(path.stem for path in (tmp_path / "alone" / "checkpoints").iterdir())
    assert kept == sorted(record["id"] for record in tested)


def test_a_finished_sweep_runs_nothing_and_changes_no_record(small, tmp_path):
    launch(small, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()}
    launch(small, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()} == before


@pytest.mark.slow
def test_added_seeds_run_alone(small, tmp_path):
    launch(dataclasses.replace(small, seeds=[0]), tmp_path)
    before = {record["id"]: record["val"] for record in read_records(tmp_path)}
    counts = launch(small, tmp_path)
    assert counts.done == 8
    after = {record["id"]: record["val"] for record in read_records(tmp_path)}
    assert before.items() <= after.items()


@pytest.mark.slow
def test_a_failing_trial_does_not_stop_the_rest_and_can_be_retried(small, tmp_path):
    wild = dataclasses.replace(small, learning_rates={"vit": [0.001, 1e30], "cnn": [0.001, 0.01]})
    counts = launch(wild, tmp_path)
    failed = [record for record in read_records(tmp_path) if record["status"] == "failed"]
    assert (counts.done, counts.failed) == (6, 2)
    assert {(record["model"], record["learning_rate"]) for record in failed} == {("vit", 1e30)}
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()}
    assert launch(wild, tmp_path, retry_failed=True).failed == 2
    rewritten = [path.stem for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert sorted(rewritten) == sorted(record["id"] for record in failed)


def test_a_model_that_cannot_be_built_is_refused_before_anything_is_trained(small, tmp_path):
    bad = {"model": {"backbone": {"class_path": "vitlab.models.Vit"}}}
    plan = dataclasses.replace(small, model_settings=small.model_settings | {"cnn": bad})
    with pytest.raises(ValueError, match=r"model cnn with 11 images cannot be trained: .*vitlab\.models\.Vit"):
        launch(plan, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["owners"]  # which is empty


def test_fewer_images_than_classes_is_refused_before_anything_is_trained(small, tmp_path):
    plan = dataclasses.replace(small, train_sizes=[7, 11], budget={"unit": "steps", "amount": {"7": 1, "11": 1}})
    with pytest.raises(ValueError, match=r"with 7 images cannot be trained: .*classes"):
        launch(plan, tmp_path / "out")


@pytest.mark.slow
def test_test_data_that_cannot_be_read_changes_no_choice(small, tmp_path):
    """Two image files of the test set are broken: the trials stay done, and the same learning rates stay chosen."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 9), ("test", 3)):
        for label in range(3):
            (tmp_path / "images" / part / str(label)).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / part / str(label) / f"{index}.png")
    broken = tmp_path / "images" / "test" / "1" / "0.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    init_args = {"root": str(tmp_path / "images"), "image_size": 8}
    data = {"dataset": {"class_path": "vitlab.data.ImageFolder", "init_args": init_args}, "val_size": 6}
    plan = dataclasses.replace(small, settings=merge(small.settings, {"data": data}))
    counts = launch(plan, tmp_path / "out")
    assert (counts.done, counts.failed, counts.untested, counts.failed_now) == (8, 0, 4, 4)
    assert all("0.png" in record["test_error"] for record in read_records(tmp_path / "out") if record["test_error"])
    assert launch(plan, tmp_path / "out").failed_now == 0
    broken.write_bytes(whole)
    before = {record["id"]: record["val"] for record in read_records(tmp_path / "out")}
    counts = launch(plan, tmp_path / "out", retry_failed=True)
    assert (counts.done, counts.untested) == (8, 0)
    assert {record["id"]: record["val"] for record in read_records(tmp_path / "out")} == before


def test_more_images_than_there_are_is_refused_before_anything_is_trained(small, tmp_path):
    plan = dataclasses.replace(small, train_sizes=[11, 5000], budget={"unit": "steps", "amount": {"11": 1, "5000": 1}})
    with pytest.raises(ValueError, match=r"with 5000 images cannot be trained: .*5000"):
        launch(plan, tmp_path / "out")


def test_a_folder_of_another_sweep_is_left_alone(small, tmp_path):
    write_plan(tmp_path, small)
    before = (tmp_path / "sweep.json").read_bytes()
    with pytest.raises(ValueError, match="with other settings"):
        launch(dataclasses.replace(small, task="other"), tmp_path)
    assert (tmp_path / "sweep.json").read_bytes() == before
    assert not (tmp_path / "trials").exists()


@pytest.mark.parametrize(("workers", "threads"), [(0, 1), (1, 0)])
def test_numbers_below_one_are_refused(workers, threads):
    with pytest.raises(ValueError, match="is 0; give 1 or more"):
        SessionSettings(workers, threads)


def start(config, folder, *options):
    command = [sys.executable, "-m", "vitlab.cli", "sweep", str(config), "--out", str(folder), *options]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # pytest-xdist's processes ignore Ctrl-C, and so would their children.
    return subprocess.Popen(command, **pipes, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def wait_for_records(folder, count, process):
    deadline = time.monotonic() + 120
    while len(list((folder / "trials").glob("*.json")) if (folder / "trials").is_dir() else []) < count:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(write_sweep, tmp_path, workers):
    config, folder = write_sweep(("amount: 3", "amount: 100")), tmp_path / "out"
    process = start(config, folder, "--workers", workers, "--threads", "1")
    wait_for_records(folder, 2, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "Ctrl-C again stops at once" in errors
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    assert list(read_heartbeats(folder)) == []
    kept = {record["id"]: record["val"] for record in read_records(folder)}
    assert 2 <= len(kept) < 16
    again = start(config, folder, "--workers", workers, "--threads", "1")
    again.communicate(timeout=240)
    assert again.returncode == 0
    finished = {record["id"]: record["val"] for record in read_records(folder)}
    assert len(finished) == 16
    assert kept.items() <= finished.items()


@pytest.mark.slow
def test_a_trial_that_kills_its_worker_again_and_again_is_recorded_as_failed(small, tmp_path, monkeypatch):
    (tmp_path / "suicide.py").write_text(
        "import os, signal, torch\n"
        "class Suicide(torch.nn.Module):\n"
        "    def __init__(self, image_size: int, num_classes: int, in_channels: int):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(in_channels * image_size**2, num_classes)\n"
        "    def forward(self, images):\n"
        "        if self.training: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return self.layer(images.flatten(1))\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr("vitlab.sweep.task_runner.MAX_DEATHS", 2)
    deadly = {"model": {"backbone": {"class_path": "suicide.Suicide"}}}
    plan = dataclasses.replace(
        small,
        seeds=[0],
        model_settings={"vit": small.model_settings["vit"], "deadly": deadly},
        learning_rates={"vit": [0.01], "deadly": [0.01]},
    )
    counts = launch(plan, tmp_path / "out", num_workers=2)
    assert (counts.done, counts.failed, counts.missing) == (1, 1, 0)
    (failed,) = [record for record in read_records(tmp_path / "out") if record["status"] == "failed"]
    assert failed["model"] == "deadly"
    assert "was killed by SIGKILL" in failed["error"]


def test_weights_are_kept_for_the_selected_trials_only(small, tmp_path):
    launch(small, tmp_path)
    for record in read_records(tmp_path):
        assert checkpoint_path(tmp_path, record["id"]).exists() == (record["test"] is not None)


def test_an_interrupt_that_meets_a_finalizer_is_not_lost(capsys):
    class Mortal:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def train_for_long():
        with ctrl_c_remembered() as pressed:
            mortal = Mortal()
            del mortal
            assert pressed  # and yet nothing was raised
            time.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        train_for_long()
    assert capsys.readouterr().err == ""
