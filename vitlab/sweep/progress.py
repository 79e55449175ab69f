"""The one line a sweep shows while it runs: a bar, what is done, failed and running, and the time left.

Where nobody watches (a log file, a batch job) it is a plain line now and then instead.
"""

import sys
import time

from tqdm import tqdm

from vitlab.sweep.schedule import Schedule

_BAR = "{desc} {percentage:3.0f}% |{bar:24}| {n_fmt}/{total_fmt}{postfix}"
_SECONDS_BETWEEN_LINES = 20.0


class Progress:
    """Progress over the trials of a sweep.

    Args:
        name: What runs.
        schedule: How far it is; the time left is judged by what this run does.
    """

    def __init__(self, name: str, schedule: Schedule) -> None:
        self._watched = sys.stderr.isatty()
        self._bar = tqdm(
            total=schedule.counts().total, desc=name, bar_format=_BAR, dynamic_ncols=True, disable=not self._watched
        )
        self._name = name
        self._start = time.monotonic()
        self._next_line = 0.0
        self._schedule = schedule
        self._work_at_start = schedule.work_left()
        self.show()

    def show(self) -> None:
        """Show how far the sweep is."""
        counts = self._schedule.counts()
        ended = counts.done + counts.failed
        parts = [f"done {counts.done}", f"failed {counts.failed}", f"running {counts.running}"]
        state = ", ".join([*parts, self._time_left()])
        if self._watched:
            self._bar.n, self._bar.total = ended, counts.total
            self._bar.set_postfix_str(state)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
            print(f"{self._name} {ended}/{counts.total}: {state}", file=sys.stderr, flush=True)

    def write(self, message: str) -> None:
        """Print a line above the bar."""
        self._bar.write(message, file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()

    def _time_left(self) -> str:
        work_left = self._schedule.work_left()
        work_done = self._work_at_start - work_left
        if not work_done:
            return "time left unknown yet"
        seconds = (time.monotonic() - self._start) / work_done * work_left
        return f"about {tqdm.format_interval(seconds)} left"
