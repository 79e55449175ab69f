"""Common corruptions: noise, blur, light and compression that a camera adds, at five severities.

Hendrycks and Dietterich, arXiv 1903.12261, section 3 and appendix. The constants are those of the authors' CIFAR-10-C,
made for images of 32 pixels, but for pixelation's; lengths (of blur) grow with the shorter side of the image, the rest
is per pixel. So the numbers compare models with each other, on any size; they are not comparable with published
ones for ImageNet-C, which has harsher constants, nor exactly with CIFAR-10-C, made with other image libraries.
"""

import io
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SEVERITIES = (1, 2, 3, 4, 5)
_MADE_FOR_PX = 32
_NOISE_STD = (0.04, 0.06, 0.08, 0.09, 0.10)
_PHOTONS = (500, 250, 100, 75, 50)  # that a white pixel catches
_BLUR_STD_PX = (0.4, 0.6, 0.7, 0.8, 1.0)
_MOTION_PX = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))  # longest, and standard deviation
_ADDED_LIGHT = (0.05, 0.1, 0.15, 0.2, 0.3)
_KEPT_CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
_JPEG_QUALITY = (80, 65, 58, 50, 40)
# ImageNet-C's: with CIFAR-10-C's (0.95, 0.9, 0.85, 0.75, 0.65), 28 of 32 pixels distort more than 27 do.
_KEPT_RESOLUTION = (0.6, 0.5, 0.4, 0.3, 0.25)


def corrupt(images: Tensor, corruption: str, severity: int, seed: int = 0) -> Tensor:
    """Return corrupted copies of images.

    Args:
        images: Bytes, 0 to 255.
        corruption: `gaussian_noise`, `shot_noise`, `gaussian_blur`, `motion_blur` (each image in a direction of its
            own, up to 45 degrees from level), `brightness`, `contrast`, `jpeg` or `pixelate`.
        severity: 1 (mild) to 5 (severe).
        seed: Seed of noise and directions; a severity draws the same numbers as another.

    Shape: (batch, channels, height, width) to the same, uint8.

    Raises:
        ValueError: Images that are no bytes, an unknown corruption, or a severity out of range.

    Source: Hendrycks and Dietterich, arXiv 1903.12261.
    """
    check_bytes(images)
    if corruption not in CORRUPTIONS:
        raise ValueError(f"unknown corruption {corruption!r}; use one of {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity must be 1, 2, 3, 4 or 5, got {severity}")
    generator = torch.Generator().manual_seed(seed)
    return CORRUPTIONS[corruption](images.cpu(), severity - 1, generator).to(images.device)


def check_bytes(images: Tensor) -> None:
    """Refuse what is no batch of images in bytes.

    Raises:
        ValueError: Not (batch, channels, height, width), or not uint8.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
        raise ValueError(
            f"images must be uint8, 0 to 255, (batch, channels, height, width), got {images.dtype} "
            f"{tuple(images.shape)}; corrupt images before they are normalized"
        )


def _gaussian_noise(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    pixels = images / 255
    return _as_bytes(pixels + _NOISE_STD[level] * torch.randn(pixels.shape, generator=generator))


def _shot_noise(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    photons = _PHOTONS[level]
    return _as_bytes(torch.poisson(images / 255 * photons, generator=generator) / photons)


def _gaussian_blur(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    std = _BLUR_STD_PX[level] * _scale(images)
    reach = max(1, math.ceil(4 * std))
    profile = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / std) ** 2)
    return _as_bytes(_filtered(images / 255, torch.outer(profile, profile)[None]))


def _motion_blur(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    longest, std = (pixels * _scale(images) for pixels in _MOTION_PX[level])
    angles = (torch.rand(len(images), generator=generator) - 0.5) * (math.pi / 2)
    reach = max(1, math.ceil(longest))
    steps = torch.arange(0, reach + 0.25, 0.25)  # finer than pixels, or slanted lines would have holes
    steps = steps[steps <= longest]
    weights = torch.exp(-0.5 * (steps / std) ** 2)
    kernels = torch.zeros(len(images), 2 * reach + 1, 2 * reach + 1)
    for kernel, angle in zip(kernels, angles, strict=True):
        rows, columns = reach + steps * torch.sin(angle), reach + steps * torch.cos(angle)
        kernel.index_put_((rows.round().long(), columns.round().long()), weights, accumulate=True)
    return _as_bytes(_filtered(images / 255, kernels))


def _brightness(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    # HSV's value is the largest channel: raising it and keeping hue and saturation scales all channels alike.
    pixels = images / 255
    value = pixels.amax(1, keepdim=True)
    raised = (value + _ADDED_LIGHT[level]).clamp(max=1)
    return _as_bytes(torch.where(value > 0, pixels * raised / value.clamp(min=1e-6), raised))


def _contrast(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    pixels = images / 255
    mean = pixels.mean((2, 3), keepdim=True)
    return _as_bytes((pixels - mean) * _KEPT_CONTRAST[level] + mean)


def _jpeg(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    def compress(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=_JPEG_QUALITY[level])
        return Image.open(file)

    return _by_pillow(images, compress)


def _pixelate(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    def pixelate(picture: Image.Image) -> Image.Image:
        small = [max(1, int(side * _KEPT_RESOLUTION[level])) for side in picture.size]
        return picture.resize(small, Image.Resampling.BOX).resize(picture.size, Image.Resampling.BOX)

    return _by_pillow(images, pixelate)


CORRUPTIONS: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "gaussian_blur": _gaussian_blur,
    "motion_blur": _motion_blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "jpeg": _jpeg,
    "pixelate": _pixelate,
}


def _scale(images: Tensor) -> float:
    return min(images.shape[-2:]) / _MADE_FOR_PX


def _as_bytes(pixels: Tensor) -> Tensor:
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8)


def _filtered(pixels: Tensor, kernels: Tensor) -> Tensor:
    """Average neighborhoods with one kernel for all images or one for each; borders repeat their last pixel.

    Shape: pixels (batch, channels, height, width), kernels (1 or batch, side, side).
    """
    batch, channels = pixels.shape[:2]
    kernels = (kernels / kernels.sum((1, 2), keepdim=True)).expand(batch, -1, -1)
    reach = kernels.shape[-1] // 2
    padded = F.pad(pixels, (reach,) * 4, mode="replicate").flatten(0, 1)[None]  # (1, batch * channels, rows, columns)
    blurred = F.conv2d(padded, kernels.repeat_interleave(channels, 0)[:, None], groups=batch * channels)
    return blurred[0].unflatten(0, (batch, channels))


def _by_pillow(images: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Change each image as a Pillow picture: three channels in color, others each as a gray picture."""
    is_color = images.shape[1] == 3
    pictures = images.permute(0, 2, 3, 1) if is_color else images.flatten(0, 1)
    changed = torch.stack(
        [torch.from_numpy(np.array(change(Image.fromarray(p.numpy())))) for p in pictures.contiguous()]
    )
    return changed.permute(0, 3, 1, 2).contiguous() if is_color else changed.unflatten(0, images.shape[:2])
