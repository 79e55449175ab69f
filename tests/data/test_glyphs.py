import hashlib

import numpy as np
import pytest

from vitlab.data.glyphs import BACKGROUND, COLORS, TASKS, GlyphSettings, generate, square_places

PINNED = {
    "local": "9620f586891caac1",
    "relational": "568646c1af2a7d02",
    "both": "f9df9fcea7ffcd78",
}


@pytest.mark.parametrize("task", TASKS)
def test_images_are_pinned_for_every_machine_and_version(task):
    images, labels = generate(GlyphSettings(task, image_size=17), 101, seed=3, split="train")
    digest = hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == PINNED[task]


@pytest.mark.parametrize("task", TASKS)
def test_larger_set_begins_with_the_smaller(task, monkeypatch):
    settings = GlyphSettings(task, image_size=13)
    many = generate(settings, 101, 0, "train")
    # A small chunk makes the images of the larger set come from several chunks.
    monkeypatch.setattr("vitlab.data.image_stream.CHUNK_BYTES", 50_000)
    few = generate(settings, 37, 0, "train")
    again = generate(settings, 101, 0, "train")
    for one, other, whole in zip(few, many, again, strict=True):
        np.testing.assert_array_equal(one, other[:37])
        np.testing.assert_array_equal(other, whole)


def test_seeds_and_splits_give_other_images():
    settings = GlyphSettings()
    kinds = [generate(settings, 5, seed, split)[0].tobytes() for seed in (0, 1) for split in ("train", "test")]
    assert len(set(kinds)) == 4


def test_classes_are_balanced():
    _, labels = generate(GlyphSettings(), 1000, 0, "train")
    assert np.bincount(labels).tolist() == [500, 500]


@pytest.mark.parametrize("square_size", [3, 4])
def test_squares_share_a_color_exactly_in_the_class_same(square_size):
    settings = GlyphSettings("relational", noise=0, square_size=square_size)
    images, labels = generate(settings, 503, 0, "train")
    for image, label in zip(images, labels, strict=True):
        colors, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
        is_square = (colors != BACKGROUND).any(axis=1)
        # Squares never overlap: the two always cover their full area.
        assert counts[is_square].sum() == 2 * square_size**2
        assert is_square.sum() == (1 if label else 2)
        assert all(color.tolist() in COLORS[: settings.num_colors].tolist() for color in colors[is_square])


def test_squares_stay_apart_when_every_try_overlaps():
    settings = GlyphSettings("relational", noise=0, image_size=12, square_size=4)
    images, _ = generate(settings, 30_000, 0, "train")
    assert ((images != BACKGROUND).any(axis=3).sum(axis=(1, 2)) == 32).all()


def test_glyph_shape_tells_the_class_of_the_local_task():
    settings = GlyphSettings("local", noise=0, num_glyphs=1)
    images, labels = generate(settings, 503, 0, "train")
    bright = (images[..., 0] > BACKGROUND).astype(int)
    # A plus has pixels side by side, a cross only diagonally.
    touching = (bright[:, 1:] * bright[:, :-1]).any(axis=(1, 2))
    np.testing.assert_array_equal(touching, labels == 0)


def test_glyphs_agree_with_the_label_as_often_as_asked():
    same = GlyphSettings("both", noise=0, agreement=1.0)
    often = GlyphSettings("both", noise=0, agreement=0.85)
    agreeing, _ = generate(same, 4001, 0, "train")
    images, _ = generate(often, 4001, 0, "train")
    share = (images == agreeing).all(axis=(1, 2, 3)).mean()
    assert abs(share - 0.85) < 3 * (0.85 * 0.15 / 4001) ** 0.5


def test_noise_has_the_deviation_asked_for():
    settings = GlyphSettings("local", noise=0.05, amplitude=1 / 255)
    images, _ = generate(settings, 503, 0, "train")
    assert abs(images.std() - 0.05 * 255) < 0.15
    assert abs(images.mean() - BACKGROUND) < 1


def test_squares_are_where_it_is_said():
    settings = GlyphSettings("relational", image_size=17, noise=0)
    images, labels = generate(settings, 101, 3, "test")
    for image, label, places in zip(images, labels, square_places(settings, 101, 3, "test"), strict=True):
        colored = np.zeros((17, 17), dtype=bool)
        corners = [image[row, column].tolist() for row, column in places]
        for row, column in places:
            colored[row : row + 3, column : column + 3] = True
        assert np.array_equal(colored, np.ptp(image.astype(int), axis=2) > 100)
        assert colored.sum() == 18
        assert (corners[0] == corners[1]) == bool(label)
    with pytest.raises(ValueError, match='"local" has no squares; use "relational" or "both"'):
        square_places(GlyphSettings("local"), 1, 0, "test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "global"}, "unknown glyphs task 'global'; use one of local, relational, both"),
        ({"image_size": 11}, "image_size 11 is out of range; use 12"),
        ({"num_glyphs": 0}, "num_glyphs 0"),
        ({"amplitude": 1.5}, "amplitude 1.5"),
        ({"noise": -0.1}, "noise -0.1"),
        ({"agreement": 0.4}, "agreement 0.4 is out of range; use 0.5 to 1"),
        ({"num_colors": 7}, "num_colors 7"),
        ({"square_size": 6}, "square_size 6 is out of range; use 1 to 5"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        GlyphSettings(**change)


def test_unknown_split_and_negative_seed_are_refused():
    with pytest.raises(ValueError, match="unknown split 'val'"):
        generate(GlyphSettings(), 1, 0, "val")
    with pytest.raises(ValueError, match="seed -1"):
        generate(GlyphSettings(), 1, -1, "train")
