"""Optimizers and the learning-rate schedule: AdamW, SGD with Nesterov momentum or Muon, warm-up and cosine by steps.

AdamW: Loshchilov and Hutter, arXiv 1711.05101; cosine without restarts: arXiv 1608.03983, section 3. Muon: Jordan et
al., kellerjordan.github.io/posts/muon, 2024; Liu et al., arXiv 2502.16982. Momentum-SGD's weight decay and AdamW's
decoupled one are not interchangeable numbers, so each class has its own default; Muon's is AdamW's.
"""

import math
from typing import Any, Protocol

import torch
from torch import nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


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
        _check_momentum(momentum)
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


class Muon:
    """Orthogonalized momentum for the weight matrices of hidden layers, AdamW for all other parameters.

    Muon replaces a matrix's momentum by the orthogonal matrix next to it (five Newton-Schulz steps, in bfloat16), so
    that all its directions are learned at one pace. Hidden weights are those of linear, convolutional and recurrent
    layers; a convolution's kernel counts as a matrix (out_channels, in_channels * height * width). The model's first
    and last layer, biases, norms, positions, tokens, and grouped convolutions (many small matrices) are AdamW's. Layers
    that hold several matrices as one, such as queries, keys and values or the gates of an RNN, are taken as that one.

    The learning rate is that of both: an update is scaled by 0.2 * sqrt(longer side of the matrix), which gives it the
    root mean square of AdamW's updates, so a rate that suits AdamW is where to start.

    Args:
        weight_decay: Decay per unit of learning rate, for the same parameters as AdamW's.
        momentum: Share of the running mean of gradients that a step keeps, 0 to below 1; Nesterov's look ahead is on.
        betas: Of AdamW: decay rates of the running first and second moments.

    Raises:
        ValueError: A number is out of range; from `build`: the model does not say which layers are its first and last,
            or has no others.

    Source: Jordan et al., kellerjordan.github.io/posts/muon, 2024; scale: Liu et al., arXiv 2502.16982, section 2.2.
    """

    def __init__(
        self, weight_decay: float = 0.05, momentum: float = 0.95, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        _check_weight_decay(weight_decay)
        _check_momentum(momentum)
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.betas = betas

    def build(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """Return one optimizer with decayed and undecayed groups of Muon's parameters and of AdamW's."""
        # timm's, because torch.optim.Muon takes neither convolutions nor other parameters, and Lightning one optimizer.
        from timm.optim import Muon as MuonWithAdamW

        hidden = {id(weight) for weight in hidden_weights(model).values()}
        kinds = {
            True: {"use_muon": True, "nesterov": True},
            False: {"use_muon": False, "nesterov": False, "eps": 1e-8},  # with nesterov, timm would take NAdamW
        }
        groups = [
            {**group, "params": params, **kind}
            for group in decay_groups(model, self.weight_decay)
            for is_hidden, kind in kinds.items()
            if (params := [one for one in group["params"] if (id(one) in hidden) is is_hidden])
        ]
        return MuonWithAdamW(
            groups,
            lr=learning_rate,
            momentum=self.momentum,
            ns_coefficients="original",
            adjust_lr_fn="match_rms_adamw",
            betas=self.betas,
        )


def hidden_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weight matrices and convolution kernels between a model's first and last layer, by name.

    Args:
        model: Names the parameters of its first and last layer by a method `input_and_output_layers()`, and may name
            others that are no matrices by `no_weight_decay()`.

    Raises:
        ValueError: The model has no such method, or no such weights.
    """
    kind = type(model).__name__
    if not hasattr(model, "input_and_output_layers"):
        raise ValueError(
            f"Muon is for the layers between the first and the last, and {kind} does not say which these two are; give "
            "it a method input_and_output_layers() that returns the names of their parameters, or use "
            "vitlab.training.AdamW"
        )
    other = {*model.input_and_output_layers(), *getattr(model, "no_weight_decay", tuple)()}
    parameters = dict(model.named_parameters())
    matrices = [f"{path}.{name}" for path, module in model.named_modules() for name in _matrices_of(module)]
    hidden = {name: parameters[name] for name in matrices if name in parameters and name not in other}
    if not hidden:
        raise ValueError(f"{kind} has no weight matrices between its first and last layer; use vitlab.training.AdamW")
    return hidden


def _matrices_of(module: nn.Module) -> list[str]:
    """Return the names of a layer's own parameters that map vectors to vectors."""
    if isinstance(module, nn.RNNBase):
        return [name for name, _ in module.named_parameters() if name.startswith("weight_")]
    is_matrix = isinstance(module, nn.Linear) or (isinstance(module, _CONVOLUTIONS) and module.groups == 1)
    return ["weight"] if is_matrix else []


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


def _check_momentum(momentum: float) -> None:
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is {momentum}; give a number from 0 up to, not including, 1")


def _can_fuse(model: nn.Module) -> bool:
    """One kernel for all parameters: exact the same update, and no Python loop over them."""
    return all(parameter.device.type in ("cpu", "cuda") for parameter in model.parameters())
