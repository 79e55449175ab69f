"""Changes of color for a batch at once, each image by its own strength; uint8 in, uint8 out, on any device.

Names and formulas are those of the host's pipeline (transforms.py): what it does pixel by pixel is done here to a
whole batch.
"""

import torch
from torch import Tensor

from vitlab.data.byte_images import as_bytes


def scaled(images: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """Return images * factor + offset, cut to what a byte holds.

    Args:
        images: uint8 (batch, channels, height, width).
        factor: (batch,).
        offset: (batch,), white is 255.
    """
    changed = images.float().mul_(_each(factor)).add_(_each(offset))
    return as_bytes(changed.clamp_(0, 255))


def posterized(images: Tensor, bits: int) -> Tensor:
    """Return the images with the highest bits of each byte, 1 to 8."""
    return images & (256 - 2 ** (8 - bits))


def solarized(images: Tensor, threshold: Tensor) -> Tensor:
    """Return the images with what is at least as bright as a threshold inverted.

    Args:
        images: uint8 (batch, channels, height, width).
        threshold: (batch,), white is 1.
    """
    return torch.where(images >= _each(255 * threshold), 255 - images, images)


def equalized(images: Tensor) -> Tensor:
    """Return the images with the histogram of every channel spread over all values; one of a single value stays."""
    batch, channels, height, width = images.shape
    values = images.reshape(batch * channels, height * width).long()
    counts = torch.zeros(batch * channels, 256, device=images.device).scatter_add_(
        1, values, torch.ones_like(values, dtype=torch.float32)
    )
    total = counts.cumsum(1)
    darkest = counts.gather(1, values.amin(1, keepdim=True))  # how many pixels have the lowest value
    scale = 255 / (height * width - darkest).clamp(min=1)
    table = ((total - darkest) * scale).round_().clamp_(0, 255)
    single = (darkest == height * width).expand_as(table)
    table = torch.where(single, torch.arange(256.0, device=images.device), table)
    return as_bytes(table.gather(1, values)).view(batch, channels, height, width)


def _each(numbers: Tensor) -> Tensor:
    return numbers.view(-1, 1, 1, 1)
