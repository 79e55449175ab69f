"""A label for each pixel: N tokens to N labels, those of a patch's pixels read off its token by one linear layer.

Strudel et al. (Segmenter), arXiv 2105.05633, section 3.2, "Linear", without its interpolation: the layer labels every
pixel of the patch by itself, as the sub-pixel layer of Shi et al., arXiv 1609.05158, section 2.2, does.
"""

import torch
from torch import Tensor
from torch.nn import functional

from vitlab.attention import Grid
from vitlab.models.heads import Head, patch_tokens


class DenseHead(Head):
    """Normalize each patch's token and map it to class scores for each of the patch's pixels.

    Args:
        dim: Width of a token.
        num_classes: Classes, 1 or more; 0 gives the normalized tokens, (batch, patches, dim).
        patch_size: Side of a patch in pixels; 1 gives one label a token.

    Shape: tokens (batch, tokens, dim) to logits (batch, classes, height, width), in pixels; 0 at pixels of padding.

    Raises:
        ValueError: An argument is out of range.

    Source: Strudel et al., arXiv 2105.05633, section 3.2.
    """

    def __init__(self, dim: int, num_classes: int, patch_size: int = 1) -> None:
        if patch_size < 1:
            raise ValueError(f"patch_size must be 1 or more, got {patch_size}")
        super().__init__(dim, num_classes, out_features=num_classes * patch_size**2)
        self.num_classes = num_classes
        self.patch_size = patch_size

    def forward(self, tokens: Tensor, grid: Grid, visible: Tensor | None = None) -> Tensor:
        """Return the logits of each pixel.

        Shape: (batch, tokens, dim) to (batch, classes, height, width).
        """
        pooled = self.pool(tokens, grid, visible)
        if not self.num_classes:
            return pooled
        scores = self.classifier(pooled)  # (batch, patches, classes * patch_size * patch_size)
        _, shown = patch_tokens(tokens, grid, visible)
        if shown is not None:
            scores = torch.where(shown[..., None], scores, 0)
        # pixel_shuffle reads its channels as (classes, row in the patch, column in the patch).
        scores = scores.transpose(1, 2).unflatten(2, (grid.height, grid.width))  # (batch, ..., rows, columns)
        return functional.pixel_shuffle(scores, self.patch_size)

    def pool(self, tokens: Tensor, grid: Grid, visible: Tensor | None = None) -> Tensor:
        """Return the vectors that the classifier sees, one a patch.

        Shape: (batch, tokens, dim) to (batch, patches, dim).
        """
        return self.norm(patch_tokens(tokens, grid, visible)[0])
