"""Positions: where a token sits. Attention alone sees a set; a position adds order back in one of three places.

On the tokens (learned, sin/cos), on queries and keys (rotations), or on the scores (relative biases): a part overrides
the hook of its place and leaves the others. Absolute positions add to tokens since Vaswani et al., arXiv 1706.03762,
section 3.5; relative ones add to scores since Shaw et al., arXiv 1803.02155.
"""

from abc import ABC, abstractmethod
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.attention.grid import Grid


class Position(nn.Module):
    """Parent of all positions: three hooks, each of which leaves things as they are until a part overrides it.

    A position that a model puts before its first block is made with (dim, grid); one that acts inside each attention
    layer is made with (num_heads, head_dim), and hears of the grid by `set_grid`.
    """

    is_same_on_canvas = True
    """Whether an image's tokens get the same when the image lies in the top left corner of a larger, padded grid."""

    def set_grid(self, grid: Grid) -> None:
        """Hear which grid the model is made for, before training starts; parts with a table per offset need it."""

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
    def rotates(self) -> bool:
        """Whether it changes queries and keys."""
        return type(self).on_queries_and_keys is not Position.on_queries_and_keys

    @property
    def adds_to_scores(self) -> bool:
        """Whether it adds something to the scores."""
        return type(self).on_scores is not Position.on_scores

    @property
    def acts_on_tokens_only(self) -> bool:
        """Whether it is an absolute position, which a model applies once, before the first block."""
        return not self.rotates and not self.adds_to_scores


class AbsolutePosition(Position, ABC):
    """Parent of positions that add a vector to each patch; class token and registers sit nowhere and are left alone."""

    @abstractmethod
    def table_for(self, grid: Grid, device: torch.device | str | None = None) -> Tensor:
        """Return the vectors added to a grid's patches.

        Args:
            grid: The tokens' layout.
            device: Where to make them, if they are not weights.

        Shape: (1, patches, dim), or (1, tokens, dim) where prefix tokens get something too.
        """

    def on_tokens(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Add each patch's vector.

        Shape: (batch, tokens, dim) to the same.
        """
        rows = self.table_for(grid, tokens.device).to(tokens.dtype)
        num_untouched = tokens.shape[1] - rows.shape[1]
        if num_untouched == 0:
            return tokens + rows
        return torch.cat([tokens[:, :num_untouched], tokens[:, num_untouched:] + rows], dim=1)


class RelativePosition(Position, ABC):
    """Parent of positions that add to a score what depends on the offset from query to key alone."""

    @abstractmethod
    def bias(self, offsets: Tensor) -> Tensor:
        """Return what to add to a score at these offsets.

        Args:
            offsets: Rows and columns from query to key (key minus query), integers.

        Shape: (..., 2) to (heads, ...).
        """

    def bias_on(self, offsets: Tensor, grid: Grid) -> Tensor:
        """Return what to add to a score at these offsets on a certain grid.

        The same as `bias`, but for parts with a table that is resampled to the grid's size.

        Args:
            offsets: Rows and columns from query to key (key minus query), integers.
            grid: The tokens' layout.

        Shape: (..., 2) to (heads, ...).
        """
        return self.bias(offsets)

    def prefix_bias(self) -> Tensor | None:
        """Return what to add where a token without a place is involved, or None for nothing.

        Shape: (3, heads): patch to prefix, prefix to patch, prefix to prefix.
        """
        return None

    def on_scores(self, grid: Grid) -> Tensor:
        """Return the bias of every pair of tokens.

        Shape: (heads, tokens, tokens).
        """
        device = next((tensor.device for tensor in chain(self.parameters(), self.buffers())), None)
        # Each offset is evaluated once: there are about 4 per token, while there are tokens^2 pairs.
        rows = torch.arange(1 - grid.height, grid.height, device=device)
        columns = torch.arange(1 - grid.width, grid.width, device=device)
        table = self.bias_on(torch.cartesian_prod(rows, columns), grid)  # (heads, offsets)
        places = grid.coordinates(device)
        offsets = places[None] - places[:, None]  # (patches, patches, 2)
        index = (offsets[..., 0] + grid.height - 1) * (2 * grid.width - 1) + offsets[..., 1] + grid.width - 1
        # Five times as fast as table[:, index], above all backward.
        patches = table.index_select(1, index.flatten()).unflatten(1, index.shape)  # (heads, patches, patches)
        return self._with_prefix(patches, grid.num_prefix_tokens)

    def _with_prefix(self, patches: Tensor, num_prefix: int) -> Tensor:
        if not num_prefix:
            return patches
        heads, num_patches = patches.shape[:2]
        prefix = self.prefix_bias()
        prefix = patches.new_zeros(3, heads) if prefix is None else prefix
        to_prefix, from_prefix, within = prefix[:, :, None, None].unbind(0)  # (heads, 1, 1) each
        left = torch.cat([within.expand(-1, num_prefix, num_prefix), to_prefix.expand(-1, num_patches, num_prefix)], 1)
        right = torch.cat([from_prefix.expand(-1, num_prefix, num_patches), patches], 1)
        return torch.cat([left, right], dim=2)


class NoPosition(Position):
    """No position: the model sees a set of patches, and permuting them changes nothing.

    Args:
        dim: Width of a token; taken so that all positions are made alike.
        grid: The tokens' layout; taken so that all positions are made alike.
    """

    def __init__(self, dim: int | None = None, grid: Grid | None = None) -> None:
        super().__init__()


def check_made_with_grid(position: Position, grid: Grid | None) -> None:
    """Refuse a grid that is none: the position was made as one of an attention layer is, with (num_heads, head_dim)."""
    if grid is not None and not isinstance(grid, Grid):
        name = type(position).__name__
        raise ValueError(
            f"{name} is made with (dim, grid), got grid={grid!r}; it belongs before a model's first block (position, "
            f"not attention.init_args.position), or into a layer ready-made: position={name}(dim, grid)"
        )


def resampled(table: Tensor, height: int, width: int) -> Tensor:
    """Return a table of places stretched to another grid (bicubic, as in arXiv 2010.11929, section 3.2).

    Args:
        table: Numbers or vectors, one for each row and column.
        height: Rows to have.
        width: Columns to have.

    Shape: (channels, rows, columns) to (channels, height, width).
    """
    if table.shape[1:] == (height, width):
        return table
    if table.shape[2] == width == 1:
        # torch 2.15 on a CPU gets a single column wrong, but not a single row.
        return resampled(table.transpose(1, 2), 1, height).transpose(1, 2)
    # Antialiasing matters when the new grid is smaller, where plain bicubic would skip rows.
    stretched = F.interpolate(table.float()[None], size=(height, width), mode="bicubic", antialias=True)
    return stretched[0].to(table.dtype)
