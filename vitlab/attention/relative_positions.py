"""Relative positions on the scores: what is added follows from the offset between query and key alone.

A table of learned numbers (Swin, arXiv 2103.14030, equation 4), a parabola around a learned center (Cordonnier et al.,
arXiv 1911.03584, equation 9), or a fixed slope (ALiBi, arXiv 2108.12409, section 3).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vitlab.attention.grid import Grid
from vitlab.attention.positions import RelativePosition, resampled


class RelativeBias2D(RelativePosition):
    """A learned number for each head and offset, added to the score.

    Without `reach`, the table holds all offsets of the grid that the model is made for, and is resampled (bicubic) to
    the offsets of any other grid: the image is stretched, as when BEiT or Swin is fine-tuned at another resolution.
    With `reach`, the table holds offsets up to so many patches and serves every grid as it is; farther offsets get what
    the table has at its border. That is the choice for windows, which never see farther and keep the image's scale.

    Where the grid told has prefix tokens there are three more numbers for each head: patch to prefix, prefix to patch,
    and prefix to prefix (BEiT).

    Args:
        num_heads: Heads, each with a table of its own.
        head_dim: Width of a head; taken so that all positions are made alike.
        grid: The layout the table is made for; null: the one that the model tells.
        reach: Patches up to which offsets have a number, or [rows, columns]: size // 2 in a Window2D(size), size - 1 in
            BlockedWindows(size); null: all offsets of the grid.

    Shape: offsets (..., 2) to (heads, ...).

    Raises:
        ValueError: reach is below 1, or the table is needed before any grid was told.

    Source: Liu et al. (Swin), arXiv 2103.14030, equation 4; Bao et al. (BEiT), arXiv 2106.08254, for prefix tokens and
    resampling; farther offsets: Shaw et al., arXiv 1803.02155, section 3.2.
    """

    def __init__(
        self, num_heads: int, head_dim: int, grid: Grid | None = None, reach: int | tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.reach: tuple[int, int] | None = None
        self.is_resampled = reach is None
        self.is_same_on_canvas = not self.is_resampled
        self.register_parameter("table", None)
        self.register_parameter("prefix", None)
        if reach is not None:
            self._make_table((reach, reach) if isinstance(reach, int) else tuple(reach))
        if grid is not None:
            self.set_grid(grid)

    def set_grid(self, grid: Grid) -> None:
        """Make the table for this grid, if there is none yet; later grids only add numbers for prefix tokens."""
        if self.table is None:
            self._make_table((grid.height - 1, grid.width - 1))
        if grid.num_prefix_tokens and self.prefix is None:
            self.prefix = nn.Parameter(self.table.detach().new_empty(3, self.num_heads))
            nn.init.trunc_normal_(self.prefix, std=0.02)

    def reset_parameters(self) -> None:
        """Draw the numbers anew: small, so that at first content decides."""
        for numbers in (self.table, self.prefix):
            if numbers is not None:
                nn.init.trunc_normal_(numbers, std=0.02)

    def bias(self, offsets: Tensor) -> Tensor:
        """Return each head's number at these offsets.

        Shape: (..., 2) to (heads, ...).
        """
        return _looked_up(self._made_table(), offsets)

    def bias_on(self, offsets: Tensor, grid: Grid) -> Tensor:
        """Return each head's number at these offsets, from the table resampled to the grid where there is no `reach`.

        Shape: (..., 2) to (heads, ...).
        """
        table = self._made_table()
        if self.is_resampled:
            # An odd number of samples each time, spread evenly: offset 0 stays in the middle.
            table = resampled(table, 2 * grid.height - 1, 2 * grid.width - 1)
        return _looked_up(table, offsets)

    def prefix_bias(self) -> Tensor | None:
        """Return the numbers of tokens without a place.

        Shape: (3, heads).
        """
        return self.prefix

    def _make_table(self, reach: tuple[int, int]) -> None:
        if len(reach) != 2 or (min(reach) < 1 and not self.is_resampled):
            raise ValueError(f"reach must be 1 or more patches, or [rows, columns] of such, got {reach}")
        self.reach = reach
        self.table = nn.Parameter(torch.empty(self.num_heads, 2 * reach[0] + 1, 2 * reach[1] + 1))
        self.reset_parameters()

    def _made_table(self) -> Tensor:
        if self.table is None:
            raise ValueError(
                "RelativeBias2D has no table yet; give it a grid or a reach, or call set_grid (as ViT does)"
            )
        return self.table


class QuadraticRelative(RelativePosition):
    """Each head prefers one offset, its center, and what is near it: -alpha * |offset - center|^2, both learned.

    As alpha grows, softmax puts all weight on the center: with a head for each cell of a kernel, attention becomes a
    convolution. The formula holds on any grid. The paper's scores also leave out the constant alpha * |center|^2, which
    softmax does not see. Pairs with a token that has no place get 0, as much as the center.

    Args:
        num_heads: Heads, each with a center and an alpha of its own.
        head_dim: Width of a head; taken so that all positions are made alike.
        centers: Start of each head's center, [rows, columns] in patches from query to key; null: drawn at random with a
            deviation of 2 patches.
        alpha: Start of alpha, above 0; it stays positive, as its logarithm is what is learned.

    Shape: offsets (..., 2) to (heads, ...).

    Raises:
        ValueError: Not one center for each head, or alpha is not positive.

    Source: Cordonnier et al., arXiv 1911.03584, equation 9, isotropic; the start is that of its code.
    """

    def __init__(
        self, num_heads: int, head_dim: int, centers: Sequence[tuple[float, float]] | None = None, alpha: float = 0.5
    ) -> None:
        super().__init__()
        if centers is not None and (len(centers) != num_heads or any(len(center) != 2 for center in centers)):
            raise ValueError(f"centers must be {num_heads} pairs [rows, columns], one for each head, got {centers}")
        if alpha <= 0:
            raise ValueError(f"alpha must be positive, got {alpha}")
        self.start = None if centers is None else [tuple(center) for center in centers]
        self.start_alpha = alpha
        self.centers = nn.Parameter(torch.empty(num_heads, 2))
        self.log_alpha = nn.Parameter(torch.empty(num_heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Put the centers where the constructor says, or draw new ones, and alpha to its start."""
        with torch.no_grad():
            if self.start is None:
                self.centers.normal_(std=2.0)
            else:
                self.centers.copy_(torch.tensor(self.start, device=self.centers.device))
            self.log_alpha.fill_(math.log(self.start_alpha))

    def bias(self, offsets: Tensor) -> Tensor:
        """Return -alpha * |offset - center|^2.

        Shape: (..., 2) to (heads, ...).
        """
        one_each = (len(self.centers),) + (1,) * (offsets.ndim - 1)
        centers = self.centers.view(*one_each, 2)
        return -self.log_alpha.exp().view(one_each) * (offsets - centers).square().sum(-1)  # (heads, ...)


class ALiBi2D(RelativePosition):
    """The farther a key, the lower its score: -slope * distance in patches, with a fixed slope for each head.

    The slopes fall geometrically from head to head, so some heads look near and some far. The formula holds on any
    grid: it is made to extrapolate. Pairs with a token that has no place get 0, as a patch with itself.

    Args:
        num_heads: Heads; for 8 of them the slopes are 1/2, 1/4, ..., 1/256.
        head_dim: Width of a head; taken so that all positions are made alike.

    Shape: offsets (..., 2) to (heads, ...).

    Source: Press et al., arXiv 2108.12409, section 3; with Euclidean distance in 2-D: Fuller et al. (CROMA), arXiv
    2311.00566.
    """

    slopes: Tensor

    def __init__(self, num_heads: int, head_dim: int) -> None:
        super().__init__()
        # Not a weight: it follows from the number of heads, so checkpoints need not carry it.
        self.register_buffer("slopes", torch.tensor(_slopes(num_heads)), persistent=False)

    def bias(self, offsets: Tensor) -> Tensor:
        """Return -slope * distance.

        Shape: (..., 2) to (heads, ...).
        """
        distances = torch.linalg.vector_norm(offsets.to(self.slopes.dtype), dim=-1)
        return -self.slopes.view(-1, *[1] * distances.ndim) * distances  # (heads, ...)


def _looked_up(table: Tensor, offsets: Tensor) -> Tensor:
    """Return the table's numbers at offsets, counted from its middle; beyond its border, those at the border."""
    rows, columns = ((size - 1) // 2 for size in table.shape[1:])
    row = offsets[..., 0].clamp(-rows, rows) + rows
    column = offsets[..., 1].clamp(-columns, columns) + columns
    return table[:, row, column]


def _slopes(num_heads: int) -> list[float]:
    """Return ALiBi's slopes; for other than a power of two, the lower power's and every second of the next one's."""
    power = 2 ** int(math.log2(num_heads))
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    return slopes if power == num_heads else slopes + _slopes(2 * power)[0::2][: num_heads - power]
