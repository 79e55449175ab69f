"""One plan for all who work in a folder: what a schedule grows by is written there, what others add is taken in.

The file is replaced without a lock, so one launcher's writing may take back what another has just added. That one finds
the file changed at its next look and adds it again; and should it have ended, its records tell the search the same.
"""

from pathlib import Path

from vitlab.sweep.plan import Plan
from vitlab.sweep.plan_file import PLAN_FILE, add_growth
from vitlab.sweep.schedule import Schedule

_Stamp = tuple[int, int, int]


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
