"""What becomes of a sweep's cluster jobs: which are alive, what they will still take, what went wrong with others."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from vitlab.sweep import slurm_queue, store
from vitlab.sweep.owners import Heartbeat, declare_dead, owner_path, read_heartbeats
from vitlab.sweep.slurm_cancel import cancelled_jobs
from vitlab.sweep.slurm_job import Shape, read_note
from vitlab.sweep.slurm_queue import State, Submission


class SlurmWatch:
    """Watches the jobs of one sweep folder, whoever submitted them.

    Args:
        folder: The sweep folder.
        max_ill_starts: How many jobs in a row may come to nothing.
        say: Told in words what went wrong.
    """

    def __init__(self, folder: Path, max_ill_starts: int, say: Callable[[str], None]) -> None:
        self._folder, self._max_ill_starts, self._say = Path(folder), max_ill_starts, say
        self._submissions: dict[str, Submission] = {}
        self._live: dict[str, Submission] = {}  # those that were alive when last asked for
        self._states: dict[str, State] = {}
        self._requeued: set[str] = set()  # owners whose jobs waited again at the last look
        self._at_work: set[str] = set()  # jobs that have had a trial in their hands
        self._records = store.record_ids(self._folder)
        self._ill_starts = 0
        self.is_in_doubt = False
        """Whether a job's owner may live of which the last look has not told whether its job runs."""

    @property
    def num_live(self) -> int:
        """How many jobs wait or run."""
        return len(self._live)

    @property
    def waiting_for(self) -> str | None:
        """What all jobs wait for, in SLURM's words; None where some run or none are there."""
        if not self._live or not all(state.is_waiting for state in self._states.values()):
            return None
        return ", ".join(sorted({state.reason for state in self._states.values() if state.reason})) or None

    def add(self, submission: Submission) -> None:
        """Watch jobs that were just submitted."""
        self._submissions[submission.array] = submission
        self._live |= dict.fromkeys(submission.jobs, submission)

    def look(self, living: Sequence[Heartbeat], holders: Collection[str]) -> list[Heartbeat]:
        """Ask SLURM for the jobs.

        Args:
            living: The owners, as they were before this call: one whose job then waits has lost that job.
            holders: The owners, dead or alive, that have a trial in their hands.

        Returns:
            Those of the living whose jobs have not ended.

        Raises:
            QueueUnavailableError: SLURM does not answer; nothing has changed then.
            ValueError: One job after the other comes to nothing; the message says why.
        """
        for submission in slurm_queue.read_submissions(self._folder):
            self._submissions.setdefault(submission.array, submission)
        # Those that were over are asked for as well: SLURM may have them start again.
        known = {job: submission for submission in self._submissions.values() for job in submission.jobs}
        states = slurm_queue.jobs(known) if known else {}
        self._end_for_good(states)
        left = self._bury(living, states)
        self._at_work |= {owner.details.get("job") for owner in read_heartbeats(self._folder) if owner.id in holders}
        ended = {job: states[job] for job in self._live if states[job].is_over}
        self._states = {job: state for job, state in states.items() if not state.is_over}
        self._live = {job: known[job] for job in self._states}
        if ended:
            self._judge_all(ended)
        return left

    def capacity(self, living: Sequence[Heartbeat]) -> dict[Shape, list[int]]:
        """Return how many trials each live job will take beyond those in its hands, by the shape that it is for."""
        will_take = {owner.details.get("job"): owner.details.get("will_take") for owner in living}
        capacity: dict[Shape, list[int]] = {}
        for job, submission in self._live.items():
            state = self._states.get(job)
            takes = will_take.get(job)
            if state is None or state.is_waiting:
                takes = submission.trials_per_job
            elif takes is None:  # it has just begun, or is about to end
                takes = 0 if state.name == "COMPLETING" else submission.trials_per_job
            capacity.setdefault(submission.shape, []).append(max(0, takes))
        return capacity

    def cancel_waiting(self) -> int:
        """Cancel the jobs that have not begun, and say how many."""
        waiting = [job for job in self._live if job not in self._states or self._states[job].is_waiting]
        slurm_queue.cancel(waiting)
        return len(waiting)

    def _end_for_good(self, states: dict[str, State]) -> None:
        """Cancel once more what was cancelled and waits to be started again: it would do nothing."""
        waiting = {job for job, state in states.items() if state.is_waiting}
        back = sorted(waiting & cancelled_jobs(self._folder)) if waiting else []
        slurm_queue.cancel(back)
        states |= dict.fromkeys(back, State("CANCELLED"))

    def _bury(self, living: Sequence[Heartbeat], states: dict[str, State]) -> list[Heartbeat]:
        """Declare owners dead whose job has ended, or waits again at two looks: its process may be just ending.

        A job that SLURM does not know proves nothing: sbatch may have taken it and failed to say so, or another cluster
        runs it. Its owner is dead when its heartbeat stays away.
        """
        state_of = {owner.id: states.get(owner.details.get("job"), State("")) for owner in living}
        of_jobs = [owner.id for owner in living if owner.kind == "slurm"]
        requeued = {owner for owner in of_jobs if state_of[owner].is_waiting}
        dead = {owner for owner in of_jobs if state_of[owner].name and state_of[owner].is_over}
        dead |= requeued & self._requeued
        for owner in dead:
            if owner_path(self._folder, owner).exists():  # it has not ended in order meanwhile
                declare_dead(self._folder, owner)
        self._requeued = requeued
        self.is_in_doubt = any(
            state_of[owner].is_waiting or not state_of[owner].name for owner in of_jobs if owner not in dead
        )
        return [owner for owner in living if owner.id not in dead]

    def _judge_all(self, ended: dict[str, State]) -> None:
        records = store.record_ids(self._folder)
        is_progress, self._records = bool(records - self._records), records
        for job, state in ended.items():
            self._judge(job, state, is_progress or job in self._at_work)

    def _judge(self, job: str, state: State, was_of_use: bool) -> None:
        """Say what was wrong with a job that has ended."""
        note = read_note(self._folder, job)
        came_to_nothing = note is None or note["state"] == "failed" or (note["state"] == "began" and not was_of_use)
        if not came_to_nothing:
            self._ill_starts = 0
            if note["state"] != "ended":
                self._say(f"job {job} was ended while at work: {state}; other jobs take over its trials")
            return
        self._ill_starts += 1
        if note is not None and note["state"] == "failed":
            words = f"failed: {note['error']}"
        else:
            before = "had begun" if note is None else "took a trial"
            words = f"ended before it {before}: {state}{self._log_of(job)}"
        self._say(f"job {job} {words}")
        if self._ill_starts >= self._max_ill_starts:
            raise ValueError(
                f"{self._ill_starts} cluster jobs in a row came to nothing. The last, {job}, {words}. What is done "
                "stays done, and the same command goes on"
            )

    def _log_of(self, job: str) -> str:
        jobs = self._folder / slurm_queue.JOBS_FOLDER
        log = jobs / f"{job}_0_log.err"
        if not log.exists():
            return (
                f"; it left no log in {jobs}. If it was not cancelled: can the nodes see that folder and write there?"
            )
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return f"; it wrote last: {' | '.join(lines[-3:])}" if lines else f"; see {log}"


def jobs_needed(num_fits: int, capacity: Sequence[int], trials_per_job: int) -> int:
    """Return how many more jobs are needed for what is left to do.

    Args:
        num_fits: Trials that are not done and in nobody's hands; 0 where only tests are left.
        capacity: How many trials each of the live jobs will still take; any of them does tests as well.
        trials_per_job: How many a new job takes.
    """
    left = num_fits - sum(capacity)
    if left > 0:
        return -(-left // trials_per_job)
    return 0 if capacity else 1
