"""Gathering: what each query takes from the keys it may look at, by the fused kernel or step by step.

PyTorch's fused kernel never holds the weights; it knows softmax of a scaled dot product, with one mask (Dao et al.,
FlashAttention, arXiv 2205.14135).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.attention.combinations import Parts


def attention_weights(queries: Tensor, keys: Tensor, parts: Parts, mask: Tensor | None, bias: Tensor | None) -> Tensor:
    """Return how much each query takes from each key.

    Args:
        queries: (batch, heads, queries, head_dim), or with tiles between heads and queries; so all that follows.
        keys: (batch, heads, keys, head_dim).
        parts: The score and the normalizer are used here.
        mask: True where a query may look at a key; None: everywhere.
        bias: Added to the scores; None: nothing. Mask and bias broadcast to the weights.

    Shape: (batch, heads, queries, keys).
    """
    scores = parts.score(queries, keys)
    return parts.normalizer(scores if bias is None else scores + bias, mask)


def gather(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    parts: Parts,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Return what each query gathers: fused where the parts allow, step by step where they do not.

    Args:
        queries: (batch, heads, queries, head_dim), or with tiles between heads and queries; so all that follows.
        keys: (batch, heads, keys, head_dim).
        values: (batch, heads, keys, head_dim).
        parts: The score and the normalizer are used here.
        mask: True where a query may look at a key; None: everywhere.
        bias: Added to the scores; None: nothing. Mask and bias broadcast to (batch, heads, queries, keys).
        dropout: Share of the weights dropped.

    Shape: (batch, heads, queries, head_dim).
    """
    gathered = gather_fused(queries, keys, values, parts, mask, bias, dropout)
    return gather_plainly(queries, keys, values, parts, mask, bias, dropout) if gathered is None else gathered


def gather_plainly(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    parts: Parts,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Return what each query gathers, step by step: scores, weights, weighted sum. Arguments and shape as gather."""
    weights = attention_weights(queries, keys, parts, mask, bias)
    return F.dropout(weights, dropout, dropout > 0) @ values


def gather_fused(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    parts: Parts,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor | None:
    """Return what the fused kernel gathers, or None where it cannot compute this choice of parts.

    Arguments and shape as gather.
    """
    rewritten = parts.score.as_dot_product(queries, keys) if parts.normalizer.fused else None
    if rewritten is None:
        return None
    queries, keys, scale = rewritten
    if parts.normalizer.num_sinks:
        keys, values, mask, bias = _with_sinks(parts.normalizer.num_sinks, keys, values, mask, bias)
    if bias is not None:
        # The kernel takes one mask: hidden pairs become -inf in the bias; a row of nothing else gives zeros.
        bias = bias.to(queries.dtype)
        mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
    axes = queries.shape[:-2]  # batch, heads and, perhaps, tiles
    if len(axes) > 2:
        queries, keys, values, mask = _fold_tiles(queries, keys, values, mask)
    gathered = F.scaled_dot_product_attention(queries, keys, values, mask, dropout_p=dropout, scale=scale)
    return gathered.reshape(*axes, *gathered.shape[-2:])


def _with_sinks(
    num_sinks: int, keys: Tensor, values: Tensor, mask: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Append keys and values of zeros, which everybody may look at."""
    if mask is not None:
        mask = F.pad(mask.expand(*mask.shape[:-1], keys.shape[-2]), (0, num_sinks), value=True)
    if bias is not None:
        bias = F.pad(bias.expand(*bias.shape[:-1], keys.shape[-2]), (0, num_sinks))
    keys, values = (F.pad(tensor, (0, 0, 0, num_sinks)) for tensor in (keys, values))
    return keys, values, mask, bias


def _fold_tiles(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Fold (batch, heads, tiles) into the two axes that the kernel knows, so that the mask is not copied in vain."""
    _, num_heads, num_tiles, *_ = queries.shape
    if mask is not None:
        mask = mask[(None,) * (queries.ndim - mask.ndim)]
    if mask is None or mask.shape[:2] == (1, 1):  # the same for all samples and heads: fold these
        queries, keys, values = (tensor.flatten(0, 1) for tensor in (queries, keys, values))
        return queries, keys, values, None if mask is None else mask[0]
    queries, keys, values = (tensor.flatten(1, 2) for tensor in (queries, keys, values))
    return queries, keys, values, mask.expand(-1, num_heads, num_tiles, -1, -1).flatten(1, 2)
