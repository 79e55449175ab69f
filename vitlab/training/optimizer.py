"""Optimizers and the learning-rate schedule: AdamW or SGD with Nesterov momentum, warm-up and cosine by steps.

AdamW: Loshchilov and Hutter, arXiv 1711.05101; cosine without restarts: arXiv 1608.03983, section 3. Momentum-SGD's
weight decay and AdamW's decoupled one are not interchangeable numbers, so each class has its own default.
"""

import math
from typing import Any, Protocol

import torch
from torch import nn


class OptimizerRecipe(Protocol):
    """How to make an optimizer for a model; the learning rate is given where it is known, in the trial."""

    def build(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """Return the optimizer over all parameters of a model that require a gradient."""
        ...


class AdamW:
    """Adam with decoupled weight decay on matrices only (arXiv 1711.05101).

    Args:
        weight_decay: Decay per unit of learning rate; not applied to biases, norms, positions and class tokens.
        betas: Decay rates of the running first and second moments.
    """

    def __init__(self, weight_decay: float = 0.05, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        _check_weight_decay(weight_decay)
        self.weight_decay = weight_decay
        self.betas = betas

    def build(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """Return AdamW with a decayed and an undecayed parameter group."""
        groups = decay_groups(model, self.weight_decay)
        return torch.optim.AdamW(groups, lr=learning_rate, betas=self.betas, fused=_can_fuse(model))


class SGD:
    """Stochastic gradient descent with (Nesterov) momentum, the usual recipe of ResNets.

    Args:
        weight_decay: L2 penalty; not applied to biases and norms.
        momentum: Share of the last update that is kept, 0 to 1.
        nesterov: Look ahead along the momentum; needs momentum above 0.
    """

    def __init__(self, weight_decay: float = 5e-4, momentum: float = 0.9, nesterov: bool = True) -> None:
        _check_weight_decay(weight_decay)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}; give a number from 0 up to, not including, 1")
        if nesterov and momentum == 0:
            raise ValueError("nesterov needs momentum; set momentum above 0 or nesterov to false")
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.nesterov = nesterov

    def build(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """Return SGD with a decayed and an undecayed parameter group."""
        groups = decay_groups(model, self.weight_decay)
        return torch.optim.SGD(
            groups, lr=learning_rate, momentum=self.momentum, nesterov=self.nesterov, fused=_can_fuse(model)
        )


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the parameters into those that weight decay applies to and those that it does not.

    Args:
        model: May name further undecayed parameters by a method `no_weight_decay()`.
        weight_decay: For the first group: weights with two axes or more.
    """
    from timm.optim import param_groups_weight_decay  # here, because importing timm takes seconds

    skip = getattr(model, "no_weight_decay", tuple)()
    return param_groups_weight_decay(model, weight_decay, no_weight_decay_list=skip)


def warmup_cosine(step: int, warmup_steps: int, total_steps: int) -> float:
    """Return the factor on the learning rate: linear from 1/warmup_steps to 1, then half a cosine down to 0.

    Args:
        step: Optimizer steps taken so far, from 0.
        warmup_steps: Steps of the linear part.
        total_steps: Steps of the whole training.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _check_weight_decay(weight_decay: float) -> None:
    if weight_decay < 0:
        raise ValueError(f"weight_decay is {weight_decay}; give 0 or a positive number")


def _can_fuse(model: nn.Module) -> bool:
    """One kernel for all parameters: exact the same update, and no Python loop over them."""
    return all(parameter.device.type in ("cpu", "cuda") for parameter in model.parameters())
