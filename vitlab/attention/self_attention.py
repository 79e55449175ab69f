"""Self-attention = score x normalizer x pattern x position (Vaswani et al., arXiv 1706.03762, section 3.2).

Each token asks (query), is asked (key) and answers (value). PyTorch's fused kernel computes the common case without
ever holding the weights; `SelfAttention` uses it by itself wherever the four parts allow, and computes the same thing
step by step where they do not, or where someone wants to see the weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.attention.grid import Grid
from vitlab.attention.normalizers import Normalizer, Softmax
from vitlab.attention.patterns import All, Pattern
from vitlab.attention.positions import NoPosition, Position
from vitlab.attention.scores import ScaledDotProduct, Score


class SelfAttention(nn.Module):
    """Multi-head self-attention whose four parts are switches.

    Args:
        dim: Width of a token, a multiple of num_heads.
        num_heads: Heads that look independently, each dim / num_heads wide.
        score: How alike a query and a key are; None: scaled dot product.
        normalizer: How scores become weights; None: softmax.
        pattern: Who may look at whom; None: all at all.
        position: Where tokens sit, as this layer sees it (relative positions); None: no position.
        qkv_bias: Whether queries, keys and values have a bias.
        qk_norm: Whether queries and keys are layer-normalized per head, which keeps large models stable
            (Dehghani et al., arXiv 2302.05442, section 2).
        dropout: Share of the weights dropped in training, 0 to below 1.

    Shape: tokens (batch, tokens, dim) to the same.

    Raises:
        ValueError: num_heads does not divide dim, or the number of tokens is not the grid's.

    Source: Vaswani et al., arXiv 1706.03762, section 3.2.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        score: Score | None = None,
        normalizer: Normalizer | None = None,
        pattern: Pattern | None = None,
        position: Position | None = None,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if num_heads < 1 or dim < 1 or dim % num_heads:
            divisors = ", ".join(str(heads) for heads in range(1, dim + 1) if dim % heads == 0)
            raise ValueError(f"num_heads {num_heads} does not divide dim {dim}; use one of {divisors}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.dropout = dropout
        self.score = score or ScaledDotProduct()
        self.normalizer = normalizer or Softmax()
        self.pattern = pattern or All()
        self.position = position or NoPosition()

        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.query_norm = nn.LayerNorm(self.head_dim, eps=1e-6) if qk_norm else nn.Identity()
        self.key_norm = nn.LayerNorm(self.head_dim, eps=1e-6) if qk_norm else nn.Identity()
        self.projection = nn.Linear(dim, dim)
        self._force_plain = False  # tests set it, to compare the two ways of computing

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Let every token gather from those it may look at.

        Shape: (batch, tokens, dim) to the same.
        """
        queries, keys, values = self._queries_keys_values(tokens, grid)
        gathered = self._gather_fused(queries, keys, values, grid)
        if gathered is None:
            weights = F.dropout(self._weights(queries, keys, grid), self.dropout, self.training)
            gathered = weights @ values  # (batch, heads, tokens, head_dim)
        return self.projection(gathered.transpose(1, 2).flatten(2))  # (batch, tokens, dim)

    def weights(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Return how much each token takes from each other, before any dropout.

        Shape: (batch, tokens, dim) to (batch, heads, tokens, tokens); rows are the tokens that look.
        """
        queries, keys, _ = self._queries_keys_values(tokens, grid)
        return self._weights(queries, keys, grid)

    def _queries_keys_values(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
        if tokens.shape[1] != grid.num_tokens:
            raise ValueError(f"{tokens.shape[1]} tokens do not fill {grid}, which has {grid.num_tokens}")
        qkv = self.qkv(self.position.on_tokens(tokens, grid))
        qkv = qkv.unflatten(2, (3, self.num_heads, self.head_dim))  # (batch, tokens, 3, heads, head_dim)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (batch, heads, tokens, head_dim)
        queries, keys = self.query_norm(queries), self.key_norm(keys)
        return *self.position.on_queries_and_keys(queries, keys, grid), values

    def _weights(self, queries: Tensor, keys: Tensor, grid: Grid) -> Tensor:
        scores = self.score(queries, keys)  # (batch, heads, tokens, tokens)
        bias = self.position.on_scores(grid)
        if bias is not None:
            scores = scores + bias
        return self.normalizer(scores, self.pattern.mask(grid, scores.device))

    def _gather_fused(self, queries: Tensor, keys: Tensor, values: Tensor, grid: Grid) -> Tensor | None:
        """Return what the fused kernel gathers, or None where it cannot compute this choice of parts."""
        if self._force_plain or not self.normalizer.fused:
            return None
        rewritten = self.score.as_dot_product(queries, keys)
        if rewritten is None:
            return None
        queries, keys, scale = rewritten
        mask = self.pattern.mask(grid, queries.device)
        bias = self.position.on_scores(grid)
        if bias is not None:
            # The kernel takes one mask: hidden pairs become -inf in the bias; a row of nothing else gives zeros.
            bias = bias.to(queries.dtype)
            mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(queries, keys, values, mask, dropout_p=dropout, scale=scale)
