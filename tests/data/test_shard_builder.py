"""Images are decoded once, whoever asks, and nothing half-written is ever taken for whole."""

import errno
import multiprocessing
import os
import re
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest

from vitlab.atomic_file import TEMPORARY_PREFIX
from vitlab.data import shard_builder
from vitlab.data.decoding import read_image
from vitlab.data.shard_builder import complete, free_bytes, stored_bytes
from vitlab.data.shard_files import INDEX, ShardPlan, read_json

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def decodings(tmp_path, monkeypatch):
    """Has every decoding written down, by any process, and lets the one that is asked for wait at a gate."""

    class Decodings:
        log, gate, first_to_wait = tmp_path / "decodings", tmp_path / "gate", None

        def names(self):
            return self.log.read_text().split()

        def forget(self):
            self.log.write_text("")

        def wait_for(self, count):
            while len(self.names()) < count:
                time.sleep(0.01)

    def read(path, in_channels, image_size):
        with decodings.log.open("a") as file:
            file.write(f"{path.name}\n")
        while path.name == decodings.first_to_wait and not decodings.gate.exists():
            time.sleep(0.01)
        return read_image(path, in_channels, image_size)

    decodings = Decodings()
    decodings.log.touch()
    monkeypatch.setattr(shard_builder, "read_image", read)
    return decodings


def pixels(plan):
    return b"".join(plan.path(shard).read_bytes() for shard in plan.shards)


def expected(files):
    return np.stack([read_image(files.root / path, files.in_channels, files.image_size) for path in files.paths])


def in_a_process(plan, num_workers=0):
    process = FORK.Process(target=complete, args=(plan, num_workers))
    process.start()
    return process


@pytest.mark.parametrize("num_workers", [0, 3])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_shards_hold_what_decoding_gives(tmp_path, photographs, in_channels, num_workers):
    files = photographs(in_channels=in_channels)
    plan = ShardPlan(tmp_path / "decoded", files)
    complete(plan, num_workers)
    assert pixels(plan) == expected(files).tobytes()
    assert {path.suffix for path in plan.folder.iterdir()} == {".uint8", ".json"}


def test_a_second_call_decodes_nothing_and_says_nothing(tmp_path, photographs, decodings, capsys):
    files = photographs()
    complete(ShardPlan(tmp_path / "decoded", files))
    assert sorted(decodings.names()) == files.paths
    assert re.search(r"vitlab: decoding 17 of 17 images of .*photographs \(0.00 GB\)", capsys.readouterr().err)
    decodings.forget()
    complete(ShardPlan(tmp_path / "decoded", files))
    assert not decodings.names()
    assert not capsys.readouterr().err


def test_the_global_random_numbers_are_left_alone(tmp_path, photographs):
    import torch

    state = torch.get_rng_state()
    complete(ShardPlan(tmp_path / "decoded", photographs(count=3)), 1)
    assert torch.equal(torch.get_rng_state(), state)


def test_builders_that_start_at_once_share_the_work(tmp_path, photographs, decodings):
    plan = ShardPlan(tmp_path / "decoded", photographs())
    processes = [in_a_process(plan), in_a_process(plan, num_workers=2)]
    complete(plan)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(decodings.names()) == plan.files.paths  # each once
    assert pixels(plan) == expected(plan.files).tobytes()
    assert plan.is_indexed(read_json(plan.folder / INDEX))


def test_killed_in_the_middle_it_goes_on_with_what_is_missing(tmp_path, photographs, decodings):
    plan = ShardPlan(tmp_path / "decoded", photographs())
    decodings.first_to_wait = plan.files.paths[8]
    process = in_a_process(plan)
    decodings.wait_for(9)  # one shard is whole, three images of the next are decoded
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert [plan.is_built(shard) for shard in plan.shards] == [True, False, False, False]
    assert not (plan.folder / INDEX).exists()
    assert list(plan.folder.glob(f"{TEMPORARY_PREFIX}*"))
    decodings.forget()
    decodings.gate.touch()
    complete(plan)
    assert sorted(decodings.names()) == plan.files.paths[5:]
    assert pixels(plan) == expected(plan.files).tobytes()
    assert {path.suffix for path in plan.folder.iterdir()} == {".uint8", ".json"}  # no claim, no temporary file


def test_one_that_waits_takes_over_what_the_killed_one_had(tmp_path, photographs, decodings):
    plan = ShardPlan(tmp_path / "decoded", photographs(count=5))
    decodings.first_to_wait = plan.files.paths[2]
    first = in_a_process(plan)
    decodings.wait_for(3)
    second = in_a_process(plan)
    time.sleep(0.1)
    assert second.is_alive()
    assert len(decodings.names()) == 3
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    decodings.gate.touch()
    second.join()
    assert second.exitcode == 0
    assert pixels(plan) == expected(plan.files).tobytes()


def test_workers_stop_when_the_process_that_started_them_is_killed(tmp_path, photographs, decodings):
    plan = ShardPlan(tmp_path / "decoded", photographs())
    decodings.first_to_wait = plan.files.paths[1]
    process = in_a_process(plan, num_workers=1)
    decodings.wait_for(2)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    decodings.gate.touch()
    while not plan.is_built(plan.shards[0]):  # what was begun is finished
        time.sleep(0.01)
    time.sleep(0.2)
    assert sorted(decodings.names()) == plan.files.paths[:5]
    complete(plan, 1)
    assert sorted(decodings.names()) == plan.files.paths


def test_a_changed_image_is_named_and_its_shard_decoded_again(tmp_path, photographs, decodings, capsys):
    files = photographs()
    old = ShardPlan(tmp_path / "decoded", files)
    complete(old)
    decodings.forget()
    capsys.readouterr()
    (files.root / files.paths[6]).write_bytes((files.root / files.paths[9]).read_bytes())
    plan = ShardPlan(tmp_path / "decoded", files)
    complete(plan)
    assert "not those that were decoded before: changed: 006.jpg\n" in capsys.readouterr().err
    assert decodings.names() == files.paths[5:10]
    assert pixels(plan) == expected(files).tobytes()
    assert not old.path(old.shards[1]).exists()
    assert not old.note_path(old.shards[1]).exists()


def test_images_that_came_and_went_are_named(tmp_path, photographs, capsys):
    files = photographs()
    complete(ShardPlan(tmp_path / "decoded", files))
    fewer = photographs(count=9, folder="fewer")
    fewer.paths.append("new.png")
    (fewer.root / "001.png").rename(fewer.root / "new.png")
    fewer.paths.remove("001.png")
    capsys.readouterr()
    plan = ShardPlan(tmp_path / "decoded", fewer)
    complete(plan)
    said = capsys.readouterr().err
    assert "new: new.png" in said
    assert "gone: 001.png, 009.jpg, 010.png, 011.png, 012.jpg and 4 more" in said
    assert pixels(plan) == expected(fewer).tobytes()


@pytest.mark.parametrize("damage", ["flipped bit", "cut off"])
def test_a_damaged_shard_is_named_and_decoded_again(tmp_path, photographs, decodings, capsys, damage):
    plan = ShardPlan(tmp_path / "decoded", photographs())
    complete(plan)
    decodings.forget()
    path = plan.path(plan.shards[2])
    content = bytearray(path.read_bytes())
    content[77] ^= 16
    path.write_bytes(content if damage == "flipped bit" else content[:-3])
    complete(plan)
    assert f"shard {path} is damaged" in capsys.readouterr().err
    assert decodings.names() == plan.files.paths[10:15]
    assert pixels(plan) == expected(plan.files).tobytes()
    assert plan.is_indexed(read_json(plan.folder / INDEX))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_image_that_cannot_be_read_is_named_and_the_finished_shards_stay(
    tmp_path, photographs, decodings, num_workers
):
    files = photographs()
    (files.root / files.paths[12]).write_bytes(b"no image")
    plan = ShardPlan(tmp_path / "decoded", files)
    with pytest.raises(ValueError, match=r"cannot read image .*012\.jpg.*repair or remove the file$"):
        complete(plan, num_workers)
    assert not plan.is_built(plan.shards[2])
    assert plan.is_built(plan.shards[0])
    assert not list(plan.folder.glob(".*"))
    decodings.forget()
    (files.root / files.paths[12]).write_bytes((files.root / files.paths[0]).read_bytes())
    complete(ShardPlan(tmp_path / "decoded", files), num_workers)
    assert files.paths[0] not in decodings.names()


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, photographs, monkeypatch):
    plan = ShardPlan(tmp_path / "decoded", photographs())
    needed = 17 * 13 * 13 * 3
    monkeypatch.setattr(shard_builder.shutil, "disk_usage", lambda folder: SimpleNamespace(free=needed - 1))
    with pytest.raises(ValueError, match=r"need 8,619 bytes in .*decoded, and its disk has 8,618 bytes free; point"):
        complete(plan)
    assert not list(plan.folder.iterdir())
    monkeypatch.setattr(shard_builder.shutil, "disk_usage", lambda folder: SimpleNamespace(free=needed))
    complete(plan)


def test_a_disk_that_fills_up_leaves_the_finished_shards_alone(tmp_path, photographs, monkeypatch):
    plan = ShardPlan(tmp_path / "decoded", photographs())

    def checksum():
        if plan.is_built(plan.shards[1]):
            raise OSError(errno.ENOSPC, "No space left on device")
        return original()

    original = shard_builder.new_checksum
    with monkeypatch.context() as patch:
        patch.setattr(shard_builder, "new_checksum", checksum)
        with pytest.raises(
            ValueError, match=r"cannot be written to .*decoded: No space left on device; nothing is lost"
        ):
            complete(plan)
    assert [plan.is_built(shard) for shard in plan.shards] == [True, True, False, False]
    assert not list(plan.folder.glob(".*"))
    complete(plan)
    assert pixels(plan) == expected(plan.files).tobytes()


def test_a_folder_that_cannot_be_made_is_named(tmp_path, photographs):
    (tmp_path / "file").touch()
    plan = ShardPlan(tmp_path / "file" / "decoded", photographs(count=1))
    with pytest.raises(ValueError, match=r"decoded images cannot be kept in .*VITLAB_CACHE"):
        complete(plan)


def test_room_and_what_is_stored_are_counted(tmp_path, photographs):
    files = photographs()
    assert free_bytes(tmp_path / "not" / "yet") > 0
    assert stored_bytes(tmp_path / "not" / "yet") == 0
    complete(ShardPlan(tmp_path / "decoded", files))
    assert stored_bytes(tmp_path / "decoded") == files.num_bytes == 17 * 13 * 13 * 3
