"""Self-attention = score x normalizer x pattern x position (Vaswani et al., arXiv 1706.03762, section 3.2).

Each token asks (query), is asked (key) and answers (value). Of several ways to compute the same thing, `SelfAttention`
takes the cheapest that its four parts allow: sums of features (linear attention), tiles (windows), PyTorch's fused
kernel, which never holds the weights, and else step by step, as it does for whoever wants to see the weights.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vitlab.attention.combinations import Parts
from vitlab.attention.gathering import attention_weights, gather, gather_plainly
from vitlab.attention.grid import Grid
from vitlab.attention.linear import gather_causally, gather_linearly
from vitlab.attention.normalizers import Normalizer, Softmax
from vitlab.attention.patterns import All, Causal, Pattern
from vitlab.attention.positions import NoPosition, Position, RelativePosition
from vitlab.attention.scores import ScaledDotProduct, Score
from vitlab.attention.tiled import TileLayout, gather_in_tiles, lay_tiles

_MAX_LAYOUTS = 8


class SelfAttention(nn.Module):
    """Multi-head self-attention whose four parts are switches.

    Args:
        dim: Width of a token, a multiple of num_heads.
        num_heads: Heads that look independently, each dim / num_heads wide.
        score: How alike a query and a key are, or what makes it from (num_heads, head_dim); None: scaled dot product.
        normalizer: How scores become weights; None: softmax.
        pattern: Who may look at whom; None: all at all.
        position: Where tokens sit, as this layer sees it (relative positions), or what makes it from
            (num_heads, head_dim); None: no position.
        qkv_bias: Whether queries, keys and values have a bias.
        qk_norm: Whether queries and keys are layer-normalized per head, which keeps large models stable
            (Dehghani et al., arXiv 2302.05442, section 2).
        dropout: Share of the weights dropped in training, 0 to below 1; 0 with a proportional normalizer.

    Shape: tokens (batch, tokens, dim) to the same.

    Raises:
        ValueError: num_heads does not divide dim, parts that do not go together, or the number of tokens is not the
            grid's.

    Source: Vaswani et al., arXiv 1706.03762, section 3.2.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        score: Score | Callable[[int, int], Score] | None = None,
        normalizer: Normalizer | None = None,
        pattern: Pattern | None = None,
        position: Position | Callable[[int, int], Position] | None = None,
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
        self.score = self._made(score) or ScaledDotProduct()
        self.normalizer = normalizer or Softmax()
        self.pattern = pattern or All()
        self.position = self._made(position) or NoPosition()
        self.parts.check()
        if dropout and self.normalizer.is_proportional:
            raise ValueError(
                f"dropout {dropout} drops single weights, and {type(self.normalizer).__name__} never forms them; use "
                "dropout 0 here (a ViTShape has a dropout of its own, after the layer)"
            )

        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.query_norm = nn.LayerNorm(self.head_dim, eps=1e-6) if qk_norm else nn.Identity()
        self.key_norm = nn.LayerNorm(self.head_dim, eps=1e-6) if qk_norm else nn.Identity()
        self.projection = nn.Linear(dim, dim)
        self._layouts: dict[tuple[Grid, torch.device], tuple[Pattern, Position, TileLayout | None]] = {}
        self._force_plain = False  # tests set it, to compare the ways of computing

    @property
    def parts(self) -> Parts:
        """The four choices."""
        return Parts(self.score, self.normalizer, self.pattern, self.position)

    def set_grid(self, grid: Grid) -> None:
        """Tell the position which grid the model is made for, before training starts."""
        self.position.set_grid(grid)

    def forward(self, tokens: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """Let every token gather from those it may look at.

        Args:
            tokens: (batch, tokens, dim).
            grid: The tokens' layout.
            mask: True where a token may look, beside what the pattern says: (batch, 1, 1, tokens) hides padding,
                (batch, 1, tokens, tokens) gives each sample a graph of its own; None: the pattern alone.

        Shape: (batch, tokens, dim) to the same.
        """
        queries, keys, values = self._queries_keys_values(tokens, grid, mask)
        dropout = self.dropout if self.training else 0.0
        gathered = None if self._force_plain else self._gather_cheaply(queries, keys, values, grid, mask)
        if gathered is None:
            how = gather_plainly if self._force_plain else gather
            mask, bias = self._combined_mask(grid, mask, tokens.device), self.position.on_scores(grid)
            gathered = how(queries, keys, values, self.parts, mask, bias, dropout)
        return self.projection(gathered.transpose(1, 2).flatten(2))  # (batch, tokens, dim)

    def weights(self, tokens: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """Return how much each token takes from each other, before any dropout.

        Args:
            tokens: (batch, tokens, dim).
            grid: The tokens' layout.
            mask: As in forward.

        Shape: (batch, tokens, dim) to (batch, heads, tokens, tokens); rows are the tokens that look.
        """
        queries, keys, _ = self._queries_keys_values(tokens, grid, mask)
        mask, bias = self._combined_mask(grid, mask, tokens.device), self.position.on_scores(grid)
        return attention_weights(queries, keys, self.parts, mask, bias)

    def gather_by(self, weights: Tensor, tokens: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """Return what forward gives if each token takes from each other as these weights say.

        Args:
            weights: (batch, heads, tokens, tokens).
            tokens: (batch, tokens, dim); their values are what is taken.
            grid: The tokens' layout.
            mask: As in forward.

        Shape: (batch, tokens, dim).
        """
        _, _, values = self._queries_keys_values(tokens, grid, mask)
        return self.projection((weights @ values).transpose(1, 2).flatten(2))

    def _made(self, part: nn.Module | Callable[[int, int], nn.Module] | None) -> nn.Module | None:
        return part if part is None or isinstance(part, nn.Module) else part(self.num_heads, self.head_dim)

    def _queries_keys_values(self, tokens: Tensor, grid: Grid, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        if tokens.shape[1] != grid.num_tokens:
            raise ValueError(f"{tokens.shape[1]} tokens do not fill {grid}, which has {grid.num_tokens}")
        if mask is not None:
            tokens = self._checked(tokens, grid, mask)
        qkv = self.qkv(self.position.on_tokens(tokens, grid))
        qkv = qkv.unflatten(2, (3, self.num_heads, self.head_dim))  # (batch, tokens, 3, heads, head_dim)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (batch, heads, tokens, head_dim)
        queries, keys = self.query_norm(queries), self.key_norm(keys)
        return *self.position.on_queries_and_keys(queries, keys, grid), values

    def _checked(self, tokens: Tensor, grid: Grid, mask: Tensor) -> Tensor:
        """Refuse masks of another shape, and positions and patterns that padding would change; blank the padding."""
        shapes = [(len(tokens), 1, queries, grid.num_tokens) for queries in (1, grid.num_tokens)]
        if tuple(mask.shape) not in shapes or mask.dtype != torch.bool:
            raise ValueError(f"mask must be of bool, {shapes[0]} or {shapes[1]}, got {mask.dtype} {tuple(mask.shape)}")
        if not _is_padding(mask):
            return tokens
        for part in (self.pattern, self.position):
            if not part.is_same_on_canvas:
                raise ValueError(
                    f"{type(part).__name__} depends on the size of the grid, so padding would change what an image "
                    "sees; give it images of one size, or choose a part that follows from places alone"
                )
        # A position that mixes neighbors (a convolution) must find zeros there, as it does beyond the border.
        return tokens.masked_fill(~mask[:, 0, 0, :, None], 0.0)

    def _combined_mask(self, grid: Grid, mask: Tensor | None, device: torch.device) -> Tensor | None:
        pattern = self.pattern.mask(grid, device)
        if pattern is None or mask is None:
            return mask if pattern is None else pattern
        return pattern & mask

    def _gather_cheaply(
        self, queries: Tensor, keys: Tensor, values: Tensor, grid: Grid, mask: Tensor | None
    ) -> Tensor | None:
        """Return what tokens gather at a cost that grows with what they look at, or None where no way is known."""
        if mask is not None and not _is_padding(mask):
            return None
        visible = None if mask is None else mask[:, 0, 0]  # (batch, tokens)
        features = self.score.features(queries, keys) if self.normalizer.is_proportional else None
        if features is not None and isinstance(self.pattern, All):
            return gather_linearly(*features, values, visible)
        if features is not None and isinstance(self.pattern, Causal):
            return gather_causally(*features, values, grid.num_prefix_tokens, visible)
        # Where all look at all there is nothing to lay out, and a compiled model need not ask whether it was done.
        layout = None if isinstance(self.pattern, All) else self._layout(grid, queries.device)
        if layout is None:
            return None
        return gather_in_tiles(
            queries, keys, values, self.parts, layout, visible, self.dropout if self.training else 0.0
        )

    def _layout(self, grid: Grid, device: torch.device) -> TileLayout | None:
        """Return the tiles of the pattern on this grid, made once; None where it has none that help."""
        made_for = self._layouts.get((grid, device))
        if made_for is not None and made_for[0] is self.pattern and made_for[1] is self.position:
            return made_for[2]
        tiling = self.pattern.tiling(grid)
        if self.position.adds_to_scores and not isinstance(self.position, RelativePosition):
            tiling = None  # what it adds is known for all pairs only
        layout = None if tiling is None else lay_tiles(self.pattern, self.position, tiling, grid, device)
        if len(self._layouts) >= _MAX_LAYOUTS:  # images of many sizes must not fill the memory
            self._layouts.clear()
        self._layouts[grid, device] = (self.pattern, self.position, layout)
        return layout

    def __getstate__(self) -> dict[str, Any]:
        """Leave the layouts out of copies and files: they follow from the parts, and lie on one device."""
        return {**self.__dict__, "_layouts": {}}


def _is_padding(mask: Tensor) -> bool:
    """Whether a mask hides the same keys from all heads and all tokens that look."""
    return mask.shape[2] == 1
