"""Measures of attention: how far heads look, how sharply, how much they differ, and how much goes to chosen tokens.

Mean attention distance: Raghu et al., arXiv 2108.08810, section 4, after Dosovitskiy et al., arXiv 2010.11929, appendix
D.7: what the receptive field's size is to a CNN.
"""

import torch
from torch import Tensor

from vitlab.attention import Grid


def mean_attention_distance(weights: Tensor, grid: Grid, patch_size: float) -> Tensor:
    """Return how far each head looks: the distance from patch to patch, averaged by attention weights.

    Args:
        weights: Of one layer, all queries, (batch, heads, tokens, tokens).
        grid: The tokens' layout; class token and registers are left out.
        patch_size: Pixels from one patch to the next.

    Shape: (heads,), in pixels; queries that give patches no weight at all count as looking 0 pixels far.

    Raises:
        ValueError: The weights are not between all tokens of this grid.

    Source: Raghu et al., arXiv 2108.08810, section 4.
    """
    patches = _between_patches(weights, grid)
    places = grid.coordinates(weights.device).to(patches.dtype) * patch_size
    distances = torch.cdist(places, places)  # (patches, patches), pixels
    shares = patches / patches.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(patches.dtype).tiny)
    return (shares * distances).sum(dim=-1).mean(dim=(0, 2))


def attention_entropy(weights: Tensor) -> Tensor:
    """Return how spread each head's attention is: the entropy of its rows, averaged over queries and samples.

    Args:
        weights: Of one layer, rows that sum to 1, (batch, heads, queries, keys).

    Shape: (heads,), in nats: 0 looks at one key, log(keys) at all alike.
    """
    return -torch.special.xlogy(weights, weights).sum(dim=-1).mean(dim=(0, 2))


def head_similarity(weights: Tensor) -> Tensor:
    """Return how alike heads look: the cosine of their rows of weights, averaged over queries and samples.

    Args:
        weights: Of one layer, (batch, heads, queries, keys).

    Shape: (heads, heads), 1 on the diagonal where a head looks at anything.
    """
    rows = torch.nn.functional.normalize(weights, dim=-1).transpose(1, 2)  # (batch, queries, heads, keys)
    return (rows @ rows.transpose(-2, -1)).mean(dim=(0, 1))


def attention_mass(weights: Tensor, queries: Tensor, keys: Tensor) -> tuple[Tensor, float]:
    """Return which share of their attention some tokens put on others, and what chance would give.

    Args:
        weights: Of one layer, (batch, heads, tokens, tokens).
        queries: True for the tokens that look, (batch, tokens).
        keys: True for those that are looked at, (batch, tokens).

    Returns:
        The share of each head, (heads,), and the share under attention to all tokens alike.

    Raises:
        ValueError: No token looks.
    """
    if not queries.any():
        raise ValueError("attention_mass needs at least one token that looks; queries is False everywhere")
    mass = (weights * keys[:, None, None].to(weights.dtype)).sum(dim=-1)  # (batch, heads, tokens)
    chosen = queries[:, None].to(weights.dtype)
    share = (mass * chosen).sum(dim=(0, 2)) / chosen.sum()
    chance = (keys.float().mean(dim=1) * queries.sum(dim=1)).sum() / queries.sum()
    return share, chance.item()


def _between_patches(weights: Tensor, grid: Grid) -> Tensor:
    if tuple(weights.shape[-2:]) != (grid.num_tokens, grid.num_tokens):
        raise ValueError(
            f"weights {tuple(weights.shape[-2:])} are not between the {grid.num_tokens} tokens of {grid}; "
            "capture all queries"
        )
    return weights[..., grid.num_prefix_tokens :, grid.num_prefix_tokens :]
