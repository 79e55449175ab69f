"""Random resized crops: parts that the host's pipeline could draw, scaled as it scales them."""

import numpy as np
import pytest
import torch

from vitlab.data.batch_crops import random_parts, resized_crop, sampled_parts
from vitlab.data.transforms import Augmentation, scaled_parts

HEIGHT, WIDTH, BATCH = 29, 31, 64


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (BATCH, HEIGHT, WIDTH, 3), dtype=np.uint8)


def as_batch(pixels):
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def as_pixels(images):
    return images.permute(0, 2, 3, 1).numpy()


def uniform(*shape):
    return np.random.default_rng(1).random(shape, dtype=np.float32)


def test_parts_are_scaled_to_the_byte_as_the_host_does(pixels):
    from albumentations.augmentations.crops.functional import crop
    from albumentations.augmentations.geometric.functional import resize

    start, shape = random_parts(HEIGHT, WIDTH, 0.1, uniform(BATCH, 10, 4))
    corners = np.concatenate((start[::-1], (start + shape)[::-1])).T.tolist()  # left, top, right, bottom
    theirs = [
        resize(crop(image, *corner), (HEIGHT, WIDTH), interpolation=1)
        for image, corner in zip(pixels, corners, strict=True)
    ]
    assert np.array_equal(scaled_parts(pixels, start, shape), np.stack(theirs))


@pytest.mark.parametrize("channels", [1, 3])
def test_parts_sampled_at_once_are_those_scaled_one_by_one_up_to_rounding(pixels, channels):
    """OpenCV calculates with eleven bits behind the point, and cuts off more: a tenth of a step on average."""
    start, shape = random_parts(HEIGHT, WIDTH, 0.1, uniform(BATCH, 10, 4))
    theirs = scaled_parts(pixels[..., :channels], start, shape).astype(int)
    difference = as_pixels(sampled_parts(as_batch(pixels)[:, :channels], start, shape)) - theirs
    assert np.abs(difference).max() <= 1
    assert np.abs(difference).mean() < 0.15


def test_parts_lie_inside_and_have_the_area_and_ratio_allowed():
    start, shape = random_parts(HEIGHT, WIDTH, 0.3, uniform(5000, 10, 4))
    sizes = np.array([[HEIGHT], [WIDTH]])
    assert ((start >= 0) & (start + shape <= sizes) & (shape >= 1)).all()
    heights, widths = shape
    assert ((widths + 0.5) / (heights - 0.5) >= 3 / 4).all()
    assert ((widths - 0.5) / (heights + 0.5) <= 4 / 3).all()
    assert (heights + 0.5) @ (widths + 0.5) / 5000 / (HEIGHT * WIDTH) == pytest.approx(0.63, abs=0.05)
    assert ((heights + 0.5) * (widths + 0.5) >= 0.3 * HEIGHT * WIDTH).all()
    free = sizes - shape
    ends = [(where[free > 3]).mean() for where in (start == 0, start == free)]
    assert ends[0] == pytest.approx(ends[1], abs=0.02)
    assert min(ends) > 0.05


def test_the_first_attempt_that_fits_counts():
    numbers = uniform(BATCH, 10, 4)
    numbers[:, 0, :2] = (1.0, 0.0)  # the whole area in a ratio that an image of nearly equal sides has no place for
    first = random_parts(HEIGHT, WIDTH, 0.2, numbers)
    assert np.array_equal(first, random_parts(HEIGHT, WIDTH, 0.2, numbers[:, 1:]))


@pytest.mark.parametrize(("height", "width"), [(12, 40), (40, 12)])
def test_where_no_part_fits_the_middle_is_taken_as_the_host_does(height, width):
    pixels = np.random.default_rng(2).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    theirs = Augmentation(random_resized_crop_scale=1.0)(pixels, 3)
    ours = resized_crop(as_batch(pixels), 1.0, torch.from_numpy(uniform(3, 10, 4)))
    assert np.array_equal(as_pixels(ours), theirs)


def test_where_no_part_of_nearly_equal_sides_fits_the_image_itself_is_left(pixels):
    numbers = torch.ones(BATCH, 1, 4) * torch.tensor([1.0, 0.5, 0.0, 0.0])  # all of the area, as a square
    assert torch.equal(resized_crop(as_batch(pixels), 0.5, numbers), as_batch(pixels))
    assert torch.equal(
        sampled_parts(as_batch(pixels), *random_parts(HEIGHT, WIDTH, 0.5, numbers.numpy())), as_batch(pixels)
    )
