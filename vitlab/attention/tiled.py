"""Attention in tiles: a pattern that looks nearby costs what it looks at, in time and in memory, on any device.

Tiles of queries with the keys around them become a batch of small dense problems, which the fused kernel solves as it
solves any other; compare blocked local attention in Parmar et al., arXiv 1802.05751, section 3.3. Tokens without a
place (class token, registers) join every tile as keys, and look at all patches by themselves.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.attention.combinations import Parts
from vitlab.attention.gathering import gather
from vitlab.attention.grid import Grid
from vitlab.attention.patterns import PlacePattern
from vitlab.attention.positions import Position, RelativePosition
from vitlab.attention.tiling import Tiling, cut, uncut

_NOWHERE = -1.0  # the place of what a tile holds beyond the grid


@dataclass(frozen=True)
class TileLayout:
    """What a pattern's tiles look like on one grid: made once, used in every step.

    Args:
        grid: The tokens' layout.
        tiling: How it is cut.
        mask: True where a query may look at a key of its tile, (tiles, queries, keys).
        offsets: Rows and columns from query to key, (queries, keys, 2), or (tiles, queries, keys, 2) of a sequence;
            None where no position asks for them.
    """

    grid: Grid
    tiling: Tiling
    mask: Tensor
    offsets: Tensor | None


@torch.inference_mode(False)  # it outlives the step that asked for it, and a later one may train
def lay_tiles(
    pattern: PlacePattern, position: Position, tiling: Tiling, grid: Grid, device: torch.device | str | None
) -> TileLayout:
    """Return the layout of a pattern's tiles.

    Args:
        pattern: Who may look at whom.
        position: Where tokens sit.
        tiling: What pattern.tiling(grid) gave.
        grid: The tokens' layout.
        device: Where to make it.
    """
    places = grid.coordinates(device).float()
    queries = cut(places, grid, tiling, fill=_NOWHERE).long()  # (tiles, queries, 2)
    keys = cut(places, grid, tiling, with_halo=True, fill=_NOWHERE).long()  # (tiles, keys, 2)
    mask = pattern.may_look(queries[:, :, None], keys[:, None], grid) & (keys[..., 0] >= 0)[:, None]
    # Queries beyond the grid are thrown away, but must not divide by nothing on the way.
    mask |= (queries[..., 0] < 0)[:, :, None]
    if not isinstance(position, RelativePosition):
        return TileLayout(grid, tiling, mask, None)
    offsets = keys[:, None] - queries[:, :, None] if tiling.is_sequence else _offsets_in_a_tile(tiling, device)
    limit = torch.tensor([grid.height - 1, grid.width - 1], device=device)
    return TileLayout(grid, tiling, mask, offsets.clamp(-limit, limit))  # farther ones are hidden, and in no table


def gather_in_tiles(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    parts: Parts,
    layout: TileLayout,
    visible: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Return what each token gathers from those that the pattern lets it look at.

    Args:
        queries: (batch, heads, tokens, head_dim).
        keys: (batch, heads, tokens, head_dim).
        values: (batch, heads, tokens, head_dim).
        parts: Score, normalizer, pattern and position; the position adds a RelativePosition's bias or nothing.
        layout: What lay_tiles gave for the pattern.
        visible: False for padding, (batch, tokens); None: no padding.
        dropout: Share of the weights dropped.

    Shape: (batch, heads, tokens, head_dim).
    """
    grid, tiling, num_prefix = layout.grid, layout.tiling, layout.grid.num_prefix_tokens
    mask = layout.mask
    bias = None
    if isinstance(parts.position, RelativePosition):
        bias = parts.position.bias_on(layout.offsets, grid)
        bias = bias[:, None] if bias.ndim == 3 else bias  # (heads, tiles, queries, keys)
    pairs = torch.cat([keys, values], dim=-1)
    prefix, patches = pairs.split([num_prefix, grid.num_patches], dim=2)
    joined = cut(patches, grid, tiling, with_halo=True)  # (batch, heads, tiles, keys, 2 * head_dim)
    if visible is not None:
        shown = cut(visible[:, num_prefix:, None].float(), grid, tiling, with_halo=True)  # (batch, tiles, keys, 1)
        mask = mask & (shown.transpose(-2, -1) > 0)[:, None]  # (batch, 1, tiles, queries, keys)
    if num_prefix:
        joined = torch.cat([prefix[:, :, None].expand(-1, -1, joined.shape[2], -1, -1), joined], dim=-2)
        mask = F.pad(mask, (num_prefix, 0), value=True)
        if bias is not None:
            to_prefix = _prefix_biases(parts.position, bias)[0].view(-1, 1, 1, 1)
            bias = torch.cat([to_prefix.expand(*bias.shape[:-1], num_prefix), bias], dim=-1)
    tiles = cut(queries[:, :, num_prefix:], grid, tiling)  # (batch, heads, tiles, queries, head_dim)
    tile_keys, tile_values = joined.chunk(2, dim=-1)
    gathered = uncut(gather(tiles, tile_keys, tile_values, parts, mask, bias, dropout), grid, tiling)
    if num_prefix:
        of_prefix = _gather_prefix(queries[:, :, :num_prefix], keys, values, parts, grid, visible, dropout)
        gathered = torch.cat([of_prefix, gathered], dim=2)
    return gathered


def _gather_prefix(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    parts: Parts,
    grid: Grid,
    visible: Tensor | None,
    dropout: float,
) -> Tensor:
    """Return what the tokens without a place gather: from all patches, or from each other only."""
    num_prefix = grid.num_prefix_tokens
    num_keys = grid.num_tokens if parts.pattern.prefix_sees_patches else num_prefix
    bias = None
    if isinstance(parts.position, RelativePosition):
        _, to_patches, within = _prefix_biases(parts.position, queries)[:, :, None, None]  # (heads, 1, 1) each
        bias = [within.expand(-1, -1, num_prefix), to_patches.expand(-1, -1, num_keys - num_prefix)]
        bias = torch.cat(bias, dim=-1)  # (heads, 1, keys)
    mask = None if visible is None else visible[:, None, None, :num_keys]
    return gather(queries, keys[:, :, :num_keys], values[:, :, :num_keys], parts, mask, bias, dropout)


def _prefix_biases(position: RelativePosition, like: Tensor) -> Tensor:
    """Return the biases where a token without a place takes part, (3, heads), zeros where the position has none."""
    biases = position.prefix_bias()
    return like.new_zeros(3, 1) if biases is None else biases


def _offsets_in_a_tile(tiling: Tiling, device: torch.device | str | None) -> Tensor:
    """Return rows and columns from each query to each key of a tile, the same for all tiles: (queries, keys, 2)."""
    axes = zip(tiling.tile, tiling.halo, strict=True)
    queries, keys = zip(*((torch.arange(tile), torch.arange(-halo, tile + halo)) for tile, halo in axes), strict=True)
    offsets = torch.cartesian_prod(*keys)[None] - torch.cartesian_prod(*queries)[:, None]
    return (offsets * tiling.dilation).to(device)
