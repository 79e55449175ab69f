"""Throughput: training steps of two models, timed in turns so that a noisy machine slows both alike.

A ratio from one run means more than two numbers from two runs: each round times one model right after the other, and
the median over rounds forgives what else the machine did.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.models import ResNet, ViT, ViTShape


def compare_throughput(
    ours: nn.Module,
    theirs: nn.Module,
    image_size: int,
    batch_size: int = 16,
    rounds: int = 7,
    device: str = "cpu",
    seed: int = 0,
) -> dict[str, float]:
    """Time training steps (forward, backward, AdamW) of two models in turns.

    Args:
        ours: A model from images to logits.
        theirs: Another, of the same channels and classes.
        image_size: Side of the random RGB images in pixels.
        batch_size: Images in a step, 1 or more.
        rounds: Timed steps of each model, 1 or more.
        device: Where to run, such as cpu or cuda.
        seed: Seed of the random images.

    Returns:
        `ours` and `theirs` in images per second (medians), `ratio` (median of the rounds' ratios; above 1: ours is
        faster), and `ratio_low`, `ratio_high` (its quartiles; the extremes with fewer than four rounds).

    Raises:
        ValueError: No rounds, or no images.
    """
    if rounds < 1 or batch_size < 1:
        raise ValueError(f"rounds and batch_size must be 1 or more, got {rounds} and {batch_size}")
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch_size, 3, image_size, image_size, generator=generator).to(device)
    steps = [_make_step(model.to(device).train(), images) for model in (ours, theirs)]
    for step in steps * 2:  # the first steps allocate memory and the optimizer's state
        seconds_of(step, device)
    seconds: tuple[list[float], list[float]] = ([], [])
    for round_index in range(rounds):
        # The order changes every round: what comes second finds a warmer machine.
        for which in (0, 1) if round_index % 2 == 0 else (1, 0):
            seconds[which].append(seconds_of(steps[which], device))
    ratios = sorted(their_time / our_time for our_time, their_time in zip(*seconds, strict=True))
    low, _, high = statistics.quantiles(ratios, n=4) if rounds >= 4 else (ratios[0], 0.0, ratios[-1])
    return {
        "ours": batch_size / statistics.median(seconds[0]),
        "theirs": batch_size / statistics.median(seconds[1]),
        "ratio": statistics.median(ratios),
        "ratio_low": low,
        "ratio_high": high,
    }


@dataclass(frozen=True)
class Pair:
    """Two models of the same shape, to be timed beside each other.

    Args:
        name: What the pair shows.
        image_size: Side of the images in pixels.
        batch_share: Share of bench's batch_size that suits the size of the images.
        make: Makes the two models.
    """

    name: str
    image_size: int
    batch_share: float
    make: Callable[[], tuple[nn.Module, nn.Module]]


def bench(
    rounds: int = 7, batch_size: int = 64, num_threads: int | None = None, device: str = "cpu"
) -> list[dict[str, Any]]:
    """Time vitlab's models beside timm's and torchvision's of the same shape.

    Args:
        rounds: Timed steps of each model, 1 or more.
        batch_size: Images in a step at 32 pixels, 1 or more; an eighth of it at 224 pixels.
        num_threads: CPU threads, 1 or more; None leaves torch's setting.
        device: Where to run, such as cpu or cuda.

    Returns:
        One row a pair: name, image_size, batch_size, and what compare_throughput gives.
    """
    threads_before = torch.get_num_threads()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    try:
        return [_row(pair, rounds, batch_size, device) for pair in PAIRS]
    finally:
        torch.set_num_threads(threads_before)


def format_table(rows: list[dict[str, Any]]) -> str:
    """Return bench's rows as a table in Markdown.

    Args:
        rows: What bench gave.
    """
    lines = [
        "| pair | pixels | batch | vitlab img/s | other img/s | ratio | quartiles |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['name']} | {row['image_size']} | {row['batch_size']} | {row['ours']:.1f} | {row['theirs']:.1f} | "
        f"{row['ratio']:.3f} | {row['ratio_low']:.3f} to {row['ratio_high']:.3f} |"
        for row in rows
    ]
    return "\n".join(lines)


def _row(pair: Pair, rounds: int, batch_size: int, device: str) -> dict[str, Any]:
    torch.manual_seed(0)
    batch_size = max(1, round(batch_size * pair.batch_share))
    measured = compare_throughput(*pair.make(), pair.image_size, batch_size, rounds, device)
    return {"name": pair.name, "image_size": pair.image_size, "batch_size": batch_size, **measured}


def _make_step(model: nn.Module, images: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def seconds_of(step: Callable[[], None], device: str) -> float:
    """Return how long a call takes by the clock, a GPU's work included.

    Args:
        step: What to time.
        device: Where it runs, such as cpu or cuda.
    """
    start = time.perf_counter()
    step()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)  # a GPU's work is only queued until then
    return time.perf_counter() - start


def _vit_32() -> tuple[nn.Module, nn.Module]:
    import timm

    theirs = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=4, depth=6, num_classes=10, drop_path_rate=0.0
    )
    shape = ViTShape(dim=192, depth=6, num_heads=3, mlp_dim=768)
    return ViT(image_size=32, num_classes=10, patch_size=4, size=shape), theirs


def _vit_224() -> tuple[nn.Module, nn.Module]:
    import timm

    theirs = timm.create_model("vit_small_patch16_224", num_classes=1000)
    return ViT.from_timm(theirs), theirs


def _resnet_32() -> tuple[nn.Module, nn.Module]:
    import timm

    theirs = timm.create_model("resnet18", num_classes=10)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    return ResNet(image_size=32, num_classes=10, size="resnet18"), theirs


def _resnet_224() -> tuple[nn.Module, nn.Module]:
    from torchvision.models import resnet18

    return ResNet(image_size=224, num_classes=1000, size="resnet18", stem="7x7"), resnet18()


PAIRS = (
    Pair("ViT 192/6/3 patch 4, beside timm", 32, 1.0, _vit_32),
    Pair("ViT small/16 from_timm, beside timm", 224, 1 / 8, _vit_224),
    Pair("ResNet-18, 3x3 stem, beside timm", 32, 1 / 2, _resnet_32),
    Pair("ResNet-18, 7x7 stem, beside torchvision", 224, 1 / 8, _resnet_224),
)
