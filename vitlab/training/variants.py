"""What vitlab's own settings bring: the same model with and without each, as pairs for the benchmark.

The settings are those of `speed.py`, and bfloat16 as `--trainer.precision=bf16-mixed` uses it. What is compiled stands
apart, because compiling takes minutes on a CPU.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
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


def _vit(size: str = "compact", image_size: int = 32) -> ViT:
    return ViT(image_size=image_size, num_classes=10, patch_size=4, size=size)


def _resnet(size: str, image_size: int = 32) -> ResNet:
    return ResNet(image_size=image_size, num_classes=10, size=size)


def _bfloat16() -> tuple[nn.Module, nn.Module]:
    model = _vit()
    return InBfloat16(deepcopy(model)), model


def _with(speed: Speed, size: str) -> tuple[nn.Module, nn.Module]:
    model = _vit(size)
    changed = deepcopy(model)
    speed.apply(changed)
    return changed, model


def both_compiled(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the same pairs with both models compiled.

    Args:
        pairs: Models beside others; compiling needs what `Speed.compile` needs.
    """
    return [replace(pair, name=f"{pair.name}, both compiled", make=partial(_compiled, pair.make)) for pair in pairs]


def _compiled(make: Callable[[], tuple[nn.Module, nn.Module]]) -> tuple[nn.Module, nn.Module]:
    models = make()
    for model in models:
        Speed(compile=True).apply(model)
    return models


def _compiled_beside_itself(make: Callable[[], nn.Module]) -> tuple[nn.Module, nn.Module]:
    model = make()
    changed = deepcopy(model)
    Speed(compile=True).apply(changed)
    return changed, model


def _channels_last() -> tuple[nn.Module, nn.Module]:
    model = _resnet("resnet18")
    changed = deepcopy(model)
    Speed(channels_last=True).apply(changed)
    return changed, model


VARIANTS = (
    Pair("ViT 384/7/12: bf16 beside float32", 32, 1.0, _bfloat16),
    Pair("ViT 384/7/12: linear_as_convolution", 32, 1.0, partial(_with, Speed(linear_as_convolution=True), "compact")),
    Pair("ViT 192/12/3: recompute", 32, 0.5, partial(_with, Speed(recompute=True), "tiny")),
    Pair("ResNet-18: channels_last", 32, 1.0, _channels_last),
)

COMPILED = (
    Pair("ViT 384/7/12: compile", 32, 1.0, partial(_compiled_beside_itself, partial(_vit, "compact"))),
    Pair("ViT micro: compile", 16, 1.0, partial(_compiled_beside_itself, partial(_vit, "micro", 16))),
    Pair("ResNet-18: compile", 32, 1.0, partial(_compiled_beside_itself, partial(_resnet, "resnet18"))),
    Pair("ResNet micro: compile", 16, 1.0, partial(_compiled_beside_itself, partial(_resnet, "micro", 16))),
)
