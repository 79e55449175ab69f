"""Pictures for pages: what a model was shown, as it was before normalization, and colors that mean numbers.

The colors are matplotlib's inferno: equal steps of a number look equally far apart, in gray and to the color-blind too.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

COLOR_MAP = "inferno"
NUM_COLORS = 256
_SMALL = 64  # pixels: below, PNG is small and keeps every pixel
_JPEG_QUALITY = 90


@dataclass(frozen=True)
class Pictures:
    """Images as people see them.

    Args:
        pixels: uint8 (batch, height, width, 3).
        is_stretched: Whether their range was unknown, so that black and white are the least and the greatest number.
    """

    pixels: np.ndarray
    is_stretched: bool


def pictures_of(images: Tensor, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> Pictures:
    """Return images that were made for a model as people see them.

    Args:
        images: What the model takes, (batch, channels, height, width); uint8, or normalized.
        mean: What was subtracted from each channel, in units where white is 1; None: nothing.
        std: What each channel was divided by then, in the same units; None: nothing.

    Shape: (batch, channels, height, width) to (batch, height, width, 3); one channel is gray, and of more than three
        their mean is shown.

    Raises:
        ValueError: These are no images, are not finite, or there is not one mean and std for each channel.
    """
    if images.ndim != 4 or not len(images) or not images.shape[1]:
        raise ValueError(f"images must be (batch, channels, height, width) and not empty, got {tuple(images.shape)}")
    values = images.detach().cpu().numpy().astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("images hold numbers that are not finite; look at what made them")
    values = _denormalized(values, mean, std) if images.dtype.is_floating_point else values / 255
    is_stretched = bool(values.min() < -0.02 or values.max() > 1.02)  # rounding is no other range
    if is_stretched:
        low = values.min(axis=(1, 2, 3), keepdims=True)
        values = (values - low) / np.maximum(values.max(axis=(1, 2, 3), keepdims=True) - low, 1e-12)
    pixels = np.rint(255 * values.clip(0, 1)).astype(np.uint8).transpose(0, 2, 3, 1)  # (batch, height, width, channels)
    if pixels.shape[-1] != 3:
        pixels = np.rint(pixels.mean(axis=-1, keepdims=True)).astype(np.uint8).repeat(3, axis=-1)
    return Pictures(pixels, is_stretched)


def _denormalized(values: np.ndarray, mean: Sequence[float] | None, std: Sequence[float] | None) -> np.ndarray:
    channels = values.shape[1]
    for name, given in (("mean", mean), ("std", std)):
        if given is not None and len(given) != channels:
            raise ValueError(f"{name} has {len(given)} numbers and the images {channels} channels; give one for each")
    shift = np.zeros(channels) if mean is None else np.asarray(mean)
    scale = np.ones(channels) if std is None else np.asarray(std)
    return values * scale.astype(np.float32)[:, None, None] + shift.astype(np.float32)[:, None, None]


def data_address(pixels: np.ndarray) -> str:
    """Return a picture as a data: address, which a page can show without fetching anything.

    Args:
        pixels: uint8 (height, width, 3).
    """
    from PIL import Image

    small = max(pixels.shape[:2]) <= _SMALL
    kind, options = ("PNG", {"optimize": True}) if small else ("JPEG", {"quality": _JPEG_QUALITY})
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def color_table() -> str:
    """Return NUM_COLORS colors from the least to the greatest number, six hexadecimal digits each."""
    import matplotlib  # 0.7 s to import: nothing but drawing pays it

    colors = matplotlib.colormaps[COLOR_MAP](np.linspace(0, 1, NUM_COLORS), bytes=True)[:, :3]
    return colors.tobytes().hex()
