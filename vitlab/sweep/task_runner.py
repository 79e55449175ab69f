"""Having one task done by a worker, and knowing what became of it when the worker died, failed or could not write."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Protocol

from vitlab.sweep.owners import is_declared_dead
from vitlab.sweep.plan import Trial
from vitlab.sweep.record import blank_record
from vitlab.sweep.schedule import Task
from vitlab.sweep.store import Record, create_record, read_record, write_record
from vitlab.sweep.worker import Answer, Job, WorkerDiedError

MAX_DEATHS = 5  # of workers over one and the same trial; after that it is the trial that kills them


class Worker(Protocol):
    """Does jobs, one after the other."""

    def do(self, job: Job) -> Answer:
        """Do a job; raises WorkerDiedError where its process ended before it answered."""

    def interrupt(self) -> None:
        """Have the fit that it is doing saved at the end of its step."""

    def close(self) -> None:
        """End at once."""


class TaskRunner:
    """Gives tasks to workers; its methods may be called from many threads.

    Args:
        folder: The sweep folder.
        num_threads: CPU threads of a worker.
        save_every_seconds: How often a fit saves the state that it would go on from.
        owner: Id of the owner whose tasks they are.
    """

    def __init__(self, folder: Path, num_threads: int, save_every_seconds: float, owner: str) -> None:
        self.folder, self.num_threads, self.save_every_seconds = Path(folder), num_threads, save_every_seconds
        self._owner = owner
        self._deaths: Counter[str] = Counter()

    def run(self, worker: Worker, task: Task) -> Record | None:
        """Do a task; returns the trial's record, or None where it was interrupted or its worker died: to be done again.

        Raises:
            ValueError: The disk is full or cannot be written.
        """
        kind, trial = task
        try:
            answer = worker.do(self._job(kind, trial))
        except WorkerDiedError as death:
            record = read_record(self.folder, trial.id)
            if record is not None and kind == "fit":
                return record  # it died between the record and the answer
            self._deaths[trial.id] += 1
            if self._deaths[trial.id] < MAX_DEATHS:
                return None
            answer = {"status": "failed", "error": f"{death} ({MAX_DEATHS} times in a row; out of memory?)"}
        if answer["status"] == "interrupted":
            return None
        if answer["status"] == "unwritable":
            raise ValueError(
                f"cannot write into {self.folder}: {answer['error']}; make room and run the same command again, "
                "nothing is lost"
            )
        if answer["status"] == "failed":
            return self.note_failure(task, answer["error"])
        return read_record(self.folder, trial.id)

    def note_failure(self, task: Task, error: str) -> Record | None:
        """Write down that a task failed, unless its record says so already.

        A failing test leaves a trial done: an event on test data must not change what validation data chose.

        Returns:
            The record, or None where the task is to be done again: what fails after others took over (a laptop that
            slept loses its GPU) says nothing, and a test whose record was deleted needs its fit first.
        """
        kind, trial = task
        record = read_record(self.folder, trial.id)
        if is_declared_dead(self.folder, self._owner) or (kind == "test" and record is None):
            return None
        if kind == "fit" and record is None:
            create_record(self.folder, blank_record(trial, self.num_threads) | {"error": error})
            return read_record(self.folder, trial.id)
        if kind == "test" and not record.get("test_error"):
            record["test_error"] = error
            write_record(self.folder, record)
        return record

    def check_models(self, trials: Sequence[Trial], workers: Sequence[Worker], executor: Executor) -> None:
        """Build every model on its smallest and its largest data size before anything is trained.

        Args:
            trials: What will be trained, by growing size.
            workers: All of them work on it, since most of the time goes into imports.
            executor: Runs them.

        Raises:
            ValueError: A model cannot be built or trained; the message says which and why.
        """
        ends: dict[str, list[Trial]] = {}
        for trial in trials:
            ends[trial.model] = [*ends.get(trial.model, [trial])[:1], trial]
        checks = list({trial.id: trial for pair in ends.values() for trial in pair}.values())
        shares = [checks[index :: len(workers)] for index in range(len(workers))]
        pairs = zip(workers, shares, strict=True)
        for future in [executor.submit(self._check_share, worker, share) for worker, share in pairs]:
            for trial, answer in future.result():
                if answer["status"] == "failed":
                    arm = f"model {trial.model} with {trial.train_size} images"
                    raise ValueError(f"{arm} cannot be trained: {answer['error']}")

    def _check_share(self, worker: Worker, trials: Sequence[Trial]) -> list[tuple[Trial, Answer]]:
        return [(trial, self._answer_to_check(worker, self._job("check", trial))) for trial in trials]

    @staticmethod
    def _answer_to_check(worker: Worker, job: Job) -> Answer:
        for _ in range(MAX_DEATHS):
            try:
                return worker.do(job)
            except WorkerDiedError as death:
                answer = {"status": "failed", "error": str(death)}
        return answer

    def _job(self, kind: Any, trial: Trial) -> Job:
        return Job(kind, trial, str(self.folder), self.num_threads, self.save_every_seconds, self._owner)
