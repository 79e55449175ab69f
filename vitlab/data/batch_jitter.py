"""A jitter of color for a batch at once: brightness, contrast, saturation and hue, each image in an order of its own.

Names and formulas are those of the host's pipeline (transforms.py), but it is rounded once, at its end, and the hue is
not cut into 180 steps.

With 24 orders, images of the same order are few. But the first three changes are one formula with different numbers,
and every image changes its hue once: so the images are sorted by how many changes come before their hue, and a change
is made to a run of images at once, whatever else they differ in.
"""

import torch
from torch import Tensor

from vitlab.data.byte_images import as_interleaved_bytes, as_planes, in_parts

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
_GRAY = (0.299, 0.587, 0.114)  # red, green, blue; ITU-R BT.601


def jittered(images: Tensor, orders: Tensor, strengths: Tensor) -> Tensor:
    """Return the images with brightness, contrast, saturation and hue changed, one after the other.

    Args:
        images: uint8 (batch, channels, height, width), of one or three channels; one channel has no color to change.
        orders: which of the four comes first, second, third and last, (batch, 4); on the host, as decisions are made
            from it.
        strengths: (batch, 4), on the host: factors of the first three, 0 or more, and by how much of a circle the hue
            turns, -1/3 to 1/3.
    """
    return in_parts(_jittered, images, orders, strengths)


def _jittered(images: Tensor, orders: Tensor, strengths: Tensor) -> Tensor:
    places, by_place = (orders == HUE).int().argmax(dim=1).sort()
    others, strengths = orders[by_place], strengths[by_place]
    others = others[others != HUE].view(-1, 3)
    factors = strengths.gather(1, others)
    # What each of three changes needs, and the turns of the hue, in one table so that one copy goes to the device.
    table = torch.cat((factors, (1 - factors) * (others == SATURATION), (1 - factors) * (others == CONTRAST)), 1)
    table = torch.cat((table, strengths[:, HUE:]), 1).to(images.device, non_blocking=True)
    sources, targets = torch.stack((by_place, by_place.argsort())).to(images.device, non_blocking=True)

    pixels = as_planes(_chosen(images, sources))
    counts = torch.bincount(places, minlength=4).cumsum(0).tolist()  # images with at most so many changes before
    for index, count in enumerate(counts[:3]):
        _shade(pixels[count:], table[count:, index:9:3])
    _turn(pixels, table[:, 9])
    for index, count in enumerate(counts[:3]):
        _shade(pixels[:count], table[:count, index:9:3])
    return _chosen(as_interleaved_bytes(pixels), targets)


def _shade(pixels: Tensor, numbers: Tensor) -> None:
    """Add gray to scaled images: numbers are the factor, and how much of a pixel's gray and of the mean gray."""
    factor, own, mean = numbers.view(-1, 3, 1, 1, 1).unbind(1)
    gray = _gray(pixels)
    added = (gray * own).add_(gray.mean(dim=(2, 3), keepdim=True) * mean)
    pixels.mul_(factor).add_(added).clamp_(0, 255)


def _turn(pixels: Tensor, turns: Tensor) -> None:
    """Turn hues; all of a hue is measured in sixths of the circle, red at 0, green at 2, blue at -2."""
    if pixels.shape[1] == 1:
        return
    red, green, blue = pixels.unbind(1)
    most = torch.maximum(torch.maximum(red, green), blue)
    least = torch.minimum(torch.minimum(red, green), blue)
    chroma = most - least
    # With channels from 0 to 1, least to most, a hue lies 1 - red + green + blue away from red, in any sector.
    away = (green + blue).sub_(red).sub_(least).add_(chroma)
    hue = away.copysign_(green - blue).div_(chroma.clamp(min=1e-3)).add_(6 * turns.view(-1, 1, 1))
    least -= chroma
    for channel, peak in enumerate((0, 2, -2)):
        # How far from the hue opposite: up to 1 the channel is least, from 2 on most. Exact up to 7 from the peak.
        opposite = torch.sub(hue, peak, out=most).abs_().sub_(3).abs_().clamp_(1, 2)
        torch.addcmul(least, opposite, chroma, out=pixels[:, channel])


def _gray(pixels: Tensor) -> Tensor:
    """Return the brightness, (batch, 1, height, width)."""
    if pixels.shape[1] == 1:
        return pixels
    red, green, blue = pixels.split(1, dim=1)
    return (red * _GRAY[0]).add_(green, alpha=_GRAY[1]).add_(blue, alpha=_GRAY[2])


def _chosen(images: Tensor, rows: Tensor) -> Tensor:
    """Return some of the images; what lies channels last is moved as a whole."""
    return images.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
