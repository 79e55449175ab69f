"""Random changes to training images, on the host, by albumentations.

This is the only file that knows albumentations 2.0.8, the last release under the MIT license. It is imported when the
first image is changed, because the import takes seconds and many runs need no augmentation.

An albumentations pipeline keeps a random stream of its own: worker processes then share one stream and each epoch
repeats it. So the stream is seeded anew for every batch, from a number that the batch brings along, and a run gives the
same images with any number of workers.
"""

import os
import warnings
from typing import Any

import numpy as np

BORDER_REFLECT = 4  # cv2.BORDER_REFLECT_101, spelled out so that describing an augmentation does not import cv2


class Augmentation:
    """Random changes that keep the label, each switched off by default.

    Args:
        crop_padding: pixels of mirrored border on each side before a random crop back to the image's size, 0 or more;
            4 is usual for 32 px.
        horizontal_flip: mirror every other image left to right.
        random_resized_crop_scale: smallest share of the image's area that a random crop, scaled back to the image's
            size, keeps; above 0, at most 1; null for no such crop.
        color_jitter: strength of random brightness, contrast and saturation, 0 to 1; hue changes by a quarter of it.
        rand_augment_ops: operations drawn per image from twelve, as in RandAugment (arXiv 1909.13719); 0 to 12.
        rand_augment_magnitude: strength of these operations, 0 to 1 (RandAugment's magnitude divided by ten).
        erasing: probability that a random rectangle of an image is blackened, 0 to 1.

    Shape:
        called with images uint8 (batch, height, width, channels) and a seed; the result has the same shape and type.

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(
        self,
        crop_padding: int = 0,
        horizontal_flip: bool = False,
        random_resized_crop_scale: float | None = None,
        color_jitter: float = 0.0,
        rand_augment_ops: int = 0,
        rand_augment_magnitude: float = 0.5,
        erasing: float = 0.0,
    ) -> None:
        if crop_padding < 0:
            raise ValueError(f"crop_padding {crop_padding} is negative; use 0 (off) or more pixels")
        if random_resized_crop_scale is not None and not 0 < random_resized_crop_scale <= 1:
            raise ValueError(
                f"random_resized_crop_scale {random_resized_crop_scale} must be above 0 and at most 1, or null"
            )
        if not 0 <= rand_augment_ops <= len(_RAND_AUGMENT):
            raise ValueError(f"rand_augment_ops {rand_augment_ops} is out of range; use 0 to {len(_RAND_AUGMENT)}")
        shares = {"color_jitter": color_jitter, "rand_augment_magnitude": rand_augment_magnitude, "erasing": erasing}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} {value} is out of range; use 0 to 1")
        self.crop_padding = crop_padding
        self.horizontal_flip = horizontal_flip
        self.random_resized_crop_scale = random_resized_crop_scale
        self.color_jitter = color_jitter
        self.rand_augment_ops = rand_augment_ops
        self.rand_augment_magnitude = rand_augment_magnitude
        self.erasing = erasing
        self._pipelines: dict[tuple[int, int], Any] = {}

    def __call__(self, images: np.ndarray, seed: int) -> np.ndarray:
        """Changes each image of a batch; the same images and seed give the same result, in any process."""
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(
                f"images must be uint8 (batch, height, width, channels); got {images.dtype} {images.shape}"
            )
        pipeline = self._pipeline(images.shape[1], images.shape[2])
        pipeline.set_random_seed(seed % 2**32)
        # Some operations drop a channel axis of length one.
        changed = [pipeline(image=image)["image"].reshape(image.shape) for image in images]
        return np.stack(changed) if changed else images

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pipelines": {}}

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if name != "_pipelines")
        return f"Augmentation({settings})"

    def _pipeline(self, height: int, width: int) -> Any:
        if (height, width) not in self._pipelines:
            library = _albumentations()
            with warnings.catch_warnings():
                # albumentations only warns about arguments it does not know, and then leaves them out.
                warnings.simplefilter("error")
                steps = [step for step in self._steps(library, height, width) if step is not None]
                self._pipelines[height, width] = library.Compose(steps)
        return self._pipelines[height, width]

    def _steps(self, library: Any, height: int, width: int) -> list[Any]:
        padding, scale, jitter = self.crop_padding, self.random_resized_crop_scale, self.color_jitter
        span = (1 - jitter, 1 + jitter)
        magnitude, ops = self.rand_augment_magnitude, self.rand_augment_ops
        return [
            library.RandomResizedCrop(size=(height, width), scale=(scale, 1.0)) if scale is not None else None,
            library.Pad(padding=padding, border_mode=BORDER_REFLECT) if padding else None,
            library.RandomCrop(height=height, width=width) if padding else None,
            library.HorizontalFlip(p=0.5) if self.horizontal_flip else None,
            library.SomeOf([make(library, magnitude) for make in _RAND_AUGMENT], n=ops) if ops else None,
            library.ColorJitter(brightness=span, contrast=span, saturation=span, hue=(-jitter / 4, jitter / 4), p=1.0)
            if jitter
            else None,
            library.Erasing(p=self.erasing) if self.erasing else None,
        ]


# Ranges as in timm's RandAugment: rotation up to 30 degrees, shear up to 17, shifts up to 45 % of the side.
_RAND_AUGMENT = (
    lambda a, m: a.NoOp(p=1.0),
    lambda a, m: a.Affine(rotate=(-30 * m, 30 * m), p=1.0),
    lambda a, m: a.Affine(shear={"x": (-17 * m, 17 * m), "y": (0.0, 0.0)}, p=1.0),
    lambda a, m: a.Affine(shear={"x": (0.0, 0.0), "y": (-17 * m, 17 * m)}, p=1.0),
    lambda a, m: a.Affine(translate_percent={"x": (-0.45 * m, 0.45 * m), "y": (0.0, 0.0)}, p=1.0),
    lambda a, m: a.Affine(translate_percent={"x": (0.0, 0.0), "y": (-0.45 * m, 0.45 * m)}, p=1.0),
    lambda a, m: a.RandomBrightnessContrast(brightness_limit=(-0.9 * m, 0.9 * m), contrast_limit=(0.0, 0.0), p=1.0),
    lambda a, m: a.RandomBrightnessContrast(brightness_limit=(0.0, 0.0), contrast_limit=(-0.9 * m, 0.9 * m), p=1.0),
    lambda a, m: a.Posterize(num_bits=8 - round(4 * m), p=1.0),
    lambda a, m: a.Solarize(threshold_range=(1 - m, 1.0), p=1.0),
    lambda a, m: a.Equalize(p=1.0),
    lambda a, m: a.AutoContrast(p=1.0),
)


NUM_RAND_AUGMENT_OPS = len(_RAND_AUGMENT)


def scaled_parts(images: np.ndarray, starts: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Return a part of each image, scaled to the images' size; what the pipeline's RandomResizedCrop does to pixels.

    Args:
        images: uint8 (batch, height, width, channels).
        starts: where each part starts in pixels, (2, batch): top, left.
        shapes: how large it is in pixels, (2, batch): height, width.
    """
    cv2 = _cv2()
    height, width = images.shape[1:3]
    images, scaled = np.ascontiguousarray(images), np.empty(images.shape, images.dtype)
    edges = *starts.tolist(), *(starts + shapes).tolist()  # numbers of Python's own index an array twice as fast
    for image, result, top, left, bottom, right in zip(images, scaled, *edges, strict=True):
        result[:] = cv2.resize(image[top:bottom, left:right], (width, height)).reshape(result.shape)
    return scaled


def _albumentations() -> Any:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else its import asks a server for the newest version
    import albumentations

    _cv2()
    return albumentations


def _cv2() -> Any:
    import cv2

    cv2.setNumThreads(0)  # its thread pool fights with PyTorch's, and may hang in forked workers
    return cv2
