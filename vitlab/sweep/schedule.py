"""What to do next in a sweep: first train, then test what validation data chose. Pure bookkeeping, no processes.

An arm is one model at one data size. Only when all its trials have ended is its learning rate chosen, and only then
are the trials at that rate tested: nobody sees a test number that could steer a choice. Where rates are searched for,
an arm whose trials have ended may get more of them, and is chosen for when the search is over.

Everything here takes the same time for a sweep of ten trials and of a hundred thousand, but for the beginning.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from vitlab.sweep.plan import Plan, Trial
from vitlab.sweep.rate_search import grown, num_undecided, unstarted_trials
from vitlab.sweep.selection import Arm, chosen_learning_rates, is_selected
from vitlab.sweep.store import Record

Task = tuple[Literal["fit", "test"], Trial]


@dataclass(frozen=True)
class Counts:
    """How far a sweep is, in trials.

    `untested` are done and selected, but the test data could not be or has not been read; `failed_now` is how many
    trainings and tests have failed since this schedule was made, `elsewhere` how many others are at work on. Trials
    that a search for learning rates has yet to name are missing as well.
    """

    done: int
    failed: int
    running: int
    missing: int
    untested: int
    failed_now: int = 0
    elsewhere: int = 0

    @property
    def total(self) -> int:
        """All trials."""
        return self.done + self.failed + self.running + self.missing


class Schedule:
    """The tasks of a sweep that are still open.

    Args:
        plan: All trials.
        records: What has ended before; records of other plans are ignored.
        may_do: Which tasks are for this schedule to hand out; the others are only heard of.
    """

    def __init__(
        self, plan: Plan, records: Iterable[Record | None], may_do: Callable[[Task], bool] = lambda task: True
    ) -> None:
        by_id = {record["id"]: record for record in records if record}
        self._plan = grown(plan, by_id)
        self._may_do = may_do
        self._trials: dict[str, Trial] = {}
        self._records: dict[str, Record] = {}
        self._statuses: Counter[str] = Counter()
        self._work_left = 0
        self._failed_now = 0
        self._arms: dict[Arm, list[Trial]] = {}
        self._num_unfinished: Counter[Arm] = Counter()
        self._selected: dict[Arm, list[Trial]] = {}
        self._untested: set[str] = set()
        self._running: set[str] = set()
        self._elsewhere: dict[str, Task] = {}
        self._open: dict[str, OrderedDict[str, Task]] = {"test": OrderedDict(), "fit": OrderedDict()}
        self._add(self._plan.trials, by_id)
        for arm in reversed(self._arms):
            self._add_tests(arm)

    @property
    def plan(self) -> Plan:
        """The plan, with all that it has grown by."""
        return self._plan

    def grow(self, plan: Plan) -> None:
        """Take in what a plan of the same sweep has more, such as other launchers have added."""
        united = self._plan if plan is self._plan else self._plan.with_growth_of(plan)
        if united == self._plan:
            return
        self._plan = grown(united, self._records)
        new = [trial for trial in self._plan.trials if trial.id not in self._trials]
        for arm in {_arm(trial) for trial in new}:  # what it has chosen counts no more until these have ended
            for trial in self._selected.pop(arm, ()):
                self._untested.discard(trial.id)
                self._open["test"].pop(trial.id, None)
        self._add(new, {})

    def _add(self, trials: Iterable[Trial], records: Mapping[str, Record]) -> None:
        for trial in trials:
            self._trials[trial.id] = trial
            self._arms.setdefault(_arm(trial), []).append(trial)
            if trial.id in records:
                self._records[trial.id] = records[trial.id]
                self._statuses[records[trial.id]["status"]] += 1
                continue
            self._num_unfinished[_arm(trial)] += 1
            self._work_left += trial.work
            if self._may_do(("fit", trial)):
                self._open["fit"][trial.id] = ("fit", trial)

    def take(self, with_fits: bool = True) -> Task | None:
        """Hand out the next task, tests first.

        Args:
            with_fits: False hands out tests only.

        Returns:
            None where there is none at present, or no more at all: see `is_finished`.
        """
        for kind in ("test", "fit") if with_fits else ("test",):
            if self._open[kind]:
                trial_id, task = self._open[kind].popitem(last=False)
                self._running.add(trial_id)
                return task
        return None

    def give_back(self, task: Task) -> None:
        """Take back a task whose worker died; it is handed out again, as the next."""
        self._running.discard(task[1].id)
        self._put_in_front(task)

    def set_aside(self, task: Task) -> None:
        """Take back a task that another launcher is at work on; `look_again` hands it out once more."""
        self._running.discard(task[1].id)
        self._elsewhere[task[1].id] = task

    def look_again(self) -> None:
        """Let the tasks that others were at work on be taken, after all others: their launcher may have died."""
        for kind, trial in self._elsewhere.values():
            self._open[kind][trial.id] = (kind, trial)
        self._elsewhere.clear()

    def finish(self, task: Task, record: Record) -> list[str]:
        """Note that a task has ended, here or elsewhere.

        Returns:
            Ids of trials whose weights nobody needs any more: their arm's choice is made and tested, and they are not
            in it.
        """
        kind, trial = task
        self._forget(trial.id)
        if kind == "fit":
            self._failed_now += record["status"] == "failed"
        else:
            self._failed_now += record["test"] is None
        return self._note(trial, record)

    def note(self, record: Record) -> list[str]:
        """Note a record that another launcher has written; returns what `finish` returns."""
        trial = self._trials.get(record["id"])
        is_news = record["id"] not in self._records or record["test"] is not None or record.get("test_error")
        if trial is None or record["id"] in self._running or not is_news:
            return []
        self._forget(trial.id)
        return self._note(trial, record)

    def unneeded(self) -> list[str]:
        """Return the ids of all trials whose weights nobody needs any more."""
        return [trial_id for arm in self._arms for trial_id in self._unneeded(arm)]

    @property
    def is_finished(self) -> bool:
        """Whether nothing is open or running, here or elsewhere."""
        return not self.num_open and not self._running and not self._elsewhere

    @property
    def open_fits(self) -> list[Trial]:
        """The trials that wait for their training, and one of each arm that a search has not come to, by size."""
        trials = [trial for _, trial in self._open["fit"].values()]
        later = [trial for trial in unstarted_trials(self._plan) if self._may_do(("fit", trial))]
        return sorted([*trials, *later], key=lambda trial: trial.train_size) if later else trials

    @property
    def num_open(self) -> int:
        """How many tasks nobody is known to be at work on."""
        return sum(map(len, self._open.values()))

    @property
    def open_tasks(self) -> list[Task]:
        """The tasks nobody is known to be at work on."""
        return [task for tasks in self._open.values() for task in tasks.values()]

    @property
    def finished_ids(self) -> set[str]:
        """The trials whose training has ended, as far as is known here."""
        return set(self._records)

    @property
    def elsewhere(self) -> list[Task]:
        """The tasks that others were at work on when they were last asked for."""
        return list(self._elsewhere.values())

    def work_left(self) -> int:
        """Training that has not ended yet, in the units of `Trial.work`."""
        later = num_undecided(self._plan)
        return self._work_left + sum(number * self._plan.work_at(*arm) for arm, number in later.items())

    def counts(self) -> Counts:
        """Count the trials by what has become of them."""
        running = sum(trial_id not in self._records for trial_id in self._running)
        return Counts(
            done=self._statuses["done"],
            failed=self._statuses["failed"],
            running=running,
            missing=len(self._trials) - len(self._records) - running + sum(num_undecided(self._plan).values()),
            untested=len(self._untested),
            failed_now=self._failed_now,
            elsewhere=len(self._elsewhere),
        )

    def _forget(self, trial_id: str) -> None:
        self._running.discard(trial_id)
        for tasks in (self._elsewhere, *self._open.values()):
            tasks.pop(trial_id, None)

    def _put_in_front(self, task: Task) -> None:
        kind, trial = task
        self._open[kind][trial.id] = task
        self._open[kind].move_to_end(trial.id, last=False)

    def _note(self, trial: Trial, record: Record) -> list[str]:
        arm, before = _arm(trial), self._records.get(trial.id)
        self._records[trial.id] = record
        self._statuses[record["status"]] += 1
        if before is None:
            self._num_unfinished[arm] -= 1
            self._work_left -= trial.work
            self._search(arm)
            self._add_tests(arm)
        else:
            self._statuses[before["status"]] -= 1
            if record["test"] is not None:
                self._untested.discard(trial.id)
        return self._unneeded(arm)

    def _search(self, arm: Arm) -> None:
        """Once an arm is trained, see what its search asks for next, here and at the next larger size."""
        if not self._num_unfinished[arm]:
            self.grow(grown(self._plan, self._records, [arm[0]]))

    def _add_tests(self, arm: Arm) -> None:
        """Once an arm is trained, choose its learning rate and put the tests of that choice in front."""
        if self._num_unfinished[arm]:
            return
        records = self._records
        chosen = chosen_learning_rates((records[trial.id] for trial in self._arms[arm]), self._plan)
        self._selected[arm] = [trial for trial in self._arms[arm] if is_selected(records[trial.id], chosen)]
        untested = [trial for trial in self._selected[arm] if records[trial.id]["test"] is None]
        self._untested.update(trial.id for trial in untested)
        for trial in reversed(untested):
            if not records[trial.id].get("test_error") and self._may_do(("test", trial)):
                self._put_in_front(("test", trial))

    def _unneeded(self, arm: Arm) -> list[str]:
        selected = self._selected.get(arm, [])
        if not selected or any(trial.id in self._untested for trial in selected):
            return []
        keep = {trial.id for trial in selected}
        return [trial.id for trial in self._arms[arm] if trial.id not in keep]


def _arm(trial: Trial) -> Arm:
    return (trial.model, trial.train_size)
