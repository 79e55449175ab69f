"""Maps that every model has, with attention or without, so that a CNN can stand beside a ViT and be read the same way.

Grad-CAM (arXiv 1610.02391) of what the model says, and the effective receptive field of its middle (arXiv 1701.04128).
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from vitlab.inspection.attributions import grad_cam
from vitlab.inspection.feature_maps import evaluating
from vitlab.inspection.receptive_field import effective_receptive_field
from vitlab.models import TimmModel

_CAM = "Grad-CAM of its first guess"
_FIELD = "effective receptive field of the center, share of gradient"


def unwrapped(model: nn.Module) -> nn.Module:
    """Return timm's own model where vitlab's words are wrapped around one."""
    return model.model if isinstance(model, TimmModel) else model


def model_maps(model: nn.Module, images: Tensor, name: str) -> dict[str, Tensor]:
    """Return the maps that this model has, and warn of each that it has not.

    Args:
        model: A CNN or a ViT; it is left as it was.
        images: As the model takes them, (batch, channels, height, width).
        name: What to call the model in warnings.

    Returns:
        Maps by name, (batch, height, width) or (height, width) where all images share one. Grad-CAM needs captum
        (`pip install vitlab[inspect]`) and is left out without.
    """
    inner, maps = unwrapped(model), {}
    try:
        if find_spec("captum"):
            with evaluating(inner), torch.no_grad():
                said = inner(images)
            if said.ndim == 2:
                maps[_CAM] = grad_cam(inner, images, said.argmax(dim=-1))
    except ValueError as error:
        warnings.warn(f"{name} has no Grad-CAM: {error}", stacklevel=2)
    try:
        maps[_FIELD] = effective_receptive_field(inner, images).map
    except ValueError as error:
        warnings.warn(f"{name} has no effective receptive field: {error}", stacklevel=2)
    return maps
