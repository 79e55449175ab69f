"""Asking SLURM for jobs: what each of them gets, and having an array of them started through submitit.

A job is one batch script, which becomes the Python process that works (`exec`), so that SLURM's signals reach it; it
starts further processes itself. It asks for as many tasks on a node as a trial has devices, never for another number:
with two devices and one task a trial would train on half of its data without a word.
"""

import contextlib
import io
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitlab.sweep import slurm_queue
from vitlab.sweep.slurm_job import SlurmJob
from vitlab.sweep.slurm_queue import JOBS_FOLDER, QueueUnavailableError, Submission

_MAX_SECONDS_TO_SAVE = 120
_NO_LIMIT = 1_000_000  # of requeues: each time limit is one, and a long training may see many
_OWN_OPTIONS = {
    "partition": "--partition",
    "account": "--account",
    "time": "--time",
    "constraint": "--constraint",
    "gpus": "--gpus",
    "gpus-per-node": "--gpus",
    "cpus-per-task": "--cpus",
    "mem": "--memory",
}
_NOT_FOR_USERS = {
    **dict.fromkeys(("ntasks-per-node", "ntasks"), "it always equals trainer.devices of the trials"),
    "nodes": "it always equals trainer.num_nodes of the trials",
    **dict.fromkeys(("array", "output", "error", "open-mode", "signal", "requeue", "no-requeue"), "vitlab sets it"),
}
_NO_ANSWER = ("Unable to contact", "timed out", "temporarily", "connect failure", "Connection refused")


class JobsRefusedError(ValueError):
    """SLURM does not take the jobs as they are; the message holds its own words."""


@dataclass(frozen=True)
class JobResources:
    """What each cluster job asks for.

    Args:
        time_minutes: Its time limit; trials that are not done by then are saved and go on in the requeued job.
        partition: Where it runs; None for the cluster's default.
        account: Whom it is charged to; None for the user's default.
        gpus: GPUs per node.
        cpus: CPUs per process of a trial.
        memory_gb: Memory per node; None for the cluster's default.
        constraint: Features that its nodes must have.
        directives: Further options of sbatch as NAME=VALUE, such as "qos=high".
        setup: Shell lines that run before the work, such as "module load cuda".
    """

    time_minutes: int = 60
    partition: str | None = None
    account: str | None = None
    gpus: int = 0
    cpus: int = 1
    memory_gb: float | None = None
    constraint: str | None = None
    directives: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for option, value, least in (
            ("--time", self.time_minutes, 1),
            ("--gpus", self.gpus, 0),
            ("--cpus", self.cpus, 1),
        ):
            if value < least:
                raise ValueError(f"{option} is {value}; give {least} or more")
        if self.memory_gb is not None and not self.memory_gb > 0:
            raise ValueError(f"--memory is {self.memory_gb:g}; give gigabytes above 0")
        for name, _ in self.named_directives():
            if name in _OWN_OPTIONS:
                raise ValueError(f"--directive {name} has an option of its own: use {_OWN_OPTIONS[name]}")
            if name in _NOT_FOR_USERS:
                raise ValueError(f"--directive {name} cannot be asked for: {_NOT_FOR_USERS[name]}")

    def named_directives(self) -> Iterator[tuple[str, str | bool]]:
        """Yield name and value of each directive; one without a value is a switch, such as "exclusive"."""
        for directive in self.directives:
            name, equals, value = directive.partition("=")
            name = name.strip().lstrip("-").replace("_", "-")
            if len(name) < 2:
                raise ValueError(
                    f"--directive is {directive!r}; give NAME=VALUE with sbatch's long name, such as qos=high"
                )
            yield name, value if equals else True


def check_request(resources: JobResources, job: SlurmJob) -> None:
    """Ask SLURM whether it would take a job, without submitting one.

    It may also say no for what will pass, such as nodes that are down; only an option that is called invalid counts.

    Raises:
        JobsRefusedError: SLURM knows no such partition, account, time limit or the like.
    """
    parameters = _parameters(resources, job)
    parameters |= parameters.pop("additional_parameters")
    of_submitit = ("use_srun", "setup")
    words = slurm_queue.objection(
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
        for name, value in parameters.items()
        if name not in of_submitit
    )
    if "invalid" in words.lower():
        raise _explain(words, resources)


def submit(
    folder: Path, resources: JobResources, job: SlurmJob, num_jobs: int, max_parallel: int | None
) -> Iterator[Submission]:
    """Submit equal jobs, as one array or, where the cluster admits no array so large, as several.

    Yields each array as soon as SLURM has taken it: a later one may be refused.

    Args:
        folder: The sweep folder.
        resources: What each job asks for.
        job: What it does.
        num_jobs: How many; above 0.
        max_parallel: How many of an array may run at a time.

    Raises:
        JobsRefusedError: SLURM does not take them; those of earlier arrays of this call stay submitted.
        QueueUnavailableError: SLURM does not answer.
    """
    largest = slurm_queue.max_array_size()
    for start in range(0, num_jobs, largest):
        number = min(largest, num_jobs - start)
        array = _submit_array(folder, resources, job, number, max_parallel)
        submission = Submission(array, number, job.shape, job.num_trials)
        slurm_queue.write_submission(folder, submission)
        yield submission


def _submit_array(folder: Path, resources: JobResources, job: SlurmJob, number: int, max_parallel: int | None) -> str:
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError

    python = f"exec {shlex.quote(sys.executable)}"  # in place of the shell: SLURM warns the batch process, and only it
    executor = SlurmExecutor(Path(folder) / JOBS_FOLDER, max_num_timeout=_NO_LIMIT, python=python)
    executor.update_parameters(**_parameters(resources, job), array_parallelism=max_parallel or number)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it raises
            submitted = executor.submit_array([job] * number)
    except FailedJobError as error:
        raise _explain(str(error), resources) from error
    return submitted[0].job_id.partition("_")[0]


def _parameters(resources: JobResources, job: SlurmJob) -> dict[str, Any]:
    """Return what submitit writes into the batch script."""
    nodes, devices = job.shape
    cpus = resources.cpus * job.num_workers
    seconds_to_save = min(_MAX_SECONDS_TO_SAVE, 60 * resources.time_minutes // 4)
    asked = {
        "partition": resources.partition,
        "account": resources.account,
        "constraint": resources.constraint,
        "gpus_per_node": resources.gpus or None,
        "mem": None if resources.memory_gb is None else f"{round(1024 * resources.memory_gb)}M",
    }
    return {
        "job_name": "vitlab",
        "time": resources.time_minutes,
        "nodes": nodes,
        "ntasks_per_node": devices,
        "cpus_per_task": cpus,
        "use_srun": False,
        "setup": [f"export SRUN_CPUS_PER_TASK={cpus}", *resources.setup],  # srun does not take it from sbatch any more
        # B: tells the batch process alone, in time to save; it tells its workers.
        "additional_parameters": {
            "signal": f"B:USR2@{seconds_to_save}",
            "requeue": True,
            **dict(resources.named_directives()),
        },
        **{name: value for name, value in asked.items() if value is not None},
    }


def _explain(errors: str, resources: JobResources) -> Exception:
    """Return what sbatch's refusal means, in its own words and with what there is to choose from."""
    words = slurm_queue.in_words(errors)
    if any(sign in words for sign in _NO_ANSWER):
        return QueueUnavailableError(f"SLURM does not answer: {words}")
    asked = {"--partition": resources.partition, "--account": resources.account, "--time": resources.time_minutes}
    given = ", ".join(f"{option} {value}" for option, value in asked.items() if value is not None)
    there = ""
    with contextlib.suppress(QueueUnavailableError):
        there = f". Partitions here: {slurm_queue.partitions()}"
    return JobsRefusedError(f"SLURM refused the jobs ({given}): {words}{there}")
