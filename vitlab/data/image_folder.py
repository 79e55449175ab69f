"""Any folder of images, one subfolder per class.

Three layouts: train/CLASS and test/CLASS, with val/CLASS if there is one; train/CLASS and val/CLASS alone (ImageNet's:
val is then the test set, and validation images are split from train); or CLASS folders alone, split here by seed.
"""

import os
from collections import OrderedDict
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from vitlab.data.datasets import ImageDataset, Images, content_hash
from vitlab.data.decoded_images import DecodedImages, StoredImages
from vitlab.data.decoding import read_image
from vitlab.data.shard_builder import free_bytes, stored_bytes
from vitlab.data.shard_files import ImageFiles
from vitlab.data.statistics import cache_folder
from vitlab.data.subsets import split_validation

Cache = Literal["auto", "memory", "disk", "none"]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
SPLIT_FOLDERS = ("train", "val", "test")
MAX_SIZED_FILES = 10_000
MAX_CACHED_SIZE = 64  # pixels; larger images are not held in memory unless that is asked for
MAX_CACHED_BYTES = 4 * 2**30
MAX_CACHED_SPLITS = 6
MAX_STORED_BYTES = 32 * 2**30  # and at most half of the disk's free room: it is the user's, and not for this alone


class FileImages(Images):
    """Images decoded from files as they are read; kept in memory once decoded, where there is room.

    Args:
        paths: the files.
        labels: the class of each file.
        in_channels: 3 for RGB, 1 for gray.
        image_size: height and width in pixels of the decoded images.
        cache_key: name under which this process keeps the decoded images, for other objects of the same content.
        in_memory: whether to keep them; None keeps images of 64 pixels or fewer where all take 4 GiB at most.
    """

    def __init__(
        self,
        paths: list[str],
        labels: np.ndarray,
        in_channels: int,
        image_size: int,
        cache_key: str,
        in_memory: bool | None = None,
    ) -> None:
        self.paths = paths
        self.labels = np.asarray(labels, dtype=np.int64)
        self.in_channels, self.image_size, self.cache_key = in_channels, image_size, cache_key
        num_bytes = len(paths) * image_size**2 * in_channels
        self.in_memory = is_small(image_size, num_bytes) if in_memory is None else in_memory

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """The images of these indices as a new array, uint8 (batch, height, width, channels)."""
        if not self.in_memory:
            return self._decode(indices)
        pixels, is_decoded = self._cache()
        missing = np.unique(indices[~is_decoded[indices]])
        if len(missing):
            pixels[missing] = self._decode(missing)
            is_decoded[missing] = True
        return pixels[indices]

    def _decode(self, indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), self.image_size, self.image_size, self.in_channels), dtype=np.uint8)
        for row, index in enumerate(indices):
            images[row] = read_image(self.paths[index], self.in_channels, self.image_size)
        return images

    def _cache(self) -> tuple[np.ndarray, np.ndarray]:
        if self.cache_key not in _DECODED:
            shape = (len(self.paths), self.image_size, self.image_size, self.in_channels)
            # zeros takes no memory until a page is written, so a small subset of a large folder stays small.
            _DECODED[self.cache_key] = np.zeros(shape, dtype=np.uint8), np.zeros(len(self.paths), dtype=bool)
            if len(_DECODED) > MAX_CACHED_SPLITS:
                _DECODED.popitem(last=False)
        return _DECODED[self.cache_key]


# A sweep's worker builds the data set anew for each trial; the decoded pixels outlive the trial here.
_DECODED: OrderedDict[str, tuple[np.ndarray, np.ndarray]] = OrderedDict()


class ImageFolder(ImageDataset):
    """A folder of image files in train/CLASS, test/CLASS and perhaps val/CLASS, or in CLASS folders alone.

    With train/ and val/ but no test/, val/ is the test set. CLASS folders alone are split into training and test.

    Args:
        root: the folder.
        image_size: height and width in pixels to which images are scaled and cropped, 1 or more.
        in_channels: 3 for RGB, 1 for gray.
        test_fraction: share of each class held out for testing when the folder has no split, above 0, below 1.
        split_seed: seed of that split, 0 or more.
        cache: where decoded images are kept: `memory`; `disk`, once for all trainings, as bytes in $VITLAB_CACHE or the
            user's cache folder, from which they are read as they are needed; `none`, so that each is decoded whenever
            it is read; `auto`: in memory up to 64 pixels and 4 GiB a split, else on the disk up to 32 GiB a split and
            half of what is free there, else none. The pixels are the same.

    Raises:
        ValueError: the folder is missing, has no classes or an empty one, or its splits have different classes; on
            `train()` or `test()`, the decoded images do not fit where they are to be kept.
    """

    def __init__(
        self,
        root: str,
        image_size: int,
        in_channels: int = 3,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        cache: Cache = "auto",
    ) -> None:
        if image_size < 1:
            raise ValueError(f"image_size {image_size} must be 1 or more")
        if in_channels not in (1, 3):
            raise ValueError(f"in_channels {in_channels} is not supported for image files; use 1 (gray) or 3 (RGB)")
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction {test_fraction} must be between 0 and 1")
        if cache not in get_args(Cache):
            raise ValueError(f"unknown cache {cache!r}; use {', '.join(get_args(Cache))}")
        self.root, self.cache = Path(root).expanduser(), cache
        self.image_size, self.in_channels = image_size, in_channels
        self.test_fraction, self.split_seed = test_fraction, split_seed
        self.name = self.root.resolve().name
        self._splits, self.class_names = _scan(self.root)
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """Hash of all file names, of the byte counts of up to 10,000 files, and of how they are decoded and split."""
        if self._fingerprint is None:
            split = (self.test_fraction, self.split_seed) if "test" not in self._splits else None
            parts = [repr((self.image_size, self.in_channels, split)).encode()]
            for name, (paths, _) in sorted(self._splits.items()):
                # Asking for a million sizes takes minutes on a network disk.
                chosen = [paths[i * len(paths) // MAX_SIZED_FILES] for i in range(MAX_SIZED_FILES)]
                sized = paths if len(paths) <= MAX_SIZED_FILES else chosen
                sizes = [(self.root / path).stat().st_size for path in sized]
                parts.append(repr((name, paths, sizes)).encode())
            self._fingerprint = content_hash(*parts)
        return self._fingerprint

    def train(self) -> Images:
        """The files of train/, or the training part of an unsplit folder."""
        return self._images("train")

    def test(self) -> Images:
        """The files of test/ (or, without it, of val/), or the test part of an unsplit folder."""
        return self._images("test")

    def validation(self) -> Images | None:
        """The files of val/ where there is a test/ beside it."""
        return self._images("val") if "val" in self._splits else None

    def _images(self, split: str) -> Images:
        source = split if "test" in self._splits else "train"
        paths, labels = self._splits[source]
        rows = np.arange(len(paths))
        if "test" not in self._splits:
            rows = split_validation(labels, self.test_fraction, self.split_seed, self.class_names)[split == "test"]
        # All files of a folder, whatever the split: another split_seed needs no other decoded images.
        files = ImageFiles(self.root, paths, self.in_channels, self.image_size)
        folder = cache_folder() / "decoded_images" / files.folder_key(source)
        cache = self._where_kept(len(rows), files, folder)
        if cache == "disk":
            return StoredImages(DecodedImages(files, folder), rows, labels[rows])
        chosen, key = [str(self.root / paths[row]) for row in rows], f"{self.fingerprint}-{split}"
        return FileImages(chosen, labels[rows], self.in_channels, self.image_size, key, in_memory=cache == "memory")

    def _where_kept(self, num_images: int, files: ImageFiles, folder: Path) -> Cache:
        num_bytes = num_images * files.image_bytes
        if self.cache == "memory":
            _check_memory(num_bytes)
        if self.cache != "auto":
            return self.cache
        if is_small(self.image_size, num_bytes):
            return "memory"
        # What is there already needs no room; another process may be about to write the rest.
        missing = files.num_bytes - stored_bytes(folder)
        return "disk" if files.num_bytes <= MAX_STORED_BYTES and 2 * missing <= free_bytes(folder) else "none"


def is_small(image_size: int, num_bytes: int) -> bool:
    """Whether decoded images are kept in memory where nothing else is asked for."""
    return image_size <= MAX_CACHED_SIZE and num_bytes <= MAX_CACHED_BYTES


def _check_memory(num_bytes: int) -> None:
    """Refuse to hold images in memory that is not there: the machine would swap or end the process."""
    if hasattr(os, "sysconf"):
        installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if num_bytes > installed:
            raise ValueError(
                f"cache is memory, but the decoded images take {num_bytes / 1e9:.1f} GB, and this machine has "
                f"{installed / 1e9:.1f} GB; use cache disk or auto, or a smaller image_size"
            )


Split = tuple[list[str], np.ndarray]


def _scan(root: Path) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Files (relative to the root) and labels of each split, and the class names."""
    if not root.is_dir():
        raise ValueError(f"image folder {str(root)!r} does not exist; give a folder with one subfolder per class")
    folders = _subfolders(root)
    present = [name for name in SPLIT_FOLDERS if name in folders]
    if not present:
        return _scan_splits(root, {"train": ""})
    if "train" not in present:
        raise ValueError(f"image folder {str(root)!r} has {' and '.join(present)} but no train folder")
    if present == ["train", "val"]:
        return _scan_splits(root, {"train": "train", "test": "val"})
    return _scan_splits(root, {name: name for name in present})


def _scan_splits(root: Path, folder_of: dict[str, str]) -> tuple[dict[str, Split], tuple[str, ...]]:
    class_names = _subfolders(root / folder_of["train"])
    if len(class_names) < 2:
        raise ValueError(
            f"image folder {str(root / folder_of['train'])!r} has {len(class_names)} class folders; "
            "it needs at least 2, each with the images of one class"
        )
    splits = {}
    for split, folder in folder_of.items():
        found = _subfolders(root / folder)
        if found != class_names:
            odd = sorted(set(found) ^ set(class_names))
            raise ValueError(
                f"the classes of {folder}/ and train/ differ in {', '.join(odd)}; give both the same folders"
            )
        splits[split] = _scan_classes(root, folder, class_names)
    return splits, tuple(class_names)


def _scan_classes(root: Path, folder: str, class_names: list[str]) -> Split:
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        files = _image_files(root, os.path.join(folder, name))
        if not files:
            raise ValueError(
                f"class folder {str(root / folder / name)!r} holds no images ({', '.join(EXTENSIONS)}); "
                "add some or remove the folder"
            )
        paths += files
        labels += [label] * len(files)
    return paths, np.array(labels, dtype=np.int64)


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _image_files(root: Path, folder: str) -> list[str]:
    """Image files in a folder and those below it, sorted, relative to the root, with forward slashes."""
    files, pending = [], [folder]
    while pending:
        current = pending.pop()
        with os.scandir(root / current) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = os.path.join(current, entry.name)
                if entry.is_dir():
                    pending.append(path)
                elif entry.name.lower().endswith(EXTENSIONS):
                    files.append(path.replace(os.sep, "/"))
    return sorted(files)
