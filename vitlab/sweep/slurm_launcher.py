"""Running a sweep on a SLURM cluster: submit jobs, watch the records, and submit again for what went missing.

A job has no trials of its own: it takes what is open in the folder. So the launcher only sees to it that the jobs there
are will take all trials that are left, and submits more when they will not, because some were cancelled, lost or out
of time. It may end at any moment and come back: what was submitted stands in the folder, the records are the truth.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vitlab.sweep import slurm_queue, store
from vitlab.sweep.claims import REFINING, SUBMITTING, Claims, claimed_trials, remove_claims
from vitlab.sweep.local_launcher import SweepStoppedError
from vitlab.sweep.owners import Heartbeat, Owner, Watch, bury_the_dead, owner_path, stop_path
from vitlab.sweep.plan import Plan
from vitlab.sweep.plan_file import check_folder, write_plan
from vitlab.sweep.progress import Progress
from vitlab.sweep.schedule import Counts, Schedule
from vitlab.sweep.session_settings import SessionSettings
from vitlab.sweep.shared_plan import SharedPlan, forget_failed_arms
from vitlab.sweep.slurm_checks import check_devices, check_models, check_submitit
from vitlab.sweep.slurm_job import Shape, SlurmJob
from vitlab.sweep.slurm_queue import QueueUnavailableError
from vitlab.sweep.slurm_submission import JobResources, JobsRefusedError, check_request, submit
from vitlab.sweep.slurm_watch import SlurmWatch, jobs_needed
from vitlab.sweep.srun import shape_of

_LOOKS_PER_PATIENCE = 4.5
_SECONDS_BETWEEN_GLANCES = 2.0  # at the records
_DOUBTING_PATIENCES = 1.5  # how long --no-wait stays for owners that may be dead, in patiences
_SECONDS_TO_END = 10.0  # that jobs get to end by themselves once all trials are done


@dataclass(frozen=True)
class SlurmLauncher:
    """Run a sweep as jobs of a SLURM cluster.

    Args:
        resources: What each job asks for.
        settings: How a job works: trials at a time, threads (default: the job's CPUs per trial), patience. SLURM is
            asked for its queue four or five times in this patience, which is every ten seconds where nothing is said.
        trials_per_job: How many trials a job takes, so that imports and data are loaded once for all of them.
        max_parallel: How many jobs of this sweep run at a time; None leaves that to SLURM.
        wait: Whether to stay, show progress and submit again what goes missing; False returns after submitting.
    """

    resources: JobResources = field(default_factory=JobResources)
    settings: SessionSettings = field(default_factory=SessionSettings)
    trials_per_job: int = 1
    max_parallel: int | None = None
    wait: bool = True

    def __post_init__(self) -> None:
        for option, value in (("--trials-per-job", self.trials_per_job), ("--max-parallel", self.max_parallel)):
            if value is not None and value < 1:
                raise ValueError(f"{option} is {value}; give 1 or more")
        if self.trials_per_job < self.settings.num_workers:
            raise ValueError(
                f"--workers is {self.settings.num_workers} and --trials-per-job {self.trials_per_job}: some workers of "
                f"a job would have nothing to do; give --trials-per-job {self.settings.num_workers} or more"
            )

    def run(self, plan: Plan, folder: Path) -> Counts:
        """Submit what is missing of a sweep, and see it through.

        Args:
            plan: The sweep.
            folder: Where its records are and will be, on a file system that the cluster's nodes share.

        Returns:
            How many trials are done, failed and missing at the end.

        Raises:
            ValueError: There is no SLURM here, it refuses the jobs, the folder is another sweep's or cannot be
                written, or the settings of a model cannot be right.
            SweepStoppedError: `vitlab cancel` asked it to stop.
            KeyboardInterrupt: The user stopped it; the jobs go on.
        """
        check_devices(plan, self.resources)
        slurm_queue.check_available()
        check_submitit()
        folder = Path(folder).resolve()  # the jobs start in other places
        check_folder(folder, plan)
        with Owner(folder, "local", self.settings.patience_seconds, {"launcher": "slurm"}) as owner:
            check_folder(folder, plan)  # again: another launcher may have been here in between
            plan = write_plan(
                folder, plan
            )  # before any claim: a folder with claims and no plan would not be taken for ours
            return _Campaign(self, plan, owner).run()


class _Campaign:
    """One launcher at work on one folder."""

    def __init__(self, launcher: SlurmLauncher, plan: Plan, owner: Owner) -> None:
        self._launcher, self._plan, self._owner, self._folder = launcher, plan, owner, owner.folder
        self._living = Watch(owner.folder)
        self._claims = Claims(owner, self._living)
        self._may_submit = self._claims.claim(SUBMITTING) is not None
        if launcher.settings.retry_failed:
            self._forget_failures()
        self._jobs = SlurmWatch(owner.folder, launcher.settings.max_attempts, self._say)
        self._schedule = Schedule(self._plan, store.read_outlines(owner.folder))
        self._shared_plan = SharedPlan(owner.folder, self._schedule)
        self._failed_before = self._schedule.counts().failed
        self._holders: dict[str, str] = {}  # which living owner holds which trial
        self._missing: Counter[Shape] = Counter()  # how many jobs too few there were at the last look
        self._are_checked = False  # the models
        self._said_before: set[str] = set()
        self._said_now: set[str] = set()
        self._progress: Progress | None = None

    def run(self) -> Counts:
        """Submit and watch until all trials have ended."""
        try:
            self._shared_plan.sync()
            store.remove_weights(self._folder, self._schedule.unneeded())
            if not self._schedule.is_finished:
                self._progress = Progress(self._plan.task, self)
                self._work()
                self._progress.close()
            if self._schedule.is_finished:
                self._tidy()
        except KeyboardInterrupt:
            self._say(
                "\nthe cluster jobs go on without this command; type it again to watch them, or "
                f"`vitlab cancel {self._folder}` to end them"
            )
            raise
        finally:
            self._claims.finish(SUBMITTING)
        return self.counts()

    def counts(self) -> Counts:
        """Count the trials; the running ones are those that anybody works on."""
        counts = self._schedule.counts()
        running = len(self._holders.keys() - self._schedule.finished_ids)
        failed_now = max(0, counts.failed - self._failed_before)
        return replace(counts, running=running, missing=counts.missing - running, failed_now=failed_now)

    def work_left(self) -> int:
        """Training that has not ended yet, for the progress bar."""
        return self._schedule.work_left()

    def _work(self) -> None:
        is_first_look = True
        if self._plan.searches_rates and not self._launcher.wait:
            self._say("learning rates are tuned in stages; the same command asks for the next one's jobs")
        doubts_end = time.monotonic() + _DOUBTING_PATIENCES * self._launcher.settings.patience_seconds
        while not self._schedule.is_finished:
            try:
                self._look(is_first_look)
            except QueueUnavailableError as error:
                if is_first_look and not (self._launcher.wait and self._jobs.num_live):
                    raise ValueError(str(error)) from error
                self._say(f"{error}; waiting for it, nothing is lost")
            if not self._launcher.wait:
                if not self._jobs.is_in_doubt or time.monotonic() > doubts_end:
                    return
                self._say("some jobs are gone that had not ended in order; staying to see whether they still work")
            is_first_look = False
            self._rest()
        try:
            if number := self._jobs.cancel_waiting():
                self._say(f"cancelled {number} jobs that have nothing left to do")
        except QueueUnavailableError as error:
            self._say(f"{error}; jobs that still wait will find nothing to do")

    def _rest(self) -> None:
        """Watch the records until the queue is worth another look."""
        wake = time.monotonic() + self._launcher.settings.patience_seconds / _LOOKS_PER_PATIENCE
        self._read_records()
        while not self._schedule.is_finished and (left := wake - time.monotonic()) > 0:
            self._progress.show()
            time.sleep(min(_SECONDS_BETWEEN_GLANCES, left))
            if self._is_asked_to_stop():
                raise SweepStoppedError(0)
            self._read_records()
        self._said_before, self._said_now = self._said_now, set()

    def _look(self, is_first_look: bool) -> None:
        """See what became of the jobs, and submit more if they will not do all that is left."""
        self._owner.check()
        living, holders = self._living.living(), claimed_trials(self._folder)
        living = self._jobs.look(living, set(holders.values()))
        names = {owner.id for owner in living}
        trials = holders.keys() - {SUBMITTING, REFINING}
        self._holders = {trial: owner for trial, owner in holders.items() if owner in names and trial in trials}
        if (reason := self._jobs.waiting_for) is not None:
            self._say(f"all {self._jobs.num_live} jobs wait: {reason}")
        self._may_submit = self._may_submit or self._claims.claim(SUBMITTING) is not None
        if not self._may_submit or self._is_asked_to_stop():
            return
        self._read_records()
        missing, before = self._missing_jobs(living), self._missing
        self._missing = missing
        if self._launcher.wait and not is_first_look and self._jobs.num_live:
            missing = missing & before  # a job that is being requeued does not count for a moment
        if +missing:
            self._submit(missing)

    def _missing_jobs(self, living: Sequence[Heartbeat]) -> Counter[Shape]:
        """Return how many jobs are needed beyond those that there are, by the shape of their trials."""
        num_fits: Counter[Shape] = Counter()
        for kind, trial in self._schedule.open_tasks:
            if trial.id not in self._holders:
                num_fits[shape_of(trial)] += kind == "fit"
        capacity, per_job = self._jobs.capacity(living), self._launcher.trials_per_job
        return Counter({shape: jobs_needed(fits, capacity.get(shape, []), per_job) for shape, fits in num_fits.items()})

    def _submit(self, missing: Counter[Shape]) -> None:
        if not self._are_checked:
            if not self._jobs.num_live:  # a refusal is known at once, building models takes its time
                for shape in +missing:
                    check_request(self._launcher.resources, self._job(shape))
            check_models(self._owner, self._schedule.open_fits, self._launcher.settings)
            self._are_checked = True
        for shape, needed in sorted((+missing).items()):
            number = self._within_limit(needed)
            if not number:
                self._say(f"{needed} more jobs follow when fewer run (--max-parallel)")
                continue
            self._submit_jobs(shape, number)

    def _submit_jobs(self, shape: Shape, number: int) -> None:
        job, launcher = self._job(shape), self._launcher
        taken = []
        try:
            for submission in submit(self._folder, launcher.resources, job, number, launcher.max_parallel):
                self._jobs.add(submission)
                taken.append(submission)
        except JobsRefusedError as refusal:
            if not self._jobs.num_live:
                raise
            left = number - sum(submission.num_jobs for submission in taken)
            later = "trying again later" if launcher.wait else "the same command asks for them again"
            self._say(f"{left} of {number} jobs are not taken: {refusal}; {later}")
        if taken:
            ids = ", ".join(submission.array for submission in taken)
            self._say(f"submitted {sum(submission.num_jobs for submission in taken)} jobs, SLURM's id {ids}")

    def _within_limit(self, number: int) -> int:
        """An array that starts alone keeps to --max-parallel by itself; a further one gets what is left of it."""
        if self._launcher.max_parallel is None or not self._jobs.num_live:
            return number
        return max(0, min(number, self._launcher.max_parallel - self._jobs.num_live))

    def _job(self, shape: Shape) -> SlurmJob:
        settings = self._launcher.settings
        settings = replace(
            settings,
            num_workers=settings.num_workers if shape == (1, 1) else 1,
            num_threads=settings.num_threads or self._launcher.resources.cpus,
            max_fits=self._launcher.trials_per_job,
            retry_failed=False,
        )
        return SlurmJob(self._folder, settings, shape)

    def _read_records(self) -> None:
        new = store.record_ids(self._folder) - self._schedule.finished_ids
        tests = {trial.id for kind, trial in self._schedule.open_tasks if kind == "test"}
        for record in store.read_records(self._folder, new | tests):
            store.remove_weights(self._folder, self._schedule.note(record))
        self._shared_plan.sync()

    def _tidy(self) -> None:
        """Clear away what killed owners have left of a sweep that is done, once the last jobs have ended."""
        deadline = time.monotonic() + _SECONDS_TO_END
        while others := [owner for owner in self._living.living() if owner.id != self._owner.id]:
            if time.monotonic() > deadline or any(owner.kind != "slurm" for owner in others):
                return
            time.sleep(_SECONDS_BETWEEN_GLANCES / 4)
        remove_claims(self._folder, self._schedule.finished_ids)
        bury_the_dead(self._folder)
        store.remove_unfinished(self._folder, owner_path(self._folder, self._owner.id).stat().st_mtime)

    def _forget_failures(self) -> None:
        """Have failed trials and tests done again."""
        if not self._may_submit:
            raise ValueError("another launcher submits jobs for this folder; --retry-failed goes once it has ended")
        self._plan = forget_failed_arms(self._folder, self._plan, store.read_outlines(self._folder))
        for record in store.read_records(self._folder):
            if record["status"] == "failed":
                store.record_path(self._folder, record["id"]).unlink(missing_ok=True)
            elif record.get("test_error"):
                store.write_record(self._folder, store.retried(record))

    def _is_asked_to_stop(self) -> bool:
        return self._owner.stop_asked or stop_path(self._folder, self._owner.id).exists()

    def _say(self, words: str) -> None:
        """Say something, unless the last look gave the same words."""
        if words not in self._said_before | self._said_now and self._progress is not None:
            self._progress.write(words)
        self._said_now.add(words)
