"""Batches of images that stay on the training device: no copy and no worker between them and the model.

The order is the host path's, so a training sees the same images in the same steps wherever they lie.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch

from vitlab.data.device_loader import Batch, EpochOrder, LabeledImages, ResumableLoader

Residency = Literal["auto", "device", "host"]
DeviceAugment = Callable[[torch.Tensor, int], torch.Tensor]

_PART_BYTES = 2**25
_SHARE_FOR_IMAGES = 0.25  # of the free memory of a GPU; the rest is for the model and its activations


class ResidentLoader(ResumableLoader):
    """Batches gathered on a device from one tensor that holds all images as bytes.

    Args:
        images: the images.
        indices: which of them to use; position p of the order stands for image `indices[p]`.
        order: the order of an epoch.
        device: where they stay.
        augment: random changes to a batch on that device, uint8 (batch, channels, height, width), given a seed.

    Shape:
        iterates over pairs on the device: images uint8 (batch, channels, height, width), targets int64 (batch, ...).
    """

    def __init__(
        self,
        images: LabeledImages,
        indices: np.ndarray,
        order: EpochOrder,
        device: torch.device,
        augment: DeviceAugment | None = None,
    ) -> None:
        super().__init__(order)
        self.augment = augment
        self.targets = torch.from_numpy(images.targets(indices)).to(device)
        self.pixels = _on_device(images, indices, device)  # (images, height, width, channels)

    def _batches(self) -> Iterator[Batch]:
        for plan in self.sampler:
            positions = torch.from_numpy(plan.positions).to(self.pixels.device, non_blocking=True)
            pixels = changed_on_device(self.pixels.index_select(0, positions), plan.augmentation_seed, self.augment)
            yield pixels, self.targets.index_select(0, positions).long()


def _on_device(images: LabeledImages, indices: np.ndarray, device: torch.device) -> torch.Tensor:
    """Bring the images to a device; a part at a time, so that the host never holds all that go to a GPU."""
    image = torch.from_numpy(images.batch(indices[:1]))
    pixels = torch.empty(len(indices), *image.shape[1:], dtype=image.dtype, device=device)
    num_at_once = max(1, _PART_BYTES // image.nbytes)
    for start in range(0, len(indices), num_at_once):
        part = torch.from_numpy(images.batch(indices[start : start + num_at_once]))
        pixels[start : start + len(part)] = part.to(device)
    return pixels


def changed_on_device(pixels: torch.Tensor, seed: int, augment: DeviceAugment | None) -> torch.Tensor:
    """Makes a batch of it: names the axes as torch does, and changes the images.

    Args:
        pixels: images as they are stored.
        seed: seed of the changes.
        augment: the changes; None for none.

    Shape:
        (batch, height, width, channels) to (batch, channels, height, width).
    """
    # The bytes stay as they lie: convolutions are up to 1.6 times faster so.
    pixels = pixels.permute(0, 3, 1, 2)
    return augment(pixels, seed) if augment else pixels


def stays_on_device(
    residency: Residency, in_memory: bool, num_bytes: int, device: torch.device, on_disk: bool = False
) -> bool:
    """Say whether images are to stay on the training device (for a CPU: in its memory, and changed batch by batch).

    Args:
        residency: `device` or `host` decides; `auto` keeps there what is held in memory and fits.
        in_memory: whether the data set's images are held in memory at all.
        num_bytes: how much they take.
        device: the training device.
        on_disk: whether they can be read from the disk as bytes; `device` then brings them into memory after all.

    Raises:
        ValueError: they are to stay there and cannot.
    """
    if residency == "host" or (residency == "auto" and not in_memory):
        return False
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    fits = free is None or num_bytes <= _SHARE_FOR_IMAGES * free
    if residency == "auto":
        return fits
    if not in_memory and not on_disk:
        raise ValueError(
            "residency is device, but the images of this data set are too large to be held in memory and are read as "
            "they are needed; use residency auto or host, or an ImageFolder with cache: disk"
        )
    if not fits:
        raise ValueError(
            f"residency is device, but the images take {num_bytes / 1e9:.1f} GB, and at most a quarter of the "
            f"{free / 1e9:.1f} GB that are free on {device} is for them; use residency auto or host"
        )
    return True
