"""The plan of shards, their names, and what counts as sound."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitlab.data import shard_files
from vitlab.data.shard_builder import complete
from vitlab.data.shard_files import INDEX, MAX_SHARDS, ShardPlan, checksum_of


@pytest.fixture
def built(tmp_path, photographs):
    plan = ShardPlan(tmp_path / "decoded", photographs())
    complete(plan)
    return plan


def test_shards_cut_the_images_in_order_and_leave_none_out(tmp_path, photographs):
    plan = ShardPlan(tmp_path, photographs(count=17))
    assert [(shard.start, shard.stop) for shard in plan.shards] == [(0, 5), (5, 10), (10, 15), (15, 17)]
    assert len({shard.name for shard in plan.shards}) == 4


def test_no_images_are_refused(tmp_path, photographs):
    with pytest.raises(ValueError, match=r"no images of '.*photographs' to decode"):
        ShardPlan(tmp_path, photographs(count=0))


def test_a_file_that_has_vanished_is_named(tmp_path, photographs):
    files = photographs()
    (files.root / files.paths[3]).unlink()
    with pytest.raises(ValueError, match=r"image .*003\.jpg has vanished"):
        ShardPlan(tmp_path, files)


def test_many_images_make_larger_shards_and_not_more_than_may_be_open(tmp_path, photographs, monkeypatch):
    monkeypatch.setattr(shard_files, "_stamps", lambda files: [(1, 1)] * len(files.paths))
    files = photographs(count=1)
    for count in (MAX_SHARDS * 5, MAX_SHARDS * 5 + 1, MAX_SHARDS * 17):
        plan = ShardPlan(tmp_path, replace(files, paths=[str(number) for number in range(count)]))
        assert MAX_SHARDS / 2 < len(plan.shards) <= MAX_SHARDS
        assert plan.shards[-1].stop == count
        assert plan.images_per_shard % 5 == 0


@pytest.mark.parametrize("change", ["size", "time", "name"])
def test_a_changed_file_renames_its_shard_alone(tmp_path, photographs, change):
    files = photographs()
    before = ShardPlan(tmp_path, files)
    path = files.root / files.paths[7]
    if change == "size":
        status = path.stat()
        path.write_bytes(path.read_bytes() + b"\0")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(path, ns=(0, 12345))
    else:
        path.rename(files.root / "007b.png")
        files = replace(files, paths=[*files.paths[:7], "007b.png", *files.paths[8:]])
    after = ShardPlan(tmp_path, files)
    assert [a == b for a, b in zip(before.shards, after.shards, strict=True)] == [True, False, True, True]
    assert after.fingerprint != before.fingerprint


def test_roots_splits_and_decodings_have_folders_of_their_own(photographs):
    files = photographs()
    others = [replace(files, image_size=7), replace(files, in_channels=1), replace(files, root=Path("elsewhere"))]
    keys = {files.folder_key("train"), files.folder_key("test"), *(other.folder_key("train") for other in others)}
    assert len(keys) == 5
    assert all("/" not in key for key in keys)


def test_a_shard_is_a_plain_file_and_the_index_says_what_is_in_it(built):
    index = json.loads((built.folder / INDEX).read_text())
    assert (index["count"], index["height"], index["width"], index["channels"]) == (17, 13, 13, 3)
    assert (index["dtype"], index["format"], index["fingerprint"]) == ("uint8", 1, built.fingerprint)
    assert [entry["images"] for entry in index["shards"]] == [5, 5, 5, 2]
    for entry in index["shards"]:
        path = built.folder / f"{entry['name']}.uint8"
        assert checksum_of(path) == entry["checksum"]
        assert len(np.memmap(path, np.uint8, "r", shape=(entry["images"], 13, 13, 3))) == entry["images"]


def test_the_index_stands_for_the_shards_until_one_is_touched(built):
    index = shard_files.read_json(built.folder / INDEX)
    assert built.is_indexed(index)
    os.utime(built.path(built.shards[2]), ns=(0, 0))
    assert not built.is_indexed(index)
    assert not built.is_indexed(None)
    assert not built.is_indexed({})


def test_a_touched_shard_is_read_once_more_and_is_sound_if_its_bytes_are_the_same(built, monkeypatch):
    shard = built.shards[1]
    path = built.path(shard)
    os.utime(path, ns=(0, 0))
    assert built.is_sound(shard)
    with monkeypatch.context() as patch:  # now noted, so that it is not read again
        patch.delattr(shard_files, "checksum_of")
        assert built.is_sound(shard)
    pixels = bytearray(path.read_bytes())
    pixels[100] ^= 1
    path.write_bytes(pixels)
    os.utime(path, ns=(0, 0))
    assert not built.is_sound(shard)


@pytest.mark.parametrize("damage", ["short", "no shard", "no note", "note cut off", "note of other things"])
def test_what_is_not_whole_is_not_sound(built, damage):
    shard = built.shards[3]
    path, note = built.path(shard), built.note_path(shard)
    if damage == "short":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "no shard":
        path.unlink()
    elif damage == "no note":
        note.unlink()
    elif damage == "note cut off":
        note.write_text(note.read_text()[:40])
    else:
        note.write_text("[]")
    assert not built.is_sound(shard)
    assert all(map(built.is_sound, built.shards[:3]))
