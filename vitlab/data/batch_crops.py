"""Random resized crops for a batch at once, each image's part by its own random numbers, on any device.

Which parts is decided on the host, so that no step waits for a device. On a CPU, OpenCV then scales one part after the
other in half the time that tensor operations take for all, as its arithmetic is on bytes, not floats; elsewhere all are
sampled at once. The two differ by rounding.
"""

import math

import numpy as np
import torch
from torch import Tensor

from vitlab.data.batch_geometry import sampled
from vitlab.data.transforms import scaled_parts

_RATIOS = (3 / 4, 4 / 3)  # width over height


def resized_crop(images: Tensor, least_area: float, numbers: Tensor) -> Tensor:
    """Return a random part of each image, scaled back to the image's size; bilinear, without antialiasing.

    Args:
        images: uint8 (batch, channels, height, width).
        least_area: smallest share of the area that a part keeps, above 0, at most 1.
        numbers: uniform from 0 to 1, (batch, attempts, 4), on the host: area, ratio, top, left; the first part that
            fits counts, and where none does, the largest in the middle whose ratio is allowed.
    """
    start, shape = random_parts(*images.shape[-2:], least_area, numbers.numpy())
    if not images.is_cpu:
        return sampled_parts(images, start, shape)
    scaled = scaled_parts(images.permute(0, 2, 3, 1).numpy(), start, shape)
    return torch.from_numpy(scaled).permute(0, 3, 1, 2)


def random_parts(height: int, width: int, least_area: float, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where parts of images of one size start, top and left, and their height and width, both (2, batch).

    Args:
        height, width: of the images in pixels.
        least_area, numbers: as for resized_crop.
    """
    area = height * width * (least_area + (1 - least_area) * numbers[..., 0])
    low, high = _RATIOS
    ratio = np.exp(math.log(low) + (math.log(high) - math.log(low)) * numbers[..., 1])
    shapes = np.sqrt(np.stack((area / ratio, area * ratio))).round().astype(np.int64)  # (2, batch, attempts)
    sizes = np.array(((height,), (width,)))
    fits = ((shapes >= 1) & (shapes <= sizes[..., None])).all(axis=0)
    first = np.arange(len(numbers)), fits.argmax(axis=1)
    found = fits[first]
    largest = np.minimum(sizes, ((round(width / low),), (round(height * high),)))
    shape = np.where(found, shapes[:, *first], largest)
    free = sizes - shape
    return np.where(found, ((free + 1) * numbers[first][:, 2:].T).astype(np.int64), free // 2), shape


def sampled_parts(images: Tensor, start: np.ndarray, shape: np.ndarray) -> Tensor:
    """Return parts of images on any device, scaled to the images' size, all at once.

    Args:
        images: uint8 (batch, channels, height, width).
        start, shape: as random_parts gives them.
    """
    edges = torch.from_numpy(np.stack((start, shape)).astype(np.float32)).to(images.device, non_blocking=True)
    height, width = images.shape[-2:]
    y, x = (_places(*edges[:, axis, :, None], size) for axis, size in enumerate((height, width)))
    return sampled(images, x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width))


def _places(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Return where `size` output pixels lie on a part of an axis of that size, (batch, size), from its center.

    What lies beyond the part's outermost pixels is drawn in: its edge is repeated, not what was cut away.
    """
    places = start + (torch.arange(size, device=start.device) + 0.5) * (length / size) - 0.5
    return torch.maximum(torch.minimum(places, start + length - 1), start) - (size - 1) / 2
