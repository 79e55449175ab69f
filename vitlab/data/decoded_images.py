"""Images that were decoded once and lie on the disk as bytes, read through memory maps.

The operating system keeps in memory what there is room for, once for all processes of a machine, and gives it up when
others need the room. This process lets go of what it has read, so that its own memory stays small. Whoever needs the
disk may delete a folder of shards at any time: it is made again when it is next wanted.
"""

import mmap
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from vitlab.data.datasets import Images
from vitlab.data.shard_builder import complete
from vitlab.data.shard_files import ImageFiles, ShardPlan

MAX_OPEN_FOLDERS = 3  # the splits of a data set
_MAPPED_BYTES = 32 * 2**20  # read through the maps before they are let go


class DecodedImages:
    """The decoded form of image files in a folder of shards; made when it is first asked for.

    Args:
        files: the image files.
        folder: where the shards stand or will stand.
    """

    def __init__(self, files: ImageFiles, folder: Path) -> None:
        self.files, self.folder = files, Path(folder)
        self._maps: list[np.memmap] | None = None
        self._images_per_shard = self._num_read = 0

    def prepare(self, num_workers: int = 0) -> None:
        """Decodes what is missing, with this many processes (0: this one alone).

        Raises:
            ValueError: an image cannot be read, the folder cannot be written, or the disk has no room.
        """
        self._open(num_workers)

    def read(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Reads images by their number among the files.

        Args:
            rows: the numbers, in any order.
            out: array for the result; None makes one.

        Shape:
            uint8 (rows, height, width, channels).
        """
        maps = self._open()
        if out is None:
            out = np.empty((len(rows), *self.files.image_shape), dtype=np.uint8)
        # In the order in which they lie, each to its own place: a disk is faster so.
        places = np.argsort(rows, kind="stable")
        shards, offsets = np.divmod(np.asarray(rows, dtype=np.int64)[places], self._images_per_shard)
        where = list(zip(places.tolist(), shards.tolist(), offsets.tolist(), strict=True))
        for _, shard, offset in where:
            _read_ahead(maps[shard], offset * self.files.image_bytes, self.files.image_bytes)
        for place, shard, offset in where:
            out[place] = maps[shard][offset]
        self._num_read += len(where)
        if self._num_read * self.files.image_bytes > _MAPPED_BYTES:
            self._num_read = 0
            for shard in maps:
                _let_go(shard)
        return out

    def close(self) -> None:
        """Forgets the maps; the next reading looks for changed files and opens them again."""
        self._maps = None
        _OPEN.pop(self.folder, None)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": None}  # another process opens its own; a map would travel as its pixels

    def _open(self, num_workers: int = 0) -> list[np.memmap]:
        if self._maps is None:
            plan = ShardPlan(self.folder, self.files)  # not kept: a million files' times take a lot of memory
            fingerprint, maps = _OPEN.pop(self.folder, ("", []))
            if fingerprint != plan.fingerprint:
                complete(plan, num_workers)
                maps = _mapped(plan)
            _OPEN[self.folder] = plan.fingerprint, maps
            if len(_OPEN) > MAX_OPEN_FOLDERS:
                _OPEN.popitem(last=False)
            self._images_per_shard, self._maps = plan.images_per_shard, maps
        return self._maps


# A sweep's worker builds the data set anew for each trial; the maps outlive the trial here.
_OPEN: OrderedDict[Path, tuple[str, list[np.memmap]]] = OrderedDict()


class StoredImages(Images):
    """Images of one split whose decoded form is on the disk.

    Args:
        decoded: the decoded form of files, some or all of which are these images.
        rows: their numbers among those files.
        labels: the class of each image.
    """

    in_memory, on_disk = False, True

    def __init__(self, decoded: DecodedImages, rows: np.ndarray, labels: np.ndarray) -> None:
        self.decoded = decoded
        self.rows, self.labels = np.asarray(rows, dtype=np.int64), np.asarray(labels, dtype=np.int64)

    def prepare(self, num_workers: int = 0) -> None:
        """Decodes what is missing on the disk, with this many processes (0: this one alone)."""
        self.decoded.prepare(num_workers)

    def batch(self, indices: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The images of these indices, uint8 (batch, height, width, channels), in `out` or a new array."""
        return self.decoded.read(self.rows[indices], out)


def _mapped(plan: ShardPlan) -> list[np.memmap]:
    shape = plan.files.image_shape
    counts = [shard.stop - shard.start for shard in plan.shards]
    pairs = zip(plan.shards, counts, strict=True)
    return [np.memmap(plan.path(shard), np.uint8, "r", shape=(count, *shape)) for shard, count in pairs]


def _read_ahead(shard: np.memmap, start: int, num_bytes: int) -> None:
    """Ask the disk for bytes that will be read, so that it works on many images at once."""
    if hasattr(mmap, "MADV_WILLNEED"):  # not on Windows
        first = start // mmap.PAGESIZE * mmap.PAGESIZE
        shard.base.madvise(mmap.MADV_WILLNEED, first, start + num_bytes - first)


def _let_go(shard: np.memmap) -> None:
    """Take what was read out of this process's memory; the operating system still has it."""
    if hasattr(mmap, "MADV_DONTNEED"):
        shard.base.madvise(mmap.MADV_DONTNEED)
