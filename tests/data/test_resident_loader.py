"""Images that stay on the device come in the host path's order, and the choice of where they stay is said in words."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from vitlab.data import Augmentation, DataModule, Glyphs, ImageFolder, ResidentLoader, resident_loader
from vitlab.data.datasets import ArrayImages
from vitlab.data.device_loader import EpochOrder, InMemoryLoader, WorkerLoader
from vitlab.data.resident_loader import stays_on_device
from vitlab.data.shard_loader import ShardLoader

CPU = torch.device("cpu")


@pytest.fixture
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (53, 7, 5, 3), dtype=np.uint8)
    return ArrayImages(pixels, np.arange(53))


def order(**more):
    return EpochOrder(41, 10, seed=3, shuffle=True, **more)


@pytest.mark.parametrize("epoch", [0, 4])
@pytest.mark.parametrize("rank", [0, 1])
def test_batches_and_layout_are_the_host_paths(images, epoch, rank):
    orders = order(rank=rank, world_size=2), order(rank=rank, world_size=2)
    for one in orders:
        one.set_epoch(epoch)
    indices = np.arange(53)[::-1][:41].copy()
    host, resident = InMemoryLoader(images, indices, orders[0]), ResidentLoader(images, indices, orders[1], CPU)
    assert len(host) == len(resident)
    for theirs, ours in zip(host, resident, strict=True):
        assert torch.equal(theirs[0], ours[0])
        assert torch.equal(theirs[1], ours[1])
        assert theirs[0].stride() == ours[0].stride()
        assert ours[1].dtype == torch.int64


def test_images_that_came_in_parts_are_all_there(images, monkeypatch):
    indices = np.arange(53)[::-1].copy()
    for part_bytes in (1, 7 * 7 * 5 * 3 + 1, 53 * 7 * 5 * 3, 2**25):
        monkeypatch.setattr(resident_loader, "_PART_BYTES", part_bytes)
        loader = ResidentLoader(images, indices, EpochOrder(53, 53), CPU)
        assert torch.equal(loader.pixels, torch.from_numpy(images.batch(indices)))


def test_an_interrupted_epoch_goes_on_with_the_changes_that_were_left():
    data = DataModule(
        Glyphs(num_train=200, num_test=50), train_size=64, val_size=50, batch_size=8, augmentation=Augmentation(2, True)
    )
    whole = [images.clone() for images, _ in data.train_dataloader()]
    loader = data.train_dataloader()
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    again = data.train_dataloader()
    again.load_state_dict(loader.state_dict())
    assert all(map(torch.equal, whole[3:], [images for images, _ in again]))


def test_the_choice_is_that_of_residency_and_of_what_there_is(tmp_path, monkeypatch):
    def loader(residency, dataset=None):
        dataset = dataset or Glyphs(num_train=100, num_test=50)
        return DataModule(dataset, val_size=20, batch_size=4, residency=residency).train_dataloader()

    assert [type(loader(residency)) for residency in ("auto", "device", "host")] == [
        *[ResidentLoader] * 2,
        InMemoryLoader,
    ]
    monkeypatch.setenv("VITLAB_CACHE", str(tmp_path / "cache"))
    for name in ("train/ant", "train/bee", "test/ant", "test/bee"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(np.full((70, 70, 3), number, dtype=np.uint8)).save(tmp_path / name / f"{number}.png")
    stored = ImageFolder(tmp_path, 67)
    kinds = [type(loader(residency, stored)) for residency in ("auto", "device", "host")]
    assert kinds == [ShardLoader, ResidentLoader, WorkerLoader]
    large = ImageFolder(tmp_path, 67, cache="none")
    assert [type(loader(residency, large)) for residency in ("auto", "host")] == [WorkerLoader] * 2
    with pytest.raises(ValueError, match=r"residency is device, but .* too large to be held in memory"):
        loader("device", large)
    with pytest.raises(ValueError, match="unknown residency 'gpu'; use auto, device, host"):
        loader("gpu")


def test_a_full_gpu_is_left_to_the_model(monkeypatch):
    gpu = SimpleNamespace(type="cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8_000_000_000, 80_000_000_000))
    assert stays_on_device("auto", True, 1_999_999_999, gpu)
    assert not stays_on_device("auto", True, 2_000_000_001, gpu)
    assert not stays_on_device("host", True, 5, gpu)
    with pytest.raises(ValueError, match=r"take 3.0 GB, and at most a quarter of the 8.0 GB"):
        stays_on_device("device", True, 3_000_000_000, gpu)
