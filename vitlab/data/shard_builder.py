"""Decodes image files into shards: once, by as many processes as there are, whoever started them.

A shard is written under a temporary name and renamed, and its note after it: a process that is killed leaves nothing
that could be taken for whole, and the shards that it finished stay. Processes of one training, of several trials or of
several machines share the work shard by shard.
"""

import contextlib
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from vitlab.atomic_file import DISK_ERRORS, TEMPORARY_PREFIX, atomic_file, is_abandoned
from vitlab.data.decoding import read_image
from vitlab.data.shard_claims import CLAIM_PREFIX, ShardClaims
from vitlab.data.shard_files import INDEX, Shard, ShardPlan, new_checksum, read_json

_SECONDS_BETWEEN_LOOKS = 0.2
_NUM_NAMED = 5
_ADVICE = (
    "point VITLAB_CACHE to a larger disk, use a smaller image_size, or cache: none to decode images as they are read"
)


def complete(plan: ShardPlan, num_workers: int = 0) -> None:
    """Sees to it that all shards of a plan are there and sound, and says on stderr what there was to do.

    Args:
        plan: which shards.
        num_workers: processes that decode, beside those of others who want the same shards; 0 decodes in this one.

    Raises:
        ValueError: an image cannot be read, the folder cannot be written, or the disk has no room.
    """
    index = read_json(plan.folder / INDEX)
    if plan.is_indexed(index):
        return
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(plan.folder)
        _discard_broken(plan)
        missing = [shard for shard in plan.shards if not plan.is_built(shard)]
        if missing:
            _check_room(plan, missing)
            _announce(plan, missing, index)
            _build(plan, min(num_workers, len(missing), _num_cpus()))
        plan.write_index()
        _remove_others(plan)
    except OSError as error:
        raise ValueError(_disk_problem(plan, error)) from error


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder that may not exist yet; 0 where it could not be written."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free if os.access(folder, os.W_OK | os.X_OK) else 0


def stored_bytes(folder: Path) -> int:
    """Bytes of the shards in a folder, whatever they hold."""
    total = 0
    for path in folder.glob("*.uint8"):
        with contextlib.suppress(FileNotFoundError):  # deleted at this moment: images have changed
            total += path.stat().st_size
    return total


def _build(plan: ShardPlan, num_workers: int) -> None:
    if num_workers == 0:
        problems = [_work(plan, 0)]
    else:
        # The generator keeps the global one from being advanced; a worker is one item, and works until all is done.
        generator = torch.Generator().manual_seed(0)
        problems = list(DataLoader(_Workers(plan, num_workers), None, num_workers=num_workers, generator=generator))
    for problem in filter(None, problems):
        raise ValueError(problem)


class _Workers(Dataset):
    """As many workers as processes; each begins at another shard, so that they seldom ask for the same."""

    def __init__(self, plan: ShardPlan, num_workers: int) -> None:
        self.plan, self.num_workers = plan, num_workers

    def __len__(self) -> int:
        return self.num_workers

    def __getitem__(self, worker: int) -> str:
        first = worker * len(self.plan.shards) // self.num_workers
        return _work(self.plan, first, multiprocessing.parent_process())


def _work(plan: ShardPlan, first: int, parent: BaseProcess | None = None) -> str:
    """Decode shards until all are there, by whomever; the result is what was in the way, or nothing."""
    claims = ShardClaims(plan.folder)
    pending = plan.shards[first:] + plan.shards[:first]
    try:
        while pending:
            num_pending = len(pending)
            still_pending = []
            for shard in pending:
                if parent is not None and not parent.is_alive():
                    return "the process that wanted decoded images has ended"  # nobody is left to wait for the rest
                if not _is_done(plan, shard, claims):
                    still_pending.append(shard)
            pending = still_pending
            if len(pending) == num_pending:  # the rest is with others
                time.sleep(_SECONDS_BETWEEN_LOOKS)
    except ValueError as error:
        return str(error)
    except OSError as error:
        return _disk_problem(plan, error)
    return ""


def _is_done(plan: ShardPlan, shard: Shard, claims: ShardClaims) -> bool:
    """Decode a shard unless it is there or another is at it."""
    if plan.is_built(shard):
        return True
    if not claims.claim(shard.name):
        return False
    try:
        if not plan.is_built(shard):  # another has finished it between the two looks
            _write(plan, shard, claims)
    finally:
        claims.give_back(shard.name)
    return True


def _write(plan: ShardPlan, shard: Shard, claims: ShardClaims) -> None:
    files, checksum = plan.files, new_checksum()
    with atomic_file(plan.path(shard), "wb") as file:
        for path in files.paths[shard.start : shard.stop]:
            pixels = read_image(files.root / path, files.in_channels, files.image_size).tobytes()
            checksum.update(pixels)
            file.write(pixels)
            claims.renew()
    plan.write_note(shard, checksum.hexdigest())


def _discard_broken(plan: ShardPlan) -> None:
    for shard in plan.shards:
        if plan.note_path(shard).exists() and not plan.is_sound(shard):
            _say(f"shard {plan.path(shard)} is damaged (its size or checksum is not as noted); decoding it again")
            plan.note_path(shard).unlink(missing_ok=True)
            plan.path(shard).unlink(missing_ok=True)


def _num_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_room(plan: ShardPlan, missing: list[Shard]) -> None:
    needed, free = sum(map(plan.num_bytes, missing)), shutil.disk_usage(plan.folder).free
    if needed > free:
        raise ValueError(
            f"decoded images need {needed:,} bytes in {plan.folder}, and its disk has {free:,} bytes free; {_ADVICE}"
        )


def _announce(plan: ShardPlan, missing: list[Shard], index: dict[str, Any] | None) -> None:
    if index is not None and (changes := "; ".join(_changes(plan, index))):
        _say(f"images of {plan.files.root} are not those that were decoded before: {changes}")
    count = sum(shard.stop - shard.start for shard in missing)
    size = sum(map(plan.num_bytes, missing)) / 1e9
    _say(
        f"decoding {count:,} of {len(plan.files.paths):,} images of {plan.files.root} ({size:.2f} GB) to {plan.folder}"
    )


def _changes(plan: ShardPlan, index: dict[str, Any]) -> Iterator[str]:
    """Say which files have changed, come and gone since an index was written."""
    before: dict[str, list[int]] = {}
    for entry in index.get("shards", []):
        note = read_json(plan.folder / f"{entry['name']}.json") or {}
        before |= {path: stamp for path, *stamp in note.get("sources", [])}
    now = dict(zip(plan.files.paths, map(list, plan.stamps), strict=True))
    if not before:
        return
    groups = {
        "changed": [path for path in now if path in before and now[path] != before[path]],
        "new": [path for path in now if path not in before],
        "gone": [path for path in before if path not in now],
    }
    for word, paths in groups.items():
        if paths:
            more = f" and {len(paths) - _NUM_NAMED:,} more" if len(paths) > _NUM_NAMED else ""
            yield f"{word}: {', '.join(paths[:_NUM_NAMED])}{more}"


def _remove_leftovers(folder: Path) -> None:
    """Delete what killed processes have left half-written."""
    unfinished = list(folder.glob(f"{TEMPORARY_PREFIX}*"))
    if not unfinished:
        return
    with atomic_file(folder / ".now", sync=False) as file:  # tells the time of the disk's server
        file.flush()
        now = os.fstat(file.fileno()).st_mtime
    (folder / ".now").unlink(missing_ok=True)
    for path in unfinished:
        if is_abandoned(path, now):
            path.unlink(missing_ok=True)


def _remove_others(plan: ShardPlan) -> None:
    """Delete shards of images as they were before, and claims: all is done."""
    wanted = {path(shard).name for shard in plan.shards for path in (plan.path, plan.note_path)} | {INDEX}
    for path in list(plan.folder.iterdir()):
        is_ours = path.suffix in {".uint8", ".json"} or path.name.startswith(CLAIM_PREFIX)
        if is_ours and path.name not in wanted:
            path.unlink(missing_ok=True)


def _disk_problem(plan: ShardPlan, error: OSError) -> str:
    if error.errno in DISK_ERRORS:
        return f"decoded images cannot be written to {plan.folder}: {error.strerror}; nothing is lost; {_ADVICE}"
    return f"decoded images cannot be kept in {plan.folder}: {error}; {_ADVICE}"


def _say(text: str) -> None:
    print(f"vitlab: {text}", file=sys.stderr, flush=True)
