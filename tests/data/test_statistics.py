import json

import numpy as np
import pytest

from vitlab.data import statistics
from vitlab.data.statistics import cache_folder, cached_channel_statistics, channel_statistics


@pytest.fixture
def pixels():
    images = np.random.default_rng(0).integers(0, 256, (601, 7, 5, 3), dtype=np.uint8)
    images[..., 2] //= 3
    return images


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VITLAB_CACHE", str(tmp_path))
    return tmp_path


def test_statistics_equal_the_definition(pixels):
    indices = np.arange(0, 601, 2)
    mean, std = channel_statistics(pixels.__getitem__, indices)
    np.testing.assert_allclose(mean, (pixels[indices] / 255).mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (pixels[indices] / 255).std(axis=(0, 1, 2)), rtol=1e-12)


def test_statistics_do_not_depend_on_the_chunks(pixels, monkeypatch):
    whole = channel_statistics(pixels.__getitem__, np.arange(601))
    monkeypatch.setattr(statistics, "CHUNK_IMAGES", 7)
    assert channel_statistics(pixels.__getitem__, np.arange(601)) == whole


def test_constant_channel_has_no_deviation():
    assert channel_statistics(np.full((3, 5, 7, 1), 51, dtype=np.uint8).__getitem__, np.arange(3)) == ((0.2,), (0.0,))


def test_no_images_are_refused(pixels):
    with pytest.raises(ValueError, match="at least one image"):
        channel_statistics(pixels.__getitem__, np.arange(0))


def test_second_call_reads_no_image(pixels):
    first = cached_channel_statistics(pixels.__getitem__, np.arange(601), "a")

    def refuse(indices):
        raise AssertionError("the cache was not used")

    assert cached_channel_statistics(refuse, np.arange(601), "a") == first


def test_other_content_or_other_images_are_computed_anew(pixels):
    first = cached_channel_statistics(pixels.__getitem__, np.arange(601), "a")
    assert cached_channel_statistics((pixels // 2).__getitem__, np.arange(601), "b") != first
    assert cached_channel_statistics(pixels.__getitem__, np.arange(300), "a") != first


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"mean": [1]}', '{"mean": [NaN], "std": [1]}', '{"mean": 1, "std": 1}']
)
def test_damaged_cache_is_computed_anew(pixels, cache, damage):
    first = cached_channel_statistics(pixels.__getitem__, np.arange(601), "a")
    (file,) = cache.rglob("*.json")
    file.write_text(damage)
    assert cached_channel_statistics(pixels.__getitem__, np.arange(601), "a") == first
    assert json.loads(file.read_text())["mean"] == list(first[0])


def test_many_images_are_sampled_evenly(pixels, monkeypatch):
    monkeypatch.setattr(statistics, "MAX_FILES", 10)
    read = []
    cached_channel_statistics(lambda indices: read.extend(indices) or pixels[indices], np.arange(601), "a")
    assert len(read) == 10
    assert set(np.diff(read)) <= {60, 61}


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path
    monkeypatch.delenv("VITLAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "vitlab"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "vitlab"
