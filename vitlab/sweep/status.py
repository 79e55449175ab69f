"""How far a sweep is, in words. No torch: it answers at once, also on a cluster's login node."""

import contextlib
import gc
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vitlab.sweep.claims import claimed_trials
from vitlab.sweep.owners import Heartbeat, Watch, owner_path
from vitlab.sweep.plan import Plan
from vitlab.sweep.plan_file import load_plan
from vitlab.sweep.rate_search import num_undecided
from vitlab.sweep.schedule import Schedule
from vitlab.sweep.selection import Arm
from vitlab.sweep.store import read_outlines

_STATUSES = ("done", "failed", "running", "missing")


def describe_status(folder: Path) -> str:
    """Count the trials of a sweep folder that are done, failed, running and missing, by model and data size.

    Args:
        folder: The sweep's folder.

    Raises:
        ValueError: It is not a sweep folder, or a record in it cannot be read.
    """
    with _no_collector():
        return _describe(folder)


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """Keep Python from looking for cycles: there are none, and with 100,000 records the looking takes a third more."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _describe(folder: Path) -> str:
    plan = load_plan(folder)
    owners = Watch(folder).living()
    names = {owner.id for owner in owners}
    claims = {trial_id: name for trial_id, name in claimed_trials(folder).items() if name in names}
    records = read_outlines(folder)
    statuses = dict.fromkeys(claims, "running") | {record["id"]: record["status"] for record in records}
    schedule = Schedule(plan, records)
    by_arm = {arm: Counter(missing=number) for arm, number in num_undecided(schedule.plan).items()}
    for trial in schedule.plan.trials:
        by_arm.setdefault((trial.model, trial.train_size), Counter())[statuses.get(trial.id, "missing")] += 1
    counts = sum(by_arm.values(), Counter())
    untested = schedule.counts().untested
    lines = [
        f"{plan.task}: " + ", ".join(f"{counts[status]} {status}" for status in _STATUSES) + f" of {counts.total()}",
        *([f"{untested} selected trials are not tested yet"] if untested else []),
        *_at_work(folder, owners, Counter(claims.values())),
    ]
    return "\n".join(lines + _table(plan, by_arm))


def _at_work(folder: Path, owners: list[Heartbeat], num_claims: Counter[str]) -> list[str]:
    """Say who is at work; cluster jobs are counted here, and told apart by those who know the queue."""
    lines = []
    for owner in owners:  # (those of other machines may have died: nobody has watched them yet)
        if owner.kind != "slurm":
            what = f"{num_claims[owner.id]} trials" if owner.details.get("launcher") != "slurm" else "watches its jobs"
            words = f"at work: {owner.kind} launcher on {owner.host}, process {owner.pid}: {what}"
            lines.append(words + _silence(folder, owner))
    jobs = [owner for owner in owners if owner.kind == "slurm"]
    if jobs:
        lines.append(f"at work: {len(jobs)} cluster jobs: {sum(num_claims[job.id] for job in jobs)} trials")
    return lines or ["no launcher is at work here"]


def _silence(folder: Path, owner: Heartbeat) -> str:
    """Say how long an owner has been silent, by this machine's clock; it is a hint, and decides nothing."""
    with contextlib.suppress(OSError):
        seconds = time.time() - owner_path(folder, owner.id).stat().st_mtime
        if seconds > 2 * owner.patience_seconds:
            return f"; no heartbeat for {seconds / 60:,.0f} minutes: probably dead, and `vitlab sweep` will take over"
    return ""


def _table(plan: Plan, by_arm: dict[Arm, Counter[str]]) -> list[str]:
    """A row for each model, a column for each data size: how many of the trials are done."""
    width = 2 + max(len("done of"), *(len(model) for model in plan.models))
    lines = [f"{'done of':<{width}}" + "".join(f"{size:>9,}" for size in plan.train_sizes)]
    for model in plan.models:
        arms = [by_arm[model, size] for size in plan.train_sizes]
        cells = [f"{arm['done']}/{arm.total()}" for arm in arms]
        lines.append(f"{model:<{width}}" + "".join(f"{cell:>9}" for cell in cells))
    return lines
