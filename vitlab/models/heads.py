"""Heads: what becomes of the tokens after the last block; the parent of all, and N tokens to one label.

Class token: Dosovitskiy et al., arXiv 2010.11929, section 3.1. Averaging instead: its appendix D.3, and Beyer et
al., arXiv 2205.01580, section 2. Attention pooling: Lee et al., arXiv 1810.00825, section 3.2, in the form of Zhai et
al., arXiv 2106.04560, section 3.3.
"""

from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitlab.attention import Grid

Pooling = Literal["class_token", "mean", "mean_then_norm", "attention"]


class Head(nn.Module, ABC):
    """Parent of all heads: from a set of tokens to what the loss sees.

    Args:
        dim: Width of a token, 1 or more.
        num_classes: Classes, 1 or more; 0 gives what the classifier would see instead of logits.
        out_features: Numbers that the classifier gives for each vector.

    Attributes:
        num_class_tokens: Tokens that the model must put before all others for this head, 0 or 1.

    Raises:
        ValueError: An argument is out of range.
    """

    num_class_tokens = 0

    def __init__(self, dim: int, num_classes: int, out_features: int) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim must be 1 or more, got {dim}")
        if num_classes < 0:
            raise ValueError(
                f"num_classes must be 1 or more (or 0 for features without a classifier), got {num_classes}"
            )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.classifier = nn.Linear(dim, out_features) if num_classes else nn.Identity()

    @abstractmethod
    def forward(self, tokens: Tensor, grid: Grid, visible: Tensor | None = None) -> Tensor:
        """Return the logits.

        Args:
            tokens: What the last block gave.
            grid: The layout of the tokens.
            visible: False where a token is padding, which changes no logit; None: all are real.

        Shape: tokens (batch, tokens, dim), visible (batch, tokens); the logits' shape is the head's own.
        """

    @abstractmethod
    def pool(self, tokens: Tensor, grid: Grid, visible: Tensor | None = None) -> Tensor:
        """Return the vectors that the classifier sees; arguments as in forward."""

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that stand for a token, and should not be pulled to zero."""
        return set()


class ClassifierHead(Head):
    """Make one vector of a set of tokens, normalize it, and map it to class scores.

    Args:
        dim: Width of a token.
        num_classes: Classes, 1 or more; 0 gives the pooled vector itself.
        patch_size: Not used; every head is called with it.
        pooling: `class_token`: the first token; `mean`: layer norm on each patch's token, then their average;
            `mean_then_norm`: the average, then layer norm (as timm and MAE do); `attention`: layer norm, then one
            learned query looks at the patches' tokens.
        num_heads: Heads of the attention pooling, which must divide dim; the other poolings have none.

    Shape: tokens (batch, tokens, dim) to logits (batch, classes).

    Raises:
        ValueError: An unknown pooling, or num_heads does not divide dim.
    """

    def __init__(
        self, dim: int, num_classes: int, patch_size: int = 1, pooling: Pooling = "class_token", num_heads: int = 4
    ) -> None:
        if pooling not in get_args(Pooling):
            raise ValueError(f"unknown pooling {pooling!r}; use one of {', '.join(get_args(Pooling))}")
        super().__init__(dim, num_classes, out_features=num_classes)
        self.pooling = pooling
        self.num_class_tokens = 1 if pooling == "class_token" else 0
        if pooling == "attention":
            self.attention = AttentionPooling(dim, num_heads)

    def forward(self, tokens: Tensor, grid: Grid, visible: Tensor | None = None) -> Tensor:
        """Return the logits.

        Shape: (batch, tokens, dim) to (batch, classes).
        """
        return self.classifier(self.pool(tokens, grid, visible))

    def pool(self, tokens: Tensor, grid: Grid, visible: Tensor | None = None) -> Tensor:
        """Return the vector that the classifier sees.

        Shape: (batch, tokens, dim) to (batch, dim).
        """
        if self.pooling == "class_token":
            return self.norm(tokens[:, 0])
        patches, visible = patch_tokens(tokens, grid, visible)
        if self.pooling == "attention":
            return self.attention(self.norm(patches), visible)
        if self.pooling == "mean":
            return masked_mean(self.norm(patches), visible)
        return self.norm(masked_mean(patches, visible))

    def no_weight_decay(self) -> set[str]:
        """Return the name of the learned query, where there is one."""
        return {"attention.query"} if self.pooling == "attention" else set()


class AttentionPooling(nn.Module):
    """Let one learned query look at all tokens, and add an MLP of what it saw.

    Args:
        dim: Width of a token.
        num_heads: Heads, which must divide dim.

    Shape: tokens (batch, tokens, dim) and visible (batch, tokens), False where a token is padding, to (batch, dim).

    Raises:
        ValueError: num_heads does not divide dim.

    Source: Zhai et al., arXiv 2106.04560, section 3.3 (big_vision's MAPHead, timm's AttentionPoolLatent).
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            divisors = ", ".join(str(count) for count in range(1, dim + 1) if dim % count == 0)
            raise ValueError(f"num_heads {num_heads} does not divide dim {dim}; use one of {divisors}")
        self.num_heads = num_heads
        self.query = nn.Parameter(torch.empty(1, 1, dim).normal_(std=dim**-0.5))
        self.to_query = nn.Linear(dim, dim)
        self.to_keys_and_values = nn.Linear(dim, 2 * dim)
        self.projection = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, tokens: Tensor, visible: Tensor | None = None) -> Tensor:
        """Return the pooled vector, (batch, dim)."""
        query = self.to_query(self.query).expand(len(tokens), -1, -1)  # (batch, 1, dim)
        parts = (query, *self.to_keys_and_values(tokens).chunk(2, dim=-1))
        queries, keys, values = (
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in parts
        )  # (batch, heads, tokens, head_dim)
        mask = None if visible is None else visible[:, None, None, :]
        seen = functional.scaled_dot_product_attention(queries, keys, values, mask)
        pooled = self.projection(seen.transpose(1, 2).flatten(1))  # (batch, dim)
        return pooled + self.mlp(self.norm(pooled))


def patch_tokens(tokens: Tensor, grid: Grid, visible: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return tokens and visibility of the patches alone: class token and registers are no part of the image.

    Shape: (batch, tokens, dim) and (batch, tokens) to (batch, patches, dim) and (batch, patches).
    """
    first = grid.num_prefix_tokens
    return tokens[:, first:], None if visible is None else visible[:, first:]


def masked_mean(vectors: Tensor, visible: Tensor | None) -> Tensor:
    """Return the average of the visible vectors along the last axis but one; zeros where none is visible.

    Shape: (..., vectors, dim) and (..., vectors) to (..., dim).
    """
    if visible is None:
        return vectors.mean(dim=-2)
    # where, not a product: padding may hold anything, and 0 * inf is not 0.
    total = torch.where(visible[..., None], vectors, 0).sum(dim=-2)
    return total / visible.sum(dim=-1, keepdim=True).clamp(min=1)
