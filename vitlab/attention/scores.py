"""Scores: how alike a query and a key are, before anything is normalized.

Scaled dot product: Vaswani et al., arXiv 1706.03762, section 3.2.1. Additive: Bahdanau et al., arXiv 1409.0473,
appendix A.1.2. Cosine: Liu et al. (Swin V2), arXiv 2111.09883, equation 2. Kernel features: Katharopoulos et al., arXiv
2006.16236.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FeatureMap = Literal["elu", "relu"]


class Score(nn.Module, ABC):
    """Parent of all scores: one number for each query and key."""

    is_nonnegative = False
    """Whether no score is ever below zero, as `Proportional` needs."""

    is_dot_product = True
    """Whether rotating a query and a key makes their score depend on the offset between them alone (RoPE)."""

    @abstractmethod
    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score every query against every key.

        Shape: (batch, heads, queries, head_dim), (batch, heads, keys, head_dim) to (batch, heads, queries, keys); tiles
            may stand between heads and the rest.
        """

    def as_dot_product(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, float] | None:
        """Rewrite the score as scale * queries @ keys^T, the only form a fused kernel computes.

        Returns:
            The rewritten queries and keys, and the scale; None where the score has no such form.
        """
        return None

    def features(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor] | None:
        """Map queries and keys to the features whose plain dot product is the score.

        Shape: (batch, heads, tokens, head_dim) to (batch, heads, tokens, features), twice; None where there are none.
        """
        return None


class ScaledDotProduct(Score):
    """Score by the dot product over the square root of the head's width: q . k / sqrt(head_dim).

    The root keeps the scores' variance at 1 for independent unit-variance entries, whatever the width.

    Args:
        num_heads: Taken so that all scores are made alike.
        head_dim: Taken so that all scores are made alike.

    Shape: (batch, heads, queries, head_dim), (batch, heads, keys, head_dim) to (batch, heads, queries, keys).

    Source: Vaswani et al., arXiv 1706.03762, section 3.2.1.
    """

    def __init__(self, num_heads: int | None = None, head_dim: int | None = None) -> None:
        super().__init__()

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score every query against every key."""
        # Scaling the smaller tensor first is cheaper, and does not overflow in float16.
        return (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)

    def as_dot_product(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return queries and keys as they are, with the scale 1 / sqrt(head_dim)."""
        return queries, keys, queries.shape[-1] ** -0.5


class Additive(Score):
    """Score by a small network that sees query and key together: v . tanh(W q + U k), with v, W and U for each head.

    It needs memory for queries * keys * hidden_dim numbers, head_dim times a dot product's: for short sequences.

    Args:
        num_heads: Heads of the attention.
        head_dim: Width of a head.
        hidden_dim: Width of the network; None: head_dim.

    Shape: (batch, heads, queries, head_dim), (batch, heads, keys, head_dim) to (batch, heads, queries, keys).

    Source: Bahdanau et al., arXiv 1409.0473, appendix A.1.2.
    """

    is_dot_product = False

    def __init__(self, num_heads: int, head_dim: int, hidden_dim: int | None = None) -> None:
        super().__init__()
        hidden_dim = head_dim if hidden_dim is None else hidden_dim
        if hidden_dim < 1:
            raise ValueError(f"hidden_dim must be 1 or more, got {hidden_dim}")
        self.query_weight = nn.Parameter(torch.empty(num_heads, head_dim, hidden_dim))
        self.key_weight = nn.Parameter(torch.empty(num_heads, head_dim, hidden_dim))
        self.vector = nn.Parameter(torch.empty(num_heads, hidden_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with scores of variance about 1/2 for queries and keys of variance 1."""
        for weight in (self.query_weight, self.key_weight):
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        nn.init.normal_(self.vector, std=self.vector.shape[1] ** -0.5)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score every query against every key."""
        tiles = (1,) * (queries.ndim - 4)
        by_head = [weight.unflatten(0, (-1, *tiles)) for weight in (self.query_weight, self.key_weight, self.vector)]
        queries, keys = queries @ by_head[0], keys @ by_head[1]  # (batch, heads, ..., tokens, hidden_dim)
        hidden = (queries.unsqueeze(-2) + keys.unsqueeze(-3)).tanh()  # (batch, heads, ..., queries, keys, hidden_dim)
        return (hidden * by_head[2].unsqueeze(-2).unsqueeze(-2)).sum(dim=-1)


class Cosine(Score):
    """Score by the angle alone, with a learned temperature for each head: cos(q, k) / t, t at least 0.01.

    No score is larger than 1 / t, however large the activations, which keeps large models stable.

    Args:
        num_heads: Heads of the attention.
        head_dim: Taken so that all scores are made alike.
        temperature: What t starts from, 0.01 or more.

    Shape: (batch, heads, queries, head_dim), (batch, heads, keys, head_dim) to (batch, heads, queries, keys).

    Raises:
        ValueError: temperature is below 0.01.

    Source: Liu et al. (Swin V2), arXiv 2111.09883, equation 2.
    """

    def __init__(self, num_heads: int, head_dim: int | None = None, temperature: float = 0.1) -> None:
        super().__init__()
        if temperature < 0.01:
            raise ValueError(f"temperature must be 0.01 or more, got {temperature}")
        self.temperature = temperature
        self.log_scale = nn.Parameter(torch.empty(num_heads))  # of 1 / t: the logarithm cannot change its sign
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start all heads at the same temperature."""
        nn.init.constant_(self.log_scale, -math.log(self.temperature))

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score every query against every key."""
        queries, keys, _ = self.as_dot_product(queries, keys)
        return queries @ keys.transpose(-2, -1)

    def as_dot_product(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return unit vectors, the queries times 1 / t, and the scale 1."""
        scale = self.log_scale.clamp(max=math.log(100)).exp().unflatten(0, (-1, *(1,) * (queries.ndim - 2)))
        return F.normalize(queries, dim=-1) * scale, F.normalize(keys, dim=-1), 1.0


class KernelFeatures(Score):
    """Score by the dot product of positive features: phi(q) . phi(k).

    Divided by their sum (`Proportional`), the weights need never be formed: phi(q) (sum_j phi(k_j) v_j) costs time and
    memory linear in the tokens, and its causal form is an RNN.

    Args:
        num_heads: Taken so that all scores are made alike.
        head_dim: Taken so that all scores are made alike.
        feature_map: `elu`: phi(x) = elu(x) + 1, above zero everywhere; `relu`: phi(x) = max(x, 0).

    Shape: (batch, heads, queries, head_dim), (batch, heads, keys, head_dim) to (batch, heads, queries, keys).

    Raises:
        ValueError: An unknown feature map.

    Source: Katharopoulos et al., arXiv 2006.16236, equation 7; ReLU features: arXiv 2009.14794, section 5.
    """

    is_nonnegative = True
    is_dot_product = False  # of features: rotating what they are made from does not rotate them

    def __init__(
        self, num_heads: int | None = None, head_dim: int | None = None, feature_map: FeatureMap = "elu"
    ) -> None:
        super().__init__()
        if feature_map not in get_args(FeatureMap):
            raise ValueError(f"unknown feature_map {feature_map!r}; use one of {', '.join(get_args(FeatureMap))}")
        self.feature_map = feature_map

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score every query against every key."""
        queries, keys = self.features(queries, keys)
        return queries @ keys.transpose(-2, -1)

    def as_dot_product(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return the features, with the scale 1."""
        return *self.features(queries, keys), 1.0

    def features(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return phi(queries) and phi(keys)."""
        if self.feature_map == "elu":
            return F.elu(queries) + 1, F.elu(keys) + 1
        return queries.relu(), keys.relu()
