"""Records are whole or absent, and what is not a record is named."""

import json

import pytest

from vitlab.sweep import store


@pytest.fixture
def record():
    return {"id": "a1", "status": "done", "learning_rate": 0.1, "val": {"accuracy": 0.5}}


def test_a_record_comes_back_as_written(tmp_path, record):
    store.write_record(tmp_path, record)
    assert store.read_record(tmp_path, "a1") == record
    assert store.read_records(tmp_path) == [record]


def test_a_failing_write_leaves_the_old_record_and_no_litter(tmp_path, record):
    store.write_record(tmp_path, record)
    with pytest.raises(TypeError):
        store.write_record(tmp_path, record | {"val": object()})
    assert store.read_record(tmp_path, "a1") == record
    assert [path.name for path in (tmp_path / "trials").iterdir()] == ["a1.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"id": "other", "status": "done"}), '{"id": "a1"}'])
def test_what_is_not_the_trials_record_is_named(tmp_path, record, content):
    store.write_record(tmp_path, record)
    store.record_path(tmp_path, "a1").write_text(content)
    with pytest.raises(ValueError, match=r"a1\.json is not .*delete it"):
        store.read_records(tmp_path)


def test_half_written_files_are_no_records_and_can_be_removed(tmp_path, record):
    store.write_record(tmp_path, record)
    (tmp_path / "trials" / f"{store.TEMPORARY_PREFIX}x1").write_text('{"id":')
    assert len(store.read_records(tmp_path)) == 1
    assert store.remove_unfinished(tmp_path) == 1
    assert [path.name for path in (tmp_path / "trials").iterdir()] == ["a1.json"]


def test_a_retry_starts_without_the_failure(record):
    assert store.retried(record | {"status": "failed", "error": "oh"}) is None
    assert store.retried(record | {"test_error": "oh"})["test_error"] is None


def test_an_empty_folder_has_no_records(tmp_path):
    assert store.read_records(tmp_path) == []
    assert store.read_record(tmp_path, "a1") is None
    assert store.read_running(tmp_path) == []
