import hashlib

import numpy as np
import pytest

from vitlab.data import DataModule, DigitLines
from vitlab.data.datasets import digit_images
from vitlab.data.digit_lines import split_digits

QUIET = {"num_train": 101, "num_val": 23, "num_test": 37, "noise": 0.0}


def test_lines_are_pinned_for_every_machine_and_version():
    images = DigitLines(num_train=101).train()
    digest = hashlib.sha256(
        images.pixels.tobytes() + images.targets(np.arange(101)).astype("<i8").tobytes()
    ).hexdigest()
    assert digest[:16] == "0a9b19d1e7bc4fe4"


def test_more_lines_leave_the_first_alone():
    few, many = DigitLines(num_train=31).train(), DigitLines(num_train=103).train()
    first = np.arange(31)
    np.testing.assert_array_equal(few.batch(first), many.batch(first))
    np.testing.assert_array_equal(few.targets(first), many.targets(first))


def test_no_digit_image_is_in_two_splits():
    splits = split_digits()
    together = np.concatenate(list(splits.values()))
    assert sorted(together) == list(range(1797))
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [1078, 270, 449]
    labels = digit_images()[1]
    assert all(set(labels[indices]) == set(range(10)) for indices in splits.values())


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_line_of_one_digit_holds_an_image_of_its_split_and_class(split):
    pixels, labels = digit_images()
    allowed = {(labels[i], pixels[i].tobytes()) for i in split_digits()[split]}
    lines = getattr(DigitLines(image_size=(8, 8), max_digits=1, **QUIET), split)()
    for image, sequence in zip(lines.pixels, lines.targets(np.arange(len(lines))), strict=True):
        assert (sequence[0], image.tobytes()) in allowed


def test_digits_stand_in_the_order_of_the_sequence():
    """In a line as narrow as its digits nothing is left to chance but the rows."""
    pixels, labels = digit_images()
    known = {pixels[i].tobytes(): labels[i] for i in split_digits()["train"]}
    lines = DigitLines(image_size=(8, 24), max_digits=3, **QUIET).train()
    full = np.flatnonzero(lines.labels == 2)
    assert len(full) > 30
    for image, sequence in zip(lines.batch(full), lines.targets(full), strict=True):
        cells = [image[:, 8 * place : 8 * place + 8].tobytes() for place in range(3)]
        assert [known[cell] for cell in cells] == sequence.tolist()


def test_digits_never_overlap_and_go_everywhere():
    """All the ink of a line's digits is there, and every row and column has some in some line."""
    lines = DigitLines(image_size=(11, 29), max_digits=3, **QUIET | {"num_train": 601}).train()
    pixels, labels = digit_images()
    least = {digit: pixels[labels == digit].sum(axis=(1, 2, 3)).min() for digit in range(10)}
    for image, sequence in zip(lines.pixels, lines.targets(np.arange(601)), strict=True):
        assert image.sum() >= sum(least[digit] for digit in sequence if digit >= 0)
    assert (lines.pixels.max(axis=0) > 0).all(axis=2)[:, 1:-1].all()


def test_each_number_of_digits_is_equally_frequent_and_filled_up():
    lines = DigitLines(num_train=500).train()
    sequences = lines.targets(np.arange(500))
    lengths = (sequences >= 0).sum(axis=1)
    np.testing.assert_array_equal(lengths, lines.labels + 1)
    assert np.bincount(lengths).tolist() == [0, 100, 100, 100, 100, 100]
    assert all((row[length:] == -1).all() for row, length in zip(sequences, lengths, strict=True))


def test_the_data_set_announces_sequences_and_lines_that_are_not_square():
    dataset = DigitLines(**QUIET)
    data = DataModule(dataset, train_size=50, batch_size=7)
    assert (data.target, data.num_classes, data.image_size, data.image_shape) == ("sequence", 10, (12, 56), (12, 56))
    images, sequences = next(iter(data.train_dataloader()))
    assert images.shape == (7, 1, 12, 56)
    assert (sequences.shape, str(sequences.dtype)) == ((7, 5), "torch.int64")
    names = ["1 digit", "2 digits", "3 digits", "4 digits", "5 digits"]
    assert data.manifest()["class_counts"] == dict.fromkeys(names, 10)
    assert sum(len(batch) for batch, _ in data.val_dataloader()) == 23


def test_fingerprint_tells_contents_apart():
    kinds = [DigitLines(), DigitLines(seed=1), DigitLines(max_digits=4), DigitLines(noise=0.2), DigitLines((16, 56))]
    assert len({dataset.fingerprint for dataset in kinds}) == len(kinds)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": (12, 39)}, r"\[12, 39\] does not hold 5 digits .* a width of 40 or more"),
        ({"image_size": (7, 56)}, "use a height of 8"),
        ({"max_digits": 0}, "max_digits 0 is out of range; use 1 to 9"),
        ({"num_val": 9}, "9 validation lines are too few; use 2 for each number of digits: 10"),
        ({"seed": -1}, "seed -1"),
        ({"noise": 2.0}, "noise 2.0"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        DigitLines(**change)
