"""Theoretical receptive field: how far a unit of a CNN could look at most, from kernels, strides and dilations.

With kernels k and strides s it is 1 + sum of (k_i - 1) * product of the strides before i (Araujo et al., "Computing
Receptive Fields of Convolutional Neural Networks", Distill 2019). Branches make that arithmetic awkward, so it is
measured: in a copy whose weights are all positive and whose nonlinearities are gone, a pixel moves a unit if and only
if the unit can see it.
"""

import copy
import math

import torch
from torch import Tensor, nn

from vitlab.attention import SelfAttention
from vitlab.inspection.feature_maps import as_map, evaluating, last_map_name, watched
from vitlab.models import SpatialAttention

_NARROW = 64  # pixels across while the other side grows: enough for five halvings
_LONGEST = 4096
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_ACTIVATION_FILES = ("torch.nn.modules.activation", "timm.layers.activations")


def theoretical_receptive_field(
    model: nn.Module, layer: str | None = None, in_channels: int = 3
) -> tuple[float, float]:
    """Return height and width of what a unit of a CNN's layer can see, in pixels.

    Normalization over places (GroupNorm, LayerNorm) is not counted as seeing. Squeeze-and-excitation is: with it, each
    unit sees the whole image, whatever its size.

    Args:
        model: A CNN; a copy is measured.
        layer: Name of a layer that gives a feature map, as in model.named_modules(); None: the last block.
        in_channels: Channels of an image.

    Returns:
        Height and width; infinite where a unit sees the whole image, however large (measured up to 4096 pixels).

    Raises:
        ValueError: No such layer, or the model is made of self-attention, which always sees everything.

    Source: Araujo et al., Distill 2019, equation 2, for chains; the probe holds for branches too.
    """
    probe = _linear_copy(model)
    if layer is None:
        image = torch.ones(1, in_channels, _NARROW, _NARROW)
        layer = last_map_name(model, image.to(next(model.parameters(), image)))
    return _extent(probe, layer, in_channels, axis=0), _extent(probe, layer, in_channels, axis=1)


class _SeesEverything(nn.Module):
    """Stand in for attention over all places of a feature map."""

    def forward(self, features: Tensor) -> Tensor:
        """Add the average over places, (batch, dim, rows, columns)."""
        return features + features.mean((2, 3), keepdim=True)


def _linear_copy(model: nn.Module) -> nn.Module:
    """Return a copy in which every path from a pixel to a unit adds something positive."""
    probe = copy.deepcopy(model).double().cpu().requires_grad_(False)
    _replace_parts(probe)
    for parameter in probe.parameters():
        # Averages keep numbers in range however deep the net: a sum over 512 channels and 9 places would not.
        parameter.fill_(1 / parameter[0].numel() if parameter.ndim > 1 else 1.0)
    return probe


def _replace_parts(module: nn.Module) -> None:
    for name, part in module.named_children():
        replacement = _replacement(part)
        if replacement is None:
            _replace_parts(part)
        else:
            setattr(module, name, replacement)


def _replacement(module: nn.Module) -> nn.Module | None:
    if isinstance(module, SpatialAttention):
        return _SeesEverything()
    if isinstance(module, SelfAttention | nn.MultiheadAttention) or hasattr(module, "fused_attn"):
        raise ValueError(
            "self-attention sees all tokens, so there is no theoretical receptive field to compute: it is the whole "
            "image; use effective_receptive_field"
        )
    if isinstance(module, nn.MaxPool2d):  # which passes a gradient to the largest pixel alone
        return nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
    is_activation = type(module).__module__.startswith(_ACTIVATION_FILES)
    return nn.Identity() if is_activation or isinstance(module, _NORMS) else None


def _extent(probe: nn.Module, layer: str, in_channels: int, axis: int) -> float:
    """Return how many rows (axis 0) or columns (axis 1) move the center unit."""
    length = 2 * _NARROW
    while length <= _LONGEST:
        size = (length, _NARROW) if axis == 0 else (_NARROW, length)
        seen = _seen(probe, layer, torch.ones(1, in_channels, *size, dtype=torch.float64))
        places = seen.any(1 - axis).nonzero()
        first, last = places[0].item(), places[-1].item()
        if first > 0 and last < length - 1:
            return last - first + 1
        length *= 2
    return math.inf


def _seen(probe: nn.Module, layer: str, image: Tensor) -> Tensor:
    """Return which pixels move the center unit, (height, width)."""
    image.requires_grad_()
    with evaluating(probe), torch.enable_grad(), watched(probe, [layer]) as outputs:
        probe(image)
        units = as_map(probe, layer, outputs[layer], image.shape[-2:])
        center = units[0, :, units.shape[2] // 2, units.shape[3] // 2].sum()
        (gradient,) = torch.autograd.grad(center, image)
    return gradient[0].ne(0).any(0)
