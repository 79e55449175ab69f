"""Workers share the machine's devices and threads."""

import pytest

from vitlab.sweep import worker_process
from vitlab.sweep.worker import Job, from_line, to_line


@pytest.mark.parametrize(("visible", "given"), [("3,5", ["3", "5", "3", "5"]), ("0", ["0"] * 4)])
def test_devices_are_assigned_in_turn(monkeypatch, tmp_path, visible, given):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    workers = [worker_process.WorkerProcess(index, 1, tmp_path / "log", 0) for index in range(4)]
    assert [worker._environment["CUDA_VISIBLE_DEVICES"] for worker in workers] == given


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_devices_stay_hidden(monkeypatch, hidden):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert worker_process._device(1) == {}


def test_threads_are_limited_in_every_library(monkeypatch, tmp_path):
    environment = worker_process.WorkerProcess(0, 3, tmp_path / "log", 0)._environment
    assert {environment[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")} == {"3"}


def test_a_job_survives_the_pipe(plan):
    job = Job("fit", plan.trials[3], "some folder", 2)
    assert from_line(to_line(job)) == job
    assert from_line(to_line(job)).trial.id == plan.trials[3].id
