"""What a batch of training images costs before the model sees it: vitlab's two ways beside torchvision's.

All start from the same bytes in memory and end with normalized float32 images; torchvision changes one image after the
other, as its transforms do in a Dataset, because a call for a whole batch gives all images the same crop and flip. Of
vitlab's two ways, one changes images on the host by albumentations, and one a batch at once on the device.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitlab.data import ArrayImages, Augmentation, BatchAugmentation, EpochOrder, ResidentLoader
from vitlab.data.device_loader import InMemoryLoader
from vitlab.training.throughput import cpu_threads, timed_in_turns

_MEAN, _STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)  # about CIFAR-10's; the time does not depend on them

_THEIRS, _ON_HOST = "torchvision v2, image by image", "vitlab, on the host"  # what the others are measured by


@dataclass(frozen=True)
class InputCase:
    """Changes to training images that both libraries know.

    Args:
        name: What tables call it.
        augmentation: Ours.
        rand_augment_ops: Torchvision's operations of RandAugment for each image, beside crop and flip.
    """

    name: str
    augmentation: Augmentation
    rand_augment_ops: int = 0


CASES = (
    InputCase("crop, flip", Augmentation(crop_padding=4, horizontal_flip=True)),
    InputCase(
        "crop, flip, RandAugment 2",
        Augmentation(crop_padding=4, horizontal_flip=True, rand_augment_ops=2, rand_augment_magnitude=0.9),
        2,
    ),
    InputCase("resized crop", Augmentation(random_resized_crop_scale=0.35)),
    InputCase("color jitter", Augmentation(color_jitter=0.4)),
    InputCase(
        "resized crop, flip, color jitter",
        Augmentation(random_resized_crop_scale=0.35, horizontal_flip=True, color_jitter=0.2),  # recipes/image_folder
    ),
)


def bench_input(
    rounds: int = 7,
    num_threads: int | None = None,
    device: str = "cpu",
    batch_size: int = 128,
    image_size: int = 32,
    cases: Sequence[InputCase] = CASES,
) -> list[dict[str, Any]]:
    """Time how batches of augmented, normalized images are made.

    Args:
        rounds: Timed batches of each way, 1 or more.
        num_threads: CPU threads, 1 or more; None leaves torch's setting.
        device: Where the batches go, such as cpu or cuda.
        batch_size: Images in a batch, 1 or more.
        image_size: Side of the images in pixels.
        cases: Which changes.

    Returns:
        One row a way: `changes`, `pipeline`, `images_per_second` (median), `ratio` to torchvision and `host_ratio` to
        vitlab's way on the host (medians of the rounds' ratios, above 1: faster).

    Raises:
        ValueError: No rounds, or no images.
    """
    if rounds < 1 or batch_size < 1:
        raise ValueError(f"rounds and batch_size must be 1 or more, got {rounds} and {batch_size}")
    with cpu_threads(num_threads):
        return [row for case in cases for row in _rows(case, rounds, device, batch_size, image_size)]


def format_input_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return bench_input's rows as a table in Markdown.

    Args:
        rows: What bench_input gave.
    """
    lines = [
        "| changes | pipeline | images a second | times torchvision's | times the host's |",
        "|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {row['changes']} | {row['pipeline']} | {row['images_per_second']:,.0f} | {row['ratio']:.2f} "
        f"| {row['host_ratio']:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def pipelines(
    case: InputCase, device: str, batch_size: int, image_size: int, num_batches: int
) -> dict[str, Callable[[], Tensor]]:
    """Return by name what makes the next batch: normalized float32 images (batch, 3, image_size, image_size).

    Args:
        case: Which changes.
        device: Where the batches go.
        batch_size: Images in a batch.
        image_size: Side of the images in pixels.
        num_batches: How many batches each can make.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (batch_size, image_size, image_size, 3), dtype=np.uint8)
    images, every = ArrayImages(pixels, np.zeros(batch_size, np.int64)), np.tile(np.arange(batch_size), num_batches)
    where = torch.device(device)
    mean, std = (torch.tensor(values, device=where).view(1, 3, 1, 1) for values in (_MEAN, _STD))
    scale, shift = (
        number.expand(1, 3, image_size, image_size).contiguous(memory_format=torch.channels_last)
        for number in (1 / (255 * std), -mean / std)
    )

    def ours(batches: Any) -> Tensor:
        return next(batches)[0].to(where).float().mul_(scale).add_(shift)

    order = partial(EpochOrder, len(every), batch_size, shuffle=True)
    on_device = ResidentLoader(images, every, order(), where, BatchAugmentation(case.augmentation))
    on_host = InMemoryLoader(images, every, order(), case.augmentation)
    return {
        _THEIRS: partial(_torchvision, case, pixels, where),
        "vitlab, on the device": partial(ours, iter(on_device)),
        _ON_HOST: partial(ours, iter(on_host)),
    }


def _torchvision(case: InputCase, pixels: np.ndarray, device: torch.device) -> Tensor:
    transform = _transform(case, pixels.shape[1])
    return torch.stack([transform(torch.from_numpy(image).permute(2, 0, 1)) for image in pixels]).to(device)


def _transform(case: InputCase, image_size: int) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2

    ours, jitter = case.augmentation, case.augmentation.color_jitter
    scale = (ours.random_resized_crop_scale, 1.0)
    steps = [
        v2.RandomResizedCrop(image_size, scale=scale, antialias=False) if ours.random_resized_crop_scale else None,
        v2.RandomCrop(image_size, padding=ours.crop_padding, padding_mode="reflect") if ours.crop_padding else None,
        v2.RandomHorizontalFlip() if ours.horizontal_flip else None,
        v2.RandAugment(case.rand_augment_ops) if case.rand_augment_ops else None,
        v2.ColorJitter(jitter, jitter, jitter, jitter / 4) if jitter else None,
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(_MEAN, _STD),
    ]
    return v2.Compose([step for step in steps if step is not None])


def _rows(case: InputCase, rounds: int, device: str, batch_size: int, image_size: int) -> list[dict[str, Any]]:
    calls = pipelines(case, device, batch_size, image_size, rounds + 2)
    seconds = dict(zip(calls, timed_in_turns(list(calls.values()), rounds, device), strict=True))

    def ratio(theirs: Sequence[float], own: Sequence[float]) -> float:
        return statistics.median(their_time / time for their_time, time in zip(theirs, own, strict=True))

    return [
        {
            "changes": case.name,
            "pipeline": name,
            "images_per_second": batch_size / statistics.median(own),
            "ratio": ratio(seconds[_THEIRS], own),
            "host_ratio": ratio(seconds[_ON_HOST], own),
        }
        for name, own in seconds.items()
    ]
