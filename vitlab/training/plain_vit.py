"""A ViT in the usual few lines, as tutorials and small public repositories write it; to be timed beside vitlab's.

Attention step by step (softmax of queries times keys), parts in Sequentials, as in the public vit-pytorch.
"""

import torch
from torch import Tensor, nn

from vitlab.models import ViTShape


class _Attention(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads, self.scale = num_heads, (dim // num_heads) ** -0.5
        self.norm = nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.qkv(self.norm(tokens)).chunk(3, dim=-1)
        # Each (batch, heads, tokens, head_dim).
        queries, keys, values = (part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        weights = (queries @ keys.transpose(-1, -2) * self.scale).softmax(dim=-1)
        return self.out((weights @ values).transpose(1, 2).flatten(2))


class PlainViT(nn.Module):
    """A ViT with a class token and learned positions.

    Args:
        image_size: Side of the images in pixels.
        patch_size: Side of a patch in pixels; must divide image_size.
        num_classes: Classes, 1 or more.
        shape: Its numbers; only dim, depth, num_heads and mlp_dim are used.

    Shape: images (batch, 3, image_size, image_size) to logits (batch, classes).
    """

    def __init__(self, image_size: int, patch_size: int, num_classes: int, shape: ViTShape) -> None:
        super().__init__()
        dim = shape.dim
        self.patches = nn.Conv2d(3, dim, patch_size, patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, (image_size // patch_size) ** 2 + 1, dim) * 0.02)
        self.attentions = nn.ModuleList(_Attention(dim, shape.num_heads) for _ in range(shape.depth))
        self.mlps = nn.ModuleList(_mlp(dim, shape.mlp_dim) for _ in range(shape.depth))
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Classify images."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)  # (batch, tokens, dim)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), tokens], dim=1) + self.positions
        for attention, mlp in zip(self.attentions, self.mlps, strict=True):
            tokens = tokens + attention(tokens)
            tokens = tokens + mlp(tokens)
        return self.head(tokens[:, 0])


def _mlp(dim: int, hidden_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, dim))
