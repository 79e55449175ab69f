"""Convolution as self-attention: a head for each cell of the kernel, which looks at that one offset.

Theorem 1 of Cordonnier et al., arXiv 1911.03584: K * K heads with relative positions express any convolution of a K x K
kernel. Hard: each head may look at one offset only. Soft: each head prefers its offset by a quadratic position, whose
center and width can be learned from there.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.attention.grid import Grid
from vitlab.attention.patterns import All, PlacePattern
from vitlab.attention.relative_positions import QuadraticRelative
from vitlab.attention.self_attention import SelfAttention


class OneOffset(PlacePattern):
    """Each head looks at one offset: the key at (row, column) + offset, and nobody where that is beyond the grid.

    Args:
        offsets: Rows and columns from query to key, a pair for each head, (heads, 2).

    Shape: mask (heads, tokens, tokens).

    Source: Cordonnier et al., arXiv 1911.03584, theorem 1.
    """

    prefix_sees_patches = False
    offsets: Tensor

    def __init__(self, offsets: Tensor) -> None:
        super().__init__()
        self.register_buffer("offsets", offsets, persistent=False)

    def may_look(self, queries: Tensor, keys: Tensor, grid: Grid) -> Tensor:
        """Return whether the key lies at the head's offset: (heads, ...)."""
        found = keys - queries  # (..., 2)
        wanted = self.offsets.to(found.device).view(-1, *[1] * (found.ndim - 1), 2)
        return (found == wanted).all(dim=-1)

    def mask(self, grid: Grid, device: torch.device | str | None = None) -> Tensor:
        """Return who may look at whom.

        Shape: (heads, tokens, tokens) of bool.

        Raises:
            ValueError: The grid has prefix tokens, which a convolution does not know.
        """
        if grid.num_prefix_tokens:
            raise ValueError(f"a convolution has no tokens without a place, and {grid} has {grid.num_prefix_tokens}")
        places = grid.coordinates(device)
        return self.may_look(places[:, None], places[None], grid)


class ConvolutionAsAttention(nn.Module):
    """A convolution computed by SelfAttention over the pixels; made by attention_from_conv.

    Args:
        conv: The convolution to copy.
        sharpness: alpha of the soft form; None: the hard form.

    Shape: images (batch, in_channels, height, width) to (batch, out_channels, rows, columns), as conv gives.

    Source: Cordonnier et al., arXiv 1911.03584, theorem 1 and lemma 2.
    """

    def __init__(self, conv: nn.Conv2d, sharpness: float | None = None) -> None:
        super().__init__()
        _check(conv)
        self.stride = conv.stride
        half = [dilation * (size // 2) for dilation, size in zip(conv.dilation, conv.kernel_size, strict=True)]
        padding = _padding(conv, half)
        # Beyond the border, hard heads find nobody and gather zeros; soft ones must find zeros to look at.
        self.margin = [
            max(0, pad - reach) if sharpness is None else pad for pad, reach in zip(padding, half, strict=True)
        ]
        self.start = [margin + reach - pad for margin, reach, pad in zip(self.margin, half, padding, strict=True)]
        rows, columns = (
            dilation * (torch.arange(size) - size // 2)
            for dilation, size in zip(conv.dilation, conv.kernel_size, strict=True)
        )
        offsets = torch.cartesian_prod(rows, columns)  # (heads, 2)
        num_heads, in_channels = len(offsets), conv.in_channels
        centers = None if sharpness is None else [tuple(pair) for pair in offsets.float().tolist()]
        self.attention = SelfAttention(
            num_heads * in_channels,
            num_heads,
            pattern=OneOffset(offsets) if sharpness is None else All(),
            position=None if centers is None else partial(QuadraticRelative, centers=centers, alpha=sharpness),
        )
        # Tokens are as wide as the convolution's channels; each head is that wide too, so the heads together are wider.
        self.attention.qkv = nn.Linear(in_channels, 3 * num_heads * in_channels, bias=False)
        self.attention.projection = nn.Linear(num_heads * in_channels, conv.out_channels, bias=conv.bias is not None)
        self.to(device=conv.weight.device, dtype=conv.weight.dtype)
        self._copy(conv, num_heads)

    def forward(self, images: Tensor) -> Tensor:
        """Return what the convolution gives."""
        images = F.pad(images, (self.margin[1], self.margin[1], self.margin[0], self.margin[0]))
        grid = Grid(*images.shape[-2:])
        tokens = self.attention(images.flatten(2).transpose(1, 2), grid)  # (batch, height * width, out_channels)
        outputs = tokens.transpose(1, 2).unflatten(2, (grid.height, grid.width))
        stops = [size - start for size, start in zip(outputs.shape[-2:], self.start, strict=True)]
        return outputs[..., self.start[0] : stops[0] : self.stride[0], self.start[1] : stops[1] : self.stride[1]]

    @torch.no_grad()
    def _copy(self, conv: nn.Conv2d, num_heads: int) -> None:
        channels, group = conv.in_channels, conv.in_channels // conv.groups
        self.attention.qkv.weight.zero_()  # nobody is asked what he holds: where he sits decides
        values = self.attention.qkv.weight[2 * num_heads * channels :].unflatten(0, (num_heads, channels))
        values.copy_(torch.eye(channels).expand(num_heads, -1, -1))
        weight = conv.weight.flatten(2).transpose(1, 2)  # (out_channels, heads, in_channels of a group)
        projection = self.attention.projection.weight.zero_().unflatten(1, (num_heads, channels))
        per_group = conv.out_channels // conv.groups
        for index in range(conv.groups):  # a group's outputs read its own channels alone
            outputs = slice(index * per_group, (index + 1) * per_group)
            projection[outputs, :, index * group : (index + 1) * group] = weight[outputs]
        if conv.bias is not None:
            self.attention.projection.bias.copy_(conv.bias)


def attention_from_conv(conv: nn.Conv2d, sharpness: float | None = None) -> ConvolutionAsAttention:
    """Return a module that gives what a convolution gives, through SelfAttention with a head for each kernel cell.

    It shows that the two are one; it forms (kernel cells, pixels, pixels) weights, so it does not compute faster.

    Args:
        conv: A Conv2d with odd kernel sides and zero padding; any stride, dilation, groups, with or without bias.
        sharpness: None: each head looks at exactly one offset, and outputs are equal. A number: each head prefers its
            offset by -sharpness * distance^2, and outputs approach the convolution's as it grows; from 20 on they agree
            to about 1e-5. Centers and sharpness are then parameters that can be trained.

    Shape: the module maps (batch, in_channels, height, width) to (batch, out_channels, rows, columns).

    Raises:
        ValueError: An even kernel, another padding mode than zeros, not a Conv2d, or a sharpness that is not positive.

    Source: Cordonnier et al., arXiv 1911.03584, theorem 1; the soft form: its equation 9.
    """
    return ConvolutionAsAttention(conv, sharpness)


def _check(conv: nn.Module) -> None:
    if not isinstance(conv, nn.Conv2d):
        raise ValueError(f"attention_from_conv takes a torch.nn.Conv2d, got {type(conv).__name__}")
    if any(size % 2 == 0 for size in conv.kernel_size):
        raise ValueError(
            f"a kernel of {conv.kernel_size[0]} x {conv.kernel_size[1]} has no cell in the middle; use odd sides, "
            "such as 3 x 3 (an even kernel is an odd one with a row and a column of zeros)"
        )
    if conv.padding_mode != "zeros":
        raise ValueError(f"padding_mode {conv.padding_mode!r} is not covered by the theorem; use zeros")


def _padding(conv: nn.Conv2d, half: list[int]) -> list[int]:
    if conv.padding == "same":
        return half
    return [0, 0] if conv.padding == "valid" else list(conv.padding)
