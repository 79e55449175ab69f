"""Records are whole or absent, written once, and what is not a record, or not as it was written, is named."""

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
import time

import pytest

from vitlab.atomic_file import atomic_file
from vitlab.sweep import store


@pytest.fixture
def record():
    return {"schema": 2, "id": "a1", "status": "done", "learning_rate": 0.1, "val": {"accuracy": 0.5, "nll": 1e-07}}


@pytest.fixture
def full_disk(tmp_path):
    """A disk of its own with a sweep folder on it and no room left."""
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def files(folder):
    return [path.name for path in (folder / "trials").iterdir()]


def test_a_record_comes_back_as_written(tmp_path, record):
    store.write_record(tmp_path, record)
    assert store.read_record(tmp_path, "a1") == record
    assert store.read_records(tmp_path) == [record]
    assert store.record_ids(tmp_path) == {"a1"}


def test_a_record_is_json_with_a_line_for_each_key_and_the_checksum_last(tmp_path, record):
    store.write_record(tmp_path, record | {"history": [[step, 0.5] for step in range(50)]})
    lines = store.record_path(tmp_path, "a1").read_text().splitlines()
    assert len(lines) == 2 + len(record) + 2
    assert list(json.loads("\n".join(lines)))[-1] == "checksum"


def test_a_failing_write_leaves_the_old_record_and_no_litter(tmp_path, record):
    store.write_record(tmp_path, record)
    with pytest.raises(TypeError):
        store.write_record(tmp_path, record | {"val": object()})
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_record(tmp_path, record | {"val": float("nan")})
    assert store.read_record(tmp_path, "a1") == record
    assert files(tmp_path) == ["a1.json"]


def test_a_record_is_created_once_and_then_stays(tmp_path, record):
    assert store.create_record(tmp_path, record)
    assert not store.create_record(tmp_path, record | {"status": "failed"})
    assert store.read_record(tmp_path, "a1") == record
    assert files(tmp_path) == ["a1.json"]


NUM_RACES = 20


def create_in_a_race(barrier, won, folder, record, writer):
    for race in range(NUM_RACES):
        barrier.wait()
        if store.create_record(folder, record | {"id": f"a{race}", "writer": writer}):
            won.put((race, writer))


def test_of_many_processes_that_create_a_record_at_once_one_succeeds(tmp_path, record):
    context = multiprocessing.get_context("spawn")
    barrier, won = context.Barrier(3), context.SimpleQueue()
    shared = (barrier, won, tmp_path, record)
    writers = [context.Process(target=create_in_a_race, args=(*shared, number)) for number in range(3)]
    for process in writers:
        process.start()
    winners = sorted(won.get() for _ in range(NUM_RACES))
    for process in writers:
        process.join()
        assert process.exitcode == 0
    assert won.empty()
    assert winners == [(race, store.read_record(tmp_path, f"a{race}")["writer"]) for race in range(NUM_RACES)]
    assert len(files(tmp_path)) == NUM_RACES


def test_a_bit_that_changes_anywhere_is_noticed(tmp_path, record):
    store.write_record(tmp_path, record)
    path = store.record_path(tmp_path, "a1")
    written = path.read_bytes()
    for position in range(len(written)):
        changed = bytearray(written)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        for read in (store.read_records, store.read_outlines):
            with pytest.raises(ValueError, match=r"a1\.json (is not|has schema) .*delete it"):
                read(tmp_path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("0.5", "0.9"),
        lambda text: text.replace('"schema": 2', '"schema": 1'),
        lambda text: text + " ",
        lambda text: json.dumps(json.loads(text)),
        lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != "checksum"}),
    ],
)
def test_a_record_edited_by_hand_is_named(tmp_path, record, edit):
    store.write_record(tmp_path, record)
    path = store.record_path(tmp_path, "a1")
    path.write_text(edit(path.read_text()))
    with pytest.raises(ValueError, match=r"a1\.json is not as it was written.*delete it and run the sweep again"):
        store.read_records(tmp_path)


def test_records_of_older_versions_are_read_and_get_a_checksum_when_written_again(tmp_path, record):
    path = store.record_path(tmp_path, "a1")
    path.parent.mkdir()
    old = {key: value for key, value in record.items() if key != "schema"}
    for content in (old, old | {"schema": 1}):
        path.write_text(json.dumps(content, indent=1))
        assert store.read_record(tmp_path, "a1") == content
    store.write_record(tmp_path, old)
    assert store.read_record(tmp_path, "a1") == record
    assert "checksum" in json.loads(path.read_text())


def test_a_record_of_a_newer_version_is_not_guessed_at(tmp_path, record):
    store.write_record(tmp_path, record)
    store.record_path(tmp_path, "a1").write_text(json.dumps(record | {"schema": 3}))
    with pytest.raises(ValueError, match=r"has schema 3; this vitlab knows 1 to 2\. Update vitlab"):
        store.read_record(tmp_path, "a1")


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"id": "other", "status": "done"}), '{"id": "a1"}', "\xff"])
def test_what_is_not_the_trials_record_is_named(tmp_path, record, content):
    store.write_record(tmp_path, record)
    store.record_path(tmp_path, "a1").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"a1\.json is not .*delete it"):
        store.read_records(tmp_path)


def test_an_empty_record_is_waited_for_and_then_named(tmp_path, record, monkeypatch):
    path = store.record_path(tmp_path, "a1")
    path.parent.mkdir()
    path.touch()
    writer = threading.Thread(target=lambda: (time.sleep(0.2), store.write_record(tmp_path, record)))
    writer.start()
    assert store.read_record(tmp_path, "a1") == record
    writer.join()
    path.write_text("")
    monkeypatch.setattr(store, "_LOOKS", 2)
    with pytest.raises(ValueError, match=r"a1\.json is not a trial record"):
        store.read_record(tmp_path, "a1")


def test_some_records_can_be_read_without_the_others(tmp_path, record):
    for trial_id in ("c3", "a1", "b2"):
        store.write_record(tmp_path, record | {"id": trial_id})
    store.record_path(tmp_path, "b2").write_text("broken")
    assert [one["id"] for one in store.read_records(tmp_path, {"c3", "a1", "d4"})] == ["a1", "c3"]


@pytest.mark.parametrize("schema", [1, 2])
def test_an_outline_is_the_record_without_what_is_long(tmp_path, record, schema):
    long = {"history": [[step, 0.5] for step in range(50)], "arguments": ['--x={"id": 3}', '\n"id": 4'], "budget": None}
    record = record | {"schema": schema} | long | {"error": '\n"id": "b2"', "test": {"accuracy": 0.25}}
    store.write_record(tmp_path, record)
    if schema == 1:
        store.record_path(tmp_path, "a1").write_text(json.dumps(record, indent=1))
    (outline,) = store.read_outlines(tmp_path)
    assert outline == {name: record.get(name) for name in store.OUTLINE} == store.outline(record)


def test_a_full_disk_is_an_error_and_leaves_nothing_half_written(full_disk, record):
    store.create_record(full_disk, record)
    with pytest.raises(OSError, match="No space left"):
        (full_disk / "filler").write_bytes(bytes(1 << 20))
    for function in (store.create_record, store.write_record):
        with pytest.raises(OSError, match="No space left"):
            function(full_disk, record | {"id": "b2", "history": list(range(2000))})
    with pytest.raises(OSError, match="No space left"):
        store.write_record(full_disk, record | {"history": list(range(2000))})
    assert store.read_records(full_disk) == [record]
    assert files(full_disk) == ["a1.json"]
    (full_disk / "filler").unlink()
    assert store.create_record(full_disk, record | {"id": "b2", "history": list(range(2000))})


def test_a_write_beyond_a_quota_leaves_nothing_half_written(tmp_path, record):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            store.create_record(tmp_path, record | {"history": list(range(2000))})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(tmp_path) == []


def test_what_killed_writers_left_is_no_record_and_can_be_removed(tmp_path, record):
    """This machine knows its own writers; what another left is given up after an hour, by the server's time."""
    store.write_record(tmp_path, record)
    code = (
        "import os, sys; from pathlib import Path; from vitlab.atomic_file import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as file: file.write('{'); file.flush(); os._exit(1)"
    )
    for part in ("", *store.PARTS):
        subprocess.run([sys.executable, "-c", code, tmp_path / part / "x"])
    elsewhere = tmp_path / "trials" / f"{store.TEMPORARY_PREFIX}n7-1-abc"
    elsewhere.write_text('{"id":')
    now = elsewhere.stat().st_mtime
    assert len(store.read_records(tmp_path)) == 1
    with atomic_file(tmp_path / "trials" / "y") as file:
        file.write("still being written")
        assert store.remove_unfinished(tmp_path, now) == 1 + len(store.PARTS)
    assert sorted(files(tmp_path)) == sorted([elsewhere.name, "a1.json", "y"])
    assert store.remove_unfinished(tmp_path, now + 3700) == 1


def test_a_retry_starts_without_the_failure(record):
    assert store.retried(record | {"status": "failed", "error": "oh"}) is None
    assert store.retried(record | {"test_error": "oh"})["test_error"] is None


def test_an_empty_folder_has_no_records(tmp_path):
    assert store.read_records(tmp_path) == []
    assert store.read_record(tmp_path, "a1") is None
    assert store.record_ids(tmp_path) == set()


def test_weights_and_training_states_stand_apart(tmp_path):
    assert store.checkpoint_path(tmp_path, "a1") == tmp_path / "checkpoints" / "a1.ckpt"
    assert store.resume_path(tmp_path, "a1") == tmp_path / "resume" / "a1.ckpt"
