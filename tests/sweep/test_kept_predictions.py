"""What a trial predicted comes back as it was written, in few bytes; what is broken or of other images is told."""

import numpy as np
import pytest

from vitlab.sweep.kept_predictions import (
    KeptPredictions,
    hash_test_set,
    predictions_path,
    read_predictions,
    write_predictions,
)


def make_kept(num_images=1009, num_classes=10, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=num_images)
    predicted = np.where(rng.random(num_images) < 0.8, labels, rng.integers(num_classes, size=num_images))
    return KeptPredictions(hash_test_set("fingerprint", labels), predicted == labels, labels, predicted)


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_labels_and_predictions_come_back(tmp_path, num_classes):
    kept = make_kept(num_classes=num_classes)
    write_predictions(tmp_path, "abc", kept)
    again = read_predictions(tmp_path, "abc")
    assert again.test_set == kept.test_set
    for name in ("right", "labels", "predicted"):
        np.testing.assert_array_equal(getattr(again, name), getattr(kept, name))


def test_answers_that_are_no_labels_come_back_as_right_or_wrong(tmp_path):
    right = np.random.default_rng(0).random(1009) < 0.3
    write_predictions(tmp_path, "abc", KeptPredictions("0123", right))
    again = read_predictions(tmp_path, "abc")
    assert again.labels is again.predicted is None
    np.testing.assert_array_equal(again.right, right)


def test_ten_thousand_images_of_ten_classes_take_less_than_20_kb_and_always_the_same_bytes(tmp_path):
    kept = make_kept(num_images=10_000)
    for name in ("one", "two"):
        write_predictions(tmp_path, name, kept)
    one, two = (predictions_path(tmp_path, name).read_bytes() for name in ("one", "two"))
    assert len(one) < 20_000
    assert one == two


def test_a_trial_without_predictions_has_none(tmp_path):
    assert read_predictions(tmp_path, "abc") is None


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "pickle", "unequal", "two axes", "no hash"])
def test_a_broken_file_is_named(tmp_path, damage):
    kept = make_kept()
    write_predictions(tmp_path, "abc", kept)
    path = predictions_path(tmp_path, "abc")
    content = path.read_bytes()
    if damage in ("unequal", "two axes", "no hash", "pickle"):
        arrays = {"labels": kept.labels, "predicted": kept.predicted, "test_set": np.array("0123")}
        changes = {
            "unequal": {"predicted": kept.predicted[1:]},
            "two axes": {"labels": kept.labels.reshape(1, -1), "predicted": kept.predicted.reshape(1, -1)},
            "no hash": {},
            "pickle": {"labels": np.array([{}] * len(kept.labels))},
        }[damage]
        if damage == "no hash":
            del arrays["test_set"]
        np.savez(path, **(arrays | changes))
    else:
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "text": b"labels"}[damage])
    with pytest.raises(ValueError, match=r"abc\.npz holds no predictions \(.*\); delete it"):
        read_predictions(tmp_path, "abc")


def test_a_changed_byte_is_noticed_or_changes_nothing(tmp_path):
    kept = make_kept(num_images=211)
    write_predictions(tmp_path, "abc", kept)
    path, noticed = predictions_path(tmp_path, "abc"), 0
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        try:
            again = read_predictions(tmp_path, "abc")
        except ValueError:
            noticed += 1
            continue
        assert again.test_set == kept.test_set
        np.testing.assert_array_equal(again.labels, kept.labels)
        np.testing.assert_array_equal(again.predicted, kept.predicted)
    assert noticed > len(content) / 3 / 2


def test_a_test_set_is_its_images_and_their_labels_in_order():
    labels = np.array([3, 1, 2])
    hashed = hash_test_set("one", labels)
    assert hashed == hash_test_set("one", labels.astype(np.int32))
    others = [hash_test_set("two", labels), hash_test_set("one", labels[::-1]), hash_test_set("one", labels[None])]
    assert len({hashed, *others}) == 4


def test_predictions_fit_a_record_of_as_many_right_answers():
    kept = make_kept(num_images=10_007)
    accuracy = float(np.float32(kept.right.mean()))  # as torch measures it
    assert kept.fits({"test": {"accuracy": accuracy}})
    assert not kept.fits({"test": {"accuracy": accuracy + 1e-4}})
    assert not kept.fits({"test": None})
