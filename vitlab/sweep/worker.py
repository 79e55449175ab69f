"""A worker: does one job after the other, in the launcher's process or in one of its own.

As a process (`python -m vitlab.sweep.worker`) it reads jobs as JSON lines from its input and answers each with a JSON
line. When the launcher dies, however suddenly, the input ends and the worker ends at once: nobody would run its
trial's place twice. On SIGUSR1 and SIGTERM it saves the trial in training at the end of the step, answers `interrupted`
and ends. torch is imported with the first job, not before.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from vitlab.atomic_file import DISK_ERRORS
from vitlab.sweep.plan import Trial
from vitlab.sweep.srun import adopt_rank, environment_for_srun, hide_cluster, needs_srun, srun_command

Answer = dict[str, Any]

SAVE_EVERY_SECONDS = 600.0
ALL_DEVICES = "VITLAB_ALL_DEVICES"  # what CUDA_VISIBLE_DEVICES was before a worker was given one of them
_OWN_PROCESS = "VITLAB_TRIAL_PROCESS"  # set in the processes that belong to one trial; "srun" in those of srun
_SECONDS_BETWEEN_LOOKS = 0.5
_INTERRUPTED: Answer = {"status": "interrupted", "error": None}


class WorkerDiedError(RuntimeError):
    """The process that did a job ended before the job did; the message says how."""


@dataclass(frozen=True)
class Job:
    """Something to do with one trial.

    Args:
        kind: `check` (build model and data only), `count` or `time` (what a step costs), `fit`, or `test` (read the
            test data).
        trial: The trial.
        folder: The sweep folder; only `fit` and `test` write into it.
        num_threads: CPU threads for torch.
        save_every_seconds: How often a fit saves the state that it would go on from.
        owner: Id of the owner who gives it; a fit that fails is not recorded once that one was taken for dead.
    """

    kind: Literal["check", "count", "time", "fit", "test"]
    trial: Trial
    folder: str
    num_threads: int
    save_every_seconds: float = SAVE_EVERY_SECONDS
    owner: str = ""


def do(job: Job) -> Answer:
    """Do a job; libraries, data and decoded images stay loaded for the next.

    Returns:
        `status` (done, failed, interrupted or unwritable) and `error` (None or words). The error of a failed fit also
        stands in the trial's record; an interrupted fit is saved and goes on where it was. Of `count` and `time` also
        what `trial.measure_step` gives.
    """
    hide_cluster()
    if _stop_asked and job.kind == "fit":
        return dict(_INTERRUPTED)
    if job.trial.has_many_processes and job.kind != "check" and not _is_a_trials_own_process():
        return _do_in_its_own_process(job)
    from vitlab.sweep import trial as work  # here: it imports torch, and the launcher of many workers needs none
    from vitlab.training.resume import Interrupted

    if _stop_asked and job.kind == "fit":  # asked during these imports, which take seconds: the training would not hear
        return dict(_INTERRUPTED)
    try:
        if job.kind == "check":
            work.check_trial(job.trial)
            return {"status": "done", "error": None}
        if job.kind in ("count", "time"):
            return {"status": "done", "error": None, **work.measure_step(job.trial, job.kind, job.num_threads)}
        if job.kind == "fit":
            record = work.fit_trial(Path(job.folder), job.trial, job.num_threads, job.save_every_seconds, job.owner)
        else:
            record = work.test_trial(Path(job.folder), job.trial)
    except Interrupted:
        answer = dict(_INTERRUPTED)
    except Exception as error:
        answer = {"status": _status_after(error, job.kind), "error": work.describe(error)}
    else:
        answer = {"status": record["status"], "error": record["error"]}
    if answer["status"] == "failed" and not _is_first_rank():
        # Lightning stops a trial's other processes only when one of them ends badly; the first would wait forever.
        print(answer["error"], file=sys.stderr, flush=True)
        os._exit(1)
    return answer


def _status_after(error: Exception, kind: str) -> str:
    """Tell a task that failed from one that is to be done again."""
    if (
        _stop_asked
    ):  # whatever breaks while everything is being ended: a loader's process was ended before ours, perhaps
        return "interrupted"
    # A disk that is full is nobody's failure. What a fit raises has been raised by writing down what came out.
    unwritable = isinstance(error, OSError) and (kind == "fit" or error.errno in DISK_ERRORS)
    return "unwritable" if unwritable else "failed"


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
    for name in ("SIGUSR1", "SIGTERM"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, frame: ask_to_stop())
    jobs: queue.Queue[Job] = queue.Queue()
    for line in sys.argv[1:]:
        jobs.put(from_line(line))
    started_by = os.environ.get(_OWN_PROCESS)
    if started_by == "srun":
        adopt_rank()
    if _is_first_rank():
        threading.Thread(target=_read_jobs, args=(jobs,), daemon=True).start()
    elif started_by != "srun":  # which ends them all with the first
        threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        answer = do(jobs.get())
        if _is_first_rank():
            with contextlib.suppress(BrokenPipeError):
                print(json.dumps(answer), file=answers, flush=True)
        if _is_a_trials_own_process() or answer["status"] == "interrupted":
            return


def ask_to_stop() -> None:
    """Have the fit that is being done saved and ended at the end of its step; safe to call in a signal's handler."""
    global _stop_asked
    _stop_asked = True
    if _own_process is not None:
        _own_process.send_signal(signal.SIGUSR1)
    resume = sys.modules.get("vitlab.training.resume")
    if hasattr(resume, "request_stop"):  # before it is imported there is no training to be stopped
        resume.request_stop()


def forget_stop() -> None:
    """Take back `ask_to_stop`: the next fit in this process is meant to go on."""
    global _stop_asked
    _stop_asked = False
    if resume := sys.modules.get("vitlab.training.resume"):
        resume.clear_stop()


_stop_asked = False
_own_process: "subprocess.Popen[str] | None" = None  # of the trial in training, where it has one


def _is_first_rank() -> bool:
    return not int(os.environ.get("LOCAL_RANK", 0)) and not int(os.environ.get("NODE_RANK", 0))


def _is_a_trials_own_process() -> bool:
    return _OWN_PROCESS in os.environ


def _do_in_its_own_process(job: Job) -> Answer:
    """Do a job of a trial that trains with several processes.

    Lightning (or srun, over several nodes) starts the others by repeating the command of the first, so that command
    must be one that runs this trial and nothing else.
    """
    global _own_process
    command = [sys.executable, "-m", "vitlab.sweep.worker", to_line(job)]
    environment = {**os.environ, _OWN_PROCESS: "1"}
    if needs_srun(job.trial):
        try:
            command = srun_command(job.trial, command)
        except ValueError as error:
            return {"status": "failed", "error": str(error)}
        environment = {**environment_for_srun(), _OWN_PROCESS: "srun"}
    if ALL_DEVICES in environment:
        environment["CUDA_VISIBLE_DEVICES"] = environment[ALL_DEVICES]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # close_fds=False hands the owner's lock on, which a worker's process has inherited (nothing else is inheritable).
    # A session of its own: Ctrl-C in the terminal is for the launcher, which has the trial saved.
    with subprocess.Popen(command, env=environment, close_fds=False, start_new_session=True, **pipes) as process:
        _own_process = process
        if _stop_asked:
            process.send_signal(signal.SIGUSR1)
        try:
            line = process.stdout.readline()
        except BaseException:
            process.kill()
            raise
        finally:
            _own_process = None
    if not line:
        raise WorkerDiedError(f"the trial's first process ended with exit code {process.returncode} before it answered")
    return json.loads(line)


def _end_with_parent() -> None:
    """End this rank once the first one, which started it, is gone: it would wait for that one's messages forever."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)


def _read_jobs(jobs: queue.Queue[Job]) -> None:
    for line in sys.stdin:
        jobs.put(from_line(line))
    os._exit(1)  # the launcher is gone: stop in the middle of whatever the main thread does; srun ends the other ranks


if __name__ == "__main__":
    main()
