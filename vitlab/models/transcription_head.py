"""A sequence of labels whose length the model decides: N tokens to N' labels, by way of CTC.

Each column of patches votes for one label or for "nothing new here" (the blank); runs of equal votes count once, and
blanks vanish (Graves et al., Connectionist Temporal Classification, ICML 2006, section 3). One step a column: Shi et
al. (CRNN), arXiv 1507.05717, section 2.1.
"""

import torch
from torch import Tensor

from vitlab.attention import Grid
from vitlab.models.heads import Head, masked_mean, patch_tokens

# Large enough that exp(-x) is 0, small enough for half precision; an infinity would make gradients NaN.
_NEVER = 1e4


class TranscriptionHead(Head):
    """Average the tokens of each column of patches and map it to scores of all classes and the blank.

    Args:
        dim: Width of a token.
        num_classes: Classes, 1 or more, the blank not counted; 0 gives the columns' vectors, (batch, columns, dim).
        patch_size: Not used; every head is called with it.

    Shape: tokens (batch, tokens, dim) to logits (batch, columns, classes + 1), from left to right; the last class is
        the blank, and a column of padding says nothing but blank.

    Raises:
        ValueError: An argument is out of range.

    Source: Shi et al., arXiv 1507.05717, section 2; the blank: Graves et al., ICML 2006, section 3.1.
    """

    def __init__(self, dim: int, num_classes: int, patch_size: int = 1) -> None:
        super().__init__(dim, num_classes, out_features=num_classes + 1)
        self.num_classes = num_classes

    def forward(self, tokens: Tensor, grid: Grid, visible: Tensor | None = None) -> Tensor:
        """Return the logits of each column.

        Shape: (batch, tokens, dim) to (batch, columns, classes + 1).
        """
        logits = self.classifier(self.pool(tokens, grid, visible))
        if visible is None or not self.num_classes:
            return logits
        silent = torch.full_like(logits[:1, :1], -_NEVER)
        silent[..., -1] = 0
        return torch.where(self._by_column(tokens, grid, visible)[1].any(dim=2, keepdim=True), logits, silent)

    def pool(self, tokens: Tensor, grid: Grid, visible: Tensor | None = None) -> Tensor:
        """Return the vectors that the classifier sees, one a column of patches.

        Shape: (batch, tokens, dim) to (batch, columns, dim).
        """
        columns, visible = self._by_column(self.norm(tokens), grid, visible)
        return masked_mean(columns, visible)

    def _by_column(self, tokens: Tensor, grid: Grid, visible: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return tokens and visibility as (batch, columns, rows, dim) and (batch, columns, rows)."""
        patches, visible = patch_tokens(tokens, grid, visible)
        shape = (grid.height, grid.width)
        patches = patches.unflatten(1, shape).transpose(1, 2)  # (batch, columns, rows, dim)
        return patches, None if visible is None else visible.unflatten(1, shape).transpose(1, 2)
