"""From a data set to batches: validation split, training subset, order, augmentation, normalization.

All trials share one validation split; the seed decides the rest: which training images are drawn, their order and their
augmentation. Images travel as uint8, a quarter of the bytes, and become normalized floats on the device.
"""

import math
from typing import Any, get_args

import numpy as np
import torch
from lightning.pytorch import LightningDataModule

from vitlab.data.batch_augmentation import BatchAugmentation
from vitlab.data.datasets import ArrayImages, ImageDataset, Images, Target
from vitlab.data.device_loader import EpochOrder, InMemoryLoader, WorkerLoader
from vitlab.data.resident_loader import Residency, ResidentLoader, stays_on_device
from vitlab.data.shard_loader import ShardLoader
from vitlab.data.statistics import ChannelStatistics, cached_channel_statistics, channel_statistics
from vitlab.data.subsets import Draw, check_draw, manifest, nested_subsets, split_validation
from vitlab.data.transforms import Augmentation

Loader = ResidentLoader | ShardLoader | InMemoryLoader | WorkerLoader

VALIDATION_SEED = 0
EVALUATION_BATCH_SIZE = 500
MAX_SMALL_SIZE = 64  # pixels
MIN_STD = 1 / 255


class DataModule(LightningDataModule):
    """Serves one data set to a Lightning trainer.

    With several processes, each takes its share of every batch; Lightning leaves loaders of this kind as they are.

    Args:
        dataset: where the images come from.
        train_size: number of training images; null uses all that validation leaves. With the same seed, smaller subsets
            are contained in larger ones.
        draw: which images these are: `balanced`, as many of each class to within one, so at least one of each and no
            more than the smallest class can give; `proportional`, classes keep their shares, so any number.
        val_size: validation images split from the training data, as a number or as a fraction between 0 and 1. Not used
            when the data set has validation images of its own.
        batch_size: images in a batch, over all processes together, 1 or more; every process takes equally many. A step
            of the optimizer takes one batch, or as many as trainer.accumulate_grad_batches says.
        seed: seed of the training subset, the order and the augmentation, 0 or more.
        augmentation: random changes to training images; null for none. They keep labels, not masks or sequences.
        num_workers: processes that read images too large to be held in memory, or decode them to the disk; 0 does so
            in the main process.
        residency: where the images are kept and changed: `device`, as bytes on the training device, a batch at a time;
            `host`, in main memory or on disk, one by one by albumentations; `auto`: on the device what is held in
            memory and fits; what lies decoded on the disk is read from there as it is needed, and changed on the
            device. The images and their order are the same, and so is the distribution of the changes.

    Shape:
        batches are pairs: images float32 (batch, channels, height, width), targets int64 (batch,) for labels,
        (batch, height, width) for masks, (batch, longest) for sequences, filled up with -1.

    Raises:
        ValueError: a value is out of its range; on `setup`, the data cannot give the sizes.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        train_size: int | None = None,
        val_size: int | float = 0.1,
        batch_size: int = 128,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        num_workers: int = 0,
        residency: Residency = "auto",
        draw: Draw = "balanced",
    ) -> None:
        super().__init__()
        check_draw(draw)
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            if value < least:
                raise ValueError(f"{name} {value} is too small; use {least} or more")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed {seed} is out of range; use 0 to 2**64 - 1")
        self.stratum_names = dataset.stratum_names or dataset.class_names
        least = len(self.stratum_names)
        if train_size is not None and draw == "balanced" and train_size < least:
            raise ValueError(f"train_size {train_size} is below the number of classes; use {least} or more, or null")
        if augmentation is not None and dataset.target != "label":
            raise ValueError(
                f"augmentation changes images and not their targets, and a {dataset.target} must move with its image; "
                f"leave augmentation out for {dataset.name}"
            )
        self.dataset = dataset
        self.train_size, self.val_size, self.draw = train_size, val_size, draw
        self.batch_size, self.seed = batch_size, seed
        self.augmentation = augmentation
        if residency not in get_args(Residency):
            raise ValueError(f"unknown residency {residency!r}; use {', '.join(get_args(Residency))}")
        self.num_workers, self.residency = num_workers, residency
        self._train: tuple[Images, np.ndarray] | None = None
        self._val: tuple[Images, np.ndarray] | None = None
        self._statistics: ChannelStatistics | None = None
        self._normalizers: dict[tuple[Any, ...], tuple[torch.Tensor, torch.Tensor]] = {}

    def __str__(self) -> str:
        # Lightning's own would build all loaders, reading every image, to print their lengths.
        names = ("train_size", "val_size", "batch_size", "seed", "augmentation", "num_workers", "residency", "draw")
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"DataModule({self.dataset.name}, {settings})"

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.dataset.num_classes

    @property
    def in_channels(self) -> int:
        """Color channels of an image."""
        return self.dataset.in_channels

    @property
    def target(self) -> Target:
        """What a model is to say of an image: label, mask or sequence."""
        return self.dataset.target

    @property
    def image_size(self) -> int | tuple[int, int]:
        """Height and width of an image in pixels, one number where they are equal."""
        return self.dataset.image_size

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of an image in pixels."""
        return self.dataset.image_shape

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class, indexed by label."""
        return self.dataset.class_names

    def prepare_data(self) -> None:
        """Downloads what is missing; Lightning calls this in one process only."""
        self.dataset.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Splits the images and computes the channel statistics, unless an earlier call has.

        Raises:
            ValueError: the data cannot give the sizes, or a training batch cannot be shared by the processes.
        """
        if self._statistics is None:
            self._read()
        if stage == "fit":
            self._check_shares()

    def _read(self) -> None:
        train, own_validation = self.dataset.train(), self.dataset.validation()
        if own_validation is not None:
            pool, self._val = np.arange(len(train)), (own_validation, np.arange(len(own_validation)))
        else:
            pool, held_out = split_validation(train.labels, self.val_size, VALIDATION_SEED, self.stratum_names)
            self._val = train, held_out
        chosen = pool
        if self.train_size is not None:
            labels, sizes = train.labels[pool], [self.train_size]
            chosen = pool[nested_subsets(labels, sizes, self.seed, self.stratum_names, self.draw)[0]]
        self._train = train, chosen
        # Of the whole pool, whatever the subset: normalization is part of the data, not of what is compared.
        if isinstance(train, ArrayImages):
            self._statistics = channel_statistics(train.batch, pool)
        else:
            self._statistics = cached_channel_statistics(self._read_prepared, pool, self.dataset.fingerprint)

    def _read_prepared(self, indices: np.ndarray) -> np.ndarray:
        self._train[0].prepare(self.num_workers)
        return self._train[0].batch(indices)

    @property
    def channel_statistics(self) -> ChannelStatistics:
        """Mean and standard deviation of each channel of the training data, in units where white is 1."""
        self.setup()
        return self._statistics

    def manifest(self) -> dict[str, Any]:
        """Describes the training subset: data set, fingerprint, seed, size, class counts, indices into its train()."""
        self.setup()
        images, indices = self._train
        dataset = self.dataset
        return manifest(dataset.name, dataset.fingerprint, self.seed, images.labels, indices, self.stratum_names)

    def train_dataloader(self) -> Loader:
        """Shuffled, augmented batches of the training subset."""
        self.setup("fit")
        return self._loader(*self._train, shuffle=True)

    def val_dataloader(self) -> Loader:
        """Every validation image once."""
        self.setup()
        return self._loader(*self._val, shuffle=False)

    def test_dataloader(self) -> Loader:
        """Every test image once."""
        self.setup()
        test = self.dataset.test()
        return self._loader(test, np.arange(len(test)), shuffle=False)

    def predict_dataloader(self) -> Loader:
        """The test images, in their order."""
        return self.test_dataloader()

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Scales uint8 images so that each channel of the training data has mean 0 and standard deviation 1.

        Args:
            images: what the loaders give.

        Shape:
            uint8 (batch, channels, height, width) to float32 of the same shape.
        """
        scale, shift = self._normalizer(images)
        return images.float().mul_(scale).add_(shift)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalizes the images where the model will read them; Lightning calls this."""
        images, targets = batch
        return self.normalize(images), targets

    def _normalizer(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what images of this kind are multiplied by and what is added, laid out as they are."""
        kind = images.device, images.shape[1:], images.stride()[1:]
        if kind not in self._normalizers:
            mean, std = (
                torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1) for values in self.channel_statistics
            )
            # A channel that never changes has no deviation to divide by.
            std = std.clamp(min=MIN_STD)
            scale, shift = ((1 / (255 * std)).float(), (-mean / std).float())
            # A number for every pixel: with the channel as the innermost axis, one for every channel takes six times
            # as long, because a loop over three numbers cannot be vectorized.
            one = torch.empty_like(images[:1], dtype=torch.float32)
            self._normalizers[kind] = torch.empty_like(one).copy_(scale), torch.empty_like(one).copy_(shift)
        return self._normalizers[kind]

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def _check_shares(self) -> None:
        """Refuse a training batch of which the processes would get unequal shares: its images would weigh unequally."""
        processes, num_images = self._world_size, len(self._train[1])
        if self.batch_size % processes:
            below = self.batch_size // processes * processes
            raise ValueError(
                f"batch_size {self.batch_size} (over all processes) is not divisible by {processes} processes; use "
                f"{f'{below} or ' if below else ''}{below + processes}, or another trainer.devices"
            )
        if num_images < self.batch_size and num_images % processes:
            raise ValueError(
                f"{num_images} training images are less than a batch of {self.batch_size}, so all of them make one "
                f"batch, and {processes} processes cannot share it equally; use a train_size that is a multiple of "
                f"{processes}, or another trainer.devices"
            )

    def _loader(self, images: Images, indices: np.ndarray, shuffle: bool) -> Loader:
        # Small images fill a larger batch when no gradients are kept; the results do not depend on it.
        larger = (
            max(self.batch_size, EVALUATION_BATCH_SIZE) if max(self.image_shape) <= MAX_SMALL_SIZE else self.batch_size
        )
        order = EpochOrder(
            num_images=len(indices),
            batch_size=self.batch_size if shuffle else larger,
            seed=self.seed,
            shuffle=shuffle,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self._world_size,
        )
        augmentation = self.augmentation if shuffle else None
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        num_bytes = len(indices) * self.in_channels * math.prod(self.image_shape)
        images.prepare(self.num_workers)
        changes = BatchAugmentation(augmentation) if augmentation else None
        if stays_on_device(self.residency, images.in_memory, num_bytes, device, images.on_disk):
            return ResidentLoader(images, indices, order, device, changes)
        if images.on_disk and self.residency == "auto":
            return ShardLoader(images, indices, order, device, changes)
        if images.in_memory:
            return InMemoryLoader(images, indices, order, augmentation)
        return WorkerLoader(images, indices, order, augmentation, self.num_workers)
