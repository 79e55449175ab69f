"""What a training step costs: multiply-accumulates, counted, and seconds on this machine, measured.

A step is one of the optimizer: forward and backward pass of all its images. The backward pass takes twice the
multiply-accumulates of the forward pass, since each product has two factors to be differentiated by (Kaplan et al.,
arXiv 2001.08361, section 2.1, counts the same). Seconds depend on all that a step waits for, so the real training is
run for a moment: loader, augmentation, optimizer and loop.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.flop_counter import FlopCounterMode

from vitlab.training import run

_FORWARD_AND_BACKWARD = 3  # in forward passes
_FIRST_STEPS = 3  # not timed: they allocate memory and the optimizer's state, and start the loader


def forward_macs(cli: Any) -> int:
    """Return the multiply-accumulates of one image's forward pass, as torch counts them (half of its flops).

    Args:
        cli: A command that `run.prepare` or `run.fit` gave.
    """
    data, backbone = cli.datamodule, cli.model.backbone
    device = next(backbone.parameters()).device
    image = torch.zeros(1, data.in_channels, *data.image_shape, device=device)
    training = backbone.training
    backbone.eval()
    # A compiled model's products lie inside one call, where none can be counted.
    with torch.compiler.set_stance("force_eager"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone(image)
    backbone.train(training)
    return counter.get_total_flops() // 2


def images_per_step(cli: Any) -> float:
    """Return how many images a step of the optimizer takes in the mean, over all processes together.

    An epoch has whole batches only, and its last one ends a step, however many were to be accumulated.

    Args:
        cli: A command that `run.prepare` or `run.fit` gave.
    """
    data, accumulated = cli.datamodule, cli.trainer.accumulate_grad_batches
    if data.train_size is None:
        return data.batch_size * accumulated
    num_batches = max(1, data.train_size // data.batch_size)
    return min(data.batch_size, data.train_size) * num_batches / math.ceil(num_batches / accumulated)


def step_macs(arguments: Sequence[str]) -> int:
    """Return the multiply-accumulates of a training step.

    Args:
        arguments: What would stand after `vitlab fit`.

    Raises:
        ValueError: The settings cannot be right, or nothing can be counted in the model.
    """
    cli = run.prepare(arguments)
    cli.datamodule.prepare_data()
    cli.datamodule.setup("fit")
    macs = forward_macs(cli)
    if not macs:
        raise ValueError("torch counts no multiply-accumulates in this model; use a budget in steps or seconds")
    return round(_FORWARD_AND_BACKWARD * macs * images_per_step(cli))


def step_seconds(arguments: Sequence[str], seconds: float = 0.5, min_steps: int = 5) -> tuple[float, str]:
    """Train for a moment, and return the mean seconds of a step and the name of the device.

    Args:
        arguments: What would stand after `vitlab fit`; with steps enough.
        seconds: How long to time, above 0.
        min_steps: How many steps to time at least, 1 or more.

    Raises:
        ValueError: The training ends by itself before a step can be timed.
        Exception: What went wrong, as it was raised; bad settings are a ValueError.
    """
    clock = _Clock(seconds, min_steps)
    # A training that is stopped early is validated, which is no part of a step and may take long.
    cli = run.train([*arguments, "--trainer.limit_val_batches=0"], [clock])
    if not clock.seconds_per_step:
        raise ValueError(
            f"the training ended by itself after {cli.trainer.global_step} steps, before a step could be timed; leave "
            "out callbacks and limits that stop it, or give the budget in steps"
        )
    device = cli.trainer.strategy.root_device
    return clock.seconds_per_step, torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def wait_for_device(device: torch.device) -> None:
    """Wait until a GPU has done what was asked of it; until then a clock tells only how long the asking took."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Clock(Callback):
    """Time a training after its first steps, and stop it."""

    def __init__(self, seconds: float, min_steps: int) -> None:
        self.seconds_per_step = 0.0
        self._seconds, self._min_steps = seconds, min_steps
        self._started = 0.0
        self._step = 0

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int) -> None:
        steps, is_whole = trainer.global_step - _FIRST_STEPS, trainer.global_step > self._step
        self._step = trainer.global_step
        if steps < 0 or not is_whole:  # a step may take several batches
            return
        if not self._started:
            wait_for_device(trainer.strategy.root_device)
            self._started = time.perf_counter()
            return
        enough = steps >= self._min_steps and time.perf_counter() - self._started >= self._seconds
        if trainer.strategy.reduce_boolean_decision(enough, all=False):  # all processes stop together
            wait_for_device(trainer.strategy.root_device)
            self.seconds_per_step = (time.perf_counter() - self._started) / steps
            trainer.should_stop = True
