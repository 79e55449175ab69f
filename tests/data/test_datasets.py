import numpy as np
import pytest

from vitlab.data import datasets
from vitlab.data.datasets import ArrayImages, Digits, Glyphs


@pytest.mark.parametrize(
    ("dataset", "sizes"),
    [(Glyphs(num_train=31, num_test=17), (31, 17)), (Digits(), (1348, 449)), (Digits(image_size=16), (1348, 449))],
)
def test_images_have_the_announced_shape_and_labels(dataset, sizes):
    for images, size in zip((dataset.train(), dataset.test()), sizes, strict=True):
        assert len(images) == size
        assert images.labels.dtype == np.int64
        assert set(images.labels) == set(range(dataset.num_classes))
        assert len(dataset.class_names) == dataset.num_classes
        batch = images.batch(np.array([5, 0, 3]))
        assert batch.shape == (3, dataset.image_size, dataset.image_size, dataset.in_channels)
        assert batch.dtype == np.uint8


def test_batch_is_a_copy_that_may_be_changed():
    images = Glyphs(num_train=5, num_test=5).train()
    images.batch(np.arange(3))[:] = 0
    assert images.batch(np.arange(3)).any()


def test_more_training_images_leave_the_first_and_the_test_images_alone():
    small, large = Glyphs(num_train=11, num_test=7), Glyphs(num_train=23, num_test=7)
    first = np.arange(11)
    np.testing.assert_array_equal(small.train().batch(first), large.train().batch(first))
    np.testing.assert_array_equal(small.test().batch(first[:7]), large.test().batch(first[:7]))


def test_fingerprint_tells_contents_apart():
    kinds = [Glyphs(), Glyphs(seed=1), Glyphs("local"), Glyphs(noise=0.2), Glyphs(num_train=5), Digits(), Digits(0.5)]
    assert len({dataset.fingerprint for dataset in kinds}) == len(kinds)
    assert Glyphs().fingerprint == Glyphs().fingerprint
    assert Digits().fingerprint == Digits().fingerprint


def test_digits_split_is_stratified_and_complete():
    train, test = Digits().train(), Digits().test()
    counts = np.bincount(train.labels) + np.bincount(test.labels)
    assert counts.sum() == 1797
    np.testing.assert_allclose(np.bincount(test.labels) / counts, 0.25, atol=0.01)
    assert train.pixels.max() == 255


def test_enlarged_digits_repeat_each_pixel():
    small, large = Digits().test(), Digits(image_size=24).test()
    np.testing.assert_array_equal(small.pixels, large.pixels[:, 1::3, 1::3])
    np.testing.assert_array_equal(large.pixels[:, ::3, ::3], large.pixels[:, 2::3, 2::3])


def test_construction_reads_no_data(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("data was read")

    monkeypatch.setattr(datasets, "generate", refuse)
    monkeypatch.setattr(datasets, "digit_images", refuse)
    assert Glyphs(num_train=10**9).num_classes == 2
    assert Digits().num_classes == 10
    with pytest.raises(AssertionError, match="data was read"):
        Digits().train()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Glyphs("global"), "unknown glyphs task"),
        (lambda: Glyphs(num_train=1), "at least 2 images"),
        (lambda: Glyphs(seed=-1), "seed -1"),
        (lambda: Digits(test_fraction=1.0), "test_fraction 1.0"),
        (lambda: Digits(image_size=20), "image_size 20 is not a multiple of 8; use 8, 16"),
        (lambda: ArrayImages(np.zeros((3, 5, 5), np.uint8), np.zeros(3)), "pixels must be uint8"),
        (lambda: ArrayImages(np.zeros((3, 5, 5, 1), np.uint8), np.zeros(2)), "2 labels"),
        (lambda: ArrayImages(np.zeros((3, 5, 5, 1), np.uint8), np.zeros(3), np.zeros((3, 5))), "must be integers"),
        (lambda: ArrayImages(np.zeros((3, 5, 5, 1), np.uint8), np.zeros(3), np.zeros((2, 5), int)), "for 3 images"),
    ],
)
def test_bad_setting_is_refused_in_words(make, message):
    with pytest.raises(ValueError, match=message):
        make()
