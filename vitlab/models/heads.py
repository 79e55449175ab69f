"""Heads: what becomes of the tokens after the last block; here N tokens to one label.

Class token: Dosovitskiy et al., arXiv 2010.11929, section 3.1. Averaging instead: its appendix D.3, and Beyer et
al., arXiv 2205.01580, section 2.
"""

from typing import Literal, get_args

from torch import Tensor, nn

Pooling = Literal["class_token", "mean", "mean_then_norm"]


class ClassifierHead(nn.Module):
    """Make one vector of a set of tokens, normalize it, and map it to class scores.

    Args:
        dim: Width of a token.
        num_classes: Classes, 1 or more; 0 gives the pooled vector itself.
        pooling: `class_token`: the first token; `mean`: layer norm on each patch's token, then their average;
            `mean_then_norm`: the average, then layer norm (as timm and MAE do).
        num_prefix_tokens: Tokens before the first patch, which averages leave out.

    Shape: tokens (batch, tokens, dim) to logits (batch, classes).

    Raises:
        ValueError: An unknown pooling, or a class token asked for where there is none.
    """

    def __init__(self, dim: int, num_classes: int, pooling: Pooling, num_prefix_tokens: int) -> None:
        super().__init__()
        if pooling not in get_args(Pooling):
            raise ValueError(f"unknown pooling {pooling!r}; use one of {', '.join(get_args(Pooling))}")
        if pooling == "class_token" and num_prefix_tokens < 1:
            raise ValueError("pooling 'class_token' needs a class token, and there are no prefix tokens")
        if num_classes < 0:
            raise ValueError(
                f"num_classes must be 1 or more (or 0 for features without a classifier), got {num_classes}"
            )
        self.pooling = pooling
        self.num_prefix_tokens = num_prefix_tokens
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.classifier = nn.Linear(dim, num_classes) if num_classes else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits.

        Shape: (batch, tokens, dim) to (batch, classes).
        """
        return self.classifier(self.pool(tokens))

    def pool(self, tokens: Tensor) -> Tensor:
        """Return the vector that the classifier sees.

        Shape: (batch, tokens, dim) to (batch, dim).
        """
        if self.pooling == "class_token":
            return self.norm(tokens[:, 0])
        patches = tokens[:, self.num_prefix_tokens :]
        if self.pooling == "mean":
            return self.norm(patches).mean(dim=1)
        return self.norm(patches.mean(dim=1))
