"""What SLURM knows about the jobs of a sweep: waiting, running, ended; and having them cancelled.

Only a successful answer of squeue counts: while its controller restarts, no job has vanished. Nothing here needs
accounting (sacct), which many clusters do not have.
"""

import json
import os
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitlab.atomic_file import write_json
from vitlab.sweep.claims import claimed_trials
from vitlab.sweep.owners import read_heartbeats
from vitlab.sweep.plan_file import load_plan

JOBS_FOLDER = "jobs"
_ENDED = {
    *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"),
    *("PREEMPTED", "REVOKED"),
}
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"}
_SECONDS_TO_ANSWER = 60
_MAX_IDS_A_CALL = 500
_MAX_LINES = 20
_DEFAULT_MAX_ARRAY_SIZE = 1001  # as SLURM has it


class QueueUnavailableError(RuntimeError):
    """SLURM does not answer at present; says nothing about its jobs."""


@dataclass(frozen=True)
class State:
    """What SLURM says of one job.

    Args:
        name: SLURM's word, such as PENDING; "" for a job that it has forgotten.
        reason: Why it waits or has ended, in SLURM's word; "" where there is none.
        nodes: Where it runs.
    """

    name: str
    reason: str = ""
    nodes: str = ""

    @property
    def is_waiting(self) -> bool:
        """Whether it has not begun, or will begin again."""
        return self.name in _WAITING

    @property
    def is_over(self) -> bool:
        """Whether it has ended for good."""
        return not self.name or self.name in _ENDED

    def __str__(self) -> str:
        return f"{self.name or 'gone'}{f' ({self.reason})' if self.reason else ''}"


@dataclass(frozen=True)
class Submission:
    """An array of jobs that was submitted for a sweep.

    Args:
        array: SLURM's id of it.
        num_jobs: How many jobs it has.
        shape: Nodes, and devices on each, of the trials that it takes.
        trials_per_job: How many of them each job takes.
    """

    array: str
    num_jobs: int
    shape: tuple[int, int]
    trials_per_job: int

    @property
    def jobs(self) -> list[str]:
        """The ids of its jobs."""
        return [f"{self.array}_{number}" for number in range(self.num_jobs)] if self.num_jobs > 1 else [self.array]


def is_available() -> bool:
    """Say whether SLURM's commands are on this machine."""
    return all(shutil.which(program) for program in ("sbatch", "squeue", "scancel"))


def check_available() -> None:
    """Refuse a machine on which no jobs can be submitted.

    Raises:
        ValueError: SLURM is not installed here, or does not answer; the message says what else there is.
    """
    if not is_available():
        raise ValueError(
            "no SLURM on this machine (no sbatch, squeue, scancel on the PATH). Type the command on the cluster's "
            "login node, or use --launcher local; with another scheduler start n jobs with --shard 1/n to --shard n/n"
        )
    try:
        _ask("sinfo", "--noheader", "--format=%R")
    except QueueUnavailableError as error:
        raise ValueError(f"{error}. Try again later, or use --launcher local") from error


def jobs(ids: Collection[str]) -> dict[str, State]:
    """Return what SLURM says of each of these jobs.

    Args:
        ids: Such as 17, or 17_3 of an array.

    Raises:
        QueueUnavailableError: SLURM does not answer.
    """
    arrays = sorted({job.partition("_")[0] for job in ids}, key=int)
    found: dict[str, State] = {}
    for asked in _portions(arrays):
        command = (
            "squeue",
            "--noheader",
            "--array",
            "--states=all",
            "--format=%i|%T|%r|%N",
            f"--jobs={','.join(asked)}",
        )
        for line in _ask(*command, forgotten="Invalid job id").splitlines():
            job, name, reason, nodes = line.split("|")
            found[job] = State(name, "" if reason == "None" else reason, nodes)
    return {job: found.get(job, State("")) for job in ids}


def cancel(ids: Iterable[str]) -> None:
    """Cancel jobs; those that run get SIGTERM first, and the time to save.

    Raises:
        QueueUnavailableError: SLURM does not answer.
    """
    for asked in _portions(list(ids)):
        _ask("scancel", *asked, forgotten="Invalid job id")


def partitions() -> str:
    """Return the partitions that there are and their time limits, in words."""
    lines = _ask("sinfo", "--noheader", "--format=%R|%l").split()
    limits = dict(line.split("|") for line in lines)
    return ", ".join(f"{name} (at most {limit})" if limit != "infinite" else name for name, limit in limits.items())


def max_array_size() -> int:
    """Return how many jobs an array may have here; 1 where arrays are switched off, which SLURM calls 0."""
    match = re.search(r"MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config"))
    return max(1, int(match[1])) if match else _DEFAULT_MAX_ARRAY_SIZE


def objection(options: Iterable[str]) -> str:
    """Return what SLURM has against a job with these options of sbatch, in its words; "" where nothing."""
    command = ("sbatch", "--test-only", *options, "--wrap=true")
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS_TO_ANSWER)
    except subprocess.TimeoutExpired:
        return ""  # nothing was submitted, and so nothing was refused
    return in_words(answer.stderr) if answer.returncode else ""


def write_submission(folder: Path, submission: Submission) -> None:
    """Write down what was submitted, for later launchers, `vitlab status` and `vitlab cancel`."""
    content = {name: getattr(submission, name) for name in Submission.__dataclass_fields__}
    write_json(Path(folder) / JOBS_FOLDER / f"submitted-{submission.array}.json", content)


def read_submissions(folder: Path) -> list[Submission]:
    """Return all that was ever submitted for a sweep."""
    paths = sorted((Path(folder) / JOBS_FOLDER).glob("submitted-*.json"))
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [Submission(**{**content, "shape": tuple(content["shape"])}) for content in contents]


def live_jobs(folder: Path) -> dict[str, State]:
    """Return the jobs of a sweep that have not ended.

    Raises:
        QueueUnavailableError: SLURM does not answer.
        ValueError: Jobs were submitted, and there is no SLURM on this machine.
    """
    ids = [job for submission in read_submissions(folder) for job in submission.jobs]
    if not ids:
        return {}
    if not is_available():
        raise ValueError("no SLURM on this machine, and so no word of the sweep's cluster jobs; ask on the login node")
    return {job: state for job, state in jobs(ids).items() if not state.is_over}


def describe_jobs(folder: Path) -> list[str]:
    """Return lines on the cluster jobs of a sweep: which run, at which trials, and which wait for what."""
    if not read_submissions(folder):
        return []
    try:
        live = live_jobs(folder)
    except (ValueError, QueueUnavailableError) as error:
        return [f"cluster jobs: {error}"]
    if not live:
        return ["cluster jobs: none"]
    waiting: dict[str, list[str]] = defaultdict(list)
    for job in sorted(live, key=_job_order):
        if live[job].is_waiting:
            waiting[live[job].reason].append(job)
    at_work = [job for job in sorted(live, key=_job_order) if not live[job].is_waiting]
    trials = _trials_of_jobs(folder) if at_work else {}
    lines = [f"cluster jobs: {len(at_work)} running, {len(live) - len(at_work)} waiting"]
    for job in at_work[:_MAX_LINES]:
        what = "; ".join(trials.get(job, ["between trials"]))
        lines.append(f"  {job} {live[job].name.lower()} on {live[job].nodes}: {what}")
    if len(at_work) > _MAX_LINES:
        lines.append(f"  and {len(at_work) - _MAX_LINES} more")
    for reason, ids in waiting.items():
        lines.append(f"  {_few(ids)} waiting: {reason or 'no reason given'}")
    return lines


def _trials_of_jobs(folder: Path) -> dict[str, list[str]]:
    """Return what each running job is at work on, in words."""
    jobs_of_owners = {owner.id: owner.details.get("job") for owner in read_heartbeats(folder) if owner.kind == "slurm"}
    plan = {trial.id: trial for trial in load_plan(folder).trials}
    trials: dict[str, list[str]] = defaultdict(list)
    for trial_id, owner in claimed_trials(folder).items():
        if trial_id in plan and (job := jobs_of_owners.get(owner)):
            trial = plan[trial_id]
            words = f"{trial.model}, {trial.train_size} images, seed {trial.seed}, rate {trial.learning_rate:g}"
            trials[job].append(words)
    return trials


def _few(ids: list[str]) -> str:
    return ", ".join(ids) if len(ids) <= 3 else f"{ids[0]} to {ids[-1]} ({len(ids)} jobs)"


def _job_order(job: str) -> list[int]:
    return [int(part) for part in job.split("_")]


def _portions(ids: list[str]) -> Iterable[list[str]]:
    return (ids[start : start + _MAX_IDS_A_CALL] for start in range(0, len(ids), _MAX_IDS_A_CALL))


def _ask(*command: str, forgotten: str | None = None) -> str:
    """Run one of SLURM's commands and return what it says; the words `forgotten` in its error are no error."""
    # SQUEUE_PARTITION and the like, which a user may have set for his own eyes, would hide jobs from us.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SINFO_"))}
    options: dict[str, Any] = {"capture_output": True, "text": True, "env": environment}
    try:
        answer = subprocess.run(command, timeout=_SECONDS_TO_ANSWER, **options)
    except subprocess.TimeoutExpired as error:
        raise QueueUnavailableError(f"SLURM does not answer: {command[0]} took too long") from error
    if answer.returncode and not (forgotten and forgotten in answer.stderr):
        raise QueueUnavailableError(f"SLURM does not answer: {in_words(answer.stderr) or command[0]}")
    return answer.stdout


def in_words(errors: str) -> str:
    """Return what a command of SLURM wrote to its error output, as one line."""
    lines = [re.sub(r"^\w+: (error|fatal): ", "", line) for line in errors.strip().splitlines()]
    return "; ".join(line for line in Counter(lines) if line)
