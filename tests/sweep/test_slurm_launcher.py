"""Sweeps on a real SLURM: whatever happens to jobs, every trial is done once and the numbers are those of a laptop."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.slurm_cluster import SlurmCluster, call, wait_until
from vitlab.atomic_file import write_json
from vitlab.sweep import store
from vitlab.sweep.claims import Claims, claimed_trials
from vitlab.sweep.owners import Heartbeat, Owner, Watch, declare_dead, owner_path, read_heartbeats
from vitlab.sweep.plan_file import check_folder, load_plan, write_plan
from vitlab.sweep.record import blank_record
from vitlab.sweep.session_settings import SessionSettings
from vitlab.sweep.slurm_job import read_note
from vitlab.sweep.slurm_launcher import SlurmLauncher
from vitlab.sweep.slurm_queue import Submission, describe_jobs, live_jobs, read_submissions, write_submission
from vitlab.sweep.slurm_submission import JobResources
from vitlab.sweep.slurm_watch import jobs_needed
from vitlab.sweep.sweep_file import read_sweep

VITLAB = [sys.executable, "-m", "vitlab.cli"]
ON_SLURM = ["--launcher", "slurm", "--patience", "9", "--threads", "1", "--save-every", "0.01"]
MINUTES = 10
KILLED_AT_FIRST_CLAIM = """
import os, signal, sys
from pathlib import Path
from vitlab.sweep.slurm_launcher import SlurmLauncher
from vitlab.sweep.sweep_file import read_sweep

config, folder = map(Path, sys.argv[1:])

def kill_after_claim(event, arguments):
    if event != "os.kill" and os.path.lexists(folder / "trials" / ".claim-0.0"):
        os.kill(os.getpid(), signal.SIGKILL)

plan = read_sweep(config)
sys.addaudithook(kill_after_claim)
SlurmLauncher().run(plan, folder)
"""

on_a_cluster = [pytest.mark.slurm, pytest.mark.slow]


@pytest.fixture
def cluster(tmp_path):
    with SlurmCluster(tmp_path / "slurm") as cluster:
        yield cluster


class Command:
    """`vitlab sweep` as a process; what it says goes into a file, to be read while it runs."""

    def __init__(self, config, folder, *options):
        self._said = folder.with_suffix(".txt")
        command = [*VITLAB, "sweep", str(config), "--out", str(folder), *options]
        with self._said.open("w") as said:
            # What is started in the background, as these tests may be, ignores Ctrl-C, and so would what it starts.
            listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
            self.process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, **listening)

    @property
    def said(self):
        return self._said.read_text()

    def finish(self, code=0):
        assert self.process.wait(timeout=60 * MINUTES) == code, self.said
        return self.said


@pytest.fixture
def start():
    """Start `vitlab sweep`; whatever still runs at the end of the test is killed."""
    commands = []

    def start(*arguments):
        commands.append(Command(*arguments))
        return commands[-1]

    yield start
    for command in commands:
        command.process.kill()
        command.process.wait()


def jobs_in_training(folder):
    """The owners' processes of the jobs at work on a trial whose state has been saved once, by job."""
    owners = {owner.id: owner for owner in read_heartbeats(folder)}
    holders = [
        owners[owner] for trial, owner in claimed_trials(folder).items() if is_saved(folder, trial, owners, owner)
    ]
    return {owner.details["job"]: owner.pid for owner in holders if owner.kind == "slurm"}


def is_saved(folder, trial, owners, owner):
    return owner in owners and store.resume_path(folder, trial).exists()


def workers_of(pid):
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def num_restarts():
    """How often jobs have been requeued, all together."""
    said = call("scontrol", "--oneliner", "show", "job", check=True).stdout
    return sum(int(number) for number in re.findall(r"Restarts=(\d+)", said))


def seconds_of_run():
    """How long the job has run that has run longest."""
    said = call("scontrol", "--oneliner", "show", "job", check=True).stdout
    times = re.findall(r"RunTime=(\d+):(\d+):(\d+)", said)
    return max(3600 * int(hours) + 60 * int(minutes) + int(seconds) for hours, minutes, seconds in times)


def wait_for_training(folder, other_than=()):
    def found():
        return {job: pid for job, pid in jobs_in_training(folder).items() if pid not in other_than}

    return wait_until(found, "a job in training")


def report(folder):
    subprocess.run([*VITLAB, "report", str(folder)], check=True, capture_output=True)
    summary = json.loads((folder / "report" / "summary.json").read_text())
    measured = {name: summary[name] for name in ("tasks", "points", "fits", "pairs", "headlines")}
    return measured, (folder / "report" / "curves.csv").read_bytes(), (folder / "report" / "curves.svg").read_bytes()


class TestFaults:
    """One sweep of twelve trials as an array of jobs, to which everything happens that a cluster does to jobs."""

    pytestmark = on_a_cluster

    def test_twelve_trials_are_done_once_and_as_on_a_laptop(self, write_sweep, tmp_path, cluster, start):
        config = write_sweep(
            ("train_sizes: [11, 23]", "train_sizes: [23, 47, 97]"),
            ("learning_rates: [0.001, 0.01]", "learning_rates: [0.003]"),
            ("amount: 3", "amount: 8000"),  # long enough for all that happens to them: some ten seconds
        )
        folder, laptop = tmp_path / "cluster", tmp_path / "laptop"
        options = ["--time", "5", "--trials-per-job", "3"]
        launcher = start(config, folder, *ON_SLURM, *options)
        self.disturb(folder, cluster, launcher)
        said = launcher.finish()

        assert "while at work: CANCELLED" in said
        assert "12 done, 0 failed, 0 missing of 12" in said
        trials = [trial.id for trial in load_plan(folder).trials]
        assert sorted(record["id"] for record in store.read_records(folder)) == sorted(trials)
        wait_until(lambda: not live_jobs(folder), "the last jobs to end")
        assert not claimed_trials(folder)
        assert not list((folder / "owners").glob("*.dead"))
        start(config, laptop, "--workers", "2", "--threads", "1").finish()
        assert report(folder) == report(laptop)

    @staticmethod
    def disturb(folder, cluster, launcher):
        job, pid = next(iter(wait_for_training(folder).items()))
        os.kill(workers_of(pid)[0], signal.SIGKILL)

        # SLURM looks at the time limits every thirty seconds, and warns jobs that will be over before long. The limit
        # is the first that such a look will find ahead of the jobs, however long they took to begin.
        array = job.partition("_")[0]
        minutes = (seconds_of_run() + 35) // 60 + 1
        call("scontrol", "update", f"JobId={array}", f"TimeLimit={minutes}", check=True)
        wait_until(num_restarts, "a job to be out of time, and requeued")
        call("scontrol", "update", f"JobId={array}", "TimeLimit=5")  # complains of tasks of the array that have ended
        assert any("SIGUSR2" in log.read_text() for log in (folder / "jobs").glob("*_log.err"))

        out_of_time = {owner.pid for owner in read_heartbeats(folder)}  # those that were warned are about to end
        cancelled = next(iter(wait_for_training(folder, other_than=out_of_time)))
        call("scancel", cancelled, check=True)

        before = num_restarts()
        wait_for_training(folder, other_than=out_of_time)
        preempting = ("--partition=hi", "--ntasks=2", "--time=1", f"--chdir={cluster.folder}", "--wrap=sleep 1")
        call("sbatch", *preempting, check=True)
        wait_until(lambda: num_restarts() > before, "a job to be preempted, and requeued")

        preempted = {owner.pid for owner in read_heartbeats(folder)}
        wait_for_training(folder, other_than=out_of_time | preempted)
        cluster.stop_controller()
        wait_until(lambda: "SLURM does not answer" in launcher.said, "the launcher to notice")
        cluster.start_controller()


@pytest.mark.slurm
@pytest.mark.slow
def test_two_nodes_train_one_trial(write_sweep, tmp_path, start):
    config = write_sweep(
        ("trainer: {accelerator: cpu}", "trainer: {accelerator: cpu, num_nodes: 2, devices: 1, strategy: ddp}"),
        ("train_sizes: [11, 23]", "train_sizes: [64]"),
        ("learning_rates: [0.001, 0.01]", "learning_rates: [0.003]"),
        ("seeds: [0, 1]", "seeds: [0]"),
        ("  cnn:\n", "  cnn: &cnn\n"),
    )
    text = config.read_text()
    config.write_text(text[: text.index("  cnn:")] + text[text.index("train_sizes") :])
    folder = tmp_path / "out"
    with SlurmCluster(tmp_path / "slurm", num_nodes=2, cpus_per_node=1):
        start(config, folder, *ON_SLURM, "--time", "5", "--setup", "export MASTER_ADDR=127.0.0.1").finish()
    (record,) = store.read_records(folder)
    assert record["status"] == "done", record["error"]
    assert record["test"]["accuracy"] is not None
    script = next((folder / "jobs").glob("*_submission.sh")).read_text()
    assert "--nodes=2\n" in script
    assert "--ntasks-per-node=1\n" in script


@pytest.mark.slurm
@pytest.mark.slow
def test_submitted_jobs_count_and_are_cancelled(write_sweep, tmp_path, cluster, start):
    config, folder = write_sweep(("amount: 3", "amount: 100000")), tmp_path / "out"
    options = [*ON_SLURM, "--time", "5", "--trials-per-job", "4"]
    assert "16 missing" in start(config, folder, *options, "--no-wait").finish()
    assert [submission.num_jobs for submission in read_submissions(folder)] == [4]

    start(config, folder, *options, "--no-wait").finish()
    assert len(read_submissions(folder)) == 1, "the jobs of the first command take all trials"

    attached = start(config, folder, *options)
    wait_for_training(folder)
    wait_until(lambda: "0/16" in attached.said, "it to watch")
    attached.process.send_signal(signal.SIGINT)
    assert "the cluster jobs go on" in attached.finish(code=130)
    assert len(live_jobs(folder)) == 4

    lines = describe_jobs(folder)
    assert lines[0] == "cluster jobs: 2 running, 2 waiting"
    assert re.fullmatch(r"  \d+_0 running on n1: vit, 11 images, seed 0, rate 0\.0\d+", lines[1])
    assert re.fullmatch(r"  \d+_2, \d+_3 waiting: \w+", lines[3])

    attached = start(config, folder, *options)
    wait_until(lambda: [owner for owner in read_heartbeats(folder) if owner.kind == "local"], "it to attach")
    os.kill(next(iter(jobs_in_training(folder).values())), signal.SIGUSR2)  # this job saves, and is requeued
    said = subprocess.run([*VITLAB, "cancel", str(folder)], check=True, capture_output=True, text=True).stdout
    assert "4 cluster jobs cancelled" in said
    attached.finish(code=128)
    wait_until(lambda: not live_jobs(folder), "the jobs to end")
    assert len(read_submissions(folder)) == 1, "what was cancelled on purpose is not submitted again"
    assert not [owner for owner in read_heartbeats(folder) if owner.kind == "slurm"]
    assert store.resume_path(folder, load_plan(folder).trials[0].id).exists()


@pytest.mark.slurm
@pytest.mark.slow
def test_what_slurm_refuses_is_said_in_its_words(plan, tmp_path, cluster):
    launcher = SlurmLauncher(JobResources(partition="nope"), SessionSettings(num_threads=1))
    with pytest.raises(
        ValueError, match=r"refused .*--partition nope.*Invalid partition name.*Partitions here: ci, hi"
    ):
        launcher.run(plan, tmp_path / "out")
    assert not read_submissions(tmp_path / "out")
    assert not list((tmp_path / "out" / "logs").glob("*-check.log")), "no model is built before SLURM has agreed"


@pytest.mark.slurm
@pytest.mark.slow
def test_jobs_that_never_begin_end_the_sweep_with_their_words(plan, tmp_path, cluster):
    resources = JobResources(time_minutes=1, setup=("echo no such module: cuda >&2; exit 1",))
    launcher = SlurmLauncher(resources, SessionSettings(num_threads=1, patience_seconds=4.5, max_attempts=2))
    with pytest.raises(ValueError, match=r"2 cluster jobs in a row came to nothing.*no such module: cuda"):
        launcher.run(plan, tmp_path / "out")


@pytest.mark.slurm
@pytest.mark.slow
def test_jobs_search_learning_rates_and_the_launcher_asks_for_those_of_the_next_stage(searching, tmp_path, cluster):
    instant = (sys.executable, str(Path(__file__).with_name("instant_worker.py")))
    settings = SessionSettings(num_threads=1, patience_seconds=9, program=instant)
    launcher = SlurmLauncher(JobResources(time_minutes=5), settings, trials_per_job=8)
    counts = launcher.run(searching, tmp_path / "out")
    assert (counts.done, counts.failed, counts.missing, counts.untested) == (44, 0, 0, 0)
    assert len(read_submissions(tmp_path / "out")) > 1
    records = store.read_records(tmp_path / "out")
    assert {record["id"] for record in records} == {trial.id for trial in load_plan(tmp_path / "out").trials}
    assert sum(record["test"] is not None for record in records) == 2 * 2 * 2
    assert len((tmp_path / "fits").read_text().splitlines()) == 44


class TestWithoutCluster:
    """What is known without asking a cluster."""

    def test_more_jobs_are_needed_only_for_what_the_live_ones_do_not_take(self):
        assert jobs_needed(num_fits=10, capacity=[], trials_per_job=4) == 3
        assert jobs_needed(num_fits=10, capacity=[4, 2], trials_per_job=4) == 1
        assert jobs_needed(num_fits=10, capacity=[4, 4, 2], trials_per_job=4) == 0

    def test_tests_alone_need_one_job_if_there_is_none(self):
        assert jobs_needed(num_fits=0, capacity=[], trials_per_job=4) == 1
        assert jobs_needed(num_fits=0, capacity=[0], trials_per_job=4) == 0

    def test_a_machine_without_slurm_is_told_what_to_use_instead(self, plan, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ValueError, match=r"no SLURM on this machine.*--launcher local.*--shard"):
            SlurmLauncher().run(plan, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("directive", "words"),
        [
            ("ntasks-per-node=4", "always equals trainer.devices"),
            ("--nodes=2", "always equals trainer.num_nodes"),
            ("time=20", "use --time"),
            ("cpus_per_task=2", "use --cpus"),
            ("p=high", "give NAME=VALUE"),
        ],
    )
    def test_directives_that_would_break_jobs_are_refused(self, directive, words):
        with pytest.raises(ValueError, match=words):
            JobResources(directives=(directive,))

    @pytest.mark.parametrize(
        ("trainer", "gpus", "words"),
        [
            ("accelerator: gpu", 0, "give --gpus 1"),
            ("accelerator: gpu, devices: 4", 2, "give --gpus 4"),
            ("accelerator: cpu, devices: auto", 0, "trainer.devices is 'auto'"),
        ],
    )
    def test_trials_that_would_miss_their_devices_are_refused(self, write_sweep, tmp_path, trainer, gpus, words):
        plan = read_sweep(write_sweep(("accelerator: cpu", trainer)))
        with pytest.raises(ValueError, match=words):
            SlurmLauncher(JobResources(gpus=gpus)).run(plan, tmp_path / "out")

    def test_idle_workers_of_a_job_are_refused(self):
        with pytest.raises(ValueError, match="give --trials-per-job 4"):
            SlurmLauncher(settings=SessionSettings(num_workers=4), trials_per_job=2)

    def test_a_job_that_never_began_has_no_note(self, tmp_path):
        assert read_note(tmp_path, "17_3") is None


class TestWithAnswersOfAScript:
    """What the launcher makes of answers that a real SLURM gives too rarely, here given by scripts."""

    @pytest.fixture
    def put_on_path(self, tmp_path, monkeypatch):
        commands = tmp_path / "commands"
        commands.mkdir()
        monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")

        def put(**scripts):
            for name, script in scripts.items():
                (commands / name).write_text(f"#!/bin/sh\n{script}\n")
                (commands / name).chmod(0o755)

        put(sinfo="echo 'ci|infinite'", squeue="", scancel="", scontrol="echo MaxArraySize = 1001", sbatch="exit 1")
        return put

    @pytest.fixture
    def without_models(self, monkeypatch):
        """Building the models takes seconds and is tested elsewhere."""
        monkeypatch.setattr("vitlab.sweep.slurm_launcher.check_models", lambda *arguments: None)

    def test_a_launcher_killed_at_its_first_claim_leaves_a_folder_that_goes_on(
        self, plan, write_sweep, tmp_path, put_on_path
    ):
        folder = tmp_path / "out"
        config = write_sweep()
        killed = subprocess.run([sys.executable, "-c", KILLED_AT_FIRST_CLAIM, config, folder], capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert claimed_trials(folder)
        check_folder(folder, plan)

    def test_jobs_that_were_taken_stay_when_more_are_refused(self, plan, tmp_path, put_on_path, without_models, capfd):
        folder, counter = tmp_path / "out", tmp_path / "taken"
        refusal = "echo 'sbatch: error: AssocMaxSubmitJobLimit' >&2; exit 1"
        put_on_path(
            scontrol="echo MaxArraySize = 6",
            sbatch=f"case $1 in --test-only) exit 0;; esac\n[ -e {counter} ] && {{ {refusal}; }}\n"
            f"touch {counter}; echo Submitted batch job 17",
        )
        SlurmLauncher(settings=SessionSettings(num_threads=1), wait=False).run(plan, folder)
        assert [(submission.array, submission.num_jobs) for submission in read_submissions(folder)] == [("17", 6)]
        said = " ".join("".join(capfd.readouterr()).split())
        assert "10 of 16 jobs are not taken: SLURM refused the jobs" in said
        assert "AssocMaxSubmitJobLimit" in said
        assert "submitted 6 jobs, SLURM's id 17" in said

    def test_a_job_that_vanished_is_submitted_again_without_waiting(self, plan, tmp_path, put_on_path, without_models):
        folder = tmp_path / "out"
        write_plan(folder, plan)
        write_submission(folder, Submission("17", 1, (1, 1), 1))
        put_on_path(
            squeue="echo '17|NODE_FAIL|None|n1'",
            sbatch="case $1 in --test-only) exit 0;; esac\necho Submitted batch job 18",
        )
        with Owner(folder, "slurm", details={"job": "17"}) as vanished:
            Claims(vanished, Watch(folder)).claim(plan.trials[0].id)
            SlurmLauncher(settings=SessionSettings(num_threads=1), wait=False).run(plan, folder)
        assert [submission.num_jobs for submission in read_submissions(folder)] == [1, 16]

    @pytest.mark.parametrize(("is_alive", "num_jobs"), [(False, 8), (True, 7)])
    def test_without_waiting_an_owner_of_a_forgotten_job_gets_its_patience(
        self, plan, tmp_path, put_on_path, without_models, is_alive, num_jobs
    ):
        folder, settings = tmp_path / "out", SessionSettings(num_threads=1, patience_seconds=0.9)
        write_plan(folder, plan)
        write_submission(folder, Submission("17", 1, (1, 1), 1))
        put_on_path(
            squeue='for job in 18_0 18_1 18_2 18_3 18_4 18_5 18_6 19; do echo "$job|PENDING|Priority|"; done',
            sbatch=f"case $1 in --test-only) exit 0;; esac\necho >> {tmp_path}/calls\n"
            f"echo Submitted batch job $((17 + $(wc -l < {tmp_path}/calls)))",
        )
        with Owner(folder, "slurm", 0.9, {"job": "17"}) as owner:
            holder = owner.id
            if not is_alive:
                silent = Heartbeat("slurm-silent", "slurm", "n1", "", 1, 0.9, details={"job": "17"})
                write_json(owner_path(folder, silent.id), asdict(silent))
                holder = silent.id
            (folder / "trials").mkdir()
            for trial in plan.trials[:2]:
                (folder / "trials" / f".claim-{trial.id}.0").write_text(holder)
            SlurmLauncher(settings=settings, trials_per_job=2, wait=False).run(plan, folder)
        assert sum(submission.num_jobs for submission in read_submissions(folder)[1:]) == num_jobs

    def test_a_finished_sweep_is_tidied_of_what_the_dead_have_left(self, plan, tmp_path, put_on_path):
        folder = tmp_path / "out"
        write_plan(folder, plan)
        with Owner(folder, "slurm", details={"job": "17"}) as dead:
            Claims(dead, Watch(folder)).claim(plan.trials[0].id)
            declare_dead(folder, dead.id)
            for trial in plan.trials:
                store.create_record(folder, blank_record(trial, num_threads=1) | {"status": "failed", "error": "none"})
            assert SlurmLauncher().run(plan, folder).missing == 0
        assert not claimed_trials(folder)
        assert not list((folder / "owners").iterdir())
