"""Who lives: told by heartbeats and, on one machine, by a lock that only the kernel can release."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from vitlab.sweep import owners
from vitlab.sweep.owners import Owner, OwnerLostError, Watch, ask_to_stop, declare_dead, owner_path, read_heartbeat

OTHER = """
import sys, time
from vitlab.sweep.owners import Owner
with Owner(sys.argv[1], patience_seconds=float(sys.argv[2])) as owner:
    print(owner.id, flush=True)
    time.sleep(100)
"""


@pytest.fixture
def other(tmp_path):
    """Start an owner in a process of its own; yields its id and the process."""
    processes = []

    def start(patience=30.0):
        command = [sys.executable, "-c", OTHER, str(tmp_path), str(patience)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process.stdout.readline().strip(), process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_until(condition, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_owner_lives_until_it_ends_and_leaves_nothing(tmp_path):
    watch = Watch(tmp_path)
    with Owner(tmp_path, details={"job": "7"}) as owner:
        assert watch.is_alive(owner.id)
        assert [heartbeat.details for heartbeat in watch.living()] == [{"job": "7"}]
        lock = read_heartbeat(tmp_path, owner.id).lock
        assert os.path.exists(lock)
    assert not watch.is_alive(owner.id)
    assert list((tmp_path / "owners").iterdir()) == []
    assert not os.path.exists(lock)


def test_a_killed_owner_of_this_machine_is_seen_at_once(tmp_path, other):
    owner_id, process = other(patience=1000.0)
    watch = Watch(tmp_path)
    assert watch.is_alive(owner_id)
    process.kill()
    process.wait()
    assert not watch.is_alive(owner_id)
    assert owners.is_declared_dead(tmp_path, owner_id)


def test_a_killed_owner_is_alive_as_long_as_its_worker_is(tmp_path):
    """The worker inherits the lock: as long as it may still write a record, nobody else does its trial."""
    code = (
        "import subprocess, sys, time; from vitlab.sweep.owners import Owner\n"
        "owner = Owner(sys.argv[1], patience_seconds=1000).__enter__()\n"
        "worker = subprocess.Popen(['sleep', '100'], pass_fds=(owner.lock,))\n"
        "print(owner.id, worker.pid, flush=True); time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as launcher:
        owner_id, worker = launcher.stdout.readline().split()
        launcher.kill()
    watch = Watch(tmp_path)
    try:
        assert watch.is_alive(owner_id)
    finally:
        os.kill(int(worker), signal.SIGKILL)
    wait_until(lambda: not watch.is_alive(owner_id))


def test_silence_is_death_only_for_who_has_watched_it(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(owners.time, "monotonic", lambda: now[0])
    far_away = owners.Heartbeat("slurm-n7-1-abc", "slurm", "n7", "another boot", 1, patience_seconds=30.0)
    write = lambda: owners.write_json(owner_path(tmp_path, far_away.id), vars(far_away))  # noqa: E731
    write()
    watch, late = Watch(tmp_path), Watch(tmp_path)
    for now[0] in (0.0, 10.0, 20.0, 30.0):
        assert watch.is_alive(far_away.id)
    far_away.beat += 1
    write()
    for now[0] in (40.0, 50.0, 60.0, 70.0):
        assert watch.is_alive(far_away.id)
    now[0] = 70.5
    assert not watch.is_alive(far_away.id)
    assert not late.is_alive(far_away.id)  # it never watched, but death was declared
    lost = Owner(tmp_path)
    declare_dead(tmp_path, lost.id)
    with pytest.raises(OwnerLostError, match="no heartbeat"):
        lost.check()


def test_who_slept_while_watching_starts_to_watch_anew(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(owners.time, "monotonic", lambda: now[0])
    far_away = owners.Heartbeat("local-n7-1-abc", "local", "n7", "another boot", 1, patience_seconds=30.0)
    owners.write_json(owner_path(tmp_path, far_away.id), vars(far_away))
    watch = Watch(tmp_path)
    assert watch.is_alive(far_away.id)
    now[0] = 10_000.0
    assert watch.is_alive(far_away.id)


def test_who_looks_seldom_finds_the_dead_as_well(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(owners.time, "monotonic", lambda: now[0])
    far_away = owners.Heartbeat("local-n7-1-abc", "local", "n7", "another boot", 1, patience_seconds=30.0)
    owners.write_json(owner_path(tmp_path, far_away.id), vars(far_away))
    watch = Watch(tmp_path)
    for now[0] in (0.0, 20.0, 40.0):
        assert watch.is_alive(far_away.id)
    now[0] = 60.0
    assert not watch.is_alive(far_away.id)


def test_a_clock_that_runs_backwards_does_no_harm(tmp_path, other):
    """Heartbeats are counted, not dated: files from the future, and then from the past, change nothing."""
    owner_id, _ = other(patience=0.9)
    watch = Watch(tmp_path)
    for moment in (2e9, 1e9, 1.5e9, 1.0):
        for path in (tmp_path / "owners").glob("*.json"):
            os.utime(path, (moment, moment))
        time.sleep(0.3)
        assert watch.is_alive(owner_id)


def test_a_stopped_process_of_another_machine_is_declared_dead_and_learns_of_it(tmp_path, other):
    owner_id, process = other(patience=0.5)
    content = json.loads(owner_path(tmp_path, owner_id).read_text())
    watch = Watch(tmp_path)
    process.send_signal(signal.SIGSTOP)
    owner_path(tmp_path, owner_id).write_text(json.dumps(content | {"lock": ""}))  # as from another machine
    wait_until(lambda: not watch.is_alive(owner_id))
    process.send_signal(signal.SIGCONT)
    wait_until(lambda: read_heartbeat(tmp_path, owner_id).beat > content["beat"])  # it runs again, and is dead
    assert not watch.is_alive(owner_id)


def test_an_owner_that_is_asked_to_stop_is_told_once(tmp_path):
    calls = []
    with Owner(tmp_path, patience_seconds=0.3, on_stop=lambda: calls.append(1)) as owner:
        ask_to_stop(tmp_path, owner.id)
        wait_until(lambda: calls)
        time.sleep(0.2)
    assert calls == [1]
    assert list((tmp_path / "owners").iterdir()) == []


def test_bad_folders_and_numbers_are_refused_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write into .*file"), Owner(tmp_path / "file"):
        pass
    with pytest.raises(ValueError, match="--patience is 0; give seconds above 0"):
        Owner(tmp_path, patience_seconds=0)
