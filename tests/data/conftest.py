"""Image files for the tests of their decoded form."""

import numpy as np
import pytest
from PIL import Image

from vitlab.data import decoded_images, shard_files
from vitlab.data.shard_files import ImageFiles

FILES_PER_SHARD = 5


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """Makes JPEG and PNG files of noise, wider or higher than square, color or gray; five decoded ones make a shard."""

    def make(count=17, image_size=13, in_channels=3, folder="photographs"):
        monkeypatch.setattr(shard_files, "SHARD_BYTES", FILES_PER_SHARD * image_size**2 * in_channels)
        generator, root = np.random.default_rng(0), tmp_path / folder
        root.mkdir()
        paths = [f"{number:03d}.{'png' if number % 3 else 'jpg'}" for number in range(count)]
        for number, path in enumerate(paths):
            shape = (19 + number % 7, 23 - number % 5) + (() if number % 4 == 1 else (3,))
            Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(root / path)
        return ImageFiles(root, paths, in_channels, image_size)

    decoded_images._OPEN.clear()
    return make
