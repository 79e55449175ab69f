import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitlab.data.datasets import ArrayImages
from vitlab.data.device_loader import EpochOrder, InMemoryLoader, WorkerLoader
from vitlab.data.transforms import Augmentation

NUM_IMAGES = 53


@pytest.fixture
def images():
    """Each image is of one gray, and its label the same number."""
    pixels = (
        np.zeros((NUM_IMAGES, 7, 5, 3), dtype=np.uint8) + np.arange(NUM_IMAGES, dtype=np.uint8)[:, None, None, None]
    )
    return ArrayImages(pixels, np.arange(NUM_IMAGES))


def positions(order):
    return [plan.positions.tolist() for plan in order]


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 97), st.integers(1, 40), st.integers(1, 5), st.booleans(), st.integers(0, 5))
def test_devices_share_the_batches_without_padding_or_loss(num_images, batch_size, world_size, shuffle, epoch):
    if num_images < world_size:
        return
    batch_size *= world_size
    whole = EpochOrder(num_images, batch_size, 3, shuffle)
    ranks = [EpochOrder(num_images, batch_size, 3, shuffle, rank, world_size) for rank in range(world_size)]
    for order in [whole, *ranks]:
        order.set_epoch(epoch)
    shares = [positions(order) for order in ranks]
    seen = sorted(index for share in shares for batch in share for index in batch)
    assert all(batch for share in shares for batch in share)
    assert len({len(share) for share in shares}) == 1
    assert all(len(order) == len(positions(order)) for order in ranks)
    if shuffle:
        # Every device count trains on the same images in the same steps.
        assert seen == sorted(index for batch in positions(whole) for index in batch)
        for step, batch in enumerate(positions(whole)):
            assert sorted(index for share in shares for index in share[step]) == sorted(batch)
    else:
        assert seen == list(range(num_images))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 97), st.integers(1, 40))
def test_training_batches_are_full_and_hold_no_image_twice(num_images, batch_size):
    batches = positions(EpochOrder(num_images, batch_size, 0, shuffle=True))
    assert {len(batch) for batch in batches} == {min(batch_size, num_images)}
    flat = [index for batch in batches for index in batch]
    assert len(set(flat)) == len(flat) > num_images - batch_size


def test_order_is_a_function_of_seed_and_epoch():
    def draw(seed, epoch):
        order = EpochOrder(NUM_IMAGES, 10, seed, shuffle=True)
        order.set_epoch(epoch)
        return str(positions(order))

    assert draw(1, 2) == draw(1, 2)
    assert len({draw(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9


def test_global_random_number_generators_are_neither_read_nor_advanced(images):
    def run():
        order = EpochOrder(NUM_IMAGES, 10, 0, shuffle=True)
        memory = InMemoryLoader(images, np.arange(NUM_IMAGES), order, Augmentation(crop_padding=2))
        worker = WorkerLoader(images, np.arange(NUM_IMAGES), order, Augmentation(crop_padding=2))
        return [batch[0].sum().item() for loader in (memory, worker) for batch in loader]

    torch.manual_seed(0)
    np.random.seed(0)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = run()
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])
    torch.manual_seed(1)
    np.random.seed(1)
    assert run() == first


@pytest.mark.parametrize("kind", [InMemoryLoader, WorkerLoader])
def test_batches_are_channels_first_with_their_own_labels(images, kind):
    loader = kind(images, np.arange(0, NUM_IMAGES, 2), EpochOrder(27, 10, 0, shuffle=True))
    batches = list(loader)
    assert len(batches) == len(loader) == 2
    for pixels, labels in batches:
        assert (pixels.shape, pixels.dtype) == ((10, 3, 7, 5), torch.uint8)
        assert (labels.shape, labels.dtype) == ((10,), torch.int64)
        assert pixels.is_contiguous(memory_format=torch.channels_last)  # what convolutions are quickest with
        assert torch.equal(pixels[:, 2, 6, 4].long(), labels)
        assert (labels % 2 == 0).all()


@pytest.mark.parametrize("kind", [InMemoryLoader, WorkerLoader])
def test_targets_that_are_more_than_labels_come_with_their_own_images(images, kind):
    masks = np.arange(NUM_IMAGES * 35, dtype=np.uint16).reshape(NUM_IMAGES, 7, 5)
    loader = kind(ArrayImages(images.pixels, images.labels, masks), np.arange(0, NUM_IMAGES, 2), EpochOrder(27, 10))
    seen = 0
    for pixels, targets in loader:
        assert (targets.shape, targets.dtype) == ((len(pixels), 7, 5), torch.int64)
        assert torch.equal(targets[:, 0, 0], 35 * pixels[:, 0, 0, 0].long())
        seen += len(pixels)
    assert seen == 27


def test_channels_are_not_mixed_up_with_rows():
    pixels = np.random.default_rng(0).integers(0, 256, (11, 7, 5, 3), dtype=np.uint8)
    for augment in (None, Augmentation()):
        (batch, _), *_ = InMemoryLoader(ArrayImages(pixels, np.arange(11)), np.arange(11), EpochOrder(11, 11), augment)
        np.testing.assert_array_equal(batch, pixels.transpose(0, 3, 1, 2))


def epochs_of(loader, count=2):
    result = []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        result.append([batch[0].clone() for batch in loader])
    return result


def test_any_number_of_workers_gives_the_same_augmented_images():
    pixels = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 13, 11, 3), dtype=np.uint8)
    images = ArrayImages(pixels, np.arange(NUM_IMAGES))

    def run(kind, *num_workers):
        order = EpochOrder(NUM_IMAGES, 9, 5, shuffle=True)
        augment = Augmentation(crop_padding=3, horizontal_flip=True)
        return epochs_of(kind(images, np.arange(NUM_IMAGES), order, augment, *num_workers))

    expected = run(InMemoryLoader)
    for other in (run(WorkerLoader, 0), run(WorkerLoader, 2)):
        for epoch, again in zip(expected, other, strict=True):
            assert all(torch.equal(one, two) for one, two in zip(epoch, again, strict=True))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_batches_and_epochs_augment_differently(num_workers):
    # All images are alike: whatever differs was made different by the augmentation.
    pixels = np.random.default_rng(0).integers(0, 256, (1, 13, 11, 3), dtype=np.uint8).repeat(40, axis=0)
    images = ArrayImages(pixels, np.arange(40))
    order = EpochOrder(40, 10, 0, shuffle=True)
    loader = WorkerLoader(images, np.arange(40), order, Augmentation(crop_padding=4), num_workers)
    batches = [batch.numpy().tobytes() for epoch in epochs_of(loader) for batch in epoch]
    assert len(set(batches)) == 8


def test_ranks_augment_differently():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 13, 11, 3), dtype=np.uint8).repeat(40, axis=0)
    images = ArrayImages(pixels, np.arange(40))
    batches = set()
    for rank in range(2):
        order = EpochOrder(40, 20, 0, shuffle=True, rank=rank, world_size=2)
        batches |= {x.numpy().tobytes() for x, _ in InMemoryLoader(images, np.arange(40), order, Augmentation(4))}
    assert len(batches) == 4


def test_error_in_a_worker_reaches_the_user(images):
    class Broken(ArrayImages):
        def batch(self, indices):
            raise ValueError("cannot read image a.png")

    broken = Broken(images.pixels, images.labels)
    with pytest.raises(ValueError, match=r"cannot read image a\.png"):
        list(WorkerLoader(broken, np.arange(NUM_IMAGES), EpochOrder(NUM_IMAGES, 10), num_workers=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"rank": 2, "world_size": 2}, "rank 2"),
        ({"num_images": 1, "world_size": 2}, "1 images cannot be shared by 2 devices"),
        ({"shuffle": True, "world_size": 3}, "batch_size 10 .* not divisible by 3 devices"),
    ],
)
def test_order_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EpochOrder(**({"num_images": 53, "batch_size": 10} | arguments))


@pytest.mark.parametrize(("kind", "num_workers"), [(InMemoryLoader, ()), (WorkerLoader, (0,)), (WorkerLoader, (2,))])
def test_a_loader_goes_on_with_the_batches_that_were_left(kind, num_workers):
    pixels = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 13, 11, 3), dtype=np.uint8)
    images = ArrayImages(pixels, np.arange(NUM_IMAGES))

    def make():
        order = EpochOrder(NUM_IMAGES, 9, 5, shuffle=True)
        return kind(images, np.arange(NUM_IMAGES), order, Augmentation(crop_padding=3), *num_workers)

    def epoch(loader, number):
        loader.sampler.set_epoch(number)
        return [batch.clone() for batch, _ in loader]

    whole, interrupted, resumed = make(), make(), make()
    assert len(whole) == 5
    interrupted.sampler.set_epoch(2)
    batches = iter(interrupted)
    for _ in range(3):
        next(batches)
    resumed.load_state_dict(interrupted.state_dict())
    for number, left_out in ((2, 3), (3, 0), (2, 0)):
        expected, seen = epoch(whole, number)[left_out:], epoch(resumed, number)
        assert len(seen) == len(expected)
        assert all(torch.equal(one, two) for one, two in zip(seen, expected, strict=True))
    assert resumed.state_dict() == {"epoch": 2, "batches": 5}


def test_a_loader_interrupted_at_the_end_of_an_epoch_gives_the_next_one_whole(images):
    loader = InMemoryLoader(images, np.arange(NUM_IMAGES), EpochOrder(NUM_IMAGES, 10, shuffle=True))
    loader.load_state_dict({"epoch": 4, "batches": 5})
    loader.sampler.set_epoch(5)
    assert len(list(loader)) == 5


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_begins_with_its_first_batch_and_not_with_the_iterator(images, num_workers):
    loader = WorkerLoader(images, np.arange(NUM_IMAGES), EpochOrder(NUM_IMAGES, 10, shuffle=True), None, num_workers)
    batches = iter(loader)
    loader.sampler.set_epoch(3)
    late = [labels.tolist() for _, labels in batches]
    loader.sampler.set_epoch(3)
    assert late == [labels.tolist() for _, labels in loader]
