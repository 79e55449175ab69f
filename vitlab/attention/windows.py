"""Windows: patterns in which a token looks only nearby, which is what a convolution's kernel does.

Around each token, in one or two dimensions: Parmar et al. (Stand-alone self-attention), arXiv 1906.05909, section 3.1;
in a row, as speech recognizers truncate attention: Povey et al., "A time-restricted self-attention layer for ASR",
ICASSP 2018. Blocks with shift: Liu et al. (Swin), arXiv 2103.14030, section 3.2. Each costs what it looks at.
"""

import math

import torch
from torch import Tensor

from vitlab.attention.grid import Grid
from vitlab.attention.patterns import PlacePattern
from vitlab.attention.tiling import Tiling

TILE_2D = (
    8  # side of a tile of queries: larger ones look at more keys in vain, smaller ones copy more and fill no kernel
)
TILE_1D = 64


class Window1D(PlacePattern):
    """Truncated self-attention: patch i looks at patch j if |i - j| <= (size - 1) / 2, counted row by row.

    Neighbors in that order may be neighbors in the image or the two ends of adjacent rows. Cost: tokens * size.

    Args:
        size: Patches that a patch sees at most, itself included; odd, 1 or more.

    Shape: mask (tokens, tokens).

    Raises:
        ValueError: size is even or not positive.

    Source: Povey et al., "A time-restricted self-attention layer for ASR", ICASSP 2018, section 2.
    """

    is_same_on_canvas = False  # a longer row moves the next row away

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = _odd("Window1D", size)

    def may_look(self, queries: Tensor, keys: Tensor, grid: Grid) -> Tensor:
        """Return whether the key is at most half a window before or after the query."""
        return (_index(keys, grid) - _index(queries, grid)).abs() <= self.size // 2

    def tiling(self, grid: Grid) -> Tiling | None:
        """Return pieces of the row of patches, with half a window on each side."""
        tiling = Tiling((1, max(TILE_1D, self.size // 2)), (0, self.size // 2), is_sequence=True).fitted(grid)
        return tiling if tiling.saves_work(grid) else None


class Window2D(PlacePattern):
    """A square window around each patch: |key row - query row| and |key column - query column| <= (size - 1) / 2.

    With dilation d, the window has every d-th row and column, and d times the reach. At the border it is cut off, as a
    zero-padded convolution's kernel is. Cost grows with tokens * size^2.

    Args:
        size: Side of the window in patches; odd, 1 or more.
        dilation: Patches between two neighbors in the window, 1 or more; 1 leaves no gap.

    Shape: mask (tokens, tokens).

    Raises:
        ValueError: size is even or not positive, or dilation is below 1.

    Source: Parmar et al., arXiv 1906.05909, section 3.1; dilation: Hassani and Shi, arXiv 2209.15001, section 3.
    """

    def __init__(self, size: int, dilation: int = 1) -> None:
        super().__init__()
        if dilation < 1:
            raise ValueError(f"dilation must be 1 or more, got {dilation}")
        self.size = _odd("Window2D", size)
        self.dilation = dilation

    def may_look(self, queries: Tensor, keys: Tensor, grid: Grid) -> Tensor:
        """Return whether the key lies in the query's window."""
        offsets = (keys - queries).abs()
        inside = offsets <= self.size // 2 * self.dilation
        return (inside if self.dilation == 1 else inside & (offsets % self.dilation == 0)).all(dim=-1)

    def tiling(self, grid: Grid) -> Tiling | None:
        """Return squares of patches with half a window around them."""
        half = self.size // 2
        tiling = Tiling((TILE_2D, TILE_2D), (half, half), self.dilation).fitted(grid)
        return tiling if tiling.saves_work(grid) else None


class BlockedWindows(PlacePattern):
    """Square blocks side by side: a patch looks at all patches of its block, and at no other.

    Blocks that alternate between a shift of 0 and of size // 2 from layer to layer pass information on. Where blocks do
    not fill the grid, those at the border are smaller; Swin rolls the image to shift, and masks to the same effect.
    Cost grows with tokens * size^2.

    Args:
        size: Side of a block in patches, 1 or more.
        shift: Rows and columns in the first blocks at the top and at the left, 0 (all of size) to size - 1.

    Shape: mask (tokens, tokens).

    Raises:
        ValueError: size or shift is out of range.

    Source: Liu et al. (Swin), arXiv 2103.14030, section 3.2.
    """

    def __init__(self, size: int, shift: int = 0) -> None:
        super().__init__()
        if size < 1 or not 0 <= shift < size:
            raise ValueError(f"BlockedWindows needs size >= 1 and shift from 0 to size - 1, got {size} and {shift}")
        self.size = size
        self.shift = shift

    def may_look(self, queries: Tensor, keys: Tensor, grid: Grid) -> Tensor:
        """Return whether query and key lie in the same block."""
        blocks = [torch.div(places - self.shift, self.size, rounding_mode="floor") for places in (queries, keys)]
        return (blocks[0] == blocks[1]).all(dim=-1)

    def tiling(self, grid: Grid) -> Tiling | None:
        """Return the blocks themselves."""
        lead = -self.shift % self.size
        tiling = Tiling((self.size, self.size), lead=(lead, lead)).fitted(grid)
        return tiling if tiling.saves_work(grid) else None


def _index(places: Tensor, grid: Grid) -> Tensor:
    """Number patches row by row."""
    return places[..., 0] * grid.width + places[..., 1]


def _odd(name: str, size: int) -> int:
    if size < 1 or size % 2 == 0:
        nearest = max(1, 2 * math.ceil(size / 2) - 1)
        raise ValueError(
            f"{name} has its token in the middle, so size must be odd, got {size}; use {nearest} or {nearest + 2}"
        )
    return size
