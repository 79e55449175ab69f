"""The trial records: one JSON file a trial, written whole or not at all.

Many processes may write into one folder, on a laptop or on a cluster's shared file system. One file per trial, written
to a temporary name beside it and renamed, needs no lock and no database and survives a kill at any moment.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vitlab.atomic_file import TEMPORARY_PREFIX, write_json

SCHEMA = 1
_RUNNING_FILE = ".running.json"

Record = dict[str, Any]


def record_path(folder: Path, trial_id: str) -> Path:
    """Return where the record of a trial stands."""
    return Path(folder) / "trials" / f"{trial_id}.json"


def checkpoint_path(folder: Path, trial_id: str) -> Path:
    """Return where the final weights of a trial stand until they are tested (and after, if it was selected)."""
    return Path(folder) / "checkpoints" / f"{trial_id}.ckpt"


def write_record(folder: Path, record: Record) -> None:
    """Write a trial record, replacing what the trial had before."""
    write_json(record_path(folder, record["id"]), record, indent=1)


def read_record(folder: Path, trial_id: str) -> Record | None:
    """Return the record of a trial, or None where it has none.

    Raises:
        ValueError: The file is not a trial record; the message names it.
    """
    path = record_path(folder, trial_id)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is not a trial record ({error}); delete it and run the sweep again") from error
    if not isinstance(record, dict) or record.get("id") != trial_id or "status" not in record:
        raise ValueError(f"{path} is not the record of trial {trial_id}; delete it and run the sweep again")
    return record


def read_records(folder: Path) -> list[Record]:
    """Return all trial records of a sweep folder, in the order of their names.

    Raises:
        ValueError: A file among them is not a trial record; the message names it.
    """
    trials = Path(folder) / "trials"
    names = sorted(entry.name for entry in os.scandir(trials)) if trials.is_dir() else []
    ids = [name.removesuffix(".json") for name in names if name.endswith(".json") and not name.startswith(".")]
    return [record for trial_id in ids if (record := read_record(folder, trial_id)) is not None]


def write_running(folder: Path, trial_ids: Iterable[str]) -> None:
    """Note which trials are being worked on, for `vitlab status`; means nothing once the launcher has gone."""
    write_json(Path(folder) / _RUNNING_FILE, sorted(trial_ids))


def read_running(folder: Path) -> list[str]:
    """Return the ids of the trials that a launcher at work in the folder is working on."""
    try:
        return json.loads((Path(folder) / _RUNNING_FILE).read_text(encoding="utf-8"))
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


def remove_unfinished(folder: Path) -> int:
    """Delete what a killed writer left half-written, and say how many files that were.

    Only the owner of the folder's lock may call this: a temporary file of a living writer looks the same.
    """
    leftovers = [path for part in ("", "trials", "checkpoints", "subsets") for path in _temporary_files(folder, part)]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def _temporary_files(folder: Path, part: str) -> list[Path]:
    return list((Path(folder) / part).glob(f"{TEMPORARY_PREFIX}*"))
