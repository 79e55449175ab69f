"""Tokenizers: from an image to a set of vectors, row by row.

Patches: Dosovitskiy et al., arXiv 2010.11929, section 3.1. Pixels: Nguyen et al., arXiv 2406.09415. Convolutional stem:
Xiao et al., arXiv 2106.14881, section 4.
"""

import math

from torch import Tensor, nn

from vitlab.attention import Grid


class Tokenizer(nn.Module):
    """Parent of all tokenizers: one token for each square of patch_size pixels.

    Args:
        in_channels: Channels of an image, 1 or more.
        dim: Width of a token, 1 or more.
        patch_size: Side of a patch in pixels, 1 or more.

    Shape: images (batch, in_channels, height, width) to tokens (batch, tokens, dim).

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, in_channels: int, dim: int, patch_size: int) -> None:
        super().__init__()
        if min(in_channels, dim, patch_size) < 1:
            raise ValueError(
                f"in_channels, dim and patch_size must be 1 or more, got {in_channels}, {dim} and {patch_size}"
            )
        self.in_channels = in_channels
        self.patch_size = patch_size

    def grid(self, height: int, width: int) -> Grid:
        """Return the layout of the tokens that an image of this many pixels gives.

        Args:
            height: Pixels from top to bottom, a multiple of patch_size.
            width: Pixels from left to right, a multiple of patch_size.

        Raises:
            ValueError: patch_size does not divide the image.
        """
        if height < 1 or width < 1 or height % self.patch_size or width % self.patch_size:
            size = f"{height}" if height == width else f"{height} x {width}"
            raise ValueError(
                f"patch_size {self.patch_size} does not divide image_size {size}; use {_divisors(height, width)}"
            )
        return Grid(height // self.patch_size, width // self.patch_size)


class PatchTokenizer(Tokenizer):
    """Cut the image into squares and map each to a token by one linear layer.

    Args:
        in_channels: Channels of an image, 1 or more.
        dim: Width of a token, 1 or more.
        patch_size: Side of a patch in pixels; 1 makes each pixel a token.
        bias: Whether the linear layer has a bias.

    Shape: images (batch, in_channels, height, width) to tokens (batch, tokens, dim).

    Source: Dosovitskiy et al., arXiv 2010.11929, section 3.1.
    """

    def __init__(self, in_channels: int, dim: int, patch_size: int, bias: bool = True) -> None:
        super().__init__(in_channels, dim, patch_size)
        # A convolution that never overlaps is that linear layer, and needs no copy of the image in patches.
        self.projection = nn.Conv2d(in_channels, dim, kernel_size=patch_size, stride=patch_size, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens, row by row."""
        return self.projection(images).flatten(2).transpose(1, 2)  # (batch, tokens, dim)


class PixelTokenizer(Tokenizer):
    """Make each pixel a token: no locality is built in at all.

    Tokens grow with the image's area and attention with its square: meant for images of up to 32 pixels.

    Args:
        in_channels: Channels of an image, 1 or more.
        dim: Width of a token, 1 or more.
        patch_size: Must be 1.

    Shape: images (batch, in_channels, height, width) to tokens (batch, height * width, dim).

    Raises:
        ValueError: patch_size is not 1.

    Source: Nguyen et al., arXiv 2406.09415, section 3.
    """

    def __init__(self, in_channels: int, dim: int, patch_size: int = 1) -> None:
        super().__init__(in_channels, dim, patch_size)
        if patch_size != 1:
            raise ValueError(
                f"PixelTokenizer makes each pixel a token, so patch_size must be 1, got {patch_size}; "
                "set patch_size to 1, or use PatchTokenizer"
            )
        self.projection = nn.Linear(in_channels, dim)

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens, row by row."""
        return self.projection(images.flatten(2).transpose(1, 2))  # (batch, tokens, dim)


class ConvStem(Tokenizer):
    """A few overlapping convolutions in place of the one big cut; trains more steadily and learns local cues sooner.

    Each 3x3 convolution halves the image and doubles the channels up to dim; a 1x1 convolution ends the stem. It costs
    about as much as one block, so the paper drops a block for a fair comparison.

    Args:
        in_channels: Channels of an image, 1 or more.
        dim: Width of a token, a multiple of patch_size / 2.
        patch_size: Pixels between neighboring tokens: a power of two, 2 or more.

    Shape: images (batch, in_channels, height, width) to tokens (batch, tokens, dim).

    Raises:
        ValueError: patch_size is not a power of two, or the channels cannot double up to dim.

    Source: Xiao et al., arXiv 2106.14881, section 4.
    """

    def __init__(self, in_channels: int, dim: int, patch_size: int) -> None:
        super().__init__(in_channels, dim, patch_size)
        if patch_size < 2 or patch_size & (patch_size - 1):
            raise ValueError(
                f"ConvStem halves the image again and again: patch_size must be 2, 4, 8, ..., got {patch_size}"
            )
        num_halvings = int(math.log2(patch_size))
        if dim % (patch_size // 2):
            raise ValueError(
                f"ConvStem with patch_size {patch_size} needs a dim that {patch_size // 2} divides, got {dim}"
            )
        layers: list[nn.Module] = []
        channels = in_channels
        for halving in range(num_halvings):
            width = dim // 2 ** (num_halvings - 1 - halving)
            # The norm that follows has a bias already.
            layers += [
                nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(True),
            ]
            channels = width
        self.stem = nn.Sequential(*layers, nn.Conv2d(channels, dim, kernel_size=1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens, row by row."""
        return self.stem(images).flatten(2).transpose(1, 2)  # (batch, tokens, dim)


def _divisors(height: int, width: int) -> str:
    """Say which patch sizes would do."""
    common = math.gcd(height, width)
    sizes = [str(size) for size in range(1, common + 1) if common % size == 0]
    return sizes[0] if len(sizes) == 1 else f"{', '.join(sizes[:-1])} or {sizes[-1]}"
