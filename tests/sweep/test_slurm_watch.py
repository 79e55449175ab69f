"""Which jobs and owners are taken for dead: of SLURM's answers, here given by a script, only a clear one counts."""

import os

import pytest

from vitlab.sweep import slurm_queue
from vitlab.sweep.claims import Claims, claimed_trials
from vitlab.sweep.owners import Owner, Watch, is_declared_dead
from vitlab.sweep.slurm_job import write_note
from vitlab.sweep.slurm_queue import Submission
from vitlab.sweep.slurm_watch import SlurmWatch
from vitlab.sweep.store import create_record


@pytest.fixture
def folder(tmp_path):
    for part in ("trials", "owners", "jobs"):
        (tmp_path / "out" / part).mkdir(parents=True)
    return tmp_path / "out"


@pytest.fixture
def slurm_says(tmp_path, monkeypatch):
    """Have squeue answer with these states of jobs."""
    commands = tmp_path / "commands"
    commands.mkdir()
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")

    def say(**states):
        lines = "\n".join(f"{job.removeprefix('job')}|{state}|None|n1" for job, state in states.items())
        (commands / "squeue").write_text(f"#!/bin/sh\ncat <<END\n{lines}\nEND\n")
        (commands / "squeue").chmod(0o755)

    return say


@pytest.fixture
def watch(folder):
    """Watch two jobs, 17_0 and 17_1, that were just submitted."""
    said = []
    watch = SlurmWatch(folder, max_ill_starts=2, say=said.append)
    watch.said = said
    submission = Submission("17", 2, (1, 1), 1)
    slurm_queue.write_submission(folder, submission)
    watch.add(submission)
    return watch


def look(watch, folder):
    """Look as the launcher does; return who is left."""
    left = watch.look(Watch(folder).living(), set(claimed_trials(folder).values()))
    return [owner.id for owner in left]


def test_a_cancelled_job_that_waits_again_is_cancelled_again_and_not_counted_on(folder, watch, slurm_says, tmp_path):
    slurm_says(job17_0="PENDING", job17_1="PENDING")
    scancel = tmp_path / "commands" / "scancel"
    scancel.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/cancelled\n')
    scancel.chmod(0o755)
    (folder / "jobs" / "cancelled-17_1.json").write_text("{}")
    look(watch, folder)
    assert (tmp_path / "cancelled").read_text() == "17_1\n"
    assert watch.num_live == 1
    assert watch.capacity([]) == {(1, 1): [1]}


class TestOwners:
    @pytest.mark.parametrize("job", ["99", "17_1"])
    def test_the_owner_of_a_job_that_slurm_does_not_know_is_left_alone(self, folder, watch, slurm_says, job):
        slurm_says(job17_0="RUNNING")
        with Owner(folder, "slurm", details={"job": job}) as owner:
            assert [look(watch, folder) for _ in range(3)] == 3 * [[owner.id]]
            assert watch.is_in_doubt
            owner.check()

    @pytest.mark.parametrize("state", ["NODE_FAIL", "CANCELLED", "OUT_OF_MEMORY"])
    def test_the_owner_of_a_job_that_has_ended_is_dead_at_the_first_look(self, folder, watch, slurm_says, state):
        slurm_says(job17_0=state, job17_1="RUNNING")
        with Owner(folder, "slurm", details={"job": "17_0"}) as dead, Owner(folder, "local") as alive:
            assert look(watch, folder) == [alive.id]
            assert is_declared_dead(folder, dead.id)
            assert not watch.is_in_doubt

    def test_the_owner_of_a_job_that_waits_again_is_dead_at_the_second_look(self, folder, watch, slurm_says):
        slurm_says(job17_0="PENDING", job17_1="RUNNING")
        with Owner(folder, "slurm", details={"job": "17_0"}) as owner:
            assert look(watch, folder) == [owner.id]
            assert look(watch, folder) == []
            assert is_declared_dead(folder, owner.id)


class TestJobs:
    def test_a_job_that_comes_back_counts_again(self, folder, watch, slurm_says):
        slurm_says(job17_0="NODE_FAIL", job17_1="RUNNING")
        look(watch, folder)
        assert watch.num_live == 1
        slurm_says(job17_0="PENDING", job17_1="RUNNING")
        look(watch, folder)
        assert watch.num_live == 2
        assert watch.capacity([]) == {(1, 1): [1, 1]}

    def test_the_end_of_jobs_from_before_is_no_news(self, folder, watch, slurm_says):
        slurm_says(job17_0="FAILED", job17_1="FAILED")
        later = SlurmWatch(folder, max_ill_starts=1, say=watch.said.append)
        look(later, folder)
        assert later.num_live == 0
        assert not watch.said

    def test_jobs_that_are_killed_before_they_take_a_trial_end_the_sweep(self, folder, watch, slurm_says):
        for job in ("17_0", "17_1"):
            write_note(folder, job, {"state": "began"})
        slurm_says(job17_0="FAILED", job17_1="RUNNING")
        look(watch, folder)
        slurm_says(job17_0="FAILED", job17_1="OUT_OF_MEMORY")
        with pytest.raises(ValueError, match=r"2 cluster jobs in a row.*17_1, ended before it took a trial: OUT_OF_M"):
            look(watch, folder)

    @pytest.mark.parametrize("progress", ["claim", "record"])
    def test_a_claim_or_a_record_shows_that_a_killed_job_was_of_use(self, folder, watch, slurm_says, progress):
        for job in ("17_0", "17_1"):
            write_note(folder, job, {"state": "began"})
        slurm_says(job17_0="FAILED", job17_1="RUNNING")
        look(watch, folder)
        slurm_says(job17_0="FAILED", job17_1="OUT_OF_MEMORY")
        with Owner(folder, "slurm", details={"job": "17_1"}) as owner:
            if progress == "claim":
                Claims(owner, Watch(folder)).claim("ab")
            else:
                create_record(folder, {"id": "ab", "status": "done"})
            look(watch, folder)
        assert watch.said[-1] == "job 17_1 was ended while at work: OUT_OF_MEMORY; other jobs take over its trials"
