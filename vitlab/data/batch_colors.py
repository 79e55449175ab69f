"""Changes of color for a batch at once, each image by its own strength; uint8 in, uint8 out, on any device.

Names and formulas are those of the host's pipeline (transforms.py): what it does pixel by pixel is done here to a
whole batch. A jitter of color is rounded once, at its end, and its hue is not cut into 180 steps.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_GRAY = (0.299, 0.587, 0.114)  # red, green, blue; ITU-R BT.601


def scaled(images: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """Return images * factor + offset, cut to what a byte holds.

    Args:
        images: uint8 (batch, channels, height, width).
        factor: (batch,).
        offset: (batch,), white is 255.
    """
    changed = images.float().mul_(_each(factor)).add_(_each(offset))
    return changed.clamp_(0, 255).to(torch.uint8)


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
    return table.gather(1, values).to(torch.uint8).view(batch, channels, height, width)


def jittered(images: Tensor, order: Sequence[int], strengths: Tensor) -> Tensor:
    """Return the images with brightness, contrast, saturation and hue changed, one after the other.

    Args:
        images: uint8 (batch, channels, height, width), of one or three channels; one channel has no color to change.
        order: which of the four comes first, second, third and last.
        strengths: (batch, 4): factors of the first three, and by how much of a circle the hue turns.
    """
    pixels = images.float()
    for index in order:
        pixels = _JITTER[index](pixels, strengths[:, index].view(-1, 1, 1, 1))
    return pixels.round_().to(torch.uint8)


def _brightness(pixels: Tensor, factor: Tensor) -> Tensor:
    return pixels.mul_(factor).clamp_(0, 255)


def _contrast(pixels: Tensor, factor: Tensor) -> Tensor:
    mean = _gray(pixels).mean(dim=(1, 2, 3), keepdim=True)
    return pixels.mul_(factor).add_(mean * (1 - factor)).clamp_(0, 255)


def _saturation(pixels: Tensor, factor: Tensor) -> Tensor:
    if pixels.shape[1] == 1:
        return pixels
    return pixels.lerp_(_gray(pixels), 1 - factor).clamp_(0, 255)


def _hue(pixels: Tensor, turns: Tensor) -> Tensor:
    if pixels.shape[1] == 1:
        return pixels
    red, green, blue = pixels.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    per_chroma = 1 / chroma.clamp(min=1e-3)
    # In sixths of the circle, red at 0, green at 2, blue at 4.
    angle = torch.where(value == green, (blue - red).mul_(per_chroma).add_(2), (red - green).mul_(per_chroma).add_(4))
    angle = torch.where(value == red, (green - blue).mul_(per_chroma), angle)
    angle += 6 * turns[:, 0]
    # Each channel falls from the value by the chroma with its distance on the circle.
    for channel, start in enumerate((5, 3, 1)):
        place = angle + start
        place -= 6 * (place / 6).floor_()
        torch.sub(value, torch.minimum(place, 4 - place).clamp_(0, 1).mul_(chroma), out=pixels[:, channel])
    return pixels


def _gray(pixels: Tensor) -> Tensor:
    """Return the brightness, (batch, 1, height, width)."""
    if pixels.shape[1] == 1:
        return pixels
    red, green, blue = pixels.split(1, dim=1)
    return (red * _GRAY[0]).add_(green, alpha=_GRAY[1]).add_(blue, alpha=_GRAY[2])


_JITTER = (_brightness, _contrast, _saturation, _hue)


def _each(numbers: Tensor) -> Tensor:
    return numbers.view(-1, 1, 1, 1)
