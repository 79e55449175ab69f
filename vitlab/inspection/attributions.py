"""Attributions: which pixels speak for a class, asked of a CNN and a ViT in the same words; computed by captum.

Grad-CAM: Selvaraju et al., arXiv 1610.02391. Integrated gradients: Sundararajan et al., arXiv 1703.01365. Occlusion:
Zeiler and Fergus, arXiv 1311.2901, section 4.2. captum: Kokhlikyan et al., arXiv 2009.07896.
"""

from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.inspection.feature_maps import as_map, check_images, evaluating, last_map_name


def grad_cam(model: nn.Module, images: Tensor, target: int | Tensor, layer: str | None = None) -> Tensor:
    """Show which places of a layer speak for a class.

    Each channel's map, weighted by how much the class's logit rises with that channel on average, summed; what speaks
    against the class is cut off. Tokens without a place (class token, registers) are left out.

    Args:
        model: A CNN or a ViT that gives logits (batch, classes); it is left as it was.
        images: Normalized as the model wants them.
        target: The class, or one for each image, (batch,).
        layer: Name of a layer that gives a feature map or tokens, as in model.named_modules(); None: the last block, or
            where only the class token is read after it, the norm at its start.

    Shape: (batch, channels, height, width) to (batch, height, width), 0 or more; bilinear between the layer's places.

    Raises:
        ValueError: No such layer, one without places, one that the logit does not depend on, or a class out of range.
        ImportError: captum is not installed.

    Source: Selvaraju et al., arXiv 1610.02391, equations 1 and 2.
    """
    attr = _captum()
    check_images(images)
    _check_target(model, images, target)
    names = [layer] if layer is not None else _usual_layers(model, images)
    for name in names:
        gradients, features = _gradients_and_features(attr, model, images, target, name)
        if gradients.any():
            break
    else:
        raise ValueError(
            f"the logit does not depend on what layer {names[-1]!r} gives: after the last block a ViT may read the "
            "class token alone, and a classifier may start as zeros; choose an earlier layer, or train the model"
        )
    importance = gradients.mean((2, 3), keepdim=True)  # (batch, dim, 1, 1)
    cam = F.relu((importance * features).sum(1, keepdim=True))  # (batch, 1, rows, columns)
    return F.interpolate(cam, images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


def integrated_gradients(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    baseline: float | Tensor = 0.0,
    steps: int = 50,
    batch_size: int = 64,
) -> Tensor:
    """Share the rise of a class's logit, from a baseline to the image, among the pixels.

    Args:
        model: A model that gives logits (batch, classes); it is left as it was.
        images: Normalized as the model wants them.
        target: The class, or one for each image, (batch,).
        baseline: Image without content: a number, or a tensor of the images' shape; 0 is the mean color of normalized
            images.
        steps: Points between baseline and image, 1 or more.
        batch_size: Points at a time, the batch or more.

    Shape: (batch, channels, height, width) to (batch, height, width), signed; its sum is about the rise of the logit.

    Raises:
        ValueError: A class out of range, or no steps.
        ImportError: captum is not installed.

    Source: Sundararajan et al., arXiv 1703.01365, section 3.
    """
    attr = _captum()
    check_images(images)
    _check_target(model, images, target)
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, got {steps}")
    with evaluating(model), torch.enable_grad():
        shares = attr.IntegratedGradients(model).attribute(
            _leaf(images), baseline, target, n_steps=steps, internal_batch_size=max(batch_size, len(images))
        )
    return shares.detach().sum(1)


def occlusion(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    patch_size: int,
    stride: int | None = None,
    baseline: float = 0.0,
) -> Tensor:
    """Show how much a class's logit falls when a square of the image is covered.

    Args:
        model: A model that gives logits (batch, classes); it is left as it was.
        images: Normalized as the model wants them.
        target: The class, or one for each image, (batch,).
        patch_size: Side of the square in pixels, 1 to the shorter side of the images.
        stride: Pixels from one square to the next, 1 to patch_size; None: patch_size. Where squares overlap, the mean.
        baseline: What covers it; 0 is the mean color of normalized images.

    Shape: (batch, channels, height, width) to (batch, height, width), in logits; negative where covering helps.

    Raises:
        ValueError: patch_size, stride or a class is out of range.
        ImportError: captum is not installed.

    Source: Zeiler and Fergus, arXiv 1311.2901, section 4.2.
    """
    attr = _captum()
    check_images(images)
    _check_target(model, images, target)
    stride = patch_size if stride is None else stride
    if not 1 <= patch_size <= min(images.shape[-2:]) or not 1 <= stride <= patch_size:
        raise ValueError(
            f"patch_size must be 1 to {min(images.shape[-2:])} and stride 1 to patch_size, got {patch_size} and "
            f"{stride}"
        )
    window, strides = (images.shape[1], patch_size, patch_size), (images.shape[1], stride, stride)
    with evaluating(model), torch.no_grad():
        falls = attr.Occlusion(model).attribute(images, window, strides, baseline, target)
    return falls[:, 0]  # every channel of a square is covered at once, so all say the same


def _captum() -> ModuleType:
    try:
        import captum.attr  # here, because it is an extra, and takes seconds
    except ImportError as error:
        raise ImportError(
            "attributions are computed by captum, which is not installed: pip install vitlab[inspect]"
        ) from error
    return captum.attr


def _check_target(model: nn.Module, images: Tensor, target: int | Tensor) -> None:
    with evaluating(model), torch.no_grad():
        logits = model(images[:1])
    if logits.ndim != 2:
        raise ValueError(f"the model must give logits (batch, classes), got {tuple(logits.shape)} for one image")
    classes = torch.as_tensor(target)
    if classes.ndim > 1 or (classes.ndim == 1 and len(classes) != len(images)):
        raise ValueError(
            f"target must be a class or one for each of the {len(images)} images, got shape {tuple(classes.shape)}"
        )
    if classes.min() < 0 or classes.max() >= logits.shape[1]:
        raise ValueError(f"target must be 0 to {logits.shape[1] - 1}, got {classes.tolist()}")


def _usual_layers(model: nn.Module, images: Tensor) -> list[str]:
    """Return the last block and, for tokens, the norm at its start, the last place where a class token reads."""
    last = last_map_name(model, images)
    norms = [name for name, part in model.get_submodule(last).named_children() if isinstance(part, nn.LayerNorm)]
    return [last, *(f"{last}.{name}" for name in norms[:1])]


def _gradients_and_features(
    attr: ModuleType, model: nn.Module, images: Tensor, target: int | Tensor, layer: str
) -> tuple[Tensor, Tensor]:
    """Return a layer's gradients and outputs, both (batch, dim, rows, columns).

    captum's own LayerGradCam would average tokens over their channels, and count the class token as a place.
    """
    named = dict(model.named_modules())
    if layer not in named:
        raise ValueError(f"{type(model).__name__} has no layer {layer!r}; see model.named_modules()")
    if isinstance(named[layer], nn.RNNBase):
        raise ValueError(
            f"layer {layer!r} is recurrent and gives its states too, which captum cannot follow; choose the layer "
            "before it, such as tokenizer"
        )
    with evaluating(model), torch.enable_grad():
        leaf = _leaf(images)
        features = attr.LayerActivation(model, named[layer]).attribute(leaf)
        features = features[0] if isinstance(features, tuple) else features
        try:
            way = attr.LayerGradientXActivation(model, named[layer], multiply_by_inputs=False)
            gradients = way.attribute(leaf, target)
        except RuntimeError as error:
            if "not have been used" not in str(error):  # torch's words for: the logit is computed without it
                raise
            gradients = torch.zeros_like(features)
        gradients = gradients[0] if isinstance(gradients, tuple) else gradients
    first, second = (as_map(model, layer, part.detach(), images.shape[-2:]) for part in (gradients, features))
    return first, second


def _leaf(images: Tensor) -> Tensor:
    """Return a copy that takes gradients, so that the caller's images stay as they are."""
    return images.detach().clone().requires_grad_()
