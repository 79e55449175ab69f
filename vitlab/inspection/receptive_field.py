"""Effective receptive field: which pixels a unit in the middle of a layer really listens to, and how far away they are.

The gradient of the unit with respect to the image, its magnitude averaged over images: Luo et al., arXiv 1701.04128,
section 2. For ViTs beside CNNs: Raghu et al., arXiv 2108.08810, section 4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitlab.inspection.feature_maps import as_map, check_images, evaluating, last_map_name, watched


@dataclass(frozen=True)
class EffectiveReceptiveField:
    """How much each pixel moves the unit in the middle of a layer.

    Args:
        map: Share of the gradient's magnitude on each pixel, (height, width); sums to 1.
        layer: The layer's name.
        row: Row of the center of mass, in pixels from 0.
        column: Column of the center of mass, in pixels from 0.
        radius_50_px: Radius around the center of mass that holds half of the magnitude, in pixels.
        radius_95_px: Radius that holds 95 % of it, in pixels.
    """

    map: Tensor
    layer: str
    row: float
    column: float
    radius_50_px: float
    radius_95_px: float


def effective_receptive_field(
    model: nn.Module, images: Tensor, layer: str | None = None, seed: int = 0, batch_size: int = 16
) -> EffectiveReceptiveField:
    """Measure which pixels the center unit of a layer listens to.

    The unit's channels are summed with random signs, new ones for each image: a plain sum is constant after layer norm,
    and no single channel stands for all.

    Args:
        model: A CNN, a ViT or another model that is called with images; it is left as it was.
        images: Normalized as the model wants them; 50 or more make a smooth map.
        layer: Name of a layer that gives tokens or a feature map, as in model.named_modules(); None: the last block.
        seed: Seed of the signs.
        batch_size: Images at a time, 1 or more.

    Shape: images (batch, channels, height, width) to a map (height, width).

    Raises:
        ValueError: No such layer, a layer without places, or no pixel moves the unit.

    Source: Luo et al., arXiv 1701.04128, section 2.
    """
    check_images(images)
    layer = last_map_name(model, images) if layer is None else layer
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(images.shape[-2:], dtype=torch.float64)
    for batch in images.split(batch_size):
        total += _gradient_magnitude(model, batch, layer, generator)
    if not total.sum() > 0:
        raise ValueError(
            f"no pixel moves the center unit of layer {layer!r}: its gradient is zero for all {len(images)} images; "
            "use other images, or another layer"
        )
    return _measured(total / total.sum(), layer)


def radius_holding(shares: Tensor, share: float, row: float, column: float) -> float:
    """Return the smallest radius around a place that holds a share of a map, in pixels.

    Args:
        shares: A map that sums to 1, (height, width).
        share: Share to be held, above 0 to 1.
        row: Row of the place, in pixels from 0.
        column: Column of the place, in pixels from 0.
    """
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in shares.shape)
    distances = torch.hypot(rows[:, None] - row, columns[None, :] - column).flatten()  # (height * width,)
    order = distances.argsort()
    held = shares.flatten().double()[order].cumsum(0)
    enough = (held >= share - 1e-6).nonzero()  # rounding must not ask for the last empty pixel
    return distances[order[enough[0, 0] if len(enough) else -1]].item()


def _gradient_magnitude(model: nn.Module, images: Tensor, layer: str, generator: torch.Generator) -> Tensor:
    """Return |gradient| of the center unit, averaged over channels and summed over images, (height, width)."""
    images = images.detach().clone().requires_grad_()
    with evaluating(model), torch.enable_grad(), watched(model, [layer]) as outputs:
        model(images)
        if layer not in outputs:
            raise ValueError(f"layer {layer!r} did not run, or gives no tensor; choose another")
        units = as_map(model, layer, outputs[layer], images.shape[-2:])
        center = units[:, :, units.shape[2] // 2, units.shape[3] // 2]  # (batch, dim)
        signs = torch.randint(0, 2, center.shape, generator=generator).to(center) * 2 - 1
        (gradient,) = torch.autograd.grad((center * signs).sum(), images)
    return gradient.abs().mean(1).sum(0).cpu().double()


def _measured(shares: Tensor, layer: str) -> EffectiveReceptiveField:
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in shares.shape)
    row, column = (shares.sum(1) @ rows).item(), (shares.sum(0) @ columns).item()
    radii = (radius_holding(shares, share, row, column) for share in (0.5, 0.95))
    return EffectiveReceptiveField(shares.float(), layer, row, column, *radii)
