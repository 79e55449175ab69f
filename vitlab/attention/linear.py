"""Linear attention: weights that are products of features need never be formed, and the causal form is an RNN.

sum_j phi(q_i).phi(k_j) v_j = phi(q_i) (sum_j phi(k_j) v_j^T): the sum is made once for all queries, or grows token by
token as an RNN's state does. Katharopoulos et al., arXiv 2006.16236, sections 3.2 and 3.4.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64  # tokens in a piece of the causal form: within it pairs are formed, across it only sums


class LinearState(NamedTuple):
    """What a causal linear attention remembers of all tokens so far.

    Args:
        sums: The sum of phi(k) v^T, (batch, heads, features, head_dim).
        norm: The sum of phi(k), (batch, heads, features).
    """

    sums: Tensor
    norm: Tensor


def empty_state(batch: int, num_heads: int, num_features: int, head_dim: int, like: Tensor) -> LinearState:
    """Return the state before the first token.

    Args:
        batch: Sequences.
        num_heads: Heads of the attention.
        num_features: Features of a key.
        head_dim: Width of a value.
        like: A tensor of the tokens' type and device; the sums are float32 at least.
    """
    dtype = _wide(like.dtype)
    sums = like.new_zeros(batch, num_heads, num_features, head_dim, dtype=dtype)
    return LinearState(sums, like.new_zeros(batch, num_heads, num_features, dtype=dtype))


def linear_step(state: LinearState, query: Tensor, key: Tensor, value: Tensor) -> tuple[LinearState, Tensor]:
    """Take in one token and return what it gathers from all so far, itself included; time and memory do not grow.

    Args:
        state: What was remembered before.
        query: phi(q) of this token, (batch, heads, features).
        key: phi(k) of this token, (batch, heads, features).
        value: (batch, heads, head_dim).

    Returns:
        The new state, and what the token gathers, (batch, heads, head_dim).

    Source: Katharopoulos et al., arXiv 2006.16236, equations 16 to 20.
    """
    dtype = value.dtype
    with _without_autocast(value):
        query, key, value = (tensor.to(state.norm.dtype) for tensor in (query, key, value))
        state = LinearState(state.sums + key.unsqueeze(-1) * value.unsqueeze(-2), state.norm + key)
        gathered = (query.unsqueeze(-2) @ state.sums).squeeze(-2)  # (batch, heads, head_dim)
        gathered = gathered / _not_zero((query * state.norm).sum(dim=-1, keepdim=True))
    return state, gathered.to(dtype)


def gather_linearly(queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None = None) -> Tensor:
    """Return what each query gathers from all keys, in time and memory linear in the tokens.

    Args:
        queries: phi(q), (batch, heads, tokens, features).
        keys: phi(k), (batch, heads, tokens, features).
        values: (batch, heads, tokens, head_dim).
        visible: False for padding, (batch, tokens); None: no padding.

    Shape: (batch, heads, tokens, head_dim).

    Source: Katharopoulos et al., arXiv 2006.16236, equation 5.
    """
    dtype = values.dtype
    with _without_autocast(values):
        queries, keys, values = (tensor.to(_wide(dtype)) for tensor in (queries, keys, values))
        keys = _without_padding(keys, visible)
        sums = keys.transpose(-2, -1) @ _with_one(values)  # (batch, heads, features, head_dim + 1)
        return _divided(queries @ sums).to(dtype)


def gather_causally(
    queries: Tensor, keys: Tensor, values: Tensor, num_open: int = 0, visible: Tensor | None = None
) -> Tensor:
    """Return what each query gathers from its own and earlier keys, all tokens at once; equal to linear_step in turn.

    Args:
        queries: phi(q), (batch, heads, tokens, features).
        keys: phi(k), (batch, heads, tokens, features).
        values: (batch, heads, tokens, head_dim).
        num_open: How many tokens at the start all see each other (class token, registers).
        visible: False for padding, (batch, tokens); None: no padding.

    Shape: (batch, heads, tokens, head_dim).

    Source: Katharopoulos et al., arXiv 2006.16236, equation 8; in chunks: Hua et al., arXiv 2202.10447, section 3.3.
    """
    dtype = values.dtype
    with _without_autocast(values):
        queries, keys, values = (tensor.to(_wide(dtype)) for tensor in (queries, keys, values))
        keys, values = _without_padding(keys, visible), _with_one(values)
        return _divided(_in_chunks(queries, keys, values, num_open)).to(dtype)


def _in_chunks(queries: Tensor, keys: Tensor, values: Tensor, num_open: int) -> Tensor:
    """Return the causal sums, pairs within a chunk and sums across: (batch, heads, tokens, width of values)."""
    num_tokens = keys.shape[-2] - num_open
    start = keys[..., :num_open, :].transpose(-2, -1) @ values[..., :num_open, :]  # (batch, heads, features, width)
    chunks = [
        F.pad(tensor[..., num_open:, :], (0, 0, 0, -num_tokens % CHUNK)).unflatten(-2, (-1, CHUNK))
        for tensor in (queries, keys, values)
    ]
    chunk_queries, chunk_keys, chunk_values = chunks  # (batch, heads, chunks, CHUNK, features or width)
    sums = chunk_keys.transpose(-2, -1) @ chunk_values
    before = sums.cumsum(dim=-3) - sums + start.unsqueeze(-3)  # what each chunk finds there
    within = (chunk_queries @ chunk_keys.transpose(-2, -1)).tril()  # (batch, heads, chunks, CHUNK, CHUNK)
    gathered = (chunk_queries @ before + within @ chunk_values).flatten(-3, -2)[..., :num_tokens, :]
    if num_open:
        gathered = torch.cat([queries[..., :num_open, :] @ start, gathered], dim=-2)
    return gathered


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Sums over all tokens pass float16's largest number, and bfloat16 forgets the small ones: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def _without_autocast(tensor: Tensor) -> AbstractContextManager:
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _with_one(values: Tensor) -> Tensor:
    """Append a 1 to each value: what it sums up to is the sum of the weights."""
    return F.pad(values, (0, 1), value=1.0)


def _divided(gathered: Tensor) -> Tensor:
    return gathered[..., :-1] / _not_zero(gathered[..., -1:])


def _not_zero(total: Tensor) -> Tensor:
    """A sum of zero is that of nobody visible; zeros are right then, not 0 / 0."""
    return total.clamp(min=torch.finfo(total.dtype).tiny)


def _without_padding(keys: Tensor, visible: Tensor | None) -> Tensor:
    return keys if visible is None else keys * visible[:, None, :, None]
