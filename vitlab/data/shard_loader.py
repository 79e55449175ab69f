"""Batches of images that lie decoded on the disk: a thread reads some ahead, and they change on the training device.

The order and the changes are those of images that stay on the device, so a training is the same, bit by bit on one kind
of device, whether its images fit there or not. No worker process is needed: the thread only copies bytes, during which
Python runs on.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Protocol

import numpy as np
import torch

from vitlab.data.device_loader import Batch, BatchPlan, EpochOrder, LabeledImages, ResumableLoader
from vitlab.data.resident_loader import DeviceAugment, changed_on_device

BATCHES_AHEAD = 3


class StoredBatches(LabeledImages, Protocol):
    """Labeled images that can be read into an array that is there already."""

    def batch(self, indices: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The images of these indices, uint8 (batch, height, width, channels), in `out` or a new array."""


class ShardLoader(ResumableLoader):
    """Batches read from the disk by a thread, up to three ahead, and changed on a device.

    Args:
        images: the images.
        indices: which of them to use; position p of the order stands for image `indices[p]`.
        order: the order of an epoch.
        device: where the batches shall be.
        augment: random changes to a batch on that device, uint8 (batch, channels, height, width), given a seed.

    Shape:
        iterates over pairs on the device: images uint8 (batch, channels, height, width), targets int64 (batch, ...).
    """

    def __init__(
        self,
        images: StoredBatches,
        indices: np.ndarray,
        order: EpochOrder,
        device: torch.device,
        augment: DeviceAugment | None = None,
    ) -> None:
        super().__init__(order)
        self.images, self.indices, self.device, self.augment = images, indices, device, augment
        self._image_shape = images.batch(indices[:1]).shape[1:]
        self._targets = torch.from_numpy(images.targets(indices)).to(device)

    def _batches(self) -> Iterator[Batch]:
        plans = iter(list(self.sampler))  # made here: the thread must not touch the order
        # A thread begins on the first GPU; pinning memory there would take a part of it in every process.
        on_gpu = {"initializer": torch.cuda.set_device, "initargs": (self.device,)} if self._is_on_gpu else {}
        with ThreadPoolExecutor(1, "read-ahead", **on_gpu) as thread:
            pending = deque((plan, thread.submit(self._read, plan)) for plan in islice(plans, BATCHES_AHEAD))
            try:
                while pending:
                    plan, reading = pending.popleft()
                    pixels = reading.result()
                    pending.extend((plan, thread.submit(self._read, plan)) for plan in islice(plans, 1))
                    yield self._on_device(plan, pixels)
            finally:  # whoever stops in mid-epoch does not wait for what was asked for
                for _, reading in pending:
                    reading.cancel()

    def _on_device(self, plan: BatchPlan, pixels: torch.Tensor) -> Batch:
        positions = torch.from_numpy(plan.positions).to(self.device, non_blocking=True)
        pixels = changed_on_device(pixels.to(self.device, non_blocking=True), plan.augmentation_seed, self.augment)
        return pixels, self._targets.index_select(0, positions).long()

    def _read(self, plan: BatchPlan) -> torch.Tensor:
        # Pinned memory is copied to a GPU while the GPU computes; torch reuses it when the copy has ended.
        pixels = torch.empty(len(plan.positions), *self._image_shape, dtype=torch.uint8, pin_memory=self._is_on_gpu)
        self.images.batch(self.indices[plan.positions], out=pixels.numpy())
        return pixels

    @property
    def _is_on_gpu(self) -> bool:
        return self.device.type == "cuda"
