"""A worker: does one job after the other, in the launcher's process or in one of its own.

As a process (`python -m vitlab.sweep.worker`) it reads jobs as JSON lines from its input and answers each with a JSON
line. When the launcher dies, however suddenly, the input ends and the worker ends at once: nobody would run its
trial's place twice. torch is imported with the first job, not before.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from vitlab.sweep.plan import Trial

Answer = dict[str, Any]

_OWN_PROCESS = "VITLAB_TRIAL_PROCESS"  # set in the processes that belong to one trial


class WorkerDiedError(RuntimeError):
    """The process that did a job ended before the job did; the message says how."""


@dataclass(frozen=True)
class Job:
    """Something to do with one trial.

    Args:
        kind: `check` (build model and data only), `fit`, or `test` (read the test data).
        trial: The trial.
        folder: The sweep folder; a check writes nothing into it.
        num_threads: CPU threads for torch.
    """

    kind: Literal["check", "fit", "test"]
    trial: Trial
    folder: str
    num_threads: int


def do(job: Job) -> Answer:
    """Do a job; libraries, data and decoded images stay loaded for the next.

    Returns:
        `status` (done or failed) and `error` (None or words). The error of a fit also stands in the trial's record.
    """
    if job.trial.has_many_processes and job.kind != "check" and not _is_a_trials_own_process():
        return _do_in_its_own_process(job)
    from vitlab.sweep import trial as work  # here: it imports torch, and the launcher of many workers needs none

    try:
        if job.kind == "check":
            work.check_trial(job.trial)
            return {"status": "done", "error": None}
        if job.kind == "fit":
            record = work.fit_trial(Path(job.folder), job.trial, job.num_threads)
        else:
            record = work.test_trial(Path(job.folder), job.trial)
    except Exception as error:
        answer = {"status": "failed", "error": work.describe(error)}
    else:
        answer = {"status": record["status"], "error": record["error"]}
    if answer["status"] == "failed" and int(os.environ.get("LOCAL_RANK", 0)):
        # Lightning stops a trial's other processes only when one of them ends badly; the first would wait forever.
        print(answer["error"], file=sys.stderr, flush=True)
        os._exit(1)
    return answer


def to_line(job: Job) -> str:
    """Return a job as a line of JSON."""
    return json.dumps(asdict(job)) + "\n"


def from_line(line: str) -> Job:
    """Return the job that a line holds."""
    content = json.loads(line)
    return Job(**{**content, "trial": Trial(**content["trial"])})


def main() -> None:
    """Answer jobs until the input ends; or the one job that is given as an argument."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not stand among the answers
    jobs: queue.Queue[Job] = queue.Queue()
    for line in sys.argv[1:]:
        jobs.put(from_line(line))
    if "LOCAL_RANK" not in os.environ:  # a trial's further processes have no launcher at their input
        threading.Thread(target=_read_jobs, args=(jobs,), daemon=True).start()
    while True:
        answer = do(jobs.get())
        if not int(os.environ.get("LOCAL_RANK", 0)):
            with contextlib.suppress(BrokenPipeError):
                print(json.dumps(answer), file=answers, flush=True)
        if _is_a_trials_own_process():
            return


def _is_a_trials_own_process() -> bool:
    return _OWN_PROCESS in os.environ


def _do_in_its_own_process(job: Job) -> Answer:
    """Do a job of a trial that trains with several processes.

    Lightning starts the others by repeating the command of the first, so that command must be one that runs this trial
    and nothing else.
    """
    command = [sys.executable, "-m", "vitlab.sweep.worker", to_line(job)]
    environment = {**os.environ, _OWN_PROCESS: "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # close_fds=False hands the folder's lock on, which a worker's process has inherited (nothing else is inheritable).
    with subprocess.Popen(command, env=environment, close_fds=False, **pipes) as process:
        try:
            line = process.stdout.readline()
        except BaseException:
            process.kill()
            raise
    if not line:
        raise WorkerDiedError(f"the trial's first process ended with exit code {process.returncode} before it answered")
    return json.loads(line)


def _read_jobs(jobs: queue.Queue[Job]) -> None:
    for line in sys.stdin:
        jobs.put(from_line(line))
    os._exit(0)  # the launcher is gone: stop in the middle of whatever the main thread does


if __name__ == "__main__":
    main()
