"""kill -9 at random moments, then the same command again: every trial done once, and the same report."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vitlab.sweep import store
from vitlab.sweep.plan import load_plan

NUM_KILLS = 20


def start(config, folder):
    command = [sys.executable, "-m", "vitlab.cli", "sweep", str(config), "--out", str(folder)]
    return subprocess.Popen(
        [*command, "--workers", "2", "--threads", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def children(process):
    """Ids of a launcher's workers; a child belongs to the thread that started it."""
    try:
        threads = list(Path(f"/proc/{process.pid}/task").iterdir())
        return [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]
    except FileNotFoundError:  # it, or one of its threads, has just ended
        return []


def report(folder):
    subprocess.run([sys.executable, "-m", "vitlab.cli", "report", str(folder)], check=True, capture_output=True)
    summary = json.loads((folder / "report" / "summary.json").read_text())
    measured = {name: summary[name] for name in ("tasks", "points", "fits", "pairs", "headlines")}
    return measured, (folder / "report" / "curves.csv").read_bytes(), (folder / "report" / "curves.svg").read_bytes()


def validation(folder):
    """What training gave: a trial that was done twice would be written twice, with another time in seconds."""
    return {record["id"]: (record["val"], record["seconds"]) for record in store.read_records(folder)}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_twenty_kills_lose_nothing_and_do_nothing_twice(write_sweep, tmp_path):
    sizes = ("train_sizes: [11, 23]", "train_sizes: [11, 23, 47, 97]")
    config = write_sweep(("amount: 3", "amount: 60"), ("seeds: [0, 1]", "seeds: [0, 1, 2]"), sizes)
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    calm = start(config, undisturbed)
    _, errors = calm.communicate(timeout=600)
    assert calm.returncode == 0, errors

    generator, done, kills = random.Random(0), {}, {"launcher": 0, "worker": 0}
    process = start(config, disturbed)
    while sum(kills.values()) < NUM_KILLS:
        time.sleep(generator.uniform(0.5, 9))
        if process.poll() is not None:  # it finished early: the remaining kills hit a sweep with fewer records
            errors = process.communicate()[1]
            assert process.returncode == 0, errors
            for record in generator.sample(store.read_records(disturbed), k=12):
                store.record_path(disturbed, record["id"]).unlink()
                done.pop(record["id"], None)
            process = start(config, disturbed)
            continue
        victim = generator.choice(["launcher", "worker"])
        workers = children(process)
        if victim == "worker" and not workers:
            continue
        os.kill(process.pid if victim == "launcher" else generator.choice(workers), signal.SIGKILL)
        kills[victim] += 1
        if victim == "launcher":
            process.communicate()
            process = start(config, disturbed)
        now = validation(disturbed)
        assert done.items() <= now.items()
        done = now
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors

    assert min(kills.values()) > 0
    assert done.items() <= validation(disturbed).items()
    assert sorted(validation(disturbed)) == sorted(trial.id for trial in load_plan(disturbed).trials)
    assert not list(disturbed.rglob(f"{store.TEMPORARY_PREFIX}*"))
    assert report(disturbed) == report(undisturbed)
