"""Self-attention inside a convolutional net: each place of a feature map gathers from all others, behind a gate.

Zhang et al. (SAGAN), arXiv 1805.08318, section 3; the same idea for classifiers: Wang et al., arXiv 1711.07971.
"""

import torch
from torch import Tensor, nn

from vitlab.attention import Grid, SelfAttention


class SpatialAttention(nn.Module):
    """Add to a feature map what self-attention gathers over its places, times a learned gate that starts at 0.

        y = x + gate * attention(x)

    The net starts as if the block were not there, and learns to look farther as far as that helps. SAGAN narrows
    queries and keys to an eighth of the channels; here they are as wide as the attention makes them.

    Args:
        attention: What gathers; its dim is the number of channels.

    Shape: (batch, dim, rows, columns) to the same.

    Source: Zhang et al., arXiv 1805.08318, equations 1 to 3; gate is its gamma.
    """

    def __init__(self, attention: SelfAttention) -> None:
        super().__init__()
        self.attention = attention
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """Return the features and, behind the gate, what each place gathers."""
        rows, columns = features.shape[-2:]
        tokens = features.flatten(2).transpose(1, 2)  # (batch, rows * columns, dim)
        gathered = self.attention(tokens, Grid(rows, columns))
        gathered = gathered.transpose(1, 2).unflatten(2, (rows, columns))  # (batch, dim, rows, columns)
        return features + self.gate * gathered
