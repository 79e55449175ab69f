"""Learned filters: what the first layer looks for in pixels, as pictures.

Dosovitskiy et al., arXiv 2010.11929, figure 7 (left): the principal components of a ViT's patch embedding, which look
like a basis of fine structure in a patch; beside them, a CNN's first kernels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vitlab.models import PixelTokenizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@torch.no_grad()
def first_layer_filters(model: nn.Module, num_components: int | None = None, layer: str | None = None) -> Tensor:
    """Return the filters of a model's first layer, or their principal components.

    Args:
        model: A vitlab or timm model, or any other whose first layer is a convolution.
        num_components: Directions in which the filters differ most, strongest first, each of length 1 and with its
            largest number positive; None: the filters themselves.
        layer: Name of a Conv2d, as in model.named_modules(); None: the tokenizer's or stem's first.

    Shape: (filters or components, channels, height, width).

    Raises:
        ValueError: No such convolution, or more components than filters or numbers in a filter.
    """
    weights = _first_weights(model, layer).detach().float().cpu()  # (filters, channels, height, width)
    if num_components is None:
        return weights
    most = min(len(weights), weights[0].numel())
    if not 1 <= num_components <= most:
        raise ValueError(f"num_components must be 1 to {most} for filters {tuple(weights.shape)}, got {num_components}")
    flat = weights.flatten(1)
    directions = torch.linalg.svd(flat - flat.mean(0), full_matrices=False).Vh[:num_components]  # (components, numbers)
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return (directions * largest.sign()).unflatten(1, weights.shape[1:])


def plot_filters(filters: Tensor, title: str = "") -> Figure:
    """Draw filters as pictures, each on its own scale: middle gray is 0.

    Args:
        filters: As first_layer_filters gives them; three channels are drawn as colors, others as the mean channel.
        title: Text above the pictures.

    Shape: filters (filters, channels, height, width).

    Returns:
        A matplotlib Figure; `figure.savefig("filters.png")` writes it.

    Raises:
        ValueError: There are no filters.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here, because importing matplotlib takes 0.7 s
    from matplotlib.figure import Figure

    if filters.ndim != 4 or not len(filters):
        raise ValueError(f"filters must be (filters, channels, height, width), one or more, got {tuple(filters.shape)}")
    columns = min(len(filters), max(4, math.ceil(math.sqrt(len(filters)))))
    rows = math.ceil(len(filters) / columns)
    figure = Figure(figsize=(0.6 * columns, 0.6 * rows + (0.3 if title else 0.0)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for index, panel in enumerate(panels):
        panel.set_axis_off()
        if index < len(filters):
            panel.imshow(_as_picture(filters[index]).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    if title:
        figure.suptitle(title, fontsize=9, parse_math=False)
    return figure


def _first_weights(model: nn.Module, layer: str | None) -> Tensor:
    if layer is not None:
        module = dict(model.named_modules()).get(layer)
        if not isinstance(module, nn.Conv2d):
            convolutions = [name for name, part in model.named_modules() if isinstance(part, nn.Conv2d)]
            known = ", ".join(convolutions[:4]) or "none there"
            raise ValueError(f"layer {layer!r} is no Conv2d of {type(model).__name__}; use one such as: {known}")
        return module.weight
    # A head may hold convolutions too, and vitlab's ViT lists it first.
    start = next((part.tokenizer for part in model.modules() if hasattr(part, "tokenizer")), model)
    for module in start.modules():
        if isinstance(module, nn.Conv2d):
            return module.weight
        if isinstance(module, PixelTokenizer):
            return module.projection.weight[:, :, None, None]
    raise ValueError(f"{type(model).__name__} has no convolution and no patch embedding whose filters could be shown")


def _as_picture(weights: Tensor) -> Tensor:
    """Return (height, width, 3) or (height, width), 0 to 1."""
    weights = weights.detach().float().cpu()
    picture = weights.permute(1, 2, 0) if len(weights) == 3 else weights.mean(0)
    return (picture / picture.abs().max().clamp(min=1e-12) + 1) / 2
