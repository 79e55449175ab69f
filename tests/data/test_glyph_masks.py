import hashlib

import numpy as np
import pytest

from vitlab.data import DataModule, GlyphMasks
from vitlab.data.glyph_masks import MASK_CLASSES, MaskSettings, generate_masks
from vitlab.data.glyphs import BACKGROUND, COLORS, GLYPH_SHAPES

BACK, PLUS, CROSS, LONE, PAIRED = range(5)
QUIET = MaskSettings(noise=0)


def test_images_are_pinned_for_every_machine_and_version():
    images, strata, masks = generate_masks(MaskSettings(image_size=17), 101, seed=3, split="train")
    digest = hashlib.sha256(images.tobytes() + strata.astype("<i8").tobytes() + masks.tobytes()).hexdigest()
    assert digest[:16] == "2e0db2a3bd976b22"


def test_larger_set_begins_with_the_smaller(monkeypatch):
    many = generate_masks(MaskSettings(), 101, 0, "train")
    monkeypatch.setattr("vitlab.data.image_stream.CHUNK_BYTES", 50_000)
    for one, other in zip(generate_masks(MaskSettings(), 37, 0, "train"), many, strict=True):
        np.testing.assert_array_equal(one, other[:37])


def test_what_is_background_is_gray_and_what_is_not_has_a_class():
    images, _, masks = generate_masks(QUIET, 503, 0, "train")
    np.testing.assert_array_equal((images == BACKGROUND).all(axis=3), masks == BACK)
    assert set(np.unique(masks)) == set(range(len(MASK_CLASSES)))


def test_two_squares_of_an_image_are_paired_exactly_if_they_share_a_color():
    images, strata, masks = generate_masks(QUIET, 503, 0, "train")
    for image, stratum, mask in zip(images, strata, masks, strict=True):
        square = PAIRED if stratum else LONE
        assert (mask == square).sum() == 18  # two whole squares: nothing ever covers one
        assert not (mask == (LONE if stratum else PAIRED)).any()
        colors = np.unique(image[mask == square], axis=0)
        assert len(colors) == (1 if stratum else 2)
        assert all(color.tolist() in COLORS.tolist() for color in colors)


def test_one_square_alone_does_not_tell_its_class():
    """Each color is as frequent among paired squares as among lone ones."""
    images, _, masks = generate_masks(QUIET, 4001, 0, "train")
    shares = []
    for square in (LONE, PAIRED):
        pixels = images[masks == square]
        shares.append([(pixels == color).all(axis=1).mean() for color in COLORS[: QUIET.num_colors]])
    np.testing.assert_allclose(shares, 0.25, atol=0.03)


def test_glyphs_are_labeled_by_their_shape():
    settings = MaskSettings(noise=0, num_glyphs=1)
    _, _, masks = generate_masks(settings, 503, 0, "train")
    for kind, shape in ((PLUS, GLYPH_SHAPES[0]), (CROSS, GLYPH_SHAPES[1])):
        chosen = masks[(masks == kind).any(axis=(1, 2))]
        assert len(chosen) > 200
        for mask in chosen:
            rows, columns = np.nonzero(mask == kind)
            cut = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] == kind
            np.testing.assert_array_equal(cut, shape == 1)


def test_a_crowd_keeps_its_squares_and_leaves_out_glyphs():
    settings = MaskSettings(image_size=12, noise=0, num_glyphs=16)
    _, _, masks = generate_masks(settings, 2003, 0, "train")
    assert ((masks >= LONE).sum(axis=(1, 2)) == 18).all()
    glyph_pixels = np.isin(masks, (PLUS, CROSS)).sum(axis=(1, 2))
    assert (glyph_pixels % 5 == 0).all()  # only whole glyphs
    assert glyph_pixels.max() < 16 * 5


def test_the_data_set_announces_masks_and_gives_them():
    dataset = GlyphMasks(num_train=31, num_test=17)
    assert (dataset.target, dataset.num_classes, dataset.image_shape) == ("mask", 5, (16, 16))
    for images, size in ((dataset.train(), 31), (dataset.test(), 17)):
        assert len(images) == size
        assert images.targets(np.array([5, 0, 3])).shape == (3, 16, 16)
        assert set(images.labels) == {0, 1}


def test_loaders_serve_each_image_with_its_own_mask():
    data = DataModule(GlyphMasks(num_train=101, num_test=17, noise=0), val_size=11, batch_size=7)
    for images, masks in data.train_dataloader():
        assert (masks.shape, str(masks.dtype)) == ((7, 16, 16), "torch.int64")
        assert ((images == BACKGROUND).all(dim=1) == (masks == BACK)).all()
    assert set(data.manifest()["class_counts"]) == {"lone", "paired"}


def test_fingerprint_tells_contents_apart():
    kinds = [GlyphMasks(), GlyphMasks(seed=1), GlyphMasks(noise=0.2), GlyphMasks(num_glyphs=3), GlyphMasks(num_test=9)]
    assert len({dataset.fingerprint for dataset in kinds}) == len(kinds)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 11}, "image_size 11 is out of range; use 12 to 1024"),
        ({"num_glyphs": 0}, "num_glyphs 0"),
        ({"amplitude": 0.9}, "amplitude 0.9"),
        ({"noise": -0.1}, "noise -0.1"),
        ({"num_colors": 1}, "num_colors 1 is out of range; use 2 to 6"),
        ({"num_train": 1}, "at least 2 images"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        GlyphMasks(**change)
