"""What the settings of a sweep say of its arms: which family, cut into how many pixels, and in what two arms differ.

Only names and numbers in the settings are read; no model is built. What they do not tell is None.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Height and width of data sets that have one size unless image_size says otherwise (a test compares with vitlab.data).
_IMAGE_SIDES = {
    "CIFAR10": 32,
    "CIFAR100": 32,
    "MNIST": 28,
    "FashionMNIST": 28,
    "Digits": 8,
    "DigitLines": 12,
    "Glyphs": 16,
    "GlyphMasks": 16,
    "PairsAtDistance": 16,
}
_POSITIONS = {
    "NoPosition": "none",
    "LearnedPosition": "1-D",
    "SinCos1D": "1-D",
    "OneHot": "1-D",
    "LearnedFactorized2D": "2-D",
    "SinCos2D": "2-D",
    "FourierFeatures": "2-D",
}
# timm's convolutional nets that start with stride 2 and max-pool, and others that, like them, divide an image by 32 in
# all.
_TIMM_WITH_IMAGENET_STEM = re.compile(r"(gluon_|tv_|wide_|se|sk|eca|legacy_se)?(resne[xs]?t|resnest|densenet)")
_TIMM_OTHER_CNN = re.compile(r"(tf_)?(convnext|efficientnet|mobilenet|regnet|mnasnet|inception|xception|nfnet|rexnet)")
_TIMM_VIT = re.compile(r"(vit|deit|deit3|beit|beitv2|eva|flexivit)_")


@dataclass(frozen=True)
class Arm:
    """One arm of a sweep, as its settings describe it.

    Args:
        name: its name in the sweep.
        family: "vit", "cnn", "hybrid" or "rnn"; None where the settings do not tell.
        stem: of a CNN: "3x3" at full size; "7x7": ImageNet's, of stride 2 with max-pool; "strided": others that shrink
            the image at once.
        image_side: the shorter side of its images, in pixels.
        patch_size: of a ViT: side of a patch, in pixels.
        position: of a ViT: "none", "1-D", "2-D" or "other".
        is_pretrained: whether it starts from published weights.
    """

    name: str
    family: str | None = None
    stem: str | None = None
    image_side: int | None = None
    patch_size: int | None = None
    position: str | None = None
    is_pretrained: bool = False


def read_arm(name: str, settings: Mapping[str, Any]) -> Arm:
    """Return what an arm's settings say of it.

    Args:
        name: its name in the sweep.
        settings: as `Plan.settings_of` gives them.
    """
    backbone = _class(settings.get("model", {}).get("backbone"))
    arguments = backbone["init_args"]
    side = _image_side(_class(settings.get("data", {}).get("dataset")))
    kind = backbone["class_path"].rpartition(".")[2]
    if kind == "ViT":
        tokenizer = _class(arguments.get("tokenizer"))["class_path"]
        family = "hybrid" if tokenizer.endswith("ConvStem") else "vit"
        return Arm(name, family, None, side, arguments.get("patch_size", 16), _position(arguments))
    if kind == "ResNet":
        return Arm(name, "hybrid" if arguments.get("attention") else "cnn", arguments.get("stem", "3x3"), side)
    if kind == "TimmModel":
        return _timm_arm(name, str(arguments.get("name", "")), backbone.get("dict_kwargs") or {}, arguments, side)
    return Arm(name, "rnn" if kind == "RNN" else None, image_side=side)


def named_arm(name: str) -> Arm:
    """Return an arm of which only the name is known, as in a report's summary."""
    families = {"vit": "vit", "cnn": "cnn", "resnet": "cnn", "rnn": "rnn", "gru": "rnn", "lstm": "rnn"}
    return Arm(name, families.get(re.split(r"[^a-z]", name.lower())[0]))


def leaves(settings: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name of each single setting with its value as JSON, without the `init_args` in between."""
    if isinstance(settings, Mapping):
        for key, inner in settings.items():
            below = name if key == "init_args" else f"{name}.{key}" if name else str(key)
            yield from leaves(inner, below)
    else:
        yield name, json.dumps(settings, sort_keys=True)


def differing(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return which single settings differ between arms: the value (JSON) by arm, "not set" where an arm has none.

    Args:
        settings: of each arm, by name.
    """
    values = {model: dict(leaves(own)) for model, own in settings.items()}
    names = sorted({name for own in values.values() for name in own})
    table = {name: {model: own.get(name, "not set") for model, own in values.items()} for name in names}
    return {name: by_arm for name, by_arm in table.items() if len(set(by_arm.values())) > 1}


def _class(value: Any) -> dict[str, Any]:
    """Return a class's settings, also where they are written as its path alone or not at all."""
    if isinstance(value, Mapping):
        return {**value, "class_path": str(value.get("class_path", "")), "init_args": value.get("init_args") or {}}
    return {"class_path": str(value or ""), "init_args": {}}


def _image_side(dataset: dict[str, Any]) -> int | None:
    given = dataset["init_args"].get("image_size")
    if isinstance(given, list | tuple):
        return min(given)
    return given or _IMAGE_SIDES.get(dataset["class_path"].rpartition(".")[2])


def _position(arguments: Mapping[str, Any]) -> str:
    within = _class(arguments.get("attention"))["init_args"].get("position")
    outside = _class(arguments.get("position"))["class_path"].rpartition(".")[2] or "LearnedPosition"
    return "other" if within else _POSITIONS.get(outside, "other")


def _timm_arm(
    name: str, architecture: str, options: Mapping[str, Any], arguments: Mapping[str, Any], side: int | None
) -> Arm:
    is_pretrained = bool(arguments.get("pretrained") or arguments.get("weights"))
    if _TIMM_VIT.match(architecture):
        patch = re.search(r"patch(\d+)", architecture)
        patch_size = options.get("patch_size", int(patch[1]) if patch else None)
        family = "hybrid" if "resnet" in architecture else "vit"
        return Arm(name, family, None, side, patch_size, None, is_pretrained)
    if _TIMM_WITH_IMAGENET_STEM.match(architecture):
        return Arm(name, "cnn", "7x7", side, is_pretrained=is_pretrained)
    if _TIMM_OTHER_CNN.match(architecture):
        # ConvNeXt's stem is a patch of 4 pixels, which an option can make smaller.
        stem = "3x3" if options.get("patch_size", 4) == 1 else "strided"
        return Arm(name, "cnn", stem, side, is_pretrained=is_pretrained)
    return Arm(name, None, None, side, is_pretrained=is_pretrained)
