"""Running a sweep on this machine: in this process, or on persistent worker processes.

The launcher hands out tasks, sees workers die and replaces them, and ends on Ctrl-C with nothing half-written;
whatever it did not finish, the same command does.
"""

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vitlab.sweep.folder_lock import folder_lock
from vitlab.sweep.plan import Plan, Trial, check_folder, write_plan
from vitlab.sweep.progress import Progress
from vitlab.sweep.record import blank_record
from vitlab.sweep.schedule import Counts, Schedule, Task
from vitlab.sweep.store import (
    Record,
    read_record,
    read_records,
    record_path,
    remove_unfinished,
    remove_weights,
    retried,
    write_record,
    write_running,
)
from vitlab.sweep.worker import Answer, Job, WorkerDiedError, do
from vitlab.sweep.worker_process import WorkerProcess

_MAX_DEATHS = 5  # of workers over one and the same trial; after that it is the trial that kills them
_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class LocalLauncher:
    """Run a sweep on this machine.

    Args:
        num_workers: Trials at a time; 1 runs them in this process.
        num_threads: CPU threads of each; None divides the cores among the workers.
    """

    num_workers: int = 1
    num_threads: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("--workers", self.num_workers), ("--threads", self.num_threads)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; give 1 or more")

    def run(self, plan: Plan, folder: Path, retry_failed: bool = False) -> Counts:
        """Run what is missing of a sweep.

        Args:
            plan: The sweep.
            folder: Where its records are and will be.
            retry_failed: Whether trials that failed before run again.

        Returns:
            How many trials are done, failed and missing at the end.

        Raises:
            ValueError: The folder is another sweep's, another launcher is at work in it, or the settings of a model
                cannot be right; nothing has been trained then.
            KeyboardInterrupt: The user stopped it.
        """
        check_folder(folder, plan)
        with folder_lock(folder) as lock:
            check_folder(folder, plan)  # again: another launcher may have been here in between
            remove_unfinished(folder)
            records = read_records(folder)
            schedule = Schedule(plan, [retried(record) for record in records] if retry_failed else records)
            if schedule.is_finished:
                write_plan(folder, plan)
                remove_weights(folder, schedule.unneeded())
                return schedule.counts()
            threads = self.num_threads or max(1, num_cores() // self.num_workers)
            if self.num_workers == 1:
                _Session(plan, folder, threads, [_InProcessWorker()], _InlineExecutor()).run(schedule)
            else:
                logs = Path(folder) / "logs"
                workers = [
                    WorkerProcess(index, threads, logs / f"worker-{index}.log", lock)
                    for index in range(self.num_workers)
                ]
                try:
                    with ThreadPoolExecutor(self.num_workers) as pool:
                        _Session(plan, folder, threads, workers, pool).run(schedule)
                finally:
                    for worker in workers:
                        worker.release()
            return schedule.counts()


def num_cores() -> int:
    """Cores that this process may use; macOS does not tell, and then it is all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker(Protocol):
    def do(self, job: Job) -> Answer: ...

    def close(self) -> None: ...


class _InProcessWorker:
    """Does jobs in this process: simplest to debug, and no start-up to pay for."""

    def do(self, job: Job) -> Answer:
        with _ctrl_c_remembered() as pressed:
            try:
                answer = do(job)
            except SystemExit as stop:  # what Lightning makes of Ctrl-C
                raise KeyboardInterrupt from stop
        if pressed:
            raise KeyboardInterrupt
        return answer

    def close(self) -> None:
        """Nothing to end."""


@contextlib.contextmanager
def _ctrl_c_remembered() -> Iterator[list[int]]:
    """Yield a list that is not empty once Ctrl-C was pressed.

    Python drops an interrupt that is raised inside a finalizer, with a traceback; such a one is raised a moment later.
    """
    again: list[threading.Timer] = []
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread hears of signals
        yield pressed
        return

    def remember(number: int, frame: Any) -> None:
        pressed.append(number)
        if not _is_in_finalizer(frame):
            signal.default_int_handler(number, frame)
        again.append(threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)))
        again[-1].start()

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield pressed
    finally:
        for timer in again:
            timer.cancel()
        signal.signal(signal.SIGINT, before)


def _is_in_finalizer(frame: Any) -> bool:
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


class _InlineExecutor(Executor):
    """Runs what is submitted there and then."""

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Future:
        future: Future = Future()
        future.set_result(function(*args, **options))
        return future


@dataclass
class _Session:
    """One run of a launcher over one sweep folder."""

    plan: Plan
    folder: Path
    num_threads: int
    workers: Sequence[_Worker]
    executor: Executor

    def run(self, schedule: Schedule) -> None:
        try:
            self._check(schedule)
            write_plan(self.folder, self.plan)
            remove_weights(self.folder, schedule.unneeded())
            for trial in schedule.open_fits:  # a failed trial that is retried counts as missing from here on
                record_path(self.folder, trial.id).unlink(missing_ok=True)
            self._work_off(schedule)
        finally:
            for worker in self.workers:  # before the executor waits for its threads, which wait for the workers
                worker.close()

    def _check(self, schedule: Schedule) -> None:
        """Build every model on its smallest and its largest data size before anything is trained."""
        ends: dict[str, list[Trial]] = {}
        for trial in schedule.open_fits:  # by growing size
            ends[trial.model] = [*ends.get(trial.model, [trial])[:1], trial]
        checks = list({trial.id: trial for trials in ends.values() for trial in trials}.values())
        shares = [checks[index :: len(self.workers)] for index in range(len(self.workers))]
        pairs = zip(self.workers, shares, strict=True)  # all at once: most of the time goes into imports
        for future in [self.executor.submit(self._check_models, worker, trials) for worker, trials in pairs]:
            for trial, answer in future.result():
                if answer["status"] == "failed":
                    arm = f"model {trial.model} with {trial.train_size} images"
                    raise ValueError(f"{arm} cannot be trained: {answer['error']}")

    def _check_models(self, worker: _Worker, trials: Sequence[Trial]) -> list[tuple[Trial, Answer]]:
        return [(trial, self._answer_to_check(worker, self._job("check", trial))) for trial in trials]

    @staticmethod
    def _answer_to_check(worker: _Worker, job: Job) -> Answer:
        for _ in range(_MAX_DEATHS):
            try:
                return worker.do(job)
            except WorkerDiedError as death:
                answer = {"status": "failed", "error": str(death)}
        return answer

    def _work_off(self, schedule: Schedule) -> None:
        progress = Progress(self.plan.task, len(self.plan.trials), schedule)
        idle, running, deaths = list(self.workers), {}, Counter()
        while not schedule.is_finished:
            while idle and (task := schedule.take()):
                worker = idle.pop()
                progress.show()
                write_running(self.folder, [trial.id for _, (_, trial) in running.values()] + [task[1].id])
                running[self.executor.submit(self._do, worker, task, deaths)] = (worker, task)
            ended, _ = wait(running, timeout=_SECONDS_BETWEEN_LOOKS, return_when=FIRST_COMPLETED)
            for future in ended:
                worker, task = running.pop(future)
                idle.append(worker)
                self._note(schedule, task, future.result(), progress)
            progress.show()
        progress.close()

    def _do(self, worker: _Worker, task: Task, deaths: Counter[str]) -> Record | None:
        """Do a task and return the trial's record, or None where the worker died and the task is to be done again."""
        kind, trial = task
        try:
            answer = worker.do(self._job(kind, trial))
        except WorkerDiedError as death:
            record = read_record(self.folder, trial.id)
            if record is not None and kind == "fit":
                return record  # it died between the record and the answer
            deaths[trial.id] += 1
            if deaths[trial.id] < _MAX_DEATHS:
                return None
            answer = {"status": "failed", "error": f"{death} ({_MAX_DEATHS} times in a row; out of memory?)"}
        record = read_record(self.folder, trial.id) or blank_record(trial, self.num_threads)
        if answer["status"] == "failed":
            # A failing test leaves a trial done: an event on test data must not change what validation data chose.
            name = "test_error" if kind == "test" else "error"
            record[name] = record.get(name) or answer["error"]
            write_record(self.folder, record)
        return record

    def _note(self, schedule: Schedule, task: Task, record: Record | None, progress: Progress) -> None:
        if record is None:
            schedule.give_back(task)
            return
        error = record.get("test_error") if task[0] == "test" else record["error"]
        if error:
            trial = task[1]
            where = f"{trial.model}, {trial.train_size} images, seed {trial.seed}, rate {trial.learning_rate:g}"
            progress.write(f"{task[0]} failed: {where}: {error}")
        remove_weights(self.folder, schedule.finish(task, record))

    def _job(self, kind: Any, trial: Trial) -> Job:
        return Job(kind, trial, str(self.folder), self.num_threads)
