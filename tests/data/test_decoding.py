import numpy as np
import pytest
from PIL import Image

from vitlab.data.decoding import read_image

HEIGHT, WIDTH = 11, 7


@pytest.fixture
def colors():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def test_rgb_file_is_read_unchanged(tmp_path, colors):
    Image.fromarray(colors).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colors)


def test_gray_file_among_rgb_repeats_its_channel(tmp_path, colors):
    Image.fromarray(colors[..., 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colors[..., :1].repeat(3, axis=2))


def test_rgb_file_becomes_gray_on_request(tmp_path, colors):
    Image.fromarray(colors).save(tmp_path / "a.png")
    gray = read_image(tmp_path / "a.png", in_channels=1)
    assert gray.shape == (HEIGHT, WIDTH, 1)
    np.testing.assert_allclose(gray[..., 0], colors @ np.array([0.299, 0.587, 0.114]), atol=1)


@pytest.mark.parametrize("in_channels", [1, 3])
def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path, in_channels):
    values = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        image = read_image(tmp_path / name, in_channels)
        np.testing.assert_array_equal(image[..., 0], np.rint(values / 257).astype(np.uint8))
        assert image.shape == (HEIGHT, WIDTH, in_channels)


def test_palette_file_becomes_its_colors(tmp_path):
    image = Image.new("P", (WIDTH, HEIGHT), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.save(tmp_path / "a.png")
    assert np.unique(read_image(tmp_path / "a.png").reshape(-1, 3), axis=0).tolist() == [[10, 200, 30]]


def test_transparent_palette_entry_becomes_white(tmp_path):
    image = Image.new("P", (WIDTH, HEIGHT), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.save(tmp_path / "a.png", transparency=b"\xff\x00")
    assert (read_image(tmp_path / "a.png") == 255).all()


@pytest.mark.parametrize("in_channels", [1, 3])
def test_transparency_is_laid_over_white(tmp_path, in_channels):
    pixels = np.zeros((HEIGHT, WIDTH, 4), dtype=np.uint8)
    pixels[:5, :, 3] = 255
    pixels[5, :, 3] = 51
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", in_channels)
    assert (image[:5] == 0).all()
    assert (image[5] == 204).all()
    assert (image[6:] == 255).all()


def test_cmyk_and_bilevel_files_are_converted(tmp_path):
    Image.new("CMYK", (WIDTH, HEIGHT), (0, 0, 0, 255)).save(tmp_path / "a.tif")
    Image.new("1", (WIDTH, HEIGHT), 1).save(tmp_path / "b.png")
    assert (read_image(tmp_path / "a.tif") < 40).all()
    assert (read_image(tmp_path / "b.png") == 255).all()


def test_camera_orientation_is_applied(tmp_path, colors):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise
    Image.fromarray(colors).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(colors, -1))


def test_middle_square_is_kept_in_the_wanted_size(tmp_path):
    # Three bands of 20x20: only the middle one survives.
    bands = np.repeat(np.array([[[255, 0, 0]], [[0, 255, 0]], [[0, 0, 255]]], dtype=np.uint8), 20, axis=0)
    Image.fromarray(bands.repeat(20, axis=1)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", image_size=5)
    assert image.shape == (5, 5, 3)
    assert (image[1:4] == [0, 255, 0]).all()


def test_shrinking_does_not_alias(tmp_path):
    checks = (np.indices((90, 90)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(checks).save(tmp_path / "a.png")
    assert abs(read_image(tmp_path / "a.png", image_size=9).astype(int) - 127).max() < 20


@pytest.mark.parametrize("size", [(3, 2), (1000, 1), (7, 11)])
def test_any_shape_becomes_the_wanted_square(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", image_size=13).shape == (13, 13, 3)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_truncated_file_is_named(tmp_path, colors, name):
    Image.fromarray(colors.repeat(9, axis=0).repeat(9, axis=1)).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"cannot read image .*{name}"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_file_that_is_no_image_is_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read image .*a\.png"):
        read_image(tmp_path / "a.png")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read image .*gone\.png"):
        read_image(tmp_path / "gone.png")


def test_floating_point_file_is_refused_in_words(tmp_path):
    Image.fromarray(np.zeros((HEIGHT, WIDTH), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif: floating-point pixels"):
        read_image(tmp_path / "a.tif")


def test_wide_integers_are_refused_in_words(tmp_path):
    Image.fromarray(np.full((HEIGHT, WIDTH), 70000, dtype=np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="beyond 16 bits"):
        read_image(tmp_path / "a.tif")


def test_other_channel_counts_are_refused(tmp_path):
    with pytest.raises(ValueError, match="in_channels 4"):
        read_image(tmp_path / "a.png", in_channels=4)
