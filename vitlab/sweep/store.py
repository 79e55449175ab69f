"""The trial records: one JSON file a trial, written whole or not at all, with a checksum as its last key.

Many processes may write into one folder, on a laptop or on a cluster's shared file system. One file per trial, written
to a temporary name beside it and then given its own, needs no lock and no database and survives a kill at any moment.
The checksum tells a record that a disk has changed, or somebody by hand, from what a trial has measured.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vitlab.atomic_file import TEMPORARY_PREFIX, atomic_file, is_abandoned, read_whole

SCHEMA = 2  # 1 had no checksum; such records are still read
PARTS = (
    "trials",
    "checkpoints",
    "subsets",
    "predictions",
    "resume",
    "owners",
    "jobs",
    "logs",
)  # folders of a sweep folder
_STATUSES = ("done", "failed")
_CHECKSUM = b',\n"checksum": '
OUTLINE = (
    "schema",
    "id",
    "status",
    "model",
    "train_size",
    "seed",
    "learning_rate",
    "val",
    "test",
    "error",
    "test_error",
)
_OUTLINE_LINES = re.compile(rf'\n"(?:{"|".join(OUTLINE)})": .*'.encode())  # a key is a line, without line ends in it
_LOOKS = 40  # at a record that is empty, a twentieth of a second apart
_REMEDY = "delete it and run the sweep again (`vitlab verify` lists all that is wrong in a folder)"

Record = dict[str, Any]


def record_path(folder: Path, trial_id: str) -> Path:
    """Return where the record of a trial stands."""
    return Path(folder) / "trials" / f"{trial_id}.json"


def checkpoint_path(folder: Path, trial_id: str) -> Path:
    """Return where the final weights of a trial stand until they are tested (and after, if it was selected)."""
    return Path(folder) / "checkpoints" / f"{trial_id}.ckpt"


def resume_path(folder: Path, trial_id: str) -> Path:
    """Return where the training state of a trial stands that was interrupted, until its record is written."""
    return Path(folder) / "resume" / f"{trial_id}.ckpt"


def create_record(folder: Path, record: Record) -> bool:
    """Write the record of a trial that has none; of several who try, one succeeds.

    Returns:
        Whether this record is now the trial's; False where it had one already, which stays as it was.

    Raises:
        OSError: It could not be written, such as on a full disk; no part of it is left.
    """
    try:
        _write(folder, record, replace=False)
    except FileExistsError:
        return False
    return True


def write_record(folder: Path, record: Record) -> None:
    """Write a trial record, replacing what the trial had before.

    Raises:
        OSError: It could not be written, such as on a full disk; what the trial had before is still there.
    """
    _write(folder, record, replace=True)


def read_record(folder: Path, trial_id: str) -> Record | None:
    """Return the record of a trial, or None where it has none.

    Raises:
        ValueError: The file is not a trial record, or not as it was written; the message names it.
    """
    return _read_record(folder, trial_id, json.loads)


def read_records(folder: Path, ids: Iterable[str] | None = None) -> list[Record]:
    """Return the trial records of a sweep folder, in the order of their names.

    Args:
        folder: The sweep folder.
        ids: Which trials; None for all. Those without a record are passed over.

    Raises:
        ValueError: A file among them is not a trial record, or not as it was written; the message names it.
    """
    found = (read_record(folder, trial_id) for trial_id in _in_order(folder, ids))
    return [record for record in found if record is not None]


def read_outlines(folder: Path, ids: Iterable[str] | None = None) -> list[Record]:
    """Return what `read_records` does, but of each record what choosing and counting need, the keys `OUTLINE`.

    They take a third of the time to read and a fifth of the memory, which matters with a hundred thousand.
    """
    found = (_read_record(folder, trial_id, _load_outline) for trial_id in _in_order(folder, ids))
    return [outline(record) for record in found if record is not None]


def outline(record: Record) -> Record:
    """Return what `read_outlines` gives of a record."""
    return {name: record.get(name) for name in OUTLINE}


def record_ids(folder: Path) -> set[str]:
    """Return which trials have a record, without reading any."""
    names = file_names(folder, "trials")
    return {name.removesuffix(".json") for name in names if name.endswith(".json") and not name.startswith(".")}


def file_names(folder: Path, part: str) -> list[str]:
    """Return the names in a part of the sweep folder, such as "trials"; none where there is no such part."""
    try:
        with os.scandir(Path(folder) / part) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []


def retried(record: Record) -> Record | None:
    """Return a record as a retry starts from: None for a failed trial, the trial untested for a failed test."""
    if record["status"] == "failed":
        return None
    return record | {"test_error": None}


def remove_weights(folder: Path, trial_ids: Iterable[str]) -> None:
    """Delete the weights of trials that nobody will test."""
    for trial_id in trial_ids:
        checkpoint_path(folder, trial_id).unlink(missing_ok=True)


def remove_unfinished(folder: Path, now: float) -> int:
    """Delete what killed writers left half-written, and say how many files that were.

    Args:
        folder: The sweep folder.
        now: The modification time of a file in it that was just written.
    """
    found = [path for part in ("", *PARTS) for path in (Path(folder) / part).glob(f"{TEMPORARY_PREFIX}*")]
    leftovers = [path for path in found if is_abandoned(path, now)]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def _write(folder: Path, record: Record, replace: bool) -> None:
    content = _encode(record)
    with atomic_file(record_path(folder, record["id"]), "wb", replace=replace) as file:
        file.write(content)


def _encode(record: Record) -> bytes:
    """Return a record as JSON: a line for each key, for people who read it, and the checksum of all lines above."""
    lines = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in _numbered(record).items()]
    content = ("{\n" + ",\n".join(lines)).encode()
    return content + _ending(content)


def _in_order(folder: Path, ids: Iterable[str] | None) -> list[str]:
    return sorted(record_ids(folder) if ids is None else ids)


def _read_record(folder: Path, trial_id: str, load: Callable[[bytes], Any]) -> Record | None:
    path = os.path.join(folder, "trials", f"{trial_id}.json")  # a Path takes longer than the reading
    try:
        content = _content(path)
        record = load(content)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is not a trial record ({error}); {_REMEDY}") from error
    if not isinstance(record, dict) or record.get("id") != trial_id or record.get("status") not in _STATUSES:
        raise ValueError(f"{path} is not the record of trial {trial_id}; {_REMEDY}")
    _check(path, content, record)
    return record


def _load_outline(content: bytes) -> Any:
    if _CHECKSUM not in content:  # an older version's, whose lines are not keys
        return json.loads(content)
    return json.loads(b"{" + b"".join(_OUTLINE_LINES.findall(content)).removesuffix(b",") + b"}")


def _numbered(record: Record) -> Record:
    return {"schema": SCHEMA} | record | {"schema": SCHEMA}


def _ending(content: bytes) -> bytes:
    return _CHECKSUM + f'"{hashlib.sha256(content).hexdigest()[:16]}"\n}}\n'.encode()


def _check(path: str, content: bytes, record: Record) -> None:
    """Refuse a record whose checksum is not that of its text, and take the checksum out of it."""
    schema = record.get("schema", 1)
    if not isinstance(schema, int) or schema > SCHEMA:
        raise ValueError(f"{path} has schema {schema!r}; this vitlab knows 1 to {SCHEMA}. Update vitlab, or {_REMEDY}")
    record.pop("checksum", None)
    covered, found, _ = content.rpartition(_CHECKSUM)
    if (found or schema > 1) and content != covered + _ending(covered):
        raise ValueError(
            f"{path} is not as it was written (its checksum does not fit: changed by hand, or by a failing disk); "
            f"its results cannot be believed: {_REMEDY}"
        )


def _content(path: str) -> bytes:
    """Return the bytes of a record; one that is empty may be about to be written."""
    content = read_whole(path)
    for _ in range(_LOOKS):
        if content:
            break
        time.sleep(0.05)  # where the file system has no hard links, a record is empty for a moment
        content = read_whole(path)
    return content
