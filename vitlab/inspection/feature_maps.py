"""Feature maps: what a layer of any model gives, laid out over the image, so that CNN and ViT can be asked the same.

A CNN's layers give (batch, dim, rows, columns); a ViT's give tokens, some of which sit nowhere in the image; Swin's
give (batch, rows, columns, dim). Layers are named as in model.named_modules() and watched by hooks that are taken off
again.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vitlab.attention import Grid

_CONTAINERS = (nn.Sequential, nn.ModuleList)
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)  # timm's norms with an activation have children


def layer_names(model: nn.Module) -> list[str]:
    """Return the names of a model's blocks: the parts that repeat; of a model without any, its layers with weights.

    A block is a child of a Sequential or ModuleList that has parts of its own.
    """
    blocks: list[str] = []
    for name, module in model.named_modules():
        parent = model.get_submodule(name.rpartition(".")[0]) if "." in name else model
        is_block = name and isinstance(parent, _CONTAINERS) and not isinstance(module, (*_CONTAINERS, *_NORMS))
        is_inside = any(name.startswith(f"{block}.") for block in blocks)
        if is_block and any(module.children()) and not is_inside:
            blocks.append(name)
    if blocks:
        return blocks
    return [
        name
        for name, module in model.named_modules()
        if _is_leaf(model, name) and any(True for _ in module.parameters()) and not isinstance(module, _NORMS)
    ]


def last_map_name(model: nn.Module, images: Tensor) -> str:
    """Return the name of the last block, or else the last layer, that gives a map with more than one place.

    Raises:
        ValueError: No layer does.
    """
    parts = [name for name, _ in model.named_modules() if name] or [""]
    for names in (layer_names(model), parts):
        with evaluating(model), torch.no_grad(), watched(model, names) as outputs:
            model(images[:1])
        maps = [name for name, output in outputs.items() if _is_map(output)]
        if maps and (names is parts or not _is_leaf(model, maps[-1])):
            return maps[-1]
    raise ValueError(f"no layer of {type(model).__name__} gives a map with more than one place; name a layer")


def as_map(model: nn.Module, layer: str, output: Tensor, image_size: Sequence[int]) -> Tensor:
    """Lay a layer's output out over the image, without tokens that sit nowhere in it.

    Args:
        model: The whole model, which knows its class token and registers.
        layer: Name of the layer.
        output: What it gave: a feature map, or tokens (batch, tokens, dim).
        image_size: Height and width of the images in pixels.

    Shape: (batch, dim, rows, columns).

    Raises:
        ValueError: The output has no places.
    """
    if output.ndim == 4:
        is_last = _channels_come_last(model) and not isinstance(model.get_submodule(layer), nn.Conv2d)
        return output.permute(0, 3, 1, 2) if is_last else output  # (batch, dim, rows, columns)
    if output.ndim != 3:
        raise ValueError(
            f"layer {layer!r} gives {tuple(output.shape)}, which has no places in the image; choose one that gives "
            f"tokens or a feature map, such as {', '.join(layer_names(model)[-3:])}"
        )
    grid = token_grid(model, output.shape[1], image_size)
    return output[:, grid.num_prefix_tokens :].transpose(1, 2).unflatten(2, (grid.height, grid.width))


def token_grid(model: nn.Module, num_tokens: int, image_size: Sequence[int]) -> Grid:
    """Return the layout of a model's tokens: as the model says, or else the one most like the image's own shape.

    Args:
        model: A vitlab or timm model, or a module around one.
        num_tokens: Tokens of the layer in question.
        image_size: Height and width of the images in pixels.
    """
    height, width = image_size
    num_prefix = _first(model, "num_prefix_tokens") or 0
    for rows, columns in _layouts(model, height, width):
        # Not every layer sees the prefix: CaiT adds its class token at the end.
        if num_tokens - rows * columns in (num_prefix, 0):
            return Grid(rows, columns, num_tokens - rows * columns)
    num_patches = num_tokens - num_prefix if num_tokens > num_prefix else num_tokens
    rows = min(
        (rows for rows in range(1, num_patches + 1) if num_patches % rows == 0),
        key=lambda rows: abs(math.log(rows * rows / num_patches * width / height)),
    )
    return Grid(rows, num_patches // rows, num_tokens - num_patches)


@contextmanager
def watched(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Keep the outputs of named layers while the block runs: `with watched(model, names) as outputs: model(images)`.

    Yields:
        A dictionary that fills with copies, so that nothing that works in place changes them; of several tensors the
        first. A layer that runs more than once leaves its last output.

    Raises:
        ValueError: There is no such layer.
    """
    outputs: dict[str, Tensor] = {}
    named = dict(model.named_modules())
    for name in names:
        if name not in named:
            some = ", ".join(layer_names(model)[:4])
            raise ValueError(f"{type(model).__name__} has no layer {name!r}; see model.named_modules(), such as {some}")
    hooks = [named[name].register_forward_hook(_keeper(outputs, name)) for name in names]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for the block; afterwards each module is in the mode that it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def check_images(images: Tensor) -> None:
    """Refuse what is no batch of images.

    Raises:
        ValueError: Not (batch, channels, height, width), or no floating point.
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images must be (batch, channels, height, width) with one or more, got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"images must be normalized floating-point numbers, got {images.dtype}")


def _keeper(outputs: dict[str, Tensor], name: str):
    def keep(module: nn.Module, args: tuple, output: object) -> None:
        first = output[0] if isinstance(output, tuple | list) and output else output  # an LSTM gives its states too
        if isinstance(first, Tensor):
            outputs.pop(name, None)  # so that the order is that of the last runs
            outputs[name] = first.clone()

    return keep


def _is_leaf(model: nn.Module, name: str) -> bool:
    return not any(model.get_submodule(name).children())


def _is_map(output: Tensor) -> bool:
    return (output.ndim == 4 and output[0, 0].numel() > 1) or (output.ndim == 3 and output.shape[1] > 1)


def _first(model: nn.Module, attribute: str) -> object | None:
    """Return the outermost module's attribute of that name; the model may be wrapped."""
    return next((getattr(module, attribute) for module in model.modules() if hasattr(module, attribute)), None)


def _channels_come_last(model: nn.Module) -> bool:
    return str(_first(model, "output_fmt")).endswith("NHWC")  # timm's Swin and others


def _layouts(model: nn.Module, height: int, width: int) -> Iterator[tuple[int, int]]:
    tokenizer, patch_embed = _first(model, "tokenizer"), _first(model, "patch_embed")
    if hasattr(tokenizer, "grid"):  # vitlab's
        grid = tokenizer.grid(height, width)
        yield grid.height, grid.width
    if hasattr(patch_embed, "dynamic_feat_size"):  # timm's
        yield patch_embed.dynamic_feat_size((height, width))
