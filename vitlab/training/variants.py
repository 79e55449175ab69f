"""What vitlab's own settings bring: the same model with and without each, as pairs for the benchmark.

The settings are those of `speed.py`, and bfloat16 as `--trainer.precision=bf16-mixed` uses it.
"""

from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn

from vitlab.models import ResNet, ViT
from vitlab.training.speed import Speed
from vitlab.training.throughput import Pair


class InBfloat16(nn.Module):
    """A model whose matrix products are in bfloat16 and whose weights stay float32 (autocast).

    Args:
        model: Maps images to logits.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return logits in float32."""
        with torch.autocast(images.device.type, torch.bfloat16):
            logits = self.model(images)
        return logits.float()


def _vit(size: str = "compact") -> ViT:
    return ViT(image_size=32, num_classes=10, patch_size=4, size=size)


def _bfloat16() -> tuple[nn.Module, nn.Module]:
    model = _vit()
    return InBfloat16(deepcopy(model)), model


def _with(speed: Speed, size: str) -> tuple[nn.Module, nn.Module]:
    model = _vit(size)
    changed = deepcopy(model)
    speed.apply(changed)
    return changed, model


def _channels_last() -> tuple[nn.Module, nn.Module]:
    model = ResNet(image_size=32, num_classes=10, size="resnet18")
    changed = deepcopy(model)
    Speed(channels_last=True).apply(changed)
    return changed, model


VARIANTS = (
    Pair("ViT 384/7/12: bf16 beside float32", 32, 1.0, _bfloat16),
    Pair("ViT 384/7/12: linear_as_convolution", 32, 1.0, partial(_with, Speed(linear_as_convolution=True), "compact")),
    Pair("ViT 192/12/3: recompute", 32, 0.5, partial(_with, Speed(recompute=True), "tiny")),
    Pair("ResNet-18: channels_last", 32, 1.0, _channels_last),
)
