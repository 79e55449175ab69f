"""How a session works in a sweep folder: how many trials at a time, which, and how patient it is."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vitlab.sweep.owners import PATIENCE_SECONDS
from vitlab.sweep.schedule import Task
from vitlab.sweep.worker import SAVE_EVERY_SECONDS
from vitlab.sweep.worker_process import WORKER_PROGRAM


@dataclass(frozen=True)
class SessionSettings:
    """How a session works.

    Args:
        num_workers: Trials at a time, each in a process of its own.
        num_threads: CPU threads of each; None divides the cores among the workers.
        in_process: Run trials in this process, one at a time.
        retry_failed: Whether trials that failed before run again.
        max_fits: End after so many trainings; None goes on to the end of the sweep.
        may_do: Which tasks are for this session.
        is_launcher: Whether it checks all models first and waits for what others are at work on; a job of a cluster
            leaves both to its launcher.
        max_attempts: Cluster jobs that may vanish over one trial before it is recorded as failed.
        save_every_seconds: How often a trial in training saves the state that it would go on from.
        patience_seconds: Silence after which others may take this session for dead.
        program: What a worker's process runs; another program must answer jobs as `vitlab.sweep.worker` does.
    """

    num_workers: int = 1
    num_threads: int | None = None
    in_process: bool = False
    retry_failed: bool = False
    max_fits: int | None = None
    may_do: Callable[[Task], bool] = lambda task: True
    is_launcher: bool = True
    max_attempts: int = 3
    save_every_seconds: float = SAVE_EVERY_SECONDS
    patience_seconds: float = PATIENCE_SECONDS
    program: Sequence[str] = WORKER_PROGRAM

    def __post_init__(self) -> None:
        for name, value in (
            ("--workers", self.num_workers),
            ("--threads", self.num_threads),
            ("--max-attempts", self.max_attempts),
        ):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; give 1 or more")
        if not self.save_every_seconds > 0:
            raise ValueError(f"--save-every is {self.save_every_seconds}; give seconds above 0")

    @property
    def threads(self) -> int:
        """CPU threads of each worker."""
        return self.num_threads or max(1, num_cores() // self.num_workers)


def num_cores() -> int:
    """Cores that this process may use; macOS does not tell, and then it is all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
