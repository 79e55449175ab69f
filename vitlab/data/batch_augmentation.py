"""Random changes to a whole batch of training images at once, on the device that holds them.

The host's pipeline (transforms.py) changes one image after the other; at 32 pixels most of its time goes into calls,
not pixels. Here one call changes all images that drew an operation. Which they are, and how much they change, comes
from one table of random numbers for each batch, made on the host from the batch's seed: the same on every device, and
no step waits for the device.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from vitlab.data import batch_colors as colors
from vitlab.data import batch_geometry as geometry
from vitlab.data.batch_crops import resized_crop
from vitlab.data.batch_jitter import HUE, jittered
from vitlab.data.transforms import NUM_RAND_AUGMENT_OPS, Augmentation

_CROP_ATTEMPTS = 10


class BatchAugmentation:
    """The changes that an `Augmentation` names, for batches of tensors.

    Args:
        settings: which changes, and how strong.

    Shape:
        called with images uint8 (batch, channels, height, width) on any device and a seed; the result has the same
        shape, type and device.
    """

    def __init__(self, settings: Augmentation) -> None:
        self.settings = settings

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        """Changes each image of a batch; the same images and seed give the same result, to rounding, on any device."""
        settings, numbers = self.settings, _Numbers(len(images), seed, images.device)
        if (least_area := settings.random_resized_crop_scale) is not None:
            images = resized_crop(images, least_area, numbers.on_host(_CROP_ATTEMPTS, 4))
        if settings.crop_padding:
            images = geometry.padded_crop(images, settings.crop_padding, *numbers.draw(2).unbind(1))
        if settings.horizontal_flip:
            images = geometry.mirrored_columns(images, numbers.draw(1)[:, 0])
        if settings.rand_augment_ops:
            images = _rand_augment(images, settings.rand_augment_ops, settings.rand_augment_magnitude, numbers)
        if settings.color_jitter:
            images = _color_jitter(images, settings.color_jitter, numbers)
        if settings.erasing:
            images = geometry.erased(images, settings.erasing, numbers.draw(5))
        return images


class _Numbers:
    """Uniform random numbers, a row for each image, drawn on the host."""

    def __init__(self, batch: int, seed: int, device: torch.device) -> None:
        self._generator = torch.Generator().manual_seed(seed % 2**63)
        self._batch, self.device = batch, device

    def draw(self, *shape: int) -> Tensor:
        """Return numbers from 0 to 1 on the images' device, (batch, *shape)."""
        return self.on_host(*shape).to(self.device, non_blocking=True)

    def on_host(self, *shape: int) -> Tensor:
        """Return such numbers for decisions that are made on the host."""
        return torch.rand(self._batch, *shape, generator=self._generator)


def _rand_augment(images: Tensor, num_ops: int, magnitude: float, numbers: _Numbers) -> Tensor:
    """Give each image `num_ops` different operations, in the order of the list (RandAugment, arXiv 1909.13719)."""
    drawn = numbers.on_host(len(RAND_AUGMENT)).argsort(dim=1).argsort(dim=1) < num_ops  # (batch, operations)
    strengths = 2 * numbers.on_host(len(RAND_AUGMENT)) - 1
    for index, operation in enumerate(RAND_AUGMENT):
        images = _changed(images, drawn[:, index], operation, strengths[:, index], magnitude)
    return images


def _color_jitter(images: Tensor, strength: float, numbers: _Numbers) -> Tensor:
    """Give each image all four changes of color, in an order of its own."""
    orders = numbers.on_host(4).argsort(dim=1)
    strengths = 1 + strength * (2 * numbers.on_host(4) - 1)
    strengths[:, HUE] = (strengths[:, HUE] - 1) / 4
    return jittered(images, orders, strengths)


def _changed(
    images: Tensor,
    chosen: Tensor,
    operation: Callable[[Tensor, Tensor, float], Tensor],
    strengths: Tensor,
    magnitude: float,
) -> Tensor:
    """Return the images with an operation done to those that were chosen (on the host: no device is waited for)."""
    rows = chosen.nonzero()[:, 0]
    if not len(rows):
        return images
    strengths = strengths[rows].to(images.device, non_blocking=True)
    rows = rows.to(images.device, non_blocking=True)
    return images.index_copy(0, rows, operation(images[rows], strengths, magnitude).contiguous())


def _zeros(strengths: Tensor) -> Tensor:
    return torch.zeros_like(strengths)


# Each takes images, a strength from -1 to 1 for every image, and RandAugment's magnitude from 0 to 1.
RAND_AUGMENT = (
    lambda x, s, m: x,
    lambda x, s, m: geometry.affine(x, geometry.rotation(30 * m * s)),
    lambda x, s, m: geometry.affine(x, geometry.shear(17 * m * s, _zeros(s))),
    lambda x, s, m: geometry.affine(x, geometry.shear(_zeros(s), 17 * m * s)),
    lambda x, s, m: geometry.affine(x, geometry.shift(0.45 * m * x.shape[3] * s, _zeros(s))),
    lambda x, s, m: geometry.affine(x, geometry.shift(_zeros(s), 0.45 * m * x.shape[2] * s)),
    lambda x, s, m: colors.scaled(x, torch.ones_like(s), 255 * 0.9 * m * s),
    lambda x, s, m: colors.scaled(x, 1 + 0.9 * m * s, _zeros(s)),
    lambda x, s, m: colors.posterized(x, 8 - round(4 * m)),
    lambda x, s, m: colors.solarized(x, 1 - m * (1 + s) / 2),
    lambda x, s, m: colors.equalized(x),
    lambda x, s, m: colors.equalized(x),  # what the host's AutoContrast comes to without a cutoff
)
assert len(RAND_AUGMENT) == NUM_RAND_AUGMENT_OPS
