"""Random numbers for generated images: the same on every machine, and each image has its own.

Everything is integer arithmetic on the raw bits of a counter-based generator (Philox; Salmon et al., SC 2011): numpy
promises the raw stream forever, but not what its sampling methods make of it.
"""

from collections.abc import Iterator

import numpy as np

SPLITS = ("train", "test", "validation")  # the order is part of the streams' keys
NOISE_BYTES = 4  # the sum of four uniform bytes is close to a Gaussian
NOISE_BYTES_STD = (NOISE_BYTES * (256**2 - 1) / 12) ** 0.5
CHUNK_BYTES = 32 * 2**20


def image_stream(
    count: int, seed: int, split: str, num_choices: int, num_values: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Draws the numbers of the first `count` images, some images at a time.

    Image i owns a fixed stretch of the stream, so a larger set begins with the smaller one.

    Args:
        count: number of images, 0 or more.
        seed: seed of the stream, 0 or more.
        split: "train", "test" or "validation".
        num_choices: numbers that an image needs for its layout.
        num_values: pixel values that want noise.

    Shape:
        which images; their choices, int64 (images, num_choices or one more) below 2^32; the bytes of their noise, uint8
        (images, 4 * num_values).

    Raises:
        ValueError: a negative count or seed, or an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; use one of {', '.join(SPLITS)}")
    if count < 0 or not 0 <= seed < 2**64:
        raise ValueError(f"count {count} and seed {seed} must be 0 or more")
    stream = np.random.Philox(key=seed | SPLITS.index(split) << 64)
    choice_words = -(-num_choices // 2)
    words = choice_words + -(-num_values * NOISE_BYTES // 8)
    chunk = max(1, CHUNK_BYTES // (words * 8))
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        raw = stream.random_raw((stop - start) * words).reshape(stop - start, words).astype("<u8")
        choices = raw[:, :choice_words].copy().view("<u4").astype(np.int64)
        noise_bytes = raw[:, choice_words:].copy().view(np.uint8)[:, : num_values * NOISE_BYTES]
        yield slice(start, stop), choices, noise_bytes


def below(words: np.ndarray, limit: int | np.ndarray) -> np.ndarray:
    """Maps 32 random bits to 0 ... limit - 1 by multiplication, without the modulo's bias toward small numbers."""
    return (words * limit) >> 32


def bell_noise(noise_bytes: np.ndarray, noise: float) -> np.ndarray:
    """Makes bell-shaped integer noise by fixed-point arithmetic.

    Args:
        noise_bytes: random bytes, four for each pixel value.
        noise: standard deviation in units where white is 1.

    Shape:
        uint8 (images, 4 * values) to int32 (images, values), in units where white is 255.
    """
    total = noise_bytes.reshape(len(noise_bytes), -1, NOISE_BYTES).sum(axis=2, dtype=np.int32)
    factor = round(noise * 255 / NOISE_BYTES_STD * 2**16)
    return ((total - NOISE_BYTES * 255 // 2) * factor) >> 16
