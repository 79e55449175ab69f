"""A cancelled job stays away, whatever it has asked SLURM for in the same moment."""

import time

import pytest

from tests.slurm_cluster import SlurmCluster, call, wait_until
from vitlab.sweep import slurm_queue
from vitlab.sweep.session_settings import SessionSettings
from vitlab.sweep.slurm_cancel import cancel_jobs, cancelled_jobs, was_cancelled
from vitlab.sweep.slurm_job import SlurmJob, read_note
from vitlab.sweep.slurm_queue import Submission

# As a trial that has been told to save: it hears SIGTERM, and then asks to be started again all the same.
_ASKS_FOR_A_NEW_START = """#!/bin/sh
trap 'sleep 1; scontrol requeue $SLURM_JOB_ID; sleep 3; exit 0' TERM
echo started >> starts
sleep 600 &
wait
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "out" / "jobs").mkdir(parents=True)
    return tmp_path / "out"


@pytest.mark.slurm
@pytest.mark.slow
def test_a_job_that_asks_for_a_new_start_while_it_is_cancelled_does_not_come_back(folder, tmp_path):
    script = tmp_path / "job.sh"
    script.write_text(_ASKS_FOR_A_NEW_START)
    with SlurmCluster(tmp_path / "slurm"):
        command = ("sbatch", "--parsable", "--requeue", f"--chdir={tmp_path}", str(script))
        job = call(*command, check=True).stdout.strip()
        slurm_queue.write_submission(folder, Submission(job, 1, (1, 1), 1))
        wait_until((tmp_path / "starts").exists, "it to start")

        cancelled, left = cancel_jobs(folder)
        assert cancelled == [job]
        assert not left
        assert not slurm_queue.live_jobs(folder)
        time.sleep(5)
        assert slurm_queue.jobs([job])[job].name == "CANCELLED"
        assert (tmp_path / "starts").read_text() == "started\n"


def test_a_cancelled_job_that_is_started_again_does_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "17")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    (folder / slurm_queue.JOBS_FOLDER / "cancelled-17_2.json").write_text("{}")
    (folder / "sweep.json").write_text("not read")
    assert was_cancelled(folder, "17_2")
    assert not was_cancelled(folder, "17_1")
    assert cancelled_jobs(folder) == {"17_2"}

    SlurmJob(folder, SessionSettings(max_fits=1), (1, 1))()
    assert read_note(folder, "17_2") == {"state": "stopped"}
