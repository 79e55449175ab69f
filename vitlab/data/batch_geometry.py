"""Shifts, mirror images, rotations and erased rectangles for a batch at once: each image by its own random numbers.

Images and numbers may lie on any device. The ranges are those of the host's pipeline (transforms.py), so that a model
sees the same distribution of images on either path.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.data.byte_images import as_bytes

_ERASED_AREA, _ERASED_RATIOS = (0.02, 0.33), (0.3, 3.3)  # arXiv 1708.04896


def padded_crop(images: Tensor, padding: int, top: Tensor, left: Tensor) -> Tensor:
    """Return each image shifted by up to `padding` pixels a side, with a mirrored border.

    Args:
        images: (batch, channels, height, width).
        padding: pixels of border on each side, below height and width.
        top, left: uniform numbers from 0 to 1, (batch,).
    """
    height, width = images.shape[-2:]
    rows = _mirrored(_offsets(top, 2 * padding + 1) - padding, height)
    columns = _mirrored(_offsets(left, 2 * padding + 1) - padding, width)
    return _taken(images, rows, columns)


def mirrored_columns(images: Tensor, chance: Tensor) -> Tensor:
    """Return every other image with left and right exchanged: those whose number from 0 to 1 is below a half.

    Args:
        images: (batch, channels, height, width).
        chance: (batch,).
    """
    pixels = images.permute(0, 2, 3, 1)  # whole images are moved as they mostly lie
    rows = torch.arange(len(images), device=images.device) + (chance < 0.5) * len(images)
    return torch.cat((pixels, pixels.flip(2))).index_select(0, rows).permute(0, 3, 1, 2)


def affine(images: Tensor, matrices: Tensor) -> Tensor:
    """Return each image moved by a matrix about its center; bilinear, black where nothing was.

    Args:
        images: uint8 (batch, channels, height, width).
        matrices: (batch, 2, 3): where an output pixel comes from, in pixels (x, y, 1) from the center.
    """
    height, width = images.shape[-2:]
    y = torch.arange(height, device=images.device) - (height - 1) / 2
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    places = torch.stack(
        (x.expand(height, width), y[:, None].expand(height, width), torch.ones_like(x).expand(height, width))
    )
    moved = (matrices @ places.flatten(1)).view(-1, 2, height, width)
    return sampled(images, moved[:, 0], moved[:, 1])


def sampled(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return what images show at other places; bilinear, black beyond their edges.

    Args:
        images: uint8 (batch, channels, height, width).
        x, y: places in pixels from the center, each (batch, height, width).
    """
    height, width = images.shape[-2:]
    grid = torch.stack((x * (2 / max(width - 1, 1)), y * (2 / max(height - 1, 1))), dim=-1)
    pixels = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return as_bytes(pixels.round_())


def rotation(degrees: Tensor) -> Tensor:
    """Return the matrices of rotations, (batch, 2, 3)."""
    radians = degrees * (math.pi / 180)
    return _matrix(radians.cos(), -radians.sin(), radians.sin(), radians.cos())


def shear(degrees_x: Tensor, degrees_y: Tensor) -> Tensor:
    """Return the matrices of shears, (batch, 2, 3); one of the two angles of each image must be 0."""
    x, y = torch.tan(degrees_x * (math.pi / 180)), torch.tan(degrees_y * (math.pi / 180))
    return _matrix(torch.ones_like(x), x, y, torch.ones_like(y))


def shift(x: Tensor, y: Tensor) -> Tensor:
    """Return the matrices of shifts by whole pixels, (batch, 2, 3)."""
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return _matrix(one, zero, zero, one, -x.trunc(), -y.trunc())


def erased(images: Tensor, probability: float, numbers: Tensor) -> Tensor:
    """Return the images with a black rectangle in some (arXiv 1708.04896).

    Args:
        images: (batch, channels, height, width).
        probability: of a rectangle, 0 to 1.
        numbers: uniform from 0 to 1, (batch, 5): whether, area, ratio, top, left.
    """
    height, width = images.shape[-2:]
    low, high = _ERASED_RATIOS
    fitting = min(low * height**2, width**2 / high)  # larger ones would not fit at every ratio
    least, most = _ERASED_AREA[0] * height * width, min(_ERASED_AREA[1] * height * width, fitting)
    if most < least:
        return images
    area = least + (most - least) * numbers[:, 1]
    ratio_low, ratio_high = (area / height**2).clamp(min=low), (width**2 / area).clamp(max=high)
    ratio = ratio_low + (ratio_high - ratio_low) * numbers[:, 2]
    heights, widths = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
    tops, lefts = ((height - heights + 1) * numbers[:, 3]).floor(), ((width - widths + 1) * numbers[:, 4]).floor()
    inside = _between(tops, heights, height)[:, :, None] & _between(lefts, widths, width)[:, None, :]
    inside &= (numbers[:, 0] < probability).view(-1, 1, 1)
    return images.masked_fill(inside[:, None], 0)


def _between(start: Tensor, length: Tensor, size: int) -> Tensor:
    places = torch.arange(size, device=start.device)
    return (places >= start[:, None]) & (places < (start + length)[:, None])


def _offsets(numbers: Tensor, count: int) -> Tensor:
    return (numbers * count).long().clamp(max=count - 1)  # (batch,)


def _mirrored(offsets: Tensor, size: int) -> Tensor:
    """Return the places that a shifted side reads, (batch, size), mirrored at both ends without repeating the edge."""
    places = (torch.arange(size, device=offsets.device) + offsets[:, None]).abs()
    last = size - 1
    return last - (last - places).abs()


def _taken(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return images[i, :, rows[i], columns[i]] for each image i, a pixel at a time whatever the order of the bytes."""
    pixels = images.permute(0, 2, 3, 1)
    batch, height, width, channels = pixels.shape
    kind = torch.int32 if batch * height * width < 2**31 else torch.int64  # half the bytes where they do
    first = torch.arange(0, batch * height * width, height * width, device=images.device, dtype=kind)
    places = (first[:, None] + rows.to(kind) * width)[:, :, None] + columns.to(kind)[:, None, :]
    return pixels.reshape(-1, channels).index_select(0, places.view(-1)).view(pixels.shape).permute(0, 3, 1, 2)


def _matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
    zero = torch.zeros_like(a)
    x, y = zero if x is None else x, zero if y is None else y
    return torch.stack((torch.stack((a, b, x), -1), torch.stack((c, d, y), -1)), -2)
