"""What to do next in a sweep: first train, then test what validation data chose. Pure bookkeeping, no processes.

An arm is one model at one data size. Only when all its trials have ended is its learning rate chosen, and only then
are the trials at that rate tested: nobody sees a test number that could steer a choice.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from vitlab.sweep.plan import Plan, Trial
from vitlab.sweep.selection import Arm, chosen_learning_rates, is_selected
from vitlab.sweep.store import Record

Task = tuple[Literal["fit", "test"], Trial]


@dataclass(frozen=True)
class Counts:
    """How far a sweep is, in trials.

    `untested` are done and selected, but the test data could not be or has not been read; `failed_now` is how many
    trainings and tests have failed since this schedule was made.
    """

    done: int
    failed: int
    running: int
    missing: int
    untested: int
    failed_now: int = 0


class Schedule:
    """The tasks of a sweep that are still open.

    Args:
        plan: All trials.
        records: What has ended before; records of other plans are ignored.
    """

    def __init__(self, plan: Plan, records: Iterable[Record | None]) -> None:
        planned = {trial.id for trial in plan.trials}
        self._records = {record["id"]: record for record in records if record is not None and record["id"] in planned}
        self._failed_now = 0
        self._arms: dict[Arm, list[Trial]] = {}
        for trial in plan.trials:
            self._arms.setdefault(_arm(trial), []).append(trial)
        self._running: set[str] = set()
        fits = [("fit", trial) for trial in plan.trials if trial.id not in self._records]
        self._open: deque[Task] = deque(fits)
        for arm in self._arms:
            self._add_tests(arm)

    def take(self) -> Task | None:
        """Hand out the next task, or None where there is none at present (or no more at all: see `is_finished`)."""
        if not self._open:
            return None
        task = self._open.popleft()
        self._running.add(task[1].id)
        return task

    def give_back(self, task: Task) -> None:
        """Take back a task whose worker died; it is handed out again."""
        self._running.discard(task[1].id)
        self._open.appendleft(task)

    def finish(self, task: Task, record: Record) -> list[str]:
        """Note that a task has ended.

        Returns:
            Ids of trials whose weights nobody needs any more: their arm's choice is made and tested, and they are not
            in it.
        """
        kind, trial = task
        self._running.discard(trial.id)
        self._records[trial.id] = record
        if kind == "fit":
            self._failed_now += record["status"] == "failed"
            self._add_tests(_arm(trial))
        else:
            self._failed_now += record["test"] is None
        return self._unneeded(_arm(trial))

    def unneeded(self) -> list[str]:
        """Return the ids of all trials whose weights nobody needs any more."""
        return [trial_id for arm in self._arms for trial_id in self._unneeded(arm)]

    @property
    def is_finished(self) -> bool:
        """Whether nothing is open or running."""
        return not self._open and not self._running

    @property
    def open_fits(self) -> list[Trial]:
        """The trials that wait for their training."""
        return [trial for kind, trial in self._open if kind == "fit"]

    def work_left(self) -> int:
        """Training that has not ended yet, in the units of `Trial.work`."""
        arms = self._arms.values()
        return sum(trial.work for trials in arms for trial in trials if trial.id not in self._records)

    def counts(self) -> Counts:
        """Count the trials by what has become of them."""
        statuses = [record["status"] for record in self._records.values()]
        total = sum(len(trials) for trials in self._arms.values())
        running = len(self._running - set(self._records))
        return Counts(
            done=statuses.count("done"),
            failed=statuses.count("failed"),
            running=running,
            missing=total - len(self._records) - running,
            untested=sum(len(self._untested(arm)) for arm in self._arms),
            failed_now=self._failed_now,
        )

    def _add_tests(self, arm: Arm) -> None:
        waiting = {trial.id for kind, trial in self._open if kind == "test"} | self._running
        tests = [
            ("test", trial)
            for trial in self._untested(arm)
            if trial.id not in waiting and not self._records[trial.id].get("test_error")
        ]
        self._open.extendleft(reversed(tests))

    def _untested(self, arm: Arm) -> list[Trial]:
        return [trial for trial in self._selected(arm) if self._records[trial.id]["test"] is None]

    def _selected(self, arm: Arm) -> list[Trial]:
        trials = self._arms[arm]
        if any(trial.id not in self._records for trial in trials):
            return []
        chosen = chosen_learning_rates(self._records[trial.id] for trial in trials)
        return [trial for trial in trials if is_selected(self._records[trial.id], chosen)]

    def _unneeded(self, arm: Arm) -> list[str]:
        selected = self._selected(arm)
        if not selected or any(self._records[trial.id]["test"] is None for trial in selected):
            return []
        keep = {trial.id for trial in selected}
        return [trial.id for trial in self._arms[arm] if trial.id not in keep]


def _arm(trial: Trial) -> Arm:
    return (trial.model, trial.train_size)
