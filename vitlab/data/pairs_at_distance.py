"""A generated data set with a distance knob: do two marked tokens match that lie so many tokens apart?

Sequence models differ in how far they carry what they saw: a recurrent net hands it on from token to token, and
self-attention reaches any distance in one step (Vaswani et al., arXiv 1706.03762, section 4 and table 1). The task is
of the adding problem's kind (Hochreiter and Schmidhuber, Neural Computation 9(8), 1997, section 5.4), as an image.

Each square of token_size pixels is a token. Two of them, exactly `distance` apart in row order, are bright; the label
is whether these two have the same color. All others are gray or, as distractors, have dim random colors.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vitlab.data.datasets import ArrayImages, ImageDataset, Images, content_hash
from vitlab.data.glyphs import BACKGROUND, COLORS
from vitlab.data.image_stream import bell_noise, below, image_stream

_NUM_MARK_CHOICES = 3  # place of the pair, its first color, its second color


@dataclass(frozen=True)
class PairSettings:
    """What the generated images look like.

    Args:
        distance: tokens from the first marked one to the second, in row order, 1 to tokens - 1.
        image_size: height and width in pixels, a multiple of `token_size`, 2 to 1024.
        token_size: side of a token in pixels, 1 or more; a model sees the same tokens with this patch size.
        num_colors: colors a token may have, 2 to 6.
        distractors: contrast of the unmarked tokens' random colors, 0 (all gray) to 0.75; the marked ones have 1.
        noise: standard deviation of the pixel noise, 0 to 1.
    """

    distance: int = 16
    image_size: int = 16
    token_size: int = 2
    num_colors: int = 2
    distractors: float = 0.0
    noise: float = 0.1

    def __post_init__(self) -> None:
        """Refuses settings that cannot be drawn.

        Raises:
            ValueError: a setting is out of its range.
        """
        self._check("image_size", 2, 1024)
        self._check("token_size", 1, self.image_size // 2)
        if self.image_size % self.token_size:
            sides = [str(side) for side in range(1, self.image_size // 2 + 1) if self.image_size % side == 0]
            raise ValueError(
                f"pairs token_size {self.token_size} does not divide image_size {self.image_size}; use one of "
                f"{', '.join(sides)}"
            )
        self._check("distance", 1, self.num_tokens - 1)
        self._check("num_colors", 2, len(COLORS))
        self._check("distractors", 0, 0.75)
        self._check("noise", 0, 1)

    @property
    def num_tokens(self) -> int:
        """Tokens in an image."""
        return (self.image_size // self.token_size) ** 2

    def _check(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not low <= value <= high:
            raise ValueError(f"pairs {name} {value} is out of range; use {low} to {high}")


class PairsAtDistance(ImageDataset):
    """Generated images with two bright tokens, `distance` apart in row order, of the same color or not.

    One bright token alone says nothing about the label, nor does any sum over tokens taken one by one: whatever decides
    must bring the two together.

    Args:
        distance: tokens from the first marked one to the second, in row order, 1 to tokens - 1.
        image_size: height and width in pixels, a multiple of `token_size`, 2 to 1024.
        token_size: side of a token in pixels, 1 or more; a model sees the same tokens with this patch size.
        num_colors: colors a token may have, 2 to 6.
        distractors: contrast of the unmarked tokens' random colors, 0 (all gray) to 0.75; the marked ones have 1.
        noise: standard deviation of the pixel noise, 0 to 1.
        num_train: number of training images, 2 or more.
        num_test: number of test images, 2 or more.
        seed: seed of the images, 0 or more; the first images of a larger set are those of a smaller one.

    Raises:
        ValueError: a setting is out of its range.
    """

    in_channels = 3
    class_names = ("different", "same")

    def __init__(
        self,
        distance: int = 16,
        image_size: int = 16,
        token_size: int = 2,
        num_colors: int = 2,
        distractors: float = 0.0,
        noise: float = 0.1,
        num_train: int = 10_000,
        num_test: int = 2_000,
        seed: int = 0,
    ) -> None:
        self.settings = PairSettings(distance, image_size, token_size, num_colors, distractors, noise)
        if num_train < 2 or num_test < 2:
            raise ValueError(f"pairs need at least 2 images a split; got num_train {num_train}, num_test {num_test}")
        if not 0 <= seed < 2**64:
            raise ValueError(f"pairs seed {seed} is out of range; use 0 to 2**64 - 1")
        self.name = f"pairs-at-distance-{distance}"
        self.image_size = image_size
        self.num_train, self.num_test, self.seed = num_train, num_test, seed

    @property
    def fingerprint(self) -> str:
        """Hash of the settings, which fix every pixel."""
        return content_hash(repr((self.settings, self.num_train, self.num_test, self.seed)).encode())

    def train(self) -> Images:
        """The generated training images."""
        return _pair_images(self.settings, self.num_train, self.seed, "train")

    def test(self) -> Images:
        """The generated test images."""
        return _pair_images(self.settings, self.num_test, self.seed, "test")


def generate_pairs(settings: PairSettings, count: int, seed: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Draws the first `count` images of a split; image i depends on the settings, the seed, the split and i alone.

    Args:
        settings: what the images look like.
        count: number of images, 0 or more.
        seed: seed of the stream, 0 or more.
        split: "train" or "test".

    Shape:
        images uint8 (count, height, width, 3); labels int64 (count,), alternating so that the classes are balanced.

    Raises:
        ValueError: a negative count or seed, or an unknown split.
    """
    side = settings.image_size
    images = np.empty((count, side, side, 3), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % 2
    num_choices = _NUM_MARK_CHOICES + settings.num_tokens
    for part, choices, noise_bytes in image_stream(count, seed, split, num_choices, side * side * 3):
        canvas = _draw(settings, labels[part], choices)
        canvas += bell_noise(noise_bytes, settings.noise).reshape(canvas.shape)
        images[part] = np.clip(canvas, 0, 255)
    return images, labels


def _draw(settings: PairSettings, labels: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """The images without noise, as int32 (count, height, width, 3)."""
    first = below(choices[:, 0], settings.num_tokens - settings.distance)
    color = below(choices[:, 1], settings.num_colors)
    other_color = (color + 1 + below(choices[:, 2], settings.num_colors - 1)) % settings.num_colors
    around = below(choices[:, _NUM_MARK_CHOICES : _NUM_MARK_CHOICES + settings.num_tokens], settings.num_colors)
    dim_colors = BACKGROUND + ((COLORS - BACKGROUND) * round(settings.distractors * 256) >> 8)
    tokens = dim_colors[around]  # (count, tokens, 3)
    image = np.arange(len(labels))
    tokens[image, first] = COLORS[color]
    tokens[image, first + settings.distance] = COLORS[np.where(labels == 1, color, other_color)]
    rows = settings.image_size // settings.token_size
    squares = tokens.reshape(len(labels), rows, rows, 3)
    return squares.repeat(settings.token_size, axis=1).repeat(settings.token_size, axis=2)


@lru_cache(maxsize=4)
def _pair_images(settings: PairSettings, count: int, seed: int, split: str) -> ArrayImages:
    # Remembered, because a sweep's worker asks for the same images in every trial.
    return ArrayImages(*generate_pairs(settings, count, seed, split))
