"""Throughput: training steps of two models, timed in turns so that a noisy machine slows both alike.

A ratio from one run means more than two numbers from two runs: each round times one model right after the other, and
the median over rounds forgives what else the machine did.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.models import ResNet, ViT
from vitlab.models.vit import SIZES
from vitlab.training.limits import MachineRates, least_seconds, measure_rates
from vitlab.training.memory import peak_bytes
from vitlab.training.plain_vit import PlainViT


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
    steps = _steps_of((ours, theirs), image_size, batch_size, device, seed)
    seconds = timed_in_turns(steps, rounds, device)
    return {
        "ours": batch_size / statistics.median(seconds[0]),
        "theirs": batch_size / statistics.median(seconds[1]),
        **_ratio("ratio", *seconds),
    }


def timed_in_turns(calls: Sequence[Callable[[], object]], rounds: int, device: str) -> list[list[float]]:
    """Return the seconds of some calls, a list for each, taken in turns; two rounds come before and do not count.

    Args:
        calls: What to time.
        rounds: How often, 1 or more.
        device: Where it runs, such as cpu or cuda.
    """
    for call in list(calls) * 2:  # the first steps allocate memory and the optimizer's state
        seconds_of(call, device)
    seconds: list[list[float]] = [[] for _ in calls]
    for round_index in range(rounds):
        # The order changes every round: what comes second finds a warmer machine.
        order = range(len(calls)) if round_index % 2 == 0 else reversed(range(len(calls)))
        for which in order:
            seconds[which].append(seconds_of(calls[which], device))
    return seconds


def _ratio(name: str, ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return the median of the rounds' ratios, and its quartiles (the extremes with fewer than four rounds)."""
    ratios = sorted(their_time / our_time for our_time, their_time in zip(ours, theirs, strict=True))
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) >= 4 else (ratios[0], 0.0, ratios[-1])
    return {name: statistics.median(ratios), f"{name}_low": low, f"{name}_high": high}


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


@contextlib.contextmanager
def cpu_threads(number: int | None) -> Iterator[None]:
    """Have torch use so many CPU threads within the block; None leaves its setting.

    Args:
        number: CPU threads, 1 or more.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def bench(
    rounds: int = 7,
    batch_size: int = 64,
    num_threads: int | None = None,
    device: str = "cpu",
    pairs: Sequence[Pair] | None = None,
) -> list[dict[str, Any]]:
    """Time vitlab's models beside timm's and torchvision's of the same shape.

    Args:
        rounds: Timed steps of each model, 1 or more.
        batch_size: Images in a step at 32 pixels, 1 or more; an eighth of it at 224 pixels.
        num_threads: CPU threads, 1 or more; None leaves torch's setting.
        device: Where to run, such as cpu or cuda.
        pairs: What to time; None: PAIRS.

    Returns:
        One row a pair: name, image_size, batch_size, what compare_throughput gives, `forward_ratio` (of the forward
        passes alone), `peak_bytes` and `their_peak_bytes` (the most that a step holds beside weights and optimizer),
        `memory_ratio` (ours over theirs), and `share_of_limit` (the least time that the machine's rates allow over the
        time of our step).
    """
    with cpu_threads(num_threads):
        rates = measure_rates(seconds_of, device)
        return [_row(pair, rounds, batch_size, device, rates) for pair in (PAIRS if pairs is None else pairs)]


def format_table(rows: list[dict[str, Any]], sides: tuple[str, str] = ("vitlab", "other")) -> str:
    """Return bench's rows as a table in Markdown.

    Args:
        rows: What bench gave.
        sides: What to call the two models of a pair.
    """
    ours, theirs = sides
    lines = [
        f"| pair | pixels | batch | {ours} img/s | {theirs} img/s | ratio | quartiles | forward alone, ratio "
        f"| peak MB, {ours} | {theirs} | ratio | share of the limit |",
        "|---|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row['name']} | {row['image_size']} | {row['batch_size']} | {row['ours']:.1f} | {row['theirs']:.1f} | "
        f"{row['ratio']:.3f} | {row['ratio_low']:.3f} to {row['ratio_high']:.3f} | {row['forward_ratio']:.3f} | "
        f"{row['peak_bytes'] / 1e6:.1f} | {row['their_peak_bytes'] / 1e6:.1f} | {row['memory_ratio']:.3f} | "
        f"{row['share_of_limit']:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def _row(pair: Pair, rounds: int, batch_size: int, device: str, rates: MachineRates) -> dict[str, Any]:
    torch.manual_seed(0)
    batch_size = max(1, round(batch_size * pair.batch_share))
    models = [model.to(device).train() for model in pair.make()]
    measured = compare_throughput(*models, pair.image_size, batch_size, rounds, device)
    images = _images(pair.image_size, batch_size, device)
    forwards = timed_in_turns([partial(_forward, model, images) for model in models], rounds, device)
    least = least_seconds(models[0], images, _loss, rates)
    peaks = []
    for model, step in zip(models, _steps_of(models, pair.image_size, batch_size, device), strict=True):
        step()
        model.zero_grad()
        peaks.append(peak_bytes(step, device))
    return {
        "name": pair.name,
        "image_size": pair.image_size,
        "batch_size": batch_size,
        **measured,
        "forward_ratio": _ratio("ratio", *forwards)["ratio"],
        "peak_bytes": peaks[0],
        "their_peak_bytes": peaks[1],
        "memory_ratio": peaks[0] / peaks[1],
        "share_of_limit": least * measured["ours"] / batch_size,
    }


def _images(image_size: int, batch_size: int, device: str, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch_size, 3, image_size, image_size, generator=generator).to(device)


def _steps_of(
    models: Sequence[nn.Module], image_size: int, batch_size: int, device: str, seed: int = 0
) -> list[Callable[[], None]]:
    images = _images(image_size, batch_size, device, seed)
    return [_make_step(model.to(device).train(), images) for model in models]


def _forward(model: nn.Module, images: Tensor) -> None:
    model(images)  # with all that a training would keep of it


def _loss(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def _make_step(model: nn.Module, images: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        _loss(model(images)).backward()
        optimizer.step()

    return step


def seconds_of(step: Callable[[], object], device: str) -> float:
    """Return how long a call takes, a GPU's work included.

    By the clock; on one CPU thread by the time that it had the CPU, which is the same where nothing else runs, and does
    not count other programs where something does.

    Args:
        step: What to time.
        device: Where it runs, such as cpu or cuda.
    """
    alone = torch.device(device).type == "cpu" and torch.get_num_threads() == 1
    now = time.process_time if alone else time.perf_counter
    start = now()
    step()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)  # a GPU's work is only queued until then
    return now() - start


def _vit_32() -> tuple[nn.Module, nn.Module]:
    import timm

    shape = {"img_size": 32, "patch_size": 4, "embed_dim": 384, "depth": 7, "num_heads": 12, "mlp_ratio": 1.0}
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=10, **shape)
    return ViT(image_size=32, num_classes=10, patch_size=4, size="compact"), theirs


def _vit_32_plain() -> tuple[nn.Module, nn.Module]:
    ours = ViT(image_size=32, num_classes=10, patch_size=4, size="compact")
    return ours, PlainViT(32, 4, 10, SIZES["compact"])


def _vit_224() -> tuple[nn.Module, nn.Module]:
    import timm

    theirs = timm.create_model("vit_small_patch16_224", num_classes=1000)
    return ViT.from_timm(theirs), theirs


def _resnet_32() -> tuple[nn.Module, nn.Module]:
    from torchvision.models import resnet18

    theirs = resnet18(num_classes=10)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    return ResNet(image_size=32, num_classes=10, size="resnet18"), theirs


def _resnet_224() -> tuple[nn.Module, nn.Module]:
    from torchvision.models import resnet18

    return ResNet(image_size=224, num_classes=1000, size="resnet18", stem="7x7"), resnet18()


PAIRS = (
    Pair("ViT 384/7/12 patch 4, beside timm", 32, 1.0, _vit_32),
    Pair("ViT 384/7/12 patch 4, beside a plain one", 32, 1.0, _vit_32_plain),
    Pair("ViT small/16 from_timm, beside timm", 224, 1 / 8, _vit_224),
    Pair("ResNet-18, 3x3 stem, beside torchvision", 32, 1.0, _resnet_32),
    Pair("ResNet-18, 7x7 stem, beside torchvision", 224, 1 / 8, _resnet_224),
)
