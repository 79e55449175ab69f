"""The residual network: the convolutional side of every comparison (He et al., arXiv 1512.03385).

Small images need a 3x3 stem without max-pool: the ImageNet stem throws away three quarters of the rows and columns of a
32-pixel image before the first block, which costs about 20 points on CIFAR-10.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.attention import Grid, Position, SelfAttention
from vitlab.models.spatial_attention import SpatialAttention


@dataclass
class ResNetShape:
    """The numbers that make a ResNet small or large.

    Args:
        depths: Blocks in each stage; each stage but the first halves the image.
        widths: Channels of each stage's 3x3 convolutions, as many as depths.
        block: `basic`: two 3x3 convolutions; `bottleneck`: 1x1, 3x3, 1x1 with four times the channels at the end.

    Raises:
        ValueError: A number is out of range, or depths and widths differ in length.
    """

    depths: list[int]
    widths: list[int]
    block: Literal["basic", "bottleneck"] = "basic"

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.widths) or not self.depths or min(*self.depths, *self.widths) < 1:
            raise ValueError(
                f"depths and widths must be lists of the same length, each number 1 or more, got {self.depths} and "
                f"{self.widths}"
            )
        if self.block not in BLOCKS:
            raise ValueError(f"unknown block {self.block!r}; use one of {', '.join(BLOCKS)}")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut.

    Args:
        in_channels: Channels that come in.
        width: Channels of both convolutions.
        stride: 2 halves the image, 1 keeps it.
        norm: Name of the normalization, batch or group.

    Source: He et al., arXiv 1512.03385, figure 5 left.
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = _make_norm(norm, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = _make_norm(norm, width)
        self.shortcut = _make_shortcut(in_channels, width, stride, norm)

    def forward(self, images: Tensor) -> Tensor:
        """Return shortcut plus branch."""
        out = F.relu(self.norm1(self.conv1(images)), inplace=True)
        out = self.norm2(self.conv2(out))
        return F.relu(out.add_(self.shortcut(images)), inplace=True)


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 ones, beside a shortcut; the stride sits on the 3x3 (ResNet v1.5).

    Args:
        in_channels: Channels that come in.
        width: Channels of the 3x3 convolution; four times as many go out.
        stride: 2 halves the image, 1 keeps it.
        norm: Name of the normalization, batch or group.

    Source: He et al., arXiv 1512.03385, figure 5 right; the stride: Goyal et al., arXiv 1706.02677, section 5.1.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, norm: str) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.norm1 = _make_norm(norm, width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.norm2 = _make_norm(norm, width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.norm3 = _make_norm(norm, out_channels)
        self.shortcut = _make_shortcut(in_channels, out_channels, stride, norm)

    def forward(self, images: Tensor) -> Tensor:
        """Return shortcut plus branch."""
        out = F.relu(self.norm1(self.conv1(images)), inplace=True)
        out = F.relu(self.norm2(self.conv2(out)), inplace=True)
        out = self.norm3(self.conv3(out))
        return F.relu(out.add_(self.shortcut(images)), inplace=True)


BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}

SIZES = {
    "micro": ResNetShape(depths=[1, 1, 1], widths=[16, 32, 40]),  # 16 px on a laptop
    "tiny": ResNetShape(depths=[3, 3, 3], widths=[16, 32, 64]),  # ResNet-20 of the paper's section 4.2, 32 px
    "resnet18": ResNetShape(depths=[2, 2, 2, 2], widths=[64, 128, 256, 512]),
    "resnet34": ResNetShape(depths=[3, 4, 6, 3], widths=[64, 128, 256, 512]),
    "resnet50": ResNetShape(depths=[3, 4, 6, 3], widths=[64, 128, 256, 512], block="bottleneck"),
}


class ResNet(nn.Module):
    """Residual network for small or ImageNet-sized images.

    Args:
        image_size: Side of the images in pixels, or [height, width]; used to check that the stages fit.
        num_classes: Classes, 1 or more; 0 gives the pooled vector instead of logits.
        in_channels: Channels of an image: 3 for RGB, 1 for gray.
        size: A name from the size table (micro, tiny, resnet18, resnet34, resnet50), or a ResNetShape.
        norm: `batch`: BatchNorm; `group`: GroupNorm, which does not depend on the batch (8 channels or more in a group,
            32 groups at most; widths must be multiples of 8).
        stem: `3x3`: one 3x3 convolution at full size, for images of up to about 96 pixels; `7x7`: ImageNet's, which
            divides height and width by 4.
        attention: Makes self-attention over the places of one stage's feature map, called with its channels; it is
            added behind a gate that starts at 0 (SpatialAttention). null: none.
        attention_stage: The stage that the attention follows, counted from 1; null: the last. Each place is a token, so
            a stage earlier means four times the tokens.

    Shape: images (batch, in_channels, height, width) to logits (batch, classes).

    Raises:
        ValueError: An unknown size, norm or stem, an image too small, a width that GroupNorm cannot divide, or a stage
            that is not there.

    Source: He et al., arXiv 1512.03385; attention: Zhang et al., arXiv 1805.08318, section 3. Each block's last norm
    starts at zero, so that the net starts as its shortcuts (Goyal et al., arXiv 1706.02677, section 5.1).
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        num_classes: int = 10,
        in_channels: int = 3,
        size: str | ResNetShape = "resnet18",
        norm: Literal["batch", "group"] = "batch",
        stem: Literal["3x3", "7x7"] = "3x3",
        attention: Callable[[int], SelfAttention] | None = None,
        attention_stage: int | None = None,
    ) -> None:
        super().__init__()
        shape = _shape_of(size)
        if num_classes < 0 or in_channels < 1:
            raise ValueError(
                f"num_classes must be 0 or more and in_channels 1 or more, got {num_classes} and {in_channels}"
            )
        _check_image_size(image_size, shape, stem)
        _check_attention_stage(attention_stage, shape)
        self.stem = _make_stem(in_channels, shape.widths[0], norm, stem)
        self.stages = nn.Sequential()
        channels = shape.widths[0]
        block = BLOCKS[shape.block]
        for stage, (depth, width) in enumerate(zip(shape.depths, shape.widths, strict=True)):
            blocks = []
            for index in range(depth):
                blocks.append(block(channels, width, 2 if stage > 0 and index == 0 else 1, norm))
                channels = width * block.expansion
            self.stages.append(nn.Sequential(*blocks))
        self.classifier = nn.Linear(channels, num_classes) if num_classes else nn.Identity()
        self.apply(_initialize)
        if attention is not None:
            stage = attention_stage or len(shape.depths)
            block_dim = shape.widths[stage - 1] * block.expansion
            grid = _grid_after(stage, image_size, stem)
            self.stages[stage - 1].append(_make_attention(attention, block_dim, grid))

    def forward(self, images: Tensor) -> Tensor:
        """Classify images.

        Shape: (batch, in_channels, height, width) to (batch, classes).
        """
        return self.classifier(self.forward_features(images).mean(dim=(2, 3)))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return what the last stage sees.

        Shape: (batch, in_channels, height, width) to (batch, dim, rows, columns).
        """
        return self.stages(self.stem(images))

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that say where a token sits, and should not be pulled to zero."""
        return {
            f"{path}.{name}"
            for path, module in self.named_modules()
            if isinstance(module, Position)
            for name, _ in module.named_parameters()
        }

    def input_and_output_layers(self) -> set[str]:
        """Return the names of the parameters of the stem and the classifier, which are no hidden layers."""
        return {name for name, _ in self.named_parameters() if name.startswith(("stem.", "classifier."))}


def _shape_of(size: str | ResNetShape) -> ResNetShape:
    if isinstance(size, ResNetShape):
        return size
    if size not in SIZES:
        raise ValueError(f"unknown ResNet size {size!r}; use one of {', '.join(SIZES)}, or a ResNetShape")
    return SIZES[size]


def _check_image_size(image_size: int | tuple[int, int], shape: ResNetShape, stem: str) -> None:
    shrink = 2 ** (len(shape.depths) - 1) * (4 if stem == "7x7" else 1)
    smallest = image_size if isinstance(image_size, int) else min(image_size)
    if smallest < shrink:
        raise ValueError(
            f"image_size {image_size} is too small: stem {stem} and {len(shape.depths)} stages divide it by {shrink}; "
            f"use {shrink} pixels or more, {'the 3x3 stem, ' if stem == '7x7' else ''}or fewer stages"
        )


def _check_attention_stage(stage: int | None, shape: ResNetShape) -> None:
    if stage is not None and not 1 <= stage <= len(shape.depths):
        raise ValueError(f"attention_stage {stage} is not there; use 1 to {len(shape.depths)}, or null for the last")


def _grid_after(stage: int, image_size: int | tuple[int, int], stem: str) -> Grid:
    """Return the places of a stage's feature map; halving rounds up."""
    shrink = 2 ** (stage - 1) * (4 if stem == "7x7" else 1)
    return Grid(*(-(-side // shrink) for side in ((image_size,) * 2 if isinstance(image_size, int) else image_size)))


def _make_attention(make: Callable[[int], SelfAttention], dim: int, grid: Grid) -> SpatialAttention:
    attention = make(dim)
    attention.set_grid(grid)
    return SpatialAttention(attention)


def _make_stem(in_channels: int, width: int, norm: str, stem: str) -> nn.Sequential:
    if stem == "3x3":
        conv = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        return nn.Sequential(conv, _make_norm(norm, width), nn.ReLU(inplace=True))
    if stem == "7x7":
        conv = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        pool = nn.MaxPool2d(3, stride=2, padding=1)
        return nn.Sequential(conv, _make_norm(norm, width), nn.ReLU(inplace=True), pool)
    raise ValueError(f"unknown stem {stem!r}; use 3x3 (small images) or 7x7 (ImageNet)")


def _make_norm(norm: str, width: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(width)
    if norm == "group":
        if width % 8 or width % _num_groups(width):
            raise ValueError(f"GroupNorm needs widths that are multiples of 8 (from 256 on, of 32), got {width}")
        return nn.GroupNorm(_num_groups(width), width)
    raise ValueError(f"unknown norm {norm!r}; use batch or group")


def _num_groups(width: int) -> int:
    return min(32, width // 8)  # 32 groups: Wu and He, arXiv 1803.08494, table 3; fewer where groups would get thin


def _make_shortcut(in_channels: int, out_channels: int, stride: int, norm: str) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), _make_norm(norm, out_channels))


def _initialize(module: nn.Module) -> None:
    """Start convolutions as in He et al., arXiv 1502.01852, and each block's branch at zero."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, BasicBlock):
        nn.init.zeros_(module.norm2.weight)
    elif isinstance(module, Bottleneck):
        nn.init.zeros_(module.norm3.weight)
