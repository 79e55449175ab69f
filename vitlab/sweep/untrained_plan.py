"""Making way for another plan in a folder where nothing of the one that stands there was ever begun.

A plan with a mistake in it, once written, would have its folder refuse the corrected one. Nothing is lost with a plan
of which nothing has been trained, claimed or submitted. It is moved aside before the second look at who else is there:
a launcher that has found its plan in the folder by then has had its heartbeat written before and is seen, and one that
comes later finds no plan and writes its own, which then counts.
"""

import contextlib
import os
from pathlib import Path

from vitlab.atomic_file import TEMPORARY_PREFIX, atomic_file, host_in_names, read_whole
from vitlab.sweep.owners import Owner, Watch
from vitlab.sweep.plan_file import PLAN_FILE, OtherSweepError, load_plan

_FROM_A_START = {PLAN_FILE, "logs", "owners", "jobs", "trials", ".lock"}  # with nothing in `jobs` and `trials`


def make_way(folder: Path, patience_seconds: float, refusal: OtherSweepError) -> None:
    """Remove the plan of a sweep folder, provided that nothing of it was begun.

    Args:
        folder: The sweep folder.
        patience_seconds: Silence after which others may take this command for dead.
        refusal: Why the plan that is there is in the way.

    Raises:
        OtherSweepError: The refusal: there are records, claims, jobs or other commands in the folder; or its budget
            was measured in seconds, which is work that nobody wants to lose by a slip of --out.
    """
    folder = Path(folder)
    if not _is_unbegun(folder):
        raise refusal
    if "machine" in load_plan(folder).budget.get("measured", {}):
        raise OtherSweepError(
            f"{refusal}; or delete {folder}: nothing in it has been trained, but its budget in seconds was measured"
        ) from refusal
    with Owner(folder, "local", patience_seconds) as owner:
        if not _is_alone(owner) or not _put_aside(owner):
            raise refusal


def _put_aside(owner: Owner) -> bool:
    """Move the plan away, and back where somebody has begun with it in this moment; says whether it is gone."""
    plan = owner.folder / PLAN_FILE
    aside = owner.folder / f"{TEMPORARY_PREFIX}{host_in_names()}-{os.getpid()}-plan"
    try:
        os.rename(plan, aside)
    except FileNotFoundError:  # another command was faster
        return True
    is_free = _is_unbegun(owner.folder) and _is_alone(owner)
    if not is_free:
        with contextlib.suppress(FileExistsError), atomic_file(plan, "wb", replace=False) as file:
            file.write(read_whole(aside))
    aside.unlink()
    return is_free


def _is_unbegun(folder: Path) -> bool:
    held = {entry.name for entry in folder.iterdir() if not entry.name.startswith(TEMPORARY_PREFIX)}
    is_empty = [not any((folder / name).iterdir()) for name in ("jobs", "trials") if (folder / name).is_dir()]
    return held <= _FROM_A_START and all(is_empty)


def _is_alone(owner: Owner) -> bool:
    return [other.id for other in Watch(owner.folder).living()] == [owner.id]
