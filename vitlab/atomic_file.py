"""Writing a file so that a reader, or a crash, sees the old one or the new one and never a part.

The content goes to a temporary name in the same folder, which is then renamed: atomic on local disks and on NFS,
and needs no lock.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

TEMPORARY_PREFIX = ".writing-"


@contextlib.contextmanager
def atomic_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file for writing; it stands under its name once the block has ended well, and not at all otherwise.

    Args:
        path: Where the file shall stand; its folder is made if missing.
        mode: "w" for UTF-8 text without translated line ends, "wb" for bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        with os.fdopen(handle, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide the file from colleagues on a shared disk
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write a JSON file, whole or not at all.

    Args:
        path: Where the file shall stand.
        content: What json can hold; not NaN or infinity, which are no JSON.
        indent: Spaces per level for people who read it; None for one line.
    """
    with atomic_file(path) as file:
        json.dump(content, file, indent=indent, allow_nan=False)
        file.write("\n")
