"""Rotary positions: queries and keys are turned by angles that grow with the place, so a score sees the offset alone.

A head's numbers are taken in pairs, and each pair is a point in a plane that turns: R(p) q . R(p') k = q . R(p' - p) k.
Su et al. (RoFormer), arXiv 2104.09864, section 3.2; for images Heo et al. (RoPE-ViT), arXiv 2403.13298, section 3.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vitlab.attention.grid import Grid
from vitlab.attention.positions import Position


class RotaryPosition(Position, ABC):
    """Parent of positions that turn queries and keys; class token and registers sit nowhere and are not turned."""

    @abstractmethod
    def angles(self, grid: Grid, device: torch.device | str | None = None) -> Tensor:
        """Return how far each pair of numbers is turned at each patch, in radians.

        Args:
            grid: The tokens' layout.
            device: Where to make them.

        Shape: (heads or 1, patches, head_dim / 2).
        """

    def on_queries_and_keys(self, queries: Tensor, keys: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Turn queries and keys by the angles of their places.

        Shape: (batch, heads, tokens, head_dim) to the same, twice.
        """
        angles = self.angles(grid, queries.device)
        if 2 * angles.shape[-1] != queries.shape[-1]:
            raise ValueError(
                f"{type(self).__name__} was made for a head_dim of {2 * angles.shape[-1]}, the heads have "
                f"{queries.shape[-1]}; make it with the layer's (num_heads, head_dim)"
            )
        # An angle of 0 leaves a token exactly as it is.
        angles = nn.functional.pad(angles, (0, 0, grid.num_prefix_tokens, 0))  # (heads or 1, tokens, head_dim / 2)
        turns = torch.polar(torch.ones_like(angles), angles)
        return _turned(queries, turns), _turned(keys, turns)


class RoPE2D(RotaryPosition):
    """Turn half of the pairs by the row and half by the column, each pair at a speed of its own (axial RoPE).

    The angles are computed for any grid; on a larger one they go on growing, which the paper finds to work.

    Args:
        num_heads: Heads; taken so that all positions are made alike, as all heads turn alike.
        head_dim: Width of a head, a multiple of 4.
        temperature: How many times slower than one radian a patch the slowest pair would turn, above 1.

    Shape: queries and keys (batch, heads, tokens, head_dim) to the same.

    Raises:
        ValueError: head_dim is not a multiple of 4, or temperature is not above 1.

    Source: Heo et al. (RoPE-ViT), arXiv 2403.13298, section 3.2, whose temperature is 100.
    """

    def __init__(self, num_heads: int, head_dim: int, temperature: float = 100.0) -> None:
        super().__init__()
        _check(type(self).__name__, head_dim, temperature)
        self.head_dim = head_dim
        self.temperature = temperature

    def angles(self, grid: Grid, device: torch.device | str | None = None) -> Tensor:
        """Return how far each pair of numbers is turned at each patch: first the row's pairs, then the column's.

        Shape: (1, patches, head_dim / 2).
        """
        speeds = _speeds(self.head_dim, self.temperature).to(device)
        return (grid.coordinates(device)[:, :, None] * speeds).flatten(1)[None]


class RoPE2DMixed(RotaryPosition):
    """Turn each pair by a learned mix of row and column, so that heads may look along diagonals too (RoPE-Mixed).

    The angles are computed for any grid; on a larger one they go on growing, which the paper finds to work.

    Args:
        num_heads: Heads, each with frequencies of its own.
        head_dim: Width of a head, a multiple of 4.
        temperature: How many times slower than one radian a patch the slowest pair would turn at the start, above 1.

    Shape: queries and keys (batch, heads, tokens, head_dim) to the same.

    Raises:
        ValueError: head_dim is not a multiple of 4, or temperature is not above 1.

    Source: Heo et al. (RoPE-ViT), arXiv 2403.13298, section 3.2, whose temperature is 10; the start (a random direction
    for each head, and the one at a right angle to it) is that of its code.
    """

    def __init__(self, num_heads: int, head_dim: int, temperature: float = 10.0) -> None:
        super().__init__()
        _check(type(self).__name__, head_dim, temperature)
        self.head_dim = head_dim
        self.temperature = temperature
        self.frequencies = nn.Parameter(torch.empty(2, num_heads, head_dim // 2))  # radians a row, radians a column
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw a new direction for each head."""
        with torch.no_grad():
            heads, device = self.frequencies.shape[1], self.frequencies.device
            direction = 2 * math.pi * torch.rand(heads, 1, device=device)
            speeds = _speeds(self.head_dim, self.temperature).to(device)
            along = torch.cat([speeds * direction.cos(), -speeds * direction.sin()], dim=1)  # (heads, head_dim / 2)
            across = torch.cat([speeds * direction.sin(), speeds * direction.cos()], dim=1)
            self.frequencies.copy_(torch.stack([across, along]))

    def angles(self, grid: Grid, device: torch.device | str | None = None) -> Tensor:
        """Return how far each pair of numbers is turned at each patch.

        Shape: (heads, patches, head_dim / 2).
        """
        rows, columns = grid.coordinates(device).unbind(1)
        of_row, of_column = self.frequencies.float().unsqueeze(2).unbind(0)  # (heads, 1, head_dim / 2)
        return rows[:, None] * of_row + columns[:, None] * of_column


def _check(name: str, head_dim: int, temperature: float) -> None:
    if not isinstance(head_dim, int):
        raise ValueError(
            f"{name} is made with (num_heads, head_dim), got head_dim={head_dim!r}; it belongs into an attention "
            "layer's position (attention.init_args.position), not before a model's first block"
        )
    if head_dim % 4:
        raise ValueError(
            f"{name} turns pairs of numbers by row and column: head_dim must be a multiple of 4, got {head_dim}; "
            "choose another dim or num_heads"
        )
    if temperature <= 1:
        raise ValueError(f"temperature must be above 1, got {temperature}")


def _speeds(head_dim: int, temperature: float) -> Tensor:
    """Return radians a patch for each pair of one axis, falling geometrically from 1: (head_dim / 4,)."""
    return temperature ** -(torch.arange(head_dim // 4) / (head_dim // 4))


def _turned(vectors: Tensor, turns: Tensor) -> Tensor:
    """Turn each pair of neighboring numbers, taken as one complex number: five times as fast as by parts on a CPU."""
    # In bfloat16 too the product is float32: rounding comes once, at the end.
    pairs = vectors.to(torch.promote_types(vectors.dtype, torch.float32)).unflatten(-1, (-1, 2))
    turned = torch.view_as_complex(pairs) * turns  # (batch, heads, tokens, head_dim / 2)
    return torch.view_as_real(turned).flatten(-2).to(vectors.dtype)
