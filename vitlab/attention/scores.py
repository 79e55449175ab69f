"""Scores: how alike a query and a key are, before anything is normalized.

Scaled dot product: Vaswani et al., arXiv 1706.03762, section 3.2.1.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Score(nn.Module, ABC):
    """Parent of all scores: one number for each query and key."""

    @abstractmethod
    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score every query against every key.

        Shape: (batch, heads, queries, head_dim) and (batch, heads, keys, head_dim) to (batch, heads, queries, keys).
        """

    def as_dot_product(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, float] | None:
        """Rewrite the score as scale * queries @ keys^T, the only form a fused kernel computes.

        Returns:
            The rewritten queries and keys, and the scale; None where the score has no such form.
        """
        return None


class ScaledDotProduct(Score):
    """Score by the dot product over the square root of the head's width: q . k / sqrt(head_dim).

    The root keeps the scores' variance at 1 for independent unit-variance entries, whatever the width.

    Source: Vaswani et al., arXiv 1706.03762, section 3.2.1.
    """

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score every query against every key.

        Shape: (batch, heads, queries, head_dim) and (batch, heads, keys, head_dim) to (batch, heads, queries, keys).
        """
        # Scaling the smaller tensor first is cheaper, and does not overflow in float16.
        return (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)

    def as_dot_product(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return queries and keys as they are, with the scale 1 / sqrt(head_dim)."""
        return queries, keys, queries.shape[-1] ** -0.5
