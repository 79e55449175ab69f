"""Image files of every common kind become one kind of array: uint8, gray or RGB, of one size.

Pillow's own `convert` clips 16-bit images to white and drops transparency onto whatever color lies beneath; both go
unnoticed in training, so they are treated here.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

MODES = {1: "L", 3: "RGB"}
SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def read_image(path: str | Path, in_channels: int = 3, image_size: int | None = None) -> np.ndarray:
    """Reads one image file.

    Gray, palette and CMYK images are converted; transparency is laid over white; 16-bit gray is scaled to 8 bits; the
    camera's orientation is applied. The shorter side is scaled to `image_size` and the middle square is kept.

    Args:
        path: the file.
        in_channels: 3 for RGB, 1 for gray.
        image_size: height and width of the result in pixels; None keeps the file's size.

    Shape:
        uint8 (height, width, in_channels).

    Raises:
        ValueError: the file is missing, truncated or no image, or `in_channels` is neither 1 nor 3.
    """
    if in_channels not in MODES:
        raise ValueError(f"in_channels {in_channels} is not supported for image files; use 1 (gray) or 3 (RGB)")
    try:
        with Image.open(path) as file:
            image = _to_mode(ImageOps.exif_transpose(file), MODES[in_channels])
    # Pillow's decoders raise OSError, SyntaxError, struct.error and more; the user needs the file's name in each case.
    except Exception as error:
        raise ValueError(f"cannot read image {path}: {error}; repair or remove the file") from error
    if image_size is not None and image.size != (image_size, image_size):
        image = _resize_and_crop(image, image_size)
    return np.asarray(image).reshape(image.height, image.width, in_channels)


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode in SIXTEEN_BIT_MODES:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit pixel values beyond 16 bits; save it with 8 or 16 bits")
        # 65535 = 257 * 255: white stays white, and rounding is to the nearest.
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _resize_and_crop(image: Image.Image, image_size: int) -> Image.Image:
    shorter = min(image.size)
    if shorter != image_size:
        size = tuple(max(image_size, round(side * image_size / shorter)) for side in image.size)
        # Pillow filters over the whole footprint of an output pixel, so shrinking does not alias.
        image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (image.width - image_size) // 2, (image.height - image_size) // 2
    return image.crop((left, top, left + image_size, top + image_size))
