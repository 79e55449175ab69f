"""Data sets that fit in memory: generated glyphs, scikit-learn's digits.

A data set is cheap to construct and knows its shape at once, because the configuration links its classes, channels and
size to the model before any image is read. `train()` and `test()` do the work; `validation()` is for data that bring
their own.
"""

import hashlib
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Literal

import numpy as np

from vitlab.data.glyphs import CLASS_NAMES, GlyphSettings, generate
from vitlab.data.subsets import split_validation

DIGITS_SIZE = 8

# What a model is to say of an image: its class, the class of each pixel, or classes from left to right.
Target = Literal["label", "mask", "sequence"]


class Images(ABC):
    """Labeled images of one split, read in batches.

    Attributes:
        labels: the class of each image, int64 (images,); subsets and splits are balanced by it.
        in_memory: whether the images are, or after the first reading will be, held in memory as arrays.
        on_disk: whether they are, or after the first reading will be, on the disk as arrays.
    """

    labels: np.ndarray
    in_memory: bool
    on_disk: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def prepare(self, num_workers: int = 0) -> None:  # noqa: B027 (most images need none)
        """Does once, with this many processes, what reading will need: decodes files to the disk. 0: in this one."""

    @abstractmethod
    def batch(self, indices: np.ndarray) -> np.ndarray:
        """The images of these indices as a new array, uint8 (batch, height, width, channels)."""

    def targets(self, indices: np.ndarray) -> np.ndarray:
        """What a model is to say of the images of these indices, integers (batch, ...): their labels, or more."""
        return self.labels[indices]


class ArrayImages(Images):
    """Images held in one array.

    Args:
        pixels: uint8 (images, height, width, channels).
        labels: the class of each image, one integer per image.
        targets: what a model is to say of each image where that is more than its label: masks (images, height, width)
            or sequences (images, longest), filled up with -1.

    Raises:
        ValueError: arrays of another type or of different lengths.
    """

    in_memory = True

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, targets: np.ndarray | None = None) -> None:
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or len(pixels) != len(labels):
            raise ValueError(
                "pixels must be uint8 (images, height, width, channels) with one label each; "
                f"got {pixels.dtype} {pixels.shape} and {len(labels)} labels"
            )
        if targets is not None and (len(targets) != len(pixels) or targets.dtype.kind not in "iu"):
            raise ValueError(
                f"targets must be integers, one entry per image; got {targets.dtype} {targets.shape} for "
                f"{len(pixels)} images"
            )
        self.pixels = pixels
        self.labels = np.asarray(labels, dtype=np.int64)
        self._targets = self.labels if targets is None else targets

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """The images of these indices as a new array, uint8 (batch, height, width, channels)."""
        return self.pixels[indices]

    def targets(self, indices: np.ndarray) -> np.ndarray:
        """What a model is to say of the images of these indices, integers (batch, ...)."""
        return self._targets[indices]


class ImageDataset(ABC):
    """A data set with a training and a test split.

    Attributes:
        name: what reports call it.
        target: what a model is to say of an image: "label", its class; "mask", the class of each pixel; "sequence",
            classes from left to right, as many as there are.
        num_classes: number of classes.
        in_channels: 3 for RGB, 1 for gray.
        image_size: height and width in pixels, one number where they are equal.
        class_names: one name per class, indexed by label, by a mask's pixels or by a sequence's entries.
        stratum_names: one name per value of the images' labels, by which subsets are balanced: class_names where the
            target is the label.
    """

    name: str
    target: Target = "label"
    in_channels: int
    image_size: int | tuple[int, int]
    class_names: tuple[str, ...]
    stratum_names: tuple[str, ...] | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of the content: equal where two machines hold the same images."""

    def prepare(self) -> None:  # noqa: B027 (most data sets have nothing to fetch)
        """Fetches what is missing; called by one process of several, before `train()`."""

    @abstractmethod
    def train(self) -> Images:
        """The images to train on, and to split validation images from."""

    @abstractmethod
    def test(self) -> Images:
        """The images that only the final measurement reads."""

    def validation(self) -> Images | None:
        """The data set's own validation images, if it has any."""
        return None


def content_hash(*parts: bytes | np.ndarray) -> str:
    """Hashes bytes and arrays to 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
    return digest.hexdigest()[:16]


class Glyphs(ImageDataset):
    """Generated images in which small glyphs and the colors of two squares tell the class (see vitlab.data.glyphs).

    Args:
        task: "local" (the glyphs' shape is the label), "relational" (whether two squares share a color is the label) or
            "both" (the squares always agree with the label, the glyphs only with probability `agreement`).
        image_size: height and width in pixels, 12 or more.
        num_train: number of training images, 2 or more.
        num_test: number of test images, 2 or more.
        seed: seed of the images, 0 or more; the first images of a larger set are those of a smaller one.
        num_glyphs: glyphs in an image, 1 or more.
        amplitude: brightness of a glyph above the background, above 0, at most 1.
        noise: standard deviation of the pixel noise, 0 to 1.
        agreement: probability that the glyphs agree with the label in task "both", 0.5 to 1.

    Raises:
        ValueError: a setting is out of its range.
    """

    in_channels = 3

    def __init__(
        self,
        task: str = "both",
        image_size: int = 16,
        num_train: int = 10_000,
        num_test: int = 2_000,
        seed: int = 0,
        num_glyphs: int = 4,
        amplitude: float = 0.6,
        noise: float = 0.1,
        agreement: float = 0.85,
    ) -> None:
        self.settings = GlyphSettings(task, image_size, num_glyphs, amplitude, noise, agreement)
        if num_train < 2 or num_test < 2:
            raise ValueError(f"glyphs need at least 2 images a split; got num_train {num_train}, num_test {num_test}")
        if not 0 <= seed < 2**64:
            raise ValueError(f"glyphs seed {seed} is out of range; use 0 to 2**64 - 1")
        self.name = f"glyphs-{task}"
        self.image_size = image_size
        self.class_names = CLASS_NAMES[task]
        self.num_train, self.num_test, self.seed = num_train, num_test, seed

    @property
    def fingerprint(self) -> str:
        """Hash of the settings, which fix every pixel."""
        return content_hash(repr((self.settings, self.num_train, self.num_test, self.seed)).encode())

    def train(self) -> Images:
        """The generated training images."""
        return _glyph_images(self.settings, self.num_train, self.seed, "train")

    def test(self) -> Images:
        """The generated test images."""
        return _glyph_images(self.settings, self.num_test, self.seed, "test")


class Digits(ImageDataset):
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels: real images that come with the library.

    Args:
        test_fraction: share of the images held out for testing, above 0, below 1.
        split_seed: seed of that split, 0 or more.
        image_size: height and width in pixels, a multiple of 8; each pixel is repeated.

    Raises:
        ValueError: a setting is out of its range.
    """

    name = "digits"
    in_channels = 1
    class_names = tuple("0123456789")

    def __init__(self, test_fraction: float = 0.25, split_seed: int = 0, image_size: int = DIGITS_SIZE) -> None:
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction {test_fraction} must be between 0 and 1")
        if image_size < DIGITS_SIZE or image_size % DIGITS_SIZE:
            raise ValueError(f"image_size {image_size} is not a multiple of {DIGITS_SIZE}; use 8, 16, 24, 32, ...")
        self.test_fraction, self.split_seed, self.image_size = float(test_fraction), split_seed, image_size

    @property
    def fingerprint(self) -> str:
        """Hash of the pixels, the labels and the split."""
        parts = [self._part(0), self._part(1)]
        return content_hash(*(array for part in parts for array in (part.pixels, part.labels)))

    def train(self) -> Images:
        """The training part of the fixed split."""
        return self._part(0)

    def test(self) -> Images:
        """The test part of the fixed split."""
        return self._part(1)

    def _part(self, part: int) -> ArrayImages:
        pixels, labels = digit_images()
        indices = split_validation(labels, self.test_fraction, self.split_seed, self.class_names)[part]
        repeat = self.image_size // DIGITS_SIZE
        return ArrayImages(pixels[indices].repeat(repeat, axis=1).repeat(repeat, axis=2), labels[indices])


@lru_cache(maxsize=4)
def _glyph_images(settings: GlyphSettings, count: int, seed: int, split: str) -> ArrayImages:
    # Remembered, because a sweep's worker asks for the same images in every trial.
    return ArrayImages(*generate(settings, count, seed, split))


@lru_cache(maxsize=1)
def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """Reads scikit-learn's digits.

    Shape:
        images uint8 (1797, 8, 8, 1), labels int64 (1797,).
    """
    from sklearn.datasets import load_digits  # slow to import, and needed by this data set alone

    digits = load_digits()
    # The files hold 0 to 16; 17 levels spread over 0 to 255.
    return np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None], digits.target.astype(np.int64)
