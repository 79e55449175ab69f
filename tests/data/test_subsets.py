import hashlib
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitlab.data import subsets
from vitlab.data.subsets import (
    balanced_order,
    manifest,
    nested_subsets,
    proportional_order,
    random_words,
    split_validation,
    write_manifest,
)

labelings = st.lists(st.integers(0, 4), min_size=1, max_size=97)
seeds = st.integers(0, 2**64 - 1)


@settings(max_examples=60, deadline=None)
@given(labelings, seeds)
def test_order_holds_every_image_once(labels, seed):
    assert sorted(balanced_order(labels, seed)) == list(range(len(labels)))


@settings(max_examples=60, deadline=None)
@given(labelings, seeds)
def test_every_prefix_is_balanced_while_the_smallest_class_lasts(labels, seed):
    ordered = np.array(labels)[balanced_order(labels, seed)]
    classes, counts = np.unique(labels, return_counts=True)
    for size in range(1, len(classes) * counts.min() + 1):
        prefix = [(ordered[:size] == label).sum() for label in classes]
        assert max(prefix) - min(prefix) <= 1


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(1, 13), seeds, st.data())
def test_a_stretch_that_starts_at_a_round_is_as_balanced_as_a_prefix(num_classes, per_class, seed, data):
    labels = np.tile(np.arange(num_classes), per_class)
    start = num_classes * data.draw(st.integers(0, per_class - 1))
    stop = data.draw(st.integers(start + 1, len(labels)))
    counts = np.bincount(labels[balanced_order(labels, seed)[start:stop]], minlength=num_classes)
    assert counts.max() - counts.min() <= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(2, 23), seeds, st.data())
def test_subsets_nest_exactly_in_any_order_of_sizes(num_classes, per_class, seed, data):
    labels = np.arange(num_classes * per_class) % num_classes
    sizes = data.draw(st.lists(st.integers(num_classes, len(labels)), min_size=2, max_size=4))
    drawn = nested_subsets(labels, sizes, seed)
    assert [len(subset) for subset in drawn] == sizes
    ascending = sorted(drawn, key=len)
    for smaller, larger in itertools.pairwise(ascending):
        assert larger[: len(smaller)] == smaller


def test_order_depends_on_the_seed_and_leads_with_no_class():
    labels = np.arange(70) % 7
    orders = {tuple(balanced_order(labels, seed)) for seed in range(50)}
    assert len(orders) == 50
    assert {labels[order[0]] for order in orders} == set(range(7))


def test_order_is_pinned_for_every_machine_and_version():
    order = balanced_order(np.arange(101) % 3, 7).astype("<i8")
    assert hashlib.sha256(order.tobytes()).hexdigest()[:16] == "f02741d22c8ccb1f"


def test_order_is_the_same_in_another_process():
    # The file is run alone: importing its package would load Lightning, for seconds.
    program = (
        "import runpy, sys, numpy as np; nested_subsets = runpy.run_path(sys.argv[1])['nested_subsets']; "
        "print(nested_subsets(np.arange(53) % 5, [23], 11)[0])"
    )
    command = [sys.executable, "-c", program, subsets.__file__]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == nested_subsets(np.arange(53) % 5, [23], 11)[0]


def test_streams_and_positions_do_not_overlap():
    draws = [random_words(50, 3, stream, at) for stream in ("order", "subset") for at in (0, 1, 2)]
    assert len(np.unique(np.concatenate(draws))) == 300


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "train_size 0 is below the number of classes; use 3 or more"),
        (-5, "train_size -5 is below the number of classes"),
        (2, "train_size 2 is below the number of classes"),
        (102, "train_size 102 is larger than the 101 training images"),
        (10.0, "train_size 10.0 is not a whole number"),
        (True, "train_size True is not a whole number"),
    ],
)
def test_impossible_size_is_refused_in_words(size, message):
    with pytest.raises(ValueError, match=message):
        nested_subsets(np.arange(101) % 3, [size], 0)


def test_class_too_small_is_named_with_the_largest_balanced_size():
    labels = [0] * 11 + [1] * 3 + [2] * 7
    assert len(nested_subsets(labels, [11], 0)[0]) == 11
    message = r"class dog has only 3 training images; use 11 or fewer, null for all 21 images, or data\.draw: prop"
    with pytest.raises(ValueError, match=message):
        nested_subsets(labels, [12], 0, ["cat", "dog", "eel"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 31), min_size=1, max_size=5), seeds)
def test_classes_keep_their_shares_in_every_prefix_of_a_proportional_draw(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    order = proportional_order(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    seen = np.cumsum(labels[order][:, None] == np.arange(len(counts)), axis=0)  # (size, classes)
    shares = np.array(counts) / len(labels)
    expected = np.arange(1, len(labels) + 1)[:, None] * shares
    assert (abs(seen - expected) < 1 + shares * len(counts)).all()


def test_a_rare_class_is_drawn_as_often_as_its_share_says():
    labels = np.repeat([0, 1, 2], [83, 13, 4])
    rare = [np.isin(order[:11], np.flatnonzero(labels == 2)).sum() for order in map_seeds(labels, 500)]
    assert np.mean(rare) == pytest.approx(11 * 0.04, abs=0.08)  # at most one each: five standard errors


def map_seeds(labels, number):
    return [proportional_order(labels, seed) for seed in range(number)]


def test_a_proportional_draw_gives_any_size_and_nests():
    labels = [0] * 17 + [1] * 3 + [2] * 7
    drawn = nested_subsets(labels, [27, 1, 13], 5, draw="proportional")
    assert [len(subset) for subset in drawn] == [27, 1, 13]
    assert drawn[0][:13] == drawn[2]
    assert drawn[2][:1] == drawn[1]
    assert nested_subsets(labels, [13], 6, draw="proportional") != [drawn[2]]
    for size, message in ((0, "train_size 0 is no image; use 1 or more"), (28, "larger than the 27 training images")):
        with pytest.raises(ValueError, match=message):
            nested_subsets(labels, [size], 5, draw="proportional")


def test_a_proportional_draw_is_pinned_for_every_machine_and_version():
    order = proportional_order(np.arange(101) ** 2 % 7, 7).astype("<i8")
    assert hashlib.sha256(order.tobytes()).hexdigest()[:16] == "025094ffc2de7566"


def test_a_draw_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="unknown draw 'random'; use balanced or proportional"):
        nested_subsets([0, 1], [2], 0, draw="random")


@pytest.mark.parametrize("labels", [[], [[0, 1]], [0.5, 1.0]])
def test_labels_of_another_kind_are_refused(labels):
    with pytest.raises(ValueError, match="labels must be a non-empty list of integers"):
        balanced_order(labels, 0)


def test_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed -1 is out of range"):
        balanced_order([0, 1], -1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 29), min_size=2, max_size=5), seeds, st.data())
def test_validation_split_parts_the_images_and_keeps_every_class(counts, seed, data):
    labels = np.repeat(np.arange(len(counts)), counts)
    size = data.draw(st.integers(len(counts), len(labels) - len(counts)))
    train, val = split_validation(labels, size, seed)
    assert len(val) == size
    assert sorted([*train, *val]) == list(range(len(labels)))
    assert set(labels[train]) == set(labels[val]) == set(range(len(counts)))


def test_validation_split_keeps_the_shares_of_balanced_classes():
    labels = np.arange(1000) % 10
    _, val = split_validation(labels, 0.1, 0)
    assert np.bincount(labels[val]).tolist() == [10] * 10
    _, val = split_validation(labels, 103, 0)
    assert sorted(np.bincount(labels[val]).tolist()) == [10] * 7 + [11] * 3


def test_fraction_of_a_tiny_set_still_takes_one_image_per_class():
    labels = [0, 0, 0, 1, 1, 1]
    _, val = split_validation(labels, 0.1, 0)
    assert [labels[index] for index in val] == [0, 1]


@pytest.mark.parametrize("val_size", [0, -1, 1, 29, 1.5, 0.0, True])
def test_impossible_validation_size_is_refused(val_size):
    with pytest.raises(ValueError, match="val_size"):
        split_validation(np.arange(30) % 2, val_size, 0)


def test_class_with_one_image_cannot_be_split():
    with pytest.raises(ValueError, match="class lynx has 1 image"):
        split_validation([0, 0, 1], 2, 0, ["cat", "lynx"])


def test_manifest_survives_its_file(tmp_path):
    labels = np.arange(31) % 2
    subset = nested_subsets(labels, [7], 5)[0]
    content = manifest("pets", "abc", 5, labels, np.array(subset), ["cat", "dog"])
    write_manifest(tmp_path / "new" / "manifest.json", content)
    assert json.loads((tmp_path / "new" / "manifest.json").read_text()) == content
    assert content["indices"] == subset
    assert sorted(content["class_counts"].values()) == [3, 4]
    assert content["train_size"] == 7


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "manifest.json"
    write_manifest(path, {"indices": [1]})
    with pytest.raises(TypeError):
        write_manifest(path, {"indices": object()})
    assert json.loads(path.read_text()) == {"indices": [1]}
    assert [entry.name for entry in tmp_path.iterdir()] == ["manifest.json"]
