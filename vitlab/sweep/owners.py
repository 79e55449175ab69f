"""Who works in a sweep folder, and who of them still lives.

An owner is a launcher, a cluster job or a shard. It says that it lives by rewriting a small file, its heartbeat; one
whose heartbeat stays away is taken for dead by whoever has watched it for that long. No two clocks are compared, so one
that is wrong or runs backwards does no harm. On the same machine a lock tells at once: the kernel keeps it until the
owner and the last of its workers are gone. Nothing is locked on the shared file system itself, so it may be NFS.
"""

import contextlib
import json
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vitlab.atomic_file import host_in_names, read_whole, write_json

try:
    import fcntl
except ImportError:  # Windows: heartbeats alone tell
    fcntl = None

Kind = Literal["local", "shard", "slurm"]

PATIENCE_SECONDS = 45.0
_BEATS_PER_PATIENCE = 9
_SECONDS_BETWEEN_GLANCES = 0.5  # at whether there is something that others should know at once


class OwnerLostError(RuntimeError):
    """Others took this owner for dead and may have taken over its trials; it must not write any more."""


@dataclass
class Heartbeat:
    """What an owner's file says.

    Args:
        id: Name of the owner, unique; begins with its kind.
        kind: local, shard or slurm.
        host: Name of its machine.
        boot: Identifies the machine's run since it was started; empty where it cannot be told.
        pid: Its process.
        patience_seconds: Silence after which it may be taken for dead.
        lock: Path of its lock on its own machine, empty where there is none.
        details: What its launcher wants to have known, such as the cluster's job id or how many trials it will take.
        beat: Counts up.
    """

    id: str
    kind: Kind
    host: str
    boot: str
    pid: int
    patience_seconds: float
    lock: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    beat: int = 0


class Owner:
    """This process, as an owner in a sweep folder; a context manager.

    Args:
        folder: The sweep folder.
        kind: local, shard or slurm.
        patience_seconds: Silence after which others may take it for dead, above 0; heartbeats are nine times as many.
        details: What others shall know; may be changed while it lives.
        on_stop: Called once, from a thread, when it is asked to stop or was taken for dead.

    Raises:
        ValueError: The folder cannot be written, or the patience is not positive.
    """

    def __init__(
        self,
        folder: Path,
        kind: Kind = "local",
        patience_seconds: float = PATIENCE_SECONDS,
        details: dict[str, Any] | None = None,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        if not patience_seconds > 0:
            raise ValueError(f"--patience is {patience_seconds}; give seconds above 0")
        self.folder = Path(folder)
        name = f"{kind}-{host_in_names()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._heartbeat = Heartbeat(name, kind, socket.gethostname(), _boot_id(), os.getpid(), patience_seconds)
        self._heartbeat.details = details if details is not None else {}
        self._on_stop = on_stop
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self.stop_asked = False
        self.is_lost = False
        self.lock: int | None = None

    @property
    def id(self) -> str:
        """Its name."""
        return self._heartbeat.id

    @property
    def details(self) -> dict[str, Any]:
        """What others shall know; it goes out with the next heartbeat, and `stopping` at once."""
        return self._heartbeat.details

    def __enter__(self) -> "Owner":
        self._heartbeat.lock, self.lock = _take_lock(self.id)
        try:
            self._write()
        except OSError as error:
            raise ValueError(f"cannot write into {self.folder}: {error.strerror}; choose another --out") from error
        self._beating.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._beating.join()
        for path in (owner_path, stop_path):
            path(self.folder, self.id).unlink(missing_ok=True)
        if self.lock is not None:
            Path(self._heartbeat.lock).unlink(missing_ok=True)
            os.close(self.lock)

    def check(self) -> None:
        """Raise OwnerLostError where others have taken this owner for dead."""
        if self.is_lost or is_declared_dead(self.folder, self.id):
            self.is_lost = True
            raise OwnerLostError(
                f"no heartbeat of this launcher arrived in {self.folder} for {self._heartbeat.patience_seconds:g} "
                "seconds (a laptop that slept? a file system that hung?), so that others may have taken over its "
                "trials. Nothing is lost; the same command goes on"
            )

    def _write(self) -> None:
        write_json(owner_path(self.folder, self.id), asdict(self._heartbeat), sync=False)

    def _beat(self) -> None:
        stopped, said_so = False, False
        interval = self._heartbeat.patience_seconds / _BEATS_PER_PATIENCE
        next_beat = time.monotonic() + interval
        while not self._ended.wait(min(interval, _SECONDS_BETWEEN_GLANCES)):
            is_stopping = bool(self.details.get("stopping"))
            if time.monotonic() < next_beat and is_stopping == said_so:
                continue
            next_beat, said_so = time.monotonic() + interval, is_stopping
            self._heartbeat.beat += 1
            with contextlib.suppress(OSError, RuntimeError):  # a full disk, a stale handle; the next may get through
                self._write()
            with contextlib.suppress(OSError):
                self.is_lost = self.is_lost or is_declared_dead(self.folder, self.id)
                self.stop_asked = self.stop_asked or stop_path(self.folder, self.id).exists()
            if (self.is_lost or self.stop_asked) and not stopped:
                stopped = True
                self._on_stop()


class Watch:
    """Tells which owners of a sweep folder live, from when it first saw them on.

    Args:
        folder: The sweep folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._seen: dict[str, tuple[int, float, float]] = {}  # its beat, how long so, and when we last looked

    def is_alive(self, owner_id: str) -> bool:
        """Say whether an owner may still be at work; one found dead is declared so for all others, and for itself."""
        if is_declared_dead(self.folder, owner_id):
            return False
        heartbeat = read_heartbeat(self.folder, owner_id)
        if heartbeat is None:
            return False  # it ended in order
        if (_is_gone(heartbeat) or self._is_silent(heartbeat)) and owner_path(self.folder, owner_id).exists():
            with contextlib.suppress(OSError):  # who may only read the folder knows it all the same
                declare_dead(self.folder, owner_id)
            return False
        return True

    def living(self) -> list[Heartbeat]:
        """Return the owners that may be at work."""
        heartbeats = [heartbeat for heartbeat in read_heartbeats(self.folder) if self.is_alive(heartbeat.id)]
        return sorted(heartbeats, key=lambda heartbeat: heartbeat.id)

    def _is_silent(self, heartbeat: Heartbeat) -> bool:
        now, patience = time.monotonic(), heartbeat.patience_seconds
        beat, silence, looked = self._seen.get(heartbeat.id, (None, 0.0, now))
        # Of a long time without a look only a part counts: we who watch may have slept.
        silence = silence + min(now - looked, patience / 2) if beat == heartbeat.beat else 0.0
        self._seen[heartbeat.id] = (heartbeat.beat, silence, now)
        return silence > patience


def owner_path(folder: Path, owner_id: str) -> Path:
    """Return where an owner's heartbeat stands."""
    return Path(folder) / "owners" / f"{owner_id}.json"


def stop_path(folder: Path, owner_id: str) -> Path:
    """Return the file whose presence asks an owner to save its trials and stop."""
    return Path(folder) / "owners" / f"{owner_id}.stop"


def is_declared_dead(folder: Path, owner_id: str) -> bool:
    """Say whether some owner has taken this one for dead."""
    return _dead_path(folder, owner_id).exists()


def declare_dead(folder: Path, owner_id: str) -> None:
    """Let it be known that an owner is dead; should it live after all, it will find that out and stop."""
    _dead_path(folder, owner_id).touch()


def ask_to_stop(folder: Path, owner_id: str) -> None:
    """Ask an owner to save its running trials, give them back and end; it sees that with its next heartbeat."""
    stop_path(folder, owner_id).touch()


def read_heartbeat(folder: Path, owner_id: str) -> Heartbeat | None:
    """Return what an owner's file says, or None where there is none (any more)."""
    with contextlib.suppress(FileNotFoundError):
        try:
            return Heartbeat(**json.loads(read_whole(owner_path(folder, owner_id))))
        except (ValueError, TypeError):  # not ours to judge: it is alive until it has been silent for long enough
            return Heartbeat(owner_id, "local", "", "", 0, PATIENCE_SECONDS)
    return None


def read_heartbeats(folder: Path) -> Iterator[Heartbeat]:
    """Return the heartbeats of all owners that have not ended in order."""
    for path in sorted((Path(folder) / "owners").glob("*.json")):
        heartbeat = read_heartbeat(folder, path.stem)
        if heartbeat is not None:
            yield heartbeat


def bury_the_dead(folder: Path) -> None:
    """Delete the files of owners that were declared dead; call it where no claim of theirs matters any more."""
    for path in (Path(folder) / "owners").glob("*.dead"):
        for of_owner in (owner_path, stop_path, _dead_path):  # the declaration last: until then it still counts
            of_owner(folder, path.stem).unlink(missing_ok=True)


def _dead_path(folder: Path, owner_id: str) -> Path:
    return Path(folder) / "owners" / f"{owner_id}.dead"


def _take_lock(owner_id: str) -> tuple[str, int | None]:
    """Lock a file on this machine's own disk; its descriptor is for the workers to inherit."""
    if fcntl is None:
        return "", None
    try:
        folder = Path(tempfile.gettempdir()) / f"vitlab-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"{owner_id}.lock"
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # no room, or somebody else's folder: heartbeats tell as well, only later
        return "", None
    return str(path), descriptor


def _is_gone(heartbeat: Heartbeat) -> bool:
    """Say whether an owner of this machine and all its workers have certainly ended."""
    if fcntl is None or not heartbeat.lock or not heartbeat.boot or heartbeat.boot != _boot_id():
        return False
    try:
        descriptor = os.open(heartbeat.lock, os.O_RDWR)
    except OSError:  # another container of the same machine, perhaps: it has a disk of its own
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    Path(heartbeat.lock).unlink(missing_ok=True)
    return True


def _boot_id() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
