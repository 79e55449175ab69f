"""Images read from the disk are those that decoding gives, in the order asked for, in little memory."""

import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitlab.data import decoded_images, shard_builder
from vitlab.data.decoded_images import DecodedImages, StoredImages
from vitlab.data.decoding import read_image

ROWS = np.array([16, 3, 3, 0, 11, 5, 4, 15])


def expected(files, rows):
    return np.stack([read_image(files.root / files.paths[row], files.in_channels, files.image_size) for row in rows])


@pytest.mark.parametrize("in_channels", [1, 3])
def test_any_rows_in_any_order_are_what_decoding_gives(tmp_path, photographs, in_channels):
    files = photographs(in_channels=in_channels)
    decoded = DecodedImages(files, tmp_path / "decoded")
    np.testing.assert_array_equal(decoded.read(ROWS), expected(files, ROWS))
    out = np.empty((len(ROWS), 13, 13, in_channels), dtype=np.uint8)
    assert decoded.read(ROWS[::-1], out) is out
    np.testing.assert_array_equal(out, expected(files, ROWS[::-1]))
    assert decoded.read(ROWS[:0]).shape == (0, 13, 13, in_channels)


def test_images_larger_than_a_page_and_a_shard_are_whole(tmp_path, photographs):
    files = photographs(count=7, image_size=61)
    rows = np.array([6, 2, 5])
    np.testing.assert_array_equal(DecodedImages(files, tmp_path / "decoded").read(rows), expected(files, rows))


def test_stored_images_are_the_rows_of_one_split(tmp_path, photographs):
    files = photographs()
    rows = np.array([2, 3, 5, 7, 11, 13])
    images = StoredImages(DecodedImages(files, tmp_path / "decoded"), rows, np.arange(6))
    images.prepare(2)
    assert (len(images), images.in_memory, images.on_disk) == (6, False, True)
    np.testing.assert_array_equal(images.batch(np.array([5, 0, 2])), expected(files, [13, 2, 5]))
    assert images.targets(np.array([5, 0, 2])).tolist() == [5, 0, 2]


def test_a_copy_in_another_process_reads_the_same(tmp_path, photographs):
    files = photographs()
    decoded = DecodedImages(files, tmp_path / "decoded")
    decoded.read(ROWS)
    copy = pickle.loads(pickle.dumps(decoded))
    decoded_images._OPEN.clear()
    np.testing.assert_array_equal(copy.read(ROWS), expected(files, ROWS))
    assert len(pickle.dumps(decoded)) < 10_000  # names, no pixels


def test_it_can_be_closed_and_read_again(tmp_path, photographs):
    files = photographs()
    decoded = DecodedImages(files, tmp_path / "decoded")
    first = decoded.read(ROWS)
    decoded.close()
    assert not decoded_images._OPEN
    np.testing.assert_array_equal(decoded.read(ROWS), first)


def test_a_later_object_reads_without_decoding_and_sees_a_change(tmp_path, photographs, monkeypatch):
    files = photographs()
    DecodedImages(files, tmp_path / "decoded").read(ROWS)
    with monkeypatch.context() as patch:
        patch.delattr(shard_builder, "read_image")
        np.testing.assert_array_equal(DecodedImages(files, tmp_path / "decoded").read(ROWS), expected(files, ROWS))
    (files.root / files.paths[3]).write_bytes((files.root / files.paths[6]).read_bytes())
    again = DecodedImages(files, tmp_path / "decoded").read(ROWS)
    np.testing.assert_array_equal(again[1], expected(files, [6])[0])


def test_few_folders_stay_open(tmp_path, photographs):
    files = photographs(count=2)
    for image_size in range(3, 9):
        DecodedImages(replace(files, image_size=image_size), tmp_path / str(image_size)).read(np.array([1]))
    assert len(decoded_images._OPEN) == decoded_images.MAX_OPEN_FOLDERS


def test_what_was_read_does_not_stay_in_this_processs_memory(tmp_path, photographs, monkeypatch):
    def mapped_megabytes():
        return int(re.search(r"RssFile:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024

    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc")
    files = photographs(count=40, image_size=512)  # 31 MB
    decoded = DecodedImages(files, tmp_path / "decoded")
    decoded.prepare()
    order = np.random.default_rng(0).permutation(40)

    def growth(limit):
        monkeypatch.setattr(decoded_images, "_MAPPED_BYTES", limit)
        before, most = mapped_megabytes(), 0.0
        for row in order:
            decoded.read(np.array([row]))
            most = max(most, mapped_megabytes() - before)
        return most

    assert growth(2**22) < 10
    assert growth(2**30) > 25  # the pages of a map do count, where they are not let go
