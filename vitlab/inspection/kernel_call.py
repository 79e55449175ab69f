"""One call of the fused attention kernel, computed once more with its weights in view, piece by piece.

softmax(scale * queries @ keys^T + mask) is what the kernel forms without keeping it (Dao et al., arXiv 2205.14135,
section 2.2); a few samples at a time go straight into the tensor that is kept, so that nothing else grows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 1e-4  # of weights @ values against what came out, in float32
_LOW_PRECISION_TOLERANCE = 3e-2  # of outputs that are rounded to 8 or 11 bits
_PIECE_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Selection:
    """What of a layer's weights is kept.

    Args:
        heads: Numbers of heads; None: all.
        queries: Numbers of tokens that look; None: all.
        dtype: What to store; None: what the model computes in.
        device: Where to store; None: where the model is.
    """

    heads: Sequence[int] | None = None
    queries: Sequence[int] | None = None
    dtype: torch.dtype | None = None
    device: torch.device | str | None = None

    def check(self, num_heads: int, num_queries: int, layer: str) -> None:
        """Refuse heads and queries that a layer does not have.

        Raises:
            ValueError: One is not there.
        """
        for word, chosen, count in (("head", self.heads, num_heads), ("query", self.queries, num_queries)):
            wrong = [number for number in chosen or () if not 0 <= number < count]
            if wrong:
                raise ValueError(f"layer {layer or 'of the model'} has no {word} {wrong[0]}; use 0 to {count - 1}")

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return the chosen heads and queries of (batch, heads, queries, ...)."""
        rows = rows if self.heads is None else rows[:, list(self.heads)]
        return rows if self.queries is None else rows[:, :, list(self.queries)]

    def of_heads(self, tensor: Tensor) -> Tensor:
        """Return the chosen heads of (batch, heads, ...)."""
        return tensor if self.heads is None else tensor[:, list(self.heads)]

    def stored(self, weights: Tensor) -> Tensor:
        """Return the chosen weights as they are to be kept."""
        return self.of_rows(weights).to(device=self.device or weights.device, dtype=self.dtype or weights.dtype)


@dataclass(frozen=True)
class KernelCall:
    """The arguments of one torch.nn.functional.scaled_dot_product_attention.

    Args:
        queries: (batch, heads, queries, head_dim).
        keys: (batch, heads, keys, head_dim).
        values: (batch, heads, keys, head_dim).
        mask: True = may look, or numbers to add; broadcasts to (batch, heads, queries, keys); None: nothing.
        dropout: Share of the weights dropped.
        scale: Factor on the scores.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    mask: Tensor | None
    dropout: float
    scale: float

    @classmethod
    def of(
        cls,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> "KernelCall":
        """Return the call with defaults filled in; arguments are named as torch names them."""
        if enable_gqa:
            repeats = query.shape[-3] // key.shape[-3]
            key, value = (tensor.repeat_interleave(repeats, dim=-3) for tensor in (key, value))
        if is_causal:
            attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        return cls(query, key, value, attn_mask, dropout_p, query.shape[-1] ** -0.5 if scale is None else scale)

    @property
    def is_self_attention(self) -> bool:
        """Whether as many tokens look as are looked at, in heads of several samples."""
        return self.queries.ndim == 4 and self.queries.shape[-2] == self.keys.shape[-2]

    def weights(self, selection: Selection, output: Tensor, layer: str) -> Tensor:
        """Return the chosen weights, checked against what the kernel gave.

        Args:
            selection: Which heads and queries, and how they are stored.
            output: What the kernel gave, (batch, heads, queries, head_dim).
            layer: The layer's name, for the error.

        Shape: (batch, chosen heads, chosen queries, keys).

        Raises:
            ValueError: Weights times values are not the output.
        """
        refuse_dropout(self.dropout, layer)
        queries, expected = selection.of_rows(self.queries), selection.of_rows(output)
        keys, values = selection.of_heads(self.keys), selection.of_heads(self.values)
        mask = self._chosen_mask(selection)
        batch, heads, num_queries, _ = queries.shape
        kept = torch.empty(
            (batch, heads, num_queries, keys.shape[-2]),
            dtype=selection.dtype or queries.dtype,
            device=selection.device or queries.device,
        )
        row_bytes = max(1, heads * num_queries * keys.shape[-2] * queries.element_size())
        step = max(1, _PIECE_BYTES // row_bytes)
        for start in range(0, batch, step):
            piece = slice(start, min(start + step, batch))
            weights = self._softmax(
                queries[piece], keys[piece], mask if mask is None or len(mask) == 1 else mask[piece]
            )
            check_outputs(weights @ values[piece], expected[piece], layer)
            kept[piece] = weights
        return kept

    def differentiable_weights(self, layer: str) -> Tensor:
        """Return all weights as part of the graph that autograd follows, (batch, heads, queries, keys)."""
        refuse_dropout(self.dropout, layer)
        mask = self._chosen_mask(Selection())
        return self._softmax(self.queries, self.keys, mask)

    def _softmax(self, queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        scores = (queries * self.scale) @ keys.transpose(-2, -1)
        if mask is None:
            return scores.softmax(dim=-1)
        hidden = ~mask if mask.dtype == torch.bool else mask == -torch.inf
        if mask.dtype != torch.bool:
            scores = scores + mask
        # A row with nobody to look at gathers zeros, and its gradient is no NaN: see vitlab.attention.Softmax.
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        return scores.softmax(dim=-1).masked_fill(hidden, 0.0)

    def _chosen_mask(self, selection: Selection) -> Tensor | None:
        if self.mask is None:
            return None
        mask = self.mask[(None,) * (4 - self.mask.ndim)]
        if selection.heads is not None and mask.shape[1] > 1:
            mask = selection.of_heads(mask)
        if selection.queries is not None and mask.shape[2] > 1:
            mask = mask[:, :, list(selection.queries)]
        return mask


def refuse_dropout(dropout: float, layer: str) -> None:
    """Refuse a layer that drops weights.

    Args:
        dropout: The share that it drops.
        layer: The layer's name, for the error.

    Raises:
        ValueError: It drops some.
    """
    if dropout:
        raise ValueError(
            f"layer {layer} drops {dropout:.0%} of its weights at random, so no weights give its output; call "
            "model.eval() before the capture"
        )


def check_outputs(found: Tensor, expected: Tensor, layer: str) -> None:
    """Refuse weights that do not give what the layer gave.

    Args:
        found: What the weights give.
        expected: What the layer gave, of the same shape.
        layer: The layer's name, for the error.

    Raises:
        ValueError: They differ.
    """
    tolerance = TOLERANCE if expected.dtype in (torch.float32, torch.float64) else _LOW_PRECISION_TOLERANCE
    error = (found.float() - expected.float()).abs().max().item() if expected.numel() else 0.0
    limit = tolerance * max(1.0, expected.abs().max().item() if expected.numel() else 0.0)
    if not error <= limit:
        raise ValueError(
            f"the weights that were recomputed for layer {layer} times its values miss its output by {error:.1e}, more "
            f"than {limit:.0e}: this attention is not a softmax of scaled dot products, and its weights are not known"
        )
