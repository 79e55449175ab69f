"""Conditional positions: what is added to a token follows from its neighbors, so any grid will do.

A small convolution sees the border of the image through its zero padding, and so tells tokens where they are.
Chu et al. (CPVT), arXiv 2102.10882, section 3.
"""

import torch
from torch import Tensor, nn

from vitlab.attention.grid import Grid
from vitlab.attention.positions import Position, check_made_with_grid


class ConditionalPosition(Position):
    """Add to each patch what a depthwise convolution makes of it and its neighbors (CPE, made by a PEG).

    No table, hence nothing to resample: it runs on any grid. Class token and registers sit nowhere and are left alone.
    In a ViT it acts before the first block (the paper: after it); in an attention layer's position, before that layer.

    Args:
        dim: Width of a token.
        grid: The tokens' layout; taken so that all positions are made alike.
        kernel_size: Side of the convolution in patches, odd, 3 or more (a kernel of 1 sees no border).

    Shape: tokens (batch, tokens, dim) to the same.

    Raises:
        ValueError: kernel_size is even or below 3.

    Source: Chu et al. (CPVT), arXiv 2102.10882, section 3.2.
    """

    def __init__(self, dim: int, grid: Grid | None = None, kernel_size: int = 3) -> None:
        super().__init__()
        check_made_with_grid(self, grid)
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and 3 or more, got {kernel_size}")
        self.convolution = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)

    def on_tokens(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Add to each patch what the convolution makes of it and its neighbors.

        Shape: (batch, tokens, dim) to the same.
        """
        patches = tokens[:, grid.num_prefix_tokens :]
        image = patches.transpose(1, 2).unflatten(2, (grid.height, grid.width))  # (batch, dim, height, width)
        added = self.convolution(image).flatten(2).transpose(1, 2)  # (batch, patches, dim)
        return torch.cat([tokens[:, : grid.num_prefix_tokens], patches + added], dim=1)
