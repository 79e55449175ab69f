"""Batches of images of different sizes: each image's tokens lie in a corner of one grid, the rest is padding.

Images become tokens one size at a time, each with its own positions, so that nothing of an image depends on its
company; in the blocks, a mask keeps everybody from looking at padding (compare NaViT, Dehghani et al., arXiv
2307.06304, section 2.1, which packs sequences instead).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vitlab.attention import Grid


def embed_mixed_sizes(
    images: Sequence[Tensor], embed: Callable[[Tensor], tuple[Tensor, Grid]]
) -> tuple[Tensor, Grid, Tensor | None]:
    """Return the tokens of images of different sizes as one batch.

    Args:
        images: (channels, height, width) each.
        embed: Makes tokens (batch, tokens, dim) and their grid of images of one size.

    Returns:
        Tokens (batch, tokens, dim) on the smallest grid that holds every image's, that grid, and which of the tokens
        are no padding, (batch, tokens) of bool, or None where all images are of one size.

    Raises:
        ValueError: There are no images, or one is not (channels, height, width).
    """
    if not images:
        raise ValueError("a batch of images of different sizes needs at least one image, got none")
    for index, image in enumerate(images):
        if image.ndim != 3:
            raise ValueError(
                f"image {index} is {tuple(image.shape)}; give a list of images (channels, height, width), or one "
                "tensor (batch, channels, height, width)"
            )
    members: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        members.setdefault(tuple(image.shape), []).append(index)
    if len(members) == 1:
        return *embed(torch.stack(list(images))), None
    embedded = [embed(torch.stack([images[index] for index in group])) for group in members.values()]
    grids = [grid for _, grid in embedded]
    canvas = replace(grids[0], height=max(grid.height for grid in grids), width=max(grid.width for grid in grids))
    tokens, visible = zip(*(_on_canvas(tokens, grid, canvas) for tokens, grid in embedded), strict=True)
    order = torch.tensor([index for group in members.values() for index in group]).argsort()
    order = order.to(tokens[0].device)
    return torch.cat(tokens)[order], canvas, torch.cat(visible)[order]


def _on_canvas(tokens: Tensor, grid: Grid, canvas: Grid) -> tuple[Tensor, Tensor]:
    """Move tokens from their own grid to the top left corner of a larger one."""
    rows, columns = grid.coordinates(tokens.device).unbind(1)
    prefix = torch.arange(grid.num_prefix_tokens, device=tokens.device)
    places = torch.cat([prefix, grid.num_prefix_tokens + rows * canvas.width + columns])  # (tokens,)
    blank = tokens.new_zeros(len(tokens), canvas.num_tokens, tokens.shape[-1])
    visible = torch.zeros(len(tokens), canvas.num_tokens, dtype=torch.bool, device=tokens.device)
    return blank.index_copy(1, places, tokens), visible.index_fill(1, places, True)
