"""A trial of two processes in a sweep: one is killed, the user presses Ctrl-C, and it is done all the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vitlab.data import Digits
from vitlab.sweep import store
from vitlab.sweep.claims import claimed_trials
from vitlab.sweep.kept_predictions import read_predictions

STEPS = 250


def start(config, folder):
    command = [sys.executable, "-m", "vitlab.cli", "sweep", str(config), "--out", str(folder), "--save-every", "0.005"]
    # A session of its own, as a terminal's foreground group: Ctrl-C goes to all processes in it.
    return subprocess.Popen(
        [*command, "--threads", "1"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def children(pid):
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except FileNotFoundError:
        return []


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, process, seconds=240):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_killed_rank_ends_the_other_and_ctrl_c_has_both_saved(write_sweep, tmp_path):
    config = write_sweep(
        ("trainer: {accelerator: cpu}", "trainer: {accelerator: cpu, devices: 2, strategy: ddp}"),
        ("train_sizes: [11, 23]", "train_sizes: [64]"),
        ("seeds: [0, 1]", "seeds: [0]"),
        ("learning_rates: [0.001, 0.01]", "learning_rates: [0.003]"),
        ("amount: 3", f"amount: {STEPS}"),
    )
    folder = tmp_path / "out"
    launcher = start(config, folder)

    def saved():
        return list((folder / "resume").glob("*.ckpt"))

    wait_until(saved, launcher)
    (first,) = children(launcher.pid)
    (second,) = children(first)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not is_running(second), launcher)
    again = wait_until(lambda: [pid for pid in children(launcher.pid) if pid != first and children(pid)], launcher)
    state = saved()[0].stat().st_mtime_ns if saved() else 0
    wait_until(lambda: saved() and saved()[0].stat().st_mtime_ns > state, launcher)
    os.killpg(launcher.pid, signal.SIGINT)
    _, errors = launcher.communicate(timeout=240)
    assert launcher.returncode == 130, errors
    assert "Traceback" not in errors
    assert not any(is_running(pid) for pid in again)
    assert claimed_trials(folder) == {}
    assert all(record["status"] == "done" for record in store.read_records(folder))
    end = start(config, folder)
    _, errors = end.communicate(timeout=180)
    assert end.returncode == 0, errors
    records = store.read_records(folder)
    assert [(record["status"], record["steps"]) for record in records] == [("done", STEPS)] * 2
    assert all(record["test"] is not None for record in records)
    for record in records:  # what two processes predicted, in the order of the images
        kept = read_predictions(folder, record["id"])
        assert kept.fits(record)
        assert kept.labels.tolist() == Digits().test().labels.tolist()
