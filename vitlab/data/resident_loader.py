"""Batches of images that stay on the training device: no copy and no worker between them and the model.

The order is the host path's, so a training sees the same images in the same steps wherever they lie.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch

from vitlab.data.device_loader import Batch, EpochOrder, LabeledImages, ResumableLoader

Residency = Literal["auto", "device", "host"]

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
        augment: Callable[[torch.Tensor, int], torch.Tensor] | None = None,
    ) -> None:
        super().__init__(order)
        self.augment = augment
        self.targets = torch.from_numpy(images.targets(indices)).to(device)
        self.pixels = torch.from_numpy(images.batch(indices)).to(device)  # (images, height, width, channels)

    def _batches(self) -> Iterator[Batch]:
        for plan in self.sampler:
            positions = torch.from_numpy(plan.positions).to(self.pixels.device, non_blocking=True)
            # The axes as torch names them, the bytes as they lie: convolutions are up to 1.6 times faster so.
            pixels = self.pixels.index_select(0, positions).permute(0, 3, 1, 2)
            if self.augment:
                pixels = self.augment(pixels, plan.augmentation_seed)
            yield pixels, self.targets.index_select(0, positions).long()


def stays_on_device(residency: Residency, in_memory: bool, num_bytes: int, device: torch.device) -> bool:
    """Say whether images are to stay on the training device (for a CPU: in its memory, and changed batch by batch).

    Args:
        residency: `device` or `host` decides; `auto` keeps there what is held in memory and fits.
        in_memory: whether the data set's images are held in memory at all.
        num_bytes: how much they take.
        device: the training device.

    Raises:
        ValueError: they are to stay there and cannot.
    """
    if residency == "host" or (residency == "auto" and not in_memory):
        return False
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    fits = free is None or num_bytes <= _SHARE_FOR_IMAGES * free
    if residency == "auto":
        return fits
    if not in_memory:
        raise ValueError(
            "residency is device, but the images of this data set are too large to be held in memory and are read as "
            "they are needed; use residency auto or host"
        )
    if not fits:
        raise ValueError(
            f"residency is device, but the images take {num_bytes / 1e9:.1f} GB, and at most a quarter of the "
            f"{free / 1e9:.1f} GB that are free on {device} is for them; use residency auto or host"
        )
    return True
