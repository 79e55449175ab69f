"""Doing jobs in the launcher's own process: simplest to debug, and no start-up to pay for."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

from vitlab.sweep.worker import Answer, Job, WorkerDiedError, ask_to_stop, do, forget_stop


class InProcessWorker:
    """A worker that is this process."""

    def __init__(self) -> None:
        forget_stop()

    def do(self, job: Job) -> Answer:
        """Do a job. Ctrl-C lets a fit be saved at the end of its step, and pressed again it stops at once.

        Raises:
            KeyboardInterrupt: It was pressed.
        """
        with ctrl_c_remembered(_save_first if job.kind == "fit" else None) as pressed:
            try:
                answer = do(job)
            except SystemExit as stop:  # what Lightning makes of Ctrl-C
                raise KeyboardInterrupt from stop
            except WorkerDiedError:  # the trial's own process, perhaps of the same Ctrl-C
                if pressed:
                    raise KeyboardInterrupt from None
                raise
        if pressed:
            raise KeyboardInterrupt
        return answer

    def interrupt(self) -> None:
        """Have the fit that it is doing saved at the end of its step."""
        ask_to_stop()

    def close(self) -> None:
        """Let Python free again what the trials had it leave alone; there is nothing to end."""
        if memory := sys.modules.get("vitlab.sweep.peak_memory"):  # it needs torch, so it is there after a trial only
            memory.look_at_libraries_again()


class InlineExecutor(Executor):
    """Runs what is submitted there and then."""

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Future:
        """Return a future that has ended."""
        future: Future = Future()
        future.set_result(function(*args, **options))
        return future


@contextlib.contextmanager
def ctrl_c_remembered(at_first: Callable[[], None] | None = None) -> Iterator[list[int]]:
    """Yield a list that is not empty once Ctrl-C was pressed.

    Python drops an interrupt that is raised inside a finalizer, with a traceback; such a one is raised a moment later.

    Args:
        at_first: What to do the first time instead of raising an interrupt.
    """
    again: list[threading.Timer] = []
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread hears of signals
        yield pressed
        return

    def remember(number: int, frame: Any) -> None:
        pressed.append(number)
        if at_first is not None and len(pressed) == 1:
            at_first()
            return
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


def _save_first() -> None:
    ask_to_stop()
    print("\nsaving the trial in training; Ctrl-C again stops at once", file=sys.stderr, flush=True)


def _is_in_finalizer(frame: Any) -> bool:
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None
