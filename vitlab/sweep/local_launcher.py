"""Running a sweep on this machine: in this process, or on persistent worker processes.

Several launchers may work in one folder, on one machine or on many that share it. Ctrl-C, SIGTERM and SIGUSR1 have the
running trials saved; whatever a launcher did not finish, the same command does.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vitlab.sweep.plan import Plan
from vitlab.sweep.plan_file import check_folder
from vitlab.sweep.rate_search import unstarted_trials
from vitlab.sweep.schedule import Counts, Task
from vitlab.sweep.session import Session
from vitlab.sweep.session_settings import SessionSettings
from vitlab.sweep.srun import needs_srun


class SweepStoppedError(RuntimeError):
    """The sweep was asked to stop, by a signal (its number) or by `vitlab cancel` (0)."""

    def __init__(self, number: int) -> None:
        by = signal.Signals(number).name if number else "vitlab cancel"
        super().__init__(f"stopped by {by}; what was running is saved, and the same command goes on")
        self.number = number


@dataclass(frozen=True)
class LocalLauncher:
    """Run a sweep on this machine.

    Args:
        settings: How many trials at a time and how; one at a time runs in this process.
        shard: None, or (i, n): do only the i-th of n parts of the trials, counted from 1, and do not wait for the rest;
            for schedulers of any kind that start n such commands.
    """

    settings: SessionSettings = field(default_factory=SessionSettings)
    shard: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise ValueError(f"--shard is {self.shard[0]}/{self.shard[1]}; give i/n with i from 1 to n, such as 1/4")

    def run(self, plan: Plan, folder: Path) -> Counts:
        """Run what is missing of a sweep.

        Args:
            plan: The sweep.
            folder: Where its records are and will be.

        Returns:
            How many trials are done, failed and missing at the end.

        Raises:
            ValueError: The folder is another sweep's, the settings of a model cannot be right (nothing has been
                trained then), or records cannot be written.
            SweepStoppedError: It was asked to stop.
            KeyboardInterrupt: The user stopped it.
        """
        plan = check_folder(folder, plan)
        check_nodes(plan)
        settings = replace(self.settings, in_process=self.settings.num_workers == 1)
        if self.shard is not None:
            if plan.tuning == "auto":
                raise ValueError(
                    "--shard divides trials that are known beforehand, and `learning_rates: auto` finds them as it "
                    "goes; start the same command several times without --shard, in one shared folder: they share "
                    "the trials"
                )
            settings = replace(settings, may_do=_share(plan, *self.shard))
        session = Session(plan, folder, settings, kind="local" if self.shard is None else "shard")
        with _stopping_on_signals(session) as caught:
            counts = session.run()
        if session.was_stopped:
            raise SweepStoppedError(caught[0] if caught else 0)
        return counts


def check_nodes(plan: Plan) -> None:
    """Refuse trials over several nodes where there is one.

    Raises:
        ValueError: A model trains on several nodes, and this is one machine.
    """
    spread = [trial for trial in (*plan.trials, *unstarted_trials(plan)) if needs_srun(trial)]
    if spread and int(os.environ.get("SLURM_JOB_NUM_NODES", 1)) < 2:
        raise ValueError(
            f"model {spread[0].model} trains on several nodes (trainer.num_nodes), and this is one machine; use "
            "--launcher slurm, or start vitlab inside a SLURM job with that many nodes"
        )


def _share(plan: Plan, part: int, num_parts: int) -> Any:
    """Return which tasks are a shard's: every n-th fit, and the test of any trial whose arm it sees complete.

    In a race, who goes on depends on the others of an arm, and every n-th arm is a shard's. Each size begins with
    another model, so that no shard, and so no machine, has one model alone.
    """
    if plan.race:
        starts = {size: index % len(plan.models) for index, size in enumerate(plan.train_sizes)}
        turns = [(size, model) for size, at in starts.items() for model in plan.models[at:] + plan.models[:at]]
        arms = set(turns[part - 1 :: num_parts])
        return lambda task: (task[1].train_size, task[1].model) in arms
    fits = {trial.id for trial in plan.trials[part - 1 :: num_parts]}

    def is_ours(task: Task) -> bool:
        kind, trial = task
        return kind == "test" or trial.id in fits

    return is_ours


@contextlib.contextmanager
def _stopping_on_signals(session: Session) -> Iterator[list[int]]:
    """Have SIGTERM and SIGUSR1 stop a session in order; yields the list of those that came."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def stop(number: int, frame: Any) -> None:
        caught.append(number)
        session.stop()

    names = [name for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
    before = {number: signal.signal(number, stop) for number in (getattr(signal, name) for name in names)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
