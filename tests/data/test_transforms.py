import pickle
import runpy
import sys

import numpy as np
import pytest

from vitlab.data import transforms
from vitlab.data.transforms import Augmentation

ALL = {
    "crop_padding": 3,
    "horizontal_flip": True,
    "random_resized_crop_scale": 0.5,
    "color_jitter": 0.4,
    "rand_augment_ops": 2,
    "erasing": 0.5,
}


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (23, 13, 17, 3), dtype=np.uint8)


def test_default_changes_nothing(images):
    np.testing.assert_array_equal(Augmentation()(images, 0), images)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_switch_changes_images_but_not_shape_or_input(images, name, channels):
    images = images[..., :channels].copy()
    before = images.copy()
    changed = Augmentation(**{name: ALL[name]})(images, 5)
    assert changed.shape == images.shape
    assert changed.dtype == np.uint8
    assert (changed != images).any()
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("channels", [1, 3])
def test_all_rand_augment_operations_work_together(images, channels):
    changed = Augmentation(rand_augment_ops=12, rand_augment_magnitude=1.0)(images[..., :channels], 0)
    assert changed.shape == images[..., :channels].shape


def test_same_seed_repeats_and_another_differs(images):
    augmentation = Augmentation(**ALL)
    first = augmentation(images, 7)
    other = augmentation(images, 8)
    np.testing.assert_array_equal(augmentation(images, 7), first)
    np.testing.assert_array_equal(Augmentation(**ALL)(images, 7), first)
    assert (first != other).any()


def test_images_of_a_batch_are_changed_differently(images):
    same = np.repeat(images[:1], 20, axis=0)
    assert len({image.tobytes() for image in Augmentation(crop_padding=4)(same, 0)}) > 10


def test_flip_mirrors_about_half_of_the_images(images):
    many = np.repeat(images[:1], 400, axis=0)
    flipped = Augmentation(horizontal_flip=True)(many, 0)
    share = (flipped == many[:, :, ::-1]).all(axis=(1, 2, 3)).mean()
    assert 0.4 < share < 0.6


def test_crop_moves_the_image_by_at_most_the_padding(images):
    for image, crop in zip(images, Augmentation(crop_padding=2)(images, 3), strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
        views = [padded[top : top + 13, left : left + 17] for top in range(5) for left in range(5)]
        assert any((crop == view).all() for view in views)


def test_augmentation_survives_pickling_after_use(images):
    augmentation = Augmentation(**ALL)
    expected = augmentation(images, 1)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(augmentation))(images, 1), expected)


def test_empty_batch_stays_empty(images):
    assert Augmentation(horizontal_flip=True)(images[:0], 0).shape == (0, 13, 17, 3)


def test_argument_that_albumentations_does_not_know_is_an_error(images, monkeypatch):
    monkeypatch.setattr(Augmentation, "_steps", lambda self, library, height, width: [library.HorizontalFlip(prob=1)])
    with pytest.raises(UserWarning, match="prob"):
        Augmentation()(images, 0)


def test_albumentations_is_imported_at_the_first_use_only(monkeypatch, images):
    monkeypatch.setitem(sys.modules, "albumentations", None)  # its import now fails
    fresh = runpy.run_path(transforms.__file__)["Augmentation"](**ALL)
    assert repr(fresh) == repr(Augmentation(**ALL))
    with pytest.raises(ImportError, match="albumentations"):
        fresh(images, 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crop_padding", -1),
        ("random_resized_crop_scale", 0.0),
        ("random_resized_crop_scale", 1.5),
        ("color_jitter", 2.0),
        ("rand_augment_ops", 13),
        ("rand_augment_magnitude", -0.1),
        ("erasing", 1.1),
    ],
)
def test_setting_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        Augmentation(**{name: value})


@pytest.mark.parametrize("shape", [(5, 13, 17), (13, 17, 3)])
def test_other_arrays_are_refused(shape):
    with pytest.raises(ValueError, match="images must be uint8"):
        Augmentation()(np.zeros(shape, dtype=np.uint8), 0)
