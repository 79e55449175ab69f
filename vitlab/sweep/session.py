"""One owner's work in a sweep folder, whoever else works there: claim a task, have it done, note what came out.

A launcher on a laptop, a job on a cluster and a shard of another scheduler are all sessions. Each takes whatever is
open from the folder; nothing is assigned beforehand, so whoever disappears loses only what was in its hands.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from vitlab.sweep import store
from vitlab.sweep.claims import Claim, Claims, remove_claims
from vitlab.sweep.in_process import InlineExecutor, InProcessWorker
from vitlab.sweep.owners import Kind, Owner, Watch, bury_the_dead, owner_path
from vitlab.sweep.plan import Plan
from vitlab.sweep.plan_file import check_folder, write_plan
from vitlab.sweep.progress import Progress
from vitlab.sweep.schedule import Counts, Schedule, Task
from vitlab.sweep.session_settings import SessionSettings
from vitlab.sweep.shared_plan import SharedPlan, forget_failed_arms
from vitlab.sweep.store import Record
from vitlab.sweep.task_runner import TaskRunner, Worker
from vitlab.sweep.worker_process import WorkerProcess

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_BETWEEN_REFRESHES = 2.0
_SECONDS_TO_SAVE = 60.0  # that running trials get when the session is stopped


class Session:
    """One owner's work in one sweep folder.

    Args:
        plan: The sweep.
        folder: Where its records are and will be.
        settings: How to work.
        kind: local, shard or slurm.
        details: What others shall know of this owner; `will_take` is kept up to date in it.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        settings: SessionSettings,
        kind: Kind = "local",
        details: dict[str, Any] | None = None,
    ) -> None:
        self.plan, self.folder, self.settings = plan, Path(folder), settings
        self.was_stopped = False
        self._owner = Owner(folder, kind, settings.patience_seconds, details or {}, self.stop)
        self._details = self._owner.details
        self._workers: list[Worker] = []
        self._runner = TaskRunner(self.folder, settings.threads, settings.save_every_seconds, self._owner.id)
        self._fits_left = sys.maxsize if settings.max_fits is None else settings.max_fits
        self._retry: dict[str, int] = {}  # the failures that are to be tried again, and when they were written
        if settings.max_fits is not None:
            self._details["will_take"] = settings.max_fits

    def run(self) -> Counts:
        """Do what is open, until nothing is, the number of fits is reached or the session is stopped.

        Returns:
            How many trials are done, failed and missing at the end, as far as this session has seen.

        Raises:
            ValueError: The folder is another sweep's, the settings of a model cannot be right (nothing has been
                trained then), or records cannot be written.
            OwnerLostError: Others took this session for dead.
            KeyboardInterrupt: The user stopped it.
        """
        check_folder(self.folder, self.plan)
        with self._owner as owner:
            self.plan = check_folder(self.folder, self.plan)  # again: another launcher may have been here in between
            self._claims = Claims(owner, watch := Watch(self.folder))
            if _is_alone(owner, watch):
                store.remove_unfinished(self.folder, owner_path(self.folder, owner.id).stat().st_mtime)
            schedule = self._make_schedule()
            self._shared_plan = SharedPlan(self.folder, schedule)
            if schedule.is_finished:
                self._begin(schedule)
                self._tidy(schedule, watch)
                return schedule.counts()
            try:
                with self._working() as executor:
                    if self.settings.is_launcher:
                        self._runner.check_models(schedule.open_fits, self._workers, executor)
                    self._begin(schedule)
                    self._work_off(schedule, executor)
            finally:
                self._claims.give_back_all()
            self._tidy(schedule, watch)
            return schedule.counts()

    def stop(self) -> None:
        """Have running fits saved and given back, and end; safe to call in a signal's handler and from any thread."""
        self.was_stopped = True
        self._details["stopping"] = True
        for worker in self._workers:
            worker.interrupt()

    def _make_schedule(self) -> Schedule:
        records = store.read_outlines(self.folder)
        if self.settings.retry_failed:
            self.plan = forget_failed_arms(self.folder, self.plan, records)
            records = store.read_outlines(self.folder)
            failed = [record["id"] for record in records if record["error"] or record.get("test_error")]
            self._retry = {trial_id: self._written_at(trial_id) for trial_id in failed}
            return Schedule(self.plan, [store.retried(record) for record in records], self.settings.may_do)
        return Schedule(self.plan, records, self.settings.may_do)

    def _written_at(self, trial_id: str) -> int:
        path = store.record_path(self.folder, trial_id)
        return path.stat().st_mtime_ns if path.exists() else 0

    def _is_to_be_retried(self, trial_id: str) -> bool:
        """Whether the failure of a trial is the one that there was at the beginning, and no later one."""
        return trial_id in self._retry and self._retry[trial_id] == self._written_at(trial_id)

    def _begin(self, schedule: Schedule) -> None:
        write_plan(self.folder, self.plan)
        self._shared_plan.sync()
        store.remove_weights(self.folder, schedule.unneeded())

    def _tidy(self, schedule: Schedule, watch: Watch) -> None:
        """Clear away what killed owners have left of a sweep that is done."""
        self._shared_plan.sync()
        if schedule.counts().missing == 0 and _is_alone(self._owner, watch):
            remove_claims(self.folder, schedule.finished_ids)
            bury_the_dead(self.folder)

    @contextlib.contextmanager
    def _working(self) -> Iterator[Executor]:
        """Have workers as long as the block lasts."""
        if self.settings.in_process:
            self._workers = [InProcessWorker()]
            yield InlineExecutor()
            return
        settings, logs = self.settings, self.folder / "logs"
        self._workers = [
            WorkerProcess(
                number, settings.threads, logs / f"{self._owner.id}-{number}.log", self._owner.lock, settings.program
            )
            for number in range(settings.num_workers)
        ]
        try:
            with ThreadPoolExecutor(len(self._workers)) as pool:
                try:
                    yield pool
                finally:
                    for worker in self._workers:  # before the pool waits for its threads, which wait for the workers
                        worker.close()
        finally:
            for worker in self._workers:
                worker.release()

    def _work_off(self, schedule: Schedule, executor: Executor) -> None:
        running: dict[Future, tuple[Worker, Task]] = {}
        progress = Progress(self.plan.task, schedule)
        try:
            self._loop(schedule, executor, running, progress)
        except KeyboardInterrupt:
            if running:
                progress.write("saving the trials in training; Ctrl-C again stops at once")
                self.stop()
                self._drain(schedule, running, progress)
            raise
        except (OSError, ValueError):  # a full disk, a broken record: what runs in other workers is to be kept
            self.stop()
            with contextlib.suppress(OSError, ValueError):
                self._drain(schedule, running, progress)
            raise
        if self.was_stopped:
            self._drain(schedule, running, progress)
        self._owner.check()
        progress.close()

    def _loop(self, schedule: Schedule, executor: Executor, running: dict, progress: Progress) -> None:
        idle, next_refresh = list(self._workers), 0.0
        while not self.was_stopped and not schedule.is_finished:
            while idle and not self.was_stopped and (task := self._next_task(schedule)):
                worker = idle.pop()
                progress.show()
                running[executor.submit(self._runner.run, worker, task)] = (worker, task)
            if running:
                idle += self._note_ended(schedule, running, progress, _SECONDS_BETWEEN_LOOKS)
            elif self._fits_left and self.settings.is_launcher:
                time.sleep(_SECONDS_BETWEEN_LOOKS)  # what is left is in others' hands
            if time.monotonic() >= next_refresh or not running:
                start = time.monotonic()
                self._refresh(schedule)
                next_refresh = time.monotonic() + max(_SECONDS_BETWEEN_REFRESHES, 20 * (time.monotonic() - start))
            progress.show()
            if not running and not self._may_go_on(schedule):
                return

    def _may_go_on(self, schedule: Schedule) -> bool:
        """Whether there may be something to do for a session that has nothing at hand."""
        if self.settings.is_launcher and self._fits_left:
            return True
        task = self._next_task(schedule)  # a job does not wait for others, but it looks once more
        if task is not None:
            self._give_back(schedule, task)
        return task is not None

    def _next_task(self, schedule: Schedule) -> Task | None:
        """Claim the next task that is not done and that nobody else has."""
        while task := schedule.take(with_fits=self._fits_left > 0):
            trial = task[1]
            claim = self._claims.claim(trial.id)
            if claim is None:
                schedule.set_aside(task)
                continue
            record = self._what_became_of(task, claim)
            if record is None:
                self._count_fit(task, -1)
                return task
            self._finish(schedule, task, record)
        return None

    def _give_back(self, schedule: Schedule, task: Task) -> None:
        self._claims.give_back(task[1].id)
        schedule.give_back(task)
        self._count_fit(task, 1)

    def _count_fit(self, task: Task, change: int) -> None:
        self._fits_left += change if task[0] == "fit" else 0
        if self.settings.max_fits is not None:
            self._details["will_take"] = self._fits_left

    def _what_became_of(self, task: Task, claim: Claim) -> Record | None:
        """Return the record of a task that has been done meanwhile, or that must not be tried again."""
        kind, trial = task
        record = store.read_record(self.folder, trial.id)
        if record is not None and self._is_to_be_retried(trial.id):
            del self._retry[trial.id]
            if kind == "fit" and record["status"] == "failed":
                store.record_path(self.folder, trial.id).unlink(missing_ok=True)
                return None
            record |= {"test_error": None}
        if record is not None and (kind == "fit" or record["test"] is not None or record.get("test_error")):
            return record
        if kind == "fit" and claim.num_vanished_jobs >= self.settings.max_attempts:
            count = claim.num_vanished_jobs
            words = f"its job vanished {count} times without a word (killed from outside, out of memory, a lost node?)"
            return self._runner.note_failure(task, words)
        return None

    def _note_ended(self, schedule: Schedule, running: dict, progress: Progress, seconds: float) -> list[Worker]:
        """Wait a while for tasks to end, and return the workers that are free again."""
        free = []
        for future in wait(running, timeout=seconds, return_when=FIRST_COMPLETED)[0]:
            worker, task = running.pop(future)
            free.append(worker)
            record = future.result()
            if record is None:
                self._give_back(schedule, task)
                continue
            _say_what_failed(task, record, progress)
            self._finish(schedule, task, record)
        return free

    def _finish(self, schedule: Schedule, task: Task, record: Record) -> None:
        self._claims.finish(task[1].id)
        store.remove_weights(self.folder, schedule.finish(task, record))
        self._shared_plan.sync()

    def _refresh(self, schedule: Schedule) -> None:
        """See what others have done and planned, and let what they were at work on be asked for again."""
        self._shared_plan.sync()
        new = store.record_ids(self.folder) - schedule.finished_ids
        tests = {trial.id for kind, trial in schedule.elsewhere if kind == "test"}
        for record in store.read_outlines(self.folder, new | tests):
            if not self._is_to_be_retried(record["id"]):
                store.remove_weights(self.folder, schedule.note(record))
        self._shared_plan.sync()
        schedule.look_again()

    def _drain(self, schedule: Schedule, running: dict, progress: Progress) -> None:
        """Wait until the running tasks have ended or saved themselves."""
        deadline = time.monotonic() + _SECONDS_TO_SAVE
        while running and time.monotonic() < deadline:
            self._note_ended(schedule, running, progress, _SECONDS_BETWEEN_LOOKS)


def _is_alone(owner: Owner, watch: Watch) -> bool:
    return [other.id for other in watch.living()] == [owner.id]


def _say_what_failed(task: Task, record: Record, progress: Progress) -> None:
    kind, trial = task
    error = record.get("test_error") if kind == "test" else record["error"]
    if error:
        where = f"{trial.model}, {trial.train_size} images, seed {trial.seed}, rate {trial.learning_rate:g}"
        progress.write(f"{kind} failed: {where}: {error}")
