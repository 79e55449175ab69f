import pickle

import numpy as np
import pytest
import torchvision.datasets

from vitlab.data import CIFAR10, CIFAR100, MNIST, FashionMNIST


def write_idx(path, array):
    """The format of MNIST's files: magic number, sizes, bytes."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(header + array.tobytes())


@pytest.fixture
def mnist_like():
    generator = np.random.default_rng(0)
    return {
        split: (generator.integers(0, 256, (size, 28, 28), np.uint8), np.arange(size, dtype=np.uint8) % 10)
        for split, size in (("train", 31), ("t10k", 17))
    }


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_files_in_the_folder_are_read(tmp_path, mnist_like, kind):
    raw = tmp_path / kind.__name__ / "raw"
    raw.mkdir(parents=True)
    for split, (pixels, labels) in mnist_like.items():
        write_idx(raw / f"{split}-images-idx3-ubyte", pixels)
        write_idx(raw / f"{split}-labels-idx1-ubyte", labels)
    dataset = kind(str(tmp_path))
    for images, (pixels, labels) in zip((dataset.train(), dataset.test()), mnist_like.values(), strict=True):
        np.testing.assert_array_equal(images.batch(np.arange(len(images))), pixels[..., None])
        np.testing.assert_array_equal(images.labels, labels)
    assert len(dataset.fingerprint) == 16
    assert dataset.num_classes == 10


@pytest.mark.parametrize(("kind", "key"), [(CIFAR10, "labels"), (CIFAR100, "fine_labels")])
def test_cifar_files_are_read_as_color_images(tmp_path, monkeypatch, kind, key):
    pixels = np.random.default_rng(0).integers(0, 256, (11, 3, 32, 32), np.uint8)
    source = getattr(torchvision.datasets, kind.__name__)
    folder = tmp_path / source.base_folder
    folder.mkdir()
    for name, _ in source.train_list + source.test_list:
        (folder / name).write_bytes(pickle.dumps({"data": pixels.reshape(11, -1), key: [*range(10), 0]}))
    names = {source.meta["key"]: list(kind.class_names)}
    (folder / source.meta["filename"]).write_bytes(pickle.dumps(names))
    # The checksums are of the real files; these are not.
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda path, md5: True)
    images = kind(str(tmp_path)).train()
    assert len(images) == 11 * len(source.train_list)
    np.testing.assert_array_equal(images.batch(np.arange(11)), pixels.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST, CIFAR10, CIFAR100])
def test_missing_files_are_an_error_that_says_what_to_do(tmp_path, kind):
    dataset = kind(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"nowhere.*name the folder that holds it, or set download: true"):
        dataset.train()
    assert not (tmp_path / "nowhere").exists()


def test_prepare_downloads_only_when_allowed(tmp_path, monkeypatch):
    asked = []

    def download(root, train, download):
        asked.append(download)
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets, "MNIST", download)
    MNIST(str(tmp_path)).prepare()
    assert asked == []
    with pytest.raises(ValueError, match=r"no network.*check the network"):
        MNIST(str(tmp_path), download=True).prepare()
    assert asked == [True]


def test_class_names_are_distinct():
    for kind, count in ((MNIST, 10), (FashionMNIST, 10), (CIFAR10, 10), (CIFAR100, 100)):
        assert len(set(kind.class_names)) == count
