"""Mean and standard deviation of each color channel, by which images are normalized.

Sums of uint8 values and of their squares are exact in 64-bit integers, so that the result does not depend on the chunks
in which the images are read.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vitlab.atomic_file import write_json

ChannelStatistics = tuple[tuple[float, ...], tuple[float, ...]]
ReadBatch = Callable[[np.ndarray], np.ndarray]

MAX_FILES = 10_000
CHUNK_IMAGES = 256


def channel_statistics(read_batch: ReadBatch, indices: np.ndarray) -> ChannelStatistics:
    """Computes the mean and standard deviation of each channel over whole images.

    Args:
        read_batch: gives the images of an array of indices as uint8 (batch, height, width, channels).
        indices: the images to count, at least one.

    Shape:
        two tuples, mean and standard deviation, one number per channel, in units where white is 1.

    Raises:
        ValueError: no indices.
    """
    if len(indices) == 0:
        raise ValueError("channel statistics need at least one image")
    total, squares, count = 0, 0, 0
    for start in range(0, len(indices), CHUNK_IMAGES):
        images = read_batch(indices[start : start + CHUNK_IMAGES])
        pixels = images.reshape(-1, images.shape[-1])
        # A histogram per channel costs one pass; its 256 products replace a square for each pixel.
        counts = np.stack([np.bincount(channel, minlength=256) for channel in pixels.T])
        total = total + counts @ np.arange(256)
        squares = squares + counts @ np.arange(256) ** 2
        count += len(pixels)
    pairs = [(int(t), int(s)) for t, s in zip(total, squares, strict=True)]
    mean = tuple(t / count / 255 for t, _ in pairs)
    # Python's integers do not overflow: count * squares - total^2 is exact, where E[x^2] - E[x]^2 would cancel.
    std = tuple(math.sqrt(count * s - t * t) / count / 255 for t, s in pairs)
    return mean, std


def cached_channel_statistics(read_batch: ReadBatch, indices: np.ndarray, fingerprint: str) -> ChannelStatistics:
    """Computes the statistics of image files once, and remembers them in the user's cache folder.

    At most 10,000 evenly spaced images are read: the standard error of a channel's mean is then below a thousandth.

    Args:
        read_batch: gives the images of an array of indices as uint8 (batch, height, width, channels).
        indices: the images to count, at least one.
        fingerprint: hash of the data set's content and of how it is decoded.

    Shape:
        as `channel_statistics`.
    """
    if len(indices) > MAX_FILES:
        indices = indices[np.arange(MAX_FILES) * len(indices) // MAX_FILES]
    key = hashlib.sha256(fingerprint.encode() + np.asarray(indices, dtype="<i8").tobytes()).hexdigest()[:32]
    path = cache_folder() / "channel_statistics" / f"{key}.json"
    known = _read(path)
    if known is None:
        known = channel_statistics(read_batch, indices)
        write_json(path, {"mean": known[0], "std": known[1]})
    return known


def cache_folder() -> Path:
    """The folder for what can be computed again: $VITLAB_CACHE, $XDG_CACHE_HOME/vitlab or ~/.cache/vitlab."""
    if own := os.environ.get("VITLAB_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "vitlab"
    return Path.home() / ".cache" / "vitlab"


def _read(path: Path) -> ChannelStatistics | None:
    """The remembered statistics, or None when there are none or the file is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        mean, std = tuple(map(float, content["mean"])), tuple(map(float, content["std"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_sound = 0 < len(mean) == len(std) and all(map(math.isfinite, mean + std))
    return (mean, std) if is_sound else None
