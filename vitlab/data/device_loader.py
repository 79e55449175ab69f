"""Batches in an order that depends on seed and epoch alone.

Both families of a comparison must see the same images in the same order, however many random numbers their
initialization drew. So the order has a generator of its own, and the global one is neither read nor advanced.

Several devices share each batch: no sample is counted twice, as padded samplers do, and none is left out.

For the same reason a training that was interrupted needs to know no more than an epoch and a number of batches to go on
with exactly those that were left, whatever worker processes had already read.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from vitlab.data.subsets import random_words

Batch = tuple[torch.Tensor, torch.Tensor]
Augment = Callable[[np.ndarray, int], np.ndarray]


class LabeledImages(Protocol):
    """What a loader needs of the images: any of them, and what a model is to say of it, by index."""

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """The images of these indices, uint8 (batch, height, width, channels)."""

    def targets(self, indices: np.ndarray) -> np.ndarray:
        """What a model is to say of these images, integers (batch, ...)."""


class BatchPlan(NamedTuple):
    """One batch before it is read: positions of its images, and the seed of their augmentation."""

    positions: np.ndarray
    augmentation_seed: int


class EpochOrder:
    """The batches of an epoch, as positions 0 ... num_images - 1.

    When shuffled, each epoch has an order of its own and all batches have `batch_size` images; the few images left over
    wait for another epoch. Otherwise every image comes exactly once, in batches of nearly equal size.

    Args:
        num_images: number of images, 1 or more.
        batch_size: images per batch over all devices together, 1 or more.
        seed: seed of the order and of the augmentation, 0 or more.
        shuffle: whether to shuffle; True for training.
        rank: number of this device, 0 to `world_size` - 1.
        world_size: number of devices that share each batch.

    Raises:
        ValueError: fewer images than devices, or a value out of its range.
    """

    def __init__(
        self, num_images: int, batch_size: int, seed: int = 0, shuffle: bool = False, rank: int = 0, world_size: int = 1
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(
                f"batch_size {batch_size} must be 1 or more, and rank {rank} below world_size {world_size}"
            )
        if num_images < world_size:
            raise ValueError(f"{num_images} images cannot be shared by {world_size} devices; use fewer devices")
        if shuffle and batch_size % world_size:
            raise ValueError(
                f"batch_size {batch_size} (over all devices) is not divisible by {world_size} devices; "
                f"use a multiple of {world_size}"
            )
        self.num_images, self.batch_size, self.seed, self.shuffle = num_images, batch_size, seed, shuffle
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self._place = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order comes next; Lightning calls this before each epoch."""
        self.epoch = epoch

    def resume_at(self, epoch: int, num_batches: int) -> None:
        """Leaves out the first batches of one epoch, once; another epoch that comes first is whole."""
        self._place = epoch, num_batches

    @property
    def first_batch(self) -> int:
        """Number of the batch that comes next when the order is asked for; 0 but where training was interrupted."""
        epoch, num_batches = self._place
        return num_batches if epoch == self.epoch else 0

    def __len__(self) -> int:
        if self.shuffle:
            # Fewer images than a batch make one batch of all: dropping it would leave nothing to train on.
            return max(1, self.num_images // self.batch_size)
        # Never so many that a batch has no image for one of the devices: it would wait forever for the others.
        return min(-(-self.num_images // self.batch_size), self.num_images // self.world_size)

    def __iter__(self) -> Iterator[BatchPlan]:
        first, self._place = self.first_batch, (0, 0)
        if self.shuffle:
            keys = random_words(self.num_images, self.seed, "order", self.epoch)
            order = np.argsort(keys, kind="stable")[: len(self) * self.batch_size]
        else:
            order = np.arange(self.num_images)
        seeds = random_words(len(self), self.seed, f"augmentation of rank {self.rank}", self.epoch)
        # Near-equal batches give every device a share of each, hence equally many steps.
        for positions, seed in list(zip(np.array_split(order, len(self)), seeds, strict=True))[first:]:
            yield BatchPlan(positions[self.rank :: self.world_size], int(seed))


class ResumableLoader(ABC):
    """A loader that knows how many batches of which epoch it has given; Lightning keeps that in its checkpoints.

    An epoch begins when its first batch is asked for, not before: Lightning makes the iterator before it says which
    epoch it is for.
    """

    batch_sampler = None  # Lightning looks for it beside `sampler`

    def __init__(self, order: EpochOrder) -> None:
        self.sampler = order  # Lightning looks for `sampler.set_epoch`
        self._epoch = self._num_given = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        self._epoch, self._num_given = self.sampler.epoch, self.sampler.first_batch
        for batch in self._batches():
            self._num_given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Returns the epoch and how many of its batches were given; those that a worker has read ahead do not count."""
        return {"epoch": self._epoch, "batches": self._num_given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on after the batches that were given, if the epoch asked for next is the one that was interrupted."""
        self.sampler.resume_at(state["epoch"], state["batches"])

    @abstractmethod
    def _batches(self) -> Iterator[Batch]:
        """The batches of the order."""


class InMemoryLoader(ResumableLoader):
    """Batches cut from one array that holds all images, without worker processes.

    Args:
        images: the images.
        indices: which of them to use; position p of the order stands for image `indices[p]`.
        order: the order of an epoch.
        augment: random changes to a batch of images, given a seed.

    Shape:
        iterates over pairs: images uint8 (batch, channels, height, width), targets int64 (batch, ...).
    """

    def __init__(
        self, images: LabeledImages, indices: np.ndarray, order: EpochOrder, augment: Augment | None = None
    ) -> None:
        super().__init__(order)
        self.augment = augment
        self.targets = torch.from_numpy(images.targets(indices))
        self.pixels = images.batch(indices)

    def _batches(self) -> Iterator[Batch]:
        for plan in self.sampler:
            pixels = self.pixels[plan.positions]
            if self.augment:
                pixels = self.augment(pixels, plan.augmentation_seed)
            yield _channels_first(pixels), self.targets[torch.from_numpy(plan.positions)].long()


class WorkerLoader(ResumableLoader):
    """Batches read by worker processes, for images too large to hold in memory.

    It holds a torch DataLoader rather than being one, because Lightning rebuilds a DataLoader's sampler for prediction.

    Args:
        images: the images.
        indices: which of them to use; position p of the order stands for image `indices[p]`.
        order: the order of an epoch.
        augment: random changes to a batch of images, given a seed.
        num_workers: number of worker processes; 0 reads in the main process.

    Shape:
        iterates over pairs: images uint8 (batch, channels, height, width), targets int64 (batch, ...).
    """

    def __init__(
        self,
        images: LabeledImages,
        indices: np.ndarray,
        order: EpochOrder,
        augment: Augment | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__(order)
        self._loader = DataLoader(
            _PlannedBatches(images, indices, augment),
            batch_size=None,  # the order makes the batches; a worker reads a whole one
            sampler=order,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            # Without a generator of its own, each epoch draws a number from the global one and shifts dropout.
            generator=torch.Generator().manual_seed(order.seed % 2**63),
        )

    @property
    def _iterator(self) -> Any:
        """Lightning ends worker processes through this name of DataLoader's, else they live on after the training."""
        return self._loader._iterator

    @_iterator.setter
    def _iterator(self, iterator: Any) -> None:
        self._loader._iterator = iterator

    def _batches(self) -> Iterator[Batch]:
        return iter(self._loader)


class _PlannedBatches(Dataset):
    """Reads a planned batch; the plan brings the seed, so that workers share no random stream and repeat none."""

    def __init__(self, images: LabeledImages, indices: np.ndarray, augment: Augment | None) -> None:
        self.images, self.indices, self.augment = images, indices, augment

    def __getitem__(self, plan: BatchPlan) -> Batch:
        chosen = self.indices[plan.positions]
        pixels = self.images.batch(chosen)
        if self.augment:
            pixels = self.augment(pixels, plan.augmentation_seed)
        return _channels_first(pixels), torch.from_numpy(self.images.targets(chosen)).long()


def _channels_first(pixels: np.ndarray) -> torch.Tensor:
    """Name the axes as torch does, and leave the bytes as they lie: convolutions are up to 1.6 times faster so."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)
