"""Absolute positions: a vector for each place, added to the token that sits there.

Made by hand (one-hot, sines and cosines) or learned. Sines and cosines: Vaswani et al., arXiv 1706.03762, section 3.5,
in 2-D Chen et al. (MoCo v3), arXiv 2104.02057, section 5. Learned: Dosovitskiy et al., arXiv 2010.11929, section 3.1
and appendix D.4.
"""

from abc import abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.attention.grid import Grid
from vitlab.attention.positions import AbsolutePosition, check_made_with_grid, resampled


class OneHot(AbsolutePosition):
    """A hand-made vector for each place, of zeros and ones: unique, and as plain as a position can be.

    A row has a one at its number from the front, a column a one at its number from the back; or a patch has a single
    one at its number in reading order. It serves any grid that dim has room for. On a larger grid rows and columns keep
    their vectors; a number in reading order goes to another place.

    Args:
        dim: Width of a token: at least height + width for row_and_column, at least height * width for index.
        grid: The layout to be used.
        of: What is marked: row_and_column, or index (the patch's number in reading order).

    Shape: tokens (batch, tokens, dim) to the same.

    Raises:
        ValueError: dim has no room for a grid, or `of` is unknown.

    Source: the simplest vectors that tell places apart, which is what Vaswani et al., arXiv 1706.03762, section 3.5,
    ask of a position.
    """

    def __init__(self, dim: int, grid: Grid, of: Literal["row_and_column", "index"] = "row_and_column") -> None:
        super().__init__()
        check_made_with_grid(self, grid)
        if of not in ("row_and_column", "index"):
            raise ValueError(f"OneHot marks row_and_column or index, got of={of!r}")
        self.dim = dim
        self.of = of
        self.is_same_on_canvas = of == "row_and_column"
        self._check_room(grid)

    def table_for(self, grid: Grid, device: torch.device | str | None = None) -> Tensor:
        """Return the vectors added to a grid's patches.

        Shape: (1, patches, dim), zeros and ones.
        """
        self._check_room(grid)
        if self.of == "index":
            return torch.eye(grid.num_patches, self.dim, device=device)[None]
        rows, columns = grid.coordinates(device).unbind(1)
        # Columns count from the back, so that a row keeps its vector however wide the grid, and a column however high.
        return (F.one_hot(rows, self.dim) + F.one_hot(self.dim - 1 - columns, self.dim))[None].float()

    def _check_room(self, grid: Grid) -> None:
        by_index = self.of == "index"
        needed = grid.num_patches if by_index else grid.height + grid.width
        if needed > self.dim:
            raise ValueError(
                f"one-hot vectors of {self.of} for {grid.height} x {grid.width} patches need a dim of {needed}, got "
                f"{self.dim}; use a larger dim, {'of=row_and_column' if by_index else 'fewer patches'}, or SinCos2D"
            )


class _SinCos(AbsolutePosition):
    """Parent of sines and cosines: one grid's table is kept, others are computed when met."""

    table: Tensor

    def _prepare(self, dim: int, grid: Grid, temperature: float, num_parts: int) -> None:
        check_made_with_grid(self, grid)
        if dim % num_parts:
            name, parts = type(self).__name__, "sine and cosine of two axes" if num_parts == 4 else "sine and cosine"
            raise ValueError(f"{name} needs a dim that is a multiple of {num_parts} ({parts}), got {dim}")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.dim = dim
        self.grid = grid
        self.temperature = temperature
        # Not a weight: it follows from the arguments, so checkpoints need not carry it.
        self.register_buffer("table", self._compute(grid), persistent=False)

    def table_for(self, grid: Grid, device: torch.device | str | None = None) -> Tensor:
        """Return the vectors added to a grid's patches.

        Shape: (1, patches, dim), in the order that the class names.
        """
        same = (grid.height, grid.width) == (self.grid.height, self.grid.width)
        return self.table if same else self._compute(grid, device)

    @abstractmethod
    def _compute(self, grid: Grid, device: torch.device | str | None = None) -> Tensor:
        """Return the vectors of a grid's patches, (1, patches, dim)."""


class SinCos1D(_SinCos):
    """Fixed sines and cosines of a patch's number in reading order, at dim / 2 wavelengths; computed anew for any grid.

    A vector is sin(number), cos(number), half of dim each. It runs on to any number of patches, but does not know that
    images have rows: on a wider grid the patch below has another number than before.

    Args:
        dim: Width of a token, a multiple of 2.
        grid: The layout to prepare for; others are computed when met.
        temperature: The longest wavelength is about 2 pi times this many patches.

    Shape: tokens (batch, tokens, dim) to the same.

    Raises:
        ValueError: dim is not a multiple of 2, or the temperature is not positive.

    Source: Vaswani et al., arXiv 1706.03762, section 3.5.
    """

    is_same_on_canvas = False

    def __init__(self, dim: int, grid: Grid, temperature: float = 10_000.0) -> None:
        super().__init__()
        self._prepare(dim, grid, temperature, num_parts=2)

    def _compute(self, grid: Grid, device: torch.device | str | None = None) -> Tensor:
        numbers = torch.arange(grid.num_patches, device=device)
        angles = numbers[:, None] * _frequencies(self.dim // 2, self.temperature, device)  # (patches, dim / 2)
        return torch.cat([angles.sin(), angles.cos()], dim=1)[None].float()  # (1, patches, dim)


class SinCos2D(_SinCos):
    """Fixed sines and cosines of column and row at dim / 4 wavelengths each; computed anew for any grid.

    A vector is sin(column), cos(column), sin(row), cos(row), a quarter of dim each.

    Args:
        dim: Width of a token, a multiple of 4.
        grid: The layout to prepare for; others are computed when met.
        temperature: The longest wavelength is about 2 pi times this many patches.

    Shape: tokens (batch, tokens, dim) to the same.

    Raises:
        ValueError: dim is not a multiple of 4, or the temperature is not positive.

    Source: Chen et al. (MoCo v3), arXiv 2104.02057, section 5; He et al. (MAE), arXiv 2111.06377, appendix A.
    """

    def __init__(self, dim: int, grid: Grid, temperature: float = 10_000.0) -> None:
        super().__init__()
        self._prepare(dim, grid, temperature, num_parts=4)

    def _compute(self, grid: Grid, device: torch.device | str | None = None) -> Tensor:
        frequencies = _frequencies(self.dim // 4, self.temperature, device)
        angles = grid.coordinates(device)[:, :, None] * frequencies  # (patches, 2, dim / 4)
        rows, columns = angles.unbind(1)
        return torch.cat([columns.sin(), columns.cos(), rows.sin(), rows.cos()], dim=1)[None].float()


class LearnedPosition(AbsolutePosition):
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

    is_same_on_canvas = False

    def __init__(self, dim: int, grid: Grid, prefix: bool = True) -> None:
        super().__init__()
        check_made_with_grid(self, grid)
        self.grid = grid
        self.prefix = prefix
        self.table = nn.Parameter(torch.empty(1, grid.num_tokens if prefix else grid.num_patches, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors anew: small, so that at first a token is mostly what its patch shows."""
        nn.init.trunc_normal_(self.table, std=0.02)

    def table_for(self, grid: Grid, device: torch.device | str | None = None) -> Tensor:
        """Return the vectors added to a grid's tokens.

        Shape: (1, tokens, dim), or (1, patches, dim) without rows for the prefix.
        """
        if grid.num_prefix_tokens != self.grid.num_prefix_tokens:
            raise ValueError(
                f"this position was made for {self.grid.num_prefix_tokens} prefix tokens, the tokens have "
                f"{grid.num_prefix_tokens}; make it with the grid of the model"
            )
        if grid == self.grid:
            return self.table
        num_patches = self.grid.num_patches
        prefix, patches = self.table[0, :-num_patches], self.table[0, -num_patches:]
        image = patches.T.unflatten(1, (self.grid.height, self.grid.width))  # (dim, height, width)
        patches = resampled(image, grid.height, grid.width).flatten(1).T  # (patches, dim)
        return torch.cat([prefix, patches])[None]  # (1, tokens, dim)


class LearnedFactorized2D(AbsolutePosition):
    """A learned vector for each row and one for each column, joined; both resampled (bicubic) for any other grid.

    It needs height + width vectors where LearnedPosition needs height * width, and knows what a row is.

    Args:
        dim: Width of a token; a multiple of 2 for concatenate.
        grid: The layout the tables are made for.
        join: sum (row and column vectors of dim each are added, NaViT), or concatenate (half of dim each, ViT).

    Shape: tokens (batch, tokens, dim) to the same.

    Raises:
        ValueError: `join` is unknown, or dim is odd for concatenate.

    Source: Dosovitskiy et al., arXiv 2010.11929, appendix D.4 (concatenate); Dehghani et al. (NaViT), arXiv 2307.06304,
    section 2.1 (sum).
    """

    is_same_on_canvas = False

    def __init__(self, dim: int, grid: Grid, join: Literal["sum", "concatenate"] = "sum") -> None:
        super().__init__()
        check_made_with_grid(self, grid)
        if join not in ("sum", "concatenate"):
            raise ValueError(f"LearnedFactorized2D joins by sum or concatenate, got join={join!r}")
        if join == "concatenate" and dim % 2:
            raise ValueError(f"concatenate gives row and column half of dim each, got the odd dim {dim}; or use sum")
        self.join = join
        width = dim if join == "sum" else dim // 2
        self.rows = nn.Parameter(torch.empty(grid.height, width))
        self.columns = nn.Parameter(torch.empty(grid.width, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors anew: small, so that at first a token is mostly what its patch shows."""
        nn.init.trunc_normal_(self.rows, std=0.02)
        nn.init.trunc_normal_(self.columns, std=0.02)

    def table_for(self, grid: Grid, device: torch.device | str | None = None) -> Tensor:
        """Return the vectors added to a grid's patches.

        Shape: (1, patches, dim).
        """
        rows = resampled(self.rows.T[:, None], 1, grid.height)[:, 0].T  # (height, dim)
        columns = resampled(self.columns.T[:, None], 1, grid.width)[:, 0].T  # (width, dim)
        if self.join == "sum":
            table = rows[:, None] + columns  # (height, width, dim)
        else:
            shape = (grid.height, grid.width, -1)
            table = torch.cat([rows[:, None].expand(shape), columns[None].expand(shape)], dim=2)
        return table.flatten(0, 1)[None]


def _frequencies(count: int, temperature: float, device: torch.device | str | None) -> Tensor:
    frequencies = temperature ** -(torch.arange(count, dtype=torch.float64) / count)
    return frequencies.to(device)
