"""Writing a file so that a reader, or a crash, sees the old one or the new one and never a part.

The content goes to a temporary name in the same folder, which is then renamed: atomic on local disks and on NFS,
and needs no lock.
"""

import contextlib
import errno
import json
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

TEMPORARY_PREFIX = ".writing-"


_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + r"(.+)-(\d+)-\w+")
_SECONDS_OF_A_WRITE = 3600.0  # an unfinished file of another machine that is older than this will not be finished
_READS = 5
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # it is the disk, and not what was to be written
_NO_HARD_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}


@contextlib.contextmanager
def atomic_file(path: Path, mode: str = "w", replace: bool = True, sync: bool = True) -> Iterator[IO[Any]]:
    """Open a file for writing; it stands under its name once the block has ended well, and not at all otherwise.

    Args:
        path: Where the file shall stand; its folder is made if missing.
        mode: "w" for UTF-8 text without translated line ends, "wb" for bytes.
        replace: False leaves a file that stands there already as it is; of many writers one succeeds.
        sync: Whether the bytes must be on the disk, not only with the operating system, before the name is.

    Raises:
        FileExistsError: `replace` is False and the file exists.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f"{TEMPORARY_PREFIX}{host_in_names()}-{os.getpid()}-", dir=path.parent)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        with os.fdopen(handle, mode, **text) as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide the file from colleagues on a shared disk
        if replace:
            os.replace(temporary, path)
        else:
            _take_name(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_whole(path: Path | str) -> bytes:
    """Read a file that others may replace at this moment; over NFS that makes an open one stale, and it is read again.

    Raises:
        OSError: It is not there, or cannot be read.
    """
    for _ in range(_READS):
        try:
            with open(path, "rb", buffering=0) as file:
                return file.read()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            stale = error
    raise stale


def is_abandoned(path: Path, now: float) -> bool:
    """Say whether a temporary file's writer has ended without having finished it.

    Args:
        path: The file.
        now: Time of the file system's server, in seconds: the modification time of a file that was just written.
    """
    match = _TEMPORARY.fullmatch(path.name)
    if match is not None and match[1] == host_in_names():
        try:
            os.kill(int(match[2]), 0)
        except ProcessLookupError:
            return True
        except OSError:  # it is another user's
            return False
    with contextlib.suppress(FileNotFoundError):
        return now - path.stat().st_mtime > _SECONDS_OF_A_WRITE
    return False


def host_in_names() -> str:
    """Return this machine's name as it stands in the names of files: letters, digits and hyphens, at most 40."""
    return re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())[:40]


def _take_name(temporary: str, path: Path) -> None:
    """Give a file its name unless another has it; a link is the one way that is atomic on NFS as well."""
    try:
        os.link(temporary, path)
        os.unlink(temporary)
    except OSError as error:
        if isinstance(error, FileExistsError) and os.stat(temporary).st_nlink == 2:
            os.unlink(temporary)  # over NFS the link was made, its answer was lost, and the second try met the first
            return
        if error.errno not in _NO_HARD_LINKS:
            raise
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # empty, until the next line
        os.replace(temporary, path)


def write_json(path: Path, content: Any, indent: int | None = None, sync: bool = True) -> None:
    """Write a JSON file, whole or not at all.

    Args:
        path: Where the file shall stand.
        content: What json can hold; not NaN or infinity, which are no JSON.
        indent: Spaces per level for people who read it; None for one line.
        sync: As for `atomic_file`.
    """
    with atomic_file(path, sync=sync) as file:
        json.dump(content, file, indent=indent, allow_nan=False)
        file.write("\n")
