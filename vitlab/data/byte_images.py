"""Images between bytes, channels last, and floats, one plane for each channel; on any device.

A batch of 32 px images fits a CPU's cache, where a pass of arithmetic is quick and what is not vectorized is what takes
the time: so conversions are put together from those that are.
"""

from collections.abc import Callable

import torch
from torch import Tensor

_PART_FLOATS = 2**19  # 2 MiB: smaller parts take more calls than they save


def in_parts(change: Callable[..., Tensor], images: Tensor, *tables: Tensor) -> Tensor:
    """Return change(images, *tables), on a CPU in parts whose floats stay near it.

    Larger pieces of memory would also go back to the system each time, and come anew page by page.

    Args:
        change: from images and rows of tables to images of the same shape.
        images: (batch, channels, height, width).
        tables: each with a row for each image.
    """
    num_parts = min(len(images), -(-images.numel() // _PART_FLOATS)) if images.is_cpu else 1
    if num_parts < 2:
        return change(images, *tables)
    parts = zip(*(table.tensor_split(num_parts) for table in (images, *tables)), strict=True)
    return torch.cat([change(*part).permute(0, 2, 3, 1) for part in parts]).permute(0, 3, 1, 2)


def as_planes(images: Tensor) -> Tensor:
    """Return bytes as floats 0 to 255, each channel a plane of its own, (batch, channels, height, width)."""
    return images.to(torch.float32, memory_format=torch.contiguous_format)


def as_bytes(pixels: Tensor) -> Tensor:
    """Return floats from 0 to 255 as bytes, without what lies behind the point; their order in memory stays."""
    return pixels.to(torch.int16).to(torch.uint8)  # a third of the time that a CPU takes for float to byte at once


def as_interleaved_bytes(planes: Tensor) -> Tensor:
    """Return planes of floats as bytes that lie channels last, (batch, channels, height, width); rounds the planes."""
    return torch.stack(as_bytes(planes.round_()).unbind(1), dim=-1).permute(0, 3, 1, 2)
