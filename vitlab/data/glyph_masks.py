"""A generated data set with a class for each pixel: shapes that one patch shows, and squares that only a pair explains.

Each image holds two colored squares and a few 3x3 glyphs in noise (those of vitlab.data.glyphs). A glyph's pixels are
named by its shape, "+" or "x", which a local filter sees. A square's pixels are named by a relation: whether the other
square, wherever it lies, has the same color. So a model that looks at patches one by one gets the glyphs right and must
guess the squares. Dense prediction from patch tokens: Strudel et al., arXiv 2105.05633.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vitlab.data.datasets import ArrayImages, ImageDataset, Images, content_hash
from vitlab.data.glyphs import BACKGROUND, COLORS, GLYPH_SHAPES, GLYPH_SIZE
from vitlab.data.image_stream import bell_noise, below, image_stream

MASK_CLASSES = ("background", "plus", "cross", "lone square", "paired square")
_FIRST_GLYPH, _FIRST_SQUARE = 1, 3
_SQUARE = np.ones((GLYPH_SIZE, GLYPH_SIZE), dtype=bool)
_TRIES = 8  # places drawn for each shape; the first that overlaps no other shape is taken


@dataclass(frozen=True)
class MaskSettings:
    """What the generated images look like.

    Args:
        image_size: height and width in pixels, 12 to 1024.
        num_glyphs: glyphs in an image, 1 to 16; now and then one finds no free place and is left out.
        amplitude: brightness of a glyph above the background, above 0, at most 0.7.
        noise: standard deviation of the pixel noise, 0 to 1.
        num_colors: colors a square may have, 2 to 6.
    """

    image_size: int = 16
    num_glyphs: int = 4
    amplitude: float = 0.6
    noise: float = 0.1
    num_colors: int = 4

    def __post_init__(self) -> None:
        """Refuses settings that cannot be drawn.

        Raises:
            ValueError: a setting is out of its range.
        """
        ranges = {
            "image_size": (12, 1024),
            "num_glyphs": (1, 16),
            "amplitude": (1 / 255, 0.7),
            "noise": (0, 1),
            "num_colors": (2, len(COLORS)),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"glyph masks {name} {value} is out of range; use {low:.3g} to {high:.4g}")


class GlyphMasks(ImageDataset):
    """Generated images whose every pixel has a class: background, plus, cross, lone square or paired square.

    The two squares of an image are both "paired" (they share a color) or both "lone" (they do not).

    Args:
        image_size: height and width in pixels, 12 to 1024.
        num_train: number of training images, 2 or more.
        num_test: number of test images, 2 or more.
        seed: seed of the images, 0 or more; the first images of a larger set are those of a smaller one.
        num_glyphs: glyphs in an image, 1 to 16.
        amplitude: brightness of a glyph above the background, above 0, at most 0.7.
        noise: standard deviation of the pixel noise, 0 to 1.
        num_colors: colors a square may have, 2 to 6.

    Raises:
        ValueError: a setting is out of its range.
    """

    name = "glyph-masks"
    target = "mask"
    in_channels = 3
    class_names = MASK_CLASSES
    stratum_names = ("lone", "paired")

    def __init__(
        self,
        image_size: int = 16,
        num_train: int = 10_000,
        num_test: int = 2_000,
        seed: int = 0,
        num_glyphs: int = 4,
        amplitude: float = 0.6,
        noise: float = 0.1,
        num_colors: int = 4,
    ) -> None:
        self.settings = MaskSettings(image_size, num_glyphs, amplitude, noise, num_colors)
        if num_train < 2 or num_test < 2:
            raise ValueError(
                f"glyph masks need at least 2 images a split; got num_train {num_train}, num_test {num_test}"
            )
        if not 0 <= seed < 2**64:
            raise ValueError(f"glyph masks seed {seed} is out of range; use 0 to 2**64 - 1")
        self.image_size = image_size
        self.num_train, self.num_test, self.seed = num_train, num_test, seed

    @property
    def fingerprint(self) -> str:
        """Hash of the settings, which fix every pixel."""
        return content_hash(repr(("masks", self.settings, self.num_train, self.num_test, self.seed)).encode())

    def train(self) -> Images:
        """The generated training images."""
        return _mask_images(self.settings, self.num_train, self.seed, "train")

    def test(self) -> Images:
        """The generated test images."""
        return _mask_images(self.settings, self.num_test, self.seed, "test")


def generate_masks(
    settings: MaskSettings, count: int, seed: int, split: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws the first `count` images of a split; image i depends on the settings, the seed, the split and i alone.

    Args:
        settings: what the images look like.
        count: number of images, 0 or more.
        seed: seed of the stream, 0 or more.
        split: "train", "test" or "validation".

    Shape:
        images uint8 (count, height, width, 3); strata int64 (count,), 1 where the squares are paired, alternating;
        masks uint8 (count, height, width), indices into MASK_CLASSES.

    Raises:
        ValueError: a negative count or seed, or an unknown split.
    """
    side = settings.image_size
    num_choices = 2 + settings.num_glyphs + 2 * _TRIES * (2 + settings.num_glyphs)
    images = np.empty((count, side, side, 3), dtype=np.uint8)
    masks = np.empty((count, side, side), dtype=np.uint8)
    strata = np.arange(count, dtype=np.int64) % 2
    for part, choices, noise_bytes in image_stream(count, seed, split, num_choices, side * side * 3):
        canvas, masks[part] = _draw(settings, strata[part], choices)
        canvas += bell_noise(noise_bytes, settings.noise).reshape(canvas.shape)
        images[part] = np.clip(canvas, 0, 255)
    return images, strata, masks


def _draw(settings: MaskSettings, is_paired: np.ndarray, choices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The images without noise, int32 (count, height, width, 3), and their masks, uint8 (count, height, width)."""
    size, num_colors, num_shapes = settings.image_size, settings.num_colors, 2 + settings.num_glyphs
    canvas = np.full((len(choices), size, size, 3), BACKGROUND, dtype=np.int32)
    masks = np.zeros((len(choices), size, size), dtype=np.uint8)
    color = below(choices[:, 0], num_colors)
    other = np.where(is_paired == 1, color, (color + 1 + below(choices[:, 1], num_colors - 1)) % num_colors)
    kinds = below(choices[:, 2:num_shapes], 2)  # (count, glyphs)
    places, is_drawn = _places(settings, choices[:, num_shapes:])
    for square, its_color in enumerate((color, other)):
        stencil = np.broadcast_to(_SQUARE, (len(choices), *_SQUARE.shape))
        _stamp(canvas, places[:, square], stencil, COLORS[its_color])
        _stamp(masks, places[:, square], stencil, _FIRST_SQUARE + is_paired)
    brightness = BACKGROUND + round(settings.amplitude * 255)
    for glyph in range(settings.num_glyphs):
        stencil = (GLYPH_SHAPES[kinds[:, glyph]] == 1) & is_drawn[:, 2 + glyph, None, None]
        _stamp(canvas, places[:, 2 + glyph], stencil, np.full((len(choices), 3), brightness))
        _stamp(masks, places[:, 2 + glyph], stencil, _FIRST_GLYPH + kinds[:, glyph])
    return canvas, masks


def _places(settings: MaskSettings, choices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Upper left corners of all shapes, (count, shapes, 2), and which are drawn: squares first, and they always are."""
    num_shapes, last = 2 + settings.num_glyphs, settings.image_size - GLYPH_SIZE
    tries = below(choices[:, : num_shapes * _TRIES * 2], last + 1).reshape(len(choices), num_shapes, _TRIES, 2)
    places = tries[:, :, 0].copy()
    is_drawn = np.ones((len(choices), num_shapes), dtype=bool)
    image = np.arange(len(choices))
    for shape in range(1, num_shapes):
        distances = np.abs(tries[:, shape, :, None] - places[:, None, :shape])  # (count, tries, earlier shapes, 2)
        is_free = ((distances >= GLYPH_SIZE).any(axis=3) | ~is_drawn[:, None, :shape]).all(axis=2)
        places[:, shape] = tries[image, shape, is_free.argmax(axis=1)]
        if shape == 1:  # the corner farthest from the first square is always free
            farthest = np.where(places[:, 0] * 2 >= last, 0, last)
            places[:, 1] = np.where(is_free.any(axis=1)[:, None], places[:, 1], farthest)
        else:
            is_drawn[:, shape] = is_free.any(axis=1)
    return places, is_drawn


def _stamp(canvas: np.ndarray, places: np.ndarray, stencils: np.ndarray, values: np.ndarray) -> None:
    """Writes each image's value where its stencil, (count, 3, 3), is set, at its place."""
    image = np.arange(len(canvas))
    for dy in range(GLYPH_SIZE):
        for dx in range(GLYPH_SIZE):
            chosen = image[stencils[:, dy, dx]]
            canvas[chosen, places[chosen, 0] + dy, places[chosen, 1] + dx] = values[chosen]


@lru_cache(maxsize=4)
def _mask_images(settings: MaskSettings, count: int, seed: int, split: str) -> ArrayImages:
    # Remembered, because a sweep's worker asks for the same images in every trial.
    return ArrayImages(*generate_masks(settings, count, seed, split))
