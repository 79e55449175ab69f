"""Attention maps: where a token looks, in one layer, through all layers, or as far as it matters for a class.

Rollout: Abnar and Zuidema, arXiv 2005.00928, section 3. Gradient-weighted rollout: Chefer et al., arXiv 2103.15679,
section 3.1 (equations 5 and 6).
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from vitlab.attention import Grid
from vitlab.inspection.capture import capture

HeadFusion = Literal["mean", "max", "min"]


def token_map(weights: Tensor, grid: Grid, query: int) -> Tensor:
    """Return where one token looks, laid out as the image.

    Args:
        weights: Of one layer, (..., queries, keys).
        grid: The tokens' layout.
        query: The token that looks, counted from 0, prefix tokens first.

    Shape: (..., height, width), shares of attention; what goes to prefix tokens is left out, so the sum may be below 1.

    Raises:
        ValueError: There is no such token, or the weights are not over this grid's tokens.
    """
    _check_keys(weights, grid)
    if not 0 <= query < weights.shape[-2]:
        raise ValueError(f"query {query} is not there; use 0 to {weights.shape[-2] - 1}")
    return weights[..., query, grid.num_prefix_tokens :].unflatten(-1, (grid.height, grid.width))


def class_token_map(weights: Tensor, grid: Grid) -> Tensor:
    """Return where the class token looks; shape and arguments as token_map.

    Raises:
        ValueError: The tokens have no class token.
    """
    if not grid.num_prefix_tokens:
        raise ValueError("these tokens have no class token in front; use token_map for a patch, or rollout averaged")
    return token_map(weights, grid, query=0)


def rollout(
    weights: Sequence[Tensor], head_fusion: HeadFusion = "mean", discard_ratio: float = 0.0, residual: float = 0.5
) -> Tensor:
    """Follow attention from the last layer down to the input, residual connections included.

    Each layer's heads become one matrix A, its rows scaled to sum to 1; residual * I + (1 - residual) * A is multiplied
    onto the product of the layers below.

    Args:
        weights: Of all layers, first to last, (batch, heads, tokens, tokens) each.
        head_fusion: How heads become one: mean, max or min.
        discard_ratio: Share of each row's smallest weights that is set to zero, 0 to below 1.
        residual: Share of the residual connection, 0 to 1.

    Shape: (batch, tokens, tokens); row i says how much token i takes from each input token, and sums to 1.

    Raises:
        ValueError: No layers, layers that are not (batch, heads, tokens, tokens), or an argument out of range.

    Source: Abnar and Zuidema, arXiv 2005.00928, section 3; discarding: Gildenblat, "Exploring explainability for Vision
    Transformers", 2020, here per row and sample.
    """
    if head_fusion not in get_args(HeadFusion):
        raise ValueError(f"unknown head_fusion {head_fusion!r}; use one of {', '.join(get_args(HeadFusion))}")
    if not 0 <= discard_ratio < 1 or not 0 <= residual <= 1:
        raise ValueError(
            f"discard_ratio must be at least 0 and below 1, residual 0 to 1, got {discard_ratio} and {residual}"
        )
    joined = None
    for layer in _checked(weights):
        fused = {"mean": layer.mean(1), "max": layer.amax(1), "min": layer.amin(1)}[
            head_fusion
        ]  # (batch, tokens, tokens)
        fused = _without_smallest(fused, discard_ratio)
        # Rows of max or min do not sum to 1, nor do rows that lost some; without keepdim this would scale columns.
        fused = fused / fused.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(fused.dtype).tiny)
        step = residual * torch.eye(fused.shape[-1], dtype=fused.dtype, device=fused.device) + (1 - residual) * fused
        joined = step if joined is None else step @ joined
    return joined


def gradient_rollout(weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Follow attention down to the input, each weight counted by how much it raises what the gradients are of.

    A layer's matrix A is the mean over heads of max(gradient * weight, 0); relevance R starts as the identity and grows
    by A @ R from layer to layer.

    Args:
        weights: Of all layers, first to last, (batch, heads, tokens, tokens) each.
        gradients: Of a class score with respect to them, of the same shapes.

    Shape: (batch, tokens, tokens); row i says how much each input token matters through token i.

    Raises:
        ValueError: No layers, or shapes that differ.

    Source: Chefer et al., arXiv 2103.15679, equations 5 and 6.
    """
    weights = _checked(weights)
    if [layer.shape for layer in weights] != [layer.shape for layer in gradients]:
        raise ValueError("each layer's gradient must have the shape of its weights")
    relevance = torch.eye(weights[0].shape[-1], dtype=weights[0].dtype, device=weights[0].device)
    relevance = relevance.expand(len(weights[0]), -1, -1)
    for layer, gradient in zip(weights, gradients, strict=True):
        relevance = relevance + (gradient * layer).clamp(min=0).mean(dim=1) @ relevance
    return relevance


def class_relevance(model: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Grid]:
    """Return where the evidence for a class lies, by gradient-weighted rollout.

    Args:
        model: A vitlab model or a timm ViT that gives logits.
        images: (batch, channels, height, width).
        targets: The class to explain, for each image, (batch,).

    Returns:
        (batch, height, width) of patches, and their layout. It is read at the class token, or averaged over the patches
        where there is none.

    Raises:
        ValueError: The model has no self-attention over a plain grid.
    """
    with torch.enable_grad(), capture(model, differentiable=True) as record:
        logits = model(images.detach().requires_grad_())  # so that the graph reaches every layer of a frozen model too
        score = logits.gather(1, targets[:, None]).sum()
        gradients = torch.autograd.grad(score, record.weights)
    grid = record.layers[0].grid
    if grid is None:
        raise ValueError("rollout needs tokens on one plain grid; this model's attention is over windows or other sets")
    relevance = gradient_rollout([layer.detach() for layer in record.weights], gradients)
    rows = relevance[:, 0] if grid.num_prefix_tokens else relevance.mean(dim=1)  # (batch, tokens)
    return rows[:, grid.num_prefix_tokens :].unflatten(1, (grid.height, grid.width)), grid


def _checked(weights: Sequence[Tensor]) -> list[Tensor]:
    weights = list(weights)
    shapes = {tuple(layer.shape[-2:]) for layer in weights}
    if not weights or len(shapes) > 1 or any(layer.ndim != 4 or layer.shape[2] != layer.shape[3] for layer in weights):
        found = ", ".join(str(tuple(layer.shape)) for layer in weights) or "none"
        raise ValueError(f"rollout needs layers of (batch, heads, tokens, tokens), all queries captured; got {found}")
    return weights


def _check_keys(weights: Tensor, grid: Grid) -> None:
    if weights.shape[-1] != grid.num_tokens:
        raise ValueError(f"weights over {weights.shape[-1]} tokens do not fill {grid}, which has {grid.num_tokens}")


def _without_smallest(rows: Tensor, ratio: float) -> Tensor:
    """Set the smallest share of each row to zero."""
    count = int(ratio * rows.shape[-1])
    if not count:
        return rows
    smallest = rows.topk(count, dim=-1, largest=False).indices
    return rows.scatter(-1, smallest, 0.0)
