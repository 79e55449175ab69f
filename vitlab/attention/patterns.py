"""Patterns: who may look at whom. In every mask, True means "may look".

Everybody at everybody is the Transformer's pattern (Vaswani et al., arXiv 1706.03762); a window makes it a convolution
(Cordonnier et al., arXiv 1911.03584). Tokens without a place (class token, registers) look at all and are seen by all.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vitlab.attention.grid import Grid
from vitlab.attention.tiling import Tiling


class Pattern(nn.Module, ABC):
    """Parent of all patterns: which keys a query may look at, from the tokens' places alone."""

    is_same_on_canvas = True
    """Whether an image's tokens see the same when the image lies in the top left corner of a larger, padded grid."""

    prefix_sees_patches = True
    """Whether tokens without a place look at the patches; the patches always look at them."""

    def tiling(self, grid: Grid) -> Tiling | None:
        """Return tiles that hold every pair that may look, or None where there are none or they would save nothing.

        Args:
            grid: The tokens' layout.
        """
        return None

    def __and__(self, other: "Pattern") -> "Both":
        """Look only where both patterns look."""
        return Both(self, other)

    def __or__(self, other: "Pattern") -> "Either":
        """Look where one of the patterns looks."""
        return Either(self, other)

    @abstractmethod
    def mask(self, grid: Grid, device: torch.device | str | None = None) -> Tensor | None:
        """Return who may look at whom.

        Args:
            grid: The tokens' layout.
            device: Where to make the mask.

        Shape: (tokens, tokens) of bool, rows are queries, True = may look, or what broadcasts to (batch, heads, tokens,
            tokens); None where everybody may.
        """


class All(Pattern):
    """Every token looks at every token, itself included.

    Source: Vaswani et al., arXiv 1706.03762, section 3.2.
    """

    def mask(self, grid: Grid, device: torch.device | str | None = None) -> None:
        """Return None: nothing is hidden, and the fused kernel need not read a mask."""
        return None  # noqa: RET501 (said aloud: None has a meaning here)


class PlacePattern(Pattern):
    """Parent of patterns that follow from the places of query and key in the grid."""

    @abstractmethod
    def may_look(self, queries: Tensor, keys: Tensor, grid: Grid) -> Tensor:
        """Return whether a query at one place may look at a key at another.

        Args:
            queries: Rows and columns of the queries, integers.
            keys: Rows and columns of the keys, integers.
            grid: The tokens' layout.

        Shape: (..., 2) and (..., 2), which broadcast, to (...) of bool.
        """

    def mask(self, grid: Grid, device: torch.device | str | None = None) -> Tensor:
        """Return who may look at whom.

        Shape: (tokens, tokens) of bool.
        """
        places = grid.coordinates(device)
        prefix = grid.num_prefix_tokens
        mask = torch.ones(grid.num_tokens, grid.num_tokens, dtype=torch.bool, device=device)
        mask[prefix:, prefix:] = self.may_look(places[:, None], places[None], grid)
        mask[:prefix, prefix:] = self.prefix_sees_patches
        return mask


class Causal(PlacePattern):
    """A token looks at itself and at those before it, row by row: j <= i.

    Tokens without a place come before all others: they look at each other only, and everybody looks at them.

    Source: Vaswani et al., arXiv 1706.03762, section 3.2.3.
    """

    prefix_sees_patches = False

    def may_look(self, queries: Tensor, keys: Tensor, grid: Grid) -> Tensor:
        """Return whether the key comes no later than the query."""
        later_row = keys[..., 0] > queries[..., 0]
        later_column = (keys[..., 0] == queries[..., 0]) & (keys[..., 1] > queries[..., 1])
        return ~(later_row | later_column)


class Both(PlacePattern):
    """Look where two patterns both look, such as a causal window: `Window1D(5) & Causal()`.

    Args:
        first: A pattern.
        second: Another.
    """

    def __init__(self, first: Pattern, second: Pattern) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.is_same_on_canvas = first.is_same_on_canvas and second.is_same_on_canvas
        self.prefix_sees_patches = first.prefix_sees_patches and second.prefix_sees_patches

    def may_look(self, queries: Tensor, keys: Tensor, grid: Grid) -> Tensor:
        """Return whether both say yes."""
        return _may_look(self.first, queries, keys, grid) & _may_look(self.second, queries, keys, grid)

    def tiling(self, grid: Grid) -> Tiling | None:
        """Return the smaller of the two patterns' tilings: its tiles hold what both see."""
        if not _follow_from_places(self.first, self.second):
            return None
        tilings = [tiling for pattern in (self.first, self.second) if (tiling := pattern.tiling(grid))]
        return min(tilings, key=lambda tiling: tiling.keys_per_query, default=None)

    def mask(self, grid: Grid, device: torch.device | str | None = None) -> Tensor | None:
        """Return who may look at whom.

        Shape: (tokens, tokens) of bool, or None where both let everybody look.
        """
        masks = [mask for pattern in (self.first, self.second) if (mask := pattern.mask(grid, device)) is not None]
        return masks[0] & masks[-1] if masks else None


class Either(PlacePattern):
    """Look where at least one of two patterns looks, such as a window and a graph's edges.

    Args:
        first: A pattern.
        second: Another.
    """

    def __init__(self, first: Pattern, second: Pattern) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.is_same_on_canvas = first.is_same_on_canvas and second.is_same_on_canvas
        self.prefix_sees_patches = first.prefix_sees_patches or second.prefix_sees_patches

    def may_look(self, queries: Tensor, keys: Tensor, grid: Grid) -> Tensor:
        """Return whether one says yes."""
        return _may_look(self.first, queries, keys, grid) | _may_look(self.second, queries, keys, grid)

    def tiling(self, grid: Grid) -> Tiling | None:
        """Return tiles with the larger halo, where both patterns cut the grid alike."""
        if not _follow_from_places(self.first, self.second):
            return None
        first, second = self.first.tiling(grid), self.second.tiling(grid)
        return first.joined_with(second) if first and second else None

    def mask(self, grid: Grid, device: torch.device | str | None = None) -> Tensor | None:
        """Return who may look at whom.

        Shape: (tokens, tokens) of bool, or None where one of the two lets everybody look.
        """
        masks = [pattern.mask(grid, device) for pattern in (self.first, self.second)]
        return None if masks[0] is None or masks[1] is None else masks[0] | masks[1]


def _follow_from_places(*patterns: Pattern) -> bool:
    for pattern in patterns:
        if isinstance(pattern, Both | Either):
            if not _follow_from_places(pattern.first, pattern.second):
                return False
        elif not isinstance(pattern, All | PlacePattern):
            return False
    return True


def _may_look(pattern: Pattern, queries: Tensor, keys: Tensor, grid: Grid) -> Tensor:
    if isinstance(pattern, All):
        return torch.ones((), dtype=torch.bool, device=queries.device)
    return pattern.may_look(queries, keys, grid)
