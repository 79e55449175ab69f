"""Where tokens come from: a grid of patches, behind a few tokens that sit nowhere (class token, registers).

A sequence of tokens has forgotten its image; patterns and positions need the picture back. The order is the ViT paper's
(arXiv 2010.11929, section 3.1): prefix tokens first, then the patches row by row.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """The layout of one sequence of tokens.

    Args:
        height: Rows of patches, 1 or more.
        width: Patches in a row, 1 or more.
        num_prefix_tokens: Tokens before the first patch that have no place in the image, 0 or more.

    Raises:
        ValueError: A count is out of range.
    """

    height: int
    width: int
    num_prefix_tokens: int = 0

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1 or self.num_prefix_tokens < 0:
            raise ValueError(
                f"a grid needs height >= 1, width >= 1 and num_prefix_tokens >= 0, got height={self.height}, "
                f"width={self.width}, num_prefix_tokens={self.num_prefix_tokens}"
            )

    @property
    def num_patches(self) -> int:
        """Tokens that have a place in the image."""
        return self.height * self.width

    @property
    def num_tokens(self) -> int:
        """All tokens, prefix included."""
        return self.num_prefix_tokens + self.num_patches

    def coordinates(self, device: torch.device | str | None = None) -> Tensor:
        """Return each patch's row and column, in the order of the tokens.

        Shape: (patches, 2), integers.
        """
        rows = torch.arange(self.height, device=device)
        columns = torch.arange(self.width, device=device)
        return torch.cartesian_prod(rows, columns)
