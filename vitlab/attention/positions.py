"""Positions: where a token sits. Attention alone sees a set; a position adds order back in one of three places.

On the tokens (learned, sin/cos), on queries and keys (rotations), or on the scores (relative biases): a part overrides
the hook of its place and leaves the others.

Learned 1-D: Dosovitskiy et al., arXiv 2010.11929, section 3.1. Sin/cos 2-D: Chen et al. (MoCo v3), arXiv 2104.02057,
section 5, after the 1-D form of Vaswani et al., arXiv 1706.03762, section 3.5.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.attention.grid import Grid


class Position(nn.Module):
    """Parent of all positions: three hooks, each of which leaves things as they are until a part overrides it."""

    def on_tokens(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Put the position into the tokens.

        Shape: (batch, tokens, dim) to the same.
        """
        return tokens

    def on_queries_and_keys(self, queries: Tensor, keys: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Put the position into queries and keys.

        Shape: (batch, heads, tokens, head_dim) to the same, twice.
        """
        return queries, keys

    def on_scores(self, grid: Grid) -> Tensor | None:
        """Return what to add to the scores, or None for nothing.

        Shape: (heads, tokens, tokens), or anything that broadcasts to (batch, heads, tokens, tokens).
        """
        return None

    @property
    def acts_on_tokens_only(self) -> bool:
        """Whether it is an absolute position, which a model applies once, before the first block."""
        own = type(self)
        return own.on_queries_and_keys is Position.on_queries_and_keys and own.on_scores is Position.on_scores


class NoPosition(Position):
    """No position: the model sees a set of patches, and permuting them changes nothing.

    Args:
        dim: Width of a token; taken so that all positions are made alike.
        grid: The tokens' layout; taken so that all positions are made alike.
    """

    def __init__(self, dim: int | None = None, grid: Grid | None = None) -> None:
        super().__init__()


class LearnedPosition(Position):
    """A learned vector for each token of one grid, added to it; resampled (bicubic) for any other grid.

    Args:
        dim: Width of a token.
        grid: The layout the table is made for.
        prefix: Whether class token and registers have a row of their own; if not, they are left alone (as in DeiT III).

    Shape: tokens (batch, tokens, dim) to the same.

    Raises:
        ValueError: The tokens' grid has another number of prefix tokens than the table.

    Source: Dosovitskiy et al., arXiv 2010.11929, section 3.1; resampling: section 3.2.
    """

    def __init__(self, dim: int, grid: Grid, prefix: bool = True) -> None:
        super().__init__()
        self.grid = grid
        self.prefix = prefix
        self.table = nn.Parameter(torch.empty(1, grid.num_tokens if prefix else grid.num_patches, dim))
        nn.init.trunc_normal_(self.table, std=0.02)

    def on_tokens(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Add each token's row of the table.

        Shape: (batch, tokens, dim) to the same.
        """
        if grid.num_prefix_tokens != self.grid.num_prefix_tokens:
            raise ValueError(
                f"this position was made for {self.grid.num_prefix_tokens} prefix tokens, the tokens have "
                f"{grid.num_prefix_tokens}; make it with the grid of the model"
            )
        return _add_rows(tokens, self._table_for(grid))

    def _table_for(self, grid: Grid) -> Tensor:
        if grid == self.grid:
            return self.table
        num_patches = self.grid.num_patches
        prefix, patches = self.table[:, :-num_patches], self.table[:, -num_patches:]
        image = patches.float().unflatten(1, (self.grid.height, self.grid.width))  # (1, height, width, dim)
        image = image.permute(0, 3, 1, 2)  # (1, dim, height, width)
        # Antialiasing matters when the new grid is smaller, where plain bicubic would skip rows.
        image = F.interpolate(image, size=(grid.height, grid.width), mode="bicubic", antialias=True)
        patches = image.flatten(2).transpose(1, 2).to(self.table.dtype)  # (1, patches, dim)
        return torch.cat([prefix, patches], dim=1)


class SinCos2D(Position):
    """Fixed sines and cosines of column and row at dim / 4 wavelengths each; computed anew for any grid.

    Class token and registers sit nowhere and are left alone.

    Args:
        dim: Width of a token, a multiple of 4.
        grid: The layout to prepare for; others are computed when met.
        temperature: The longest wavelength is about 2 pi times this many patches.

    Shape: tokens (batch, tokens, dim) to the same.

    Raises:
        ValueError: dim is not a multiple of 4.

    Source: Chen et al. (MoCo v3), arXiv 2104.02057, section 5; He et al. (MAE), arXiv 2111.06377, appendix A.
    """

    table: Tensor

    def __init__(self, dim: int, grid: Grid, temperature: float = 10_000.0) -> None:
        super().__init__()
        if dim % 4:
            raise ValueError(f"SinCos2D needs a dim that is a multiple of 4 (sine and cosine of two axes), got {dim}")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.dim = dim
        self.grid = grid
        self.temperature = temperature
        # Not a weight: it follows from the arguments, so checkpoints need not carry it.
        self.register_buffer("table", self.table_for(grid), persistent=False)

    def on_tokens(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Add each patch's sines and cosines.

        Shape: (batch, tokens, dim) to the same.
        """
        same = (grid.height, grid.width) == (self.grid.height, self.grid.width)
        return _add_rows(tokens, self.table if same else self.table_for(grid, tokens.device))

    def table_for(self, grid: Grid, device: torch.device | str | None = None) -> Tensor:
        """Return the vectors added to a grid's patches.

        Shape: (1, patches, dim): sin(column), cos(column), sin(row), cos(row), a quarter of dim each.
        """
        quarter = self.dim // 4
        exponents = torch.arange(quarter, device=device, dtype=torch.float64) / quarter
        frequencies = self.temperature**-exponents
        angles = grid.coordinates(device)[:, :, None] * frequencies  # (patches, 2, dim / 4)
        rows, columns = angles.unbind(1)
        table = torch.cat([columns.sin(), columns.cos(), rows.sin(), rows.cos()], dim=1)  # (patches, dim)
        return table[None].float()


def _add_rows(tokens: Tensor, rows: Tensor) -> Tensor:
    """Add rows to the last tokens; the prefix tokens before them stay as they are."""
    rows = rows.to(tokens.dtype)
    num_untouched = tokens.shape[1] - rows.shape[1]
    if num_untouched == 0:
        return tokens + rows
    return torch.cat([tokens[:, :num_untouched], tokens[:, num_untouched:] + rows], dim=1)
