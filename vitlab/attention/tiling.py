"""Tilings: how a pattern that looks nearby is cut into small dense pieces, so that attention costs what it looks at.

A tile is a rectangle of queries; its keys are the same rectangle with a halo around it. Neighboring tiles share keys,
so keys are copied a few times, and that is all the memory it takes: linear in the tokens. Blocked local attention cuts
likewise: Parmar et al. (Image Transformer), arXiv 1802.05751, section 3.3.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.attention.grid import Grid


@dataclass(frozen=True)
class Tiling:
    """Rectangles of queries, and around each the rectangle of keys that its queries may look at.

    Args:
        tile: Rows and columns of queries in a tile.
        halo: Rows and columns of keys beyond the tile on each side.
        dilation: Rows and columns between neighbors; the interleaved grids are tiled one by one.
        lead: Rows and columns that the first tile lacks at the top and at the left, below tile.
        is_sequence: Whether the patches are tiled as one row, in their order (tile, halo and lead then have 1, 0 and 0
            rows).
    """

    tile: tuple[int, int]
    halo: tuple[int, int] = (0, 0)
    dilation: int = 1
    lead: tuple[int, int] = (0, 0)
    is_sequence: bool = False

    def size(self, grid: Grid) -> tuple[int, int]:
        """Return rows and columns of what is cut: the grid, or all patches in one row."""
        return (1, grid.num_patches) if self.is_sequence else (grid.height, grid.width)

    @property
    def keys_per_query(self) -> int:
        """Keys in a tile with its halo: what each of its queries is scored against."""
        return (self.tile[0] + 2 * self.halo[0]) * (self.tile[1] + 2 * self.halo[1])

    def fitted(self, grid: Grid) -> "Tiling":
        """Return the same with no larger tile and halo than the grid: what lies beyond it would be work for nothing."""
        sizes = _separated_size(grid, self)
        axes = zip(self.tile, self.halo, self.lead, sizes, strict=True)
        # One tile that holds all rows needs no halo; without lead, or the first tile would lack some.
        fits = [(size, 0) if lead == 0 and size <= tile else (tile, min(halo, size)) for tile, halo, lead, size in axes]
        return replace(self, tile=(fits[0][0], fits[1][0]), halo=(fits[0][1], fits[1][1]))

    def saves_work(self, grid: Grid) -> bool:
        """Whether tiles hold clearly fewer pairs than the whole grid, so that cutting and copying pay."""
        rows, columns = _counts(grid, self)
        num_queries = self.dilation**2 * rows * columns * self.tile[0] * self.tile[1]
        return 2 * num_queries * self.keys_per_query <= grid.num_patches**2

    def joined_with(self, other: "Tiling") -> "Tiling | None":
        """Return a tiling that holds what this and another hold, or None where they cut differently."""
        if replace(self, halo=(0, 0)) != replace(other, halo=(0, 0)):
            return None
        return replace(self, halo=tuple(max(pair) for pair in zip(self.halo, other.halo, strict=True)))


def cut(patches: Tensor, grid: Grid, tiling: Tiling, with_halo: bool = False, fill: float = 0.0) -> Tensor:
    """Cut patches into tiles.

    Args:
        patches: In the order of the tokens, without prefix.
        grid: Their layout.
        tiling: How to cut.
        with_halo: Whether each tile comes with its halo (keys) or without (queries).
        fill: What stands where a tile reaches over the border.

    Shape: (..., patches, width) to (..., tiles, tile * tile, width), the halo included if asked for.
    """
    image = _separate(patches, grid, tiling, fill)  # (..., dilation^2, rows, columns, width)
    counts = _counts(grid, tiling)
    padding: list[int] = [0, 0]
    overlaps = [2 * halo if with_halo else 0 for halo in tiling.halo]
    for axis in (1, 0):  # F.pad names the last axis first
        size, before = image.shape[-3 + axis], tiling.lead[axis] + overlaps[axis] // 2
        whole = (counts[axis] + -(-overlaps[axis] // tiling.tile[axis])) * tiling.tile[axis]
        padding += [before, whole - before - size]
    image = _padded(image, padding, fill)
    blocks = image.unflatten(-2, (-1, tiling.tile[1])).unflatten(-4, (-1, tiling.tile[0]))
    blocks = blocks.transpose(-4, -3)  # (..., dilation^2, tile rows, tile columns, rows, columns, width)
    blocks = _join_neighbors(blocks, counts[0], overlaps[0], tile_axis=-5, axis=-3)
    blocks = _join_neighbors(blocks, counts[1], overlaps[1], tile_axis=-4, axis=-2)
    return blocks.flatten(-3, -2).flatten(-5, -3)  # (..., tiles, tile * tile, width)


def uncut(tiles: Tensor, grid: Grid, tiling: Tiling) -> Tensor:
    """Put tiles (without halo) together again: the inverse of cut.

    Shape: (..., tiles, tile * tile, width) to (..., patches, width).
    """
    counts, dilation = _counts(grid, tiling), tiling.dilation
    image = tiles.unflatten(-2, tiling.tile).unflatten(-4, (dilation * dilation, *counts))
    image = image.transpose(-4, -3).flatten(-3, -2).flatten(-4, -3)  # (..., dilation^2, rows, columns, width)
    height, width = _separated_size(grid, tiling)
    image = image[..., tiling.lead[0] :, tiling.lead[1] :, :][..., :height, :width, :]
    image = image.unflatten(-4, (dilation, dilation))  # (..., row offset, column offset, rows, columns, width)
    image = image.movedim(-5, -3).movedim(-5, -2)  # (..., rows, row offset, columns, column offset, width)
    image = image.flatten(-3, -2).flatten(-4, -3)
    rows, columns = tiling.size(grid)
    return image[..., :rows, :columns, :].flatten(-3, -2)


def _separate(patches: Tensor, grid: Grid, tiling: Tiling, fill: float) -> Tensor:
    """Lay patches out as an image, or as several where dilation interleaves several that never meet."""
    (rows, columns), dilation = tiling.size(grid), tiling.dilation
    image = patches.unflatten(-2, (rows, columns))
    image = _padded(image, [0, 0, 0, -columns % dilation, 0, -rows % dilation], fill)
    image = image.unflatten(-2, (-1, dilation)).unflatten(-4, (-1, dilation))
    image = image.movedim(-2, -5).movedim(-3, -5)  # (..., row offset, column offset, rows, columns, width)
    return image.flatten(-5, -4)


def _padded(image: Tensor, padding: list[int], fill: float) -> Tensor:
    return F.pad(image, padding, value=fill) if any(padding) else image  # pad copies even where it adds nothing


def _separated_size(grid: Grid, tiling: Tiling) -> tuple[int, int]:
    rows, columns = tiling.size(grid)
    return -(-rows // tiling.dilation), -(-columns // tiling.dilation)


def _counts(grid: Grid, tiling: Tiling) -> list[int]:
    """Rows and columns of tiles in each interleaved grid."""
    sizes = _separated_size(grid, tiling)
    return [-(-(size + lead) // tile) for size, lead, tile in zip(sizes, tiling.lead, tiling.tile, strict=True)]


def _join_neighbors(blocks: Tensor, count: int, overlap: int, tile_axis: int, axis: int) -> Tensor:
    """Lengthen each block by the first `overlap` rows (or columns) of those that follow it."""
    size = blocks.shape[axis]
    pieces = [blocks.narrow(tile_axis, 0, count)]
    for step in range(1, 1 - (-overlap // size)):
        piece = blocks.narrow(tile_axis, step, count)
        pieces.append(piece.narrow(axis, 0, min(size, overlap - (step - 1) * size)))
    # Slices and one concatenation: their gradients are slices again, where that of unfold is slow on a CPU.
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=axis)
