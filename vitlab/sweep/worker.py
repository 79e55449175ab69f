"""A worker: does one job after the other, in the launcher's process or in one of its own.

As a process (`python -m vitlab.sweep.worker`) it reads jobs as JSON lines from its input and answers each with a JSON
line. When the launcher dies, however suddenly, the input ends and the worker ends at once: nobody would run its
trial's place twice. torch is imported with the first job, not before.
"""

import contextlib
import json
import os
import queue
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from vitlab.sweep.plan import Trial

Answer = dict[str, Any]


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
        return {"status": "failed", "error": work.describe(error)}
    return {"status": record["status"], "error": record["error"]}


def to_line(job: Job) -> str:
    """Return a job as a line of JSON."""
    return json.dumps(asdict(job)) + "\n"


def from_line(line: str) -> Job:
    """Return the job that a line holds."""
    content = json.loads(line)
    return Job(**{**content, "trial": Trial(**content["trial"])})


def main() -> None:
    """Answer jobs until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not stand among the answers
    jobs: queue.Queue[Job] = queue.Queue()
    threading.Thread(target=_read_jobs, args=(jobs,), daemon=True).start()
    while True:
        answer = do(jobs.get())
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(answer), file=answers, flush=True)


def _read_jobs(jobs: queue.Queue[Job]) -> None:
    for line in sys.stdin:
        jobs.put(from_line(line))
    os._exit(0)  # the launcher is gone: stop in the middle of whatever the main thread does


if __name__ == "__main__":
    main()
