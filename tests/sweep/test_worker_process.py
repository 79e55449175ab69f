"""Workers share the machine's devices and threads, and hear a request to stop whenever it comes."""

import sys
from dataclasses import replace

import pytest

from vitlab.sweep import worker_process
from vitlab.sweep.worker import Job, from_line, to_line

ASKED_AT_AN_IMPORT = """
import os, signal, sys
from vitlab.sweep.worker import main

def ask(event, arguments):
    if event == "import" and arguments[0] in moments:
        moments.clear()
        os.kill(os.getpid(), signal.SIGUSR1)

moments = [sys.argv.pop()]
sys.addaudithook(ask)
main()
"""


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


@pytest.mark.parametrize("moment", ["torch", pytest.param("lightning.fabric.plugins.io", marks=pytest.mark.slow)])
def test_a_request_to_stop_counts_while_libraries_are_imported(plan, tmp_path, moment):
    trial = replace(plan.trials[0], settings={**plan.trials[0].settings, "trainer": {"max_steps": 10**9}})
    program = [sys.executable, "-c", ASKED_AT_AN_IMPORT, moment]
    worker = worker_process.WorkerProcess(0, 1, tmp_path / "log", program=program)
    try:
        assert worker.do(Job("fit", trial, str(tmp_path), 1))["status"] == "interrupted"
    finally:
        worker.close()
        worker.release()
