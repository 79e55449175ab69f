"""Robustness probes: what a model still recognizes when an image is shuffled, covered or shifted.

Shuffled, dropped and covered patches: Naseer et al., arXiv 2105.10497, section 3. Shift consistency: Zhang,
arXiv 1904.11486, section 4.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.inspection.feature_maps import evaluating


def shuffle_patches(images: Tensor, patch_size: int, seed: int = 0) -> Tensor:
    """Put the patches of each image in a random order of its own: parts remain, their layout is gone.

    Args:
        images: Of any dtype.
        patch_size: Side of a patch in pixels, which divides height and width.
        seed: Seed of the orders.

    Shape: (batch, channels, height, width) to the same.

    Raises:
        ValueError: patch_size does not divide the images.

    Source: Naseer et al., arXiv 2105.10497, section 3.
    """
    rows, columns = _patch_grid(images, patch_size)
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(len(images), rows * columns, generator=generator).argsort(1).to(images.device)
    patches = images.unflatten(3, (columns, patch_size)).unflatten(2, (rows, patch_size))
    patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # (batch, patches, channels, patch_size, patch_size)
    patches = patches.gather(1, order[:, :, None, None, None].expand_as(patches)).unflatten(1, (rows, columns))
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(images.shape)


def drop_patches(
    images: Tensor, patch_size: int, share: float, saliency: Tensor | None = None, seed: int = 0
) -> Tensor:
    """Cover a share of each image's patches with the mean color of all images.

    Args:
        images: Of any dtype.
        patch_size: Side of a patch in pixels, which divides height and width.
        share: Share of the patches to cover, 0 to 1, rounded to whole patches.
        saliency: How much each pixel matters, such as grad_cam's map: the patches that matter most are covered; None:
            patches at random, more of the same ones as the share grows.
        seed: Seed of the random choice.

    Shape: images (batch, channels, height, width), saliency (batch, height, width), to images.

    Raises:
        ValueError: patch_size does not divide the images, the share is out of range, or saliency is of another shape.

    Source: Naseer et al., arXiv 2105.10497, section 3.
    """
    rows, columns = _patch_grid(images, patch_size)
    if not 0 <= share <= 1:
        raise ValueError(f"share must be 0 to 1, got {share}")
    if saliency is None:
        generator = torch.Generator().manual_seed(seed)
        matters = torch.rand(len(images), rows * columns, generator=generator).to(images.device)
    else:
        expected = (len(images), *images.shape[-2:])
        if tuple(saliency.shape) != expected:
            raise ValueError(f"saliency must be {expected}, a number for each pixel, got {tuple(saliency.shape)}")
        matters = F.avg_pool2d(saliency[:, None].float(), patch_size).flatten(1).to(images.device)  # (batch, patches)
    count = round(share * rows * columns)
    ranks = matters.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    covered = (ranks < count).unflatten(1, (rows, columns))
    covered = covered.repeat_interleave(patch_size, 1).repeat_interleave(patch_size, 2)  # (batch, height, width)
    return torch.where(covered[:, None], _mean_color(images), images)


def occlude(images: Tensor, size_px: int, seed: int = 0) -> Tensor:
    """Cover one square at a random place of each image with the mean color of all images.

    Args:
        images: Of any dtype.
        size_px: Side of the square in pixels, 1 to the shorter side.
        seed: Seed of the places.

    Shape: (batch, channels, height, width) to the same.

    Raises:
        ValueError: size_px is out of range.
    """
    height, width = images.shape[-2:]
    if not 1 <= size_px <= min(height, width):
        raise ValueError(f"size_px must be 1 to {min(height, width)}, got {size_px}")
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(2, len(images), 1, generator=generator)
    tops = (places[0] * (height - size_px + 1)).long()  # (batch, 1)
    lefts = (places[1] * (width - size_px + 1)).long()
    rows, columns = torch.arange(height), torch.arange(width)
    in_rows = (rows >= tops) & (rows < tops + size_px)  # (batch, height)
    in_columns = (columns >= lefts) & (columns < lefts + size_px)
    covered = (in_rows[:, :, None] & in_columns[:, None, :]).to(images.device)
    return torch.where(covered[:, None], _mean_color(images), images)


def shift_images(images: Tensor, down_px: int, right_px: int) -> Tensor:
    """Move images; the pixels of the border are repeated in the gap.

    Args:
        images: Of any dtype.
        down_px: Pixels down; negative: up.
        right_px: Pixels to the right; negative: to the left.

    Shape: (batch, channels, height, width) to the same.
    """
    height, width = images.shape[-2:]
    rows = (torch.arange(height, device=images.device) - down_px).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) - right_px).clamp(0, width - 1)
    return images[:, :, rows][:, :, :, columns]


def predict_classes(
    model: nn.Module,
    images: Tensor,
    normalize: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Return the class that a model gives each image.

    Args:
        model: A model that gives logits (batch, classes); it is left as it was.
        images: Bytes, or floating-point numbers.
        normalize: What makes of images from 0 to 1 what the model wants; None: nothing.
        batch_size: Images at a time, 1 or more.

    Shape: (batch, channels, height, width) to (batch,).

    Raises:
        ValueError: The model gives no logits of that shape.
    """
    chosen = []
    device = next((tensor.device for tensor in model.parameters()), images.device)
    with evaluating(model), torch.no_grad():
        for batch in images.split(batch_size):
            pixels = batch.float() / 255 if batch.dtype == torch.uint8 else batch
            logits = model((pixels if normalize is None else normalize(pixels)).to(device))
            if logits.ndim != 2:
                raise ValueError(f"the model must give logits (batch, classes), got {tuple(logits.shape)}")
            chosen.append(logits.argmax(1).to(images.device))
    return torch.cat(chosen)


def shift_consistency(
    model: nn.Module,
    images: Tensor,
    shift_px: int,
    normalize: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = 64,
) -> float:
    """Return the share of images that keep their predicted class when moved up, down, left or right.

    Args:
        model: A model that gives logits (batch, classes); it is left as it was.
        images: Bytes, or floating-point numbers.
        shift_px: How far, in pixels, 0 to below the shorter side.
        normalize: What makes of images from 0 to 1 what the model wants; None: nothing.
        batch_size: Images at a time, 1 or more.

    Returns:
        0 to 1, the mean of the four directions; right or wrong does not matter.

    Raises:
        ValueError: shift_px is out of range.

    Source: Zhang, arXiv 1904.11486, section 4, with shifted images where it has shifted crops.
    """
    shortest = min(images.shape[-2:])
    if not 0 <= shift_px < shortest:
        raise ValueError(f"shift_px must be 0 to {shortest - 1}, got {shift_px}")
    unmoved = predict_classes(model, images, normalize, batch_size)
    agreement = [
        (
            predict_classes(model, shift_images(images, down * shift_px, right * shift_px), normalize, batch_size)
            == unmoved
        )
        for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1))
    ]
    return torch.stack(agreement).double().mean().item()


def _patch_grid(images: Tensor, patch_size: int) -> tuple[int, int]:
    height, width = images.shape[-2:]
    if patch_size < 1 or height % patch_size or width % patch_size:
        raise ValueError(f"patch_size {patch_size} does not divide images of {height} x {width} pixels")
    return height // patch_size, width // patch_size


def _mean_color(images: Tensor) -> Tensor:
    """Return each channel's mean over all images, (1, channels, 1, 1), in the images' dtype."""
    mean = images.double().mean((0, 2, 3), keepdim=True)
    return (mean.round() if images.dtype == torch.uint8 else mean).to(images.dtype)
