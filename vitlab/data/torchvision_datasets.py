"""torchvision's small data sets as arrays: MNIST, FashionMNIST, CIFAR-10 and CIFAR-100.

torchvision finds, checks and downloads the files; what it decodes is kept as one uint8 array and remembered, because a
sweep's worker asks for the same images in every trial.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from vitlab.data.datasets import ArrayImages, ImageDataset, Images, content_hash

CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""


class TorchvisionDataset(ImageDataset):
    """One of torchvision's small data sets; use a subclass.

    Args:
        root: folder that holds, or will hold, the files as torchvision arranges them.
        download: fetch the files if they are missing.

    Raises:
        ValueError: on `train()` or `test()`, the files are missing or damaged.
    """

    def __init__(self, root: str, download: bool = False) -> None:
        self.root = str(Path(root).expanduser())
        self.download = download

    @property
    def fingerprint(self) -> str:
        """Hash of the pixels and the labels."""
        return _fingerprint(type(self).__name__, self.root, self.download)

    def prepare(self) -> None:
        """Downloads what is missing, if that is allowed."""
        if self.download:
            _load(type(self).__name__, self.root, True, True)

    def train(self) -> Images:
        """torchvision's training split."""
        return _load(type(self).__name__, self.root, True, self.download)

    def test(self) -> Images:
        """torchvision's test split."""
        return _load(type(self).__name__, self.root, False, self.download)


class MNIST(TorchvisionDataset):
    """70,000 handwritten digits, 28x28, gray (LeCun et al., 1998)."""

    name, in_channels, image_size = "MNIST", 1, 28
    class_names = tuple("0123456789")


class FashionMNIST(TorchvisionDataset):
    """70,000 pictures of clothing, 28x28, gray (arXiv 1708.07747)."""

    name, in_channels, image_size = "FashionMNIST", 1, 28
    class_names = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


class CIFAR10(TorchvisionDataset):
    """60,000 photographs of 10 kinds of animals and vehicles, 32x32, color (Krizhevsky, 2009)."""

    name, in_channels, image_size = "CIFAR-10", 3, 32
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class CIFAR100(TorchvisionDataset):
    """60,000 photographs of 100 kinds of things, 32x32, color (Krizhevsky, 2009)."""

    name, in_channels, image_size = "CIFAR-100", 3, 32
    class_names = tuple(CIFAR100_CLASSES.split())


@lru_cache(maxsize=4)
def _load(class_name: str, root: str, train: bool, download: bool) -> ArrayImages:
    import torchvision.datasets  # seconds to import

    try:
        with _one_at_a_time(root) if download else contextlib.nullcontext():
            data = getattr(torchvision.datasets, class_name)(root, train=train, download=download)
    except (RuntimeError, OSError) as error:
        advice = "check the network" if download else "name the folder that holds it, or set download: true"
        raise ValueError(f"{class_name} is not usable in folder {root!r} ({error}); {advice}") from error
    pixels = np.asarray(data.data)
    return ArrayImages(pixels[..., None] if pixels.ndim == 3 else pixels, np.asarray(data.targets))


@contextlib.contextmanager
def _one_at_a_time(root: str) -> Iterator[None]:
    """Let one process at a time download into a folder: two would unpack into each other's files."""
    Path(root).mkdir(parents=True, exist_ok=True)
    with (Path(root) / ".download.lock").open("a") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield


@lru_cache(maxsize=4)
def _fingerprint(class_name: str, root: str, download: bool) -> str:
    parts = [_load(class_name, root, train, download) for train in (True, False)]
    return content_hash(*(array for part in parts for array in (part.pixels, part.labels)))
