"""One plan for all who work in a folder: what a schedule grows by is written there, what others add is taken in.

The file is replaced without a lock, so one launcher's writing may take back what another has just added. That one finds
the file changed at its next look and adds it again; and should it have ended, its records tell the search the same.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from vitlab.sweep.plan import Plan
from vitlab.sweep.plan_file import PLAN_FILE, add_growth, replace_plan
from vitlab.sweep.schedule import Schedule
from vitlab.sweep.selection import Arm
from vitlab.sweep.store import Record, record_path

_Stamp = tuple[int, int, int]


def forget_failed_arms(folder: Path, plan: Plan, records: Sequence[Record]) -> Plan:
    """Have the tuning of every arm begin anew in which nothing but failures is known; for those who try them again.

    Where all trials of an arm fail, such as for want of memory, a race or search goes on by nothing but the order of
    the rates. Trying just these trials again would leave that choice as it is.

    Args:
        folder: The sweep folder; the failures of such arms are deleted in it.
        plan: The sweep's plan.
        records: Its trial records.

    Returns:
        The plan without the trials of these arms; it stands in the folder.
    """
    if not plan.searches_rates:
        return plan
    ended: dict[Arm, list[Record]] = defaultdict(list)
    for record in records:
        ended[record["model"], record["train_size"]].append(record)
    arms = {arm for arm, own in ended.items() if all(record["status"] == "failed" for record in own)}
    left = plan.without_rates(arms)
    if left != plan:
        replace_plan(folder, left)
        for trial in plan.trials:
            if (trial.model, trial.train_size) in arms:
                record_path(folder, trial.id).unlink(missing_ok=True)
    return left


class SharedPlan:
    """The plan of a schedule and that of its folder, kept in step.

    Args:
        folder: The sweep folder.
        schedule: Whose plan it is.
    """

    def __init__(self, folder: Path, schedule: Schedule) -> None:
        self._folder, self._schedule = Path(folder), schedule
        self._mine: Plan | None = None
        self._seen: _Stamp | None = None

    def sync(self) -> None:
        """Write what the schedule has grown by, and have it grow by what has come elsewhere.

        Raises:
            ValueError: The folder's plan cannot be read.
            OSError: The plan cannot be written; the one that was there still is.
        """
        while (stamp := self._stamp()) is not None and (self._schedule.plan is not self._mine or stamp != self._seen):
            # A stamp from before the reading: whatever is written after it shows at the next look.
            self._mine, self._seen = self._schedule.plan, stamp
            self._schedule.grow(add_growth(self._folder, self._mine))

    def _stamp(self) -> _Stamp | None:
        try:
            stat = (self._folder / PLAN_FILE).stat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size
