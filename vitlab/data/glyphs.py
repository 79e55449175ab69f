"""A generated data set with one local cue and one relational cue, to show on a laptop when a ViT overtakes a CNN.

The local cue is the shape of small 3x3 glyphs ("+" or "x"), which one convolution sees. The relational cue is whether
two squares have the same color wherever they lie, which attention sees and local filters followed by average pooling do
not.

Everything is integer arithmetic on the raw bits of vitlab.data.image_stream. Hence the same images on every machine.
"""

from dataclasses import dataclass

import numpy as np

from vitlab.data.image_stream import bell_noise, below, image_stream

TASKS = ("local", "relational", "both")
CLASS_NAMES = {
    "local": ("plus", "cross"),
    "relational": ("different", "same"),
    "both": ("plus-different", "cross-same"),
}
GLYPH_SHAPES = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[1, 0, 1], [0, 1, 0], [1, 0, 1]]], dtype=np.int32)
GLYPH_SIZE = 3
COLORS = np.array(
    [[230, 40, 40], [40, 230, 40], [40, 40, 230], [220, 220, 40], [220, 40, 220], [40, 220, 220]], dtype=np.int32
)
BACKGROUND = 64
PLACEMENT_TRIES = 8
NUM_SQUARE_CHOICES = 2 + 2 * (1 + PLACEMENT_TRIES)  # two colors, a place for one square and tries for the other


@dataclass(frozen=True)
class GlyphSettings:
    """What the generated images look like.

    Args:
        task: "local" (the glyphs' shape is the label), "relational" (whether two squares share a color is the label) or
            "both" (the squares always agree with the label, the glyphs only with probability `agreement`).
        image_size: height and width in pixels, 12 or more.
        num_glyphs: glyphs in an image, 1 or more; all have the same shape.
        amplitude: brightness of a glyph above the background, above 0, at most 1.
        noise: standard deviation of the pixel noise, 0 to 1.
        agreement: probability that the glyphs agree with the label in task "both", 0.5 to 1.
        num_colors: colors a square may have, 2 to 6.
        square_size: side of a square in pixels, at most a third of `image_size`.
    """

    task: str = "both"
    image_size: int = 16
    num_glyphs: int = 4
    amplitude: float = 0.6
    noise: float = 0.1
    agreement: float = 0.85
    num_colors: int = 4
    square_size: int = 3

    def __post_init__(self) -> None:
        """Refuses settings that cannot be drawn.

        Raises:
            ValueError: a setting is out of its range.
        """
        if self.task not in TASKS:
            raise ValueError(f"unknown glyphs task {self.task!r}; use one of {', '.join(TASKS)}")
        ranges = {
            "image_size": (12, 1024),
            "num_glyphs": (1, 64),
            "amplitude": (1 / 255, 1),
            "noise": (0, 1),
            "agreement": (0.5, 1),
            "num_colors": (2, len(COLORS)),
            "square_size": (1, self.image_size // 3),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"glyphs {name} {value} is out of range; use {low:.3g} to {high:.3g}")


def generate(settings: GlyphSettings, count: int, seed: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Draws the first `count` images of a split; image i depends on the settings, the seed, the split and i alone.

    Args:
        settings: what the images look like.
        count: number of images, 0 or more.
        seed: seed of the stream, 0 or more.
        split: "train", "test" or "validation".

    Shape:
        images uint8 (count, height, width, 3); labels int64 (count,), alternating so that the classes are balanced.

    Raises:
        ValueError: a negative count or seed, or an unknown split.
    """
    num_values = settings.image_size**2 * 3
    images = np.empty((count, settings.image_size, settings.image_size, 3), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % 2
    for part, choices, noise_bytes in image_stream(count, seed, split, _num_choices(settings), num_values):
        canvas = _draw(settings, labels[part], choices)
        canvas += bell_noise(noise_bytes, settings.noise).reshape(canvas.shape)
        images[part] = np.clip(canvas, 0, 255)
    return images, labels


def square_places(settings: GlyphSettings, count: int, seed: int, split: str) -> np.ndarray:
    """Tells where the two squares of each image lie, for those who want to see whether a model looks there.

    Args:
        settings: what the images look like; their task must have squares.
        count: number of images, as for `generate`.
        seed: seed of the stream, as for `generate`.
        split: "train", "test" or "validation".

    Shape:
        int64 (count, 2, 2): for each square, row and column of its upper left pixel.

    Raises:
        ValueError: the task has no squares; a negative count or seed, or an unknown split.
    """
    if settings.task == "local":
        raise ValueError('the task "local" has no squares; use "relational" or "both"')
    places = np.empty((count, 2, 2), dtype=np.int64)
    num_values = settings.image_size**2 * 3
    for part, choices, _ in image_stream(count, seed, split, _num_choices(settings), num_values):
        places[part] = np.stack(_square_places(settings, choices[:, 3 : 1 + NUM_SQUARE_CHOICES]), axis=1)
    return places


def _num_choices(settings: GlyphSettings) -> int:
    """How many random numbers the layout of one image takes (the noise not counted)."""
    return 1 + NUM_SQUARE_CHOICES + 2 * settings.num_glyphs


def _draw(settings: GlyphSettings, labels: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """The images without noise, as int32 (count, height, width, 3)."""
    size = settings.image_size
    canvas = np.full((len(labels), size, size, 3), BACKGROUND, dtype=np.int32)
    if settings.task != "local":
        _draw_squares(settings, canvas, labels, choices[:, 1 : 1 + NUM_SQUARE_CHOICES])
    if settings.task != "relational":
        agreement = settings.agreement if settings.task == "both" else 1.0
        disagrees = choices[:, 0] >= round(agreement * 2**32)
        _draw_glyphs(settings, canvas, labels ^ disagrees, choices[:, 1 + NUM_SQUARE_CHOICES :])
    return canvas


def _draw_squares(settings: GlyphSettings, canvas: np.ndarray, labels: np.ndarray, choices: np.ndarray) -> None:
    num_colors, side = settings.num_colors, settings.square_size
    first_color = below(choices[:, 0], num_colors)
    other_color = (first_color + 1 + below(choices[:, 1], num_colors - 1)) % num_colors
    second_color = np.where(labels == 1, first_color, other_color)
    first, second = _square_places(settings, choices[:, 2:])
    image = np.arange(len(labels))
    for place, color in ((first, first_color), (second, second_color)):
        for dy in range(side):
            for dx in range(side):
                canvas[image, place[:, 0] + dy, place[:, 1] + dx] = COLORS[color]


def _square_places(settings: GlyphSettings, choices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Upper left pixels of two squares that do not overlap, (count, 2) each."""
    side = settings.square_size
    places = below(choices, settings.image_size - side + 1).reshape(len(choices), 1 + PLACEMENT_TRIES, 2)
    first, tries = places[:, 0], places[:, 1:]
    apart = (np.abs(tries - first[:, None]) >= side).any(axis=2)
    second = tries[np.arange(len(choices)), apart.argmax(axis=1)]
    # When every try overlaps (about one image in a million), the corner farthest from the first square does not.
    farthest = np.where(first * 2 >= settings.image_size - side, 0, settings.image_size - side)
    return first, np.where(apart.any(axis=1)[:, None], second, farthest)


def _draw_glyphs(settings: GlyphSettings, canvas: np.ndarray, shapes: np.ndarray, choices: np.ndarray) -> None:
    places = below(choices[:, : 2 * settings.num_glyphs], settings.image_size - GLYPH_SIZE + 1)
    places = places.reshape(len(shapes), settings.num_glyphs, 2)
    brightness = GLYPH_SHAPES[shapes] * round(settings.amplitude * 255)  # (count, 3, 3)
    image = np.arange(len(shapes))
    for place in places.transpose(1, 2, 0):
        for dy in range(GLYPH_SIZE):
            for dx in range(GLYPH_SIZE):
                canvas[image, place[0] + dy, place[1] + dx] += brightness[:, dy, dx, None]
