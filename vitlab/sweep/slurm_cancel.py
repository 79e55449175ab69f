"""Ending a sweep's cluster jobs for good.

scancel alone does not: a job that SLURM has just told to save, because its time is nearly over, may ask to be started
again a moment before or after it is cancelled, and SLURM then starts it again. So what is cancelled is written down
first, and a job that finds itself there neither asks for a new start nor works when it gets one.
"""

import time
from collections.abc import Iterable
from pathlib import Path

from vitlab.atomic_file import write_json
from vitlab.sweep import slurm_queue
from vitlab.sweep.slurm_queue import JOBS_FOLDER, QueueUnavailableError, State, live_jobs

_SECONDS_TO_END = 90.0  # SLURM gives a job 30 to save, as a rule, and cleans up after it
_SECONDS_BETWEEN_LOOKS = 0.5
_PREFIX = "cancelled-"


def cancel_jobs(folder: Path) -> tuple[list[str], dict[str, State]]:
    """Cancel all jobs of a sweep that have not ended, and wait until they have.

    Returns:
        The ids of the jobs, and those of them that SLURM still had after a minute and a half, with their states.

    Raises:
        ValueError: They cannot be cancelled from here, or not now.
    """
    try:
        live = live_jobs(folder)
        for job in live:
            write_json(_mark(folder, job), {"job": job})
        slurm_queue.cancel(sorted(live))
        return sorted(live), _wait_for_the_end(live)
    except QueueUnavailableError as error:
        raise ValueError(
            f"{error}. It is not certain that the sweep's cluster jobs were cancelled; try again later"
        ) from error


def was_cancelled(folder: Path, job: str) -> bool:
    """Say whether somebody has cancelled a job, whatever SLURM makes of it."""
    return _mark(folder, job).exists()


def cancelled_jobs(folder: Path) -> set[str]:
    """Return the ids of all jobs of a sweep that were cancelled."""
    return {path.stem.removeprefix(_PREFIX) for path in (Path(folder) / JOBS_FOLDER).glob(f"{_PREFIX}*.json")}


def _wait_for_the_end(jobs: Iterable[str]) -> dict[str, State]:
    deadline, left = time.monotonic() + _SECONDS_TO_END, list(jobs)
    while left:
        states = {job: state for job, state in slurm_queue.jobs(left).items() if not state.is_over}
        if not states or time.monotonic() > deadline:
            return states
        slurm_queue.cancel(job for job, state in states.items() if state.is_waiting)  # it has asked for a new start
        left = list(states)
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return {}


def _mark(folder: Path, job: str) -> Path:
    return Path(folder) / JOBS_FOLDER / f"{_PREFIX}{job}.json"
