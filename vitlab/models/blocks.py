"""The Transformer block: tokens talk to each other (attention), then each thinks for itself (MLP).

Pre-norm with residual connections, as in Dosovitskiy et al., arXiv 2010.11929, equations 2 and 3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.attention import Grid, SelfAttention


class Mlp(nn.Module):
    """Two linear layers with a GELU between, the same for every token.

    Args:
        dim: Width of a token.
        hidden_dim: Width between the two layers.
        dropout: Share of the numbers dropped after each layer in training, 0 to below 1.

    Shape: (batch, tokens, dim) to the same.
    """

    def __init__(self, dim: int, hidden_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden_dim)
        self.contract = nn.Linear(hidden_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map each token by itself."""
        hidden = self.dropout(F.gelu(self.expand(tokens)))  # (batch, tokens, hidden_dim)
        return self.dropout(self.contract(hidden))


class LayerScale(nn.Module):
    """Multiply each channel by a learned number that starts small, so that a deep stack starts near the identity.

    Args:
        dim: Width of a token.
        start: What the numbers start from, such as 1e-5.

    Source: Touvron et al. (CaiT), arXiv 2103.17239, section 2.1.
    """

    def __init__(self, dim: int, start: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((dim,), start))

    def forward(self, tokens: Tensor) -> Tensor:
        """Scale the channels."""
        return tokens * self.gain


class Block(nn.Module):
    """Attention, then an MLP; each reads normalized tokens and adds what it found to the tokens.

    Args:
        dim: Width of a token.
        attention: The block's own self-attention.
        mlp_dim: Width inside the MLP.
        layer_scale: Start of LayerScale's gains; None: no LayerScale.
        dropout: Share of the numbers dropped after each linear layer in training, 0 to below 1.
        drop_path: Chance that an image skips a branch in training, 0 to below 1
            (stochastic depth, Huang et al., arXiv 1603.09382).

    Shape: (batch, tokens, dim) to the same.

    Source: Dosovitskiy et al., arXiv 2010.11929, equations 2 and 3.
    """

    def __init__(
        self,
        dim: int,
        attention: SelfAttention,
        mlp_dim: int,
        layer_scale: float | None = None,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim, eps=1e-6)
        self.attention = attention
        self.attention_branch = _branch_end(dim, layer_scale, dropout, drop_path)
        self.mlp_norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, mlp_dim, dropout)
        self.mlp_branch = _branch_end(dim, layer_scale, 0.0, drop_path)  # the MLP drops its own output

    def forward(self, tokens: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """Pass the tokens through both branches.

        Args:
            tokens: (batch, tokens, dim).
            grid: The tokens' layout.
            mask: As SelfAttention takes it, such as (batch, 1, 1, tokens) with False for padding; None: no padding.

        Shape: (batch, tokens, dim) to the same.
        """
        tokens = tokens + self.attention_branch(self.attention(self.attention_norm(tokens), grid, mask))
        return tokens + self.mlp_branch(self.mlp(self.mlp_norm(tokens)))


def _branch_end(dim: int, layer_scale: float | None, dropout: float, drop_path: float) -> nn.Sequential:
    """Collect what happens to a branch before it is added: only the parts in use, so that none costs nothing."""
    parts: dict[str, nn.Module] = {}
    if dropout:
        parts["dropout"] = nn.Dropout(dropout)
    if layer_scale is not None:
        parts["layer_scale"] = LayerScale(dim, layer_scale)
    if drop_path:
        from timm.layers import DropPath  # here, because importing timm takes seconds

        parts["drop_path"] = DropPath(drop_path)
    branch = nn.Sequential()
    for name, part in parts.items():
        branch.add_module(name, part)
    return branch
