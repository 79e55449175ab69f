"""What SLURM is asked and what is made of its answers, on a real one."""

import os
import stat

import pytest

from tests.slurm_cluster import SlurmCluster, call, wait_until
from vitlab.sweep import slurm_queue
from vitlab.sweep.slurm_cancel import cancel_jobs
from vitlab.sweep.slurm_queue import QueueUnavailableError, State, Submission


def submit(folder, *options):
    said = call("sbatch", f"--chdir={folder}", *options, check=True).stdout
    return said.split()[-1]


@pytest.fixture
def put_on_path(tmp_path, monkeypatch):
    """Put commands of SLURM on the PATH that say something and end with a code."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def put(text, code=0, commands=("sbatch", "squeue", "scancel", "sinfo")):
        for name in commands:
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{text}\nexit {code}\n")
            path.chmod(path.stat().st_mode | stat.S_IEXEC)

    return put


@pytest.mark.slurm
@pytest.mark.slow
def test_the_states_of_jobs_are_those_that_slurm_tells(tmp_path, monkeypatch):
    with SlurmCluster(tmp_path / "slurm"):
        monkeypatch.setenv("SQUEUE_STATES", "COMPLETED")  # what a user has set for his own eyes
        monkeypatch.setenv("SQUEUE_PARTITION", "hi")
        slurm_queue.check_available()
        assert slurm_queue.partitions() == "ci, hi"
        assert slurm_queue.max_array_size() == 1001
        array = submit(tmp_path, "--array=0-2", "--wrap=sleep 60")
        ids = [*(f"{array}_{number}" for number in range(3)), "99"]
        wait_until(lambda: slurm_queue.jobs(ids)[f"{array}_1"].name == "RUNNING", "two jobs to run")
        wait_until(lambda: slurm_queue.jobs(ids)[f"{array}_2"].reason == "Resources", "the third to wait for them")

        states = slurm_queue.jobs(ids)
        assert list(states) == ids
        assert states[f"{array}_0"] == State("RUNNING", nodes="n1")
        assert states[f"{array}_2"].is_waiting
        assert states["99"].is_over
        assert str(states["99"]) == "gone"
        assert slurm_queue.jobs(["99"])["99"].is_over, (
            "SLURM calls it an error to ask for one job that it has forgotten"
        )

        slurm_queue.cancel([f"{array}_0", f"{array}_2", "99"])
        wait_until(lambda: slurm_queue.jobs(ids)[f"{array}_0"] == State("CANCELLED", nodes="n1"), "it to be cancelled")
        assert slurm_queue.jobs(ids)[f"{array}_2"].name == "CANCELLED"
        ended = submit(tmp_path, "--output=/no/such/folder/log", "--wrap=true")
        wait_until(lambda: slurm_queue.jobs([ended])[ended].is_over, "it to fail")
        assert slurm_queue.jobs([ended])[ended].reason == "JobLaunchFailure"


def test_a_machine_with_clients_and_no_cluster_is_refused(put_on_path):
    put_on_path("echo 'sinfo: error: fetch_config: DNS SRV lookup failed' >&2", code=1)
    with pytest.raises(ValueError, match=r"SLURM does not answer: fetch_config: DNS SRV lookup failed\. Try again"):
        slurm_queue.check_available()


@pytest.mark.parametrize(("setting", "size"), [("MaxArraySize = 0", 1), ("MaxArraySize = 31", 31), ("", 1001)])
def test_a_cluster_that_admits_no_arrays_gets_single_jobs(put_on_path, setting, size):
    put_on_path(f"echo '{setting}'", commands=("scontrol",))
    assert slurm_queue.max_array_size() == size


def test_submissions_are_remembered(tmp_path, put_on_path):
    array, single = Submission("17", 3, (1, 1), 4), Submission("21", 1, (2, 4), 1)
    for submission in (single, array):
        slurm_queue.write_submission(tmp_path, submission)
    assert slurm_queue.read_submissions(tmp_path) == [array, single]
    assert [*array.jobs, *single.jobs] == ["17_0", "17_1", "17_2", "21"]
    put_on_path("printf '17_0|COMPLETED|None|n1\\n17_1|PENDING|Priority|\\n21|PENDING|Priority|\\n'")
    assert list(slurm_queue.live_jobs(tmp_path)) == ["17_1", "21"]
    assert slurm_queue.describe_jobs(tmp_path) == [
        "cluster jobs: 0 running, 2 waiting",
        "  17_1, 21 waiting: Priority",
    ]


def test_a_queue_that_cannot_be_asked_is_no_queue_without_jobs(tmp_path, put_on_path, monkeypatch):
    assert slurm_queue.describe_jobs(tmp_path) == []
    slurm_queue.write_submission(tmp_path, Submission("17", 3, (1, 1), 4))
    put_on_path("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2", code=1)
    with pytest.raises(QueueUnavailableError, match="Unable to contact slurm controller"):
        slurm_queue.jobs(["17_1"])
    (line,) = slurm_queue.describe_jobs(tmp_path)
    assert line.startswith("cluster jobs: SLURM does not answer: ")
    with pytest.raises(ValueError, match=r"not certain that .* were cancelled; try again later"):
        cancel_jobs(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="no SLURM on this machine"):
        cancel_jobs(tmp_path)
