"""One process gets a shard; what it leaves behind when it dies does not bar the others."""

import json
import multiprocessing
import os

import pytest

from vitlab.data import shard_claims
from vitlab.data.shard_claims import ShardClaims


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""
    now = [1000.0]
    monkeypatch.setattr(shard_claims.time, "monotonic", lambda: now[0])
    return now


def names(folder):
    return sorted(os.listdir(folder))


def test_one_of_two_gets_a_shard_until_it_is_given_back(tmp_path):
    first, second = ShardClaims(tmp_path), ShardClaims(tmp_path)
    assert first.claim("a")
    assert not second.claim("a")
    assert second.claim("b")
    first.give_back("a")
    assert second.claim("a")
    second.give_back("a")
    second.give_back("b")
    assert names(tmp_path) == []


def test_a_dead_process_of_this_machine_loses_its_claim_at_once(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=lambda: ShardClaims(tmp_path).claim("a"))
    process.start()
    process.join()
    assert names(tmp_path) == [".claim-a.0"]
    claims, late = ShardClaims(tmp_path), ShardClaims(tmp_path)
    assert claims.claim("a")
    assert not late.claim("a")
    claims.give_back("a")
    assert names(tmp_path) == []


def test_another_process_of_the_same_number_is_not_the_holder(tmp_path):
    assert ShardClaims(tmp_path).claim("a")
    path = tmp_path / ".claim-a.0"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"started": "1"}))
    assert ShardClaims(tmp_path).claim("a")


def test_a_claim_of_another_machine_is_taken_over_when_it_was_not_renewed_for_long(tmp_path, clock, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(shard_claims, "_machine", lambda: "elsewhere")
        theirs = ShardClaims(tmp_path)
        assert theirs.claim("a")
    ours = ShardClaims(tmp_path, patience_seconds=60)
    assert not ours.claim("a")
    for _ in range(5):  # longer than patience in all; a renewal each time
        clock[0] += 50
        os.utime(tmp_path / ".claim-a.0", ns=(0, int(clock[0])))
        assert not ours.claim("a")
    clock[0] += 59
    assert not ours.claim("a")
    clock[0] += 2
    assert ours.claim("a")
    assert names(tmp_path) == [".claim-a.0", ".claim-a.1"]
    theirs.give_back("a")  # it lived after all: what it gives back is not ours
    assert names(tmp_path) == [".claim-a.1"]


def test_renewing_moves_the_time_of_what_is_held_but_not_at_every_call(tmp_path, clock):
    claims = ShardClaims(tmp_path)
    claims.claim("a")
    path = tmp_path / ".claim-a.0"
    os.utime(path, ns=(0, 0))
    claims.renew()
    assert path.stat().st_mtime_ns == 0
    clock[0] += shard_claims.BEAT_SECONDS
    claims.renew()
    assert path.stat().st_mtime_ns > 0


def test_an_empty_claim_is_waited_for_and_then_taken_over(tmp_path, clock):
    (tmp_path / ".claim-a.0").touch()
    claims = ShardClaims(tmp_path)
    assert not claims.claim("a")
    clock[0] += shard_claims.PATIENCE_SECONDS + 1
    assert claims.claim("a")
