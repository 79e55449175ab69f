"""Continuous positions: a learned function of the place, smooth between patches, that goes on beyond any grid.

Fourier features are sines and cosines of learned directions, mixed by a small network (Li et al., arXiv 2106.02795);
continuous dynamics are the path of a point whose velocity is learned (Liu et al., FLOATER, arXiv 2003.09229).
"""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.attention.grid import Grid
from vitlab.attention.positions import AbsolutePosition, check_made_with_grid


class FourierFeatures(AbsolutePosition):
    """Sines and cosines of the place along learned directions, then a learned MLP: W2 gelu(W1 [cos(W p); sin(W p)]).

    Before training, the features of two patches are about as alike as exp(-distance^2 / (2 width^2)) says. The function
    is computed for any grid; on a larger one it goes on, untrained, beyond the border.

    Args:
        dim: Width of a token.
        grid: The tokens' layout; taken so that all positions are made alike.
        num_directions: Learned directions, each with a sine and a cosine.
        hidden_dim: Width inside the MLP.
        width: Distance in patches up to which places start alike, above 0 (the paper's gamma).

    Shape: tokens (batch, tokens, dim) to the same.

    Raises:
        ValueError: A number is out of range.

    Source: Li et al., arXiv 2106.02795, algorithm 1.
    """

    def __init__(
        self,
        dim: int,
        grid: Grid | None = None,
        num_directions: int = 32,
        hidden_dim: int = 64,
        width: float = 2.0,
    ) -> None:
        super().__init__()
        check_made_with_grid(self, grid)
        if num_directions < 1 or hidden_dim < 1 or width <= 0:
            raise ValueError(
                "num_directions and hidden_dim must be 1 or more and width above 0, got "
                f"{num_directions}, {hidden_dim} and {width}"
            )
        self.width = width
        self.directions = nn.Parameter(torch.empty(num_directions, 2))  # radians a row, radians a column
        self.expand = nn.Linear(2 * num_directions, hidden_dim)
        self.contract = nn.Linear(hidden_dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new directions and weights."""
        nn.init.normal_(self.directions, std=1 / self.width)
        for linear in (self.expand, self.contract):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)  # or all places would start nearly alike

    def table_for(self, grid: Grid, device: torch.device | str | None = None) -> Tensor:
        """Return the vectors added to a grid's patches.

        Shape: (1, patches, dim).
        """
        features = self.features(grid.coordinates(device)).to(self.expand.weight.dtype)  # (patches, 2 directions)
        return self.contract(F.gelu(self.expand(features)))[None]

    def features(self, places: Tensor) -> Tensor:
        """Return the sines and cosines of places, scaled so that the dot product of two is their likeness, at most 1.

        Args:
            places: Rows and columns in patches, real numbers.

        Shape: (..., 2) to (..., 2 directions).
        """
        # No matmul, and no less than float32: an angle of many turns, rounded to bfloat16, is no angle.
        directions = self.directions.to(torch.promote_types(self.directions.dtype, torch.float32))
        angles = (places[..., None, :] * directions).sum(-1)  # (..., directions)
        return torch.cat([angles.cos(), angles.sin()], dim=-1) * len(directions) ** -0.5


class ContinuousDynamics(AbsolutePosition):
    """Positions are points on a path whose velocity is learned: p' = V tanh(W [p; t] + b) + c, from a learned start.

    A path has one time and an image has two axes, so each axis has a path of its own and the vectors of row and column
    are added: p(row, column) = a(row) + b(column). That keeps the paper's one-dimensional dynamics, and a patch the
    same vector on any grid. The paths are integrated by Runge-Kutta with a fixed step, and run on to any length.

    Args:
        dim: Width of a token.
        grid: The tokens' layout; taken so that all positions are made alike.
        hidden_dim: Width inside the velocity.
        time_step: Time between two patches, above 0.
        steps_per_patch: Runge-Kutta steps between two patches, 1 or more: exactness for time.

    Shape: tokens (batch, tokens, dim) to the same.

    Raises:
        ValueError: A number is out of range.

    Source: Liu et al. (FLOATER), arXiv 2003.09229, section 3.1; Runge-Kutta (order 4) in place of an adaptive solver.
    """

    def __init__(
        self,
        dim: int,
        grid: Grid | None = None,
        hidden_dim: int = 32,
        time_step: float = 0.1,
        steps_per_patch: int = 1,
    ) -> None:
        super().__init__()
        check_made_with_grid(self, grid)
        if hidden_dim < 1 or steps_per_patch < 1 or time_step <= 0:
            raise ValueError(
                "hidden_dim and steps_per_patch must be 1 or more and time_step above 0, got "
                f"{hidden_dim}, {steps_per_patch} and {time_step}"
            )
        self.time_step = time_step
        self.steps_per_patch = steps_per_patch
        # The paths of rows and columns are integrated side by side: the first axis of each weight is theirs.
        self.start = nn.Parameter(torch.empty(2, 1, dim))
        self.expand = nn.Parameter(torch.empty(2, dim, hidden_dim))
        self.expand_time = nn.Parameter(torch.empty(2, 1, hidden_dim))
        self.expand_bias = nn.Parameter(torch.empty(2, 1, hidden_dim))
        self.contract = nn.Parameter(torch.empty(2, hidden_dim, dim))
        self.contract_bias = nn.Parameter(torch.empty(2, 1, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw a new start and velocity, such that neighbors lie about as far apart as learned vectors do."""
        for weight in (self.expand, self.contract):
            for of_axis in weight:
                nn.init.xavier_normal_(of_axis)
        nn.init.normal_(self.expand_time)
        nn.init.zeros_(self.expand_bias)
        nn.init.normal_(self.start, std=0.02)
        nn.init.normal_(self.contract_bias, std=0.02 / self.time_step)

    def table_for(self, grid: Grid, device: torch.device | str | None = None) -> Tensor:
        """Return the vectors added to a grid's patches.

        Shape: (1, patches, dim).
        """
        kind = self.start.device.type
        # Many small steps are added up: in bfloat16 they would be lost. (The meta device knows no autocast.)
        with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
            of_rows, of_columns = self._paths(max(grid.height, grid.width))  # (patches on a side, dim)
        return (of_rows[: grid.height, None] + of_columns[: grid.width]).flatten(0, 1)[None]

    def _paths(self, length: int) -> Tensor:
        step = self.time_step / self.steps_per_patch
        place, time = self.start.float(), 0.0
        path = [place]
        for index in range(1, (length - 1) * self.steps_per_patch + 1):
            at_start = self._velocity(place, time)
            halfway = self._velocity(place + step / 2 * at_start, time + step / 2)
            halfway_again = self._velocity(place + step / 2 * halfway, time + step / 2)
            at_end = self._velocity(place + step * halfway_again, time + step)
            place = place + step / 6 * (at_start + 2 * halfway + 2 * halfway_again + at_end)
            time = index * step
            if index % self.steps_per_patch == 0:
                path.append(place)
        return torch.cat(path, dim=1)  # (2, length, dim)

    def _velocity(self, place: Tensor, time: float) -> Tensor:
        expand, expand_time, expand_bias = self.expand.float(), self.expand_time.float(), self.expand_bias.float()
        hidden = (place @ expand + time * expand_time + expand_bias).tanh()  # (2, 1, hidden_dim)
        return hidden @ self.contract.float() + self.contract_bias.float()
