"""Crops, mirror images, rotations and erased rectangles for a batch at once: each image by its own random numbers.

Images and numbers may lie on any device. The ranges are those of the host's pipeline (transforms.py), so that a model
sees the same distribution of images on either path.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_RATIOS = (3 / 4, 4 / 3)  # width over height of a random resized crop
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
    return torch.where((chance < 0.5).view(-1, 1, 1, 1), images.flip(-1), images)


def resized_crop(images: Tensor, least_area: float, numbers: Tensor) -> Tensor:
    """Return a random part of each image, scaled back to the image's size; bilinear, without antialiasing.

    Args:
        images: uint8 (batch, channels, height, width).
        least_area: smallest share of the area that a part keeps, above 0, at most 1.
        numbers: uniform from 0 to 1, (batch, attempts, 4): area, ratio, top, left; the first part that fits counts, and
            where none does, the whole image.
    """
    height, width = images.shape[-2:]
    area = (least_area + (1 - least_area) * numbers[..., 0]) * height * width
    low, high = map(math.log, _RATIOS)
    ratio = torch.exp(low + (high - low) * numbers[..., 1])
    heights, widths = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
    fits = (heights >= 1) & (heights <= height) & (widths >= 1) & (widths <= width)  # (batch, attempts)
    first = fits.int().argmax(dim=1, keepdim=True)
    tops, lefts = ((height - heights + 1) * numbers[..., 2]).floor(), ((width - widths + 1) * numbers[..., 3]).floor()
    found = fits.any(dim=1)
    whole = (height, width, 0, 0)
    part_height, part_width, top, left = (
        torch.where(found, values.gather(1, first)[:, 0], float(value))
        for values, value in zip((heights, widths, tops, lefts), whole, strict=True)
    )
    rows, columns = _places(part_height, top, height), _places(part_width, left, width)
    grid = torch.stack(torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]), dim=-1)
    return _sampled(images, grid)


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
    moved = matrices @ places.flatten(1)  # (batch, 2, height * width)
    half = torch.tensor([max(width - 1, 1) / 2, max(height - 1, 1) / 2], device=images.device)
    grid = (moved.transpose(1, 2) / half).view(-1, height, width, 2)
    return _sampled(images, grid)


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
    batch, channels, height, width = images.shape
    first = torch.arange(batch, device=images.device).view(-1, 1, 1) * (height * width)
    places = (first + rows[:, :, None] * width + columns[:, None, :]).view(-1)
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels).index_select(0, places)
    return pixels.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
    zero = torch.zeros_like(a)
    x, y = zero if x is None else x, zero if y is None else y
    return torch.stack((torch.stack((a, b, x), -1), torch.stack((c, d, y), -1)), -2)


def _places(length: Tensor, start: Tensor, size: int) -> Tensor:
    """Return where `size` output pixels lie on a part of an axis of that size, (batch, size), -1 to 1 over the axis.

    What lies beyond the part's outermost pixels is drawn in: its edge is repeated, not what was cut away.
    """
    places = start[:, None] + (torch.arange(size, device=length.device) + 0.5) * (length / size)[:, None] - 0.5
    places = torch.maximum(torch.minimum(places, (start + length - 1)[:, None]), start[:, None])
    return places * (2 / max(size - 1, 1)) - 1


def _sampled(images: Tensor, grid: Tensor) -> Tensor:
    sampled = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return sampled.round_().to(torch.uint8)
