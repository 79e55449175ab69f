"""Which process decodes which shard: of many that ask, one gets it.

A claim is a file created under a name that nobody else can then create. Its holder renews the file's time while it
works; a claim whose holder has ended, or that was not renewed for a minute, is taken over under the next number. No two
clocks are compared and nothing is locked, so the folder may be on NFS. A holder that was wrongly taken for dead does no
harm: the same shard is then decoded twice, and each writes it whole.
"""

import contextlib
import json
import os
import secrets
import time
from pathlib import Path

from vitlab.atomic_file import atomic_file, host_in_names

PATIENCE_SECONDS = 60.0
BEAT_SECONDS = 5.0
CLAIM_PREFIX = ".claim-"


class ShardClaims:
    """The claims of one process.

    Args:
        folder: where the shards stand.
        patience_seconds: how long a claim may go without being renewed, above 0.
    """

    def __init__(self, folder: Path, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._folder, self._patience = Path(folder), patience_seconds
        pid = os.getpid()
        # The token tells two claims of one process apart, the start one process from another of the same number.
        holder = {"machine": _machine(), "pid": pid, "started": _start_of(pid), "token": secrets.token_hex(4)}
        self._content = json.dumps(holder)
        self._held: dict[str, int] = {}
        self._last_beat = time.monotonic()
        self._watched: dict[Path, tuple[tuple[int, int], float]] = {}  # a claim's state, and since when we see it

    def claim(self, name: str) -> bool:
        """Asks for a shard; False where a living process has it."""
        number = 0
        while not self._create(name, number):
            is_dead = self._is_dead(self._path(name, number))
            if is_dead is None:
                continue  # given back at this very moment: ask for the same number again
            if not is_dead:
                return False
            number += 1
        self._held[name] = number
        return True

    def renew(self) -> None:
        """Says that this process is still at work; cheap enough to be called for each image."""
        now = time.monotonic()
        if now - self._last_beat < BEAT_SECONDS:
            return
        self._last_beat = now
        for name, number in self._held.items():
            with contextlib.suppress(OSError):  # taken over, or a disk that hangs: the shard gets written all the same
                os.utime(self._path(name, number))

    def give_back(self, name: str) -> None:
        """Lets others have a shard, or ends the matter when it is written."""
        for number in range(self._held.pop(name) + 1):  # the dead holders' too
            self._path(name, number).unlink(missing_ok=True)

    def _create(self, name: str, number: int) -> bool:
        try:
            with atomic_file(self._path(name, number), replace=False, sync=False) as file:
                file.write(self._content)
        except FileExistsError:
            return False
        return True

    def _is_dead(self, path: Path) -> bool | None:
        """Whether the holder of a claim has ended; None where the claim is not there any more."""
        try:
            # Opening makes an NFS client ask for the file's time anew.
            with open(path, encoding="utf-8") as file:
                text, status = file.read(), os.fstat(file.fileno())
        except FileNotFoundError:
            return None
        with contextlib.suppress(ValueError, KeyError):  # not yet written, where the file system has no hard links
            holder = json.loads(text)
            if holder["machine"] == _machine() and _start_of(holder["pid"]) != holder["started"]:
                return True
        state = status.st_ino, status.st_mtime_ns
        seen, since = self._watched.get(path, (None, 0.0))
        if seen != state:
            self._watched[path] = state, time.monotonic()
            return False
        return time.monotonic() - since > self._patience

    def _path(self, name: str, number: int) -> Path:
        return self._folder / f"{CLAIM_PREFIX}{name}.{number}"


def _machine() -> str:
    """A name for what shares process numbers with us: machine, its last start, container."""
    parts = [host_in_names()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)


def _start_of(pid: int) -> str:
    """When a process began, in a form that only another of the same machine compares; empty when it has ended."""
    try:
        # After the name in parentheses: the state, and as the 20th field the start in clock ticks since boot.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    except OSError:
        pass  # it ended while we looked, or /proc hides it: ask below
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:  # another user's
        pass
    return "alive"
