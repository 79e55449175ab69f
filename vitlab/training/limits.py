"""How fast a training step could be at best: its arithmetic at the machine's rate or its bytes, what takes longer.

The roofline of Williams et al. (Communications of the ACM 52(4), 2009), with measured rates in place of the maker's.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vitlab.training.memory import kept_bytes

# 4,096 rows of 512 numbers: a linear layer of a batch of small images. As pixels of 16 images, because torch has a
# slower convolution for small batches.
_BATCH, _SIDE, _CHANNELS = 16, 16, 512
_COPIED_NUMBERS = 2**25  # 128 MiB, beyond any cache
# Numbers moved for each weight: read in forward and backward, gradient written and read, weight and both of Adam's
# averages read and written.
_MOVES_OF_A_WEIGHT = 10


@dataclass(frozen=True)
class MachineRates:
    """What a machine does at best.

    Args:
        flops_per_second: Of float32 multiplications and additions, in the better of a matrix product and a 1x1
            convolution: the two are different libraries on a CPU.
        bytes_per_second: Read and written, in a copy of 128 MiB.
    """

    flops_per_second: float
    bytes_per_second: float


def measure_rates(
    seconds_of: Callable[[Callable[[], object], str], float], device: str = "cpu", rounds: int = 5
) -> MachineRates:
    """Measure a machine's rates: the best of some rounds.

    Args:
        seconds_of: How to time a call on a device.
        device: Which machine, such as cpu or cuda.
        rounds: Calls of each kind, 1 or more.
    """
    rows = torch.randn(_BATCH * _SIDE**2, _CHANNELS, device=device)
    weight = torch.randn(_CHANNELS, _CHANNELS, device=device)
    pixels = rows.reshape(_BATCH, _SIDE, _SIDE, _CHANNELS).permute(0, 3, 1, 2)
    source = torch.ones(_COPIED_NUMBERS, device=device)
    goal = torch.ones_like(source)
    products = (lambda: F.linear(rows, weight), lambda: F.conv2d(pixels, weight[:, :, None, None]))
    flops = 2 * len(rows) * _CHANNELS**2
    with torch.no_grad():
        product = min(_fastest(call, seconds_of, device, rounds) for call in products)
        copy = _fastest(lambda: goal.copy_(source), seconds_of, device, rounds)
    return MachineRates(flops / product, 2 * source.nbytes / copy)


def least_seconds(model: nn.Module, images: Tensor, loss: Callable[[Tensor], Tensor], rates: MachineRates) -> float:
    """Return the least time of a training step: arithmetic, or bytes of weights and kept activations.

    Args:
        model: Maps images to logits.
        images: (batch, channels, height, width).
        loss: Maps logits to a number.
        rates: The machine's.
    """
    with FlopCounterMode(display=False) as counter:
        loss(model(images)).backward()
    moved = 2 * kept_bytes(model, images)  # written in forward, read in backward
    moved += _MOVES_OF_A_WEIGHT * sum(parameter.nbytes for parameter in model.parameters())
    return max(counter.get_total_flops() / rates.flops_per_second, moved / rates.bytes_per_second)


def describe_machine() -> dict[str, Any]:
    """Return what a measured time depends on: torch's version, the CPU's instructions and cores."""
    return {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability(), "cores": os.cpu_count()}


def _fastest(
    call: Callable[[], object],
    seconds_of: Callable[[Callable[[], object], str], float],
    device: str,
    rounds: int,
) -> float:
    seconds: Sequence[float] = [seconds_of(call, device) for _ in range(rounds + 1)]
    return max(min(seconds), math.ulp(1.0))
