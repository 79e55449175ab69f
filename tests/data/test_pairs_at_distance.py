import hashlib

import numpy as np
import pytest

from vitlab.data.glyphs import BACKGROUND, COLORS
from vitlab.data.pairs_at_distance import PairsAtDistance, PairSettings, generate_pairs

CLEAR = {"noise": 0.0, "num_colors": 4}


def tokens_of(settings, count=1009, **options):
    """The color of each token, (images, tokens, 3), and the labels."""
    images, labels = generate_pairs(settings, count, options.get("seed", 0), options.get("split", "train"))
    side = settings.token_size
    corners = images[:, ::side, ::side]
    np.testing.assert_array_equal(images, corners.repeat(side, axis=1).repeat(side, axis=2))  # a token has one color
    return corners.reshape(count, settings.num_tokens, 3).astype(int), labels


def marks_of(tokens):
    """Where the two bright tokens are, (images, 2)."""
    bright = tokens.max(axis=2) >= 220
    assert (bright.sum(axis=1) == 2).all()
    return np.argwhere(bright)[:, 1].reshape(-1, 2)


def test_images_are_pinned_for_every_machine_and_version():
    settings = PairSettings(distance=13, image_size=15, token_size=3, num_colors=5, distractors=0.3)
    images, labels = generate_pairs(settings, 101, seed=3, split="train")
    digest = hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == "cfeb852b6df17b90"


@pytest.mark.parametrize("distance", [1, 2, 7, 31, 48])
@pytest.mark.parametrize("distractors", [0.0, 0.5])
def test_the_marked_tokens_are_the_asked_distance_apart_and_match_exactly_in_the_class_same(distance, distractors):
    settings = PairSettings(distance, image_size=14, token_size=2, distractors=distractors, **CLEAR)
    tokens, labels = tokens_of(settings)
    marks = marks_of(tokens)
    np.testing.assert_array_equal(marks[:, 1] - marks[:, 0], distance)
    colors = np.take_along_axis(tokens, marks[..., None], axis=1)
    np.testing.assert_array_equal((colors[:, 0] == colors[:, 1]).all(axis=1), labels == 1)
    assert {tuple(color) for color in colors.reshape(-1, 3)} == {tuple(color) for color in COLORS[:4]}
    assert set(marks[:, 0]) == set(range(49 - distance)), "the pair is drawn everywhere that it fits"


def test_other_tokens_are_gray_or_of_dim_colors():
    for distractors, num_kinds in ((0.0, 1), (0.5, 4)):
        tokens, _ = tokens_of(PairSettings(5, image_size=14, token_size=2, distractors=distractors, **CLEAR))
        others = tokens[tokens.max(axis=2) < 220]
        kinds = np.unique(others, axis=0)
        assert len(kinds) == num_kinds
        np.testing.assert_allclose(np.abs(kinds - BACKGROUND).max(), distractors * (230 - BACKGROUND), atol=1)


def test_classes_are_balanced():
    _, labels = generate_pairs(PairSettings(), 1000, 0, "train")
    assert np.bincount(labels).tolist() == [500, 500]


@pytest.mark.parametrize("distance", [1, 11, 46])
def test_no_mark_alone_nor_any_sum_over_tokens_tells_the_label(distance):
    """Shares of colors and places among the first, the second and all tokens are alike in both classes."""
    count = 20_000
    settings = PairSettings(distance, image_size=7, token_size=1, distractors=0.5, **CLEAR)
    tokens, labels = tokens_of(settings, count)
    marks = marks_of(tokens)
    first, second = np.take_along_axis(tokens, marks[..., None], axis=1).transpose(1, 0, 2)
    facts = [marks[:, :1] == np.arange(49)]
    facts += [(mark[:, None] == COLORS[:4]).all(axis=2) for mark in (first, second)]
    facts = np.concatenate([*facts, tokens.mean(axis=1) / 255], axis=1)
    differences = facts[labels == 1].mean(axis=0) - facts[labels == 0].mean(axis=0)
    errors = facts.std(axis=0) * (4 / count) ** 0.5
    assert (np.abs(differences) <= 4 * errors).all()
    # The whole of both marks does tell it, so the test can fail.
    both = (first == second).all(axis=1)
    assert both[labels == 1].all()
    assert not both[labels == 0].any()


def test_larger_set_begins_with_the_smaller():
    settings = PairSettings(distance=3, image_size=10)
    many, few = (generate_pairs(settings, count, 5, "train") for count in (101, 37))
    for large, small in zip(many, few, strict=True):
        np.testing.assert_array_equal(large[:37], small)


def test_seeds_and_splits_give_other_images():
    kinds = [
        generate_pairs(PairSettings(), 5, seed, split)[0].tobytes() for seed in (0, 1) for split in ("train", "test")
    ]
    assert len(set(kinds)) == 4


def test_noise_has_the_deviation_asked_for():
    quiet, noisy = (generate_pairs(PairSettings(noise=noise), 211, 0, "train")[0].astype(int) for noise in (0, 0.05))
    away_from_the_ends = quiet == BACKGROUND
    assert abs((noisy - quiet)[away_from_the_ends].std() - 0.05 * 255) < 0.15


def test_the_data_set_announces_what_its_images_have():
    dataset = PairsAtDistance(distance=20, image_size=12, num_train=31, num_test=17)
    assert (dataset.name, dataset.num_classes, dataset.in_channels) == ("pairs-at-distance-20", 2, 3)
    for images, size in ((dataset.train(), 31), (dataset.test(), 17)):
        assert images.batch(np.arange(size)).shape == (size, 12, 12, 3)
    np.testing.assert_array_equal(dataset.test().pixels, generate_pairs(dataset.settings, 17, 0, "test")[0])


def test_fingerprint_tells_contents_apart():
    changes = [{}, {"distance": 2}, {"image_size": 18}, {"token_size": 1}, {"num_colors": 3}, {"distractors": 0.2}]
    changes += [{"noise": 0.2}, {"num_train": 9}, {"num_test": 9}, {"seed": 1}]
    assert len({PairsAtDistance(**change).fingerprint for change in changes}) == len(changes)
    assert PairsAtDistance().fingerprint == PairsAtDistance().fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distance": 0}, "pairs distance 0 is out of range; use 1 to 63"),
        ({"distance": 36, "image_size": 12}, "distance 36 is out of range; use 1 to 35"),
        ({"token_size": 3}, "token_size 3 does not divide image_size 16; use one of 1, 2, 4, 8"),
        ({"token_size": 16}, "token_size 16 is out of range; use 1 to 8"),
        ({"image_size": 1}, "image_size 1 is out of range; use 2 to 1024"),
        ({"num_colors": 7}, "num_colors 7 is out of range; use 2 to 6"),
        ({"distractors": 0.8}, "distractors 0.8 is out of range; use 0 to 0.75"),
        ({"noise": -0.1}, "noise -0.1"),
        ({"num_test": 1}, "at least 2 images a split"),
        ({"seed": -1}, "seed -1 is out of range"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        PairsAtDistance(**change)
