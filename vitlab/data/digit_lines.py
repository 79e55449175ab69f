"""Lines of handwritten digits to transcribe: how many there are is not told.

scikit-learn's real digits of 8x8 pixels, one to five in a row at random places, in noise. Reading them is the smallest
case of transcribing what has no known length (Graves et al., Connectionist Temporal Classification, ICML 2006).
Training, validation and test lines are made of different digit images, so that what was memorized does not help.
"""

from functools import lru_cache

import numpy as np

from vitlab.data.datasets import DIGITS_SIZE, ArrayImages, ImageDataset, Images, content_hash, digit_images
from vitlab.data.image_stream import bell_noise, below, image_stream
from vitlab.data.subsets import split_validation

TEST_FRACTION, VALIDATION_FRACTION = 0.25, 0.2  # of the digit images; of those that testing leaves
NO_DIGIT = -1
_MAX_DIGITS = 9


class DigitLines(ImageDataset):
    """Lines of one to `max_digits` real digits; the target is the digits from left to right.

    Args:
        image_size: height and width in pixels; at least 8, and 8 for each of max_digits.
        max_digits: most digits in a line, 1 to 9; each number of digits is equally frequent.
        num_train: number of training lines, 2 for each number of digits or more.
        num_val: number of validation lines, likewise.
        num_test: number of test lines, likewise.
        seed: seed of the lines, 0 or more; the first lines of a larger set are those of a smaller one.
        noise: standard deviation of the pixel noise, 0 to 1.

    Raises:
        ValueError: a setting is out of its range.
    """

    name = "digit-lines"
    target = "sequence"
    in_channels = 1
    class_names = tuple("0123456789")

    def __init__(
        self,
        image_size: tuple[int, int] = (12, 56),
        max_digits: int = 5,
        num_train: int = 10_000,
        num_val: int = 1_000,
        num_test: int = 2_000,
        seed: int = 0,
        noise: float = 0.1,
    ) -> None:
        height, width = image_size
        if not 1 <= max_digits <= _MAX_DIGITS:
            raise ValueError(f"max_digits {max_digits} is out of range; use 1 to {_MAX_DIGITS}")
        if height < DIGITS_SIZE or width < DIGITS_SIZE * max_digits:
            raise ValueError(
                f"image_size [{height}, {width}] does not hold {max_digits} digits of {DIGITS_SIZE}x{DIGITS_SIZE} "
                f"pixels; use a height of {DIGITS_SIZE} and a width of {DIGITS_SIZE * max_digits} or more"
            )
        counts = {"train": num_train, "validation": num_val, "test": num_test}
        for split, count in counts.items():
            if count < 2 * max_digits:
                raise ValueError(
                    f"{count} {split} lines are too few; use 2 for each number of digits: {2 * max_digits}"
                )
        if not 0 <= seed < 2**64:
            raise ValueError(f"digit lines seed {seed} is out of range; use 0 to 2**64 - 1")
        if not 0 <= noise <= 1:
            raise ValueError(f"digit lines noise {noise} is out of range; use 0 to 1")
        self.image_size = (height, width)
        self.max_digits, self.counts, self.seed, self.noise = max_digits, counts, seed, float(noise)
        self.stratum_names = ("1 digit", *(f"{length} digits" for length in range(2, max_digits + 1)))

    @property
    def fingerprint(self) -> str:
        """Hash of the digits' pixels and labels, and of the settings that place them."""
        settings = (self.image_size, self.max_digits, self.counts, self.seed, self.noise)
        return content_hash(*digit_images(), repr(settings).encode())

    def train(self) -> Images:
        """Lines of the digit images that testing and validation leave."""
        return self._lines("train")

    def validation(self) -> Images:
        """Lines of digit images that no training line has."""
        return self._lines("validation")

    def test(self) -> Images:
        """Lines of digit images that no other line has."""
        return self._lines("test")

    def _lines(self, split: str) -> ArrayImages:
        return _line_images(self.image_size, self.max_digits, self.counts[split], self.seed, self.noise, split)


def split_digits() -> dict[str, np.ndarray]:
    """Returns which of scikit-learn's digit images make the lines of each split; every image is in one split alone."""
    labels = digit_images()[1]
    rest, test = split_validation(labels, TEST_FRACTION, seed=0)
    train, validation = split_validation(labels[rest], VALIDATION_FRACTION, seed=0)
    return {"train": rest[train], "validation": rest[validation], "test": test}


@lru_cache(maxsize=6)
def _line_images(
    image_size: tuple[int, int], max_digits: int, count: int, seed: int, noise: float, split: str
) -> ArrayImages:
    # Remembered, because a sweep's worker asks for the same images in every trial.
    height, width = image_size
    pixels, labels = (array[split_digits()[split]] for array in digit_images())
    images = np.empty((count, height, width, 1), dtype=np.uint8)
    sequences = np.full((count, max_digits), NO_DIGIT, dtype=np.int64)
    lengths = 1 + np.arange(count, dtype=np.int64) % max_digits
    for part, choices, noise_bytes in image_stream(count, seed, split, 3 * max_digits, height * width):
        which = below(choices[:, :max_digits], len(labels))  # (count, max_digits)
        is_there = np.arange(max_digits) < lengths[part, None]
        sequences[part] = np.where(is_there, labels[which], NO_DIGIT)
        rows = below(choices[:, max_digits : 2 * max_digits], height - DIGITS_SIZE + 1)
        columns = _columns(choices[:, 2 * max_digits : 3 * max_digits], is_there, width)
        canvas = np.zeros((len(choices), height, width), dtype=np.int32)
        for place in range(max_digits):
            image = np.flatnonzero(is_there[:, place])
            for dy, dx in np.ndindex(DIGITS_SIZE, DIGITS_SIZE):
                value = pixels[which[image, place], dy, dx, 0]
                canvas[image, rows[image, place] + dy, columns[image, place] + dx] = value
        canvas += bell_noise(noise_bytes, noise).reshape(canvas.shape)
        images[part, ..., 0] = np.clip(canvas, 0, 255)
    return ArrayImages(images, lengths - 1, sequences)


def _columns(choices: np.ndarray, is_there: np.ndarray, width: int) -> np.ndarray:
    """Left edges of digits that do not overlap: sorted random places in what is left free, then moved apart."""
    free = width - DIGITS_SIZE * is_there.sum(axis=1, keepdims=True)
    places = np.where(is_there, below(choices, free + 1), width)  # what is not there sorts to the end
    return np.sort(places, axis=1) + DIGITS_SIZE * np.arange(choices.shape[1])
