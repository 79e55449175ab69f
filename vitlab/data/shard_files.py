"""What a folder of decoded images holds: shards of pixels, a note beside each, and an index once all are there.

A shard is a plain file, uint8 (images, height, width, channels). Its name is a number and a hash of the image files in
it (paths, sizes, times of change), so that a shard of other files has another name: what is there under the wanted name
is what is wanted, and a change of one image costs one shard. The note beside it (JSON) has the checksum and the files.
The index (JSON) stands for the whole: while it names all shards that are wanted, no note needs to be read.

A checksum is computed again wherever a shard's size, or the time at which its file was last changed, is not as noted.
"""

import hashlib
import inspect
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import PIL

from vitlab.atomic_file import read_whole, write_json
from vitlab.data import decoding
from vitlab.data.datasets import content_hash

FORMAT = 1
INDEX = "index.json"
# Another Pillow may decode a JPEG to slightly other pixels, and so may another read_image.
_DECODER = f"Pillow {PIL.__version__}, decoding.py {content_hash(inspect.getsource(decoding).encode())}"
RESIZING = f"shorter side, bicubic, middle square; {_DECODER}"
SHARD_BYTES = 16 * 2**20
MAX_SHARDS = 128  # each takes a file handle while it is mapped
_STAT_THREADS = 16
_STAT_PART = 500  # files
_READ_BYTES = 2**22


@dataclass(frozen=True)
class ImageFiles:
    """Image files and how they are decoded.

    Args:
        root: folder of the files.
        paths: the files, relative to the root, with forward slashes.
        in_channels: 3 for RGB, 1 for gray.
        image_size: height and width in pixels of the decoded images.
    """

    root: Path
    paths: list[str]
    in_channels: int
    image_size: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a decoded image."""
        return self.image_size, self.image_size, self.in_channels

    @property
    def image_bytes(self) -> int:
        """Bytes of a decoded image."""
        return self.image_size**2 * self.in_channels

    @property
    def num_bytes(self) -> int:
        """Bytes of all decoded images."""
        return len(self.paths) * self.image_bytes

    def folder_key(self, split: str) -> str:
        """A name for the folder of decoded images: readable, and another one for another root, split or decoding."""
        root = self.root.resolve()
        parts = FORMAT, str(root), split, self.image_size, self.in_channels, RESIZING
        return f"{root.name}-{split}-{self.image_size}px-{content_hash(repr(parts).encode())[:12]}"


class Shard(NamedTuple):
    """Consecutive images that stand in one file: those from `start` to `stop` - 1."""

    name: str
    start: int
    stop: int


class ShardPlan:
    """The shards that there should be for image files as they are now.

    Args:
        folder: where the shards stand or will stand.
        files: the image files, at least one.

    Raises:
        ValueError: no files, or one has vanished.
    """

    def __init__(self, folder: Path, files: ImageFiles) -> None:
        if not files.paths:
            raise ValueError(f"there are no images of {str(files.root)!r} to decode; give at least one")
        self.folder, self.files = Path(folder), files
        self.stamps = _stamps(files)
        self.images_per_shard = max(1, SHARD_BYTES // files.image_bytes)
        while self.images_per_shard * MAX_SHARDS < len(files.paths):
            self.images_per_shard *= 2  # and not just enough: a few new images must not move all the others
        starts = range(0, len(files.paths), self.images_per_shard)
        self.shards = [self._shard(number, start) for number, start in enumerate(starts)]
        self.fingerprint = content_hash(*(shard.name.encode() for shard in self.shards))

    def _shard(self, number: int, start: int) -> Shard:
        stop = min(start + self.images_per_shard, len(self.files.paths))
        digest = content_hash(repr((FORMAT, self.files.image_shape, self.sources(start, stop))).encode())
        return Shard(f"{number:05d}-{digest[:16]}", start, stop)

    def sources(self, start: int, stop: int) -> list[list[Any]]:
        """Path, size in bytes and time of change in nanoseconds of the files from `start` to `stop` - 1."""
        pairs = zip(self.files.paths[start:stop], self.stamps[start:stop], strict=True)
        return [[path, *stamp] for path, stamp in pairs]

    def path(self, shard: Shard) -> Path:
        """The file of a shard's pixels."""
        return self.folder / f"{shard.name}.uint8"

    def note_path(self, shard: Shard) -> Path:
        """The file that says what a shard holds."""
        return self.folder / f"{shard.name}.json"

    def num_bytes(self, shard: Shard) -> int:
        """Size of a shard in bytes."""
        return (shard.stop - shard.start) * self.files.image_bytes

    def is_built(self, shard: Shard) -> bool:
        """Whether a shard is there; the note is written last."""
        try:
            return self.note_path(shard).exists() and self.path(shard).stat().st_size == self.num_bytes(shard)
        except FileNotFoundError:
            return False

    def write_note(self, shard: Shard, checksum: str) -> None:
        """Writes down what a shard holds and the state of its file, which from then on counts as checked."""
        note = {"checksum": checksum, "changed_ns": self.path(shard).stat().st_ctime_ns}
        write_json(self.note_path(shard), note | {"sources": self.sources(shard.start, shard.stop)})

    def is_as_noted(self, shard: Shard, note: dict[str, Any]) -> bool:
        """Whether a shard's file has its size and was not changed since it was last checked."""
        try:
            status = self.path(shard).stat()
        except FileNotFoundError:
            return False
        return (status.st_size, status.st_ctime_ns) == (self.num_bytes(shard), note.get("changed_ns"))

    def is_sound(self, shard: Shard) -> bool:
        """Whether a shard that is there has the pixels that were written; a file touched since is read and noted."""
        note = read_json(self.note_path(shard))
        if note is None:
            return False
        if self.is_as_noted(shard, note):
            return True
        if not self.is_built(shard) or checksum_of(self.path(shard)) != note.get("checksum"):
            return False
        self.write_note(shard, note["checksum"])
        return True

    def is_indexed(self, index: dict[str, Any] | None) -> bool:
        """Whether an index stands for exactly these shards, and their files are as noted in it."""
        if index is None or (index.get("format"), index.get("fingerprint")) != (FORMAT, self.fingerprint):
            return False
        notes = {note["name"]: note for note in index.get("shards", [])}
        return all(shard.name in notes and self.is_as_noted(shard, notes[shard.name]) for shard in self.shards)

    def write_index(self) -> None:
        """Writes the index of all shards; each must be there."""
        height, width, channels = self.files.image_shape
        entries = []
        for shard in self.shards:
            note = json.loads(read_whole(self.note_path(shard)))
            entry = {"name": shard.name, "images": shard.stop - shard.start}
            entries.append(entry | {key: note[key] for key in ("checksum", "changed_ns")})
        content = {"format": FORMAT, "dtype": "uint8", "count": len(self.files.paths)}
        content |= {"height": height, "width": width, "channels": channels, "resizing": RESIZING}
        content |= {"root": str(self.files.root.resolve()), "fingerprint": self.fingerprint, "shards": entries}
        write_json(self.folder / INDEX, content, indent=1)


def read_json(path: Path) -> dict[str, Any] | None:
    """What a JSON file holds, or None where there is none or it is damaged."""
    try:
        content = json.loads(read_whole(path))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def new_checksum() -> "hashlib.blake2b":
    """A checksum to be fed with a shard's bytes."""
    return hashlib.blake2b(digest_size=16)


def checksum_of(path: Path) -> str:
    """The checksum of a file."""
    checksum = new_checksum()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_READ_BYTES):
            checksum.update(chunk)
    return checksum.hexdigest()


def _stamps(files: ImageFiles) -> list[tuple[int, int]]:
    """Size and time of change of each file."""

    def stamps(paths: list[str]) -> list[tuple[int, int]]:
        try:
            found = [os.stat(os.path.join(files.root, path)) for path in paths]
        except FileNotFoundError as error:
            raise ValueError(f"image {error.filename} has vanished since the folder was listed; start again") from error
        return [(status.st_size, status.st_mtime_ns) for status in found]

    # On a network disk a million answers take minutes one after the other.
    parts = [files.paths[start : start + _STAT_PART] for start in range(0, len(files.paths), _STAT_PART)]
    with ThreadPoolExecutor(_STAT_THREADS) as threads:
        return [stamp for part in threads.map(stamps, parts) for stamp in part]
