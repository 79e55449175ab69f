"""One launcher at a time in a sweep folder, and none before the last one's workers have ended.

The lock belongs to an open file which the workers inherit. The kernel keeps it until the last of them is gone, so a
launcher that was killed cannot leave a worker behind that finishes a trial which a new launcher has started again.
"""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

from vitlab.sweep.plan import LOCK_FILE

_SECONDS_FOR_ORPHANS = 20.0  # the workers of a killed launcher end by themselves, within moments


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[int]:
    """Hold a sweep folder; yields the file descriptor for the workers to inherit.

    Raises:
        ValueError: Another launcher holds it, or the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK_FILE).open("a")
    except OSError as error:
        raise ValueError(f"cannot write into {folder}: {error.strerror}; choose another --out") from error
    with file:
        _wait_for(file.fileno(), folder)
        yield file.fileno()


def _wait_for(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + _SECONDS_FOR_ORPHANS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ValueError(
                    f"another vitlab sweep is at work in {folder}; wait until it ends, or stop it"
                ) from None
            time.sleep(0.2)


def is_locked(folder: Path) -> bool:
    """Say whether a launcher (or a worker that it left behind) is at work in a sweep folder."""
    try:
        with (Path(folder) / LOCK_FILE).open() as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
