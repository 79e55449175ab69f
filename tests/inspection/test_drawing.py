import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from vitlab.inspection.drawing import NUM_COLORS, color_table, data_address, pictures_of

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def test_normalization_is_undone():
    pixels = torch.randint(0, 256, (2, 3, 5, 7), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    seen = pictures_of((pixels / 255 - mean) / std, MEAN, STD)
    assert not seen.is_stretched
    assert np.array_equal(seen.pixels, pixels.permute(0, 2, 3, 1).numpy())
    assert np.array_equal(pictures_of(pixels).pixels, seen.pixels)


def test_an_unknown_range_is_stretched_to_black_and_white_and_said_so():
    images = torch.linspace(-3, 5, 2 * 3 * 5 * 7).view(2, 3, 5, 7)
    seen = pictures_of(images)
    assert seen.is_stretched
    assert [(picture.min(), picture.max()) for picture in seen.pixels] == [(0, 255), (0, 255)]


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_channels_are_shown_gray(channels):
    seen = pictures_of(torch.rand(2, channels, 5, 7)).pixels
    assert seen.shape == (2, 5, 7, 3)
    assert np.array_equal(seen[..., 0], seen[..., 2])


@pytest.mark.parametrize(
    ("images", "mean", "words"),
    [
        (torch.rand(3, 5, 7), None, r"\(batch, channels, height, width\)"),
        (torch.rand(0, 3, 5, 7), None, "not empty"),
        (torch.full((1, 3, 5, 7), torch.nan), None, "not finite"),
        (torch.rand(2, 3, 5, 7), (0.5,), "mean has 1 numbers and the images 3 channels"),
    ],
)
def test_what_is_no_image_is_refused(images, mean, words):
    with pytest.raises(ValueError, match=words):
        pictures_of(images, mean)


@pytest.mark.parametrize(("side", "kind", "off"), [(13, "PNG", 0), (131, "JPEG", 12)])
def test_a_small_picture_travels_exactly_and_a_large_one_nearly(side, kind, off):
    rows, columns = np.mgrid[:side, : side + 2]
    pixels = np.stack([rows, columns, (rows + columns) // 2], axis=-1).astype(np.uint8)
    head, _, body = data_address(pixels).partition(",")
    assert head == f"data:image/{kind.lower()};base64"
    again = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB")).astype(int)
    assert np.abs(again - pixels).max() <= off


def test_colors_become_lighter_from_the_least_to_the_greatest():
    colors = np.frombuffer(bytes.fromhex(color_table()), dtype=np.uint8).reshape(NUM_COLORS, 3)
    luminance = colors @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > -0.6).all()  # but for the rounding to 8 bits
    assert luminance[-1] - luminance[0] > 200
