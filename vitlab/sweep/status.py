"""How far a sweep is, in words. No torch: it answers at once, also on a cluster's login node."""

from collections import Counter
from pathlib import Path

from vitlab.sweep.folder_lock import is_locked
from vitlab.sweep.plan import load_plan
from vitlab.sweep.schedule import Schedule
from vitlab.sweep.store import read_records, read_running

_STATUSES = ("done", "failed", "running", "missing")


def describe_status(folder: Path) -> str:
    """Count the trials of a sweep folder that are done, failed, running and missing, by model and data size.

    Args:
        folder: The sweep's folder.

    Raises:
        ValueError: It is not a sweep folder, or a record in it cannot be read.
    """
    plan = load_plan(folder)
    records = read_records(folder)
    statuses = {record["id"]: record["status"] for record in records}
    at_work = is_locked(folder)
    if at_work:
        statuses = dict.fromkeys(read_running(folder), "running") | statuses
    counts = Counter(statuses.get(trial.id, "missing") for trial in plan.trials)
    by_arm = Counter((trial.model, trial.train_size, statuses.get(trial.id, "missing")) for trial in plan.trials)
    width = max(len("done of"), *(len(model) for model in plan.models))
    untested = Schedule(plan, records).counts().untested
    lines = [
        f"{plan.task}: " + ", ".join(f"{counts[status]} {status}" for status in _STATUSES) + f" of {len(plan.trials)}",
        *([f"{untested} selected trials are not tested yet"] if untested else []),
        f"a launcher is {'at work' if at_work else 'not at work'} here",
        f"{'done of':<{width + 2}}" + "".join(f"{size:>9,}" for size in plan.train_sizes),
    ]
    planned = len(plan.trials) // (len(plan.models) * len(plan.train_sizes))
    for model in plan.models:
        cells = [f"{by_arm[model, size, 'done']}/{planned}" for size in plan.train_sizes]
        lines.append(f"{model:<{width + 2}}" + "".join(f"{cell:>9}" for cell in cells))
    return "\n".join(lines)
