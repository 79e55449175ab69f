"""What a position says about places: how alike every place is to one chosen, as a picture.

Figure 7 (center) of the ViT paper (Dosovitskiy et al., arXiv 2010.11929), for every kind of position: those on tokens,
on queries and keys, and on scores.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from vitlab.attention import Grid, Position

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLE = {"font.size": 8, "font.family": "sans-serif", "text.parse_math": False, "axes.linewidth": 0.5}
_COLORS = "viridis"
_MARK = "#e5484d"


@torch.no_grad()
def position_similarity(
    position: Position,
    grid: Grid,
    row: int,
    column: int,
    dim: int,
    num_heads: int = 1,
    head: int | None = None,
) -> Tensor:
    """Return how alike every place is to one chosen, in the eyes of a position.

    What a position adds to the scores is returned as it is: the bias of a query at the chosen place. One that turns
    queries and keys is shown by the score of a query and a key that are equal before (cosine, 1 at the chosen place).
    One that adds to tokens is shown by the cosine of what it adds to them, and tokens it adds nothing to are all alike.

    Args:
        position: Any position; one that needs a grid has been told.
        grid: The tokens' layout.
        row: Row of the chosen place, from 0.
        column: Column of the chosen place, from 0.
        dim: Width of a token that the position is made for.
        num_heads: Heads that the position is made for, where it is made for heads.
        head: The one head to show, from 0; None: the mean of all heads.

    Shape: (height, width).

    Raises:
        ValueError: The place is not on the grid, there is no such head, or num_heads does not divide dim.
    """
    if not (0 <= row < grid.height and 0 <= column < grid.width):
        raise ValueError(
            f"row {row}, column {column} is not on a grid of {grid.height} x {grid.width} patches; rows are "
            f"0 to {grid.height - 1}, columns 0 to {grid.width - 1}"
        )
    if num_heads < 1 or dim % num_heads:
        raise ValueError(f"num_heads {num_heads} does not divide dim {dim}")
    chosen = grid.num_prefix_tokens + row * grid.width + column
    if position.adds_to_scores:
        similarity = position.on_scores(grid)[..., chosen, :]
    elif position.rotates:
        ones = torch.ones(1, num_heads, grid.num_tokens, dim // num_heads, device=_device(position))
        queries, keys = position.on_queries_and_keys(ones, ones, grid)
        similarity = (queries[0, :, chosen, None] * keys[0]).mean(-1)  # (heads, tokens)
    else:
        ones = torch.ones(1, grid.num_tokens, dim, device=_device(position))
        added = (position.on_tokens(ones, grid) - ones)[0]  # (tokens, dim)
        similarity = cosine_similarity(added[chosen], added, dim=-1) if added.any() else torch.ones(len(added))
    similarity = similarity.reshape(-1, grid.num_tokens)[:, grid.num_prefix_tokens :]  # (heads or 1, patches)
    return _of_head(similarity, head).unflatten(0, (grid.height, grid.width)).float().cpu()


def plot_positions(
    positions: dict[str, Position],
    grid: Grid,
    dim: int,
    num_heads: int = 1,
    row: int | None = None,
    column: int | None = None,
) -> Figure:
    """Draw how alike every place is to one chosen, a panel for each position.

    Args:
        positions: The positions under the names to show; those that need a grid have been told.
        grid: The tokens' layout.
        dim: Width of a token that the positions are made for.
        num_heads: Heads that they are made for, where they are made for heads; the mean of all heads is shown.
        row: Row of the chosen place; None: about a third down.
        column: Column of the chosen place; None: about a third to the right.

    Returns:
        A matplotlib Figure; `figure.savefig("positions.png")` writes it.

    Raises:
        ValueError: There are no positions, or the place is not on the grid.
    """
    import matplotlib  # 0.7 s to import: nothing but drawing pays it
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not positions:
        raise ValueError("there is no position to draw; give at least one, as {name: position}")
    row = grid.height // 3 if row is None else row
    column = grid.width // 3 if column is None else column
    columns = min(len(positions), 5)
    rows = math.ceil(len(positions) / columns)
    with matplotlib.rc_context(_STYLE):
        height = 0.3 + 1.55 * min(2.0, grid.height / grid.width)  # inches: the title, and the picture
        figure = Figure(figsize=(2.2 * columns, height * rows), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
        FigureCanvasAgg(figure)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[len(positions) :]:
            panel.set_visible(False)
        for panel, (name, position) in zip(panels, positions.items(), strict=False):
            similarity = position_similarity(position, grid, row, column, dim, num_heads)
            _draw(panel, name, similarity, row, column, position.adds_to_scores)
    return figure


def _device(position: Position) -> torch.device | None:
    return next((tensor.device for tensor in position.state_dict(keep_vars=True).values()), None)


def _of_head(similarity: Tensor, head: int | None) -> Tensor:
    if head is None:
        return similarity.mean(0)
    if len(similarity) == 1:
        return similarity[0]  # all heads see the same
    if not 0 <= head < len(similarity):
        raise ValueError(f"there is no head {head}; heads are 0 to {len(similarity) - 1}")
    return similarity[head]


def _draw(panel: Axes, name: str, similarity: Tensor, row: int, column: int, is_bias: bool) -> None:
    # Each panel has a scale of its own, named beside it: at the start of training some differ by hundredths.
    low, high = similarity.min().item(), similarity.max().item()
    if high - low < 1e-6:
        low, high = high - 1, high
    image = panel.imshow(similarity.numpy(), cmap=_COLORS, vmin=low, vmax=high)
    panel.plot(column, row, marker="s", markersize=5, markerfacecolor="none", markeredgecolor=_MARK)
    panel.set_title(name)
    panel.set_xticks([])
    panel.set_yticks([])
    beside = panel.inset_axes((1.04, 0, 0.05, 1))  # as high as the picture, which a bar of the figure's own is not
    bar = panel.figure.colorbar(image, cax=beside, ticks=(low, high), format="%.3g")
    bar.set_label("added to the score" if is_bias else "cosine", fontsize=7)
    beside.yaxis.set_label_coords(3.0, 0.5)  # between the two ticks' texts, however long they are
    bar.outline.set_linewidth(0.5)
    beside.tick_params(labelsize=6, width=0.5, length=2)
