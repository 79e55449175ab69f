"""A jitter of color: each change is the host's, in any order, and each image has an order of its own."""

from itertools import permutations

import numpy as np
import pytest
import torch

from vitlab.data import batch_augmentation, byte_images
from vitlab.data.batch_augmentation import BatchAugmentation
from vitlab.data.batch_jitter import HUE, jittered
from vitlab.data.transforms import Augmentation

HEIGHT, WIDTH, BATCH = 11, 13, 7
FACTORS = [0.3, 0.55, 0.8, 1.05, 1.3, 1.55, 1.8]
NAMES = ("brightness", "contrast", "saturation", "hue")
ORDERS = list(permutations(range(4)))


@pytest.fixture(scope="module")
def pixels():
    """Noise of different contrast; the first image has one color, the second is dark, the third gray."""
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[0] = (50, 90, 20)
    pixels[1] //= 3
    pixels[2] = pixels[2, :, :, :1]
    return pixels


def changed_by_host(pixels, order, strengths):
    """albumentations' functions, one after the other; bytes or floats, as pixels are."""
    from albumentations.augmentations.pixel import functional

    for index in order:
        pixels = getattr(functional, f"adjust_{NAMES[index]}_torchvision")(pixels, float(strengths[index]))
    return pixels


def as_batch(pixels):
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def as_pixels(images):
    return images.permute(0, 2, 3, 1).numpy().astype(int)


def random_strengths(count, strength=0.7):
    strengths = 1 + strength * (2 * torch.rand(count, 4, generator=torch.Generator().manual_seed(1)) - 1)
    strengths[:, HUE] = (strengths[:, HUE] - 1) / 3 / strength
    return strengths


@pytest.mark.parametrize(
    ("place", "numbers", "tolerance"),
    [(0, FACTORS, 1), (1, FACTORS, 1), (2, FACTORS, 1), (3, [-0.2, -0.1, -0.02, 0.0, 0.05, 0.13, 0.25], 10)],
)
def test_each_change_is_the_hosts_on_bytes(pixels, place, numbers, tolerance):
    """Of hues the host has but 180."""
    strengths = torch.tensor([[1.0, 1.0, 1.0, 0.0]]).repeat(BATCH, 1)
    strengths[:, place] = torch.tensor(numbers)
    orders = torch.tensor([(place + 1) % 4, place, (place + 2) % 4, (place + 3) % 4]).repeat(BATCH, 1)
    theirs = np.stack([changed_by_host(*each) for each in zip(pixels, [[place]] * BATCH, strengths, strict=True)])
    difference = np.abs(as_pixels(jittered(as_batch(pixels), orders, strengths)) - theirs.astype(int))
    assert difference.max() <= tolerance
    assert difference.mean() < 0.6


@pytest.mark.parametrize("which", range(BATCH))
def test_in_every_order_the_changes_are_the_hosts_on_floats(pixels, which):
    """All orders are in one batch: an image that got another's order or strengths would differ."""
    strengths = random_strengths(len(ORDERS))
    floats = pixels[which].astype(np.float32) / 255
    theirs = 255 * np.stack([changed_by_host(floats, *each) for each in zip(ORDERS, strengths, strict=True)])
    ours = as_pixels(
        jittered(as_batch(pixels[which : which + 1].repeat(len(ORDERS), 0)), torch.tensor(ORDERS), strengths)
    )
    assert np.abs(ours - theirs).max() < 0.51  # half a step is rounding


def test_parts_of_a_batch_are_changed_as_the_whole(pixels, monkeypatch):
    images, orders = as_batch(pixels), torch.tensor(ORDERS[3 : 3 + BATCH])
    whole = jittered(images, orders, random_strengths(BATCH))
    monkeypatch.setattr(byte_images, "_PART_FLOATS", 2 * HEIGHT * WIDTH * 3)
    parts = jittered(images, orders, random_strengths(BATCH))
    assert (parts.int() - whole.int()).abs().max() <= 1  # sums for the mean gray may be added up differently
    assert (parts != whole).float().mean() < 1e-3


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_a_gray_image_stays_gray_and_a_jitter_of_nothing_changes_nothing(pixels, order):
    images, orders = as_batch(pixels), torch.tensor(order).repeat(BATCH, 1)
    nothing = torch.tensor([[1.0, 1.0, 1.0, 0.0]]).repeat(BATCH, 1)
    assert torch.equal(jittered(images, orders, nothing), images)
    one = jittered(images[:, :1], orders, nothing * 0.5 + 0.4)
    three = jittered(images[:, :1].expand(-1, 3, -1, -1), orders, nothing * 0.5 + 0.4)
    assert (three.int() - one.int()).abs().max() <= 1


def test_hues_turn_as_far_as_the_hosts():
    copies = np.zeros((3000, 5, 5, 3), dtype=np.uint8) + np.array([200, 60, 60], dtype=np.uint8)
    augmentation = Augmentation(color_jitter=0.4)
    theirs = augmentation(copies, 1)[:, 0, 0].astype(float)
    ours = BatchAugmentation(augmentation)(as_batch(copies), 2)[:, :, 0, 0].numpy().astype(float)
    turned = [
        np.sort(values[:, 1] - values[:, 2]) for values in (theirs, ours)
    ]  # green against blue: which way, how far
    assert np.abs(turned[0] - turned[1]).mean() < 4


def test_every_order_is_equally_frequent(monkeypatch):
    seen = []
    monkeypatch.setattr(batch_augmentation, "jittered", lambda images, orders, _: seen.append(orders) or images)
    BatchAugmentation(Augmentation(color_jitter=0.4))(torch.zeros(2400, 3, 1, 1, dtype=torch.uint8), 4)
    counts = np.unique(seen[0].numpy(), axis=0, return_counts=True)[1]
    assert len(counts) == len(ORDERS)
    assert ((counts - 100) ** 2 / 100).sum() < 50  # chi-squared with 23 degrees of freedom: 1 in 1000
