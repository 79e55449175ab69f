"""Normalizers: from scores to weights. A row that may look at nobody gets zeros, never NaN.

Softmax attention: Vaswani et al., arXiv 1706.03762, section 3.2.1.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Normalizer(nn.Module, ABC):
    """Parent of all normalizers: rows of scores to rows of weights."""

    fused = False
    """Whether PyTorch's fused attention kernel computes this normalizer."""

    @abstractmethod
    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Turn scores into weights.

        Args:
            scores: Any real numbers, (batch, heads, queries, keys).
            mask: True where a query may look at a key; broadcasts to the scores. None: everybody at everybody.

        Shape: (batch, heads, queries, keys), and 0 wherever the mask is False.
        """


class Softmax(Normalizer):
    """Weights that are positive and sum to 1 over the visible keys: exp(s_j) / sum_k exp(s_k).

    Source: Vaswani et al., arXiv 1706.03762, section 3.2.1.
    """

    fused = True

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Turn scores into weights.

        Shape: (batch, heads, queries, keys) to the same.
        """
        if mask is None:
            return scores.softmax(dim=-1)
        # The lowest finite number, not -inf: softmax of a row of -inf is NaN, and so is its gradient.
        # A row with nobody to look at is then uniform, and the second fill makes it zero (as the fused kernel does).
        hidden = ~mask
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        return scores.softmax(dim=-1).masked_fill(hidden, 0.0)
