"""Patterns: who may look at whom. In every mask, True means "may look".

Everybody at everybody is the Transformer's pattern (Vaswani et al., arXiv 1706.03762); a window makes it a convolution
(Cordonnier et al., arXiv 1911.03584).
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vitlab.attention.grid import Grid


class Pattern(nn.Module, ABC):
    """Parent of all patterns: which keys a query may look at, from the tokens' places alone."""

    @abstractmethod
    def mask(self, grid: Grid, device: torch.device | str | None = None) -> Tensor | None:
        """Return who may look at whom.

        Args:
            grid: The tokens' layout.
            device: Where to make the mask.

        Shape: (tokens, tokens) of bool, rows are queries, True = may look; None where everybody may.
        """


class All(Pattern):
    """Every token looks at every token, itself included.

    Source: Vaswani et al., arXiv 1706.03762, section 3.2.
    """

    def mask(self, grid: Grid, device: torch.device | str | None = None) -> None:
        """Return None: nothing is hidden, and the fused kernel need not read a mask."""
        return None  # noqa: RET501 (said aloud: None has a meaning here)
