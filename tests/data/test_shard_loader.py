"""Batches from the disk are those of images that stay on the device, bit by bit, however they are shared or resumed."""

import threading

import numpy as np
import pytest
import torch

from vitlab.data import Augmentation, BatchAugmentation
from vitlab.data.datasets import ArrayImages
from vitlab.data.decoded_images import DecodedImages, StoredImages
from vitlab.data.device_loader import EpochOrder, InMemoryLoader
from vitlab.data.resident_loader import ResidentLoader
from vitlab.data.shard_loader import BATCHES_AHEAD, ShardLoader

CPU = torch.device("cpu")
CHANGES = BatchAugmentation(Augmentation(crop_padding=2, horizontal_flip=True, rand_augment_ops=2))
INDICES = np.random.default_rng(1).permutation(53)[:47]


@pytest.fixture
def images(tmp_path, photographs):
    labels = np.random.default_rng(2).integers(0, 7, 53)
    return StoredImages(DecodedImages(photographs(count=53), tmp_path / "decoded"), np.arange(53), labels)


def pair(images, epoch=0, augment=CHANGES, **settings):
    """A loader from the disk and one that holds the same images, of the same order."""
    settings = {"num_images": 47, "batch_size": 6, "seed": 5, "shuffle": True} | settings
    orders = EpochOrder(**settings), EpochOrder(**settings)
    for order in orders:
        order.set_epoch(epoch)
    held = ArrayImages(images.batch(np.arange(53)), images.labels)
    return ShardLoader(images, INDICES, orders[0], CPU, augment), ResidentLoader(held, INDICES, orders[1], CPU, augment)


def assert_same(ours, theirs):
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs) > 0
    for our, their in zip(ours, theirs, strict=True):
        assert torch.equal(our[0], their[0])
        assert torch.equal(our[1], their[1])
        assert our[0].stride() == their[0].stride()
        assert our[1].dtype == torch.int64


@pytest.mark.parametrize(("rank", "world_size"), [(0, 1), (0, 2), (1, 2), (2, 3)])
@pytest.mark.parametrize("epoch", [0, 3])
def test_batches_are_those_of_resident_images(images, epoch, rank, world_size):
    ours, theirs = pair(images, epoch, rank=rank, world_size=world_size)
    assert len(ours) == len(theirs)
    assert_same(ours, theirs)


@pytest.mark.parametrize("world_size", [1, 2])
def test_evaluation_gives_every_image_once_in_order(images, world_size):
    for rank in range(world_size):
        assert_same(*pair(images, augment=None, shuffle=False, rank=rank, world_size=world_size))


def test_without_changes_batches_are_the_host_paths(images):
    ours, theirs = pair(images, augment=None)
    assert_same(ours, InMemoryLoader(images, INDICES, theirs.sampler))


@pytest.mark.parametrize("num_given", [1, 4])
@pytest.mark.parametrize("rank", [0, 1])
def test_an_interrupted_epoch_goes_on_with_what_was_left(images, num_given, rank):
    settings = {"epoch": 2, "rank": rank, "world_size": 2}
    interrupted, whole = pair(images, **settings)
    batches = iter(interrupted)
    given = [next(batches) for _ in range(num_given)]
    state = interrupted.state_dict()
    assert state == {"epoch": 2, "batches": num_given}  # what was read ahead does not count
    again, _ = pair(images, **settings)
    again.load_state_dict(state)
    assert_same([*given, *again], whole)
    again.sampler.set_epoch(3)
    assert_same(again, pair(images, 3, rank=rank, world_size=2)[1])


def test_some_batches_are_read_ahead_and_no_more(images):
    read, enough = [], threading.Event()

    class Watched(StoredImages):
        def batch(self, indices, out=None):
            if out is not None:
                read.append(len(indices))
                if len(read) == BATCHES_AHEAD + 1:
                    enough.set()
            return super().batch(indices, out)

    loader, _ = pair(Watched(images.decoded, images.rows, images.labels))
    assert not read
    batches = iter(loader)
    next(batches)
    assert enough.wait(10)
    batches.close()
    assert read == [6] * (BATCHES_AHEAD + 1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_what_goes_wrong_in_the_thread_is_told(images):
    loader, _ = pair(images)

    class Broken:
        def batch(self, indices, out=None):
            raise OSError("the disk is gone")

    loader.images = Broken()
    with pytest.raises(OSError, match="the disk is gone"):
        list(loader)
