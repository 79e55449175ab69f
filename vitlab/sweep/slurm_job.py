"""What runs inside a cluster job: a session that takes trials from the folder until its share is done or its time is.

Before its time limit SLURM signals the job (SIGUSR2): its trials are saved and given back, and submitit requeues it.
On SIGTERM (preemption, `scancel`, a limit without warning) they are saved as well, and what comes next is up to SLURM,
which requeues a preempted job by itself and a cancelled one never; not even one that was cancelled while it saved.
"""

import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitlab.atomic_file import write_json
from vitlab.sweep.plan_file import PLAN_FILE, load_plan
from vitlab.sweep.schedule import Task
from vitlab.sweep.session import Session
from vitlab.sweep.session_settings import SessionSettings
from vitlab.sweep.slurm_cancel import was_cancelled
from vitlab.sweep.slurm_queue import JOBS_FOLDER
from vitlab.sweep.srun import shape_of

Shape = tuple[int, int]  # nodes, and devices on each

_SECONDS_BETWEEN_LOOKS = 0.1


class SlurmJob:
    """A cluster job, as submitit pickles it and calls it on a node.

    Args:
        folder: The sweep folder; its plan stands in it.
        settings: How to work; `max_fits` is how many trials the job takes each time it starts.
        shape: Nodes and devices of the trials that it takes; it has been given as many.
    """

    def __init__(self, folder: Path, settings: SessionSettings, shape: Shape) -> None:
        self._folder, self._settings, self.shape = Path(folder), settings, shape
        self._work: _Work | None = None
        self._is_terminated = self._is_saved = False

    @property
    def num_trials(self) -> int:
        """How many trials it takes each time it starts."""
        return self._settings.max_fits or 1

    @property
    def num_workers(self) -> int:
        """How many of them at a time."""
        return self._settings.num_workers

    def __call__(self) -> None:
        """Work until nothing is open, the share is done or a signal says so.

        Raises:
            ValueError: The folder cannot be seen or written from this node.
        """
        job = job_id()
        if not (self._folder / PLAN_FILE).exists():
            raise ValueError(
                f"node {os.uname().nodename} cannot see {self._folder}; choose an --out on a file system that the "
                "nodes share with the login node"
            )
        if was_cancelled(self._folder, job):
            write_note(self._folder, job, {"state": "stopped"})
            return
        write_note(self._folder, job, {"state": "began", "node": os.uname().nodename})
        try:
            self._work = _Work(self._make_session(job))
            signal.signal(signal.SIGTERM, self._terminate)  # submitit ignores it
            self._work.run()
        except Exception as error:
            if self._is_saved:
                # SLURM ended `scontrol requeue` with the rest of this job, or did not answer it: then others go on.
                print(f"saved; {error}", file=sys.stderr)
                write_note(self._folder, job, {"state": "stopped"})
                return
            words = " ".join(str(error).split()) or type(error).__name__
            write_note(self._folder, job, {"state": "failed", "error": words})
            raise
        write_note(self._folder, job, {"state": "stopped" if self._work.session.was_stopped else "ended"})

    def checkpoint(self) -> Any:
        """Save and give back what runs, and return what shall run when the job is started again.

        submitit calls it, in the signal's handler, shortly before the time limit, and then requeues the job.
        """
        from submitit.helpers import DelayedSubmission

        if self._work is not None:
            self._work.stop_and_wait()
            is_over = self._is_terminated or was_cancelled(self._folder, job_id())  # SLURM ends this job for good
            if self._work.is_complete or is_over:
                write_note(self._folder, job_id(), {"state": "stopped" if is_over else "ended"})
                sys.exit(0)
        self._is_saved = True
        return DelayedSubmission(SlurmJob(self._folder, self._settings, self.shape))

    def _terminate(self, number: int, frame: Any) -> None:
        self._is_terminated = True
        self._work.session.stop()

    def _make_session(self, job: str) -> Session:
        settings = replace(self._settings, may_do=self._may_do, is_launcher=False)
        details = {"job": job, "will_take": settings.max_fits}
        return Session(load_plan(self._folder), self._folder, settings, kind="slurm", details=details)

    def _may_do(self, task: Task) -> bool:
        return shape_of(task[1]) == self.shape


class _Work:
    """A session that works in a thread, so that the main thread is free to hear signals and to wait for it in them."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._error: BaseException | None = None
        self._has_ended = False
        self._thread = threading.Thread(target=self._run, name="session")

    @property
    def is_complete(self) -> bool:
        """Whether the session has ended by itself, and well."""
        return self._has_ended and self._error is None and not self.session.was_stopped

    def run(self) -> None:
        """Work to the end.

        Raises:
            Exception: What went wrong in the session.
        """
        self._thread.start()
        self._wait()
        if self._error is not None:
            raise self._error

    def stop_and_wait(self) -> None:
        """Have the running trials saved and given back; called in a signal's handler, in the midst of `run`."""
        self.session.stop()
        self._wait()

    def _wait(self) -> None:
        while self._thread.is_alive():  # a lock would not do: the handler may interrupt whoever is about to take it
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _run(self) -> None:
        try:
            self.session.run()
        except BaseException as error:
            self._error = error
        self._has_ended = True


def job_id() -> str:
    """Return the id of the job that this process is in, as squeue shows it."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]


def write_note(folder: Path, job: str, note: dict[str, str]) -> None:
    """Write down how far a job is, for its launcher: `began`, `ended`, `stopped`, or `failed` and the `error`."""
    write_json(_note_path(folder, job), note)


def read_note(folder: Path, job: str) -> dict[str, str] | None:
    """Return what a job has written down, or None where it never began."""
    try:
        return json.loads(_note_path(folder, job).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _note_path(folder: Path, job: str) -> Path:
    return Path(folder) / JOBS_FOLDER / f"note-{job}.json"
